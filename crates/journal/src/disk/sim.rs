//! A disk in memory that crashes as disks do.
//!
//! Is:     the contract of [`Disk`] with the worst that it permits, chosen by seed.
//! Owns:   its files.
//! Never:  loses what was synced, keeps a name that was not, or asks the real clock or random source.

use super::{Disk, DiskFile, SECTOR};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// The calls that can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskOp {
    Create,
    Allocate,
    Read,
    Write,
    Sync,
    Rename,
    Remove,
    SyncDir,
}

/// A simulated disk; clones are the same disk.
///
/// A crash keeps, for every sector written since the last sync of its file, the old bytes, the new bytes, or a mix cut
/// at some byte; of creates, renames and removes since the last sync of the directory it keeps a prefix, as journaling
/// file systems do. A sync that fails loses some sectors for good and calls them clean, as Linux does.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<World>>);

#[derive(Default)]
struct World {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    /// Raised by a crash or restart; handles of an older one are dead.
    epoch: u64,
    changes: u64,
    crash_at: Option<u64>,
    down: bool,
    faults: Vec<(DiskOp, io::ErrorKind)>,
    capacity_bytes: Option<usize>,
}

#[derive(Default)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

/// One change of a directory: what `path` names afterwards.
struct NameChange {
    dir: PathBuf,
    steps: Vec<(PathBuf, Option<u64>)>,
}

impl SimDisk {
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no test panics while it holds the disk")
    }

    /// How many changing calls (create, allocate, write, sync, rename, remove, sync_dir) were made so far.
    pub fn changes(&self) -> u64 {
        self.world().changes
    }

    /// Stops the machine just before its `change`-th changing call, counted as [`SimDisk::changes`] does: that call and
    /// all later ones fail until [`SimDisk::crash`].
    pub fn stop_at(&self, change: u64) {
        self.world().crash_at = Some(change);
    }

    /// Makes the next call of this kind fail. Several add up, in order.
    pub fn fail_next(&self, op: DiskOp, kind: io::ErrorKind) {
        self.world().faults.push((op, kind));
    }

    /// Refuses to hold more than this many bytes in all files (StorageFull).
    pub fn set_capacity(&self, bytes: usize) {
        self.world().capacity_bytes = Some(bytes);
    }

    /// Power loss: unsynced work survives in part, as `seed` says. All handles and locks are dead.
    pub fn crash(&self, seed: u64) {
        self.world().crash(&mut Dice(seed));
    }

    /// The process dies, the machine does not: everything written is still there, synced or not.
    pub fn kill_process(&self) {
        self.world().next_epoch();
    }

    /// Changes one byte of a file, on the platter too: bit rot.
    pub fn corrupt(&self, path: &Path, offset: usize) {
        let mut world = self.world();
        let id = world.names[path];
        let inode = world.inodes.get_mut(&id).expect("named files exist");
        inode.cached[offset] ^= 0x5A;
        let (cached, durable) = (&inode.cached, &mut inode.durable);
        if let Some(byte) = durable.get_mut(offset) {
            *byte = cached[offset];
        }
    }

    /// Flips one bit somewhere in the files of `dir`, on the platter too, as `seed` says: mostly where something was written.
    /// Returns the file and the byte; None: the files are empty.
    pub fn rot(&self, dir: &Path, seed: u64) -> Option<(PathBuf, usize)> {
        let mut world = self.world();
        let mut dice = Dice(seed);
        let anywhere = dice.below(4) == 0;
        let named = world.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        let sectors = |id: &u64| world.inodes[id].cached.chunks(SECTOR).enumerate();
        let places: Vec<(&PathBuf, u64, usize, usize)> = named
            .flat_map(|(path, id)| sectors(id).map(move |(at, bytes)| (path, *id, at, bytes)))
            .filter(|(.., bytes)| anywhere || bytes.iter().any(|byte| *byte != 0))
            .map(|(path, id, at, bytes)| (path, id, at * SECTOR, bytes.len()))
            .collect();
        let (path, id, start, len) = *places.get(dice.below(places.len()))?;
        let (path, offset, bit) = (path.clone(), start + dice.below(len), dice.below(8));
        let inode = world.inodes.get_mut(&id).expect("named files exist");
        inode.cached[offset] ^= 1 << bit;
        let (cached, durable) = (&inode.cached, &mut inode.durable);
        if let Some(byte) = durable.get_mut(offset) {
            *byte = cached[offset];
        }
        Some((path, offset))
    }

    /// Forgets a file as if an operator had deleted it.
    pub fn lose(&self, path: &Path) {
        let mut world = self.world();
        world.names.remove(path);
        world.durable_names.remove(path);
    }
}

impl World {
    /// Counts a changing call and says whether it may happen.
    fn change(&mut self, op: DiskOp, epoch: u64) -> io::Result<()> {
        self.alive(epoch)?;
        self.changes += 1;
        if self.crash_at.is_some_and(|at| self.changes >= at) {
            self.down = true;
        }
        self.alive(epoch)?;
        self.fault(op)
    }

    fn alive(&self, epoch: u64) -> io::Result<()> {
        if self.down || epoch != self.epoch {
            return Err(io::Error::other("the simulated machine is down"));
        }
        Ok(())
    }

    fn fault(&mut self, op: DiskOp) -> io::Result<()> {
        let Some(at) = self.faults.iter().position(|&(which, _)| which == op) else { return Ok(()) };
        let (_, kind) = self.faults.remove(at);
        Err(io::Error::new(kind, format!("injected failure of {op:?}")))
    }

    fn inode(&mut self, id: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn room_for(&self, more_bytes: usize) -> io::Result<()> {
        let used: usize = self.inodes.values().map(|inode| inode.cached.len()).sum();
        match self.capacity_bytes {
            Some(capacity) if used + more_bytes > capacity => Err(io::ErrorKind::StorageFull.into()),
            Some(_) | None => Ok(()),
        }
    }

    fn rename_step(&mut self, dir: &Path, steps: Vec<(PathBuf, Option<u64>)>) {
        apply_names(&mut self.names, &steps);
        self.pending.push(NameChange { dir: dir.to_path_buf(), steps });
    }

    fn next_epoch(&mut self) {
        self.epoch += 1;
        self.down = false;
        self.crash_at = None;
        self.locks.clear();
    }

    fn crash(&mut self, dice: &mut Dice) {
        let kept = dice.below(self.pending.len() + 1);
        for change in self.pending.drain(..).take(kept) {
            apply_names(&mut self.durable_names, &change.steps);
        }
        self.names = self.durable_names.clone();
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|id, _| named.contains(id));
        self.inodes.values_mut().for_each(|inode| inode.crash(dice));
        self.next_epoch();
    }
}

fn apply_names(names: &mut BTreeMap<PathBuf, u64>, steps: &[(PathBuf, Option<u64>)]) {
    for (path, inode) in steps {
        match inode {
            Some(id) => names.insert(path.clone(), *id),
            None => names.remove(path),
        };
    }
}

impl Inode {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if self.cached.len() < end {
            self.cached.resize(end, 0);
        }
        self.cached[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    /// Brings one dirty sector to the platter, up to byte `upto` of it.
    fn keep(&mut self, sector: usize, upto: usize) {
        let start = sector * SECTOR;
        let end = (start + upto).min(self.cached.len());
        if end > self.durable.len() {
            self.durable.resize(end, 0);
        }
        if start < end {
            self.durable[start..end].copy_from_slice(&self.cached[start..end]);
        }
    }

    fn sync(&mut self) {
        let cached_len = self.cached.len();
        self.durable.resize(cached_len, 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector, SECTOR);
        }
    }

    /// A sync that failed: some sectors arrived, all are called clean.
    fn fail_sync(&mut self, dice: &mut Dice) {
        for sector in std::mem::take(&mut self.dirty) {
            if dice.below(2) == 0 {
                self.keep(sector, SECTOR);
            }
        }
    }

    fn crash(&mut self, dice: &mut Dice) {
        for sector in std::mem::take(&mut self.dirty) {
            match dice.below(3) {
                0 => {}
                1 => self.keep(sector, SECTOR),
                _ => self.keep(sector, dice.below(SECTOR)),
            }
        }
        if self.cached.len() > self.durable.len() && dice.below(2) == 0 {
            self.durable.resize(self.cached.len(), 0);
        }
        self.cached = self.durable.clone();
    }
}

/// A small seeded generator (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let bound = u64::try_from(bound.max(1)).expect("usize fits u64 here");
        usize::try_from((z ^ (z >> 31)) % bound).expect("below a usize")
    }
}

/// An open file of a [`SimDisk`].
pub struct SimFile {
    disk: SimDisk,
    inode: u64,
    epoch: u64,
}

/// Holds a directory of a [`SimDisk`].
pub struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    epoch: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut world = self.disk.world();
        if world.epoch == self.epoch {
            world.locks.remove(&self.path);
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().expect("journal files live in a directory")
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.world();
        world.alive(world.epoch)?;
        if !world.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let files = world.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(files.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.world().dirs.insert(dir.to_path_buf());
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        let world = self.world();
        world.alive(world.epoch)?;
        let inode = *world.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(SimFile { disk: self.clone(), inode, epoch: world.epoch })
    }

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut world = self.world();
        let epoch = world.epoch;
        world.change(DiskOp::Create, epoch)?;
        if world.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = world.next_inode;
        world.next_inode += 1;
        world.inodes.insert(inode, Inode::default());
        world.rename_step(parent(path), vec![(path.to_path_buf(), Some(inode))]);
        Ok(SimFile { disk: self.clone(), inode, epoch })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        let epoch = world.epoch;
        world.change(DiskOp::Rename, epoch)?;
        let inode = *world.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        if world.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.rename_step(parent(from), vec![(from.to_path_buf(), None), (to.to_path_buf(), Some(inode))]);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        let epoch = world.epoch;
        world.change(DiskOp::Remove, epoch)?;
        if !world.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.rename_step(parent(path), vec![(path.to_path_buf(), None)]);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        let epoch = world.epoch;
        world.change(DiskOp::SyncDir, epoch)?;
        let (now, later): (Vec<_>, Vec<_>) = world.pending.drain(..).partition(|change| change.dir == dir);
        world.pending = later;
        for change in now {
            apply_names(&mut world.durable_names, &change.steps);
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<SimLock> {
        let mut world = self.world();
        world.alive(world.epoch)?;
        if !world.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(SimLock { disk: self.clone(), path: path.to_path_buf(), epoch: world.epoch })
    }
}

impl DiskFile for SimFile {
    fn len_bytes(&self) -> io::Result<u64> {
        let mut world = self.disk.world();
        world.alive(self.epoch)?;
        Ok(u64::try_from(world.inode(self.inode)?.cached.len()).expect("usize fits u64 here"))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        world.alive(self.epoch)?;
        world.fault(DiskOp::Read)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let cached = &world.inode(self.inode)?.cached;
        let found = cached.get(offset..offset + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        world.change(DiskOp::Write, self.epoch)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let len = world.inode(self.inode)?.cached.len();
        world.room_for((offset + bytes.len()).saturating_sub(len))?;
        world.inode(self.inode)?.write(bytes, offset);
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        world.change(DiskOp::Allocate, self.epoch)?;
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        let len = world.inode(self.inode)?.cached.len();
        world.room_for(bytes.saturating_sub(len))?;
        let inode = world.inode(self.inode)?;
        inode.cached.resize(len.max(bytes), 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        let seed = world.changes;
        match world.change(DiskOp::Sync, self.epoch) {
            Ok(()) => world.inode(self.inode)?.sync(),
            Err(failure) if world.down => return Err(failure),
            Err(failure) => {
                world.inode(self.inode)?.fail_sync(&mut Dice(seed));
                return Err(failure);
            }
        }
        Ok(())
    }
}
