//! A world with a store behind it: the jobs are carried out by the real [`Stores`], one step at a time, so that a crash can
//! fall between any two of them.

use super::*;
use crate::stores::Stores;
use meta::{CloseStream, CompleteFile, Status};
use rpc::ClusterKey;
use types::MountId;
use ufs::{Key, LocalStore, MemoryStore, UnderStore, WriteOptions};

pub const ROOT_MOUNT: MountId = MountId(1);
/// Steps an operation may take before it counts as stuck.
const STUCK: usize = 20_000;

pub struct Sea {
    pub world: World,
    pub store: Arc<dyn UnderStore>,
    stores: Stores,
    key: Arc<ClusterKey>,
    runtime: tokio::runtime::Runtime,
    /// The store did it; the answer is on its way.
    done: Vec<(JobId, Result<JobOk, JobError>)>,
    next_operation: u128,
    _dir: tempfile::TempDir,
}

/// What kind of store it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Moves by copying and deleting.
    Objects,
    /// Renames.
    Files,
}

pub fn path(text: &str) -> GfsPath {
    GfsPath::parse(text).expect("a path")
}

impl Sea {
    pub fn new(seed: u64, kind: Kind) -> Sea {
        let dir = tempfile::tempdir().expect("a directory");
        let key = Arc::new(ClusterKey::create(&dir.path().join("key")).expect("a key file"));
        let store: Arc<dyn UnderStore> = match kind {
            Kind::Objects => Arc::new(MemoryStore::new("root")),
            Kind::Files => {
                std::fs::create_dir(dir.path().join("ufs")).expect("a directory");
                Arc::new(LocalStore::new(&dir.path().join("ufs")))
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let world = World::new(seed);
        let stores = Stores::new(world.shared.clone(), key.clone());
        stores.put(ROOT_MOUNT, store.clone());
        Sea { world, store, stores, key, runtime, done: Vec::new(), next_operation: 1, _dir: dir }
    }

    // ---- one step at a time

    pub fn deliver(&mut self) -> bool {
        let Some((id, result)) = self.done.pop() else { return false };
        self.world.step(Event::JobDone(id, result));
        true
    }

    pub fn sync(&mut self) -> bool {
        let any = !self.world.appends.is_empty();
        self.world.sync();
        any
    }

    /// The store does one of its jobs.
    pub fn execute(&mut self, which: u64) -> bool {
        if self.world.jobs.is_empty() {
            return false;
        }
        let at = usize::try_from(which % u64::try_from(self.world.jobs.len()).expect("small")).expect("small");
        let (id, job) = self.world.jobs.remove(at);
        let result = self.runtime.block_on(self.stores.execute(job));
        self.done.push((id, result));
        true
    }

    pub fn tick(&mut self) {
        self.world.clock.0.fetch_add(100, Ordering::Relaxed);
        self.world.step(Event::Tick);
    }

    /// What comes next when nothing is drawn: each call is one step that a crash may follow.
    pub fn one_step(&mut self) {
        if !self.deliver() && !self.sync() && !self.execute(0) {
            self.tick();
        }
    }

    /// A power cut of the master: the store goes on with nothing, answers under way are lost.
    pub fn crash(&mut self) {
        self.done.clear();
        self.world.crash();
        self.stores = Stores::new(self.world.shared.clone(), self.key.clone());
        self.stores.put(ROOT_MOUNT, self.store.clone());
    }

    pub fn is_quiet(&self) -> bool {
        let world = &self.world;
        self.done.is_empty()
            && world.jobs.is_empty()
            && world.appends.is_empty()
            && world.core.leading
            && world.core.namespace().intents().next().is_none()
            && world.core.queue.is_empty()
            && meta::detached(&world.shared.state.latest(), None, 1).expect("readable").is_empty()
    }

    pub fn settle(&mut self) {
        self.tick();
        for _ in 0..STUCK {
            if self.is_quiet() {
                return;
            }
            self.one_step();
        }
        panic!("it does not come to rest: {:?}", self.world.core.namespace().intents().collect::<Vec<_>>());
    }

    // ---- a client

    pub fn operation(&mut self) -> OperationId {
        self.next_operation += 1;
        OperationId(self.next_operation)
    }

    pub fn ask(&mut self, operation: OperationId, op: &Op) -> Ticket {
        let ticket = Ticket(self.world.next_ticket);
        self.world.next_ticket += 1;
        let came = self.world.clock.monotonic();
        let deadline = came + Duration::from_secs(5);
        let request = Request { who: Caller::system(), operation: Some(operation), op: op.clone(), came, deadline };
        self.world.step(Event::Request(ticket, request));
        ticket
    }

    /// Asks until it is answered for good, as clients do: the same operation again after a crash, and when told to wait.
    /// `between` is called before each look.
    pub fn insist(
        &mut self,
        operation: OperationId,
        op: &Op,
        mut between: impl FnMut(&mut Sea),
    ) -> Result<Done, Error> {
        let mut ticket = self.ask(operation, op);
        for _ in 0..STUCK {
            between(self);
            match self.world.answers.get(&ticket) {
                Some(Ok(done)) => return Ok(done.clone()),
                Some(Err(err)) if err.kind().is_transient() => ticket = self.ask(operation, op),
                Some(Err(err)) => return Err(err.clone()),
                // A crash takes who waited along.
                None if !self.world.core_knows(ticket) => ticket = self.ask(operation, op),
                None => {}
            }
        }
        panic!("{op:?} is never answered");
    }

    /// Puts an object where the store has nothing to say about who did.
    pub fn put(&self, key: &str, content: &str) -> ufs::ObjectInfo {
        self.runtime.block_on(async {
            let mut writer =
                self.store.write(&Key::parse(key).expect("a key"), WriteOptions::default()).await.expect("a writer");
            writer.write(content.to_owned().into()).await.expect("it takes bytes");
            writer.finish().await.expect("it takes objects")
        })
    }

    pub fn delete(&self, key: &str) {
        self.runtime.block_on(self.store.delete(&Key::parse(key).expect("a key"), None)).expect("it deletes");
    }

    /// Every object with its content.
    pub fn objects(&self) -> BTreeMap<String, String> {
        self.runtime.block_on(async {
            let page = self.store.list_recursive(&Key::root(), None, 10_000).await.expect("it lists");
            let mut out = BTreeMap::new();
            for entry in page.entries.iter().filter(|entry| entry.kind == ufs::ObjectKind::File) {
                let read = self.store.read(&entry.key, 0..entry.length, None).await.expect("it reads");
                let bytes = read.collect().await.expect("it reads");
                out.insert(entry.key.as_str().to_owned(), String::from_utf8_lossy(&bytes).into_owned());
            }
            out
        })
    }

    /// Writes a file through to the store, as a client and a worker together do.
    pub fn write(&mut self, at: &str, content: &str, mut between: impl FnMut(&mut Sea)) {
        let create = CreateFile {
            path: path(at),
            block_bytes: 1 << 20,
            recursive: true,
            mode: Mode::new(0o644),
            write_type: Some(WriteType::CacheThrough),
        };
        let length = u64::try_from(content.len()).expect("small");
        let operation = self.operation();
        self.insist(operation, &Op::CreateFile(create), &mut between)
            .unwrap_or_else(|err| panic!("create {at}: {err}"));
        let spot = self.status(at).expect("just made").spot;
        let container = spot.inode.container;
        let info = self.put(&spot.key, content);
        let operation = self.operation();
        let close = CloseStream { container, fingerprint: info.fingerprint, length };
        self.insist(operation, &Op::CloseStream(close), &mut between).unwrap_or_else(|err| panic!("close {at}: {err}"));
        let complete = CompleteFile {
            path: path(at),
            file: Some(container.file()),
            length,
            checksum: None,
            locations: Vec::new(),
            persist_after_ms: None,
            force_persisted: false,
        };
        let operation = self.operation();
        self.insist(operation, &Op::CompleteFile(complete), &mut between)
            .unwrap_or_else(|err| panic!("complete {at}: {err}"));
    }

    // ---- looking

    pub fn status(&self, at: &str) -> Option<Status> {
        meta::status(&self.world.shared.state.latest(), &Caller::system(), &path(at)).expect("readable").ok()
    }

    /// Every inode below `/`.
    pub fn tree(&self) -> Vec<Status> {
        let mut out = Vec::new();
        let mut directories = vec![GfsPath::root()];
        while let Some(at) = directories.pop() {
            let page = meta::list(&self.world.shared.state.latest(), &Caller::system(), &at, None, 10_000)
                .expect("readable")
                .expect("it stands");
            for entry in page.entries {
                if entry.spot.inode.is_directory() {
                    directories.push(entry.spot.path.clone());
                }
                out.push(entry);
            }
        }
        out
    }

    /// Asks the store about every file, as a worker makes the master do that finds another version than it was told.
    pub fn refresh(&mut self) {
        for status in self.tree().into_iter().filter(|status| status.spot.inode.file().is_some()) {
            let spot = status.spot;
            self.world.want_from_store(Want::Inode { inode: spot.inode.id, mount: spot.mount, key: spot.key });
            self.settle();
        }
    }

    /// The persisted files, by store key, each checked against the version the store has.
    pub fn persisted(&self) -> BTreeMap<String, Status> {
        let mut out = BTreeMap::new();
        for status in self.tree() {
            let Some(file) = status.spot.inode.file() else { continue };
            assert!(file.complete, "{} is half-done", status.spot.path);
            let key = Key::parse(&status.spot.key).expect("a key");
            let info = self.runtime.block_on(self.store.stat(&key)).expect("it answers");
            let there = info.unwrap_or_else(|| panic!("{} has no object at {key}", status.spot.path));
            assert_eq!(file.fingerprint, there.fingerprint, "{} is another version than {key}", status.spot.path);
            out.insert(status.spot.key.clone(), status);
        }
        out
    }
}

impl World {
    /// Whether an answer can still come for this ticket.
    fn core_knows(&self, ticket: Ticket) -> bool {
        let core = &self.core;
        let mine = |proposal: &Proposal| proposal.origin == Origin::Client(ticket);
        core.queue.iter().any(mine)
            || core.proposals.values().any(mine)
            || core.outcomes.values().flatten().any(|(waiting, _)| *waiting == ticket)
            || core.covered.values().flatten().any(|(proposal, ..)| mine(proposal))
    }
}
