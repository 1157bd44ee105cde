//! An object store that is cut, slow, failing or lying in the middle of reads and writes, seen through the whole cluster:
//! a read gives exactly the object's bytes or a clear error, an acknowledged write is in the store byte for byte, and
//! when the store is well again so is everything, without a restart.

use crate::support::{BUCKET, Bucket, Local, path, read_all};
use client::{Error, FileSystem, Remove, WriteOptions};
use futures::future::join_all;
use std::time::Duration;
use testkit::data::Data;
use testkit::proxy::{Fault, Rule, Side};
use testkit::{eventually, eventually_async};
use types::{ErrorKind, PersistenceState, WriteType};

const PATIENCE: Duration = Duration::from_secs(60);
/// Several blocks a file, and more than one piece of a megabyte in each.
const BLOCK: u64 = 1_500_000;
const COLD_BYTES: usize = 4_000_000;
const SMALL_BYTES: usize = 200_000;
/// Two parts of a multipart upload.
const LARGE_BYTES: usize = 9 << 20;

struct World {
    bucket: Bucket,
    _local: Local,
    fs: FileSystem,
    _dir: tempfile::TempDir,
}

/// A cluster with a namespace over a store, and a test's work on it.
fn with_world<F: Future<Output = ()>>(work: impl FnOnce(World) -> F) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let bucket = Bucket::start(&dir.path().join("s3"));
    let local = Local::start(&dir.path().join("goosefs"));
    let fs = runtime.block_on(local.client());
    runtime.block_on(fs.create_namespace(bucket.namespace("ns"))).expect("the namespace is made");
    runtime.block_on(work(World { bucket, _local: local, fs, _dir: dir }));
}

/// Only what concerns this object.
fn about(rule: Rule, key: &str) -> Rule {
    rule.path(&format!("/{BUCKET}/{key}"))
}

fn cut(side: Side, after_bytes: u64) -> Fault {
    Fault::Cut { side, after_bytes }
}

fn at(key: &str) -> types::GfsPath {
    path(&format!("/ns/{key}"))
}

impl World {
    /// A file of several blocks that no cache holds. Its content follows from `seed`.
    async fn cold(&self, key: &str, seed: u64) {
        let content = Data::new(seed).bytes(0, COLD_BYTES);
        self.write(key, WriteType::Through, &content).await.expect("the store is well");
    }

    async fn write(&self, key: &str, kind: WriteType, content: &[u8]) -> client::Result<()> {
        let options = WriteOptions { write_type: Some(kind), block_bytes: Some(BLOCK), ..WriteOptions::default() };
        let mut writer = self.fs.create(&at(key), options).await?;
        for chunk in content.chunks(1_000_000) {
            writer.write(chunk).await?;
        }
        writer.close().await
    }

    /// Reads the file in several ways at once; each must give its bytes. Error: the first of them.
    async fn read(&self, key: &str, seed: u64) -> client::Result<()> {
        let whole = async {
            let bytes = read_all(&self.fs, &at(key)).await?;
            assert_eq!(bytes.len(), COLD_BYTES, "{key} is read to its end, or fails");
            check(key, seed, 0, &bytes);
            Ok::<(), Error>(())
        };
        // Inside a block, across two, and to the end.
        let ranges = [(10_000, 300_000), (BLOCK - 100_000, 1_700_000), (COLD_BYTES as u64 - 70_001, 200_000)];
        let positioned = join_all(ranges.map(|(offset, length)| async move {
            let bytes = self.fs.open(&at(key)).await?.read_at(offset, length).await?;
            let expected = length.min(COLD_BYTES as u64 - offset);
            assert_eq!(bytes.len() as u64, expected, "{key} at {offset}");
            check(key, seed, offset, &bytes);
            Ok::<(), Error>(())
        }));
        let (whole, positioned) = futures::future::join(whole, positioned).await;
        positioned.into_iter().fold(whole, Result::and)
    }

    fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.bucket.object(key)
    }
}

fn check(key: &str, seed: u64, offset: u64, bytes: &[u8]) {
    Data::new(seed).verify(offset, bytes).unwrap_or_else(|wrong| panic!("{key}: {wrong}"));
}

#[test]
fn a_read_survives_a_store_that_fails_for_a_moment() {
    let response = Side::Response;
    let faults = [
        ("cut-in-the-middle", Rule::once(cut(response, 700_000))),
        ("cut-at-once", Rule::times(2, cut(response, 0))),
        ("cut-late", Rule::times(2, cut(response, 1_000_000)).skip(1)),
        ("busy", Rule::times(2, Fault::Status(503))),
        ("broken", Rule::times(2, Fault::Status(500))),
        ("short", Rule::once(Fault::Truncate { after_bytes: 100_000 })),
        ("shorter-than-it-is", Rule::once(Fault::Length(-1_000))),
        ("longer-than-it-is", Rule::once(Fault::Length(1_000))),
        ("late", Rule::times(3, Fault::Delay(Duration::from_millis(300)))),
    ];
    with_world(|world| async move {
        join_all(faults.iter().zip(1..).map(|((key, rule), seed)| {
            let world = &world;
            async move {
                world.cold(key, seed).await;
                let rule = world.bucket.proxy.inject(about(rule.clone(), key).method("GET"));
                let read = world.read(key, seed).await;
                assert!(world.bucket.proxy.hits(rule) > 0, "{key} has befallen nobody");
                read.unwrap_or_else(|error| panic!("{key}: {error}"));
            }
        }))
        .await;
    });
}

#[test]
fn a_read_of_a_store_that_stays_ill_is_a_clear_error_and_heals_with_it() {
    let (response, unreachable) = (Side::Response, ErrorKind::Unavailable);
    let faults = [
        ("busy", Fault::Status(503), vec![ErrorKind::Busy, unreachable]),
        ("broken", Fault::Status(500), vec![unreachable]),
        ("forbidden", Fault::Status(403), vec![ErrorKind::Precondition]),
        ("cut-at-once", cut(response, 0), vec![unreachable, ErrorKind::Timeout]),
        ("empty", Fault::Truncate { after_bytes: 0 }, vec![unreachable, ErrorKind::Corrupt]),
        // The object is there, says the rest of the store.
        ("missing", Fault::Status(404), vec![ErrorKind::NotFound, unreachable, ErrorKind::Precondition]),
    ];
    // Each answer brings some bytes: all of them may come in the end.
    let perhaps = [
        ("cut-again-and-again", cut(response, 300_000)),
        ("short-again-and-again", Fault::Truncate { after_bytes: 300_000 }),
        ("lying-about-its-length", Fault::Length(-1_000)),
        ("lying-about-more", Fault::Length(1_000)),
    ];
    with_world(|world| async move {
        let world = &world;
        let rule = |key: &str, fault: &Fault| about(Rule::always(fault.clone()), key).method("GET");
        join_all(faults.iter().zip(1..).map(|((key, fault, kinds), seed)| async move {
            world.cold(key, seed).await;
            let ill = world.bucket.proxy.inject(rule(key, fault));
            let error = world.read(key, seed).await.expect_err("there is nothing to be read");
            assert!(kinds.contains(&error.kind()), "{key}: {:?}: {error}", error.kind());
            assert!(error.to_string().contains(key), "it does not say which file: {error}");
            world.bucket.proxy.remove(ill);
            world.read(key, seed).await.unwrap_or_else(|error| panic!("{key} does not heal: {error}"));
        }))
        .await;
        join_all(perhaps.iter().zip(100..).map(|((key, fault), seed)| async move {
            world.cold(key, seed).await;
            let ill = world.bucket.proxy.inject(rule(key, fault));
            // Whatever comes, comes right.
            drop(world.read(key, seed).await);
            world.bucket.proxy.remove(ill);
            world.read(key, seed).await.unwrap_or_else(|error| panic!("{key} does not heal: {error}"));
        }))
        .await;
        world.cold("unreachable", 200).await;
        world.bucket.proxy.refuse();
        world.bucket.proxy.cut_all();
        let error = world.read("unreachable", 200).await.expect_err("nobody listens");
        assert_eq!(error.kind(), unreachable, "{error}");
        world.bucket.proxy.accept().expect("its port is still ours");
        world.read("unreachable", 200).await.expect("it listens again");
    });
}

#[test]
fn a_store_that_stalls_holds_up_only_who_needs_it() {
    with_world(|world| async move {
        let world = &world;
        world.cold("stalled", 1).await;
        world.cold("well", 2).await;
        let stall = Fault::Hang { side: Side::Response, after_bytes: 200_000 };
        let rule = world.bucket.proxy.inject(about(Rule::always(stall), "stalled").method("GET"));
        let readers = join_all((0..3).map(|_| world.read("stalled", 1)));
        tokio::pin!(readers);
        let others = async {
            eventually_async(PATIENCE, || async { world.bucket.proxy.hits(rule) > 0 }).await;
            world.read("well", 2).await.expect("another file is read meanwhile");
            world.write("new", WriteType::CacheThrough, b"new").await.expect("and written");
        };
        tokio::select! {
            biased;
            ended = &mut readers => panic!("nothing came, and yet it ended: {ended:?}"),
            () = others => {}
        }
        world.bucket.proxy.clear();
        for read in readers.await {
            read.expect("the read goes on where it stopped");
        }
    });
}

#[test]
fn an_object_that_changes_while_it_is_read_is_never_mixed() {
    with_world(|world| async move {
        let world = &world;
        let count = 4;
        join_all((0..count).map(|n| async move {
            let key = format!("changing-{n}");
            world.cold(&key, n).await;
            // A generation of its own for the objects put there by others, too: 1 block of many pieces.
            if n % 2 == 1 {
                world.bucket.store.put(BUCKET, &key, &Data::new(n).bytes(0, COLD_BYTES)).expect("put");
                world.fs.status_with(&at(&key), client::Freshness::NOW).await.expect("known");
            }
            let mut reader = world.fs.open(&at(&key)).await.expect("opened");
            let mut read = reader.next_chunk().await.expect("read").expect("not empty").to_vec();
            world.bucket.store.put(BUCKET, &key, &Data::new(n + 50).bytes(0, COLD_BYTES)).expect("put");
            while let Ok(Some(chunk)) = reader.next_chunk().await {
                read.extend_from_slice(&chunk);
            }
            check(&key, n, 0, &read);
            world.fs.status_with(&at(&key), client::Freshness::NOW).await.expect("looked at");
            world.read(&key, n + 50).await.expect("the new object is read");
        }))
        .await;
    });
}

/// A write into a store that is ill, what must come of it, and that nothing of it is in the way afterwards.
struct Write {
    key: String,
    kind: WriteType,
    bytes: usize,
    seed: u64,
}

impl Write {
    fn content(&self) -> Vec<u8> {
        Data::new(self.seed).bytes(0, self.bytes).to_vec()
    }

    async fn run(&self, world: &World) -> client::Result<()> {
        world.write(&self.key, self.kind, &self.content()).await
    }

    /// Acknowledged, so it is there: in the store byte for byte, at once unless it was promised for later.
    async fn is_there(&self, world: &World) {
        let (key, content) = (&self.key, self.content());
        if self.kind == WriteType::AsyncThrough {
            eventually_async(PATIENCE, || async {
                let status = world.fs.status(&at(key)).await.map_err(|error| error.to_string())?;
                let persisted = status.persistence == PersistenceState::Persisted;
                if persisted { Ok(()) } else { Err(format!("{key} is {:?}", status.persistence)) }
            })
            .await;
        }
        let stored = world.object(key).unwrap_or_else(|| panic!("{key} was acknowledged and is not in the store"));
        assert!(stored == content, "{key} has {} bytes in the store that are not those written", stored.len());
        let read = read_all(&world.fs, &at(key)).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        assert!(read == content, "{key} reads as {} bytes that are not those written", read.len());
    }

    /// Refused, so there is nothing, and the name can be had again.
    async fn is_gone(&self, world: &World) {
        let key = &self.key;
        if let Some(status) = world.fs.find(&at(key)).await.expect("metadata are served") {
            assert!(!status.completed, "{key} was refused, and has {} bytes", status.length);
            world.fs.remove(&at(key), Remove::default()).await.expect("removed");
        }
        eventually_async(PATIENCE, || async { world.object(key).is_none() }).await;
        let again = Write { key: key.clone(), kind: self.kind, bytes: 1000, seed: self.seed + 1000 };
        again.run(world).await.unwrap_or_else(|error| panic!("{key} cannot be made again: {error}"));
        again.is_there(world).await;
    }
}

impl Write {
    /// What must hold after this answer, and what the answer may be.
    async fn settles(&self, world: &World, answer: client::Result<()>, kinds: &[ErrorKind]) {
        match answer {
            Ok(()) => self.is_there(world).await,
            Err(error) => {
                assert!(kinds.contains(&error.kind()), "{}: {:?}: {error}", self.key, error.kind());
                self.is_gone(world).await;
            }
        }
    }
}

const KINDS: [(&str, WriteType, usize); 5] = [
    ("cached", WriteType::CacheThrough, SMALL_BYTES),
    ("cached-large", WriteType::CacheThrough, LARGE_BYTES),
    ("through-large", WriteType::Through, LARGE_BYTES),
    ("async", WriteType::AsyncThrough, SMALL_BYTES),
    ("async-large", WriteType::AsyncThrough, LARGE_BYTES),
];

fn writes(name: &str, first_seed: u64) -> Vec<Write> {
    let made = KINDS.iter().zip(first_seed..);
    made.map(|((kind_name, kind, bytes), seed)| Write {
        key: format!("{name}-{kind_name}"),
        kind: *kind,
        bytes: *bytes,
        seed,
    })
    .collect()
}

#[test]
fn a_write_survives_a_store_that_fails_for_a_moment() {
    let request = Side::Request;
    let faults = [
        ("busy", Rule::times(2, Fault::Status(503))),
        ("broken", Rule::once(Fault::Status(500))),
        ("cut", Rule::once(cut(request, 100_000))),
        ("answer-lost", Rule::once(cut(Side::Response, 0))),
        ("flipped", Rule::once(Fault::Flip { side: request, at: 150_000 })),
    ];
    with_world(|world| async move {
        let world = &world;
        for ((name, rule), seed) in faults.iter().zip((0..).step_by(10)) {
            join_all(writes(name, seed).into_iter().map(|write| async move {
                let rule = world.bucket.proxy.inject(about(rule.clone(), &write.key).method("PUT"));
                write.run(world).await.unwrap_or_else(|error| panic!("{}: {error}", write.key));
                write.is_there(world).await;
                assert!(world.bucket.proxy.hits(rule) > 0, "{} has befallen nobody", write.key);
            }))
            .await;
        }
        assert_eq!(world.bucket.store.open_uploads(), 0);
        assert_eq!(world.bucket.keys().len(), faults.len() * KINDS.len(), "{:?}", world.bucket.keys());
    });
}

#[test]
fn a_write_into_a_store_that_stays_ill_is_refused_or_waits_and_leaves_nothing() {
    let faults = [
        ("busy", Rule::always(Fault::Status(503)).method("PUT")),
        ("broken", Rule::always(Fault::Status(500)).method("PUT")),
        ("forbidden", Rule::always(Fault::Status(403)).method("PUT")),
        ("cut", Rule::always(cut(Side::Request, 100_000)).method("PUT")),
        // Multipart uploads cannot be completed, and whether they were is not heard.
        ("complete-busy", Rule::always(Fault::Status(503)).method("POST")),
        ("complete-lost", Rule::always(cut(Side::Response, 0)).method("POST").skip(1)),
    ];
    with_world(|world| async move {
        let world = &world;
        for ((name, rule), seed) in faults.iter().zip((0..).step_by(10)) {
            join_all(writes(name, seed).into_iter().map(|write| async move {
                let ill = world.bucket.proxy.inject(about(rule.clone(), &write.key));
                let answer = write.run(world).await;
                if write.kind == WriteType::AsyncThrough {
                    answer.unwrap_or_else(|error| panic!("{} waits in the cache: {error}", write.key));
                    let met = || world.bucket.proxy.hits(ill) > 0 || world.object(&write.key).is_some();
                    eventually_async(PATIENCE, || async { met() }).await;
                    let read = read_all(&world.fs, &at(&write.key)).await.expect("readable all the while");
                    assert!(read == write.content(), "{}", write.key);
                    world.bucket.proxy.remove(ill);
                    return write.is_there(world).await;
                }
                world.bucket.proxy.remove(ill);
                let mut kinds = vec![ErrorKind::Unavailable, ErrorKind::Busy, ErrorKind::Timeout];
                kinds.extend((*name == "forbidden").then_some(ErrorKind::Precondition));
                write.settles(world, answer, &kinds).await;
            }))
            .await;
        }
        eventually(PATIENCE, || match world.bucket.store.open_uploads() {
            0 => Ok(()),
            open => Err(format!("{open} uploads were left")),
        });
        assert_eq!(world.bucket.keys().len(), faults.len() * KINDS.len(), "{:?}", world.bucket.keys());
    });
}

#[test]
fn a_writer_that_is_dropped_in_the_middle_leaves_nothing() {
    with_world(|world| async move {
        let kinds = [WriteType::Through, WriteType::CacheThrough];
        for (kind, flushes) in [(kinds[0], true), (kinds[1], true), (kinds[1], false)] {
            let key = format!("dropped-{}-{flushes}", kind.name());
            let options = WriteOptions { write_type: Some(kind), ..WriteOptions::default() };
            let mut writer = world.fs.create(&at(&key), options).await.expect("created");
            writer.write(&Data::new(1).bytes(0, 2 * LARGE_BYTES)).await.expect("written");
            if flushes {
                writer.flush().await.expect("flushed");
            }
            eventually_async(PATIENCE, || async { world.bucket.store.open_uploads() == 1 }).await;
            drop(writer);
            eventually_async(PATIENCE, || async { world.bucket.store.open_uploads() == 0 }).await;
            assert_eq!(world.object(&key), None);
            world.fs.remove(&at(&key), Remove::default()).await.expect("its name can be had again");
        }
    });
}

#[test]
fn a_write_that_stalls_ends_when_the_store_goes_on() {
    with_world(|world| async move {
        let world = &world;
        let asked = Fault::Hang { side: Side::Request, after_bytes: 100_000 };
        // An answer without a body is whole with its head; that of a multipart upload's completion has one.
        let answered = Fault::Hang { side: Side::Response, after_bytes: 0 };
        let stalls = [
            ("asked", Rule::once(asked).method("PUT"), writes("asked", 0)),
            ("answered", Rule::once(answered).method("POST").skip(1), writes("answered", 10)),
        ];
        for (name, stall, mut writes) in stalls {
            writes.retain(|write| name == "asked" || write.bytes == LARGE_BYTES);
            let inject = |write: &Write| world.bucket.proxy.inject(about(stall.clone(), &write.key));
            let rules: Vec<_> = writes.iter().map(inject).collect();
            let all = join_all(writes.iter().map(|write| write.run(world)));
            let heal = async {
                eventually_async(PATIENCE, || async {
                    let mut held = writes.iter().zip(&rules);
                    match held.find(|(_, rule)| world.bucket.proxy.hits(**rule) == 0) {
                        Some((write, _)) => Err(format!("{}: {:?}", write.key, world.fs.find(&at(&write.key)).await)),
                        None => Ok(()),
                    }
                })
                .await;
                world.bucket.proxy.clear();
            };
            let (answers, ()) = futures::future::join(all, heal).await;
            for (write, answer) in writes.iter().zip(answers) {
                // Whether an upload was completed whose answer was lost, nobody can tell: then it is no success.
                assert!(answer.is_ok() || name == "answered", "{}: {answer:?}", write.key);
                write.settles(world, answer, &[ErrorKind::Timeout]).await;
            }
        }
        assert_eq!(world.bucket.store.open_uploads(), 0);
    });
}
