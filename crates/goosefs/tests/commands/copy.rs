//! `fs copyFromLocal`: goes on where an interrupted one stopped, and takes no other file for its own.

use super::support::{BUCKET, Bucket, Local, path, read_all};
use super::{block_on, definitions, number, refused, said};
use client::{FileStatus, FileSystem, WriteOptions};
use std::path::Path;
use std::time::Duration;
use testkit::data::Data;
use testkit::eventually_async;
use testkit::process::Builder;
use testkit::proxy::{Fault, Rule, Side};

const PATIENCE: Duration = Duration::from_secs(60);
const FILES: u64 = 9;
const THREADS: usize = 2;
/// Uploads the store takes before it stalls.
const WHOLE: u64 = 4;

struct World {
    local: Local,
    bucket: Bucket,
    fs: FileSystem,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().expect("a directory");
        let bucket = Bucket::start(&dir.path().join("s3"));
        let local = Local::start(&dir.path().join("goosefs"));
        let fs = local.client().await;
        fs.create_namespace(bucket.namespace("ns")).await.expect("the namespace is made");
        World { local, bucket, fs, dir }
    }

    fn home(&self) -> &Path {
        self.dir.path()
    }

    /// A local file; its absolute name.
    fn file(&self, name: &str, content: &[u8]) -> String {
        let at = self.dir.path().join(name);
        std::fs::create_dir_all(at.parent().expect("it has one")).expect("made");
        std::fs::write(&at, content).expect("written");
        at.to_str().expect("a plain name").to_owned()
    }

    async fn write(&self, at: &str, content: &[u8]) -> client::Result<()> {
        let mut writer = self.fs.create(&path(at), WriteOptions::default()).await?;
        writer.write(content).await?;
        writer.close().await
    }
}

/// Length and content follow from the number; the last ones are empty and small.
fn content(number: u64) -> Vec<u8> {
    let bytes = match number {
        7 => 0,
        8 => 1_000,
        _ => 2_000_000 + number,
    };
    Data::new(number).bytes(0, usize::try_from(bytes).expect("small")).to_vec()
}

fn name(number: u64) -> String {
    format!("dir-{}/file-{number}", number % 3)
}

async fn files(fs: &FileSystem) -> Vec<FileStatus> {
    let mut all = Vec::new();
    for directory in 0..3 {
        // Not there yet: nothing is in it.
        all.extend(fs.list_all(&path(&format!("/ns/tree/dir-{directory}"))).await.unwrap_or_default());
    }
    all
}

#[test]
fn a_copy_killed_in_the_middle_goes_on_when_it_is_called_again() {
    block_on(async {
        let world = World::new().await;
        for number in 0..FILES {
            world.file(&format!("tree/{}", name(number)), &content(number));
        }
        let source = world.home().join("tree");
        let threads = THREADS.to_string();
        let command =
            ["fs", "copyFromLocal", "--json", "--thread", &threads, source.to_str().expect("plain"), "/ns/tree"];

        let stall = Rule::always(Fault::Hang { side: Side::Request, after_bytes: 0 }).method("PUT").path("file-");
        let stall = world.bucket.proxy.inject(stall.skip(WHOLE));
        let copy = Builder::new(env!("CARGO_BIN_EXE_goosefs"), world.home())
            .env("HOME", world.home())
            .args(definitions(&world.local))
            .args(command)
            .spawn()
            .expect("the program starts");
        let before = eventually_async(PATIENCE, || async {
            let files = files(&world.fs).await;
            let open = files.iter().filter(|file| !file.completed).count();
            (open == THREADS && world.bucket.proxy.hits(stall) >= 2).then_some(files)
        })
        .await;
        copy.kill9().expect("it can be killed");
        world.bucket.proxy.clear();
        let whole: Vec<&FileStatus> = before.iter().filter(|file| file.completed).collect();
        assert_eq!(whole.len() as u64, WHOLE, "{before:?}");

        let records = || -> Vec<std::path::PathBuf> {
            let directory = std::fs::read_dir(world.home().join(".goosefs/copies")).expect("a directory");
            directory.map(|entry| entry.expect("an entry").path()).collect()
        };
        let [record] = records().try_into().expect("one record");
        let remembered = std::fs::read(&record).expect("readable");

        // Another command did not leave these: it must not take them for its own.
        let left = before.iter().find(|file| !file.completed).expect("two of them");
        let below = left.path.as_str().strip_prefix("/ns/tree/").expect("below");
        let alone = source.join(below);
        let why = refused(
            &world.local,
            world.home(),
            &["fs", "copyFromLocal", alone.to_str().expect("plain"), left.path.as_str()],
        );
        assert!(why.contains("not complete") && why.contains("goosefs fs rm"), "{why}");

        let told = said(&world.local, world.home(), &command);
        assert_eq!((number(&told, "copied"), number(&told, "skipped")), (FILES - WHOLE, WHOLE), "{told}");
        for number in 0..FILES {
            let at = path(&format!("/ns/tree/{}", name(number)));
            assert!(read_all(&world.fs, &at).await.expect("read") == content(number), "{at}");
            assert!(world.bucket.object(&format!("tree/{}", name(number))).expect("an object") == content(number));
        }
        for file in whole {
            let now = world.fs.status(&file.path).await.expect("there");
            assert_eq!(now.file, file.file, "{} was not written again", file.path);
        }
        assert_eq!(records(), [] as [&Path; 0], "a copy that is done leaves no record");

        // As if it had been killed once more, after the last byte and before it noted that.
        std::fs::write(&record, remembered).expect("written");
        let told = said(&world.local, world.home(), &command);
        assert_eq!((number(&told, "copied"), number(&told, "skipped")), (0, FILES), "{told}");
        assert_eq!(records(), [] as [&Path; 0], "and none now");
    });
}

#[test]
fn only_the_same_content_counts_as_copied_before() {
    block_on(async {
        let world = World::new().await;
        let file = world.file("mine", b"content");
        let copy = |to: &str| -> [String; 5] { ["fs", "copyFromLocal", "--json", &file, to].map(str::to_owned) };
        let skips = |to: &str| {
            let told = said(&world.local, world.home(), &copy(to).each_ref().map(String::as_str));
            assert_eq!((number(&told, "copied"), number(&told, "skipped"), number(&told, "skippedBytes")), (0, 1, 7));
        };
        let refuses = |to: &str, words: &str| {
            let why = refused(&world.local, world.home(), &copy(to).each_ref().map(String::as_str));
            assert!(why.contains(words) && why.contains(to), "{words:?} is missing from: {why}");
        };
        // Written by somebody: the master knows the checksum.
        world.write("/ns/same", b"content").await.expect("written");
        world.write("/ns/other", b"CONTENT").await.expect("written");
        skips("/ns/same");
        refuses("/ns/other", "another file exists");
        // Found in the store: nobody knows the checksum, the content is read.
        world.bucket.store.put(BUCKET, "stored-same", b"content").expect("put");
        world.bucket.store.put(BUCKET, "stored-other", b"CONTENT").expect("put");
        skips("/ns/stored-same");
        refuses("/ns/stored-other", "another file exists");
        assert_eq!(world.bucket.object("stored-other").expect("there"), b"CONTENT");
        // Being written by somebody now.
        let mut writer = world.fs.create(&path("/ns/open"), WriteOptions::default()).await.expect("made");
        refuses("/ns/open", "not complete");
        writer.write(b"content").await.expect("written");
        writer.close().await.expect("nobody took it away");
        skips("/ns/open");
        // A directory has the name.
        world
            .fs
            .make_directory(
                &path("/ns/dir/mine"),
                client::MakeDirectory { recursive: true, allow_exists: false, mode: types::Mode::new(0o755) },
            )
            .await
            .expect("made");
        let why = refused(&world.local, world.home(), &copy("/ns/dir").each_ref().map(String::as_str));
        assert!(why.contains("/ns/dir/mine"), "{why}");
        // What it says without JSON.
        let told = said(&world.local, world.home(), &["fs", "copyFromLocal", &file, "/ns/same"]);
        assert_eq!(told, format!("Copied file://{file} to /ns/same\nSkipped 1 file(s) (7B) that were there already\n"));
    });
}
