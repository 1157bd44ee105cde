//! No space left: what is refused says where and what to do, what was acknowledged stays, and with space it goes on.

use super::{goes_on, path, read, says, write};
use crate::support::Local;
use client::{ClientConfig, FileSystem, MakeDirectory, Remove};
use std::time::Duration;
use testkit::data::Data;
use testkit::{eventually_async, mounts};
use types::{ErrorKind, Mode, WriteType};

const PATIENCE: Duration = Duration::from_secs(60);
const FILE: usize = 2 << 20;

fn data(n: u64) -> Vec<u8> {
    Data::new(n).bytes(0, FILE).to_vec()
}

/// Writes files `/0`, `/1`, … until one is refused: how many were acknowledged, and the refusal.
async fn fill(fs: &FileSystem, write_type: WriteType) -> (u64, client::Error) {
    for n in 0..64 {
        if let Err(error) = write(fs, &format!("/{n}"), &data(n), write_type).await {
            return (n, error);
        }
    }
    panic!("64 files of 2 MiB do not fit");
}

async fn all_there(fs: &FileSystem, count: u64) {
    for n in 0..count {
        assert!(read(fs, &format!("/{n}")).await.expect("read") == data(n), "/{n} holds what was acknowledged");
    }
}

#[test]
fn a_full_cache_disk_refuses_by_name_and_goes_on_with_space() {
    mounts::own("full::a_full_cache_disk_refuses_by_name_and_goes_on_with_space", || {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = dir.path().join("state/cache");
        mounts::in_memory(&cache, 16);
        let local = Local::start_with(dir.path(), &["goosefs.worker.tieredstore.level0.dirs.quota=200MB"]);
        super::block_on(async {
            let fs = local.client().await;
            let (count, error) = fill(&fs, WriteType::MustCache).await;
            assert_eq!(error.kind(), ErrorKind::Full, "{error}");
            says(&error.to_string(), &[&format!("/{count}"), cache.to_str().expect("text"), "full", "free space"]);
            assert!(count >= 4, "{count} files fit");
            all_there(&fs, count).await;
            // What need not be cached is written all the same.
            write(&fs, "/through", b"past the cache", WriteType::CacheThrough).await.expect("written");
            assert_eq!(read(&fs, "/through").await.expect("read"), b"past the cache");
            for n in 1..count {
                fs.remove(&path(&format!("/{n}")), Remove::default()).await.expect("removed");
            }
            eventually_async(PATIENCE, || async {
                let written = write(&fs, "/again", &data(7), WriteType::MustCache).await;
                if written.is_err() {
                    // An incomplete file holds its name.
                    let _ = fs.remove(&path("/again"), Remove::default()).await;
                }
                written
            })
            .await;
            assert!(read(&fs, "/again").await.expect("read") == data(7));
            all_there(&fs, 1).await;
            goes_on(&local).await;
        });
    });
}

#[test]
fn a_full_store_refuses_by_name_and_goes_on_with_space() {
    mounts::own("full::a_full_store_refuses_by_name_and_goes_on_with_space", || {
        let dir = tempfile::tempdir().expect("a directory");
        let store = dir.path().join("state/ufs");
        mounts::in_memory(&store, 16);
        let local = Local::start(dir.path());
        super::block_on(async {
            let fs = local.client().await;
            for kind in [WriteType::Through, WriteType::CacheThrough] {
                let (count, error) = fill(&fs, kind).await;
                assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                says(&error.to_string(), &[&format!("{count}"), "the store is full", "free space or raise its quota"]);
                assert!(count >= 4, "{count} files fit");
                assert!(!store.join(count.to_string()).exists(), "nothing half-written shows");
                all_there(&fs, count).await;
                for n in 0..=count {
                    let removed = fs.remove(&path(&format!("/{n}")), Remove::default()).await;
                    assert!(removed.is_ok() || n == count, "{removed:?}");
                }
                goes_on(&local).await;
            }
        });
    });
}

/// Without its journal a master acknowledges nothing: it stops, says why, and has everything when it is back.
#[test]
fn a_full_journal_disk_stops_the_master_by_name_and_loses_nothing() {
    mounts::own("full::a_full_journal_disk_stops_the_master_by_name_and_loses_nothing", || {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = dir.path().join("state/journal");
        mounts::in_memory(&journal, 4);
        let mut local = Local::start_with(dir.path(), &["goosefs.master.journal.log.size.bytes.max=256KB"]);
        // All but two segments of it are taken by something else.
        let filler = journal.join("somebody-elses");
        let taken = (4 << 20) - 3 * (256 << 10);
        std::fs::write(&filler, vec![0; taken]).expect("written");
        let name = |n: u64| path(&format!("/{n:03}{}", format!("/{}", "d".repeat(200)).repeat(4)));
        let count = super::block_on(async {
            let config = ClientConfig { rpc_timeout: Duration::from_secs(5), ..local.client_config() };
            let fs = FileSystem::connect(config).await.expect("connects");
            let how = MakeDirectory { recursive: true, allow_exists: false, mode: Mode::new(0o755) };
            for n in 0..10_000 {
                if let Err(error) = fs.make_directory(&name(n), how).await {
                    assert!(error.kind().is_transient(), "nothing is said of its outcome: {error}");
                    return n;
                }
            }
            panic!("10,000 directories do not fit");
        });
        assert!(count > 0, "some fit");
        let said = local.ended(PATIENCE);
        assert!(!said.contains("panicked"), "{said}");
        let last = said.lines().rev().find_map(|line| line.strip_prefix("goosefs: ")).expect("it says why");
        says(
            last,
            &["stopped by itself", journal.to_str().expect("text"), "No space left", "free space", "start it again"],
        );

        std::fs::remove_file(&filler).expect("removed");
        local.restart();
        super::block_on(async {
            let fs = local.client().await;
            for n in 0..count {
                assert!(fs.find(&name(n)).await.expect("answered").is_some(), "{n} was acknowledged");
            }
            goes_on(&local).await;
        });
        local.stop();
    });
}
