//! kill −9 of master and worker apart, over a local root store and over an object store that has troubles of its own:
//! everything acknowledged is there afterwards, byte for byte, nothing unacknowledged is readable half-done, and in the
//! end the store holds exactly the persisted files.

use crate::kill9::{Content, Dice};
use crate::support::{BUCKET, Bucket, Pair, path, read_all};
use client::{ClientConfig, FileStatus, FileSystem, MakeDirectory, Remove, WriteOptions};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use testkit::data::Data;
use testkit::proxy::{Fault, Rule, RuleId, Side};
use testkit::{eventually, eventually_async};
use types::{ErrorKind, Mode, WriteType};

/// Clients that work at once.
const CLIENTS: u64 = 4;
/// Directories of a client's own. An operation without an answer leaves one of them unclear; the client goes on in the next.
const ROOMS: u64 = 3;
const DIRECTORIES: u64 = 3;
const FILES: u64 = 3;
/// Most files are smaller than this; a few are larger than one part of a multipart upload.
const SMALL_BYTES: u64 = 200_000;
const LARGE_BYTES: u64 = 9 << 20;
const SMALL_BLOCK: u64 = 64 << 10;
const LARGE_BLOCK: u64 = 2 << 20;
/// How long what was interrupted may take to come to its end once everything runs again.
const PATIENCE: Duration = Duration::from_secs(120);
/// How much later a slow store does what it is told.
const SLOW: Duration = Duration::from_millis(250);
/// What a room remembers of what was done in it.
const TOLD: usize = 100;
/// Lines of a log in the report of a failure.
const LOG_LINES: usize = 200;
/// Rounds between two looks at the whole store.
const WHOLE_EVERY: u64 = 10;
/// Objects nobody here knows of.
const BYSTANDERS: [(&str, &[u8]); 2] = [("elsewhere/a", b"not ours"), ("room-of-others", b"not ours either")];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct File {
    content: Content,
    kind: WriteType,
}

/// What a room holds: paths from the room's own, `/dir-1` and `/dir-1/file-2`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Tree {
    directories: BTreeSet<String>,
    files: BTreeMap<String, File>,
}

#[derive(Clone, Debug)]
enum Op {
    Write {
        at: String,
        file: File,
    },
    /// Begun, written to the middle and taken back.
    GiveUp {
        at: String,
        file: File,
    },
    Move {
        from: String,
        to: String,
    },
    Remove {
        at: String,
    },
}

fn is_within(at: &str, above: &str) -> bool {
    at == above || at.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

impl Op {
    /// Something that can be done to the tree.
    fn draw(dice: &mut Dice, tree: &Tree, large: bool) -> Option<Op> {
        let directory = |dice: &mut Dice| format!("/dir-{}", dice.below(DIRECTORIES));
        let file = |dice: &mut Dice| format!("{}/file-{}", directory(dice), dice.below(FILES));
        match dice.below(12) {
            0..=5 => {
                let at = file(dice);
                let kinds = [
                    WriteType::CacheThrough,
                    WriteType::Through,
                    WriteType::AsyncThrough,
                    WriteType::AsyncThrough,
                    WriteType::MustCache,
                ];
                let kind = kinds[usize::try_from(dice.below(5)).expect("small")];
                let limit = if large && dice.below(12) == 0 { LARGE_BYTES } else { SMALL_BYTES };
                let bytes = if limit == LARGE_BYTES { limit + dice.below(SMALL_BYTES) } else { dice.below(limit) };
                let content = Content { seed: dice.below(u64::MAX), bytes };
                let file = File { content, kind };
                let gives_up = dice.below(8) == 0;
                let op =
                    if gives_up { Op::GiveUp { at: at.clone(), file } } else { Op::Write { at: at.clone(), file } };
                (!tree.files.contains_key(&at)).then_some(op)
            }
            6..=7 => {
                let (from, to) = (file(dice), file(dice));
                let parent = to.rsplit_once('/').expect("two levels").0;
                let can = tree.files.contains_key(&from)
                    && !tree.files.contains_key(&to)
                    && tree.directories.contains(parent);
                can.then_some(Op::Move { from, to })
            }
            8..=9 => {
                let (from, to) = (directory(dice), directory(dice));
                let can = tree.directories.contains(&from) && !tree.directories.contains(&to);
                can.then_some(Op::Move { from, to })
            }
            10 => {
                let at = file(dice);
                tree.files.contains_key(&at).then_some(Op::Remove { at })
            }
            _ => {
                let at = directory(dice);
                (tree.directories.contains(&at) && dice.below(2) == 0).then_some(Op::Remove { at })
            }
        }
    }

    fn apply(&self, tree: &mut Tree) {
        match self {
            Op::Write { at, file } => {
                tree.directories.insert(at.rsplit_once('/').expect("two levels").0.to_owned());
                tree.files.insert(at.clone(), *file);
            }
            Op::GiveUp { at, .. } => {
                tree.directories.insert(at.rsplit_once('/').expect("two levels").0.to_owned());
            }
            Op::Move { from, to } => {
                let renamed = |at: String| match is_within(&at, from) {
                    true => format!("{to}{}", &at[from.len()..]),
                    false => at,
                };
                tree.directories = std::mem::take(&mut tree.directories).into_iter().map(renamed).collect();
                let files = std::mem::take(&mut tree.files).into_iter();
                tree.files = files.map(|(at, file)| (renamed(at), file)).collect();
            }
            Op::Remove { at } => {
                tree.directories.retain(|one| !is_within(one, at));
                tree.files.retain(|one, _| !is_within(one, at));
            }
        }
    }

    async fn run(&self, fs: &FileSystem, base: &str) -> client::Result<()> {
        let below = |at: &str| path(&format!("{base}{at}"));
        match self {
            Op::Write { at, file } | Op::GiveUp { at, file } => {
                let block = if file.content.bytes < LARGE_BYTES { SMALL_BLOCK } else { LARGE_BLOCK };
                let options =
                    WriteOptions { write_type: Some(file.kind), block_bytes: Some(block), ..WriteOptions::default() };
                let mut writer = fs.create(&below(at), options).await?;
                let gives_up = matches!(self, Op::GiveUp { .. });
                let bytes = file.content.bytes / if gives_up { 2 } else { 1 };
                let bytes = usize::try_from(bytes).expect("small");
                for chunk in Data::new(file.content.seed).bytes(0, bytes).chunks(500_000) {
                    writer.write(chunk).await?;
                }
                if gives_up { writer.cancel().await } else { writer.close().await }
            }
            Op::Move { from, to } => fs.rename(&below(from), &below(to)).await,
            Op::Remove { at } => fs.remove(&below(at), Remove { recursive: true, ..Remove::default() }).await,
        }
    }
}

/// What a client knows of one room: the tree all answered operations made, and the one operation that got no answer.
#[derive(Clone, Debug)]
struct Room {
    base: String,
    tree: Tree,
    open: Option<Op>,
    /// The last things that were done here, for the report of a failure.
    told: VecDeque<String>,
}

impl Room {
    /// What the room may hold.
    fn possible(&self) -> Vec<Tree> {
        let mut possible = vec![self.tree.clone()];
        if let Some(op) = &self.open {
            let mut after = self.tree.clone();
            op.apply(&mut after);
            if matches!(op, Op::Write { .. }) {
                // Its directory was made, the file was then not written.
                possible.push(Tree { directories: after.directories.clone(), files: self.tree.files.clone() });
            }
            possible.push(after);
        }
        possible
    }

    fn tell(&mut self, what: String) {
        if self.told.len() == TOLD {
            self.told.pop_front();
        }
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.told.push_back(format!("{} {what}", since.as_millis()));
    }
}

/// Where to look when something went wrong.
#[derive(Clone)]
struct Scene {
    /// None: the store is no directory.
    store: Option<PathBuf>,
    logs: [PathBuf; 2],
}

impl Scene {
    fn new(pair: &Pair, store: &Store) -> Scene {
        let directory = matches!(store, Store::Local).then(|| pair.root_store());
        Scene { store: directory, logs: pair.logs() }
    }

    /// What the namespace and the store have below a room, and what was logged last.
    async fn report(&self, fs: &FileSystem, room: &Room) -> String {
        let mut lines = vec![format!("{room:?}"), "the namespace has:".to_owned()];
        lines.extend(listed(fs, &room.base).await.iter().map(|status| format!("{status:?}")));
        if let Some(store) = &self.store {
            let mut found = Entries::default();
            gather(&store.join(room.base.trim_start_matches('/')), "", &mut found);
            lines.push("the store has:".to_owned());
            lines.extend(found.directories);
            lines.extend(found.files.into_iter().map(|(key, bytes)| format!("{key} of {} bytes", bytes.len())));
        }
        lines.extend(self.logged(&room.base));
        lines.join("\n  ")
    }

    /// All that is known of a key: what the store was told about it, its client did, and master and worker logged.
    fn story(&self, store: &Store, rooms: &[Room], key: &str) -> String {
        let mut lines = match store {
            Store::Local => Vec::new(),
            Store::Bucket(bucket) => bucket.store.history(BUCKET, key),
        };
        let path = format!("{}/{key}", store.prefix());
        for room in rooms.iter().filter(|room| is_within(&path, &room.base)) {
            lines.push(format!("{}:", room.base));
            lines.extend(room.told.iter().cloned());
        }
        lines.extend(self.logged(key.rsplit_once('/').map_or(key, |(directory, _)| directory)));
        lines.join("\n  ")
    }

    /// The last lines of both logs that hold `part`.
    fn logged(&self, part: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for log in &self.logs {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let about: Vec<&str> = text.lines().filter(|line| line.contains(part)).collect();
            lines.push(format!("{}:", log.display()));
            lines.extend(about[about.len().saturating_sub(LOG_LINES)..].iter().map(|&line| line.to_owned()));
        }
        lines
    }
}

/// Works in its rooms until told to stop, or until all of them are unclear.
async fn work(
    fs: FileSystem,
    scene: Scene,
    seed: u64,
    large: bool,
    mut rooms: Vec<Room>,
    stop: Arc<AtomicBool>,
) -> Vec<Room> {
    let mut dice = Dice(seed);
    while !stop.load(Ordering::Relaxed) {
        let clear: Vec<usize> = (0..rooms.len()).filter(|at| rooms[*at].open.is_none()).collect();
        if clear.is_empty() {
            break;
        }
        let at = usize::try_from(dice.below(u64::try_from(clear.len()).expect("small"))).expect("small");
        let room = &mut rooms[clear[at]];
        let Some(op) = Op::draw(&mut dice, &room.tree, large) else { continue };
        room.tell(format!("{op:?}"));
        match op.run(&fs, &room.base).await {
            Ok(()) => {
                room.tell("done".to_owned());
                op.apply(&mut room.tree);
            }
            Err(error) => {
                room.tell(format!("unclear: {error}"));
                // Each operation was possible when it began, and has one effect however often it was sent.
                let refuted = [ErrorKind::NotFound, ErrorKind::AlreadyExists, ErrorKind::Invalid, ErrorKind::Denied];
                let is_write = matches!(op, Op::Write { .. } | Op::GiveUp { .. });
                if !is_write && refuted.contains(&error.kind()) {
                    panic!("{op:?} in {}: {error}\n{}", room.base, scene.report(&fs, room).await);
                }
                room.open = Some(op);
                pass(dice.below(150)).await;
            }
        }
    }
    rooms
}

/// Time in which things happen: what this test draws are moments.
async fn pass(ms: u64) {
    let drawn = Duration::from_millis(ms);
    tokio::time::timeout(drawn, std::future::pending::<()>()).await.expect_err("nothing ends it early");
}

/// Everything below a directory.
async fn listed(fs: &FileSystem, base: &str) -> Vec<FileStatus> {
    let entries = match fs.list_all(&path(base)).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        entries => entries.unwrap_or_else(|error| panic!("{base} is listed: {error}")),
    };
    let mut all = Vec::new();
    for entry in entries {
        if entry.folder {
            all.extend(Box::pin(listed(fs, &entry.path.to_string())).await);
        }
        all.push(entry);
    }
    all
}

/// Holds a room against what its client knows, byte by byte, and ends what was left open. Afterwards the room is clear.
async fn settle(fs: &FileSystem, scene: &Scene, room: &mut Room) {
    let possible = room.possible();
    let mut found = Tree::default();
    let mut half_done = Vec::new();
    for status in listed(fs, &room.base).await {
        let at = status.path.to_string()[room.base.len()..].to_owned();
        if status.folder {
            found.directories.insert(at);
            continue;
        }
        if !status.completed {
            half_done.push(at);
            continue;
        }
        let bytes = read_all(fs, &status.path).await;
        let bytes = bytes.unwrap_or_else(|error| panic!("{} is read: {error}\n{status:?}\n{room:?}", status.path));
        let file = possible.iter().filter_map(|tree| tree.files.get(&at)).find(|file| {
            let length = u64::try_from(bytes.len()).expect("small");
            file.content.bytes == length && Data::new(file.content.seed).verify(0, &bytes).is_ok()
        });
        let file = file.unwrap_or_else(|| {
            panic!("{} holds {} bytes that nobody acknowledged: {room:?}", status.path, bytes.len())
        });
        found.files.insert(at, *file);
    }
    room.tell(format!("found {:?}, half done {half_done:?}", found.files.keys()));
    if !possible.contains(&found) {
        let scene = scene.report(fs, room).await;
        panic!("{} holds {found:?}\nbut its client knows {room:?}\n{scene}", room.base);
    }
    for at in &half_done {
        let is_ours =
            matches!(&room.open, Some(Op::Write { at: open, .. } | Op::GiveUp { at: open, .. }) if open == at);
        assert!(is_ours, "{}{at} is incomplete, and nobody writes it: {room:?}", room.base);
        finish(fs, &Op::Remove { at: at.clone() }, &room.base).await;
    }
    room.tree = found;
    match room.open.take() {
        // Whether it took effect is known now, or will be after it took effect once more.
        Some(op @ (Op::Move { .. } | Op::Remove { .. })) => {
            finish(fs, &op, &room.base).await;
            room.tree = possible.last().expect("before and after").clone();
        }
        Some(Op::Write { .. } | Op::GiveUp { .. }) | None => {}
    }
}

/// Does what was perhaps done before.
async fn finish(fs: &FileSystem, op: &Op, base: &str) {
    eventually_async(PATIENCE, || async {
        match op.run(fs, base).await {
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    })
    .await;
}

/// Where the files are in the end.
enum Store {
    Local,
    Bucket(Box<Bucket>),
}

impl Store {
    /// What the namespace's paths begin with.
    fn prefix(&self) -> &'static str {
        match self {
            Store::Local => "",
            Store::Bucket(_) => "/ns",
        }
    }

    fn content(&self, pair: &Pair) -> Entries {
        let mut found = Entries::default();
        match self {
            Store::Local => gather(&pair.root_store(), "", &mut found),
            Store::Bucket(bucket) => {
                for key in bucket.keys().into_iter().filter(|key| !key.ends_with('/')) {
                    found.files.extend(bucket.object(&key).map(|bytes| (key, bytes)));
                }
            }
        }
        found
    }
}

/// What a store holds, by key.
#[derive(Default)]
struct Entries {
    files: BTreeMap<String, Vec<u8>>,
    /// Those that exist by themselves; they end in a slash.
    directories: BTreeSet<String>,
}

fn gather(directory: &Path, above: &str, found: &mut Entries) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.map_while(Result::ok) {
        let name = entry.file_name().into_string().expect("names of ours are UTF-8");
        // What a killed writer left; the store hides it and sweeps it in time.
        if name.starts_with(".goosefs-tmp-") {
            continue;
        }
        let key = format!("{above}{name}");
        match std::fs::read(entry.path()) {
            Ok(bytes) => drop(found.files.insert(key, bytes)),
            Err(_) => {
                gather(&entry.path(), &format!("{key}/"), found);
                found.directories.insert(format!("{key}/"));
            }
        }
    }
}

/// Waits until the store holds the persisted files of all rooms, each as it was acknowledged, and nothing else. An empty
/// directory that nobody has would stand in the way of the next one of its name.
async fn check_store(pair: &Pair, scene: &Scene, store: &Store, rooms: &[Room]) {
    let mut wanted: BTreeMap<String, (Content, String)> = BTreeMap::new();
    let mut directories: BTreeSet<String> = BTreeSet::new();
    for room in rooms {
        let base = room.base.strip_prefix(store.prefix()).expect("all rooms are in the store").trim_start_matches('/');
        directories.extend(base.match_indices('/').map(|(end, _)| base[..=end].to_owned()));
        directories.insert(format!("{base}/"));
        directories.extend(room.tree.directories.iter().map(|at| format!("{base}{at}/")));
        for (at, file) in &room.tree.files {
            if file.kind != WriteType::MustCache {
                wanted.insert(format!("{base}{at}"), (file.content, format!("{:?}", file.kind)));
            }
        }
    }
    eventually_async(PATIENCE, || async {
        let Entries { files: mut found, directories: there } = store.content(pair);
        for &(key, bytes) in bystanders(store) {
            if found.remove(key).as_deref() != Some(bytes) {
                return Err(format!("{key}, which is not ours, has changed"));
            }
        }
        for (key, (content, kind)) in &wanted {
            let Some(bytes) = found.remove(key) else { return Err(format!("{key} ({kind}) is not in the store")) };
            let whole = content.bytes == u64::try_from(bytes.len()).expect("small");
            if !whole || Data::new(content.seed).verify(0, &bytes).is_err() {
                return Err(format!("{key} ({kind}) has {} other bytes than {content:?}", bytes.len()));
            }
        }
        match found.keys().chain(there.difference(&directories)).next() {
            Some(key) => {
                Err(format!("{key} is in the store, and belongs to nobody\n  {}", scene.story(store, rooms, key)))
            }
            None => Ok(()),
        }
    })
    .await;
}

fn bystanders(store: &Store) -> &'static [(&'static str, &'static [u8])] {
    match store {
        Store::Local => &[],
        Store::Bucket(_) => &BYSTANDERS,
    }
}

/// What befalls the object store for a while.
fn trouble(store: &Store, dice: &mut Dice) {
    let Store::Bucket(bucket) = store else { return };
    let proxy = &bucket.proxy;
    let seed = dice.below(u64::MAX);
    match dice.below(7) {
        0 => {
            proxy.refuse();
            proxy.cut_all();
        }
        1 => drop(proxy.inject(Rule::always(Fault::Status(503)))),
        2 => drop(proxy.inject(Rule::fraction(0.4, seed, Fault::Cut { side: Side::Request, after_bytes: 1000 }))),
        // Done, and the answer lost.
        3 => drop(proxy.inject(Rule::fraction(0.4, seed, Fault::Cut { side: Side::Response, after_bytes: 0 }))),
        4 => drop(proxy.inject(Rule::fraction(0.3, seed, Fault::Hang { side: Side::Response, after_bytes: 0 }))),
        // Done when who asked for it may be dead.
        5 => drop(proxy.inject(Rule::fraction(0.5, seed, Fault::Delay(SLOW)).method("PUT"))),
        _ => proxy.cut_all(),
    }
}

fn end_trouble(store: &Store) {
    if let Store::Bucket(bucket) = store {
        bucket.proxy.clear();
        bucket.proxy.accept().expect("its port is still ours");
    }
}

/// One of the processes, or both, at a drawn moment, with the store in trouble before, during or after it.
async fn kill_and_restart(pair: &mut Pair, store: &Store, dice: &mut Dice) {
    let (troubled, moment) = (dice.below(2) == 0, dice.below(3));
    if troubled && moment == 0 {
        trouble(store, dice);
        pass(dice.below(300)).await;
    }
    let (master, worker) = [(true, false), (false, true), (true, true)][usize::try_from(dice.below(3)).expect("small")];
    if master {
        pair.kill9_master();
    }
    if worker {
        pair.kill9_worker();
    }
    if troubled && moment == 1 {
        trouble(store, dice);
    }
    pass(dice.below(300)).await;
    let healed_before = dice.below(2) == 0;
    if healed_before {
        end_trouble(store);
    }
    if worker {
        pair.spawn_worker();
    }
    if master {
        pair.start_master();
    }
    pair.await_worker();
    if troubled && moment == 2 {
        trouble(store, dice);
    }
    pass(dice.below(400)).await;
    end_trouble(store);
}

fn run(few: u64, first_seed: u64, bucket: bool) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let store = if bucket { Store::Bucket(Box::new(Bucket::start(&dir.path().join("s3")))) } else { Store::Local };
    let mut pair = Pair::start(&dir.path().join("goosefs"));
    let scene = Scene::new(&pair, &store);
    // One that stays connected over everything that happens.
    let witness = runtime.block_on(pair.client());
    if let Store::Bucket(bucket) = &store {
        for (key, bytes) in BYSTANDERS {
            bucket.store.put(BUCKET, key, bytes).expect("put");
        }
        runtime.block_on(witness.create_namespace(bucket.namespace("ns"))).expect("the namespace is made");
    }
    let room = |client: u64, room: u64| Room {
        base: format!("{}/client-{client}/room-{room}", store.prefix()),
        tree: Tree::default(),
        open: None,
        told: VecDeque::new(),
    };
    let mut rooms: Vec<Vec<Room>> =
        (0..CLIENTS).map(|client| (0..ROOMS).map(|number| room(client, number)).collect()).collect();
    runtime.block_on(async {
        let how = MakeDirectory { recursive: true, allow_exists: true, mode: Mode::new(0o755) };
        for room in rooms.iter().flatten() {
            witness.make_directory(&path(&room.base), how).await.expect("a room is made");
        }
    });
    let config = ClientConfig {
        // Long enough that each operation has an outcome, unless a process dies: a request that was given up could still
        // take effect much later.
        rpc_timeout: Duration::from_secs(60),
        polling_timeout: Duration::from_secs(20),
        data_timeout: Duration::from_secs(20),
        ..pair.client_config()
    };
    for round in 0..testkit::rounds(few) {
        let seed = first_seed + round;
        println!("round {round}, seed {seed}");
        let mut dice = Dice(seed);
        let stop = Arc::new(AtomicBool::new(false));
        rooms = runtime.block_on(async {
            let mut tasks = Vec::new();
            for mine in std::mem::take(&mut rooms) {
                let fs = FileSystem::connect(config.clone()).await.expect("the master answers");
                let seed = dice.below(u64::MAX);
                tasks.push(tokio::spawn(work(fs, scene.clone(), seed, bucket, mine, stop.clone())));
            }
            pass(200 + dice.below(800)).await;
            kill_and_restart(&mut pair, &store, &mut dice).await;
            stop.store(true, Ordering::Relaxed);
            let mut rooms = Vec::new();
            for task in tasks {
                rooms.push(task.await.expect("no client panics"));
            }
            for room in rooms.iter_mut().flatten() {
                settle(&witness, &scene, room).await;
            }
            let all: Vec<Room> = rooms.iter().flatten().cloned().collect();
            if (round + 1) % WHOLE_EVERY == 0 {
                check_store(&pair, &scene, &store, &all).await;
            }
            rooms
        });
    }
    let all: Vec<Room> = rooms.iter().flatten().cloned().collect();
    runtime.block_on(check_store(&pair, &scene, &store, &all));
    pair.stop_worker();
    pair.stop_master();
}

/// A pair over a bucket, for one drawn-out moment.
struct Moment {
    bucket: Bucket,
    pair: Pair,
    fs: FileSystem,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

impl Moment {
    fn new() -> Moment {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        let bucket = Bucket::start(&dir.path().join("s3"));
        let pair = Pair::start(&dir.path().join("goosefs"));
        let fs = runtime.block_on(pair.client());
        runtime.block_on(fs.create_namespace(bucket.namespace("ns"))).expect("the namespace is made");
        Moment { bucket, pair, fs, runtime, _dir: dir }
    }

    fn write(&self, at: &str, kind: WriteType, seed: u64) -> tokio::task::JoinHandle<client::Result<()>> {
        let file = File { content: Content { seed, bytes: SMALL_BYTES }, kind };
        let (fs, op) = (self.fs.clone(), Op::Write { at: at.to_owned(), file });
        self.runtime.spawn(async move { op.run(&fs, "/ns").await })
    }

    /// The next upload to this key stops in the middle until the rules are cleared.
    fn hold(&self, key: &str, side: Side) -> RuleId {
        let hang = Fault::Hang { side, after_bytes: if side == Side::Request { 100_000 } else { 0 } };
        self.bucket.proxy.inject(Rule::once(hang).method("PUT").path(&format!("/{BUCKET}/{key}")))
    }

    fn await_held(&self, rule: RuleId) {
        eventually(PATIENCE, || self.bucket.proxy.hits(rule) > 0);
    }

    /// The bucket holds these, and still does when nothing is under way any more.
    fn store_holds(&self, wanted: &[(&str, u64)]) {
        let look = || {
            let keys = self.bucket.keys();
            let right = wanted.iter().all(|(key, seed)| {
                self.bucket.object(key).is_some_and(|bytes| {
                    bytes.len() as u64 == SMALL_BYTES && Data::new(*seed).verify(0, &bytes).is_ok()
                })
            });
            if right && keys.len() == wanted.len() { Ok(()) } else { Err(format!("{keys:?}")) }
        };
        eventually(PATIENCE, look);
    }
}

#[test]
fn an_upload_cut_off_with_its_worker_is_made_again() {
    let mut moment = Moment::new();
    let held = moment.hold("f", Side::Request);
    let written = moment.write("/f", WriteType::AsyncThrough, 1);
    moment.runtime.block_on(written).expect("no panic").expect("acknowledged from the cache");
    moment.await_held(held);
    moment.pair.kill9_worker();
    moment.pair.start_worker();
    moment.bucket.proxy.clear();
    moment.store_holds(&[("f", 1)]);
}

#[test]
fn an_upload_that_outlives_its_master_leaves_nothing_where_its_file_was_renamed_from() {
    for side in [Side::Request, Side::Response] {
        let mut moment = Moment::new();
        let held = moment.hold("f", side);
        let written = moment.write("/f", WriteType::AsyncThrough, 2);
        moment.runtime.block_on(written).expect("no panic").expect("acknowledged from the cache");
        moment.await_held(held);
        moment.pair.kill9_master();
        moment.pair.start_master();
        // Refused as busy until the new master gave up on that upload.
        let (from, to) = (path("/ns/f"), path("/ns/g"));
        let renamed = eventually_async(PATIENCE, || moment.fs.rename(&from, &to));
        moment.runtime.block_on(renamed);
        moment.store_holds(&[("g", 2)]);
        moment.bucket.proxy.clear();
        moment.store_holds(&[("g", 2)]);
    }
}

#[test]
fn a_slow_write_whose_client_gave_up_does_not_land_on_what_took_its_name() {
    let moment = Moment::new();
    let held = moment.hold("f", Side::Request);
    let given_up = moment.write("/f", WriteType::Through, 3);
    moment.await_held(held);
    given_up.abort();
    let file = path("/ns/f");
    moment.runtime.block_on(moment.fs.remove(&file, Remove::default())).expect("removed");
    let again = moment.write("/f", WriteType::Through, 4);
    moment.runtime.block_on(again).expect("no panic").expect("written");
    moment.store_holds(&[("f", 4)]);
    // The worker has seen that its file is gone, and cut the old upload off.
    eventually(PATIENCE, || moment.pair.worker_metric("active_writes") == Some(0));
    moment.bucket.proxy.clear();
    moment.store_holds(&[("f", 4)]);
    let read = moment.runtime.block_on(read_all(&moment.fs, &file)).expect("read");
    Data::new(4).verify(0, &read).expect("what was acknowledged");
}

#[test]
fn what_a_killed_worker_left_in_the_store_goes_with_the_directory_above_it() {
    for renamed in [false, true] {
        let mut moment = Moment::new();
        let held = moment.hold("d/f", Side::Response);
        let cut_off = moment.write("/d/f", WriteType::Through, 5);
        moment.await_held(held);
        eventually(PATIENCE, || moment.bucket.object("d/f").is_some());
        // Its client goes first, so nobody is left to take the file back.
        cut_off.abort();
        moment.pair.kill9_worker();
        moment.pair.start_worker();
        let recursive = Remove { recursive: true, ..Remove::default() };
        moment.runtime.block_on(async {
            let fs = &moment.fs;
            let top = if renamed { path("/ns/e") } else { path("/ns/d") };
            if renamed {
                fs.rename(&path("/ns/d"), &top).await.expect("renamed");
            }
            fs.remove(&top, recursive).await.expect("removed");
        });
        moment.store_holds(&[]);
    }
}

#[test]
fn a_name_is_free_once_its_directory_went_though_an_upload_into_it_had_failed() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let pair = Pair::start(&dir.path().join("goosefs"));
    runtime.block_on(async {
        let fs = pair.client().await;
        let how = MakeDirectory { recursive: false, allow_exists: false, mode: Mode::new(0o755) };
        for renamed in [false, true] {
            let options = WriteOptions { write_type: Some(WriteType::Through), ..WriteOptions::default() };
            let mut writer = fs.create(&path("/d/f"), options).await.expect("created");
            writer.write(b"some bytes").await.expect("taken");
            writer.flush().await.expect("at the worker");
            // The upload fails in its last step: what stands above it is made by then.
            for entry in std::fs::read_dir(pair.root_store()).expect("readable") {
                let entry = entry.expect("readable").path();
                if entry.is_file() {
                    std::fs::remove_file(entry).expect("removed");
                }
            }
            writer.close().await.expect_err("the upload fails");
            assert!(pair.root_store().join("d").is_dir());
            match renamed {
                true => fs.rename(&path("/d"), &path("/e")).await.expect("renamed"),
                false => {
                    fs.remove(&path("/d"), Remove { recursive: true, ..Remove::default() }).await.expect("removed")
                }
            }
            fs.make_directory(&path("/next"), how).await.expect("made");
            fs.rename(&path("/next"), &path("/d")).await.expect("its name is free");
            fs.remove(&path("/d"), Remove { recursive: true, ..Remove::default() }).await.expect("removed");
        }
    });
}

#[test]
fn an_upload_that_lands_when_its_worker_is_dead_and_its_file_was_removed_leaves_nothing() {
    let mut moment = Moment::new();
    let put = Rule::once(Fault::Late).method("PUT").path(&format!("/{BUCKET}/d/f"));
    moment.bucket.proxy.inject(put);
    let written = moment.write("/d/f", WriteType::Through, 5);
    eventually(PATIENCE, || moment.bucket.proxy.stats().kept == 1);
    moment.pair.kill9_worker();
    // Told so, the client takes its file back.
    moment.runtime.block_on(written).expect("no panic").expect_err("nobody took it");
    let file = path("/ns/d/f");
    assert_eq!(moment.runtime.block_on(moment.fs.find(&file)).expect("the master answers"), None);
    moment.bucket.proxy.clear();
    eventually(PATIENCE, || moment.bucket.proxy.stats().late == 1);
    moment.store_holds(&[]);
    moment.pair.start_worker();
    let again = moment.write("/d/f", WriteType::Through, 6);
    moment.runtime.block_on(again).expect("no panic").expect("the name can be had again");
    moment.store_holds(&[("d/f", 6)]);
}

#[test]
fn a_directory_goes_with_the_object_of_a_writer_that_died_before_it_reported_it() {
    for renames in [false, true] {
        let mut moment = Moment::new();
        // The look at the object that was just written.
        let head = Rule::once(Fault::Late).method("HEAD").path(&format!("/{BUCKET}/d/f"));
        let directory = path("/ns/d");
        let how = MakeDirectory { recursive: false, allow_exists: false, mode: Mode::new(0o755) };
        moment.runtime.block_on(moment.fs.make_directory(&directory, how)).expect("made");
        moment.bucket.proxy.inject(head);
        let written = moment.write("/d/f", WriteType::Through, 7);
        eventually(PATIENCE, || moment.bucket.object("d/f").is_some() && moment.bucket.proxy.stats().kept == 1);
        written.abort();
        moment.pair.kill9_worker();
        let mut last = directory;
        if renames {
            let to = path("/ns/e");
            moment.runtime.block_on(moment.fs.rename(&last, &to)).expect("renamed");
            last = to;
        }
        let all = Remove { recursive: true, unchecked: true, ..Remove::default() };
        moment.runtime.block_on(moment.fs.remove(&last, all)).expect("removed");
        moment.store_holds(&[]);
    }
}

#[test]
fn nothing_is_lost_when_master_and_worker_are_killed_apart_over_a_local_store() {
    run(5, 1, false);
}

#[test]
fn nothing_is_lost_when_master_and_worker_are_killed_apart_over_a_failing_object_store() {
    run(5, 1001, true);
}
