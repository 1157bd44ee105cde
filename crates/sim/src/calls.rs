//! What clients call, as official clients put it on the wire, and what they hear.

use proto::admin::batch_item::Change;
use proto::admin::batches_server::Batches;
use proto::admin::{BatchCompleteFile, BatchCreateDirectory, BatchCreateFile, BatchItem, BatchRemove, BatchRequest};
use proto::grpc::file::file_system_master_client_service_server::FileSystemMasterClientService;
use proto::grpc::file::{
    CompleteFilePOptions, CompleteFilePRequest, CreateDirectoryPOptions, CreateDirectoryPRequest, CreateFilePOptions,
    CreateFilePRequest, DeletePOptions, DeletePRequest, FileInfo, FileSystemMasterCommonPOptions, GetStatusPOptions,
    GetStatusPRequest, ListStatusPOptions, ListStatusPRequest, LoadMetadataPType, RenamePOptions, RenamePRequest,
    SetAttributePOptions, SetAttributePRequest, WritePType,
};
use std::fmt;
use std::sync::Arc;
use tonic::codegen::tokio_stream::StreamExt;
use tonic::{Code, Request, Status};
use types::{OperationId, Principal, Proof};

/// Who asks for everything, and so owns what is made.
const MAKER: &str = "root";
/// What the names of all other owners begin with.
const OWNER: &str = "owner-";
/// A name that is never there.
const NOBODY: &str = "nobody";
/// How a master says that what a call made is gone again.
pub const VANISHED: &str = "removed meanwhile";

pub type Service = Arc<dyn FileSystemMasterClientService>;
/// For many changes at once.
pub type BatchService = Arc<dyn Batches>;

/// One call. Paths are relative to the room, without a leading slash; empty is the room itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Call {
    Create {
        path: String,
    },
    Complete {
        path: String,
        file: i64,
        length: i64,
    },
    MakeDirectory {
        path: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
    /// Gives it, and with `recursive` all that is below it, to an owner of this number.
    SetOwner {
        path: String,
        owner: u64,
        recursive: bool,
    },
    Status {
        path: String,
    },
    List {
        path: String,
    },
}

impl Call {
    /// What it is about; of a rename, what moves.
    fn path(&self) -> &str {
        match self {
            Call::Create { path }
            | Call::Complete { path, .. }
            | Call::MakeDirectory { path }
            | Call::Rename { from: path, .. }
            | Call::Remove { path }
            | Call::SetOwner { path, .. }
            | Call::Status { path }
            | Call::List { path } => path,
        }
    }

    /// Whether it carries an operation id and may be refused after it had an effect, were the id forgotten.
    pub fn is_mutation(&self) -> bool {
        match self {
            Call::Create { .. }
            | Call::Complete { .. }
            | Call::MakeDirectory { .. }
            | Call::Rename { .. }
            | Call::Remove { .. }
            | Call::SetOwner { .. } => true,
            Call::Status { .. } | Call::List { .. } => false,
        }
    }
}

/// An entry as an answer shows it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Shown {
    pub name: String,
    pub id: i64,
    pub directory: bool,
    /// The number of [`Call::SetOwner`]; 0 is who makes everything.
    pub owner: u64,
    /// None while the file is incomplete.
    pub length: Option<i64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Done,
    /// A file was made and has this id.
    Made(i64),
    /// A file was made, and was removed before its status could be told.
    Vanished,
    Entry(Shown),
    Entries(Vec<Shown>),
    Refused(Refusal),
}

/// A refusal that is an outcome.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refusal {
    NotFound,
    AlreadyExists,
    Precondition,
    Invalid,
}

/// What a client makes of an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    Outcome(Answer),
    /// Try again, at another master.
    Again(String),
    /// Nothing a healthy cluster says.
    Wrong(String),
}

impl Heard {
    pub fn of(result: Result<Answer, Status>) -> Heard {
        let status = match result {
            Ok(answer) => return Heard::Outcome(answer),
            Err(status) => status,
        };
        match status.code() {
            Code::NotFound if status.message().contains(VANISHED) => Heard::Outcome(Answer::Vanished),
            Code::NotFound => Heard::Outcome(Answer::Refused(Refusal::NotFound)),
            Code::AlreadyExists => Heard::Outcome(Answer::Refused(Refusal::AlreadyExists)),
            Code::FailedPrecondition => Heard::Outcome(Answer::Refused(Refusal::Precondition)),
            Code::InvalidArgument => Heard::Outcome(Answer::Refused(Refusal::Invalid)),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted | Code::ResourceExhausted => {
                Heard::Again(status.message().to_owned())
            }
            Code::Ok
            | Code::Unknown
            | Code::PermissionDenied
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss
            | Code::Unauthenticated => Heard::Wrong(format!("{:?}: {}", status.code(), status.message())),
        }
    }
}

/// The directory a room's calls work below.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Room {
    pub name: String,
    /// It begins with objects that only the store knows: reads look there for what is unknown (ONCE). In the others they
    /// take the namespace as it is (NEVER), which a master that holds a lease answers by itself.
    pub is_stored: bool,
}

impl Room {
    pub fn path(&self, below: &str) -> String {
        if below.is_empty() { format!("/{}", self.name) } else { format!("/{}/{below}", self.name) }
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.name)
    }
}

/// Carries out one try of a call at one master. One in three goes as the second item of a batch, whatever earlier tries did.
pub async fn perform(
    (fs, batches): (Service, BatchService),
    room: Room,
    call: Call,
    operation: OperationId,
    attempt: u64,
) -> Result<Answer, Status> {
    if (operation.0 % 3 + u128::from(attempt)).is_multiple_of(3)
        && let Some(change) = change(&call)
    {
        let item = BatchItem { path: room.path(call.path()), change: Some(change) };
        match in_a_batch(batches, &room, item, operation).await {
            // Not every master of the group knows them yet.
            Err(status) if status.code() == Code::Unimplemented => {}
            other => return other,
        }
    }
    let common = || {
        Some(FileSystemMasterCommonPOptions {
            operation_id: Some(proto::convert::operation_id::to_wire(operation)),
            ..Default::default()
        })
    };
    let fresh = if room.is_stored { LoadMetadataPType::Once } else { LoadMetadataPType::Never };
    let fresh = Some(i32::from(fresh));
    match call {
        Call::Create { path } => {
            let options = CreateFilePOptions {
                recursive: Some(false),
                write_type: Some(i32::from(WritePType::MustCache)),
                common_options: common(),
                ..Default::default()
            };
            let request = CreateFilePRequest { path: Some(room.path(&path)), options: Some(options) };
            let answer = fs.create_file(asked(request)).await?.into_inner();
            Ok(Answer::Made(answer.file_info.and_then(|info| info.file_id).unwrap_or_default()))
        }
        Call::Complete { path, file, length } => {
            let options =
                CompleteFilePOptions { ufs_length: Some(length), common_options: common(), ..Default::default() };
            let request =
                CompleteFilePRequest { path: Some(room.path(&path)), options: Some(options), inode_id: Some(file) };
            fs.complete_file(asked(request)).await?;
            Ok(Answer::Done)
        }
        Call::MakeDirectory { path } => {
            let options = CreateDirectoryPOptions {
                recursive: Some(false),
                allow_exists: Some(false),
                common_options: common(),
                ..Default::default()
            };
            let request = CreateDirectoryPRequest { path: Some(room.path(&path)), options: Some(options) };
            fs.create_directory(asked(request)).await?;
            Ok(Answer::Done)
        }
        Call::Rename { from, to } => {
            let options = RenamePOptions { common_options: common(), ..Default::default() };
            let request =
                RenamePRequest { path: Some(room.path(&from)), dst_path: Some(room.path(&to)), options: Some(options) };
            fs.rename(asked(request)).await?;
            Ok(Answer::Done)
        }
        Call::Remove { path } => {
            let options = DeletePOptions {
                recursive: Some(true),
                unchecked: Some(true),
                common_options: common(),
                ..Default::default()
            };
            let request = DeletePRequest { path: Some(room.path(&path)), options: Some(options) };
            fs.remove(asked(request)).await?;
            Ok(Answer::Done)
        }
        Call::SetOwner { path, owner, recursive } => {
            let options = SetAttributePOptions {
                owner: Some(owner_name(owner)),
                recursive: Some(recursive),
                common_options: common(),
                ..Default::default()
            };
            fs.set_attribute(asked(SetAttributePRequest { path: Some(room.path(&path)), options: Some(options) }))
                .await?;
            Ok(Answer::Done)
        }
        Call::Status { path } => {
            let options = GetStatusPOptions { load_metadata_type: fresh, ..Default::default() };
            let request =
                GetStatusPRequest { path: Some(room.path(&path)), options: Some(options), ..Default::default() };
            let answer = fs.get_status(asked(request)).await?.into_inner();
            Ok(Answer::Entry(shown(answer.file_info.as_ref())))
        }
        Call::List { path } => {
            let options = ListStatusPOptions { load_metadata_type: fresh, ..Default::default() };
            let request =
                ListStatusPRequest { path: Some(room.path(&path)), options: Some(options), ..Default::default() };
            let mut messages = fs.list_status(asked(request)).await?.into_inner();
            let mut entries = Vec::new();
            while let Some(message) = messages.next().await {
                entries.extend(message?.file_infos.iter().map(|info| shown(Some(info))));
            }
            entries.sort();
            Ok(Answer::Entries(entries))
        }
    }
}

/// What an item of a batch says instead of a call of its own.
fn change(call: &Call) -> Option<Change> {
    Some(match call {
        Call::Create { .. } => Change::CreateFile(BatchCreateFile {
            block_bytes: 64 << 20,
            recursive: false,
            mode: 0o644,
            write_type: WritePType::MustCache.into(),
        }),
        Call::Complete { file, length, .. } => Change::CompleteFile(BatchCompleteFile {
            file: *file,
            length: length.cast_unsigned(),
            ..BatchCompleteFile::default()
        }),
        Call::MakeDirectory { .. } => {
            Change::CreateDirectory(BatchCreateDirectory { recursive: false, allow_exists: false, mode: 0o755 })
        }
        Call::Remove { .. } => Change::Remove(BatchRemove { recursive: true, unchecked: true, goosefs_only: false }),
        Call::Rename { .. } | Call::SetOwner { .. } | Call::Status { .. } | Call::List { .. } => return None,
    })
}

/// Sends it behind an item that is refused, under the operation it has when it is sent alone.
async fn in_a_batch(
    batches: BatchService,
    room: &Room,
    item: BatchItem,
    operation: OperationId,
) -> Result<Answer, Status> {
    let base = OperationId(operation.0.wrapping_sub(1));
    let none = Change::Remove(BatchRemove { recursive: false, unchecked: true, goosefs_only: true });
    let none = BatchItem { path: room.path(NOBODY), change: Some(none) };
    let request =
        BatchRequest { operation: Some(proto::convert::operation_id::to_admin(base)), items: vec![none, item] };
    let mut outcomes = batches.apply(asked(request)).await?.into_inner().outcomes;
    assert_eq!(outcomes.len(), 2, "an outcome for each item");
    assert_eq!(Code::from_i32(outcomes[0].code), Code::NotFound, "{}", outcomes[0].message);
    let outcome = outcomes.pop().expect("two");
    match (Code::from_i32(outcome.code), outcome.file) {
        (Code::Ok, Some(file)) => Ok(Answer::Made(file.file_id.unwrap_or_default())),
        (Code::Ok, None) => Ok(Answer::Done),
        (code, _) => Err(Status::new(code, outcome.message)),
    }
}

pub fn asked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(maker());
    request
}

/// Who asks.
pub fn maker() -> Arc<Principal> {
    Arc::new(Principal { user: MAKER.into(), groups: Vec::new(), proof: Proof::Claimed })
}

/// The name of the owner of this number.
pub fn owner_name(owner: u64) -> String {
    format!("{OWNER}{owner}")
}

pub fn owner_of(name: &str) -> u64 {
    let number = || name.strip_prefix(OWNER)?.parse().ok();
    if name == MAKER { 0 } else { number().unwrap_or(u64::MAX) }
}

fn shown(info: Option<&FileInfo>) -> Shown {
    let info = info.cloned().unwrap_or_default();
    let directory = info.folder.unwrap_or_default();
    let complete = info.completed.unwrap_or_default() && !directory;
    Shown {
        name: info.name.unwrap_or_default(),
        id: info.file_id.unwrap_or_default(),
        directory,
        owner: info.owner.as_deref().map_or(u64::MAX, owner_of),
        length: info.length.filter(|_| complete),
    }
}
