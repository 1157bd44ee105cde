//! Many changes by few requests: pages of up to a thousand, each one entry of the master's log.
//!
//! Is:     streams of paths in, a stream of what became of each out, in the same order.
//! Owns:   the pages, the operation ids of their items, and the way back to one request for each change where the master, or
//!         one of its group, does not know batches.
//! Never:  lets one path decide about another; has more than one page under way, so that what comes later finds what came
//!         before.

use super::make_directory::MakeDirectory;
use super::remove::Remove;
use crate::{Error, FileStatus, FileSystem, Result, WriteOptions, Writer};
use futures::stream::{self, Stream, StreamExt};
use proto::admin::batch_item::Change;
use proto::admin::{
    BatchCompleteFile, BatchCreateDirectory, BatchCreateFile, BatchItem, BatchOutcome, BatchRemove, BatchRequest,
};
use proto::convert;
use proto::grpc::file::CompleteFilePRequest;
use std::collections::HashMap;
use std::pin::Pin;
use tonic::{Code, Status};
use types::{ErrorKind, GfsPath, OperationId, WriteType};

/// Paths of one page, and their bytes; the master takes as many and twice that.
const PAGE_PATHS: usize = 1_000;
const PAGE_BYTES: usize = 256 << 10;
/// Files of one page opened, or closed, at workers at once.
const AT_ONCE: usize = 16;

/// What became of one path.
pub type ForPath<T> = (GfsPath, Result<T>);

type Page<T> = Pin<Box<dyn Future<Output = Paged<T>> + Send>>;
/// One change by a request of its own.
type Alone<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// What became of a page.
struct Paged<T> {
    each: Vec<ForPath<T>>,
    /// The master is not to be had: the pages behind it are not tried.
    is_over: bool,
}

impl FileSystem {
    /// Removes many paths. Each is told of by itself, with the errors of [`FileSystem::remove`]; paths come in the order
    /// given. The stream ends early, after a page that failed, when no master answers. Nothing happens unless it is polled;
    /// dropped, it leaves at most a page behind whose outcome is not known.
    ///
    /// Cost: one request, and one entry of the log, for a thousand paths; a request each while a master of the group is of a
    /// release without batches.
    pub fn remove_many<S>(&self, paths: S, how: Remove) -> impl Stream<Item = ForPath<()>> + Send + use<S>
    where
        S: Stream<Item = GfsPath> + Send + 'static,
    {
        let change = BatchRemove { recursive: how.recursive, goosefs_only: how.goosefs_only, unchecked: how.unchecked };
        self.pages(paths, move |fs, paths| {
            Box::pin(async move {
                let items = paths.iter().map(|path| item(path, Change::Remove(change))).collect();
                let alone = move |fs: FileSystem, path: GfsPath, operation| -> Alone<()> {
                    Box::pin(async move { fs.remove_as(&path, how, operation).await })
                };
                fs.page("remove", paths, items, |_, _| Ok(()), alone).await
            })
        })
    }

    /// Makes many directories, parents before what lies in them. As [`FileSystem::remove_many`], with the errors of
    /// [`FileSystem::make_directory`].
    pub fn make_directories<S>(&self, paths: S, how: MakeDirectory) -> impl Stream<Item = ForPath<()>> + Send + use<S>
    where
        S: Stream<Item = GfsPath> + Send + 'static,
    {
        let mode = u32::from(how.mode.bits());
        let change = BatchCreateDirectory { recursive: how.recursive, allow_exists: how.allow_exists, mode };
        self.pages(paths, move |fs, paths| {
            Box::pin(async move {
                let items = paths.iter().map(|path| item(path, Change::CreateDirectory(change))).collect();
                let alone = move |fs: FileSystem, path: GfsPath, operation| -> Alone<()> {
                    Box::pin(async move { fs.make_directory_as(&path, how, operation).await })
                };
                fs.page("make directory", paths, items, |_, _| Ok(()), alone).await
            })
        })
    }

    /// Makes many files and opens them for writing. As [`FileSystem::remove_many`], with the errors of
    /// [`FileSystem::create`]. Writers that are not closed soon hold names, and streams to stores: take no more of the stream
    /// than is written at once.
    pub fn create_many<S>(&self, paths: S, options: WriteOptions) -> impl Stream<Item = ForPath<Writer>> + Send + use<S>
    where
        S: Stream<Item = GfsPath> + Send + 'static,
    {
        self.pages(paths, move |fs, paths| Box::pin(async move { fs.create_page(paths, options).await }))
    }

    /// Makes many empty files, complete as [`Writer::close`] leaves them. As [`FileSystem::remove_many`], with the errors of
    /// both. Cost: two requests and two entries for a thousand files that are only cached; what a store must hold is
    /// written there one by one.
    pub fn create_empty<S>(&self, paths: S, options: WriteOptions) -> impl Stream<Item = ForPath<()>> + Send + use<S>
    where
        S: Stream<Item = GfsPath> + Send + 'static,
    {
        self.pages(paths, move |fs, paths| {
            Box::pin(async move {
                let made = fs.create_page(paths, options).await;
                Paged { each: fs.close_empty(made.each).await, is_over: made.is_over }
            })
        })
    }

    /// Cuts `paths` into pages and has `page` done with each, one after the other.
    fn pages<S, T, P>(&self, paths: S, page: P) -> impl Stream<Item = ForPath<T>> + Send + use<S, T, P>
    where
        S: Stream<Item = GfsPath> + Send + 'static,
        T: Send + 'static,
        P: Fn(FileSystem, Vec<GfsPath>) -> Page<T> + Send + 'static,
    {
        let begin = Some((self.clone(), Box::pin(paths.peekable()), page));
        let pages = stream::unfold(begin, async |state| {
            let (fs, mut paths, page) = state?;
            let (mut now, mut bytes) = (Vec::new(), 0);
            while let Some(next) = paths.as_mut().peek().await {
                bytes += next.as_str().len();
                if now.len() == PAGE_PATHS || (bytes > PAGE_BYTES && !now.is_empty()) {
                    break;
                }
                now.extend(paths.next().await);
            }
            if now.is_empty() {
                return None;
            }
            let Paged { each, is_over } = page(fs.clone(), now).await;
            Some((stream::iter(each), (!is_over).then_some((fs, paths, page))))
        });
        pages.flatten()
    }

    /// Sends a page, and makes a result of each outcome; or does it one by one where the master does not know batches, or one is
    /// all there is. What is to be asked again is, by itself and under its own operation, until that is in vain once.
    async fn page<T>(
        &self,
        verb: &'static str,
        paths: Vec<GfsPath>,
        items: Vec<BatchItem>,
        result: impl Fn(&GfsPath, BatchOutcome) -> Result<T>,
        alone: impl Fn(FileSystem, GfsPath, OperationId) -> Alone<T>,
    ) -> Paged<T> {
        let operation = self.operation_id();
        if paths.len() == 1 {
            return self.one_by_one(paths, operation, alone).await;
        }
        let outcomes = match self.send(verb, operation, items).await {
            Ok(outcomes) if outcomes.len() == paths.len() => outcomes,
            Ok(outcomes) => {
                let what = format!("it tells of {} items where {} were sent", outcomes.len(), paths.len());
                let wrong = |path: &GfsPath| Error::Message { verb, subject: path.to_string(), what: what.clone() };
                let each = paths.into_iter().map(|path| (path.clone(), Err(wrong(&path)))).collect();
                return Paged { each, is_over: true };
            }
            Err(error) if error.kind() == ErrorKind::Unimplemented => {
                return self.one_by_one(paths, operation, alone).await;
            }
            Err(error) => {
                let (kind, why) = (error.kind(), types::sentence(&error));
                let failed = |path: &GfsPath| Error::Refused {
                    verb,
                    subject: path.to_string(),
                    kind,
                    message: format!("of the many it was sent with nothing is known: {why}"),
                };
                let each = paths.into_iter().map(|path| (path.clone(), Err(failed(&path)))).collect();
                return Paged { each, is_over: true };
            }
        };
        let (mut each, mut asks_again) = (Vec::with_capacity(paths.len()), true);
        for ((path, outcome), number) in paths.into_iter().zip(outcomes).zip(0..) {
            let done = match Code::from_i32(outcome.code) {
                Code::Ok => result(&path, outcome),
                // As a call of its own would be: a name that an operation on the store covers is free in a while.
                Code::Unavailable if asks_again => alone(self.clone(), path.clone(), operation.of_item(number)).await,
                code => Err(Error::refused(verb, path.as_str(), &Status::new(code, outcome.message))),
            };
            asks_again &= !done.as_ref().is_err_and(|error| error.kind().is_transient());
            each.push((path, done));
        }
        Paged { each, is_over: false }
    }

    async fn one_by_one<T>(
        &self,
        paths: Vec<GfsPath>,
        operation: OperationId,
        alone: impl Fn(FileSystem, GfsPath, OperationId) -> Alone<T>,
    ) -> Paged<T> {
        let mut each = Vec::with_capacity(paths.len());
        for (path, number) in paths.into_iter().zip(0..) {
            let done = alone(self.clone(), path.clone(), operation.of_item(number)).await;
            each.push((path, done));
        }
        Paged { each, is_over: false }
    }

    async fn send(
        &self,
        verb: &'static str,
        operation: OperationId,
        items: Vec<BatchItem>,
    ) -> Result<Vec<BatchOutcome>> {
        let subject = match &items[..] {
            [only] => only.path.clone(),
            [first, rest @ ..] => format!("{} and {} more", first.path, rest.len()),
            [] => return Ok(Vec::new()),
        };
        let request = BatchRequest { operation: Some(convert::operation_id::to_admin(operation)), items };
        Ok(self.shared.master.ask(verb, &subject, request).await?.outcomes)
    }

    async fn create_page(&self, paths: Vec<GfsPath>, options: WriteOptions) -> Paged<Writer> {
        // Files of a page mostly stand in few directories.
        let mut of_directory: HashMap<Option<GfsPath>, WriteType> = HashMap::new();
        let (mut asked, mut items, mut each) = (Vec::new(), Vec::new(), Vec::new());
        for path in paths {
            let directory = path.parent();
            let write_type = match of_directory.get(&directory) {
                Some(known) => *known,
                None => match self.effective_write_type(&path, &options).await {
                    Ok(write_type) => *of_directory.entry(directory).or_insert(write_type),
                    Err(error) => {
                        each.push((path, Err(error)));
                        continue;
                    }
                },
            };
            let create = BatchCreateFile {
                block_bytes: options.block_bytes.unwrap_or(self.config().block_bytes),
                recursive: options.recursive,
                mode: u32::from(options.mode.bits()),
                write_type: convert::write_type::to_wire(Some(write_type)),
            };
            items.push(item(&path, Change::CreateFile(create)));
            asked.push((path, write_type));
        }
        if asked.is_empty() {
            return Paged { each, is_over: false };
        }
        let (paths, write_types): (Vec<GfsPath>, Vec<WriteType>) = asked.into_iter().unzip();
        let made = |path: &GfsPath, outcome: BatchOutcome| {
            let info = outcome.file.ok_or_else(|| Error::Message {
                verb: "create",
                subject: path.to_string(),
                what: "it lacks the status".into(),
            })?;
            Ok(Made::Here(Box::new(FileStatus::from_wire(info)?)))
        };
        let alone = move |fs: FileSystem, path: GfsPath, operation| -> Alone<Made> {
            Box::pin(async move { Ok(Made::Alone(Box::new(fs.create_as(&path, options, operation).await?))) })
        };
        let Paged { each: outcomes, is_over } = self.page("create", paths, items, made, alone).await;
        let fs = self.clone();
        let opened = stream::iter(outcomes.into_iter().zip(write_types)).map(move |((path, made), write_type)| {
            let fs = fs.clone();
            async move {
                let opened = match made {
                    Ok(Made::Here(status)) => fs.opened(*status, write_type).await,
                    Ok(Made::Alone(writer)) => Ok(*writer),
                    Err(error) => Err(error),
                };
                (path, opened)
            }
        });
        each.extend(opened.buffered(AT_ONCE).collect::<Vec<_>>().await);
        Paged { each, is_over }
    }

    /// Completes files nothing was written to: those that are only cached together, the others one by one.
    async fn close_empty(&self, made: Vec<ForPath<Writer>>) -> Vec<ForPath<()>> {
        let mut ends: Vec<ForPath<()>> = Vec::with_capacity(made.len());
        let (mut cached, mut items, mut stored) = (Vec::new(), Vec::new(), Vec::new());
        for (path, made) in made {
            let place = ends.len();
            match made {
                Ok(writer) if writer.write_type().is_through() => stored.push((place, writer)),
                Ok(writer) => {
                    let complete = BatchCompleteFile {
                        file: writer.file().to_wire(),
                        length: 0,
                        persist_wait_ms: writer.persist_wait_ms(),
                        crc_type: Some(writer.checksum().0),
                        crc_value: writer.checksum().1,
                    };
                    items.push(item(&path, Change::CompleteFile(complete)));
                    cached.push((place, writer));
                }
                Err(error) => {
                    ends.push((path, Err(error)));
                    continue;
                }
            }
            ends.push((path, Ok(())));
        }
        let closed = stream::iter(stored).map(|(place, writer)| async move { (place, writer.close().await) });
        for (place, closed) in closed.buffered(AT_ONCE).collect::<Vec<_>>().await {
            ends[place].1 = closed;
        }
        let paths = cached.iter().map(|(place, _)| ends[*place].0.clone()).collect();
        let completions =
            cached.iter().map(|(_, writer)| (writer.path().clone(), writer.completion(self.operation_id())));
        let completions: HashMap<GfsPath, CompleteFilePRequest> = completions.collect();
        let alone = move |fs: FileSystem, path: GfsPath, operation| -> Alone<()> {
            let mut completion = completions[&path].clone();
            if let Some(options) = &mut completion.options {
                options.common_options = super::mutation_as(operation);
            }
            Box::pin(async move { fs.complete(&path, completion).await })
        };
        let completed = self.page("complete", paths, items, |_, _| Ok(()), alone).await.each;
        for ((place, mut writer), (_, completed)) in cached.into_iter().zip(completed) {
            if let Err(error) = completed {
                writer.take_back_after(&error).await;
                ends[place].1 = Err(error);
            }
        }
        ends
    }
}

/// A file of a page.
enum Made {
    Here(Box<FileStatus>),
    /// By a request of its own, opened already.
    Alone(Box<Writer>),
}

fn item(path: &GfsPath, change: Change) -> BatchItem {
    BatchItem { path: path.to_string(), change: Some(change) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Auth, ClientConfig};
    use parking_lot::Mutex;
    use proto::admin::BatchResponse;
    use proto::admin::batches_server::{Batches, BatchesServer};
    use proto::grpc::file::file_system_master_client_service_server::{
        FileSystemMasterClientService, FileSystemMasterClientServiceServer,
    };
    use proto::grpc::file::{
        CreateDirectoryPRequest, CreateDirectoryPResponse, DeletePRequest, DeletePResponse, FsOpPId,
    };
    use rpc::{Routes, Server, ServerConfig};
    use std::sync::Arc;
    use tonic::{Request, Response};
    use types::Mode;

    /// A master that notes what it is asked: pages by their length, single calls by path and operation.
    #[derive(Default)]
    struct Noted {
        pages: Mutex<Vec<usize>>,
        operations: Mutex<Vec<OperationId>>,
        alone: Mutex<Vec<(String, OperationId)>>,
    }

    struct Master {
        noted: Arc<Noted>,
        /// It takes the change and says that it does not know batches, as a group may between two releases.
        forgets: bool,
    }

    fn id(operation: Option<FsOpPId>) -> OperationId {
        convert::operation_id::from_wire(&operation.expect("each has one")).expect("both halves")
    }

    #[tonic::async_trait]
    impl FileSystemMasterClientService for Master {
        async fn remove(
            &self,
            request: Request<DeletePRequest>,
        ) -> std::result::Result<Response<DeletePResponse>, Status> {
            let request = request.into_inner();
            let path = request.path.unwrap_or_default();
            if path.ends_with("/refused") {
                return Err(Status::not_found("no such file"));
            }
            let operation = id(request.options.and_then(|options| options.common_options).and_then(|o| o.operation_id));
            self.noted.alone.lock().push((path, operation));
            Ok(Response::new(DeletePResponse {}))
        }

        async fn create_directory(
            &self,
            request: Request<CreateDirectoryPRequest>,
        ) -> std::result::Result<Response<CreateDirectoryPResponse>, Status> {
            let request = request.into_inner();
            let operation = id(request.options.and_then(|options| options.common_options).and_then(|o| o.operation_id));
            self.noted.alone.lock().push((request.path.unwrap_or_default(), operation));
            Ok(Response::new(CreateDirectoryPResponse {}))
        }
    }

    #[tonic::async_trait]
    impl Batches for Master {
        async fn apply(&self, request: Request<BatchRequest>) -> std::result::Result<Response<BatchResponse>, Status> {
            let request = request.into_inner();
            self.noted.pages.lock().push(request.items.len());
            self.noted.operations.lock().extend(request.operation.map(convert::operation_id::from_admin));
            if self.forgets {
                return Err(Status::unimplemented("a member does not know batches"));
            }
            let refused = |code: Code, why: &str| BatchOutcome { code: code.into(), message: why.into(), file: None };
            let outcomes = request.items.iter().map(|item| match item.path.rsplit('/').next() {
                Some("refused") => refused(Code::NotFound, "no such file"),
                Some("busy") => refused(Code::Unavailable, "covered"),
                _ => BatchOutcome::default(),
            });
            Ok(Response::new(BatchResponse { outcomes: outcomes.collect() }))
        }
    }

    /// - `batches`: None, the master does not serve them at all.
    async fn connect(batches: Option<bool>) -> (FileSystem, Arc<Noted>, rpc::Running) {
        let noted: Arc<Noted> = Arc::default();
        let master = |forgets| Master { noted: noted.clone(), forgets };
        let mut routes = Routes::new().service(FileSystemMasterClientServiceServer::new(master(false)));
        if let Some(forgets) = batches {
            routes = routes.service(BatchesServer::new(master(forgets)));
        }
        let server =
            Server::bind("127.0.0.1:0", ServerConfig { threads: 1, ..ServerConfig::default() }).expect("a port");
        let running = server.serve(move |_| routes.clone()).expect("a thread");
        let masters = vec![("127.0.0.1".to_owned(), running.local_addr().port())];
        let config = ClientConfig { masters, auth: Auth::Nosasl, ..ClientConfig::default() };
        (FileSystem::connect(config).await.expect("it answers"), noted, running)
    }

    fn paths(count: usize) -> Vec<GfsPath> {
        (0..count).map(|n| GfsPath::parse(&format!("/d/{n}")).expect("a path")).collect()
    }

    async fn remove(fs: &FileSystem, paths: Vec<GfsPath>) -> Vec<ForPath<()>> {
        fs.remove_many(stream::iter(paths), Remove::default()).collect().await
    }

    #[tokio::test]
    async fn many_paths_go_in_pages_and_each_has_its_own_answer() {
        let (fs, noted, _running) = connect(Some(false)).await;
        let mut all = paths(2_500);
        all[1_700] = GfsPath::parse("/d/refused").expect("a path");
        let told = remove(&fs, all.clone()).await;
        assert_eq!(*noted.pages.lock(), [1_000, 1_000, 500]);
        assert_eq!(told.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>(), all, "in the order given");
        let failed: Vec<String> = told.iter().filter_map(|(_, done)| Some(done.as_ref().err()?.to_string())).collect();
        assert_eq!(failed, ["cannot remove /d/refused: no such file"]);
        assert!(noted.alone.lock().is_empty());
        assert!(remove(&fs, Vec::new()).await.is_empty());
        assert_eq!(noted.pages.lock().len(), 3, "for nothing nobody is asked");
    }

    #[tokio::test]
    async fn what_waits_for_a_store_is_asked_again_by_itself_under_its_own_operation() {
        let (fs, noted, _running) = connect(Some(false)).await;
        let mut all = paths(5);
        all[3] = GfsPath::parse("/d/busy").expect("a path");
        let told = remove(&fs, all).await;
        assert!(told.iter().all(|(_, done)| done.is_ok()), "{told:?}");
        let operation = noted.operations.lock()[0].of_item(3);
        assert_eq!(*noted.alone.lock(), [("/d/busy".to_owned(), operation)]);
    }

    #[tokio::test]
    async fn long_paths_make_short_pages() {
        let (fs, noted, _running) = connect(Some(false)).await;
        let above = format!("{}/", "y".repeat(200)).repeat(15);
        let long = (0..200).map(|n| GfsPath::parse(&format!("/{above}{n}")).expect("a path"));
        let long: Vec<GfsPath> = long.collect();
        assert_eq!(remove(&fs, long.clone()).await.len(), long.len());
        let pages = noted.pages.lock().clone();
        assert!(pages.len() > 1 && pages.iter().all(|count| count * above.len() <= PAGE_BYTES), "{pages:?}");
    }

    #[tokio::test]
    async fn a_master_without_batches_is_asked_one_by_one_under_the_same_operations() {
        for batches in [None, Some(true)] {
            let (fs, noted, _running) = connect(batches).await;
            let mut all = paths(5);
            all[3] = GfsPath::parse("/d/refused").expect("a path");
            let told = remove(&fs, all).await;
            assert_eq!(told.iter().filter(|(_, done)| done.is_err()).count(), 1);
            let alone = noted.alone.lock().clone();
            let names: Vec<&str> = alone.iter().map(|(path, _)| path.as_str()).collect();
            assert_eq!(names, ["/d/0", "/d/1", "/d/2", "/d/4"]);
            if let Some(first) = noted.operations.lock().first() {
                let expected = [0, 1, 2, 4].map(|number| first.of_item(number));
                assert_eq!(alone.iter().map(|(_, operation)| *operation).collect::<Vec<_>>(), expected);
            }
            let how = MakeDirectory { recursive: true, allow_exists: true, mode: Mode::new(0o755) };
            let made: Vec<ForPath<()>> = fs.make_directories(stream::iter(paths(3)), how).collect().await;
            assert!(made.iter().all(|(_, done)| done.is_ok()));
            assert_eq!(noted.alone.lock().len(), 7);
        }
    }
}
