//! The files of a [`super::HeapStore`]: the whole state, or what changed since the file before.
//!
//! Layout (docs/formats/database.md), integers big endian: `GFSHEAP1 ‖ whole (1) ‖ from (8) ‖ applied (8) ‖ count (8) ‖
//! records ‖ crc32c (4)`; a record: `family (1) ‖ key length (4) ‖ key ‖ present (1) [‖ value length (4) ‖ value]`.

use bytes::{Buf, BufMut, Bytes, TryGetError};
use meta::Family;
use std::collections::BTreeMap;
use types::LogIndex;

const MAGIC: &[u8; 8] = b"GFSHEAP1";
const CRC_BYTES: usize = 4;
const PREFIX: &str = "heap-";
const WHOLE: &str = ".whole";
const DELTA: &str = ".delta";

/// What one file says.
pub(super) struct Contents {
    /// The state itself, rather than changes to it.
    pub(super) whole: bool,
    /// The applied index of the file before; zero if whole.
    pub(super) from: LogIndex,
    pub(super) applied: LogIndex,
    pub(super) records: BTreeMap<(Family, Bytes), Option<Bytes>>,
}

/// The state that a sequence of files describes.
pub(super) struct Image {
    pub(super) applied: LogIndex,
    pub(super) records: BTreeMap<(Family, Bytes), Bytes>,
}

impl Image {
    pub(super) fn new(whole: Contents) -> Image {
        let mut image = Image { applied: whole.applied, records: BTreeMap::new() };
        image.apply(whole);
        image
    }

    pub(super) fn apply(&mut self, contents: Contents) {
        self.applied = contents.applied;
        for (key, value) in contents.records {
            match value {
                Some(value) => self.records.insert(key, value),
                None => self.records.remove(&key),
            };
        }
    }

    pub(super) fn into_contents(self) -> Contents {
        let records = self.records.into_iter().map(|(key, value)| (key, Some(value))).collect();
        Contents { whole: true, from: LogIndex(0), applied: self.applied, records }
    }
}

/// The name of the `number`-th file. The kind stands in it, so that files before a whole one need not be read.
pub(super) fn name(number: u64, whole: bool) -> String {
    format!("{PREFIX}{number:016x}{}", if whole { WHOLE } else { DELTA })
}

/// Number and kind. None for names that [`name`] does not make.
pub(super) fn parse_name(text: &str) -> Option<(u64, bool)> {
    let rest = text.strip_prefix(PREFIX)?;
    let (number, whole) = match rest.strip_suffix(WHOLE) {
        Some(number) => (number, true),
        None => (rest.strip_suffix(DELTA)?, false),
    };
    let number = u64::from_str_radix(number, 16).ok()?;
    (name(number, whole) == text).then_some((number, whole))
}

/// The family's number on disk.
pub(super) fn number(family: Family) -> u8 {
    family as u8
}

pub(super) fn encode(contents: &Contents) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_slice(MAGIC);
    out.put_u8(u8::from(contents.whole));
    out.put_u64(contents.from.0);
    out.put_u64(contents.applied.0);
    out.put_u64(u64::try_from(contents.records.len()).expect("a count of records fits 64 bits"));
    for ((family, key), value) in &contents.records {
        out.put_u8(number(*family));
        put_bytes(&mut out, key);
        out.put_u8(u8::from(value.is_some()));
        if let Some(value) = value {
            put_bytes(&mut out, value);
        }
    }
    let sum = crc32c::crc32c(&out);
    out.put_u32(sum);
    out
}

/// Errors: what is wrong, as the rest of a sentence that began with the file's name.
pub(super) fn decode(bytes: &[u8]) -> Result<Contents, String> {
    let (body, sum) = bytes.split_last_chunk::<CRC_BYTES>().ok_or("is cut short")?;
    if !body.starts_with(MAGIC) {
        return Err("is not one of ours".into());
    }
    if crc32c::crc32c(body) != u32::from_be_bytes(*sum) {
        return Err("has a wrong checksum".into());
    }
    records(&body[MAGIC.len()..]).map_err(|why| format!("cannot be read: {why}"))
}

fn records(mut body: &[u8]) -> Result<Contents, TryGetError> {
    let whole = body.try_get_u8()? != 0;
    let from = LogIndex(body.try_get_u64()?);
    let applied = LogIndex(body.try_get_u64()?);
    let mut records = BTreeMap::new();
    for _ in 0..body.try_get_u64()? {
        let raw = body.try_get_u8()?;
        let family = Family::ALL.into_iter().find(|family| number(*family) == raw);
        let family = family.ok_or(TryGetError { requested: usize::from(raw), available: Family::ALL.len() })?;
        let key = get_bytes(&mut body)?;
        let value = if body.try_get_u8()? != 0 { Some(get_bytes(&mut body)?) } else { None };
        records.insert((family, key), value);
    }
    Ok(Contents { whole, from, applied, records })
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).expect("keys and records are far below 4 GiB"));
    out.put_slice(bytes);
}

fn get_bytes(body: &mut &[u8]) -> Result<Bytes, TryGetError> {
    let requested = usize::try_from(body.try_get_u32()?).expect("32 bits fit");
    let available = body.len();
    let (bytes, rest) = body.split_at_checked(requested).ok_or(TryGetError { requested, available })?;
    *body = rest;
    Ok(Bytes::copy_from_slice(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Contents {
        let records = [
            ((Family::State, Bytes::from("applied")), Some(Bytes::from("9"))),
            ((Family::Workers, Bytes::from("w")), None),
        ];
        Contents { whole: false, from: LogIndex(3), applied: LogIndex(9), records: records.into() }
    }

    #[test]
    fn bytes_on_disk() {
        let hex: String = encode(&example()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "47465348454150310000000000000000030000000000000009000000000000000200000000076170706c69656401000000\
             01390a0000000177008bb3a200"
        );
    }

    #[test]
    fn a_changed_or_cut_file_is_refused() {
        let bytes = encode(&example());
        let again = decode(&bytes).expect("as written");
        assert_eq!((again.from, again.applied, again.whole), (LogIndex(3), LogIndex(9), false));
        assert_eq!(again.records, example().records);
        for at in 0..bytes.len() {
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(decode(&bad).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn names_lead_back() {
        for whole in [true, false] {
            assert_eq!(parse_name(&name(0x1f, whole)), Some((0x1f, whole)));
        }
        assert_eq!(name(31, true), "heap-000000000000001f.whole");
        for other in ["heap-1.whole", "FORMAT", "heap-000000000000001F.delta", "heap-000000000000001f"] {
            assert_eq!(parse_name(other), None);
        }
    }

    /// The file as it is, and with a checksum that holds.
    #[test]
    fn fuzz_heap_file() {
        testkit::fuzz::fuzz("heap_file", &[encode(&example())], |bytes| {
            let mut sealed = bytes[..bytes.len().saturating_sub(CRC_BYTES)].to_vec();
            let sum = crc32c::crc32c(&sealed);
            sealed.put_u32(sum);
            for bytes in [bytes, &sealed] {
                let Ok(contents) = decode(bytes) else { continue };
                let again = decode(&encode(&contents)).expect("what it holds leads back");
                assert_eq!((again.applied, again.records), (contents.applied, contents.records));
            }
        });
    }
}
