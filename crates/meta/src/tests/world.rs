//! A namespace over a plain map, and a small language for what to do with it.
//!
//! Setup is a list of paths: `/a/` a directory, `/f` a complete file of 10 bytes in the cache, `/f?` one being written,
//! `/f!` one in the store, `/f~` one on its way there, `/f??` one being written through. What is missing above is made.
//!
//! Commands: `mkdir [-p] PATH`, `create [-p] PATH [WRITE_TYPE]`, `complete PATH LENGTH`, `mv FROM TO`, `rm [-r] [-g] PATH`,
//! `chmod [-R] MODE PATH`, `chown OWNER PATH`, `chgrp GROUP PATH`, `xattr PATH NAME=VALUE`, `persist PATH`,
//! `done`, `for-now` and `refused` (close the oldest intent), `collect`. `bob: COMMAND` runs it as bob, who is in group `staff`.

use crate::*;
use types::{
    AgeMs, Attempt, ClusterId, ContainerId, Fingerprint, GfsPath, InodeId, IntentId, LogIndex, Mode, Name, OperationId,
    UnixMs, WriteType,
};

/// Ids given to each entry: more than any path here needs.
const IDS: u32 = 300;

#[derive(Clone)]
pub struct World {
    pub store: MemoryStore,
    pub namespace: Namespace,
    /// Everything that was applied, for replays.
    pub log: Vec<(LogIndex, Entry)>,
    pub effects: Vec<Effect>,
    pub age: AgeMs,
    /// Where the wall clock stands; None: it goes on with the log.
    pub wall: Option<UnixMs>,
}

pub fn path(text: &str) -> GfsPath {
    GfsPath::parse(text).expect("a good path")
}
pub fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}
pub fn etag(text: &str) -> Option<Fingerprint> {
    Some(Fingerprint::Etag(text.to_owned()))
}
pub fn user(name: &str) -> Caller {
    Caller { user: name.to_owned(), groups: vec!["staff".to_owned()], superuser: false }
}
pub fn spec(uri: &str) -> MountSpec {
    MountSpec::plain(uri)
}
pub fn root_user() -> Caller {
    Caller { user: "root".into(), groups: vec!["wheel".into()], superuser: true }
}

pub fn format() -> Op {
    let (owner, group) = ("root".to_owned(), "wheel".to_owned());
    Op::Format(Format { cluster: ClusterId(7), owner, group, mode: Mode::new(0o755), root: spec("mem://root") })
}

/// Text of an outcome: the refusal's name, or what was done.
pub fn short(outcome: &Result<Done, Reject>) -> String {
    match outcome {
        Ok(Done::Nothing | Done::Inode(_) | Done::Mount(_)) => "ok".to_owned(),
        Ok(Done::Pending(_)) => "pending".to_owned(),
        Ok(other) => format!("{other:?}"),
        Err(reject) => format!("{reject:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
    }
}

/// After `setup`, `command` has this outcome.
#[track_caller]
pub fn check(setup: &str, command: &str, outcome: &str) {
    let mut world = World::with(setup);
    assert_eq!(short(&world.command(command)), outcome, "{setup} then {command}");
}

/// After `setup` and `commands`, all of which are taken, the tree is this.
#[track_caller]
pub fn leaves(setup: &str, commands: &[&str], tree: &str) {
    let mut world = World::with(setup);
    for command in commands {
        world.must(command);
    }
    assert_eq!(world.tree(), tree, "{setup} then {commands:?}");
}

impl World {
    pub fn unformatted() -> World {
        let store = MemoryStore::default();
        let namespace = Namespace::open(&store).expect("an empty map answers");
        World { store, namespace, log: Vec::new(), effects: Vec::new(), age: AgeMs(0), wall: None }
    }

    pub fn with(setup: &str) -> World {
        let mut world = World::unformatted();
        world.run(format()).outcome.expect("the first format");
        for word in setup.split_whitespace() {
            world.make(word);
        }
        world.effects.clear();
        world
    }

    fn make(&mut self, word: &str) {
        if let Some(directory) = word.strip_suffix('/') {
            return self.must(&format!("mkdir -p {directory}"));
        }
        let at = word.trim_end_matches(['?', '!', '~']);
        let kind = &word[at.len()..];
        let write_type = if kind == "!" || kind == "??" { "CACHE_THROUGH" } else { "MUST_CACHE" };
        self.must(&format!("create -p {at} {write_type}"));
        match kind {
            "?" | "??" => {}
            "!" => {
                self.close_stream(at, 10).expect("it is being written");
                self.must(&format!("complete {at} 10"));
            }
            "~" => {
                self.must(&format!("complete {at} 10"));
                self.must(&format!("persist {at}"));
            }
            _ => self.must(&format!("complete {at} 10")),
        }
    }

    // ---- applying

    pub fn run(&mut self, op: Op) -> Applied {
        self.run_as(root_user(), None, op)
    }

    pub fn run_with(&mut self, operation: u128, op: Op) -> Applied {
        self.run_as(root_user(), Some(OperationId(operation)), op)
    }

    pub fn run_as(&mut self, who: Caller, operation: Option<OperationId>, op: Op) -> Applied {
        let (at, entry) = self.entry(who, operation, op);
        self.apply(at, entry)
    }

    /// The next entry.
    pub fn entry(&mut self, who: Caller, operation: Option<OperationId>, op: Op) -> (LogIndex, Entry) {
        let counters = self.namespace.counters();
        let at = LogIndex(counters.applied.0 + 1);
        self.age = AgeMs(self.age.0 + 1);
        let ids = Ids { inode: counters.next_inode, container: counters.next_container, count: IDS };
        let wall = self.wall.unwrap_or(UnixMs(1_000 + i64::try_from(at.0).expect("a short history")));
        (at, Entry { wall, age: self.age, who, operation, ids, op })
    }

    pub fn apply(&mut self, at: LogIndex, entry: Entry) -> Applied {
        let batch = [(at, entry)];
        let (changes, mut applied) = self.namespace.apply(&self.store, &batch).expect("a map answers");
        assert!(
            changes.changes.is_sorted_by(|a, b| (a.family, &a.key) < (b.family, &b.key)),
            "one change a key, in order"
        );
        self.store.apply(&changes);
        self.log.extend(batch);
        let applied = applied.pop().expect("one outcome an entry");
        if applied.outcome.is_err() {
            assert_eq!(changes.changes.len(), 1, "a refusal changes counters only");
        }
        self.effects.extend(applied.effects.clone());
        let wrong = self.namespace.check_invariants(&self.store).expect("a map answers");
        assert!(wrong.is_empty(), "{wrong:#?}\nafter {:?}", self.log.last());
        applied
    }

    #[track_caller]
    pub fn must(&mut self, command: &str) {
        let outcome = self.command(command);
        assert!(outcome.is_ok(), "{command}: {outcome:?}");
    }

    // ---- commands

    pub fn command(&mut self, command: &str) -> Result<Done, Reject> {
        let (who, command) = match command.split_once(": ") {
            Some((who, command)) => (user(who), command),
            None => (root_user(), command),
        };
        let op = self.parse(command);
        self.run_as(who, None, op).outcome
    }

    pub fn parse(&self, command: &str) -> Op {
        let words: Vec<&str> = command.split_whitespace().collect();
        let flag = |flag: &str| words.contains(&flag);
        let plain: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with('-')).collect();
        let arg = |index: usize| *plain.get(index).unwrap_or_else(|| panic!("{command} lacks an argument"));
        let at = |index: usize| path(arg(index));
        match plain[0] {
            "mkdir" => mkdir(arg(1), flag("-p")),
            "create" => {
                create(arg(1), flag("-p"), plain.get(2).map(|kind| WriteType::from_name(kind).expect("a type")))
            }
            "complete" => complete(arg(1), arg(2).parse().expect("a length")),
            "mv" => Op::Rename(Rename { path: at(1), to: at(2) }),
            "rm" => Op::Remove(Remove { path: at(1), recursive: flag("-r"), goosefs_only: flag("-g") }),
            "chmod" => {
                let mode = Mode::new(u16::from_str_radix(arg(1), 8).expect("an octal mode"));
                Op::SetAttribute(SetAttribute { mode: Some(mode), recursive: flag("-R"), ..attributes(arg(2)) })
            }
            "chown" => Op::SetAttribute(SetAttribute { owner: Some(arg(1).to_owned()), ..attributes(arg(2)) }),
            "chgrp" => Op::SetAttribute(SetAttribute { group: Some(arg(1).to_owned()), ..attributes(arg(2)) }),
            "xattr" => {
                let (name, value) = arg(2).split_once('=').expect("name=value");
                Op::SetXattr(SetXattr { path: at(1), name: name.into(), value: Some(value.into()) })
            }
            "persist" => Op::SchedulePersist(SchedulePersist { path: at(1), after_ms: 0 }),
            "done" => self.close_oldest(IntentEnd::Done { fingerprint: etag("moved") }),
            "for-now" => self.close_oldest(IntentEnd::DoneForNow),
            "refused" => self.close_oldest(IntentEnd::Refused { why: "no".to_owned() }),
            "collect" => {
                let directory = detached(&self.store, None, 1).expect("a map answers");
                let directory = directory.first().copied().unwrap_or(InodeId(0));
                Op::Collect(Collect { directory, limit: 2 })
            }
            other => panic!("{other} is no command"),
        }
    }

    fn close_oldest(&self, end: IntentEnd) -> Op {
        let intent = self.namespace.intents().next().expect("an open intent");
        Op::CloseIntent(CloseIntent { intent: intent.id, attempt: intent.attempt, end })
    }

    pub fn close_stream(&mut self, at: &str, length: u64) -> Result<Done, Reject> {
        let container = self.container(at);
        self.run(Op::CloseStream(CloseStream { container, fingerprint: etag("written"), length })).outcome
    }

    // ---- looking

    pub fn status(&self, at: &str) -> Status {
        self.find(at).unwrap_or_else(|reject| panic!("{at}: {reject}"))
    }

    pub fn find(&self, at: &str) -> Result<Status, Reject> {
        status(&self.store, &Caller::system(), &path(at)).expect("a map answers")
    }

    pub fn file(&self, at: &str) -> File {
        self.status(at).spot.inode.file().cloned().expect("a file")
    }

    pub fn directory(&self, at: &str) -> Directory {
        self.status(at).spot.inode.directory().cloned().expect("a directory")
    }

    pub fn container(&self, at: &str) -> ContainerId {
        self.status(at).spot.inode.container
    }

    pub fn inode(&self, at: &str) -> InodeId {
        self.status(at).spot.inode.id
    }

    pub fn intent(&self) -> &Intent {
        self.namespace.intents().next().expect("an open intent")
    }

    /// Everything below `/` in the words of the setup, in order.
    pub fn tree(&self) -> String {
        let mut words = Vec::new();
        self.collect_tree(&GfsPath::root(), &mut words);
        words.join(" ")
    }

    fn collect_tree(&self, at: &GfsPath, words: &mut Vec<String>) {
        let page = list(&self.store, &Caller::system(), at, None, 1_000).expect("a map answers").expect("it stands");
        for entry in page.entries {
            match &entry.spot.inode.node {
                Node::Directory(_) => {
                    words.push(format!("{}/", entry.spot.path));
                    self.collect_tree(&entry.spot.path, words);
                }
                Node::File(file) => {
                    let mark = match file.persistence {
                        _ if !file.complete => "?",
                        types::PersistenceState::NotPersisted => "",
                        types::PersistenceState::ToBePersisted => "~",
                        types::PersistenceState::Persisted => "!",
                        types::PersistenceState::Lost => "†",
                    };
                    words.push(format!("{}{mark}", entry.spot.path));
                }
            }
        }
    }
}

pub fn mkdir(at: &str, recursive: bool) -> Op {
    Op::CreateDirectory(CreateDirectory { path: path(at), recursive, allow_exists: true, mode: Mode::new(0o755) })
}

pub fn create(at: &str, recursive: bool, write_type: Option<WriteType>) -> Op {
    Op::CreateFile(CreateFile { path: path(at), block_bytes: 4, recursive, mode: Mode::new(0o644), write_type })
}

pub fn complete_file(at: &str, length: u64) -> CompleteFile {
    CompleteFile {
        path: path(at),
        file: None,
        length,
        checksum: None,
        locations: Vec::new(),
        persist_after_ms: None,
        force_persisted: false,
    }
}

pub fn complete(at: &str, length: u64) -> Op {
    Op::CompleteFile(complete_file(at, length))
}

pub fn attributes(at: &str) -> SetAttribute {
    SetAttribute { path: path(at), mode: None, owner: None, group: None, recursive: false }
}

pub fn close(intent: IntentId, attempt: Attempt, end: IntentEnd) -> Op {
    Op::CloseIntent(CloseIntent { intent, attempt, end })
}
