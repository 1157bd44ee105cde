//! Many clients at once, and one that stays connected while the process dies and comes back.

use super::{config, connect, read, write};
use crate::support::Local;
use crate::{BLOCK, content, shared};
use goosefs_sdk::config::WriteType;
use goosefs_sdk::fs::{BaseFileSystem, CreateFileOptions, FileSystem};
use goosefs_sdk::proto::grpc::file::WritePType;

#[tokio::test(flavor = "multi_thread")]
async fn thirty_two_clients_at_once() {
    let shared = shared();
    let tasks: Vec<_> = (0..32)
        .map(|n| {
            let config = config(&shared.local);
            tokio::spawn(async move {
                let fs = BaseFileSystem::connect(config).await.expect("connects");
                let data = content(n, 2 * BLOCK + n);
                for kind in WriteType::ALL {
                    let path = format!("/crowd/{n}/{kind}");
                    let options = CreateFileOptions { recursive: true, ..CreateFileOptions::with_write_type(*kind) };
                    fs.write_file(&path, &data, options).await.expect("written");
                    assert!(read(&fs, &path).await == data, "{path}");
                }
                assert_eq!(fs.list_status(&format!("/crowd/{n}"), false).await.expect("listed").len(), 5);
                fs.context().close().await.expect("closes");
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no client fails");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_client_outlives_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut local = Local::start(dir.path());
    let fs = connect(&local).await;
    let data = content(8, 2 * BLOCK + 5);
    write(&fs, "/before", &data, WritePType::CacheThrough).await;
    write(&fs, "/cached", &data, WritePType::MustCache).await;
    write(&fs, "/later", &data, WritePType::AsyncThrough).await;
    for round in 0..2 {
        local.kill9();
        local.restart();
        for path in ["/before", "/cached", "/later"] {
            assert!(read(&fs, path).await == data, "{path} after kill {round}");
        }
        for n in 0..12 {
            let path = format!("/after-{round}-{n}");
            write(&fs, &path, &data, WritePType::CacheThrough).await;
            assert!(read(&fs, &path).await == data, "{path}");
        }
    }
    local.stop();
}
