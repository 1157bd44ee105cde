//! An S3 server in this process: real HTTP, real signatures, data on disk.
//!
//! Is:     the protocol of the package `s3s` over an object store of our own, which keeps what the package's own file
//!         store gives up: keys that are prefixes of other keys or end in a slash, listings that page without reading
//!         everything, objects that change in one step, conditional requests, S3's error codes.
//! Owns:   its directory: blobs, and one log of what they mean. An answered request survives the process.
//! Never:  versions, access lists, encryption; several processes on one directory.

mod api;
mod blob;
mod condition;
mod index;
mod list;

use crate::background::Background;
use blob::Blobs;
use hyper_util::rt::{TokioIo, TokioTimer};
use index::{Headers, Index};
use parking_lot::Mutex;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// The least size S3 demands of every part but the last.
pub const S3_MIN_PART_BYTES: u64 = 5 << 20;

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes any free one.
    pub addr: SocketAddr,
    pub access_key: String,
    pub secret_key: String,
    /// A part smaller than this, other than the last, makes the completion of its upload fail (`EntityTooSmall`).
    pub min_part_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            addr: (Ipv4Addr::LOCALHOST, 0).into(),
            access_key: "testkit-access".into(),
            secret_key: "testkit-secret".into(),
            min_part_bytes: S3_MIN_PART_BYTES,
        }
    }
}

/// A running server. Dropping it closes the port and every connection at once, as a kill −9 would, and keeps the data:
/// start another on the same directory and address to have it back.
pub struct S3Server {
    addr: SocketAddr,
    options: Options,
    store: Arc<Store>,
    _background: Background,
}

/// What the protocol and the test's own calls share.
struct Store {
    blobs: Arc<Blobs>,
    index: Mutex<Index>,
    min_part_bytes: u64,
}

impl S3Server {
    /// Opens (or makes) the store in `dir` and listens. Needs no runtime of the caller's.
    ///
    /// - Errors: the directory cannot be used or holds a damaged log, or the address is taken.
    /// - Cost: reads the whole log, a few microseconds an object.
    pub fn start(dir: &Path, options: Options) -> io::Result<S3Server> {
        let blobs = Blobs::open(dir)?;
        let index = Mutex::new(Index::open(dir, blobs.clone())?);
        let store = Arc::new(Store { blobs, index, min_part_bytes: options.min_part_bytes });
        let service = service(&store, &options);

        let background = Background::start("s3")?;
        let listener = background.listen(options.addr)?;
        let addr = listener.local_addr()?;
        background.spawn(serve(listener, service));
        Ok(S3Server { addr, options, store, _background: background })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://host:port`, for clients with path-style addressing.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn access_key(&self) -> &str {
        &self.options.access_key
    }

    pub fn secret_key(&self) -> &str {
        &self.options.secret_key
    }

    /// What a namespace over a bucket of this server needs to reach it at `endpoint`: here, or at a proxy.
    pub fn properties(endpoint: String) -> [(&'static str, String); 3] {
        [
            ("goosefs.underfs.s3.endpoint", endpoint),
            ("goosefs.underfs.s3.region", "us-east-1".to_owned()),
            ("goosefs.underfs.s3.disable.dns.buckets", "true".to_owned()),
        ]
    }

    /// The secrets of such a namespace.
    pub fn secrets(&self) -> [(&'static str, &str); 2] {
        [("s3a.accessKeyId", self.access_key()), ("s3a.secretKey", self.secret_key())]
    }

    /// Makes a bucket, or leaves the one that is there.
    pub fn create_bucket(&self, bucket: &str) -> io::Result<()> {
        self.store.index.lock().create_bucket(bucket).map(drop)
    }

    /// Writes an object past the protocol and behind everybody's back, as another user of the store would. Returns its
    /// ETag, without quotes.
    pub fn put(&self, bucket: &str, key: &str, bytes: &[u8]) -> io::Result<String> {
        let mut writer = self.store.blobs.writer();
        writer.write_blocking(bytes)?;
        let (blob, etag) = writer.finish();
        let mut index = self.store.index.lock();
        if !index.has_bucket(bucket) {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no bucket {bucket}")));
        }
        Ok(index.put(bucket, key, blob.into_iter().collect(), etag, Headers::default())?.etag().to_owned())
    }

    /// The whole object, or None if there is none. For looking, not for large ones.
    pub fn get(&self, bucket: &str, key: &str) -> io::Result<Option<Vec<u8>>> {
        let object = self.store.index.lock().object(bucket, key);
        object.map(|object| object.read_blocking()).transpose()
    }

    /// Removes an object behind everybody's back; whether it was there.
    pub fn delete(&self, bucket: &str, key: &str) -> io::Result<bool> {
        self.store.index.lock().delete(bucket, key)
    }

    /// All keys of `bucket` that begin with `prefix`, in order.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.store.index.lock().keys(bucket, prefix)
    }

    /// What was put at, and deleted from, `key` and those that begin with it, with milliseconds since 1970: for the
    /// report of a test that finds something it cannot explain.
    pub fn history(&self, bucket: &str, key: &str) -> Vec<String> {
        self.store.index.lock().history(&format!("{bucket}/{key}"))
    }

    /// Multipart uploads neither completed nor aborted: what a client that gives up must not leave behind.
    pub fn open_uploads(&self) -> usize {
        self.store.index.lock().open_uploads()
    }
}

fn service(store: &Arc<Store>, options: &Options) -> S3Service {
    let mut builder = S3ServiceBuilder::new(api::Api(store.clone()));
    builder.set_auth(OneKey { access_key: options.access_key.clone(), secret_key: options.secret_key.as_str().into() });
    builder.build()
}

/// One pair of keys; another is refused with the code S3 has for that, which the package's own check does not use.
struct OneKey {
    access_key: String,
    secret_key: SecretKey,
}

#[async_trait::async_trait]
impl S3Auth for OneKey {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key {
            return Ok(self.secret_key.clone());
        }
        Err(s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records."))
    }
}

async fn serve(listener: tokio::net::TcpListener, service: S3Service) {
    loop {
        // Running out of descriptors passes; anything else would repeat at once, so both wait a moment.
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        drop(socket.set_nodelay(true));
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(socket), service.clone());
        // A connection that breaks is the client's business, and often the test's purpose.
        tokio::spawn(async move { drop(connection.await) });
    }
}
