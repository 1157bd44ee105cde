//! Which pieces of a block are here.

/// Unit of presence, of checksums and of repair. The last piece of a block may be shorter.
pub const PIECE_BYTES: u64 = 64 * 1024;
/// Most pieces of a block: 16 GiB, far above any sensible block size, so that a damaged length is refused.
pub const MAX_PIECES: u32 = 262_144;

const _: () = assert!(PIECE_BYTES.is_power_of_two());
const WORD_BITS: u32 = u64::BITS;

/// Pieces of a block of `length` bytes, the last one perhaps short. None above [`MAX_PIECES`].
pub fn piece_count(length: u64) -> Option<u32> {
    u32::try_from(length.div_ceil(PIECE_BYTES)).ok().filter(|count| *count <= MAX_PIECES)
}

/// The piece that holds byte `offset`. None above [`MAX_PIECES`].
pub fn piece_of(offset: u64) -> Option<u32> {
    u32::try_from(offset / PIECE_BYTES).ok().filter(|piece| *piece < MAX_PIECES)
}

/// The set of pieces of one block that are here.
///
/// Invariants: no bit at or above the piece count; `present` is the number of set bits. Pieces are half open byte
/// ranges `[i × 64 KiB, min((i + 1) × 64 KiB, length))`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Presence {
    length: u64,
    pieces: u32,
    present: u32,
    words: Vec<u64>,
}

impl Presence {
    /// Nothing of a block of `length` bytes. None when the block is longer than [`MAX_PIECES`] pieces.
    pub fn empty(length: u64) -> Option<Presence> {
        let pieces = piece_count(length)?;
        let words = vec![0; index(pieces.div_ceil(WORD_BITS))];
        Some(Presence { length, pieces, present: 0, words })
    }

    /// All of a block of `length` bytes. None when the block is longer than [`MAX_PIECES`] pieces.
    pub fn whole(length: u64) -> Option<Presence> {
        let mut all = Presence::empty(length)?;
        for piece in 0..all.pieces {
            all.insert(piece);
        }
        Some(all)
    }

    /// Reads back [`Presence::words`]. None when a bit lies beyond the block or the number of words is another.
    pub fn from_words(length: u64, words: Vec<u64>) -> Option<Presence> {
        let mut read = Presence::empty(length)?;
        if words.len() != read.words.len() {
            return None;
        }
        let spare = u32::try_from(words.len()).ok()? * WORD_BITS - read.pieces;
        if words.last().is_some_and(|last| spare > 0 && last.leading_zeros() < spare) {
            return None;
        }
        read.present = words.iter().map(|word| word.count_ones()).sum();
        read.words = words;
        Some(read)
    }

    /// 64 pieces a word, piece 0 the lowest bit of the first word.
    pub fn words(&self) -> &[u64] {
        &self.words
    }
    /// Of the block, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }
    /// Of the block, present or not.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }
    pub fn is_whole(&self) -> bool {
        self.present == self.pieces
    }
    pub fn has(&self, piece: u32) -> bool {
        piece < self.pieces && self.words[index(piece / WORD_BITS)] & bit(piece) != 0
    }

    /// Bytes of one piece; 0 beyond the block.
    pub fn bytes_of(&self, piece: u32) -> u64 {
        self.length.saturating_sub(u64::from(piece) * PIECE_BYTES).min(PIECE_BYTES)
    }

    /// Bytes of all pieces that are here.
    pub fn resident_bytes(&self) -> u64 {
        let full = u64::from(self.present) * PIECE_BYTES;
        let last = self.pieces.saturating_sub(1);
        if self.has(last) { full - (PIECE_BYTES - self.bytes_of(last)) } else { full }
    }

    /// Returns whether the piece is new. Pieces beyond the block are ignored.
    pub fn insert(&mut self, piece: u32) -> bool {
        if piece >= self.pieces || self.has(piece) {
            return false;
        }
        self.words[index(piece / WORD_BITS)] |= bit(piece);
        self.present += 1;
        true
    }

    /// Returns whether the piece was here.
    pub fn remove(&mut self, piece: u32) -> bool {
        if !self.has(piece) {
            return false;
        }
        self.words[index(piece / WORD_BITS)] &= !bit(piece);
        self.present -= 1;
        true
    }

    /// End of the run of present pieces that begins at `piece`, at most `limit`. Equal to `piece` when it is missing.
    pub fn present_until(&self, piece: u32, limit: u32) -> u32 {
        (piece..limit.min(self.pieces)).find(|at| !self.has(*at)).unwrap_or_else(|| limit.min(self.pieces).max(piece))
    }

    /// End of the run of missing pieces that begins at `piece`, at most `limit`. Equal to `piece` when it is here.
    pub fn missing_until(&self, piece: u32, limit: u32) -> u32 {
        (piece..limit.min(self.pieces)).find(|at| self.has(*at)).unwrap_or_else(|| limit.min(self.pieces).max(piece))
    }

    /// Panics when an invariant of the type does not hold.
    pub fn check_invariants(&self) {
        assert_eq!(Some(self.pieces), piece_count(self.length), "pieces follow from the length");
        let set: u32 = self.words.iter().map(|word| word.count_ones()).sum();
        assert_eq!(set, self.present, "present counts the set bits");
        let inside = u32::try_from((0..self.pieces).filter(|piece| self.has(*piece)).count()).expect("bounded");
        assert_eq!(inside, self.present, "no bit lies beyond the block");
    }
}

fn bit(piece: u32) -> u64 {
    1 << (piece % WORD_BITS)
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("32 bits fit a usize here")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn short_last_pieces_count_their_bytes() {
        let mut here = Presence::empty(2 * PIECE_BYTES + 5).expect("small");
        assert_eq!((here.pieces(), here.resident_bytes()), (3, 0));
        assert!(here.insert(2));
        assert!(!here.insert(2) && !here.insert(3));
        assert_eq!(here.resident_bytes(), 5);
        here.insert(0);
        assert_eq!((here.resident_bytes(), here.is_whole()), (PIECE_BYTES + 5, false));
        assert_eq!(Presence::whole(2 * PIECE_BYTES).expect("small").resident_bytes(), 2 * PIECE_BYTES);
        assert!(Presence::empty(0).expect("small").is_whole(), "an empty block lacks nothing");
        assert_eq!(Presence::empty(u64::MAX), None);
    }

    #[test]
    fn bits_beyond_the_block_are_refused() {
        assert!(Presence::from_words(3 * PIECE_BYTES, vec![0b111]).is_some());
        assert_eq!(Presence::from_words(3 * PIECE_BYTES, vec![0b1111]), None);
        assert_eq!(Presence::from_words(3 * PIECE_BYTES, vec![0, 0]), None);
        assert!(Presence::from_words(64 * PIECE_BYTES, vec![u64::MAX]).is_some());
    }

    proptest! {
        #[test]
        fn presence_agrees_with_a_set(
            length in 0u64..200 * PIECE_BYTES,
            steps in proptest::collection::vec((0u32..210, any::<bool>()), 0..200),
        ) {
            let mut here = Presence::empty(length).expect("small");
            let mut model = BTreeSet::new();
            for (piece, add) in steps {
                if add {
                    prop_assert_eq!(here.insert(piece), piece < here.pieces() && model.insert(piece));
                } else {
                    prop_assert_eq!(here.remove(piece), model.remove(&piece));
                }
                here.check_invariants();
            }
            prop_assert_eq!(here.resident_bytes(), model.iter().map(|piece| here.bytes_of(*piece)).sum::<u64>());
            for piece in 0..here.pieces() {
                let present = (piece..).find(|at| !model.contains(at)).expect("the model is finite");
                prop_assert_eq!(here.present_until(piece, u32::MAX), present.min(here.pieces()));
                let missing = (piece..here.pieces()).find(|at| model.contains(at)).unwrap_or(here.pieces());
                prop_assert_eq!(here.missing_until(piece, u32::MAX), missing);
            }
            prop_assert_eq!(Presence::from_words(length, here.words().to_vec()), Some(here));
        }
    }
}
