//! The blocks on this worker's disks.
//!
//! Is:     directories with quotas, blocks present piece by piece, each piece with its checksum.
//! Owns:   the files, the accounting ([`tier::Tiers`], under one lock held for microseconds), the list of what changed.
//! Never:  hands out bytes whose checksum does not hold; talks to a master or an under store.
//!
//! What waits for a disk runs on threads that may block. What must not wait (a dropped lease, an evicted block) is
//! noted, and [`BlockStore::tidy`] does it.

mod block;
pub mod io;
mod layout;
mod scan;
mod sidecar;
mod stream;
#[cfg(test)]
mod tests;

pub use block::{Lease, ReadOutcome};
pub use layout::Identity;
pub use sidecar::Origin;
pub use stream::BlockStream;

use crate::budget::Budget;
use crate::config::DirectoryConfig;
use crate::error::WorkerError;
use crate::metrics::Metrics;
use block::{Block, Table};
use hashbrown::HashMap;
use io::{BlockIo, DirectoryLock};
use layout::{Copy, Dir, Durable};
use parking_lot::Mutex;
use scan::FoundBlock;
use sidecar::Sidecar;
use std::collections::{BTreeSet, VecDeque};
use std::io::ErrorKind as IoKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tier::{Class, DirectorySpec, Held, Medium, Move, Presence, Settings, Stage, Tiers};
use tokio::sync::Notify;
use tracing::{error, info, warn};
use types::{BlockId, ContainerId, DirIndex};

/// Files kept open although nobody reads them now.
const IDLE_FILES_MAX: usize = 256;
/// Reads in a directory that may fail before all of it is given up.
const READ_FAILURES_MAX: u32 = 16;
/// Tidyings after which half of the failed reads are forgiven: about a minute. Single bad sectors over the months are
/// repaired one by one and are no reason to give up a disk.
const FORGIVE_EVERY: u32 = 120;
/// A directory closed because its file system was full opens again when this share of its quota is free there.
const REOPEN_SHARE: u64 = 100;

/// A block as masters are told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    pub block: BlockId,
    pub resident_bytes: u64,
    /// Its only copies are in the cache.
    pub unpersisted: bool,
}

/// What happened to a block since the last look. Only its latest state counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Here(Report),
    Gone(BlockId),
}

/// A directory as masters are told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectoryReport {
    pub index: DirIndex,
    pub tier: u8,
    pub medium: Medium,
    pub path: PathBuf,
    pub capacity_bytes: u64,
    pub used_bytes: u64,
    /// Why it takes no new bytes; empty while it works.
    pub lost: String,
}

/// The store. Clones share it.
#[derive(Clone)]
pub struct BlockStore {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    io: Arc<dyn BlockIo>,
    dirs: Vec<Dir>,
    state: Mutex<State>,
    serial: AtomicU64,
    /// Something waits for [`BlockStore::tidy`], or masters should hear of something.
    wake: Arc<Notify>,
    tidying: Mutex<()>,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
    locks: Mutex<Vec<DirectoryLock>>,
}

/// Which copy of a block counts.
struct Stored {
    serial: u64,
    length: u64,
}

struct State {
    tiers: Tiers,
    stored: HashMap<BlockId, Stored>,
    /// Open, or used lately.
    open: HashMap<BlockId, Arc<Block>>,
    /// Blocks nobody uses that are still open, longest unused first; an entry counts only while the block is unused.
    idle: VecDeque<Copy>,
    changed: BTreeSet<BlockId>,
    /// Their sidecar on disk is older than their table.
    dirty: BTreeSet<BlockId>,
    trash: Vec<PathBuf>,
    read_failures: Vec<u32>,
    tidyings: u32,
}

impl BlockStore {
    /// Opens the directories: checks whom they belong to, reads what they hold, removes what a crash left.
    ///
    /// A directory that cannot be used is reported and left out; an error if none is left, or if one belongs to another
    /// worker, is used by another process or has another format. `identity` names this worker if all directories are
    /// new. Blocking; cost: one small read a block, directories in parallel.
    pub fn open(
        directories: &[DirectoryConfig],
        settings: Settings,
        io: Arc<dyn BlockIo>,
        budget: Arc<Budget>,
        metrics: Arc<Metrics>,
        identity: u128,
    ) -> Result<(BlockStore, Identity), WorkerError> {
        let dirs: Vec<Dir> = (0..)
            .zip(directories)
            .map(|(index, config)| Dir { index: DirIndex(index), root: config.path.clone() })
            .collect();
        let specs = dirs.iter().zip(directories).map(|(dir, config)| DirectorySpec {
            index: dir.index,
            tier: config.tier,
            medium: config.medium,
            capacity_bytes: config.quota_bytes,
            watermarks: config.watermarks,
        });
        let mut tiers = Tiers::new(settings, specs.collect());
        let mut failed: Vec<Option<WorkerError>> = Vec::new();
        let mut locks = Vec::new();
        for dir in &dirs {
            match take(io.as_ref(), dir) {
                Ok(lock) => {
                    locks.push(lock);
                    failed.push(None);
                }
                Err(error @ WorkerError::Layout { .. }) => return Err(error),
                Err(error) => failed.push(Some(error)),
            }
        }
        let identity = agree(io.as_ref(), &dirs, &failed, identity)?;
        let working: Vec<&Dir> =
            dirs.iter().zip(&failed).filter(|(_, why)| why.is_none()).map(|(dir, _)| dir).collect();
        let scans: Vec<(DirIndex, Result<scan::Scan, WorkerError>)> = std::thread::scope(|threads| {
            let io = io.as_ref();
            let running: Vec<_> =
                working.iter().map(|dir| (dir.index, threads.spawn(move || scan::scan(io, dir)))).collect();
            let panicked = || Err(WorkerError::Bug("the scan of a storage directory panicked".into()));
            running.into_iter().map(|(dir, scan)| (dir, scan.join().unwrap_or_else(|_| panicked()))).collect()
        });
        let mut stored = HashMap::new();
        let (mut serial_max, mut trash) = (0, Vec::new());
        for (index, scan) in scans {
            let dir = &dirs[usize::from(index.0)];
            match scan {
                Ok(scan) => {
                    serial_max = serial_max.max(scan.serial_max);
                    metrics.damaged_blocks.inc_by(scan.damaged);
                    adopt(dir, scan.blocks, &mut tiers, &mut stored, &mut trash);
                }
                Err(error) => failed[usize::from(index.0)] = Some(error),
            }
        }
        for (dir, why) in dirs.iter().zip(&failed) {
            if let Some(why) = why {
                error!(dir = %dir.root.display(), %why, "storage directory left out");
                tiers.lose(dir.index, &why.sentence());
            }
        }
        if tiers.directories().all(tier::Directory::is_lost) {
            let why = failed.into_iter().flatten().next();
            return Err(why.unwrap_or_else(|| WorkerError::Layout {
                why: "no storage directory is configured; set goosefs.worker.tieredstore.level0.dirs.path".into(),
            }));
        }
        let state = State {
            read_failures: vec![0; dirs.len()],
            tidyings: 0,
            tiers,
            stored,
            open: HashMap::new(),
            idle: VecDeque::new(),
            changed: BTreeSet::new(),
            dirty: BTreeSet::new(),
            trash,
        };
        let inner = Inner {
            io,
            dirs,
            state: Mutex::new(state),
            serial: AtomicU64::new(serial_max + 1),
            wake: Arc::new(Notify::new()),
            tidying: Mutex::new(()),
            budget,
            metrics,
            locks: Mutex::new(locks),
        };
        Ok((BlockStore { inner: Arc::new(inner) }, identity))
    }

    /// Keeps who this worker is in every directory that works. Blocking.
    pub fn set_identity(&self, identity: &Identity) -> Result<(), WorkerError> {
        let working: Vec<DirIndex> = {
            let state = self.inner.state.lock();
            state.tiers.directories().filter(|dir| !dir.is_lost()).map(|dir| dir.spec.index).collect()
        };
        for index in working {
            self.inner.dirs[usize::from(index.0)].set_identity(self.inner.io.as_ref(), identity)?;
        }
        Ok(())
    }

    /// Told when something changed that masters should hear of, or when [`BlockStore::tidy`] has work.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.inner.wake)
    }

    pub fn budget(&self) -> &Arc<Budget> {
        &self.inner.budget
    }

    #[cfg(test)]
    fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Bytes of a committed block that are here; None when nothing is.
    pub fn resident(&self, block: BlockId) -> Option<u64> {
        self.resident_on(block).map(|(bytes, _)| bytes)
    }

    /// The same, with the medium they lie on.
    pub fn resident_on(&self, block: BlockId) -> Option<(u64, Medium)> {
        let state = self.inner.state.lock();
        let held = state.tiers.get(block).filter(|held| held.stage == Stage::Committed && held.resident_bytes > 0)?;
        let medium = state.tiers.directory(held.dir).map(|dir| dir.spec.medium)?;
        Some((held.resident_bytes, medium))
    }

    /// A committed block, kept here while the lease lives. None when it is not here; a sidecar that cannot be read
    /// counts as not here, unless the block exists nowhere else. Cancel-safe.
    pub async fn lease(&self, block: BlockId) -> Result<Option<Lease>, WorkerError> {
        self.inner.lease(block).await
    }

    /// The same for somebody who will fill in missing pieces: a block that is not here is entered with nothing of it.
    /// A copy of another origin, or of another length, is dropped first: bytes of two versions never mix.
    pub async fn lease_to_fill(&self, block: BlockId, length: u64, origin: &Origin) -> Result<Lease, WorkerError> {
        for _ in 0..3 {
            if let Some(lease) = self.inner.lease(block).await? {
                if lease.length() == length && lease.agrees(origin) {
                    return Ok(lease);
                }
                drop(lease);
                self.remove(block);
            }
            if let Some(lease) = self.inner.enter(block, length, origin)? {
                return Ok(lease);
            }
        }
        Err(WorkerError::Busy { what: "changes of one block", limit: 3 })
    }

    /// A block a stream writes, of at most `limit_bytes`. Nobody sees it before its commit.
    pub async fn create(&self, block: BlockId, class: Class, limit_bytes: u64) -> Result<BlockStream, WorkerError> {
        BlockStream::create(Arc::clone(&self.inner), block, class, limit_bytes).await
    }

    /// Forgets a block, whatever its class; readers that have it open go on. Returns whether it was here.
    pub fn remove(&self, block: BlockId) -> bool {
        let mut state = self.inner.state.lock();
        let gone = self.inner.forget(&mut state, block);
        drop(state);
        self.inner.wake.notify_one();
        gone
    }

    /// Forgets all blocks of one generation of a file. Returns how many.
    pub fn free(&self, container: ContainerId) -> usize {
        let mut state = self.inner.state.lock();
        let blocks: Vec<BlockId> = state.tiers.blocks_of(container).map(|(block, _)| block).collect();
        blocks.iter().for_each(|block| {
            self.inner.forget(&mut state, *block);
        });
        drop(state);
        self.inner.wake.notify_one();
        blocks.len()
    }

    /// The blocks of one generation of a file are in an under store now: they may leave.
    pub async fn make_evictable(&self, container: ContainerId) -> Result<(), WorkerError> {
        let blocks: Vec<BlockId> = {
            let state = self.inner.state.lock();
            let kept = state.tiers.blocks_of(container).filter(|(_, held)| held.class != Class::Evictable);
            kept.filter(|(_, held)| held.stage == Stage::Committed).map(|(block, _)| block).collect()
        };
        for block in blocks {
            if let Some(lease) = self.lease(block).await? {
                lease.reclass(Class::Evictable);
            }
        }
        Ok(())
    }

    /// All committed blocks, for a registration.
    pub fn reports(&self) -> Vec<Report> {
        let state = self.inner.state.lock();
        state.tiers.blocks().filter_map(|(block, _)| report(&state.tiers, block)).collect()
    }

    /// What changed since the last call, at most `limit` blocks; the rest stays for the next.
    pub fn take_changes(&self, limit: usize) -> Vec<Change> {
        let mut state = self.inner.state.lock();
        let mut changes = Vec::new();
        while changes.len() < limit {
            let Some(block) = state.changed.pop_first() else { break };
            changes.push(report(&state.tiers, block).map_or(Change::Gone(block), Change::Here));
        }
        changes
    }

    pub fn has_changes(&self) -> bool {
        !self.inner.state.lock().changed.is_empty()
    }

    pub fn directories(&self) -> Vec<DirectoryReport> {
        let state = self.inner.state.lock();
        let report = |(dir, at): (&tier::Directory, &Dir)| DirectoryReport {
            index: at.index,
            tier: dir.spec.tier.0,
            medium: dir.spec.medium,
            path: at.root.clone(),
            capacity_bytes: dir.spec.capacity_bytes,
            used_bytes: dir.used_bytes,
            lost: dir.why_closed().unwrap_or_default().to_owned(),
        };
        state.tiers.directories().zip(&self.inner.dirs).map(report).collect()
    }

    /// Used and promised bytes of blocks that must stay.
    pub fn kept_bytes(&self) -> u64 {
        self.inner.state.lock().tiers.kept_bytes()
    }

    pub fn block_count(&self) -> usize {
        self.inner.state.lock().stored.len()
    }

    /// Makes room ahead of need, removes files of blocks that left, writes sidecars that changed, looks whether a full
    /// file system has room again. Blocking; called when [`BlockStore::wake`] was told, and now and then.
    pub fn tidy(&self) {
        let inner = &self.inner;
        let _one_at_a_time = inner.tidying.lock();
        let (trash, dirty) = {
            let mut state = inner.state.lock();
            for step in tier::plan_ahead(&state.tiers) {
                inner.evict(&mut state, &step);
            }
            state.tidyings = (state.tidyings + 1) % FORGIVE_EVERY;
            if state.tidyings == 0 {
                state
                    .read_failures
                    .iter_mut()
                    .filter(|count| **count < READ_FAILURES_MAX)
                    .for_each(|count| *count /= 2);
            }
            let dirty: Vec<Arc<Block>> =
                state.dirty.iter().filter_map(|block| state.open.get(block).cloned()).collect();
            (std::mem::take(&mut state.trash), dirty)
        };
        for path in trash {
            if let Err(error) = inner.io.remove(&path) {
                warn!(file = %path.display(), %error, "cannot remove a block that left");
            }
        }
        for block in dirty {
            inner.write_sidecar(&block);
        }
        inner.reopen();
    }

    /// [`BlockStore::tidy`], where waiting for a disk is allowed. Cancel-safe: what began is finished.
    pub async fn tidied(&self) {
        let store = self.clone();
        // Fails only when the worker stops: the next start tidies.
        let _ = self.inner.blocking(move || store.tidy()).await;
    }

    /// [`BlockStore::set_identity`], where waiting for a disk is allowed. Cancel-safe: what began is finished.
    pub async fn keep_identity(&self, identity: Identity) -> Result<(), WorkerError> {
        let store = self.clone();
        self.inner.blocking(move || store.set_identity(&identity)).await?
    }

    /// Gives the directories to whoever comes next. The last thing a worker does: nothing is written afterwards.
    pub fn release(&self) {
        self.inner.locks.lock().clear();
    }

    /// Panics when the accounting is wrong. Cost: O(blocks).
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        let state = self.inner.state.lock();
        state.tiers.check_invariants();
        for (block, held) in state.tiers.blocks() {
            assert!(state.stored.contains_key(&block), "{block} is stored");
            if let Some(open) = state.open.get(&block).filter(|_| held.stage == Stage::Committed) {
                let table = open.table.lock();
                table.presence.check_invariants();
                assert_eq!(table.presence.resident_bytes(), held.resident_bytes, "resident bytes of {block}");
            }
        }
        assert_eq!(state.stored.len(), state.tiers.blocks().count(), "nothing else is stored");
    }

    /// How many hold the block open now.
    #[doc(hidden)]
    pub fn opens(&self, block: BlockId) -> u32 {
        self.inner.state.lock().tiers.get(block).map_or(0, |held| held.opens)
    }
}

fn report(tiers: &Tiers, block: BlockId) -> Option<Report> {
    let held = tiers.get(block).filter(|held| held.stage == Stage::Committed)?;
    let unpersisted = held.class != Class::Evictable;
    (held.resident_bytes > 0).then_some(Report { block, resident_bytes: held.resident_bytes, unpersisted })
}

/// Makes the directory and takes it for this process.
fn take(io: &dyn BlockIo, dir: &Dir) -> Result<DirectoryLock, WorkerError> {
    io.make_dir(&dir.blocks()).map_err(|error| WorkerError::disk("create", &dir.blocks(), error))?;
    io.lock(&dir.lock()).map_err(|error| match error.kind() {
        IoKind::WouldBlock => WorkerError::Layout {
            why: format!(
                "storage directory {} is in use by another worker, or configured twice; give each worker its own",
                dir.root.display()
            ),
        },
        _ => WorkerError::disk("lock", &dir.lock(), error),
    })
}

/// Who this worker is: what its directories say, all alike; new ones are told.
fn agree(io: &dyn BlockIo, dirs: &[Dir], failed: &[Option<WorkerError>], fresh: u128) -> Result<Identity, WorkerError> {
    let mut known: Option<(Identity, &Dir)> = None;
    let mut new = Vec::new();
    for (dir, _) in dirs.iter().zip(failed).filter(|(_, why)| why.is_none()) {
        let Some(found) = dir.identity(io)? else {
            new.push(dir);
            continue;
        };
        match known {
            None => known = Some((found, dir)),
            Some((first, from)) if (first.identity, first.cluster) != (found.identity, found.cluster) => {
                return Err(WorkerError::Layout {
                    why: format!(
                        "storage directories {} and {} belong to different workers or clusters; give this worker only \
                         its own directories, or empty the one that is not",
                        from.root.display(),
                        dir.root.display()
                    ),
                });
            }
            Some((first, from)) => {
                // A crash between two directories leaves one behind: the one that knows more counts.
                let newer = (found.worker, found.incarnation) > (first.worker, first.incarnation);
                known = Some(if newer { (found, dir) } else { (first, from) });
            }
        }
    }
    let identity = known.map_or(
        Identity { identity: fresh, worker: None, cluster: None, incarnation: types::Incarnation(0) },
        |(identity, _)| identity,
    );
    for dir in new {
        dir.set_identity(io, &identity)?;
    }
    Ok(identity)
}

fn adopt(
    dir: &Dir,
    found: Vec<FoundBlock>,
    tiers: &mut Tiers,
    stored: &mut HashMap<BlockId, Stored>,
    trash: &mut Vec<PathBuf>,
) {
    for FoundBlock { copy, class, length, resident_bytes } in found {
        if tiers.adopt(copy.block, dir.index, class, resident_bytes) {
            stored.insert(copy.block, Stored { serial: copy.serial, length });
        } else {
            warn!(block = %copy.block, dir = %dir.root.display(), "second copy of a block, removed");
            trash.extend([dir.data(copy), dir.meta(copy)]);
        }
    }
}

impl Inner {
    /// Runs what waits for a disk where waiting is allowed. Cancel-safe: what began is finished.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, WorkerError> {
        let begun = match self.io.pace() {
            None => tokio::task::spawn_blocking(work),
            Some(pace) => tokio::spawn(async move {
                io::step(pace).await;
                work()
            }),
        };
        begun.await.map_err(|error| match error.is_cancelled() {
            true => WorkerError::Stopping,
            false => WorkerError::Bug(format!("work on a disk panicked: {error}")),
        })
    }

    fn dir(&self, index: DirIndex) -> &Dir {
        &self.dirs[usize::from(index.0)]
    }

    fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a block out of everything; its files go at the next tidying.
    fn forget(&self, state: &mut State, block: BlockId) -> bool {
        let Some(held) = state.tiers.remove(block) else { return false };
        self.dismiss(state, block, &held);
        true
    }

    /// The same as a plan made under the same lock says, to make room.
    fn evict(&self, state: &mut State, step: &Move) {
        let Move::Evict { block, .. } = step;
        let held = state.tiers.apply(step);
        self.metrics.evicted_blocks.inc();
        self.dismiss(state, *block, &held);
    }

    /// The accounting has forgotten it.
    fn dismiss(&self, state: &mut State, block: BlockId, held: &Held) {
        if let Some(stored) = state.stored.remove(&block) {
            let copy = Copy { block, serial: stored.serial };
            let dir = self.dir(held.dir);
            let (data, meta) = (dir.data(copy), dir.meta(copy));
            // A stream that still writes removes its own unfinished file.
            state.trash.extend([meta, data]);
        }
        state.open.remove(&block);
        state.dirty.remove(&block);
        state.changed.insert(block);
    }

    /// Makes the room a plan promises. Returns the files to remove before the room is used.
    fn make_room(&self, state: &mut State, moves: &[Move]) -> Vec<PathBuf> {
        let before = state.trash.len();
        moves.iter().for_each(|step| self.evict(state, step));
        state.trash.split_off(before)
    }

    async fn lease(self: &Arc<Inner>, block: BlockId) -> Result<Option<Lease>, WorkerError> {
        let (copy, dir) = {
            let mut state = self.state.lock();
            let Some(held) = state.tiers.get(block).filter(|held| held.stage == Stage::Committed) else {
                return Ok(None);
            };
            state.tiers.open(block);
            if let Some(open) = state.open.get(&block) {
                return Ok(Some(Lease::new(Arc::clone(self), Arc::clone(open))));
            }
            (Copy { block, serial: state.stored[&block].serial }, held.dir)
        };
        // From here on the open counts; the guard gives it back if this future is dropped.
        let guard = block::OpenGuard::new(Arc::clone(self), copy);
        let inner = Arc::clone(self);
        let loaded = self.blocking(move || inner.load(copy, dir)).await?;
        match loaded {
            Ok(loaded) => {
                let mut state = self.state.lock();
                if state.stored.get(&block).is_none_or(|stored| stored.serial != copy.serial) {
                    return Ok(None);
                }
                let open = Arc::clone(state.open.entry(block).or_insert_with(|| Arc::new(loaded)));
                guard.keep();
                Ok(Some(Lease::new(Arc::clone(self), open)))
            }
            Err(error) => {
                self.metrics.damaged_blocks.inc();
                let mut state = self.state.lock();
                let class = state.tiers.get(block).map(|held| held.class);
                if class == Some(Class::Evictable) {
                    warn!(%block, %error, "cached block cannot be opened, dropped");
                    self.forget(&mut state, block);
                    drop(state);
                    return Ok(None);
                }
                Err(error)
            }
        }
    }

    /// Opens the file and reads the table of a committed block. Blocking.
    fn load(&self, copy: Copy, dir: DirIndex) -> Result<Block, WorkerError> {
        let at = self.dir(dir);
        let (data, meta) = (at.data(copy), at.meta(copy));
        let bytes = self.io.read(&meta, sidecar::SIDECAR_BYTES_MAX).map_err(|error| {
            self.read_failed(dir, &error);
            WorkerError::disk("read", &meta, error)
        })?;
        let sidecar = Sidecar::decode(&bytes).ok().filter(|sidecar| sidecar.block == copy.block);
        let sidecar = sidecar.ok_or(WorkerError::Damaged { block: copy.block, offset: 0 })?;
        let file = self.io.open(&data).map_err(|error| WorkerError::disk("open", &data, error))?;
        let Sidecar { class, origin, presence, crcs, .. } = sidecar;
        let table = Table { presence, crcs, origin, class, version: 0 };
        Ok(Block::new(copy, dir, Some(file), table))
    }

    /// Enters a block nothing is here of. None when somebody else entered it meanwhile.
    fn enter(self: &Arc<Inner>, block: BlockId, length: u64, origin: &Origin) -> Result<Option<Lease>, WorkerError> {
        let invalid = || WorkerError::Invalid(format!("{block} of {length} bytes is longer than any block can be"));
        let presence = Presence::empty(length).ok_or_else(invalid)?;
        let crcs = vec![0; usize::try_from(presence.pieces()).map_err(|_| invalid())?];
        let first_bytes = presence.bytes_of(0);
        let serial = self.next_serial();
        let mut state = self.state.lock();
        let placed = match state.tiers.place(block, first_bytes, Class::Evictable) {
            Ok(placed) => placed,
            Err(tier::Full::Exists { .. }) => return Ok(None),
            Err(full) => return Err(full.into()),
        };
        let gone = self.make_room(&mut state, &placed.moves);
        state.trash.extend(gone);
        state.tiers.begin(block, placed.dir, Class::Evictable, Stage::Committed, 0);
        state.stored.insert(block, Stored { serial, length });
        let table = Table { presence, crcs, origin: Some(origin.clone()), class: Class::Evictable, version: 0 };
        let open = Arc::new(Block::new(Copy { block, serial }, placed.dir, None, table));
        state.open.insert(block, Arc::clone(&open));
        drop(state);
        Ok(Some(Lease::new(Arc::clone(self), open)))
    }

    /// A lease ends.
    fn close(&self, copy: Copy) {
        let mut state = self.state.lock();
        if state.stored.get(&copy.block).is_none_or(|stored| stored.serial != copy.serial) {
            return;
        }
        state.tiers.close(copy.block);
        let Some(held) = state.tiers.get(copy.block).filter(|held| held.opens == 0) else { return };
        let length = state.stored[&copy.block].length;
        if held.resident_bytes == 0 && length > 0 {
            self.forget(&mut state, copy.block);
            return;
        }
        state.idle.push_back(copy);
        while state.idle.len() > IDLE_FILES_MAX {
            let Some(oldest) = state.idle.pop_front() else { break };
            let unused = state.tiers.get(oldest.block).is_some_and(|held| held.opens == 0);
            let later = state.idle.iter().any(|copy| *copy == oldest);
            if unused && !later && !state.dirty.contains(&oldest.block) {
                state.open.remove(&oldest.block);
            }
        }
        if state.dirty.contains(&copy.block) {
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Writes the table of a block beside it. Blocking. What fails here costs at most a refetch later.
    fn write_sidecar(&self, block: &Block) {
        let dir = self.dir(block.dir);
        let meta = dir.meta(block.copy);
        let (bytes, durable, version) = {
            let table = block.table.lock();
            let durable = if table.class == Class::Evictable { Durable::No } else { Durable::Yes };
            (table.sidecar(block.copy.block).encode(), durable, table.version)
        };
        if let Err(error) = layout::write_whole(self.io.as_ref(), &meta, &bytes, durable) {
            warn!(block = %block.copy.block, error = %error.sentence(), "cannot write a sidecar");
            self.write_failed(block.dir, &error);
        }
        let mut state = self.state.lock();
        let gone = state.stored.get(&block.copy.block).is_none_or(|stored| stored.serial != block.copy.serial);
        if !gone && block.table.lock().version == version {
            state.dirty.remove(&block.copy.block);
        }
        drop(state);
        if gone {
            let _ = self.io.remove(&meta);
        }
    }

    /// A directory that cannot be written takes no new bytes; what it holds can still be read.
    fn write_failed(&self, dir: DirIndex, error: &WorkerError) {
        let (WorkerError::Disk { source, .. } | WorkerError::DiskFull { source, .. }) = error else { return };
        if matches!(source.kind(), IoKind::NotFound | IoKind::AlreadyExists | IoKind::UnexpectedEof) {
            return;
        }
        let mut state = self.state.lock();
        if state.tiers.directory(dir).is_some_and(tier::Directory::is_open) {
            error!(dir = %self.dir(dir).root.display(), error = %error.sentence(), "storage directory takes no more");
            state.tiers.shut(dir, Some(&error.sentence()));
            self.metrics.failed_directories.inc();
            drop(state);
            self.wake.notify_one();
        }
    }

    /// A directory that fails to be read again and again is given up with all it holds.
    fn read_failed(&self, dir: DirIndex, error: &std::io::Error) {
        if matches!(error.kind(), IoKind::UnexpectedEof | IoKind::NotFound) {
            return;
        }
        let mut state = self.state.lock();
        let failures = &mut state.read_failures[usize::from(dir.0)];
        *failures += 1;
        if *failures == READ_FAILURES_MAX {
            let why = format!("{READ_FAILURES_MAX} reads failed, the last one: {error}");
            let lost = state.tiers.lose(dir, &why);
            error!(dir = %self.dir(dir).root.display(), blocks = lost.len(), why, "storage directory given up");
            for (block, _) in lost {
                state.stored.remove(&block);
                state.open.remove(&block);
                state.dirty.remove(&block);
                state.changed.insert(block);
            }
            self.metrics.failed_directories.inc();
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Directories that were full take bytes again once their file system has room.
    fn reopen(&self) {
        let shut: Vec<(DirIndex, u64)> = {
            let state = self.state.lock();
            let closed = state.tiers.directories().filter(|dir| dir.shut.is_some() && !dir.is_lost());
            let full = closed.filter(|dir| dir.shut.as_deref().is_some_and(|why| why.contains("is full")));
            full.map(|dir| (dir.spec.index, dir.spec.capacity_bytes)).collect()
        };
        for (index, capacity_bytes) in shut {
            let dir = self.dir(index);
            if self.io.space(&dir.root).is_ok_and(|space| space.free_bytes > capacity_bytes / REOPEN_SHARE) {
                info!(dir = %dir.root.display(), "storage directory has room again");
                self.state.lock().tiers.shut(index, None);
                self.wake.notify_one();
            }
        }
    }
}
