//! Where blocks are: soft state, rebuilt from worker reports, indexed from both sides.
//!
//! Rows stand sorted in chunks of neighbouring containers, and a worker's containers in chunks of their low bits: about
//! 15 bytes a replica where containers stand close together. Arrays hold next to nothing in reserve, so what is deleted
//! gives its memory back, whatever came before.
//!
//! Invariants: a chunk is in the table exactly when it has a row; an open session lists exactly the containers it has a row
//! of; deleting a container or losing a worker costs what it frees; a closed session gets no row any more.

use parking_lot::RwLock;
use std::collections::BTreeMap;
use types::{BlockId, ContainerId, WorkerId};

/// Containers of one chunk of rows, as a power of two. With it a container's place in its chunk and a block's index fill
/// 32 bits.
const ROWS_BITS: u32 = 8;
/// Containers of one chunk of what a session holds, as a power of two: few, so that adding one moves little.
const HELD_BITS: u32 = 12;
/// An array holds this part of its length in reserve, and one.
const RESERVE: usize = 64;

/// One registration of a worker: what an earlier one reports late is not of this one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Session(u32);

/// One replica of one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Row {
    /// The container's place in its chunk, then the block's index.
    at: u32,
    session: Session,
    resident_bytes: u32,
}

impl Row {
    fn key(&self) -> (u32, Session) {
        (self.at, self.session)
    }
}

struct Holder {
    worker: WorkerId,
    /// By their upper bits, the lower bits of the containers it has rows of.
    containers: BTreeMap<u64, Vec<u16>>,
}

#[derive(Default)]
struct Table {
    rows: BTreeMap<u64, Vec<Row>>,
    sessions: BTreeMap<Session, Holder>,
    last_session: u32,
    replicas: usize,
}

/// The table of all block locations. Every call holds the lock for the chunks it touches only.
#[derive(Default)]
pub struct Locations {
    table: RwLock<Table>,
}

impl Locations {
    /// Begins a registration of `worker`. Earlier ones stay until they are closed.
    pub fn open(&self, worker: WorkerId) -> Session {
        let mut table = self.table.write();
        table.last_session += 1;
        let session = Session(table.last_session);
        table.sessions.insert(session, Holder { worker, containers: BTreeMap::new() });
        session
    }

    /// Ends a registration: nothing of it is seen any more, and what it still reports is dropped. Cost: what it held.
    pub fn close(&self, session: Session) {
        let Some(holder) = self.table.write().sessions.remove(&session) else { return };
        for (upper, lowers) in holder.containers {
            for chunk in chunks_of(upper, &lowers) {
                self.table.write().retain_in(chunk, |row| row.session != session);
            }
        }
    }

    /// Records that the worker of `session` holds `resident_bytes` of `block`. Repeats replace.
    pub fn add(&self, session: Session, block: BlockId, resident_bytes: u64) {
        // Blocks are far below 4 GiB; a larger report only loses precision of a displayed percentage.
        let resident_bytes = u32::try_from(resident_bytes).unwrap_or(u32::MAX);
        let container = block.container();
        let row = Row { at: place(container, block.index()), session, resident_bytes };
        let mut guard = self.table.write();
        let table = &mut *guard;
        let Some(holder) = table.sessions.get_mut(&session) else { return };
        let rows = table.rows.entry(chunk(container)).or_default();
        match rows.binary_search_by_key(&row.key(), Row::key) {
            Ok(at) => rows[at] = row,
            Err(at) => {
                insert(rows, at, row);
                table.replicas += 1;
                holder.add(container);
            }
        }
    }

    /// Forgets one replica; whether its session has no other block of the container. Unknown ones are fine.
    pub fn remove(&self, session: Session, block: BlockId) -> bool {
        let container = block.container();
        let at = place(container, block.index());
        let mut table = self.table.write();
        table.retain_in(chunk(container), |row| row.key() != (at, session));
        let is_last = !table.of(container).any(|row| row.session == session);
        if is_last && let Some(holder) = table.sessions.get_mut(&session) {
            holder.remove(container);
        }
        is_last
    }

    /// Forgets a container and returns the workers that held parts of it, each with how many blocks.
    pub fn remove_container(&self, container: ContainerId) -> Vec<(WorkerId, usize)> {
        let mut table = self.table.write();
        let sessions = table.sessions_of(container);
        if sessions.is_empty() {
            return Vec::new();
        }
        let blocks = |session| table.of(container).filter(|row| row.session == session).count();
        let counts: Vec<usize> = sessions.iter().map(|session| blocks(*session)).collect();
        let range = range(container);
        table.retain_in(chunk(container), |row| !range.contains(&row.at));
        let mut workers = BTreeMap::new();
        for (session, count) in sessions.into_iter().zip(counts) {
            if let Some(holder) = table.sessions.get_mut(&session) {
                holder.remove(container);
                *workers.entry(holder.worker).or_default() += count;
            }
        }
        workers.into_iter().collect()
    }

    /// (block index, worker, resident bytes) of every replica of a container, by index then worker.
    pub fn of(&self, container: ContainerId) -> Vec<(u64, WorkerId, u64)> {
        let table = self.table.read();
        let shown = |row: &Row| {
            let worker = table.sessions.get(&row.session)?.worker;
            Some((u64::from(row.at) & INDEX_MASK, worker, u64::from(row.resident_bytes)))
        };
        let mut out: Vec<_> = table.of(container).filter_map(shown).collect();
        out.sort_unstable();
        out
    }

    /// Workers that hold any block of a container.
    pub fn holders(&self, container: ContainerId) -> Vec<WorkerId> {
        let table = self.table.read();
        let sessions = table.sessions_of(container);
        let mut out: Vec<_> = sessions.iter().filter_map(|id| Some(table.sessions.get(id)?.worker)).collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    /// Containers with a replica, in order after `after`, those of up to `chunks` chunks; and whether that was the end.
    pub fn containers(&self, after: ContainerId, chunks: usize) -> (Vec<ContainerId>, bool) {
        let table = self.table.read();
        let mut later = table.rows.range(chunk(after)..);
        let mut out = Vec::new();
        for (upper, rows) in later.by_ref().take(chunks) {
            out.extend(rows.iter().map(|row| ContainerId(upper << ROWS_BITS | u64::from(row.at >> INDEX_BITS))));
        }
        out.dedup();
        out.retain(|container| *container > after);
        (out, later.next().is_none())
    }

    /// Number of replicas known.
    pub fn count(&self) -> usize {
        self.table.read().replicas
    }

    /// What the table takes, up to what the allocator adds. Cost: a look at every chunk.
    pub fn memory_bytes(&self) -> usize {
        let table = self.table.read();
        let rows: usize = table.rows.values().map(|rows| rows.capacity() * size_of::<Row>()).sum();
        let chunks = tree_bytes::<u64, Vec<Row>>(table.rows.len());
        let held = |holder: &Holder| {
            let lowers: usize = holder.containers.values().map(|lowers| lowers.capacity() * size_of::<u16>()).sum();
            lowers + tree_bytes::<u64, Vec<u16>>(holder.containers.len())
        };
        let sessions: usize = table.sessions.values().map(held).sum();
        rows + chunks + sessions + tree_bytes::<Session, Holder>(table.sessions.len())
    }

    /// The invariants of the module's head, by recount, while no session is being closed. Cost: the whole table.
    pub fn check_invariants(&self) {
        let table = self.table.read();
        let replicas: usize = table.rows.values().map(Vec::len).sum();
        assert_eq!(replicas, table.replicas, "the count of replicas has drifted");
        let mut listed = 0;
        for (upper, rows) in &table.rows {
            assert!(!rows.is_empty(), "chunk {upper} has no row");
            assert!(rows.is_sorted_by_key(Row::key), "chunk {upper} is not sorted");
            assert!(rows.capacity() <= most(rows.len()), "chunk {upper} holds {} for {}", rows.capacity(), rows.len());
            let mut of: Vec<_> = rows.iter().map(|row| (row.at >> INDEX_BITS, row.session)).collect();
            of.sort_unstable();
            of.dedup();
            listed += of.len();
            for (low, session) in of {
                let container = ContainerId(upper << ROWS_BITS | u64::from(low));
                let holder = table.sessions.get(&session).unwrap_or_else(|| panic!("{session:?} is closed"));
                assert!(holder.has(container), "{container} is not listed under {}", holder.worker);
            }
        }
        let held: usize = table.sessions.values().flat_map(|holder| holder.containers.values()).map(Vec::len).sum();
        assert_eq!(held, listed, "a worker lists what it does not hold");
    }
}

impl Table {
    fn of(&self, container: ContainerId) -> impl Iterator<Item = &Row> {
        let range = range(container);
        let rows = self.rows.get(&chunk(container)).map_or(&[][..], Vec::as_slice);
        let first = rows.partition_point(|row| row.at < *range.start());
        rows[first..].iter().take_while(move |row| range.contains(&row.at))
    }

    fn sessions_of(&self, container: ContainerId) -> Vec<Session> {
        let mut out: Vec<_> = self.of(container).map(|row| row.session).collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    fn retain_in(&mut self, chunk: u64, keep: impl Fn(&Row) -> bool) {
        let Some(rows) = self.rows.get_mut(&chunk) else { return };
        let before = rows.len();
        rows.retain(keep);
        self.replicas -= before - rows.len();
        if rows.is_empty() {
            self.rows.remove(&chunk);
        } else {
            trim(rows);
        }
    }
}

impl Holder {
    fn split(container: ContainerId) -> (u64, u16) {
        let low = container.0 & ((1 << HELD_BITS) - 1);
        (container.0 >> HELD_BITS, u16::try_from(low).expect("twelve bits fit"))
    }
    fn add(&mut self, container: ContainerId) {
        let (upper, low) = Holder::split(container);
        let lowers = self.containers.entry(upper).or_default();
        if let Err(at) = lowers.binary_search(&low) {
            insert(lowers, at, low);
        }
    }
    fn remove(&mut self, container: ContainerId) {
        let (upper, low) = Holder::split(container);
        let Some(lowers) = self.containers.get_mut(&upper) else { return };
        if let Ok(at) = lowers.binary_search(&low) {
            lowers.remove(at);
            trim(lowers);
        }
        if lowers.is_empty() {
            self.containers.remove(&upper);
        }
    }
    fn has(&self, container: ContainerId) -> bool {
        let (upper, low) = Holder::split(container);
        self.containers.get(&upper).is_some_and(|lowers| lowers.binary_search(&low).is_ok())
    }
}

const INDEX_BITS: u32 = 32 - ROWS_BITS;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

fn chunk(container: ContainerId) -> u64 {
    container.0 >> ROWS_BITS
}

fn place(container: ContainerId, index: u64) -> u32 {
    let low = container.0 & ((1 << ROWS_BITS) - 1);
    u32::try_from(low << INDEX_BITS | index).expect("block indexes have 24 bits")
}

/// The places of all blocks of a container.
fn range(container: ContainerId) -> std::ops::RangeInclusive<u32> {
    place(container, 0)..=place(container, INDEX_MASK)
}

/// The chunks of rows in which containers with these bits stand.
fn chunks_of(upper: u64, lowers: &[u16]) -> Vec<u64> {
    let mut chunks: Vec<u64> =
        lowers.iter().map(|low| chunk(ContainerId(upper << HELD_BITS | u64::from(*low)))).collect();
    chunks.dedup();
    chunks
}

/// Room an array of this length may have.
fn most(len: usize) -> usize {
    len + len / RESERVE + 1
}

fn insert<T>(array: &mut Vec<T>, at: usize, item: T) {
    if array.len() == array.capacity() {
        array.reserve_exact(most(array.len()) - array.len());
    }
    array.insert(at, item);
}

fn trim<T>(array: &mut Vec<T>) {
    if array.capacity() > most(array.len()) {
        array.shrink_to_fit();
    }
}

/// A search tree's nodes are between half and wholly full.
fn tree_bytes<K, V>(entries: usize) -> usize {
    entries * (size_of::<K>() + size_of::<V>()) * 3 / 2
}

#[cfg(test)]
mod tests;
