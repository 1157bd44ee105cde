//! The bytes of a segment: its header, and batches of entries.
//!
//! Is:     encode and decode, little endian, as `docs/formats/journal.md` lays out; golden bytes pin it.
//! Owns:   nothing.
//! Never:  reads or writes a file.

use crate::disk::SECTOR;
use crate::{EntryKind, HardState, LogEntry, MemberId};
use bytes::Bytes;
use types::{ClusterId, LogIndex, Term};

/// Version of everything below; a higher one on disk is refused.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// A segment header fills one sector; the first batch follows it.
pub(crate) const SEGMENT_HEADER_BYTES: usize = SECTOR;
/// Fixed part of a batch.
pub(crate) const BATCH_HEADER_BYTES: usize = 88;
/// Fixed part of an entry within a batch.
pub(crate) const ENTRY_HEADER_BYTES: usize = 16;

const SEGMENT_MAGIC: [u8; 8] = *b"GFSJRNL\0";
const BATCH_MAGIC: [u8; 4] = *b"GJB1";
/// The log goes on in the segment of the next generation, which exists.
const FLAG_SEAL: u32 = 1;
/// Kinds of entries; another one was written by a newer program.
const ENTRY_NORMAL: u8 = 0;
const ENTRY_CHANGE: u8 = 1;
const SEGMENT_CRC_AT: usize = SECTOR - 4;
const BODY_CRC_AT: usize = 80;
const HEADER_CRC_AT: usize = 84;

const _: () = assert!(BATCH_HEADER_BYTES <= SECTOR && HEADER_CRC_AT + 4 == BATCH_HEADER_BYTES);

/// What a segment says of itself, written and synced before its first batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub cluster: ClusterId,
    /// Counts up by one from segment to segment; a recycled file gets a new one.
    pub generation: u64,
    /// The index after the last one in all earlier segments.
    pub first: u64,
    /// Term of the entry before `first`.
    pub base_term: u64,
    /// Number of the first batch here.
    pub first_batch: u64,
    /// As of the last batch before this segment.
    pub hard_state: HardState,
    /// Length of the file.
    pub segment_bytes: u64,
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unreadable {
    NotOurs,
    Newer(u32),
    Checksum,
}

/// What stands before the entries of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BatchHeader {
    pub seal: bool,
    pub generation: u64,
    /// Counts up by one from batch to batch, across segments. Written only after all earlier ones were synced.
    pub number: u64,
    /// Highest index known synced before this batch was written.
    pub synced: u64,
    pub hard_state: HardState,
    /// Index of the first entry, or the next free index without entries. At or below the last one: it truncates.
    pub first: u64,
    /// Term of the entry before `first`.
    pub prev_term: u64,
    pub entry_count: u32,
    pub body_bytes: u32,
}

impl BatchHeader {
    /// Length on disk, padding included.
    pub(crate) fn disk_bytes(&self) -> u64 {
        round_up(u64::from(self.body_bytes) + u64_of(BATCH_HEADER_BYTES))
    }
    /// One past the last index after this batch.
    pub(crate) fn end(&self) -> u64 {
        self.first + u64::from(self.entry_count)
    }
}

/// Bytes that a batch of this many body bytes takes on disk.
pub(crate) fn batch_disk_bytes(body_bytes: u64) -> u64 {
    round_up(body_bytes + u64_of(BATCH_HEADER_BYTES))
}

/// Bytes that an entry takes within a batch.
pub(crate) fn entry_bytes(entry: &LogEntry) -> u64 {
    u64_of(ENTRY_HEADER_BYTES + entry.payload.len())
}

fn kind_byte(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Normal => ENTRY_NORMAL,
        EntryKind::Change => ENTRY_CHANGE,
    }
}

/// A length in memory as a file offset.
pub(crate) fn u64_of(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("usize is at most 64 bits")
}

fn round_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(u64_of(SECTOR))
}

/// Writes fields one after the other.
struct Put<'a>(&'a mut Vec<u8>);

impl Put<'_> {
    fn bytes(self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }
    fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }
    fn hard_state(self, state: &HardState) -> Self {
        self.u64(state.term.0).u64(state.vote.map_or(0, |member| member.0)).u64(state.commit.0)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
fn hard_state_at(bytes: &[u8], at: usize) -> HardState {
    HardState {
        term: Term(u64_at(bytes, at)),
        vote: Some(u64_at(bytes, at + 8)).filter(|&id| id != 0).map(MemberId),
        commit: LogIndex(u64_at(bytes, at + 16)),
    }
}

/// Checksums begin from the cluster, so a block of another cluster's log never verifies.
fn seed(cluster: ClusterId) -> u32 {
    crc32c::crc32c(&cluster.0.to_le_bytes())
}

impl SegmentHeader {
    /// The first sector of a segment.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        Put(&mut out)
            .bytes(&SEGMENT_MAGIC)
            .u32(FORMAT_VERSION)
            .u32(0)
            .bytes(&self.cluster.0.to_le_bytes())
            .u64(self.generation)
            .u64(self.first)
            .u64(self.base_term)
            .u64(self.first_batch)
            .hard_state(&self.hard_state)
            .u64(self.segment_bytes);
        out.resize(SEGMENT_CRC_AT, 0);
        let crc = crc32c::crc32c(&out);
        Put(&mut out).u32(crc);
        out
    }

    /// Reads one sector. The version is looked at before the checksum: a newer layout may keep it elsewhere. A header that
    /// verifies with our version in its place is one of ours, damaged there.
    pub(crate) fn decode(sector: &[u8]) -> Result<SegmentHeader, Unreadable> {
        assert_eq!(sector.len(), SEGMENT_HEADER_BYTES, "callers read one sector");
        if sector[..8] != SEGMENT_MAGIC {
            return Err(Unreadable::NotOurs);
        }
        match u32_at(sector, 8) {
            FORMAT_VERSION => {}
            newer if newer > FORMAT_VERSION && !is_ours_but_for_the_version(sector) => {
                return Err(Unreadable::Newer(newer));
            }
            _ => return Err(Unreadable::Checksum),
        }
        if crc32c::crc32c(&sector[..SEGMENT_CRC_AT]) != u32_at(sector, SEGMENT_CRC_AT) {
            return Err(Unreadable::Checksum);
        }
        let header = SegmentHeader {
            cluster: ClusterId(u128::from_le_bytes(sector[16..32].try_into().expect("sixteen bytes"))),
            generation: u64_at(sector, 32),
            first: u64_at(sector, 40),
            base_term: u64_at(sector, 48),
            first_batch: u64_at(sector, 56),
            hard_state: hard_state_at(sector, 64),
            segment_bytes: u64_at(sector, 88),
        };
        // Nobody writes such a header; the checksum of a careless program may hold all the same.
        let can_be = header.first > 0 && header.generation > 0 && header.segment_bytes > u64_of(2 * SECTOR);
        can_be.then_some(header).ok_or(Unreadable::Checksum)
    }
}

fn is_ours_but_for_the_version(sector: &[u8]) -> bool {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&sector[..8]), &FORMAT_VERSION.to_le_bytes());
    crc32c::crc32c_append(crc, &sector[12..SEGMENT_CRC_AT]) == u32_at(sector, SEGMENT_CRC_AT)
}

/// Appends one batch with its padding to `out`. `header.entry_count` and `body_bytes` are computed here.
pub(crate) fn encode_batch(out: &mut Vec<u8>, cluster: ClusterId, header: &BatchHeader, entries: &[LogEntry]) {
    let start = out.len();
    let body = start + BATCH_HEADER_BYTES;
    out.resize(body, 0);
    for entry in entries {
        let payload_bytes = u32::try_from(entry.payload.len()).expect("a batch fits a segment, checked by its caller");
        Put(out).u32(payload_bytes).bytes(&[kind_byte(entry.kind), 0, 0, 0]).u64(entry.term.0).bytes(&entry.payload);
    }
    let body_bytes = u32::try_from(out.len() - body).expect("a batch fits a segment");
    let mut head = Vec::with_capacity(BATCH_HEADER_BYTES);
    Put(&mut head)
        .bytes(&BATCH_MAGIC)
        .u32(if header.seal { FLAG_SEAL } else { 0 })
        .u64(header.generation)
        .u64(header.number)
        .u64(header.synced)
        .hard_state(&header.hard_state)
        .u64(header.first)
        .u64(header.prev_term)
        .u32(u32::try_from(entries.len()).expect("fewer entries than bytes"))
        .u32(body_bytes);
    let body_crc = crc32c::crc32c_append(crc32c::crc32c_append(seed(cluster), &head), &out[body..]);
    Put(&mut head).u32(body_crc);
    let header_crc = crc32c::crc32c_append(seed(cluster), &head);
    Put(&mut head).u32(header_crc);
    out[start..body].copy_from_slice(&head);
    out.resize(start + (out.len() - start).next_multiple_of(SECTOR), 0);
}

/// Reads a batch header; None unless it is one of this cluster and generation, with indexes that can be.
pub(crate) fn decode_batch_header(bytes: &[u8], cluster: ClusterId, generation: u64) -> Option<BatchHeader> {
    if bytes[..4] != BATCH_MAGIC || u64_at(bytes, 8) != generation {
        return None;
    }
    if crc32c::crc32c_append(seed(cluster), &bytes[..HEADER_CRC_AT]) != u32_at(bytes, HEADER_CRC_AT) {
        return None;
    }
    let (first, entry_count) = (u64_at(bytes, 56), u32_at(bytes, 72));
    first.checked_add(u64::from(entry_count)).filter(|_| first > 0)?;
    Some(BatchHeader {
        seal: u32_at(bytes, 4) & FLAG_SEAL != 0,
        generation,
        number: u64_at(bytes, 16),
        synced: u64_at(bytes, 24),
        hard_state: hard_state_at(bytes, 32),
        first,
        prev_term: u64_at(bytes, 64),
        entry_count,
        body_bytes: u32_at(bytes, 76),
    })
}

/// Whether the body belongs to this header and is whole. `bytes` begins with the header.
pub(crate) fn body_is_whole(bytes: &[u8], cluster: ClusterId, header: &BatchHeader) -> bool {
    let end = BATCH_HEADER_BYTES + usize::try_from(header.body_bytes).expect("u32 fits usize");
    let crc = crc32c::crc32c_append(seed(cluster), &bytes[..BODY_CRC_AT]);
    crc32c::crc32c_append(crc, &bytes[BATCH_HEADER_BYTES..end]) == u32_at(bytes, BODY_CRC_AT)
}

/// The entries of a whole batch, or None if the body does not hold what its header says. `bytes` begins with the header.
pub(crate) fn decode_entries(bytes: &[u8], header: &BatchHeader) -> Option<Vec<LogEntry>> {
    let mut entries = Vec::new();
    let mut body = &bytes[BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + usize::try_from(header.body_bytes).ok()?];
    for index in header.first..header.end() {
        let (head, rest) = body.split_at_checked(ENTRY_HEADER_BYTES)?;
        let (payload, rest) = rest.split_at_checked(usize::try_from(u32_at(head, 0)).ok()?)?;
        let kind = match head[4] {
            ENTRY_NORMAL => EntryKind::Normal,
            ENTRY_CHANGE => EntryKind::Change,
            _ => return None,
        };
        let (index, term) = (LogIndex(index), Term(u64_at(head, 8)));
        entries.push(LogEntry { index, term, kind, payload: Bytes::copy_from_slice(payload) });
        body = rest;
    }
    body.is_empty().then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn segment() -> SegmentHeader {
        SegmentHeader {
            cluster: CLUSTER,
            generation: 3,
            first: 100,
            base_term: 7,
            first_batch: 42,
            hard_state: HardState { term: Term(8), vote: Some(MemberId(2)), commit: LogIndex(98) },
            segment_bytes: 64 << 20,
        }
    }

    fn batch() -> (BatchHeader, Vec<LogEntry>) {
        let entries = vec![
            LogEntry { index: LogIndex(100), term: Term(8), kind: EntryKind::Normal, payload: Bytes::new() },
            LogEntry {
                index: LogIndex(101),
                term: Term(8),
                kind: EntryKind::Normal,
                payload: Bytes::from_static(b"mkdir /a"),
            },
        ];
        let header = BatchHeader {
            seal: false,
            generation: 3,
            number: 42,
            synced: 99,
            hard_state: HardState { term: Term(8), vote: None, commit: LogIndex(99) },
            first: 100,
            prev_term: 7,
            entry_count: 2,
            body_bytes: 40,
        };
        (header, entries)
    }

    /// A change here is a change of the format: raise FORMAT_VERSION and keep reading the old one.
    #[test]
    fn golden_bytes_of_a_segment_header() {
        let bytes = segment().encode();
        assert_eq!(
            hex(&bytes[..96]),
            concat!(
                "4746534a524e4c00",
                "01000000",
                "00000000",
                "100f0e0d0c0b0a090807060504030201",
                "0300000000000000",
                "6400000000000000",
                "0700000000000000",
                "2a00000000000000",
                "0800000000000000",
                "0200000000000000",
                "6200000000000000",
                "0000000400000000",
            )
        );
        assert!(bytes[96..SEGMENT_CRC_AT].iter().all(|&byte| byte == 0));
        assert_eq!(hex(&bytes[SEGMENT_CRC_AT..]), "7dbb6e78");
        assert_eq!(SegmentHeader::decode(&bytes), Ok(segment()));
    }

    #[test]
    fn golden_bytes_of_a_batch() {
        let (header, entries) = batch();
        let mut bytes = Vec::new();
        encode_batch(&mut bytes, CLUSTER, &header, &entries);
        assert_eq!(bytes.len(), SECTOR);
        assert_eq!(
            hex(&bytes[..80]),
            concat!(
                "474a4231",
                "00000000",
                "0300000000000000",
                "2a00000000000000",
                "6300000000000000",
                "0800000000000000",
                "0000000000000000",
                "6300000000000000",
                "6400000000000000",
                "0700000000000000",
                "02000000",
                "28000000",
            )
        );
        assert_eq!(hex(&bytes[80..88]), "3eee13f899f60ded");
        assert_eq!(
            hex(&bytes[88..128]),
            concat!(
                "00000000",
                "00000000",
                "0800000000000000",
                "08000000",
                "00000000",
                "0800000000000000",
                "6d6b646972202f61",
            )
        );
        assert!(bytes[128..].iter().all(|&byte| byte == 0));
        assert_eq!(decode_batch_header(&bytes, CLUSTER, 3), Some(header));
        assert!(body_is_whole(&bytes, CLUSTER, &header));
        assert_eq!(decode_entries(&bytes, &header), Some(entries));
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let (header, entries) = batch();
        let mut bytes = Vec::new();
        encode_batch(&mut bytes, CLUSTER, &header, &entries);
        for at in 0..128 {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            let whole = decode_batch_header(&bad, CLUSTER, 3).is_some_and(|head| body_is_whole(&bad, CLUSTER, &head));
            assert!(!whole, "byte {at}");
        }
        let mut bytes = segment().encode();
        bytes[200] ^= 1;
        assert_eq!(SegmentHeader::decode(&bytes), Err(Unreadable::Checksum));
    }

    #[test]
    fn bytes_of_another_cluster_generation_or_version_do_not_pass() {
        let (header, entries) = batch();
        let mut bytes = Vec::new();
        encode_batch(&mut bytes, CLUSTER, &header, &entries);
        assert_eq!(decode_batch_header(&bytes, ClusterId(1), 3), None);
        assert_eq!(decode_batch_header(&bytes, CLUSTER, 4), None);
        let mut newer = segment().encode();
        newer[8] = 9;
        assert_eq!(SegmentHeader::decode(&newer), Err(Unreadable::Checksum), "a flipped bit makes no newer release");
        let crc = crc32c::crc32c(&newer[..SEGMENT_CRC_AT]).to_le_bytes();
        newer[SEGMENT_CRC_AT..SEGMENT_CRC_AT + 4].copy_from_slice(&crc);
        assert_eq!(SegmentHeader::decode(&newer), Err(Unreadable::Newer(9)));
        assert_eq!(SegmentHeader::decode(&[0; SECTOR]), Err(Unreadable::NotOurs));
    }

    fn resealed(bytes: &[u8]) -> Vec<u8> {
        let mut sector = bytes.to_vec();
        sector.resize(SECTOR.max(sector.len()), 0);
        sector
    }

    /// As it is, and with a checksum that holds: what a stranger's log may say.
    #[test]
    fn fuzz_segment_header() {
        testkit::fuzz::fuzz("segment_header", &[segment().encode()], |bytes| {
            let mut sector = resealed(bytes)[..SECTOR].to_vec();
            let raw = SegmentHeader::decode(&sector);
            let crc = crc32c::crc32c(&sector[..SEGMENT_CRC_AT]);
            sector[SEGMENT_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
            for header in [raw, SegmentHeader::decode(&sector)].into_iter().flatten() {
                assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
                assert!(header.first > 0 && header.segment_bytes > 0);
            }
        });
    }

    #[test]
    fn fuzz_batch() {
        let (header, entries) = batch();
        let mut sample = Vec::new();
        encode_batch(&mut sample, CLUSTER, &header, &entries);
        let take = |bytes: &[u8]| {
            let Some(header) = decode_batch_header(bytes, CLUSTER, 3) else { return };
            let end = u64_of(BATCH_HEADER_BYTES) + u64::from(header.body_bytes);
            if end > u64_of(bytes.len()) || !body_is_whole(bytes, CLUSTER, &header) {
                return;
            }
            let Some(entries) = decode_entries(bytes, &header) else { return };
            let mut again = Vec::new();
            encode_batch(&mut again, CLUSTER, &header, &entries);
            assert_eq!(decode_entries(&again, &header), Some(entries));
            assert_eq!(header.end() - header.first, u64::from(header.entry_count));
        };
        testkit::fuzz::fuzz("batch", &[sample], |bytes| {
            let mut bytes = resealed(bytes);
            take(&bytes);
            let length = u64::from(u32_at(&bytes, 76));
            let Some(end) = usize::try_from(length).ok().map(|body| BATCH_HEADER_BYTES + body) else { return };
            if end > bytes.len() {
                return;
            }
            let body = crc32c::crc32c_append(seed(CLUSTER), &bytes[..BODY_CRC_AT]);
            let body = crc32c::crc32c_append(body, &bytes[BATCH_HEADER_BYTES..end]);
            bytes[BODY_CRC_AT..HEADER_CRC_AT].copy_from_slice(&body.to_le_bytes());
            let head = crc32c::crc32c_append(seed(CLUSTER), &bytes[..HEADER_CRC_AT]);
            bytes[HEADER_CRC_AT..BATCH_HEADER_BYTES].copy_from_slice(&head.to_le_bytes());
            take(&bytes);
        });
    }
}
