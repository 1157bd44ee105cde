//! The sidecar of a block: what of it is here, and the checksum of each piece.
//!
//! Little endian: magic, version, flags, block, length, origin, presence words, one CRC32C a piece, and a CRC32C over
//! all of it. The layout stands in `docs/formats/blocks.md`; a test pins its bytes.

use tier::{Class, Presence};
use types::{BlockId, Fingerprint, MountId};

const MAGIC: [u8; 8] = *b"GFSBLOCK";
const VERSION: u16 = 1;
const FLAG_UNPERSISTED: u16 = 1;
const FLAG_PINNED: u16 = 2;
const HEAD_BYTES: usize = 48;
/// Longest sidecar read: the head, a key, a fingerprint, and the table of the longest block.
pub const SIDECAR_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Where a block's bytes can be read again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    pub mount: MountId,
    pub key: String,
    /// None when the store has none or it was not known yet.
    pub fingerprint: Option<Fingerprint>,
}

/// All that is known about the copy of a block in one directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sidecar {
    pub block: BlockId,
    pub class: Class,
    pub origin: Option<Origin>,
    pub presence: Presence,
    /// One a piece; of pieces that are not here, 0.
    pub crcs: Vec<u32>,
}

impl Sidecar {
    pub fn encode(&self) -> Vec<u8> {
        let flags: u16 = match self.class {
            Class::Unpersisted => FLAG_UNPERSISTED,
            Class::Pinned => FLAG_PINNED,
            Class::Evictable => 0,
        };
        let (mount, key, fingerprint) = match &self.origin {
            Some(origin) => {
                let print = origin.fingerprint.as_ref().map(ToString::to_string).unwrap_or_default();
                (origin.mount.0, origin.key.as_str(), print)
            }
            None => (0, "", String::new()),
        };
        let short = |text: &str| u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes();
        let mut out = Vec::with_capacity(HEAD_BYTES + key.len() + 12 * self.crcs.len());
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend(flags.to_le_bytes());
        out.extend(self.presence.pieces().to_le_bytes());
        out.extend(self.block.to_wire().to_le_bytes());
        out.extend(self.presence.length().to_le_bytes());
        out.extend(mount.to_le_bytes());
        out.extend(short(key));
        out.extend(short(&fingerprint));
        out.extend([0; 4]);
        out.extend(key.as_bytes().iter().take(usize::from(u16::MAX)));
        out.extend(fingerprint.as_bytes().iter().take(usize::from(u16::MAX)));
        out.extend(self.presence.words().iter().flat_map(|word| word.to_le_bytes()));
        out.extend(self.crcs.iter().flat_map(|crc| crc.to_le_bytes()));
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Errors: why it cannot be read, as the end of a sentence.
    pub fn decode(bytes: &[u8]) -> Result<Sidecar, String> {
        let Some((body, crc)) = bytes.split_last_chunk::<4>() else { return Err("it is cut short".into()) };
        let mut read = Reader(body);
        if read.array::<8>()? != MAGIC {
            return Err("it does not begin with GFSBLOCK".into());
        }
        let version = u16::from_le_bytes(read.array()?);
        if version != VERSION {
            return Err(format!("it has version {version}, this release knows {VERSION}"));
        }
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err("its checksum is wrong".into());
        }
        let flags = u16::from_le_bytes(read.array()?);
        let class = match flags {
            0 => Class::Evictable,
            FLAG_UNPERSISTED => Class::Unpersisted,
            FLAG_PINNED => Class::Pinned,
            other => return Err(format!("it has flags {other:#x}, which this release does not know")),
        };
        let pieces = u32::from_le_bytes(read.array()?);
        let block = BlockId::from_wire(i64::from_le_bytes(read.array()?)).ok_or("its block id cannot be")?;
        let length = u64::from_le_bytes(read.array()?);
        let mount = u64::from_le_bytes(read.array()?);
        let key_bytes = u16::from_le_bytes(read.array()?);
        let print_bytes = u16::from_le_bytes(read.array()?);
        read.array::<4>()?;
        let key = read.text(key_bytes)?;
        let print = read.text(print_bytes)?;
        let blank = Presence::empty(length).filter(|blank| blank.pieces() == pieces).ok_or("its length cannot be")?;
        let words = blank.words().iter().map(|_| read.array().map(u64::from_le_bytes)).collect::<Result<_, _>>()?;
        let presence = Presence::from_words(length, words).ok_or("its presence map cannot be")?;
        let crcs = (0..pieces).map(|_| read.array().map(u32::from_le_bytes)).collect::<Result<_, _>>()?;
        if !read.0.is_empty() {
            return Err(format!("{} bytes too many", read.0.len()));
        }
        let fingerprint = match print.as_str() {
            "" => None,
            text => Some(Fingerprint::parse(text).ok_or("its fingerprint cannot be read")?),
        };
        let origin = (mount > 0).then_some(Origin { mount: MountId(mount), key, fingerprint });
        Ok(Sidecar { block, class, origin, presence, crcs })
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or("it is cut short")?;
        self.0 = rest;
        Ok(*taken)
    }
    fn text(&mut self, bytes: u16) -> Result<String, String> {
        let (taken, rest) = self.0.split_at_checked(usize::from(bytes)).ok_or("it is cut short")?;
        self.0 = rest;
        String::from_utf8(taken.to_vec()).map_err(|_| "it holds text that is not UTF-8".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tier::PIECE_BYTES;
    use types::ContainerId;

    fn sample() -> Sidecar {
        let mut presence = Presence::empty(2 * PIECE_BYTES + 1).expect("small");
        presence.insert(2);
        Sidecar {
            block: ContainerId(1).block(2).expect("small"),
            class: Class::Unpersisted,
            origin: Some(Origin {
                mount: MountId(3),
                key: "a/b".into(),
                fingerprint: Some(Fingerprint::Etag("x".into())),
            }),
            presence,
            crcs: vec![0, 0, 0x0102_0304],
        }
    }

    #[test]
    fn the_bytes_are_pinned() {
        let hex: String = sample().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "474653424c4f434b0100010003000000020000010000000001000200000000000300000000000000\
                        0300060000000000612f62657461673a780400000000000000000000000000000004030201";
        assert_eq!(hex[..hex.len() - 8], *expected);
    }

    #[test]
    fn damage_is_told() {
        let good = sample().encode();
        assert_eq!(Sidecar::decode(&good), Ok(sample()));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(Sidecar::decode(&bad).is_err(), "byte {at}");
            assert!(Sidecar::decode(&good[..at]).is_err(), "cut at {at}");
        }
        let mut newer = good;
        newer[8] = 2;
        assert_eq!(Sidecar::decode(&newer), Err("it has version 2, this release knows 1".into()));
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(
            length in 0u64..100 * PIECE_BYTES, set in proptest::collection::vec(0u32..100, 0..50), pinned: bool, key in "[a-zé/]{0,40}",
        ) {
            let mut presence = Presence::empty(length).expect("small");
            set.into_iter().for_each(|piece| { presence.insert(piece); });
            let crcs = (0..presence.pieces()).map(|piece| piece.wrapping_mul(0x9E37_79B9)).collect();
            let origin = Some(Origin { mount: MountId(1), key, fingerprint: None });
            let class = if pinned { Class::Pinned } else { Class::Evictable };
            let block = ContainerId(9).block(0).expect("small");
            let written = Sidecar { block, class, origin, presence, crcs };
            prop_assert_eq!(Sidecar::decode(&written.encode()), Ok(written));
        }

        #[test]
        fn any_bytes_are_taken_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Sidecar::decode(&bytes);
        }
    }

    /// The file as it is, and with a checksum that holds.
    #[test]
    fn fuzz_sidecar() {
        testkit::fuzz::fuzz("sidecar", &[sample().encode()], |bytes| {
            let mut sealed = bytes[..bytes.len().saturating_sub(4)].to_vec();
            sealed.extend(crc32c::crc32c(&sealed).to_le_bytes());
            for bytes in [bytes, &sealed] {
                let Ok(found) = Sidecar::decode(bytes) else { continue };
                assert_eq!(found.crcs.len(), usize::try_from(found.presence.pieces()).expect("small"));
                assert!(found.presence.resident_bytes() <= found.presence.length());
                assert_eq!(Sidecar::decode(&found.encode()), Ok(found), "it leads back");
            }
        });
    }
}
