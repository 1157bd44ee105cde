//! OpenDAL's GooseFS service, every operation of it.

use crate::{BLOCK, NAMES, SIZES, Shared, content, shared};
use futures::StreamExt as _;
use opendal::{Buffer, EntryMode, ErrorKind, Operator, OperatorRegistry};
use opendal_service_goosefs::GooseFs;
use std::process::Command;
use std::time::Duration;
use testkit::data::Data;
use testkit::eventually_async;

const PATIENCE: Duration = Duration::from_secs(60);
/// Where a child of this test program finds the master, and in which state its site file is.
const CHILD_MASTER: &str = "OFFICIAL_TEST_MASTER";

fn builder(master: &str, root: &str) -> GooseFs {
    let builder = GooseFs::default().master_addr(master).root(root).auth_username("root");
    builder.block_size(BLOCK).chunk_size(16 << 10)
}

fn operator(shared: &Shared, root: &str, write_type: &str) -> Operator {
    let builder = builder(&shared.local.master_addr().to_string(), root).write_type(write_type);
    Operator::new(builder).expect("a good configuration")
}

async fn names(operator: &Operator, path: &str, recursive: bool) -> Vec<String> {
    let entries = operator.list_with(path).recursive(recursive).await.expect("listed");
    let mut names: Vec<String> = entries.iter().map(|entry| entry.path().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_type_keeps_every_size() {
    let shared = shared();
    // Asynchronous writes want two workers unless a site file says otherwise: they have a test of their own.
    for kind in ["must_cache", "try_cache", "cache_through", "through"] {
        let operator = operator(&shared, &format!("/opendal/types/{kind}"), kind);
        operator.check().await.expect("it is reached");
        for (seed, bytes) in (10..).zip(SIZES) {
            let path = format!("deep/er/{bytes}");
            let data = content(seed, bytes);
            let written = operator.write(&path, data.clone()).await.expect("written");
            let stat = operator.stat(&path).await.expect("known");
            assert_eq!((stat.content_length(), stat.mode()), (bytes, EntryMode::FILE));
            assert_eq!(stat.etag(), written.etag(), "a rename keeps the file");
            assert!(stat.last_modified().is_some());
            assert!(operator.read(&path).await.expect("read").to_vec() == data, "{kind} {bytes}");
            let object = shared.local.store().join(format!("opendal/types/{kind}/{path}"));
            match kind {
                "cache_through" | "through" => assert!(std::fs::read(object).expect("the object exists") == data),
                _ => assert!(!object.exists()),
            }
        }
        assert_eq!(names(&operator, "deep/er/", false).await.len(), 1 + SIZES.len(), "no temporary name is left");
    }
}

/// Its site file is given by the environment, so this runs in a process of its own.
#[test]
fn asynchronous_writes_reach_the_store() {
    if let Ok(master) = std::env::var(CHILD_MASTER) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let builder = builder(&master, "/opendal/async").write_type("async_through");
            let operator = Operator::new(builder).expect("a good configuration");
            for (seed, bytes) in (20..).zip(SIZES) {
                let data = content(seed, bytes);
                operator.write(&bytes.to_string(), data.clone()).await.expect("written");
                assert!(operator.read(&bytes.to_string()).await.expect("read").to_vec() == data);
            }
        });
        return;
    }
    let shared = shared();
    let dir = tempfile::tempdir().expect("a directory");
    let site = dir.path().join("goosefs-site.properties");
    std::fs::write(&site, "goosefs.user.file.replication.durable=1\ngoosefs.user.file.replication.durable.min=1\n")
        .expect("written");
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "opendal_service::asynchronous_writes_reach_the_store"])
        .env(CHILD_MASTER, shared.local.master_addr().to_string())
        .env("GOOSEFS_CONFIG_FILE", &site)
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    for (seed, bytes) in (20..).zip(SIZES) {
        let object = shared.local.store().join(format!("opendal/async/{bytes}"));
        testkit::eventually(PATIENCE, || object.exists());
        assert!(std::fs::read(&object).expect("an object appears whole") == content(seed, bytes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_streams_and_many_ranges_at_once() {
    let shared = shared();
    for kind in ["must_cache", "through"] {
        let operator = operator(&shared, "/opendal/ranges", kind);
        let bytes = 4 * BLOCK + 99;
        let data = content(30, bytes);
        let part =
            |start: u64, end: u64| &data[usize::try_from(start).expect("small")..usize::try_from(end).expect("small")];
        operator.write(kind, data.clone()).await.expect("written");
        let ranges = [0..1, 0..bytes, BLOCK - 5..BLOCK + 5, BLOCK..2 * BLOCK, bytes - 1..bytes, 70..70];
        for range in ranges.clone() {
            let got = operator.read_with(kind).range(range.clone()).await.expect("read");
            assert_eq!(got.to_vec(), part(range.start, range.end), "{range:?}");
        }
        assert_eq!(operator.read_with(kind).range(BLOCK + 7..).await.expect("read").to_vec(), part(BLOCK + 7, bytes));
        let reader = operator.reader_with(kind).concurrent(4).chunk(10_000).await.expect("opens");
        assert!(reader.read(..).await.expect("read").to_vec() == data, "in concurrent parts");
        let fetched = reader.fetch(ranges.to_vec()).await.expect("read");
        for (got, range) in fetched.iter().zip(ranges) {
            assert_eq!(got.to_vec(), part(range.start, range.end), "{range:?}");
        }
        let mut stream = reader.into_bytes_stream(3..bytes).await.expect("opens");
        let mut all = Vec::new();
        while let Some(chunk) = stream.next().await {
            all.extend_from_slice(&chunk.expect("read"));
        }
        assert!(all == part(3, bytes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_mebibytes_arrive_byte_for_byte() {
    const BYTES: u64 = 300 << 20;
    const PART: usize = 4 << 20;
    let shared = shared();
    let master = shared.local.master_addr().to_string();
    let builder =
        GooseFs::default().master_addr(&master).root("/opendal").auth_username("root").write_type("must_cache");
    let operator = Operator::new(builder).expect("a good configuration");
    let data = Data::new(31);
    let mut writer = operator.writer_with("large").concurrent(2).await.expect("opens");
    for at in (0..BYTES).step_by(PART) {
        writer.write(data.bytes(at, PART)).await.expect("written");
    }
    writer.close().await.expect("closed");
    let mut stream = operator.reader("large").await.expect("opens").into_bytes_stream(..).await.expect("opens");
    let mut at = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.expect("read");
        data.verify(at, &chunk).expect("what was written");
        at += chunk.len() as u64;
    }
    assert_eq!(at, BYTES);
    operator.delete("large").await.expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_made_listed_moved_and_removed() {
    let shared = shared();
    let operator = operator(&shared, "/opendal/tree", "cache_through");
    operator.create_dir("a/b/").await.expect("made");
    operator.create_dir("a/b/").await.expect("made again");
    assert!(operator.stat("a/b/").await.expect("known").is_dir());
    assert_eq!(names(&operator, "a/b/", false).await, ["a/b/"], "an empty one lists itself");
    assert!(names(&operator, "nothing/", false).await.is_empty());
    for n in 0..3 {
        operator.write(&format!("a/file-{n}"), vec![n]).await.expect("written");
        operator.write(&format!("a/b/file-{n}"), vec![n]).await.expect("written");
    }
    assert_eq!(names(&operator, "a/", false).await, ["a/", "a/b/", "a/file-0", "a/file-1", "a/file-2"]);
    let all = ["a/", "a/b/", "a/b/file-0", "a/b/file-1", "a/b/file-2", "a/file-0", "a/file-1", "a/file-2"];
    assert_eq!(names(&operator, "a/", true).await, all);
    let mut lister = operator.lister_with("a/").recursive(true).await.expect("opens");
    let mut count = 0;
    while let Some(entry) = lister.next().await {
        entry.expect("listed");
        count += 1;
    }
    assert_eq!(count, all.len());

    operator.rename("a/file-0", "new/parent/moved").await.expect("renamed, its parent made");
    assert_eq!(operator.read("new/parent/moved").await.expect("read").to_vec(), [0]);
    assert!(!operator.exists("a/file-0").await.expect("answered"));
    operator.rename("a/file-1", "a/file-2").await.expect("renamed over");
    assert_eq!(operator.read("a/file-2").await.expect("read").to_vec(), [1]);
    let refused = operator.rename_with("a/file-2", "a/b/file-0").if_not_exists(true).await.expect_err("it exists");
    assert_eq!(refused.kind(), ErrorKind::ConditionNotMatch);
    let refused = operator.rename("a/file-2", "a/b").await.expect_err("a directory");
    assert_eq!(refused.kind(), ErrorKind::IsADirectory);
    assert_eq!(operator.rename("a/none", "a/x").await.expect_err("missing").kind(), ErrorKind::NotFound);

    operator.delete("a/b/file-0").await.expect("removed");
    operator.delete("a/b/file-0").await.expect("removed again");
    operator.delete_iter(["a/b/file-1".to_owned(), "a/none".to_owned()]).await.expect("removed");
    assert!(!operator.exists("a/b/file-1").await.expect("answered"));
    operator.delete_with("a/").recursive(true).await.expect("removed");
    assert!(!operator.exists("a/").await.expect("answered"));
    let store = shared.local.store().join("opendal/tree/a");
    eventually_async(PATIENCE, || async { !store.exists() }).await;
    for error in [
        operator.stat("a/b/file-2").await.map(drop).expect_err("gone"),
        operator.read("a/b/file-2").await.map(drop).expect_err("gone"),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    assert_eq!(operator.copy("new/parent/moved", "y").await.expect_err("no copy").kind(), ErrorKind::Unsupported);
    let presigned = operator.presign_read("new/parent/moved", Duration::from_secs(60)).await;
    assert_eq!(presigned.expect_err("no presigning").kind(), ErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_kept_as_they_are() {
    let shared = shared();
    let operator = operator(&shared, "/opendal/the names", "cache_through");
    for name in NAMES {
        operator.write(name, name).await.expect("written");
        assert_eq!(operator.read(name).await.expect("read").to_vec(), name.as_bytes());
        assert_eq!(operator.stat(name).await.expect("known").content_length(), name.len() as u64);
    }
    let mut expected: Vec<String> = NAMES.map(str::to_owned).to_vec();
    expected.push("/".to_owned());
    expected.sort();
    let mut listed = names(&operator, "/", false).await;
    listed.retain(|name| name != "/");
    expected.retain(|name| name != "/");
    assert_eq!(listed, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_appears_whole_or_not_at_all() {
    let shared = shared();
    for kind in ["must_cache", "cache_through"] {
        let operator = operator(&shared, &format!("/opendal/whole/{kind}"), kind);
        operator.write("kept", "first").await.expect("written");
        let mut writer = operator.writer("kept").await.expect("opens");
        writer.write(content(40, 2 * BLOCK)).await.expect("written");
        assert_eq!(operator.read("kept").await.expect("read").to_vec(), b"first", "{kind}: not before the close");
        writer.abort().await.expect("aborted");
        let mut unwritten = operator.writer("never").await.expect("opens");
        unwritten.abort().await.expect("aborted");
        assert_eq!(operator.read("kept").await.expect("read").to_vec(), b"first");
        assert_eq!(names(&operator, "", true).await.iter().filter(|name| name.as_str() != "/").count(), 1, "{kind}");

        let data = Data::new(41);
        let parts = [data.bytes(0, 10), data.bytes(10, 65_536), data.bytes(0, 0), data.bytes(65_546, 7)];
        let mut writer = operator.writer("kept").await.expect("opens");
        writer.write(parts.into_iter().collect::<Buffer>()).await.expect("written");
        writer.close().await.expect("closed");
        assert!(operator.read("kept").await.expect("read").to_vec() == content(41, 65_553), "replaced");
        let refused = operator.write_with("kept", "second").if_not_exists(true).await.expect_err("it exists");
        assert_eq!(refused.kind(), ErrorKind::ConditionNotMatch);
        operator.write_with("fresh", "").if_not_exists(true).await.expect("written");
        assert_eq!(operator.stat("fresh").await.expect("known").content_length(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writers_at_once_nobody_sees_a_mix() {
    let shared = shared();
    let (mut created, mut tasks) = (0, Vec::new());
    for n in 0..32_u64 {
        // A client of its own each, as many processes would have.
        let operator = operator(&shared, "/opendal/crowd", "cache_through");
        tasks.push(tokio::spawn(async move {
            let data = content(n, BLOCK + n);
            operator.write(&format!("own-{n}"), data.clone()).await.expect("written");
            assert!(operator.read(&format!("own-{n}")).await.expect("read").to_vec() == data);
            let first = operator.write_with("first", data.clone()).if_not_exists(true).await;
            if let Err(error) = &first {
                assert_eq!(error.kind(), ErrorKind::ConditionNotMatch, "{error}");
            }
            // This client replaces by remove and rename: another writer may come between.
            let last = operator.write("last", data).await;
            assert!(
                last.as_ref()
                    .err()
                    .is_none_or(|error| { matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) }),
                "{last:?}"
            );
            first.is_ok()
        }));
    }
    for task in tasks {
        created += u32::from(task.await.expect("no client fails"));
    }
    assert_eq!(created, 1, "one create wins");
    let operator = operator(&shared, "/opendal/crowd", "cache_through");
    for path in ["first", "last"] {
        let bytes = operator.read(path).await.expect("read").to_vec();
        let n = bytes.len() as u64 - BLOCK;
        assert!(n < 32 && bytes == content(n, BLOCK + n), "{path} is one writer's");
    }
    assert_eq!(names(&operator, "/", false).await.iter().filter(|name| name.as_str() != "/").count(), 34);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_uri_is_enough() {
    let shared = shared();
    opendal_service_goosefs::register_goosefs_service(OperatorRegistry::get());
    // In a tree of its own: without a user the client is somebody else than in the other tests.
    let uri = format!("goosefs://{}/by-uri", shared.local.master_addr());
    let operator = Operator::from_uri(uri.as_str()).expect("a good configuration");
    operator.write("file", "content").await.expect("written");
    assert_eq!(operator.read("file").await.expect("read").to_vec(), b"content");
    let wrong = GooseFs::default().master_addr("127.0.0.1:9200").write_type("cache_trough");
    assert_eq!(Operator::new(wrong).expect_err("no such type").kind(), ErrorKind::ConfigInvalid);
}
