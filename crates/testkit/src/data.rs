//! Bytes that anyone can make again from a seed and an offset, and check without keeping a copy.
//!
//! Is:     a pure function from (seed, offset) to a byte.
//! Never:  good for cryptography; good enough that no two 8-byte words of a file look alike.

use bytes::{Bytes, BytesMut};
use std::fmt;

/// Bytes made by one mixing step; eight words of it differ by odd factors.
const LINE_BYTES: usize = 64;
const WORD_BYTES: usize = 8;
/// Compared at once by [`Data::verify`]; small enough for the first-level cache.
const VERIFY_BYTES: usize = 4096;
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// Odd, so that each maps distinct lines to distinct words.
const FACTORS: [u64; LINE_BYTES / WORD_BYTES] = [
    0x9FB2_1C65_1E98_DF25,
    0xD6E8_FEB8_6659_FD93,
    0xA24B_AED4_963E_E407,
    0xC2B2_AE3D_27D4_EB4F,
    0x8CB9_2BA7_2F3D_8DD7,
    0xFF51_AFD7_ED55_8CCD,
    0xC4CE_B9FE_1A85_EC53,
    0xBF58_476D_1CE4_E5B9,
];

const _: () = assert!(VERIFY_BYTES.is_multiple_of(LINE_BYTES));

/// An endless file of reproducible bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Data {
    seed: u64,
}

/// The first byte that is not what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mismatch {
    pub seed: u64,
    /// Position in the file, not in the slice that was checked.
    pub offset: u64,
    pub expected: u8,
    pub found: u8,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { seed, offset, expected, found } = self;
        write!(f, "byte {offset} of data with seed {seed} is {found:#04x}, expected {expected:#04x}")
    }
}

impl std::error::Error for Mismatch {}

impl Data {
    pub const fn new(seed: u64) -> Data {
        Data { seed }
    }

    /// Fills `out` with the bytes from `offset` on. Cost: about one multiplication per 8 bytes.
    pub fn fill(&self, offset: u64, out: &mut [u8]) {
        let mut line_index = offset / LINE_BYTES as u64;
        let skip = usize::try_from(offset % LINE_BYTES as u64).expect("below 64");
        let (head, rest) = out.split_at_mut(out.len().min((LINE_BYTES - skip) % LINE_BYTES));
        if !head.is_empty() {
            head.copy_from_slice(&self.line(line_index)[skip..skip + head.len()]);
            line_index += 1;
        }
        let mut lines = rest.chunks_exact_mut(LINE_BYTES);
        for line in &mut lines {
            line.copy_from_slice(&self.line(line_index));
            line_index += 1;
        }
        let tail = lines.into_remainder();
        tail.copy_from_slice(&self.line(line_index)[..tail.len()]);
    }

    /// The bytes `[offset, offset + len)`.
    pub fn bytes(&self, offset: u64, len: usize) -> Bytes {
        let mut out = BytesMut::zeroed(len);
        self.fill(offset, &mut out);
        out.freeze()
    }

    /// Checks that `found` are the bytes from `offset` on; names the first one that is not.
    pub fn verify(&self, offset: u64, found: &[u8]) -> Result<(), Mismatch> {
        let mut buffer = [0u8; VERIFY_BYTES];
        let mut at = offset;
        for part in found.chunks(VERIFY_BYTES) {
            let expected = &mut buffer[..part.len()];
            self.fill(at, expected);
            if expected != part {
                let index = expected.iter().zip(part).position(|(a, b)| a != b).expect("the slices differ");
                let (expected, found) = (expected[index], part[index]);
                return Err(Mismatch { seed: self.seed, offset: at + index as u64, expected, found });
            }
            at += part.len() as u64;
        }
        Ok(())
    }

    fn line(&self, index: u64) -> [u8; LINE_BYTES] {
        let mixed = mix(index.wrapping_mul(GOLDEN) ^ mix(self.seed));
        let mut line = [0; LINE_BYTES];
        for (word, factor) in line.chunks_exact_mut(WORD_BYTES).zip(FACTORS) {
            let value = mixed.wrapping_mul(factor);
            word.copy_from_slice(&(value ^ value >> 32).to_le_bytes());
        }
        line
    }
}

/// The finaliser of splitmix64: every input bit reaches every output bit.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(GOLDEN);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn any_range_equals_the_same_range_of_the_whole() {
        let whole = Data::new(7).bytes(0, 1000);
        for start in [0usize, 1, 7, 8, 63, 64, 65, 130] {
            for len in [0usize, 1, 5, 63, 64, 65, 200, 800] {
                assert_eq!(
                    Data::new(7).bytes(start as u64, len),
                    whole[start..start + len],
                    "start {start}, {len} bytes"
                );
            }
        }
    }

    #[test]
    fn words_and_seeds_do_not_repeat() {
        let mut seen = HashSet::new();
        for seed in 0..4 {
            for word in Data::new(seed).bytes(0, 1 << 18).chunks(8) {
                assert!(seen.insert(word.to_vec()), "a word repeats");
            }
        }
    }

    #[test]
    fn verify_names_the_first_wrong_byte() {
        let data = Data::new(1);
        let mut bytes = data.bytes(100, 20_000).to_vec();
        assert_eq!(data.verify(100, &bytes), Ok(()));
        bytes[12_345] ^= 1;
        bytes[12_400] ^= 1;
        assert_eq!(data.verify(100, &bytes).expect_err("one byte is wrong").offset, 12_445);
        assert!(data.verify(101, &bytes[..12_000]).is_err(), "shifted data is not the data");
    }
}
