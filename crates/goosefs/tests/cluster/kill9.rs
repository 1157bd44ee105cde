//! kill −9 at random moments under load: everything acknowledged is there afterwards, byte for byte, and nothing
//! unacknowledged is readable half-done.

use crate::support::Local;
use client::{FileSystem, Remove, WriteOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use testkit::data::Data;
use types::{ErrorKind, GfsPath, WriteType};

/// Clients that work at once, each in a directory of its own.
const CLIENTS: u64 = 4;
/// Names each client uses.
const NAMES: u64 = 6;
/// Largest file.
const MAX_BYTES: u64 = 300_000;
const BLOCK: u64 = 64 << 10;

pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// What a file holds: made from these two numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content {
    pub seed: u64,
    pub bytes: u64,
}

type Tree = BTreeMap<String, Content>;

/// What one client knows: the tree all acknowledged operations made, and what one unanswered operation may have made
/// of it.
#[derive(Clone, Default, Debug)]
struct Known {
    certain: Tree,
    possible: Option<Tree>,
}

async fn write(fs: &FileSystem, path: &GfsPath, content: Content, kind: WriteType) -> client::Result<()> {
    let options =
        WriteOptions { write_type: Some(kind), block_bytes: Some(BLOCK), recursive: true, ..WriteOptions::default() };
    let mut writer = fs.create(path, options).await?;
    let data = Data::new(content.seed).bytes(0, usize::try_from(content.bytes).expect("small"));
    for chunk in data.chunks(40_000) {
        writer.write(chunk).await?;
    }
    writer.close().await
}

/// Works until told to stop; returns what it knows.
async fn work(fs: FileSystem, client: u64, seed: u64, mut known: Known, stop: Arc<AtomicBool>) -> Known {
    let mut dice = Dice(seed);
    while !stop.load(Ordering::Relaxed) {
        let name = |dice: &mut Dice| format!("/client-{client}/file-{}", dice.below(NAMES));
        let (from, to) = (name(&mut dice), name(&mut dice));
        let path = |text: &str| GfsPath::parse(text).expect("a path");
        let mut next = known.certain.clone();
        let result = match dice.below(10) {
            0..=4 if !next.contains_key(&from) => {
                let content = Content { seed: dice.below(u64::MAX), bytes: dice.below(MAX_BYTES) };
                let kinds = [WriteType::CacheThrough, WriteType::Through, WriteType::AsyncThrough];
                let kind = kinds[usize::try_from(dice.below(3)).expect("small")];
                next.insert(from.clone(), content);
                write(&fs, &path(&from), content, kind).await
            }
            5..=7 if next.contains_key(&from) && !next.contains_key(&to) => {
                let content = next.remove(&from).expect("looked");
                next.insert(to.clone(), content);
                fs.rename(&path(&from), &path(&to)).await
            }
            8 if next.contains_key(&from) => {
                next.remove(&from);
                fs.remove(&path(&from), Remove::default()).await
            }
            9 if !next.is_empty() && dice.below(4) == 0 => {
                next.clear();
                let how = Remove { recursive: true, ..Remove::default() };
                fs.remove(&path(&format!("/client-{client}")), how).await
            }
            _ => continue,
        };
        match result {
            Ok(()) => known = Known { certain: next, possible: None },
            Err(_) => {
                known.possible = Some(next);
                return known;
            }
        }
    }
    known
}

/// The content of a file, or None if it is not there or not complete.
async fn read(fs: &FileSystem, path: &GfsPath) -> Option<Vec<u8>> {
    let status = fs.find(path).await.expect("metadata are served")?;
    if !status.completed {
        return None;
    }
    let mut reader = fs.open(path).await.unwrap_or_else(|err| panic!("{path} opens: {err}"));
    let mut all = Vec::new();
    while let Some(chunk) = reader.next_chunk().await.unwrap_or_else(|err| panic!("{path} is read: {err}")) {
        all.extend_from_slice(&chunk);
    }
    Some(all)
}

/// What the cluster shows of a client's directory now, every byte compared.
async fn check(fs: &FileSystem, client: u64, known: &Known) -> Tree {
    let mut found = Tree::new();
    for n in 0..NAMES {
        let name = format!("/client-{client}/file-{n}");
        let Some(bytes) = read(fs, &GfsPath::parse(&name).expect("a path")).await else { continue };
        let wanted =
            known.certain.get(&name).into_iter().chain(known.possible.iter().filter_map(|tree| tree.get(&name)));
        let content = wanted.into_iter().copied().find(|content| {
            content.bytes == u64::try_from(bytes.len()).expect("small")
                && Data::new(content.seed).verify(0, &bytes).is_ok()
        });
        let content =
            content.unwrap_or_else(|| panic!("{name} holds {} bytes nobody acknowledged: {known:?}", bytes.len()));
        found.insert(name, content);
    }
    let fits = found == known.certain || known.possible.as_ref() == Some(&found);
    assert!(fits, "client {client} sees {found:?}\nbut knows {known:?}");
    found
}

#[test]
fn nothing_acknowledged_is_lost_when_everything_is_killed() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let mut local = Local::start(dir.path());
    let mut known: Vec<Known> = vec![Known::default(); usize::try_from(CLIENTS).expect("small")];
    for round in 0..testkit::rounds(10) {
        let mut dice = Dice(round + 1);
        let stop = Arc::new(AtomicBool::new(false));
        let live = Duration::from_millis(300 + dice.below(1200));
        known = runtime.block_on(async {
            let tasks: Vec<_> = known
                .into_iter()
                .zip(0..)
                .map(|(known, client)| {
                    let (config, stop) = (local.client_config(), stop.clone());
                    // Nobody waits for a restart: it comes when all have given up.
                    let patience = Duration::from_millis(300);
                    let config =
                        client::ClientConfig { polling_timeout: patience, rpc_timeout: patience * 10, ..config };
                    let seed = dice.below(u64::MAX);
                    tokio::spawn(async move {
                        let fs = FileSystem::connect(config).await.expect("the master answers");
                        work(fs, client, seed, known, stop).await
                    })
                })
                .collect();
            // The moment of the kill is what this test draws.
            tokio::time::timeout(live, std::future::pending::<()>()).await.expect_err("nothing ends it early");
            local.kill9();
            stop.store(true, Ordering::Relaxed);
            let mut known = Vec::new();
            for task in tasks {
                known.push(task.await.expect("no client panics"));
            }
            known
        });
        local.restart();
        runtime.block_on(async {
            let fs = local.client().await;
            for (known, client) in known.iter_mut().zip(0..) {
                let certain = check(&fs, client, known).await;
                // An incomplete file of the interrupted writer may still hold its name.
                for n in 0..NAMES {
                    let name = GfsPath::parse(&format!("/client-{client}/file-{n}")).expect("a path");
                    let status = fs.find(&name).await.expect("metadata are served");
                    if status.is_some_and(|status| !status.completed) {
                        let removed = fs.remove(&name, Remove::default()).await;
                        assert!(removed.is_ok() || removed.is_err_and(|err| err.kind() == ErrorKind::NotFound));
                    }
                }
                *known = Known { certain, possible: None };
            }
        });
    }
    local.stop();
}
