//! The cluster's key: what is sealed with it, and how two processes prove to each other that they hold it.
//!
//! Is:     ChaCha20-Poly1305, HMAC-SHA256 and HKDF-SHA256 of `ring`, each under a key of its own.
//! Owns:   the layouts of the key file, of sealed bytes and of the proofs.
//! Never:  prints, logs or sends a key. A worker that holds only a token can prove itself and open what is sent to it,
//!         and cannot open what masters sealed at rest.
//!
//! ```text
//! cluster key ─ HKDF "seal at rest" ─▶ seals secrets in the state
//!      ├─ HKDF "worker token" ─▶ token ─ HKDF "proof" ─▶ proofs of both sides
//!      │                            └─ HKDF, salted with both challenges ─▶ session key
//!      ├─ HKDF "peer token" ─▶ token between masters, used alike
//!      └─ HKDF "group id" ─▶ what the files of all masters are bound to; no secret
//! ```

mod aead;
mod file;
mod proof;

use crate::error::Error;
use aead::Sealer;
pub use proof::{Challenge, Proof, SessionKey, Side, Transcript};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::path::Path;
use types::{ClusterId, Secret};

pub(crate) const KEY_BYTES: usize = 32;

/// 32 secret bytes; cleared when dropped, never printed.
pub(crate) struct Key([u8; KEY_BYTES]);

impl Key {
    /// A key for one purpose, made from this one. Different purposes give keys that tell nothing about each other.
    fn derive(&self, salt: &[u8], purpose: &str) -> Key {
        let mut derived = [0; KEY_BYTES];
        Salt::new(HKDF_SHA256, salt)
            .extract(&self.0)
            .expand(&[purpose.as_bytes()], Length)
            .and_then(|output| output.fill(&mut derived))
            .expect("32 bytes are less than HKDF can give");
        Key(derived)
    }
}

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

/// The key of a cluster: the same on all masters.
pub struct ClusterKey {
    key: Key,
    sealer: Sealer,
}

/// What a worker needs of the cluster's key, made from it.
pub struct WorkerToken(Key);

const CLUSTER_KEY: file::Kind = file::Kind {
    what: "cluster key file",
    magic: "goosefs-cluster-key-1",
    hint: "make it with `goosefs format`, or copy it from another master",
};
const WORKER_TOKEN: file::Kind = file::Kind {
    what: "worker token file",
    magic: "goosefs-worker-token-1",
    hint: "copy the cluster key file from a master, or a token file made from it",
};

impl ClusterKey {
    /// Makes a new random key and its file, mode 0600, on disk when it returns.
    ///
    /// Errors: the file exists (it is kept), or cannot be written.
    pub fn create(path: &Path) -> Result<ClusterKey, Error> {
        let mut bytes = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
        let key = Key(bytes);
        CLUSTER_KEY.write(path, &key)?;
        Ok(ClusterKey::from_key(key))
    }

    /// Reads a key file.
    ///
    /// Errors: one sentence each for a file that is missing, readable by others, of the wrong length, or something else.
    pub fn load(path: &Path) -> Result<ClusterKey, Error> {
        CLUSTER_KEY.read(path).map(ClusterKey::from_key)
    }

    fn from_key(key: Key) -> ClusterKey {
        let sealer = Sealer::new(&key.derive(b"", "goosefs seal at rest 1"));
        ClusterKey { key, sealer }
    }

    /// What workers prove themselves with.
    pub fn token(&self) -> WorkerToken {
        WorkerToken(self.key.derive(b"", "goosefs worker token 1"))
    }

    /// What masters prove themselves to each other with: no worker can make it.
    pub fn peer_token(&self) -> WorkerToken {
        WorkerToken(self.key.derive(b"", "goosefs peer token 1"))
    }

    /// What the logs and databases of all masters that hold this key are bound to.
    pub fn group_id(&self) -> ClusterId {
        let derived = self.key.derive(b"", "goosefs group id 1");
        ClusterId(u128::from_be_bytes(derived.0[..16].try_into().expect("a key has 32 bytes")))
    }

    /// Seals `plain` for `context`: what it is and where it belongs, which must be the same to open it. Adds 29 bytes.
    pub fn seal(&self, plain: &[u8], context: &[u8]) -> Vec<u8> {
        self.sealer.seal(plain, context)
    }

    /// Opens what [`ClusterKey::seal`] made for the same `context`.
    pub fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Secret, Error> {
        self.sealer.open(sealed, context)
    }
}

impl WorkerToken {
    /// Reads a worker's file, which may be a token or the cluster's key itself.
    ///
    /// Errors: as [`ClusterKey::load`].
    pub fn load(path: &Path) -> Result<WorkerToken, Error> {
        match CLUSTER_KEY.read_if_it_is_one(path)? {
            Some(key) => Ok(ClusterKey::from_key(key).token()),
            None => WORKER_TOKEN.read(path).map(WorkerToken),
        }
    }

    /// Writes a token file, mode 0600. Errors: as [`ClusterKey::create`].
    pub fn create(&self, path: &Path) -> Result<(), Error> {
        WORKER_TOKEN.write(path, &self.0)
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(hidden)")
    }
}

impl fmt::Debug for WorkerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerToken(hidden)")
    }
}

#[cfg(test)]
mod tests;
