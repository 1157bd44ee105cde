//! What the leader adds to a request: the two times and the new ids.

use super::Now;
use meta::{BatchOp, CreateDirectory, CreateFile, Ids, Namespace, Op};
use types::{AgeMs, ContainerId, InodeId, Monotonic, UnixMs};

/// Continues times and ids from the last applied values. Ids given to entries that are lost or rejected stay unused.
pub struct Stamper {
    wall: UnixMs,
    age: AgeMs,
    since: Monotonic,
    next_inode: u64,
    next_container: u64,
}

impl Stamper {
    pub fn new(namespace: &Namespace) -> Stamper {
        let mut stamper =
            Stamper { wall: UnixMs(0), age: AgeMs(0), since: Monotonic::default(), next_inode: 0, next_container: 0 };
        stamper.lead(namespace, Now { unix: UnixMs(0), mono: Monotonic::default() });
        stamper
    }

    /// Begins a leadership: everything of earlier terms is applied.
    pub fn lead(&mut self, namespace: &Namespace, now: Now) {
        let counters = namespace.counters();
        self.wall = counters.wall;
        self.age = counters.age;
        self.since = now.mono;
        self.next_inode = counters.next_inode.0;
        self.next_container = counters.next_container.0;
    }

    /// An entry raised the counters, not by the ids it came with: what was left out is not given out.
    pub fn leave_out(&mut self, namespace: &Namespace) {
        let counters = namespace.counters();
        self.next_inode = self.next_inode.max(counters.next_inode.0);
        self.next_container = self.next_container.max(counters.next_container.0);
    }

    /// Never runs backwards.
    pub fn wall(&mut self, now: Now) -> UnixMs {
        self.wall = self.wall.max(now.unix);
        self.wall
    }

    pub fn age(&self, now: Now) -> AgeMs {
        self.age + (now.mono - self.since)
    }

    pub fn ids(&mut self, op: &Op) -> Ids {
        let count = count(op);
        let ids = Ids { inode: InodeId(self.next_inode), container: ContainerId(self.next_container), count };
        self.next_inode += u64::from(count);
        self.next_container += u64::from(count);
        ids
    }
}

/// How many inodes an entry may make.
fn count(op: &Op) -> u32 {
    let many = match op {
        Op::Format(_) | Op::Sync(_) | Op::CreateMount(_) | Op::Repair(_) => 1,
        Op::CreateFile(op) => op.path.depth(),
        Op::CreateDirectory(op) => op.path.depth(),
        Op::LoadPage(op) => op.items.len(),
        Op::LoadPath(op) => op.chain.len(),
        Op::Batch(op) => op.items.iter().map(|item| item_count(&item.op)).sum(),
        Op::CompleteFile(_)
        | Op::Rename(_)
        | Op::Remove(_)
        | Op::SetAttribute(_)
        | Op::CommitLocation(_)
        | Op::CloseStream(_)
        | Op::SchedulePersist(_)
        | Op::GrantPersist(_)
        | Op::FinishPersist(_)
        | Op::FailPersist(_)
        | Op::ExpireIncomplete(_)
        | Op::BeginAttempt(_)
        | Op::CloseIntent(_)
        | Op::Collect(_)
        | Op::OpenLoad(_)
        | Op::AbortLoad(_)
        | Op::UpdateMount(_)
        | Op::DeleteMount(_)
        | Op::RegisterWorker(_)
        | Op::ForgetOperations(_)
        | Op::RaiseRules(_)
        | Op::SetXattr(_)
        | Op::MarkLost(_)
        | Op::BeginPersist(_)
        | Op::AnnounceStream(_)
        | Op::BeginIncarnation(_)
        | Op::HoldPersist(_)
        | Op::NoteUse(_)
        | Op::Expire(_) => 0,
    };
    u32::try_from(many).expect("paths and pages are bounded")
}

/// How many inodes an item of a batch may make: of thousands, those above that are there already are not counted in vain.
fn item_count(op: &BatchOp) -> usize {
    match op {
        BatchOp::CreateFile(CreateFile { path, recursive, .. })
        | BatchOp::CreateDirectory(CreateDirectory { path, recursive, .. }) => {
            if *recursive {
                path.depth()
            } else {
                1
            }
        }
        BatchOp::CompleteFile(_) | BatchOp::Remove(_) => 0,
    }
}
