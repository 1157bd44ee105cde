//! The bytes of a backup: a head in text, blocks of records, an end that counts them (docs/formats/backup.md).
//!
//! Is:     pure: bytes in, bytes out. [`Encoder`] and [`Decoder`] hold one block at a time.
//! Never:  gives out a record of a block whose checksum was not right; calls an archive whole without its end.

use crate::record_file;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use meta::Family;
use std::fmt::Write as _;
use types::{ClusterId, Incarnation, LogIndex, Term, UnixMs};

const MAGIC: &str = "goosefs-backup-1";
const ANY_MAGIC: &str = "goosefs-backup-";
/// Longest head.
const HEAD_BYTES: usize = 4 << 10;
/// A block is closed when it has so many bytes.
const BLOCK_BYTES: usize = 256 << 10;
/// Longest block that is read: one record may be larger than a block should be.
const BLOCK_BYTES_MAX: usize = 64 << 20;
/// Length and checksum before each block.
const BLOCK_HEAD: usize = 8;
/// Family, length of the key, length of the value.
const RECORD_HEAD: usize = 7;
/// The counts of the end.
const END_BYTES: usize = 16;

/// What an archive is of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// The last entry that is in it.
    pub index: LogIndex,
    pub term: Term,
    pub cluster: ClusterId,
    /// The id that the cluster's key gives a group: with another key the secrets in it cannot be read.
    pub key: ClusterId,
    pub incarnation: Incarnation,
    pub rules: u32,
    pub written: UnixMs,
    /// Of the master that wrote it.
    pub release: String,
}

/// One record of the state.
pub type Record = (Family, Bytes, Bytes);

/// Why bytes are no backup that can be used, as the end of a sentence.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum ArchiveError {
    #[error("it is no backup of GooseFS: it does not begin with {ANY_MAGIC}")]
    Foreign,
    #[error("it is of a newer release ({0}); use that")]
    Newer(String),
    #[error("it is damaged in its head ({0}); take another backup")]
    Head(&'static str),
    #[error("it is damaged in the block at byte {at} ({why}); take another backup")]
    Block { at: u64, why: &'static str },
    #[error(
        "it ends after {bytes} bytes and {records} records, before its own end; take one that was written to its end"
    )]
    Short { bytes: u64, records: u64 },
}

impl Head {
    pub fn encode(&self) -> Bytes {
        let mut text = format!("{MAGIC}\nindex {}\nterm {}\n", self.index.0, self.term.0);
        let (cluster, key, incarnation) = (self.cluster.0, self.key.0, self.incarnation.0);
        write!(text, "cluster {cluster:032x}\nkey {key:032x}\nincarnation {incarnation}\n").expect("strings grow");
        let (rules, written, release) = (self.rules, self.written.0, &self.release);
        write!(text, "rules {rules}\nwritten {written}\nrelease {release}\n").expect("strings grow");
        Bytes::from(record_file::sealed(&text))
    }

    fn decode(text: &str) -> Option<Head> {
        let body = record_file::whole(text)?;
        let mut lines = body.lines().skip(1);
        let mut line = |word: &str| lines.next()?.strip_prefix(word)?.strip_prefix(' ');
        let number = |text: &str| text.parse::<u64>().ok();
        let id = |text: &str| u128::from_str_radix(text, 16).ok().map(ClusterId);
        Some(Head {
            index: LogIndex(number(line("index")?)?),
            term: Term(number(line("term")?)?),
            cluster: id(line("cluster")?)?,
            key: id(line("key")?)?,
            incarnation: Incarnation(number(line("incarnation")?)?),
            rules: line("rules")?.parse().ok()?,
            written: UnixMs(line("written")?.parse().ok()?),
            release: line("release")?.to_owned(),
        })
    }
}

/// Gathers records into blocks.
#[derive(Default)]
pub struct Encoder {
    block: BytesMut,
    records: u64,
    bytes: u64,
}

impl Encoder {
    /// A block to be written, when this record has filled one.
    pub fn push(&mut self, family: Family, key: &[u8], value: &[u8]) -> Option<Bytes> {
        if self.block.is_empty() {
            self.block.put_bytes(0, BLOCK_HEAD);
        }
        self.block.put_u8(family as u8);
        self.block.put_u16_le(u16::try_from(key.len()).expect("keys are names and numbers"));
        self.block.put_u32_le(u32::try_from(value.len()).expect("records are small"));
        self.block.put_slice(key);
        self.block.put_slice(value);
        self.records += 1;
        (self.block.len() >= BLOCK_BYTES).then(|| self.close())
    }

    fn close(&mut self) -> Bytes {
        let mut block = std::mem::replace(&mut self.block, BytesMut::with_capacity(BLOCK_BYTES + (64 << 10)));
        let payload = &block[BLOCK_HEAD..];
        self.bytes += u64::try_from(payload.len()).expect("usize is at most 64 bits");
        let (length, sum) = (u32::try_from(payload.len()).expect("a block is small"), crc32c::crc32c(payload));
        block[..4].copy_from_slice(&length.to_le_bytes());
        block[4..BLOCK_HEAD].copy_from_slice(&sum.to_le_bytes());
        block.freeze()
    }

    /// What is left, and the end.
    pub fn finish(mut self) -> (Bytes, u64) {
        let mut out = BytesMut::new();
        if !self.block.is_empty() {
            out.put_slice(&self.close());
        }
        let mut end = [0; END_BYTES];
        end[..8].copy_from_slice(&self.records.to_le_bytes());
        end[8..].copy_from_slice(&self.bytes.to_le_bytes());
        out.put_u32_le(0);
        out.put_u32_le(crc32c::crc32c(&end));
        out.put_slice(&end);
        (out.freeze(), self.records)
    }
}

/// What the bytes fed so far hold.
#[derive(PartialEq, Eq, Debug)]
pub enum Part {
    Head(Head),
    Records(Vec<Record>),
}

#[derive(Default)]
enum Stage {
    #[default]
    Head,
    Blocks,
    Ended,
}

/// Takes an archive apart as its bytes come.
#[derive(Default)]
pub struct Decoder {
    buffer: BytesMut,
    stage: Stage,
    /// Bytes of the archive before the buffer.
    at: u64,
    records: u64,
    bytes: u64,
}

impl Decoder {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// The next part; None: feed more. After an error it is of no use any more.
    pub fn part(&mut self) -> Result<Option<Part>, ArchiveError> {
        match self.stage {
            Stage::Head => self.head(),
            Stage::Blocks => self.block(),
            Stage::Ended if self.buffer.is_empty() => Ok(None),
            Stage::Ended => Err(self.bad("something follows on its end")),
        }
    }

    /// Whether the end was there, when there are no more bytes: the number of its records.
    pub fn finish(self) -> Result<u64, ArchiveError> {
        match self.stage {
            Stage::Ended => Ok(self.records),
            Stage::Head if self.buffer.len() < ANY_MAGIC.len() => Err(ArchiveError::Foreign),
            Stage::Head | Stage::Blocks => {
                let rest = u64::try_from(self.buffer.len()).expect("usize is at most 64 bits");
                Err(ArchiveError::Short { bytes: self.at + rest, records: self.records })
            }
        }
    }

    fn bad(&self, why: &'static str) -> ArchiveError {
        ArchiveError::Block { at: self.at, why }
    }

    fn take(&mut self, length: usize) -> BytesMut {
        self.at += u64::try_from(length).expect("usize is at most 64 bits");
        self.buffer.split_to(length)
    }

    fn head(&mut self) -> Result<Option<Part>, ArchiveError> {
        let there = &self.buffer[..self.buffer.len().min(HEAD_BYTES)];
        if there.len() < ANY_MAGIC.len() {
            return Ok(None);
        }
        if !there.starts_with(ANY_MAGIC.as_bytes()) {
            return Err(ArchiveError::Foreign);
        }
        let mut length = 0;
        for line in there.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            if length == 0 && *line != [MAGIC.as_bytes(), b"\n"].concat() {
                let name = String::from_utf8_lossy(&line[..line.len().min(40) - 1]).into_owned();
                return Err(ArchiveError::Newer(name));
            }
            length += line.len();
            if line.starts_with(b"crc32c ") {
                let text = self.take(length);
                let text = std::str::from_utf8(&text).map_err(|_| ArchiveError::Head("it is no text"))?;
                let head = Head::decode(text).ok_or(ArchiveError::Head("its lines or its checksum are wrong"))?;
                self.stage = Stage::Blocks;
                return Ok(Some(Part::Head(head)));
            }
        }
        match self.buffer.len() >= HEAD_BYTES {
            true => Err(ArchiveError::Head("it does not end")),
            false => Ok(None),
        }
    }

    fn block(&mut self) -> Result<Option<Part>, ArchiveError> {
        let Some(head) = self.buffer.first_chunk::<BLOCK_HEAD>() else { return Ok(None) };
        let (mut length, sum) = ((&head[..4]).get_u32_le(), (&head[4..]).get_u32_le());
        let is_end = length == 0;
        if is_end {
            length = u32::try_from(END_BYTES).expect("a constant");
        }
        let length = usize::try_from(length).expect("usize is at least 32 bits");
        if length > BLOCK_BYTES_MAX {
            return Err(self.bad("it says that it is longer than any"));
        }
        let Some(payload) = self.buffer.get(BLOCK_HEAD..BLOCK_HEAD + length) else { return Ok(None) };
        if crc32c::crc32c(payload) != sum {
            return Err(self.bad("its checksum is wrong"));
        }
        if is_end {
            let (mut records, mut bytes) = payload.split_at(8);
            if (records.get_u64_le(), bytes.get_u64_le()) != (self.records, self.bytes) {
                return Err(self.bad("its end counts others"));
            }
            self.take(BLOCK_HEAD + length);
            self.stage = Stage::Ended;
            return self.part();
        }
        let mut block = self.take(BLOCK_HEAD + length).freeze();
        block.advance(BLOCK_HEAD);
        self.bytes += u64::try_from(block.len()).expect("usize is at most 64 bits");
        let records = split(block).map_err(|why| self.bad(why))?;
        self.records += u64::try_from(records.len()).expect("usize is at most 64 bits");
        Ok(Some(Part::Records(records)))
    }
}

fn split(mut block: Bytes) -> Result<Vec<Record>, &'static str> {
    let mut records = Vec::new();
    while !block.is_empty() {
        if block.len() < RECORD_HEAD {
            return Err("a record is cut short");
        }
        let family = block.get_u8();
        let family = Family::ALL.get(usize::from(family)).ok_or("a record is of no known family")?;
        let key = usize::from(block.get_u16_le());
        let value = usize::try_from(block.get_u32_le()).expect("usize is at least 32 bits");
        if block.len() < key + value {
            return Err("a record is cut short");
        }
        let key = block.split_to(key);
        records.push((*family, key, block.split_to(value)));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            index: LogIndex(70),
            term: Term(3),
            cluster: ClusterId(0xc1),
            key: ClusterId(0x9e),
            incarnation: Incarnation(2),
            rules: 1,
            written: UnixMs(1_700_000_000_000),
            release: "0.1.0".to_owned(),
        }
    }

    fn records(count: u32) -> Vec<Record> {
        let record = |n: u32| (Family::Edges, Bytes::from(n.to_string()), Bytes::from(vec![7; (n % 300) as usize]));
        (0..count).map(record).collect()
    }

    fn archive(records: &[Record]) -> Vec<u8> {
        let mut out = head().encode().to_vec();
        let mut encoder = Encoder::default();
        for (family, key, value) in records {
            out.extend(encoder.push(*family, key, value).unwrap_or_default());
        }
        let (rest, count) = encoder.finish();
        assert_eq!(count, records.len() as u64);
        out.extend(rest);
        out
    }

    fn read(bytes: &[u8], step: usize) -> Result<(Option<Head>, Vec<Record>), ArchiveError> {
        let (mut decoder, mut head, mut all) = (Decoder::default(), None, Vec::new());
        for chunk in bytes.chunks(step) {
            decoder.feed(chunk);
            while let Some(part) = decoder.part()? {
                match part {
                    Part::Head(found) => head = Some(found),
                    Part::Records(more) => all.extend(more),
                }
            }
        }
        decoder.finish().map(|count| {
            assert_eq!(count, all.len() as u64);
            (head, all)
        })
    }

    #[test]
    fn what_is_written_is_read_however_it_is_cut() {
        for count in [0, 1, 5000] {
            let records = records(count);
            let bytes = archive(&records);
            for step in [1, 7, 4096, bytes.len()] {
                if step > 1 || count < 2 {
                    assert_eq!(read(&bytes, step), Ok((Some(head()), records.clone())));
                }
            }
        }
    }

    #[test]
    fn the_format_is_pinned() {
        let bytes = archive(&[(Family::State, Bytes::from_static(b"k"), Bytes::from_static(b"v"))]);
        let text = "goosefs-backup-1\nindex 70\nterm 3\ncluster 000000000000000000000000000000c1\nkey \
                    0000000000000000000000000000009e\nincarnation 2\nrules 1\nwritten 1700000000000\nrelease 0.1.0\ncrc32c ";
        assert!(bytes.starts_with(text.as_bytes()), "{}", String::from_utf8_lossy(&bytes));
        let blocks = &bytes[text.len() + 9..];
        assert_eq!(blocks[..4], 9u32.to_le_bytes());
        assert_eq!(&blocks[8..17], b"\x00\x01\x00\x01\x00\x00\x00kv");
        assert_eq!(blocks[17..21], [0; 4]);
        assert_eq!(blocks[25..], [1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn every_damage_and_every_cut_is_noticed() {
        let bytes = archive(&records(40));
        for at in 0..bytes.len() {
            for bit in [1, 0x80] {
                let mut bad = bytes.clone();
                bad[at] ^= bit;
                assert!(read(&bad, 4096).is_err(), "byte {at} of {}", bytes.len());
            }
            assert!(read(&bytes[..at], 4096).is_err(), "cut to {at}");
        }
        let longer = read(&[bytes.as_slice(), b"x"].concat(), 4096).expect_err("refused").to_string();
        assert!(longer.contains("something follows on its end"), "{longer}");
        assert_eq!(read(b"PK\x03\x04 something else altogether", 9), Err(ArchiveError::Foreign));
        assert!(
            matches!(read(b"goosefs-backup-2\nmore\n", 99), Err(ArchiveError::Newer(name)) if name.ends_with("-2"))
        );
    }

    #[test]
    fn fuzz_backup_archive() {
        let samples = [archive(&records(3)), archive(&[])];
        testkit::fuzz::fuzz("backup_archive", &samples, |bytes| {
            // Whatever it is: refused, or whole.
            let whole = read(bytes, 64);
            assert_eq!(whole.is_ok(), read(bytes, bytes.len().max(1)).is_ok());
        });
    }
}
