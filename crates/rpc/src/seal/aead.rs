//! Sealed bytes: `version 1 (u8) | nonce (12) | ciphertext and tag`.

use super::{KEY_BYTES, Key};
use crate::error::Error;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use types::Secret;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + NONCE_LEN;
const _: () = assert!(KEY_BYTES == 32);

/// Nonces are random: safe for 2³² sealings under one key, far more than a cluster has secrets.
pub(super) struct Sealer(LessSafeKey);

impl Sealer {
    pub(super) fn new(key: &Key) -> Sealer {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key.0).expect("a key of 32 bytes");
        Sealer(LessSafeKey::new(key))
    }

    pub(super) fn seal(&self, plain: &[u8], context: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).expect("the kernel gives random bytes once it has booted");
        let mut body = plain.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut body)
            .expect("secrets are shorter than 256 GiB");
        let mut sealed = Vec::with_capacity(HEAD_BYTES + body.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&body);
        sealed
    }

    pub(super) fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Secret, Error> {
        let refused = || Error::Unsealable { context: String::from_utf8_lossy(context).into_owned() };
        let (head, body) = sealed.split_at_checked(HEAD_BYTES).ok_or_else(refused)?;
        if head[0] != VERSION {
            return Err(refused());
        }
        let nonce = Nonce::try_assume_unique_for_key(&head[1..]).map_err(|_| refused())?;
        let mut body = body.to_vec();
        let plain = self.0.open_in_place(nonce, Aad::from(context), &mut body).map_err(|_| refused())?.len();
        body.truncate(plain);
        // `body` itself becomes the secret, so no copy of it is left behind.
        Ok(Secret::new(body))
    }
}
