//! Containers with neighbouring ids, of which some live.

use bytes::{BufMut, Bytes, BytesMut};

/// Containers of one chunk, as a power of two.
pub(super) const CHUNK_BITS: u32 = 11;
const PLACES: usize = 1 << CHUNK_BITS;
const WORDS: usize = PLACES / 64;
/// Places that are listed; more are a bitmap, which takes twice the memory of as many.
const LISTED: usize = 64;

const VERSION: u8 = 1;
const LIST: u8 = 0;
const MAP: u8 = 1;

/// The places that live. Invariant: a list is sorted and has at most [`LISTED`] places, a bitmap has more than half as many.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Chunk {
    List(Vec<u16>),
    Map(Box<[u64; WORDS]>),
}

impl Default for Chunk {
    fn default() -> Chunk {
        Chunk::List(Vec::new())
    }
}

fn word(place: u16) -> (usize, u64) {
    (usize::from(place / 64), 1 << (place % 64))
}

impl Chunk {
    pub(super) fn has(&self, place: u16) -> bool {
        match self {
            Chunk::List(places) => places.binary_search(&place).is_ok(),
            Chunk::Map(words) => {
                let (at, bit) = word(place);
                words[at] & bit != 0
            }
        }
    }

    /// Whether the same places live, in whatever form.
    pub(super) fn same(&self, other: &Chunk) -> bool {
        self.count() == other.count() && self.places().all(|place| other.has(place))
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Chunk::List(places) if places.is_empty())
    }

    pub(super) fn set(&mut self, place: u16, lives: bool) {
        match self {
            Chunk::List(places) => match (places.binary_search(&place), lives) {
                (Err(at), true) => places.insert(at, place),
                (Ok(at), false) => drop(places.remove(at)),
                (Ok(_), true) | (Err(_), false) => {}
            },
            Chunk::Map(words) => {
                let (at, bit) = word(place);
                if lives { words[at] |= bit } else { words[at] &= !bit }
            }
        }
        self.settle();
    }

    /// Takes the form that suits the number of places. Apart by half, so that one place to and fro does not change it.
    fn settle(&mut self) {
        match self {
            Chunk::List(places) if places.len() > LISTED => {
                let mut words = Box::new([0; WORDS]);
                for place in places {
                    let (at, bit) = word(*place);
                    words[at] |= bit;
                }
                *self = Chunk::Map(words);
            }
            Chunk::Map(_) if self.count() <= LISTED / 2 => {
                *self = Chunk::List(self.places().collect());
            }
            Chunk::List(_) | Chunk::Map(_) => {}
        }
    }

    fn places(&self) -> impl Iterator<Item = u16> {
        (0..u16::try_from(PLACES).expect("eleven bits")).filter(|place| self.has(*place))
    }

    pub(super) fn count(&self) -> usize {
        match self {
            Chunk::List(places) => places.len(),
            Chunk::Map(words) => words.iter().map(|word| usize::try_from(word.count_ones()).expect("at most 64")).sum(),
        }
    }

    /// Memory beside the value itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Chunk::List(places) => places.capacity() * size_of::<u16>(),
            Chunk::Map(words) => size_of_val(&**words),
        }
    }

    /// `1 (1) ‖ 0 (1) ‖ places (2 each)`, or `1 (1) ‖ 1 (1) ‖ words (8 each)`, big endian.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(2 + size_of::<[u64; WORDS]>());
        out.put_u8(VERSION);
        match self {
            Chunk::List(places) => {
                out.put_u8(LIST);
                places.iter().for_each(|place| out.put_u16(*place));
            }
            Chunk::Map(words) => {
                out.put_u8(MAP);
                words.iter().for_each(|word| out.put_u64(*word));
            }
        }
        out.freeze()
    }

    /// None unless it is what [`Chunk::encode`] makes.
    pub(super) fn decode(record: &[u8]) -> Option<Chunk> {
        let (head, rest) = record.split_at_checked(2)?;
        match head {
            [VERSION, LIST] => {
                let (places, rest) = rest.as_chunks::<2>();
                let places: Vec<u16> = places.iter().map(|bytes| u16::from_be_bytes(*bytes)).collect();
                let is_list = rest.is_empty()
                    && (1..=LISTED).contains(&places.len())
                    && places.is_sorted_by(|a, b| a < b)
                    && places.iter().all(|place| usize::from(*place) < PLACES);
                is_list.then_some(Chunk::List(places))
            }
            [VERSION, MAP] => {
                let (words, rest) = rest.as_chunks::<8>();
                let words: Vec<u64> = words.iter().map(|bytes| u64::from_be_bytes(*bytes)).collect();
                let words: Box<[u64; WORDS]> = words.try_into().ok()?;
                rest.is_empty().then_some(Chunk::Map(words))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_set_and_leads_back_from_its_record(
            steps in proptest::collection::vec((0u16..2048, proptest::bool::weighted(0.7)), 1..600),
            few in proptest::bool::ANY,
        ) {
            let (mut chunk, mut model) = (Chunk::default(), BTreeSet::new());
            for (place, lives) in steps {
                let place = if few { place % 90 } else { place };
                chunk.set(place, lives);
                if lives { model.insert(place); } else { model.remove(&place); }
                prop_assert_eq!(chunk.is_empty(), model.is_empty());
                prop_assert_eq!(chunk.has(place), lives);
            }
            prop_assert_eq!(chunk.places().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            if !chunk.is_empty() {
                prop_assert_eq!(Chunk::decode(&chunk.encode()), Some(chunk));
            }
        }

        #[test]
        fn other_bytes_are_refused_or_read_as_themselves(record in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..3) {
            let record = [&[VERSION, kind], &record[..]].concat();
            if let Some(chunk) = Chunk::decode(&record) {
                prop_assert_eq!(&chunk.encode()[..], &record[..]);
            }
        }
    }

    #[test]
    fn the_layout_stays() {
        let mut chunk = Chunk::default();
        chunk.set(2047, true);
        chunk.set(3, true);
        assert_eq!(&chunk.encode()[..], [1, 0, 0, 3, 7, 255]);
        (0..65).for_each(|place| chunk.set(place, true));
        let words = [u64::MAX.to_be_bytes(), 1u64.to_be_bytes()].concat();
        assert_eq!(chunk.encode()[..18], [&[1, 1], &words[..]].concat());
        assert_eq!((chunk.encode().len(), chunk.heap_bytes()), (258, 256));
    }
}
