//! Stores for tests, and a clock and chance for the layer around them.
#![allow(dead_code)] // each test binary uses a part

pub mod fake_cos;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use testkit::s3::{Options, S3Server};
use types::{Clock, Entropy, Monotonic, Secret, UnixMs};
use ufs::{LayerOptions, Layered, UnderStore};

/// Stands still, unless tokio's clock is asked for latencies too.
pub struct TestClock(pub tokio::time::Instant);
impl Clock for TestClock {
    fn unix(&self) -> UnixMs {
        UnixMs(1_700_000_000_000)
    }
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.elapsed())
    }
}

/// Counts up in odd steps.
#[derive(Default)]
pub struct TestEntropy(AtomicU64);
impl Entropy for TestEntropy {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed)
    }
}

pub fn layered(inner: Arc<dyn UnderStore>, options: LayerOptions) -> Layered {
    Layered::new(inner, options, Arc::new(TestClock(tokio::time::Instant::now())), Arc::new(TestEntropy::default()))
}

/// An S3 server with one bucket, and stores on it.
pub struct S3 {
    pub server: S3Server,
    pub dir: tempfile::TempDir,
}

impl S3 {
    pub fn start() -> S3 {
        let dir = tempfile::tempdir().expect("a directory");
        let server = S3Server::start(dir.path(), Options::default()).expect("a server");
        server.create_bucket("bucket").expect("a bucket");
        S3 { server, dir }
    }
    pub fn store(&self, uri: &str) -> Arc<dyn UnderStore> {
        self.store_at(uri, &self.server.endpoint())
    }
    /// The same through another address, such as a proxy's.
    pub fn store_at(&self, uri: &str, endpoint: &str) -> Arc<dyn UnderStore> {
        s3_store(uri, endpoint, self.server.access_key(), self.server.secret_key())
    }
}

pub fn s3_store(uri: &str, endpoint: &str, id: &str, key: &str) -> Arc<dyn UnderStore> {
    let properties = BTreeMap::from([("goosefs.underfs.s3.endpoint".to_owned(), endpoint.to_owned())]);
    let secrets = BTreeMap::from([
        ("s3a.accessKeyId".to_owned(), Secret::new(id)),
        ("s3a.secretKey".to_owned(), Secret::new(key)),
    ]);
    ufs::open(uri, &properties, &secrets).expect("the settings are understood")
}

pub fn local(path: &Path) -> Arc<dyn UnderStore> {
    ufs::open(path.to_str().expect("a plain path"), &BTreeMap::new(), &BTreeMap::new()).expect("a plain path")
}
