//! Challenge and response between a worker and a master, and the key of the session that follows.

use super::aead::Sealer;
use super::{KEY_BYTES, WorkerToken};
use crate::error::Error;
use ring::hmac::{self, HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use types::Secret;

/// Random bytes that the other side must put into its proof.
pub type Challenge = [u8; 32];
/// An HMAC-SHA256.
pub type Proof = [u8; 32];

/// Who proves. In the proof, so that neither side can be made to produce the other's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Who called.
    Worker,
    /// Who answered.
    Master,
}

/// What both sides have seen when they prove: each proof covers all of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transcript {
    /// The protocol versions both named, worker's first.
    pub versions: (u32, u32),
    /// The cluster's id as the master gave it, 16 bytes.
    pub cluster: Vec<u8>,
    /// The cluster's incarnation as the master gave it.
    pub incarnation: u64,
    /// What the worker challenged the master with.
    pub worker: Challenge,
    /// What the master challenged the worker with.
    pub master: Challenge,
}

impl Transcript {
    /// A new challenge.
    pub fn challenge() -> Challenge {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
        bytes
    }

    /// A challenge from the wire. Errors: not 32 bytes.
    pub fn read_challenge(bytes: &[u8]) -> Result<Challenge, Error> {
        let wrong = |_| Error::BadProofLength { what: "the challenge", bytes: bytes.len(), expected: 32 };
        bytes.try_into().map_err(wrong)
    }

    /// Every part at a fixed place or behind its length: no two transcripts have the same bytes.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&self.versions.0.to_le_bytes());
        bytes.extend_from_slice(&self.versions.1.to_le_bytes());
        bytes.extend_from_slice(&self.incarnation.to_le_bytes());
        bytes.extend_from_slice(&self.worker);
        bytes.extend_from_slice(&self.master);
        bytes.extend_from_slice(&self.cluster);
        bytes
    }
}

impl WorkerToken {
    /// What `side` sends to show that it holds the token.
    pub fn prove(&self, side: Side, transcript: &Transcript) -> Proof {
        let tag = hmac::sign(&self.proof_key(), &message(side, transcript));
        tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }

    /// Whether `proof` is what `side` must have sent. Takes the same time for every wrong one.
    pub fn verify(&self, side: Side, transcript: &Transcript, proof: &[u8]) -> Result<(), Error> {
        let who = match side {
            Side::Worker => "the worker",
            Side::Master => "the master",
        };
        hmac::verify(&self.proof_key(), &message(side, transcript), proof).map_err(|_| Error::BadProof(who))
    }

    /// The key both sides have after they proved themselves; another one for each pair of challenges.
    pub fn session(&self, transcript: &Transcript) -> SessionKey {
        SessionKey(Sealer::new(&self.0.derive(&transcript.bytes(), "goosefs session 1")))
    }

    fn proof_key(&self) -> hmac::Key {
        let key = self.0.derive(b"", "goosefs proof 1");
        const _: () = assert!(KEY_BYTES == 32);
        hmac::Key::new(HMAC_SHA256, &key.0)
    }
}

fn message(side: Side, transcript: &Transcript) -> Vec<u8> {
    let mut bytes = match side {
        Side::Worker => b"worker ".to_vec(),
        Side::Master => b"master ".to_vec(),
    };
    bytes.extend_from_slice(&transcript.bytes());
    bytes
}

/// Seals what travels between one worker and one master for as long as they know each other.
pub struct SessionKey(Sealer);

impl SessionKey {
    /// As [`super::ClusterKey::seal`].
    pub fn seal(&self, plain: &[u8], context: &[u8]) -> Vec<u8> {
        self.0.seal(plain, context)
    }

    /// As [`super::ClusterKey::open`].
    pub fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Secret, Error> {
        self.0.open(sealed, context)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(hidden)")
    }
}
