//! Namespaces through the real program: made, listed, changed and deleted by its commands, over a real S3 server and a local
//! directory.

#[path = "cluster/support.rs"]
#[allow(dead_code, reason = "each program uses a part of it")]
mod support;

use client::{FileSystem, Freshness, NewNamespace, Remove, WriteOptions};
use futures::TryStreamExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use support::{BUCKET, Bucket, Local, path, read_all};
use testkit::eventually;
use testkit::s3::S3Server;
use types::{ErrorKind, LoadMetadata, WriteType};

const PATIENCE: Duration = Duration::from_secs(30);
/// Clients that list one directory at once.
const ASKERS: usize = 16;
/// What the master may grow by while it takes in a directory, however large: its memtables, its cache, one page.
const GROWTH_BYTES: u64 = 320 << 20;
/// Entries of one page of a store's listing.
const PAGE: u64 = 1_000;

/// Runs a command against the cluster.
fn goosefs(local: &Local, args: &[&str]) -> Output {
    let (host, port) = local.client_config().masters.remove(0);
    let home = tempfile::tempdir().expect("a temporary directory");
    Command::new(env!("CARGO_BIN_EXE_goosefs"))
        .env_clear()
        .env("HOME", home.path())
        .current_dir(home.path())
        .arg(format!("-Dgoosefs.master.rpc.addresses={host}:{port}"))
        .arg("-Dgoosefs.security.login.username=root")
        .args(args)
        .output()
        .expect("the program starts")
}

/// Standard output of a command that succeeds.
fn said(local: &Local, args: &[&str]) -> String {
    let output = goosefs(local, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The sentence of a command that fails.
fn refused(local: &Local, args: &[&str]) -> String {
    let output = goosefs(local, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "one sentence: {text}");
    text
}

async fn write(fs: &FileSystem, at: &str, content: &[u8]) -> client::Result<()> {
    let mut writer = fs.create(&path(at), WriteOptions::default()).await?;
    writer.write(content).await?;
    writer.close().await
}

/// The entries of a directory, compared with the store unless that was done within `interval`.
async fn list(fs: &FileSystem, at: &str, interval: Duration) -> Vec<String> {
    let freshness = Freshness { load: LoadMetadata::Once, sync_interval: Some(interval) };
    let entries = fs.list_with(&path(at), freshness).await.expect("listed");
    entries.map_ok(|entry| entry.path.to_string()).try_collect().await.expect("listed to its end")
}

async fn read(fs: &FileSystem, at: &str) -> client::Result<Vec<u8>> {
    read_all(fs, &path(at)).await
}

/// Whether any file below `dir` holds these bytes; its name.
fn file_with(dir: &Path, needle: &[u8]) -> Option<std::path::PathBuf> {
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir).expect("a readable directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else if let Ok(bytes) = std::fs::read(&path)
                && bytes.windows(needle.len()).any(|window| window == needle)
            {
                return Some(path);
            }
        }
    }
    None
}

#[test]
fn a_namespace_lives_through_the_commands_and_a_restart_and_keeps_its_secrets() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let bucket = Bucket::start(&dir.path().join("s3"));
    let (store, proxy) = (&bucket.store, &bucket.proxy);
    let mut local = Local::start(&dir.path().join("goosefs"));

    let attributes = S3Server::properties(proxy.endpoint()).map(|(key, value)| format!("{key}={value}"));
    let secrets = store.secrets().map(|(key, value)| format!("{key}={value}"));
    let mut create = vec!["ns", "create", "lake", "s3://bucket", "--wPolicy", "CACHE_THROUGH"];
    attributes.iter().for_each(|attribute| create.extend(["--attribute", attribute]));
    secrets.iter().for_each(|secret| create.extend(["--secret", secret]));
    assert_eq!(said(&local, &create), "Namespace lake created over s3://bucket\n");
    let again = refused(&local, &create);
    assert!(again.contains("/lake"), "{again}");

    let nas = dir.path().join("nas");
    std::fs::create_dir(&nas).expect("a directory");
    let nas_uri = nas.to_str().expect("a plain name");
    said(&local, &["ns", "create", "nas", nas_uri, "--wPolicy", "MUST_CACHE", "--rPolicy", "CACHE_CONSISTENT"]);
    let nested = nas.join("deep");
    std::fs::create_dir(&nested).expect("a directory");
    let why = refused(&local, &["ns", "create", "deep", nested.to_str().expect("a plain name")]);
    assert!(why.contains("/nas"), "it names the namespace it lies in: {why}");
    let why = refused(&local, &["ns", "create", "away", "/no/such/directory"]);
    assert!(why.contains("/no/such/directory"), "{why}");

    let look = |local: &Local| {
        let listed = said(local, &["ns", "ls", "--timestamp"]);
        let json = said(local, &["ns", "ls", "--json"]);
        let stat = said(local, &["ns", "stat", "lake"]);
        let stat_nas = said(local, &["ns", "stat", "nas"]);
        for text in [&listed, &json, &stat, &said(local, &["getConf"]), &said(local, &["fsadmin", "report"])] {
            assert!(!text.contains(store.secret_key()), "{text}");
        }
        (listed, json, stat, stat_nas)
    };
    let before = look(&local);
    assert!(before.0.contains("lake") && before.0.contains("s3://bucket") && before.0.contains("CACHE_THROUGH"));
    assert!(before.2.contains("s3a.secretKey=******") && before.2.contains("us-east-1"), "{}", before.2);
    assert!(before.3.contains("wPolicy=MUST_CACHE, rPolicy=CACHE_CONSISTENT"), "{}", before.3);
    runtime.block_on(async { write(&local.client().await, "/lake/kept", b"kept").await.expect("written") });

    local.stop();
    assert_eq!(
        file_with(&dir.path().join("goosefs"), store.secret_key().as_bytes()),
        None,
        "the secret rests in the clear"
    );
    local.restart();
    assert_eq!(look(&local), before, "all is as before");
    local.kill9();
    assert_eq!(
        file_with(&dir.path().join("goosefs"), store.secret_key().as_bytes()),
        None,
        "the secret rests in the clear"
    );
    local.restart();
    assert_eq!(look(&local), before, "all is as before");
    runtime.block_on(async {
        let fs = local.client().await;
        assert_eq!(read(&fs, "/lake/kept").await.expect("read"), b"kept");
        store.put(BUCKET, "new", b"found with the secret that was sealed").expect("put");
        assert_eq!(read(&fs, "/lake/new").await.expect("read"), b"found with the secret that was sealed");
    });

    assert_eq!(said(&local, &["ns", "delete", "lake"]), "Namespace lake deleted; its store keeps its data\n");
    assert_eq!(store.get(BUCKET, "kept").expect("readable").as_deref(), Some(&b"kept"[..]));
    assert!(!said(&local, &["ns", "ls"]).contains("lake"));
    let why = refused(&local, &["ns", "stat", "lake"]);
    assert!(why.contains("\"lake\"") && why.contains("nas"), "it names those there are: {why}");
    runtime.block_on(async {
        let gone = local.client().await.status(&path("/lake/kept")).await.expect_err("unmounted");
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    });
    said(&local, &create);
    runtime.block_on(async {
        assert_eq!(read(&local.client().await, "/lake/kept").await.expect("mounted again"), b"kept");
    });
}

#[test]
fn policies_decide_where_writes_go_and_how_reads_check() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let local = Local::start(&dir.path().join("goosefs"));
    let store = dir.path().join("store");
    std::fs::create_dir(&store).expect("a directory");
    said(&local, &["ns", "create", "n", store.to_str().expect("a plain name"), "--wPolicy", "1"]);
    let stored = |name: &str| std::fs::read(store.join(name)).ok();
    runtime.block_on(async {
        let fs = local.client().await;
        write(&fs, "/n/cached", b"1").await.expect("written");
        assert_eq!(stored("cached"), None, "MUST_CACHE stays here");

        said(&local, &["ns", "setPolicy", "--wPolicy", "CACHE_THROUGH", "n"]);
        write(&fs, "/n/through", b"2").await.expect("written");
        assert_eq!(stored("through").as_deref(), Some(&b"2"[..]));
        said(&local, &["ns", "setPolicy", "--wPolicy", "ASYNC_THROUGH", "n"]);
        write(&fs, "/n/later", b"3").await.expect("written");
        eventually(PATIENCE, || stored("later").as_deref() == Some(&b"3"[..]));
        said(&local, &["ns", "setPolicy", "--wPolicy", "THROUGH", "n"]);
        write(&fs, "/n/only", b"4").await.expect("written");
        assert_eq!(stored("only").as_deref(), Some(&b"4"[..]));
        let status = fs.status(&path("/n/only")).await.expect("known");
        assert!(status.blocks.iter().all(|block| block.locations.is_empty()), "THROUGH caches nothing");
        said(&local, &["ns", "unsetPolicy", "n"]);
        assert!(said(&local, &["ns", "stat", "n"]).contains("wPolicy=CACHE_THROUGH, rPolicy=CACHE,"));
        write(&fs, "/n/default", b"5").await.expect("written");
        assert_eq!(stored("default").as_deref(), Some(&b"5"[..]));

        // A sync interval holds for the entries of a directory as for the directory itself.
        std::fs::create_dir(store.join("sub")).expect("a directory");
        std::fs::write(store.join("sub/a"), b"a").expect("written");
        assert_eq!(list(&fs, "/n/sub", Duration::from_secs(3600)).await, ["/n/sub/a"]);
        std::fs::write(store.join("sub/b"), b"b").expect("written");
        assert_eq!(list(&fs, "/n/sub", Duration::from_secs(3600)).await, ["/n/sub/a"], "looked at just now");
        let both = || async { list(&fs, "/n/sub", Duration::from_millis(1)).await.len() == 2 };
        testkit::eventually_async(PATIENCE, both).await;

        // By default a known file is what it was; a consistent namespace looks each time.
        assert_eq!(read(&fs, "/n/through").await.expect("read"), b"2");
        std::fs::write(store.join("through"), b"changed outside").expect("written");
        assert_eq!(fs.status(&path("/n/through")).await.expect("known").length, 1, "ONCE was asked once");
        said(&local, &["ns", "setPolicy", "--rPolicy", "CACHE_CONSISTENT", "n"]);
        assert_eq!(read(&fs, "/n/through").await.expect("read"), b"changed outside");

        said(&local, &["ns", "setPolicy", "--rPolicy", "NO_CACHE", "n"]);
        std::fs::write(store.join("passing"), b"through").expect("written");
        assert_eq!(read(&fs, "/n/passing").await.expect("read"), b"through");
        let status = fs.status(&path("/n/passing")).await.expect("known");
        assert!(status.blocks.iter().all(|block| block.locations.is_empty()), "NO_CACHE keeps nothing");
    });
}

#[test]
fn a_read_only_namespace_refuses_every_change_with_a_sentence() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let local = Local::start(&dir.path().join("goosefs"));
    let store = dir.path().join("store");
    std::fs::create_dir_all(store.join("d")).expect("a directory");
    std::fs::write(store.join("f"), b"to be read").expect("written");
    std::fs::write(dir.path().join("mine"), b"mine").expect("written");
    let mine = dir.path().join("mine");
    let mine = mine.to_str().expect("a plain name");
    said(&local, &["ns", "create", "ro", store.to_str().expect("a plain name"), "--readonly"]);
    for change in [
        &["fs", "mkdir", "/ro/new"][..],
        &["fs", "rm", "/ro/f"],
        &["fs", "rm", "-R", "/ro/d"],
        &["fs", "mv", "/ro/f", "/ro/g"],
        &["fs", "chmod", "600", "/ro/f"],
        &["fs", "chown", "nobody", "/ro/f"],
        &["fs", "copyFromLocal", mine, "/ro/mine"],
        &["fs", "cp", "/ro/f", "/ro/copy"],
    ] {
        let why = refused(&local, change);
        assert!(why.contains("/ro") && why.contains("read-only"), "{change:?}: {why}");
    }
    runtime.block_on(async {
        let fs = local.client().await;
        for kind in WriteType::ALL {
            let options = WriteOptions { write_type: Some(kind), ..WriteOptions::default() };
            let denied = fs.create(&path("/ro/new"), options).await.err().expect("it is read-only");
            assert_eq!(denied.kind(), ErrorKind::Denied, "{kind:?}: {denied}");
        }
        assert_eq!(read(&fs, "/ro/f").await.expect("reading goes on"), b"to be read");
        let only = Remove { goosefs_only: true, ..Remove::default() };
        fs.remove(&path("/ro/f"), only).await.expect("what the cache knows may be forgotten");
        assert_eq!(read(&fs, "/ro/f").await.expect("it is found again"), b"to be read");
    });
    let names: Vec<_> =
        std::fs::read_dir(&store).expect("readable").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

/// How many objects the large directory has: a million at night, when the random tests repeat often.
fn objects() -> u64 {
    (testkit::rounds(20) * 5_000).clamp(10_000, 1_000_000)
}

/// The process that was started on this directory.
fn process_on(dir: &Path) -> std::path::PathBuf {
    let dir = dir.to_str().expect("a plain name");
    let mut all = std::fs::read_dir("/proc").expect("Linux").filter_map(|entry| Some(entry.ok()?.path()));
    let is_it = |path: &std::path::PathBuf| {
        std::fs::read(path.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(dir))
    };
    all.find(is_it).expect("it runs")
}

/// The most memory a process ever held.
fn peak_bytes(process: &Path) -> u64 {
    let status = std::fs::read_to_string(process.join("status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_large_directory_is_listed_once_for_all_who_ask_and_in_bounded_memory() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let bucket = Bucket::start(&dir.path().join("s3"));
    let (store, proxy) = (&bucket.store, &bucket.proxy);
    let objects = objects();
    for n in 0..objects {
        store.put(BUCKET, &format!("large/object-{n:07}"), b"").expect("put");
    }
    let settings = [
        "goosefs.master.metastore.cache.bytes=32MB",
        "goosefs.master.process.memory.budget=256MB",
        // A million entries take longer than a minute on a busy machine; who waits is not to be sent away here.
        "goosefs.master.request.timeout=10min",
    ];
    let local = Local::start_with(&dir.path().join("goosefs"), &settings);
    let process = process_on(&dir.path().join("goosefs"));
    let config = client::ClientConfig { rpc_timeout: PATIENCE * 20, ..local.client_config() };
    runtime.block_on(async {
        let fs = FileSystem::connect(config.clone()).await.expect("the master answers");
        let new = NewNamespace { write_policy: None, ..bucket.namespace("ns") };
        fs.create_namespace(new).await.expect("the namespace is made");
        fs.status(&path("/ns/large")).await.expect("a prefix is a directory");
        let before = peak_bytes(&process);
        proxy.reset_stats();
        let mut askers = tokio::task::JoinSet::new();
        for _ in 0..ASKERS {
            let config = config.clone();
            askers.spawn(async move {
                let fs = FileSystem::connect(config).await.expect("the master answers");
                // The first entries come when all are known; the rest is not needed here.
                let entries = fs.list(&path("/ns/large")).await.expect("listed");
                drop(entries);
            });
        }
        askers.join_all().await;
        let asked = proxy.stats().total_requests();
        let pages = objects.div_ceil(PAGE);
        assert!((pages..pages + 8).contains(&asked), "{asked} requests for {pages} pages and {ASKERS} askers");
        let grown = peak_bytes(&process) - before;
        assert!(grown < GROWTH_BYTES, "{objects} entries took {} MiB", grown >> 20);

        proxy.reset_stats();
        let status = fs.status(&path(&format!("/ns/large/object-{:07}", objects - 1))).await.expect("known");
        assert!(status.completed && status.length == 0);
        drop(fs.list(&path("/ns/large")).await.expect("listed"));
        assert_eq!(proxy.stats().total_requests(), 0, "what is known is not asked for again");
        // Compared with the store as a whole, again in one listing.
        store.put(BUCKET, "large/zz-late", b"late").expect("put");
        store.delete(BUCKET, "large/object-0000000").expect("deleted");
        drop(fs.list_with(&path("/ns/large"), Freshness::NOW).await.expect("listed"));
        let asked = proxy.stats().total_requests();
        assert!((pages..pages + 8).contains(&asked), "{asked} requests to compare {pages} pages");
        assert!(fs.find(&path("/ns/large/object-0000000")).await.expect("answered").is_none());
        assert_eq!(fs.status(&path("/ns/large/zz-late")).await.expect("found").length, 4);
        let grown = peak_bytes(&process) - before;
        assert!(grown < GROWTH_BYTES, "{objects} entries took {} MiB", grown >> 20);
    });
}
