//! A worker, its master, its store: all a test needs, on free ports and in a temporary directory.

use crate::client::Client;
use crate::master::{File, Listening, Master};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use testkit::eventually_async;
use types::{Ordinal, WriteType};
use ufs::{Key, UnderStore, WriteOptions};
use worker::{DirectoryConfig, Env, Medium, Watermarks, Worker, WorkerConfig};

pub const MIB: u64 = 1024 * 1024;
pub const BLOCK: u64 = 4 * MIB;
pub const PATIENCE: Duration = Duration::from_secs(20);

static STORES: AtomicU64 = AtomicU64::new(0);

pub struct Cluster {
    pub home: TempDir,
    pub config: WorkerConfig,
    pub uri: String,
    pub store: Arc<dyn UnderStore>,
    pub master: Arc<Master>,
    pub listening: Option<Listening>,
    pub worker: Option<Worker>,
}

impl Cluster {
    pub async fn start() -> Cluster {
        Cluster::with(|_| {}).await
    }

    /// A worker with one directory of 256 MiB, registered.
    pub async fn with(edit: impl FnOnce(&mut WorkerConfig)) -> Cluster {
        let home = tempfile::tempdir().expect("a temporary directory");
        let uri = format!("mem://worker-{}-{}", std::process::id(), STORES.fetch_add(1, Ordering::Relaxed));
        let store = ufs::open(&uri, &BTreeMap::new(), &BTreeMap::new()).expect("a store in memory");
        let key_file = home.path().join("key");
        let master = Master::new(&key_file, &uri);
        let listening = master.listen("127.0.0.1:0");
        let directory = DirectoryConfig {
            path: home.path().join("blocks"),
            tier: Ordinal(0),
            medium: Medium::Ssd,
            quota_bytes: 256 * MIB,
            watermarks: Watermarks::default(),
        };
        let mut config = WorkerConfig::local(vec![directory], home.path().join("work"), key_file);
        config.masters = vec![listening.address()];
        config.master_timeout = Duration::from_secs(5);
        edit(&mut config);
        let mut cluster = Cluster { home, config, uri, store, master, listening: Some(listening), worker: None };
        cluster.start_worker().await;
        cluster
    }

    pub async fn start_worker(&mut self) {
        let worker = Worker::start(self.config.clone(), Env::system()).await.expect("the worker starts");
        self.worker = Some(worker);
        eventually_async(PATIENCE, || async { self.worker().is_registered() }).await;
    }

    pub async fn stop_worker(&mut self) {
        self.worker.take().expect("it runs").stop(Duration::from_secs(2)).await;
    }

    pub fn worker(&self) -> &Worker {
        self.worker.as_ref().expect("it runs")
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.worker().rpc_addr(), "ann").await
    }

    /// An object in the store, and a complete file that stands for it.
    pub async fn object(&self, container: u64, content: &Bytes) -> File {
        let file = self.put(&format!("data/{container}"), content).await;
        self.master.add(container, file.clone());
        file
    }

    /// An object in the store; the file that would stand for it.
    pub async fn put(&self, key: &str, content: &Bytes) -> File {
        let at = Key::parse(key).expect("a key");
        let mut writer = self.store.write(&at, WriteOptions::default()).await.expect("memory");
        writer.write(content.clone()).await.expect("memory");
        let object = writer.finish().await.expect("memory");
        File {
            key: key.to_owned(),
            fingerprint: object.fingerprint.expect("memory has tags").to_string(),
            length: length(content),
            complete: true,
            ..file(WriteType::Through)
        }
    }

    /// What the store has at a key.
    pub async fn stored(&self, key: &str) -> Option<Bytes> {
        let key = Key::parse(key).expect("a key");
        let info = self.store.stat(&key).await.expect("memory")?;
        let stream = self.store.read(&key, 0..info.length, None).await.expect("memory");
        Some(stream.collect().await.expect("memory"))
    }

    /// Files below the block directory that end so.
    pub fn files(&self, end: &str) -> Vec<PathBuf> {
        let shards = std::fs::read_dir(self.home.path().join("blocks/blocks")).expect("it exists");
        let files = shards.flat_map(|shard| std::fs::read_dir(shard.expect("readable").path()).expect("readable"));
        let mut paths: Vec<PathBuf> = files.map(|file| file.expect("readable").path()).collect();
        paths.retain(|path| path.to_string_lossy().ends_with(end));
        paths
    }

    /// Waits until nothing of any stream is left.
    pub async fn idle(&self) {
        eventually_async(PATIENCE, || async {
            let worker = self.worker();
            worker.metrics().active_reads.get() == 0
                && worker.metrics().active_writes.get() == 0
                && worker.metrics().active_fetches.get() == 0
                && worker.held_bytes() == 0
        })
        .await;
        self.worker().check_invariants();
    }
}

/// A file that is being written.
pub fn file(write_type: WriteType) -> File {
    File {
        key: String::new(),
        fingerprint: String::new(),
        length: 0,
        block_bytes: BLOCK,
        complete: false,
        write_type,
        cacheable: true,
        only: None,
    }
}

pub fn length(content: &Bytes) -> u64 {
    u64::try_from(content.len()).expect("small")
}

/// Bytes that differ from place to place and from seed to seed.
pub fn pattern(seed: u64, length: u64) -> Bytes {
    (0..length)
        .map(|at| u8::try_from((at / 5 + at * 3 + at / 65536 * 11 + seed * 37) % 251).expect("below 251"))
        .collect()
}
