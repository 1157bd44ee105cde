//! Random histories beside a store of objects, with everything that can come late coming late: listings, answers, closed
//! streams, uploads, deletes and moves, and what workers sent before they died. Nothing acknowledged is lost, nothing
//! removed comes back or stays behind, and once the store was asked for everything the namespace says what the store says.

use super::persists::{begin, grant};
use super::world::*;
use crate::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use types::{
    Attempt, ContainerId, Fingerprint, InodeId, IntentId, LoadId, LogIndex, MountId, PersistenceState, WriteType,
};

#[derive(Clone, Debug)]
enum Action {
    Mkdir(String),
    Create(String, WriteType),
    /// A file that was written through, without anything coming between.
    Stored(String),
    Rename(String, String),
    Remove(String, bool, bool),
    /// A stream goes one stage on: its worker may complete it; its object appears; it is reported; the file is completed.
    Stream(usize),
    /// The worker of a stream dies. What it sent last is on its way.
    Kill(usize),
    /// What a dead worker sent arrives.
    Land(usize),
    CompleteCached(String),
    Persist(usize, bool),
    /// An intent goes one stage on: the store does it; it is closed.
    Intent(usize),
    OpenLoad(String),
    Load(usize),
    Look(String),
    LookOn(usize),
    Sync(String),
    SyncOn(usize),
    Collect,
    /// Somebody else writes or deletes an object.
    Foreign(String, bool),
}

/// Mostly near the top, so that what comes late meets what happened meanwhile.
fn paths() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "a", "a", "b", "b", "a/a", "a/a", "a/b", "b/a", "b/b", "a/a/a", "a/b/a", "b/b/b"])
        .prop_map(str::to_owned)
}
fn foreign() -> impl Strategy<Value = String> {
    (proptest::collection::vec(prop::sample::select(vec!["a", "b"]), 0..3), prop::sample::select(vec!["x", "y"]))
        .prop_map(|(mut names, last)| {
            names.push(last);
            names.join("/")
        })
}
fn write_types() -> impl Strategy<Value = WriteType> {
    prop::sample::select(vec![
        WriteType::MustCache,
        WriteType::CacheThrough,
        WriteType::Through,
        WriteType::AsyncThrough,
    ])
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let index = || 0..4_usize;
    let one = prop_oneof![
        2 => paths().prop_map(Action::Mkdir),
        5 => (paths(), write_types()).prop_map(|(at, kind)| Action::Create(at, kind)),
        6 => paths().prop_map(Action::Stored),
        6 => (paths(), paths()).prop_map(|(from, to)| Action::Rename(from, to)),
        5 => (paths(), any::<bool>(), prop::bool::weighted(0.3)).prop_map(|(at, recursive, only)| Action::Remove(at, recursive, only)),
        10 => index().prop_map(Action::Stream),
        2 => index().prop_map(Action::Kill),
        2 => index().prop_map(Action::Land),
        2 => paths().prop_map(Action::CompleteCached),
        6 => (index(), prop::bool::weighted(0.8)).prop_map(|(index, works)| Action::Persist(index, works)),
        8 => index().prop_map(Action::Intent),
        2 => paths().prop_map(Action::OpenLoad),
        1 => Just(Action::OpenLoad(String::new())),
        4 => index().prop_map(Action::Load),
        3 => prop_oneof![paths(), foreign()].prop_map(Action::Look),
        4 => index().prop_map(Action::LookOn),
        3 => prop_oneof![paths(), foreign()].prop_map(Action::Sync),
        4 => index().prop_map(Action::SyncOn),
        1 => Just(Action::Collect),
        3 => (foreign(), prop::bool::weighted(0.6)).prop_map(|(key, put)| Action::Foreign(key, put)),
    ];
    proptest::collection::vec(one, 1..100)
}

#[derive(Clone, Debug)]
struct Stream {
    container: ContainerId,
    key: String,
    may_complete: bool,
    tag: Option<String>,
    reported: bool,
}

#[derive(Clone, Debug)]
struct Asked<T> {
    what: T,
    seen: LogIndex,
    answer: Option<Option<Found>>,
}

struct Sim {
    world: World,
    objects: BTreeMap<String, String>,
    next_tag: u64,
    streams: Vec<Stream>,
    /// Uploads that were granted: container, attempt, key, whether the object is there.
    uploads: Vec<(ContainerId, u32, String, bool)>,
    /// Uploads that nobody waits for any more, and that may yet land: of which file, and where.
    late: Vec<(ContainerId, String)>,
    executed: BTreeMap<IntentId, IntentEnd>,
    loads: Vec<(InodeId, LoadId, String, Option<Vec<Found>>)>,
    looks: Vec<Asked<(types::GfsPath, String)>>,
    syncs: Vec<Asked<(InodeId, String)>>,
    /// Objects that writers took back: what was loaded of them meanwhile is like any foreign change.
    taken_back: BTreeSet<String>,
    /// Keys that were an object and a prefix at once: one hides the other.
    twofold: BTreeSet<String>,
}

fn pick<T>(items: &[T], index: usize) -> Option<usize> {
    (!items.is_empty()).then(|| index % items.len())
}

impl Sim {
    fn new() -> Sim {
        Sim {
            world: World::with(""),
            objects: BTreeMap::new(),
            next_tag: 0,
            streams: Vec::new(),
            uploads: Vec::new(),
            late: Vec::new(),
            executed: BTreeMap::new(),
            loads: Vec::new(),
            looks: Vec::new(),
            syncs: Vec::new(),
            taken_back: BTreeSet::new(),
            twofold: BTreeSet::new(),
        }
    }

    fn root() -> MountId {
        MountId(1)
    }

    // ---- the store

    fn put(&mut self, key: &str) -> String {
        self.next_tag += 1;
        let tag = format!("t{}", self.next_tag);
        self.objects.insert(key.to_owned(), tag.clone());
        tag
    }

    /// A file's own bytes have the same tag however often they are uploaded.
    fn upload(&mut self, key: &str, container: ContainerId) -> String {
        let tag = format!("of-{}", container.0);
        self.objects.insert(key.to_owned(), tag.clone());
        tag
    }

    /// Whether something may land at a key or, if it is a directory's, below it.
    fn may_land(&self, key: &str) -> bool {
        let streams = self.streams.iter().filter(|stream| stream.may_complete && stream.tag.is_none());
        let uploads = self.uploads.iter().filter(|(_, _, _, there)| !there);
        let late = self.late.iter().map(|(_, at)| at);
        let mut all = streams.map(|stream| &stream.key).chain(uploads.map(|(_, _, at, _)| at)).chain(late);
        all.any(|at| at == key || (key.ends_with('/') && at.starts_with(key)))
    }

    fn stat(&self, key: &str) -> Option<Found> {
        let plain = key.trim_end_matches('/');
        let last = plain.rsplit('/').next().unwrap_or_default();
        if plain.is_empty() {
            return None;
        }
        match self.objects.get(plain) {
            Some(tag) => Some(super::loads::found(&format!("{last}={tag}"))),
            None if self.below(&format!("{plain}/")).next().is_some() => Some(super::loads::found(&format!("{last}/"))),
            None => None,
        }
    }

    fn note_twofold(&mut self) {
        let is_prefix = |key: &&String| self.below(&format!("{key}/")).next().is_some();
        let found: Vec<String> = self.objects.keys().filter(is_prefix).cloned().collect();
        self.twofold.extend(found);
    }

    fn below(&self, prefix: &str) -> impl Iterator<Item = (&String, &String)> {
        self.objects.iter().filter(move |(key, _)| key.starts_with(prefix))
    }

    fn list(&self, prefix: &str) -> Vec<Found> {
        let names: BTreeSet<String> = self
            .below(prefix)
            .map(|(key, _)| key[prefix.len()..].split('/').next().unwrap_or_default().to_owned())
            .collect();
        names.iter().filter_map(|name| self.stat(&format!("{prefix}{name}"))).collect()
    }

    /// `copies`: the store cannot move, so what is moved stays at its old key as well.
    fn execute(&mut self, kind: &IntentKind, copies: bool) -> IntentEnd {
        let left = match kind {
            IntentKind::DeleteFile { key, .. }
            | IntentKind::DeleteTree { key, .. }
            | IntentKind::DeleteAgain { key, .. }
            | IntentKind::MoveTree { from: key, .. } => Some(key),
            IntentKind::RenameFile { .. } | IntentKind::MakeDirectory { .. } => None,
        };
        match self.change(kind, copies) {
            IntentEnd::Done { .. } if left.is_some_and(|key| self.may_land(key)) => IntentEnd::DoneForNow,
            end => end,
        }
    }

    fn change(&mut self, kind: &IntentKind, copies: bool) -> IntentEnd {
        match kind {
            IntentKind::DeleteFile { key, fingerprint, .. } => {
                let same = |tag: &String| fingerprint.as_ref().is_none_or(|f| *f == Fingerprint::Etag(tag.clone()));
                if self.objects.get(key).is_some_and(same) {
                    self.objects.remove(key);
                }
            }
            IntentKind::DeleteAgain { key, .. } if !key.ends_with('/') => drop(self.objects.remove(key)),
            IntentKind::DeleteTree { key, .. } | IntentKind::DeleteAgain { key, .. } => {
                self.objects.retain(|object, _| !object.starts_with(key.as_str()));
            }
            IntentKind::RenameFile { from, to, fingerprint, .. } => {
                let tag = self.objects.remove(from);
                let expected = match fingerprint {
                    Some(Fingerprint::Etag(tag)) => tag.clone(),
                    other => panic!("{from} has {other:?}"),
                };
                let is_ours = !Sim::is_foreign(from) && !self.taken_back.contains(&expected);
                assert!(!is_ours || tag.as_ref() == Some(&expected), "{from} to move is {tag:?}, not {expected}");
                let Some(tag) = tag else { return IntentEnd::Refused { why: "it is gone".to_owned() } };
                let fingerprint = Some(Fingerprint::Etag(self.put(to)));
                if copies {
                    self.objects.insert(from.clone(), tag);
                    return IntentEnd::Copied { fingerprint };
                }
                return IntentEnd::Done { fingerprint };
            }
            IntentKind::MoveTree { from, to, .. } => {
                let keys: Vec<String> = self.below(from).map(|(key, _)| key.clone()).collect();
                for key in keys {
                    let tag = self.objects.remove(&key).expect("just seen");
                    self.objects.insert(format!("{to}{}", &key[from.len()..]), tag.clone());
                    if copies {
                        self.objects.insert(key, tag);
                    }
                }
                if copies {
                    return IntentEnd::CopiedTree { renewed: Vec::new() };
                }
            }
            IntentKind::MakeDirectory { .. } => {}
        }
        IntentEnd::Done { fingerprint: None }
    }

    // ---- one action

    fn step(&mut self, action: &Action) {
        let at = |text: &str| path(&format!("/{text}"));
        match action {
            Action::Mkdir(text) if self.is_hidden(text) => {}
            Action::Mkdir(text) => drop(self.world.run(mkdir(&format!("/{text}"), true))),
            Action::Create(text, kind) => self.create(text, *kind),
            Action::Stored(text) => {
                self.create(text, WriteType::CacheThrough);
                if let Some(index) = self.streams.iter().position(|stream| !stream.may_complete) {
                    for _ in 0..4 {
                        if index < self.streams.len() {
                            self.stream(index);
                        }
                    }
                }
            }
            Action::Rename(from, to) => {
                if !self.is_hidden(to) {
                    drop(self.world.run(Op::Rename(Rename { path: at(from), to: at(to) })));
                }
            }
            Action::Remove(text, recursive, only) => {
                let key = self.key_of(text);
                let op = Remove { path: at(text), recursive: *recursive, goosefs_only: *only };
                let removed = self.world.run(Op::Remove(op)).outcome.is_ok();
                if let Some(key) = key.filter(|_| removed && *only) {
                    self.forget_uploads(&key);
                }
            }
            Action::Kill(index) => {
                if let Some(index) = pick(&self.streams, *index) {
                    let stream = self.streams.remove(index);
                    if stream.may_complete && stream.tag.is_none() {
                        self.late.push((stream.container, stream.key));
                    }
                }
            }
            Action::Land(index) => {
                if let Some(index) = pick(&self.late, *index) {
                    let (container, key) = self.late.remove(index);
                    self.upload(&key, container);
                }
            }
            Action::Stream(index) => {
                if let Some(index) = pick(&self.streams, *index) {
                    self.stream(index);
                }
            }
            Action::CompleteCached(text) => {
                let cached = self.world.find(&format!("/{text}")).ok();
                let cached = cached.and_then(|status| status.spot.inode.file().map(|file| file.write_type));
                match cached {
                    Some(WriteType::MustCache) => drop(self.world.run(complete(&format!("/{text}"), 10))),
                    Some(WriteType::AsyncThrough) => {
                        let op = CompleteFile { persist_after_ms: Some(0), ..complete_file(&format!("/{text}"), 10) };
                        drop(self.world.run(Op::CompleteFile(op)));
                    }
                    _ => {}
                }
            }
            Action::Persist(index, works) => self.persist(*index, *works),
            Action::Intent(index) => self.intent(*index),
            Action::OpenLoad(text) => self.open_load(text),
            Action::Load(index) => self.load(*index),
            Action::Look(text) => {
                let seen = self.world.namespace.applied();
                let key = self.key_of(text);
                if let Some(key) = key {
                    self.looks.push(Asked { what: (at(text), key), seen, answer: None });
                }
            }
            Action::LookOn(index) => self.look(*index),
            Action::Sync(text) => {
                let seen = self.world.namespace.applied();
                if let Ok(status) = self.world.find(&format!("/{text}")) {
                    let what = (status.spot.inode.id, status.spot.key);
                    self.syncs.push(Asked { what, seen, answer: None });
                }
            }
            Action::SyncOn(index) => self.sync(*index),
            Action::Collect => drop(self.world.command("collect")),
            Action::Foreign(key, true) => drop(self.put(key)),
            Action::Foreign(key, false) => drop(self.objects.remove(key)),
        }
    }

    /// Dropping a name here only says nothing to the store: what lands there later is like any foreign change, and left out.
    fn forget_uploads(&mut self, key: &str) {
        let is_kept = |at: &String| at != key && !at.starts_with(&format!("{key}/"));
        self.late.retain(|(_, at)| is_kept(at));
        self.streams.retain(|stream| is_kept(&stream.key));
    }

    /// Whether the store has something of this name, or above it, that we do not know: the leader looks before it makes
    /// or renames anything.
    fn is_hidden(&self, text: &str) -> bool {
        let ends = text.match_indices('/').map(|(at, _)| at).chain([text.len()]);
        let unknown = |end: usize| {
            let is_unknown = self.world.find(&format!("/{}", &text[..end])).is_err();
            is_unknown && self.key_of(&text[..end]).is_some_and(|key| self.stat(&key).is_some())
        };
        ends.into_iter().any(unknown)
    }

    fn create(&mut self, text: &str, kind: WriteType) {
        if self.is_hidden(text) {
            return;
        }
        let made = self.world.run(create(&format!("/{text}"), true, Some(kind))).outcome;
        if made.is_ok() && kind.is_through() {
            let spot = self.world.status(&format!("/{text}")).spot;
            let (container, key) = (spot.inode.container, spot.key);
            self.streams.push(Stream { container, key, may_complete: false, tag: None, reported: false });
        }
    }

    fn stream(&mut self, index: usize) {
        let stream = self.streams[index].clone();
        if !stream.may_complete {
            // Just before it completes its upload a worker asks whether the name is still its own, and says what it will do.
            let current = settled_at(&self.world.store, Sim::root(), &stream.key).expect("a map");
            if current.is_none_or(|status| status.spot.inode.container != stream.container) {
                self.streams.remove(index);
                return;
            }
            let op = AnnounceStream { container: stream.container };
            match self.world.run(Op::AnnounceStream(op)).outcome {
                Ok(_) => self.streams[index].may_complete = true,
                Err(Reject::Covered { .. }) => {}
                Err(_) => drop(self.streams.remove(index)),
            }
            return;
        }
        let Some(tag) = stream.tag else {
            self.streams[index].tag = Some(self.upload(&stream.key, stream.container));
            return;
        };
        if !stream.reported {
            let (fingerprint, length) = (Some(Fingerprint::Etag(tag.clone())), 10);
            let op = Op::CloseStream(CloseStream { container: stream.container, fingerprint, length });
            match self.world.run(op).outcome {
                Ok(_) => self.streams[index].reported = true,
                Err(Reject::Covered { .. }) => {}
                Err(_) => {
                    let stands = by_key(&self.world.store, Sim::root(), &stream.key).expect("a map").is_some();
                    if !stands && self.objects.get(&stream.key) == Some(&tag) {
                        self.objects.remove(&stream.key);
                    }
                    self.taken_back.insert(tag);
                    self.streams.remove(index);
                }
            }
            return;
        }
        let file = Some(stream.container.file());
        drop(self.world.run(Op::CompleteFile(CompleteFile { file, ..complete_file("/gone", 10) })));
        self.streams.remove(index);
    }

    fn persist(&mut self, index: usize, works: bool) {
        if let Some(at) = pick(&self.uploads, index).filter(|_| index.is_multiple_of(2)) {
            let (container, attempt, key, there) = self.uploads[at].clone();
            if !there && works {
                self.upload(&key, container);
                self.uploads[at].3 = true;
                return;
            }
            self.uploads.remove(at);
            if !there {
                self.late.push((container, key.clone()));
            }
            self.end_upload(container, attempt, &key, works);
            return;
        }
        let waiting = persists(&self.world.store, None, 100).expect("a map");
        let Some(at) = pick(&waiting, index) else { return };
        let (container, record) = &waiting[at];
        if record.granted {
            return;
        }
        let attempt = record.attempt.0 + 1;
        if self.world.run(begin(*container, attempt)).outcome.is_ok()
            && self.world.run(grant(*container, attempt)).outcome.is_ok()
        {
            let record = persist(&self.world.store, *container).expect("a map").expect("just begun");
            self.uploads.push((*container, attempt, record.key, false));
        }
    }

    /// With its object there it is finished, or its answer was lost; without, it failed.
    fn end_upload(&mut self, container: ContainerId, attempt: u32, key: &str, works: bool) {
        let attempt = Attempt(attempt);
        let fingerprint = self.objects.get(key).cloned().map(Fingerprint::Etag);
        let op = match works {
            true => Op::FinishPersist(FinishPersist { container, attempt, fingerprint, length: 10 }),
            false => Op::FailPersist(FailPersist { container, attempt, retry_after_ms: 0, error: "lost".into() }),
        };
        self.world.run(op).outcome.expect("a granted upload holds its file");
    }

    fn intent(&mut self, index: usize) {
        let open: Vec<Intent> = self.world.namespace.intents().cloned().collect();
        let Some(at) = pick(&open, index) else { return };
        let intent = &open[at];
        // Once more, when nothing can land any more.
        if matches!(&intent.kind, IntentKind::DeleteAgain { key, .. } if self.may_land(key)) {
            return;
        }
        match self.executed.remove(&intent.id) {
            None => {
                let end = self.execute(&intent.kind, intent.id.0.is_multiple_of(2));
                self.executed.insert(intent.id, end);
            }
            Some(end) => {
                self.world.run(close(intent.id, intent.attempt, end)).outcome.expect("it is open");
            }
        }
    }

    fn open_load(&mut self, text: &str) {
        let Ok(status) = self.world.find(&format!("/{text}")) else { return };
        let (directory, seen) = (status.spot.inode.id, self.world.namespace.applied());
        if let Ok(Done::Load(load)) = self.world.run(Op::OpenLoad(OpenLoad { directory, seen })).outcome {
            self.loads.push((directory, load, status.spot.key, None));
        }
    }

    fn load(&mut self, index: usize) {
        let Some(at) = pick(&self.loads, index) else { return };
        let (directory, load, key, listed) = self.loads[at].clone();
        match listed {
            None => self.loads[at].3 = Some(self.list(&key)),
            Some(items) => {
                self.loads.remove(at);
                let page = Op::LoadPage(LoadPage { directory, load, items, last: true });
                if self.world.run(page).outcome.is_err() {
                    drop(self.world.run(Op::AbortLoad(AbortLoad { directory, load })));
                }
            }
        }
    }

    /// The key a path stands for, or would.
    fn key_of(&self, text: &str) -> Option<String> {
        let at = path(&format!("/{text}"));
        let resolved = resolve(&self.world.store, &Caller::system(), &at).expect("a map").ok()?;
        let missing: Vec<String> = resolved.missing.iter().map(|name| name.to_string()).collect();
        let key = format!("{}{}", resolved.spots.last()?.key, missing.join("/"));
        Some(key.trim_end_matches('/').to_owned())
    }

    fn look(&mut self, index: usize) {
        let Some(at) = pick(&self.looks, index) else { return };
        let look = self.looks[at].clone();
        let (path, key) = look.what;
        match look.answer {
            None => self.looks[at].answer = Some(self.stat(&key)),
            Some(answer) => {
                self.looks.remove(at);
                let Some(last) = answer else { return };
                let mut chain: Vec<Found> = path.names().map(|name| super::loads::found(&format!("{name}/"))).collect();
                let name = path.names().next_back().map(super::world::name);
                *chain.last_mut().expect("a path below /") = Found { name: name.expect("a path below /"), ..last };
                let op = LoadPath { path, mount: Sim::root(), key, chain, seen: look.seen };
                drop(self.world.run(Op::LoadPath(op)));
            }
        }
    }

    fn sync(&mut self, index: usize) {
        let Some(at) = pick(&self.syncs, index) else { return };
        let sync = self.syncs[at].clone();
        let (inode, key) = sync.what;
        match sync.answer {
            None => self.syncs[at].answer = Some(self.stat(&key)),
            Some(found) => {
                self.syncs.remove(at);
                drop(self.world.run(Op::Sync(Sync { inode, key, found, seen: sync.seen })));
            }
        }
    }

    // ---- at the end

    /// Everything under way comes to its end.
    fn settle(&mut self) {
        for (directory, load, _, _) in std::mem::take(&mut self.loads) {
            drop(self.world.run(Op::AbortLoad(AbortLoad { directory, load })));
        }
        while !self.uploads.is_empty() {
            let (container, attempt, key, there) = self.uploads.remove(0);
            self.end_upload(container, attempt, &key, there);
        }
        for (container, key) in std::mem::take(&mut self.late) {
            self.upload(&key, container);
        }
        for index in (0..self.streams.len()).rev() {
            let stream = &self.streams[index];
            if stream.may_complete && stream.tag.is_none() {
                self.stream(index);
            }
        }
        while self.world.namespace.intents().next().is_some() {
            self.intent(0);
        }
        while !self.streams.is_empty() {
            self.stream(0);
        }
        while !detached(&self.world.store, None, 1).expect("a map").is_empty() {
            self.world.command("collect").expect("something is detached");
        }
    }

    fn spots(&self) -> Vec<Spot> {
        let mut spots = vec![self.world.status("/").spot];
        let mut next = 0;
        while let Some(at) = spots.get(next).cloned() {
            next += 1;
            if at.inode.is_directory() {
                let page =
                    list(&self.world.store, &Caller::system(), &at.path, None, 1_000).expect("a map").expect("there");
                spots.extend(page.entries.into_iter().map(|entry| entry.spot));
            }
        }
        spots
    }

    fn stored(&self) -> BTreeMap<String, String> {
        let spots = self.spots();
        let files = spots.iter().filter_map(|spot| Some((spot, spot.inode.file()?)));
        files
            .filter(|(_, file)| file.persistence == PersistenceState::Persisted)
            .map(|(spot, file)| match &file.fingerprint {
                Some(Fingerprint::Etag(tag)) => (spot.key.clone(), tag.clone()),
                other => panic!("{} has {other:?}", spot.path),
            })
            .collect()
    }

    /// Removes what is not persisted, and with it what it may have left.
    fn remove_unpersisted(&mut self) {
        let unpersisted = |spot: &Spot| {
            spot.inode.file().is_some_and(|file| !file.complete || file.persistence != PersistenceState::Persisted)
        };
        for spot in self.spots().into_iter().filter(unpersisted) {
            let op = Remove { path: spot.path, recursive: false, goosefs_only: false };
            self.world.run(Op::Remove(op)).outcome.expect("nothing is under way");
        }
        self.settle();
    }

    fn is_foreign(key: &str) -> bool {
        key.ends_with('x') || key.ends_with('y')
    }

    /// What we say stands in the store does, and what stands there is known wherever we say that everything is.
    fn check(&self) -> Result<(), TestCaseError> {
        for (key, tag) in self.stored() {
            if !Sim::is_foreign(&key) && !self.taken_back.contains(&tag) {
                prop_assert_eq!(self.objects.get(&key), Some(&tag), "{} should stand in the store", key);
            }
        }
        for key in self.objects.keys().filter(|key| !Sim::is_foreign(key)) {
            let resolved = resolve(&self.world.store, &Caller::system(), &path(&format!("/{key}"))).expect("a map");
            let Ok(resolved) = resolved else { continue };
            if self.twofold.iter().any(|top| key == top || key.starts_with(&format!("{top}/"))) {
                continue;
            }
            let last = resolved.spots.last().expect("a walk begins at /");
            let loaded = last.inode.directory().is_some_and(|directory| directory.loaded);
            prop_assert!(
                resolved.missing.is_empty() || !loaded,
                "{} is unknown below {}, which is loaded",
                key,
                last.path
            );
        }
        Ok(())
    }

    /// Asks the store about everything, until there is nothing new.
    fn ask_for_everything(&mut self) {
        for _ in 0..6 {
            for spot in self.spots().into_iter().rev() {
                let seen = self.world.namespace.applied();
                let found = self.stat(&spot.key);
                let (inode, key) = (spot.inode.id, spot.key);
                drop(self.world.run(Op::Sync(Sync { inode, key, found, seen })));
            }
            while !detached(&self.world.store, None, 1).expect("a map").is_empty() {
                self.world.command("collect").expect("something is detached");
            }
            for spot in self.spots().into_iter().filter(|spot| spot.inode.is_directory()) {
                let (directory, seen) = (spot.inode.id, self.world.namespace.applied());
                let opened = self.world.run(Op::OpenLoad(OpenLoad { directory, seen })).outcome;
                let Ok(Done::Load(load)) = opened else { panic!("{opened:?}") };
                let items = self.list(&spot.key);
                self.world
                    .run(Op::LoadPage(LoadPage { directory, load, items, last: true }))
                    .outcome
                    .expect("it is open");
            }
        }
    }

    /// After that, both say the same, but for names that something of ours stands in the way of.
    fn check_same(&self) -> Result<(), TestCaseError> {
        let stored = self.stored();
        let ours: BTreeSet<String> = self
            .spots()
            .into_iter()
            .filter(|spot| spot.inode.file().is_some_and(|file| file.persistence != PersistenceState::Persisted))
            .map(|spot| spot.key)
            .collect();
        let directories: BTreeSet<String> =
            self.spots().into_iter().filter(|spot| spot.inode.is_directory()).map(|spot| spot.key).collect();
        let hidden = |key: &String| {
            let blocked = ours.iter().any(|file| key == file || key.starts_with(&format!("{file}/")));
            let both = self.below(&format!("{key}/")).next().is_some() || directories.contains(&format!("{key}/"));
            let below_object = self.objects.keys().any(|file| key.starts_with(&format!("{file}/")));
            blocked || both || below_object
        };
        let visible: BTreeMap<String, String> =
            self.objects.iter().filter(|(key, _)| !hidden(key)).map(|(key, tag)| (key.clone(), tag.clone())).collect();
        let known: BTreeMap<String, String> = stored.into_iter().filter(|(key, _)| !hidden(key)).collect();
        prop_assert_eq!(known, visible);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost_and_nothing_removed_comes_back(actions in actions()) {
        let mut sim = Sim::new();
        for action in &actions {
            sim.step(action);
            sim.note_twofold();
        }
        sim.settle();
        sim.check()?;
        sim.ask_for_everything();
        sim.check_same()?;
    }

    #[test]
    fn no_object_of_ours_belongs_to_nobody(actions in actions()) {
        let mut sim = Sim::new();
        for action in &actions {
            match action {
                // Others' objects, and ours that were left to the store on purpose, are there and not known.
                Action::Foreign(..) | Action::Remove(_, _, true) => {}
                // What was left behind must not be found by chance.
                Action::Load(_) | Action::LookOn(_) | Action::SyncOn(_) => {}
                action => sim.step(action),
            }
        }
        sim.settle();
        sim.remove_unpersisted();
        prop_assert_eq!(&sim.objects, &sim.stored());
    }
}
