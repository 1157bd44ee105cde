//! Random histories against a tree of paths written on its own, with retries anywhere, and replays of what came out.

use super::persists::{begin, finish, grant};
use super::world::*;
use crate::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use types::{OperationId, WriteType};

#[derive(Clone, Debug)]
enum Action {
    Mkdir(String, bool),
    Create(String, bool, bool),
    /// Closes the stream first, where there is one.
    Complete(String),
    Persist(String),
    Rename(String, String),
    Remove(String, bool, bool),
    Done,
    Refused,
    Collect,
    /// Asks for an earlier operation again.
    Retry(usize),
}

fn paths() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|names| names.join("/"))
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let one = prop_oneof![
        3 => (paths(), any::<bool>()).prop_map(|(at, recursive)| Action::Mkdir(at, recursive)),
        5 => (paths(), any::<bool>(), any::<bool>()).prop_map(|(at, recursive, through)| Action::Create(at, recursive, through)),
        5 => paths().prop_map(Action::Complete),
        2 => paths().prop_map(Action::Persist),
        8 => (paths(), paths()).prop_map(|(from, to)| Action::Rename(from, to)),
        4 => (paths(), any::<bool>(), prop::bool::weighted(0.3)).prop_map(|(at, recursive, only)| Action::Remove(at, recursive, only)),
        4 => Just(Action::Done),
        1 => Just(Action::Refused),
        2 => Just(Action::Collect),
        2 => any::<prop::sample::Index>().prop_map(|index| Action::Retry(index.index(1_000))),
    ];
    proptest::collection::vec(one, 1..60)
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Directory {
        persisted: bool,
    },
    /// Made before a directory above it moved: its stream went elsewhere.
    Writing {
        through: bool,
        closed: bool,
        moved: bool,
    },
    Cached,
    Waiting,
    Stored,
}

#[derive(Clone, Debug)]
enum Open {
    Delete(String),
    RenameFile(String, String),
    MoveTree(String, String),
}

/// Paths without the leading slash, and the names that are reserved.
#[derive(Default)]
struct Model {
    tree: BTreeMap<String, Kind>,
    open: Vec<Open>,
}

fn is_within(path: &str, top: &str) -> bool {
    path == top || path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'))
}
fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}
fn above(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(parent(path), |at| parent(at))
}

impl Model {
    fn is_directory(&self, path: &str) -> bool {
        matches!(self.tree.get(path), Some(Kind::Directory { .. }))
    }
    fn has_children(&self, path: &str) -> bool {
        self.tree.keys().any(|at| at != path && is_within(at, path))
    }
    /// Refusals that a walk along the path meets.
    fn walk(&self, path: &str) -> Result<(), &'static str> {
        let file = above(path).any(|at| self.tree.contains_key(at) && !self.is_directory(at));
        if file { Err("ParentIsFile") } else { Ok(()) }
    }
    fn check_covered(&self, path: &str, directory: bool) -> Result<(), &'static str> {
        let reserved = self.open.iter().flat_map(|open| match open {
            Open::Delete(at) => vec![at],
            Open::RenameFile(from, to) | Open::MoveTree(from, to) => vec![from, to],
        });
        let covers = |at: &String| is_within(path, at) || (directory && is_within(at, path));
        if reserved.into_iter().any(covers) { Err("Covered") } else { Ok(()) }
    }
    fn check_new(&self, path: &str, recursive: bool) -> Result<(), &'static str> {
        if self.tree.contains_key(path) {
            return Err("AlreadyExists");
        }
        if !recursive && parent(path).is_some_and(|parent| !self.tree.contains_key(parent)) {
            return Err("NotFound");
        }
        self.check_covered(path, false)
    }
    fn make(&mut self, path: &str, kind: Kind) {
        for at in above(path) {
            self.tree.entry(at.to_owned()).or_insert(Kind::Directory { persisted: false });
        }
        self.tree.insert(path.to_owned(), kind);
    }
    fn mark_persisted(&mut self, path: &str) {
        for at in above(path) {
            self.tree.insert(at.to_owned(), Kind::Directory { persisted: true });
        }
    }
    fn take(&mut self, path: &str) -> Vec<(String, Kind)> {
        let names: Vec<String> = self.tree.keys().filter(|at| is_within(at, path)).cloned().collect();
        names.into_iter().map(|at| (at[path.len()..].to_owned(), self.tree.remove(&at).expect("just seen"))).collect()
    }
    fn move_all(&mut self, from: &str, to: &str) {
        for (rest, mut kind) in self.take(from) {
            if let Kind::Writing { moved, .. } = &mut kind {
                *moved |= !rest.is_empty();
            }
            self.tree.insert(format!("{to}{rest}"), kind);
        }
    }

    fn mkdir(&mut self, path: &str, recursive: bool) -> Result<(), &'static str> {
        self.walk(path)?;
        if self.is_directory(path) {
            return Ok(());
        }
        self.check_new(path, recursive)?;
        self.make(path, Kind::Directory { persisted: false });
        Ok(())
    }

    fn create(&mut self, path: &str, recursive: bool, through: bool) -> Result<(), &'static str> {
        self.walk(path)?;
        self.check_new(path, recursive)?;
        self.make(path, Kind::Writing { through, closed: false, moved: false });
        if through {
            self.mark_persisted(path);
        }
        Ok(())
    }

    fn close_stream(&mut self, path: &str) -> Result<(), &'static str> {
        let Some(Kind::Writing { through: true, closed, moved }) = self.tree.get_mut(path) else {
            return Err("no stream");
        };
        if *moved {
            return Err("Stale");
        }
        let was = std::mem::replace(closed, false);
        self.check_covered(path, false).inspect_err(|_| assert!(!was, "a closed stream is closed once"))?;
        self.tree.insert(path.to_owned(), Kind::Writing { through: true, closed: true, moved: false });
        self.mark_persisted(path);
        Ok(())
    }

    fn complete(&mut self, path: &str) -> Result<(), &'static str> {
        self.walk(path)?;
        let kind = match self.tree.get(path) {
            None => return Err("NotFound"),
            Some(Kind::Directory { .. }) => return Err("IsDirectory"),
            Some(Kind::Writing { through: true, closed: false, .. }) => return Err("Refused"),
            Some(Kind::Writing { through: true, closed: true, .. }) => Kind::Stored,
            Some(Kind::Writing { through: false, .. }) => Kind::Cached,
            Some(Kind::Cached | Kind::Waiting | Kind::Stored) => return Ok(()),
        };
        self.tree.insert(path.to_owned(), kind);
        Ok(())
    }

    fn schedule(&mut self, path: &str) -> Result<(), &'static str> {
        self.walk(path)?;
        match self.tree.get(path) {
            None => Err("NotFound"),
            Some(Kind::Directory { .. }) => Err("IsDirectory"),
            Some(Kind::Writing { .. }) => Err("Incomplete"),
            Some(Kind::Waiting | Kind::Stored) => Ok(()),
            Some(Kind::Cached) => {
                self.tree.insert(path.to_owned(), Kind::Waiting);
                Ok(())
            }
        }
    }

    fn begin_persist(&mut self, path: &str) -> Result<(), &'static str> {
        self.check_covered(path, false)
    }

    fn finish_persist(&mut self, path: &str) {
        self.mark_persisted(path);
        self.tree.insert(path.to_owned(), Kind::Stored);
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<bool, &'static str> {
        self.walk(from)?;
        let kind = *self.tree.get(from).ok_or("NotFound")?;
        if from != to && is_within(to, from) {
            return Err("IntoItself");
        }
        self.walk(to)?;
        if self.tree.contains_key(to) {
            return Err("AlreadyExists");
        }
        if parent(to).is_some_and(|parent| !self.tree.contains_key(parent)) {
            return Err("NotFound");
        }
        let directory = self.is_directory(from);
        self.check_covered(from, directory)?;
        self.check_covered(to, directory)?;
        match kind {
            Kind::Writing { through: true, .. } => return Err("Incomplete"),
            Kind::Stored => {
                self.open.push(Open::RenameFile(from.to_owned(), to.to_owned()));
                return Ok(true);
            }
            Kind::Directory { persisted: true } => {
                self.mark_persisted(to);
                self.open.push(Open::MoveTree(from.to_owned(), to.to_owned()));
            }
            Kind::Directory { persisted: false } | Kind::Writing { .. } | Kind::Cached | Kind::Waiting => {}
        }
        self.move_all(from, to);
        Ok(false)
    }

    fn remove(&mut self, path: &str, recursive: bool, only: bool) -> Result<bool, &'static str> {
        self.walk(path)?;
        let kind = *self.tree.get(path).ok_or("NotFound")?;
        if let Kind::Directory { persisted } = kind {
            if !recursive && self.has_children(path) {
                return Err("NotEmpty");
            }
            if !recursive && !only && persisted {
                return Err("Busy"); // nothing is ever loaded here
            }
        }
        self.check_covered(path, self.is_directory(path))?;
        self.take(path);
        let (in_store, decides) = match kind {
            Kind::Directory { persisted } => (persisted, false),
            Kind::Stored | Kind::Writing { closed: true, .. } | Kind::Writing { through: true, .. } => (true, true),
            Kind::Cached | Kind::Waiting | Kind::Writing { .. } => (false, false),
        };
        if in_store && !only {
            self.open.push(Open::Delete(path.to_owned()));
            return Ok(decides);
        }
        Ok(false)
    }

    fn close_oldest(&mut self, done: bool) {
        match self.open.remove(0) {
            Open::Delete(_) => {}
            Open::RenameFile(from, to) if done => {
                self.move_all(&from, &to);
                self.mark_persisted(&to);
            }
            Open::MoveTree(from, to) if !done => self.move_all(&to, &from),
            Open::RenameFile(..) | Open::MoveTree(..) => {}
        }
    }

    fn text(&self) -> String {
        // By names, level by level, as a listing sorts them.
        let mut entries: Vec<(Vec<&str>, Kind)> =
            self.tree.iter().map(|(at, kind)| (at.split('/').collect(), *kind)).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mark = |kind: Kind| match kind {
            Kind::Directory { .. } => "/",
            Kind::Writing { .. } => "?",
            Kind::Cached => "",
            Kind::Waiting => "~",
            Kind::Stored => "!",
        };
        let words: Vec<String> = entries.iter().map(|(at, kind)| format!("/{}{}", at.join("/"), mark(*kind))).collect();
        words.join(" ")
    }
}

fn word(outcome: Result<bool, &'static str>) -> String {
    match outcome {
        Ok(false) => "ok".to_owned(),
        Ok(true) => "pending".to_owned(),
        Err(name) => name.to_owned(),
    }
}

/// One history on both sides.
struct Run {
    world: World,
    model: Model,
    operations: Vec<(u128, Op)>,
}

impl Run {
    fn new() -> Run {
        Run { world: World::with(""), model: Model::default(), operations: Vec::new() }
    }

    fn ask(&mut self, op: Op) -> String {
        let id = u128::try_from(self.operations.len()).expect("a short history");
        self.operations.push((id, op.clone()));
        short(&self.world.run_with(id, op).outcome)
    }

    fn step(&mut self, action: &Action) -> Result<(), TestCaseError> {
        let (found, expected) = match action {
            Action::Mkdir(at, recursive) => {
                let op = mkdir(&format!("/{at}"), *recursive);
                (self.ask(op), word(self.model.mkdir(at, *recursive).map(|()| false)))
            }
            Action::Create(at, recursive, through) => {
                let kind = if *through { WriteType::CacheThrough } else { WriteType::MustCache };
                let op = create(&format!("/{at}"), *recursive, Some(kind));
                (self.ask(op), word(self.model.create(at, *recursive, *through).map(|()| false)))
            }
            Action::Complete(at) => {
                if matches!(self.model.tree.get(at), Some(Kind::Writing { through: true, closed: false, .. })) {
                    let closed = short(&self.world.close_stream(&format!("/{at}"), 10));
                    let expected = self.model.close_stream(at).map_or_else(str::to_owned, |()| "ok".to_owned());
                    prop_assert_eq!(closed, expected, "close the stream of {}", at);
                }
                let op = complete(&format!("/{at}"), 10);
                (self.ask(op), word(self.model.complete(at).map(|()| false)))
            }
            Action::Persist(at) => {
                let op = self.world.parse(&format!("persist /{at}"));
                let outcome = (self.ask(op), word(self.model.schedule(at).map(|()| false)));
                if outcome.0 == "ok" && self.model.tree.get(at) == Some(&Kind::Waiting) {
                    self.persist(at)?;
                }
                outcome
            }
            Action::Rename(from, to) => {
                let op = Op::Rename(Rename { path: path(&format!("/{from}")), to: path(&format!("/{to}")) });
                (self.ask(op), word(self.model.rename(from, to)))
            }
            Action::Remove(at, recursive, only) => {
                let op = Remove { path: path(&format!("/{at}")), recursive: *recursive, goosefs_only: *only };
                (self.ask(Op::Remove(op)), word(self.model.remove(at, *recursive, *only)))
            }
            Action::Done | Action::Refused => {
                if self.model.open.is_empty() {
                    return Ok(());
                }
                let done = matches!(action, Action::Done);
                self.model.close_oldest(done);
                (short(&self.world.command(if done { "done" } else { "refused" })), "ok".to_owned())
            }
            Action::Collect => {
                self.world.command("collect").expect("collecting never fails");
                return Ok(());
            }
            Action::Retry(at) => return self.retry(*at),
        };
        prop_assert_eq!(found, expected, "{:?}", action);
        prop_assert_eq!(self.world.tree(), self.model.text(), "after {:?}", action);
        prop_assert_eq!(self.world.namespace.intents().count(), self.model.open.len());
        Ok(())
    }

    fn persist(&mut self, at: &str) -> Result<(), TestCaseError> {
        let container = self.world.container(&format!("/{at}"));
        let record = persist(&self.world.store, container).expect("a map").expect("it waits");
        let attempt = record.attempt.0 + 1;
        let begun = short(&self.world.run(begin(container, attempt)).outcome);
        prop_assert_eq!(&begun, &word(self.model.begin_persist(at).map(|()| false)), "begin to persist {}", at);
        if begun == "ok" {
            self.world.run(grant(container, attempt)).outcome.expect("just begun");
            self.world.run(finish(container, attempt)).outcome.expect("just granted");
            self.model.finish_persist(at);
        }
        Ok(())
    }

    /// An operation that had an effect changes nothing when it comes again.
    fn retry(&mut self, at: usize) -> Result<(), TestCaseError> {
        if self.operations.is_empty() {
            return Ok(());
        }
        let (id, op) = self.operations[at % self.operations.len()].clone();
        let Some(known) = operation(&self.world.store, OperationId(id)).expect("a map") else { return Ok(()) };
        let before = self.world.store.clone();
        let again = self.world.run_with(id, op);
        prop_assert_eq!(again.outcome, Ok(known.done()));
        prop_assert!(again.effects.is_empty());
        prop_assert_eq!(without_counters(&self.world.store), without_counters(&before));
        Ok(())
    }
}

fn without_counters(store: &MemoryStore) -> MemoryStore {
    let mut store = store.clone();
    let key = COUNTERS_KEY.to_vec().into();
    store.apply(&Changes {
        applied: types::LogIndex(0),
        changes: vec![Change { family: Family::State, key, value: None }],
    });
    store
}

/// The log in batches of `size`, from nothing, opened anew after the `cut`-th entry.
fn replay(log: &[(types::LogIndex, Entry)], size: usize, cut: usize) -> (MemoryStore, Namespace, Vec<Applied>) {
    let mut store = MemoryStore::default();
    let mut namespace = Namespace::open(&store).expect("a map");
    let mut outcomes = Vec::new();
    let (before, after) = log.split_at(cut.min(log.len()));
    for part in [before, after] {
        for batch in part.chunks(size) {
            let (changes, applied) = namespace.apply(&store, batch).expect("a map");
            store.apply(&changes);
            outcomes.extend(applied);
        }
        namespace = Namespace::open(&store).expect("a map");
    }
    (store, namespace, outcomes)
}

proptest! {
    #[test]
    fn histories_agree_with_the_model_and_with_their_replays(actions in actions(), size in 1..40_usize, cut in 0..60_usize) {
        let mut run = Run::new();
        for action in &actions {
            run.step(action)?;
        }
        let one_by_one = replay(&run.world.log, 1, 0);
        prop_assert_eq!(&one_by_one.0, &run.world.store);
        prop_assert_eq!(&one_by_one.1, &run.world.namespace);
        let batched = replay(&run.world.log, size, cut);
        prop_assert_eq!(&batched.0, &one_by_one.0);
        prop_assert_eq!(&batched.1, &one_by_one.1);
        prop_assert_eq!(&batched.2, &one_by_one.2);
        let (changes, _) = Namespace::open(&MemoryStore::default()).expect("a map").apply(&MemoryStore::default(), &run.world.log).expect("a map");
        let (again, _) = Namespace::open(&MemoryStore::default()).expect("a map").apply(&MemoryStore::default(), &run.world.log).expect("a map");
        prop_assert_eq!(changes, again);
    }
}
