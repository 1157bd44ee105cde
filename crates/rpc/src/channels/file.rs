//! The pairs on disk: a header, then records that are only appended.
//!
//! ```text
//! record = crc32c of the rest (u32 LE) | id length (u8) | user length (u16 LE) | id | user
//! ```
//! Written at each handshake without fsync: kill −9 keeps what the kernel has, a power cut may lose the tail, and then
//! the clients authenticate again. Rewritten whole, beside and by rename, when half of it is history.

use super::{MAX_ID_BYTES, MAX_USER_BYTES};
use crate::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const HEADER: &[u8] = b"goosefs channels 1\n";
const FIXED_BYTES: usize = 4 + 1 + 2;
/// Most a file can hold before it is rewritten; a longer one is not of our making and is read no further.
const MAX_FILE_BYTES: u64 = 128 << 20;
const _: () = assert!(2 * super::MAX_KNOWN * (FIXED_BYTES + MAX_ID_BYTES + MAX_USER_BYTES) < 128 << 20);
const _: () = assert!(MAX_ID_BYTES <= 0xff && MAX_USER_BYTES <= 0xffff);

#[derive(Debug)]
pub(super) struct ChannelFile {
    path: PathBuf,
    file: File,
    records: usize,
    /// Length of what is whole; a record that could not be written is cut off again.
    bytes: u64,
}

impl ChannelFile {
    /// Opens or makes the file and gives each pair to `pair`, oldest first.
    pub(super) fn open(path: &Path, mut pair: impl FnMut(&str, &str) -> bool) -> Result<ChannelFile, Error> {
        let failed = |verb| move |source| Error::ChannelFile { verb, path: path.to_owned(), source };
        let mut file = private().create(true).open(path).map_err(failed("open"))?;
        let mut bytes = Vec::new();
        (&mut file).take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(failed("read"))?;
        if bytes.len() < HEADER.len() && HEADER.starts_with(&bytes) {
            // New, or torn while it was made.
            file.set_len(0).map_err(failed("begin"))?;
            file.write_all(HEADER).map_err(failed("begin"))?;
            return Ok(ChannelFile { path: path.to_owned(), file, records: 0, bytes: length(HEADER) });
        }
        let Some(mut rest) = bytes.strip_prefix(HEADER) else {
            return Err(Error::ChannelFileForeign { path: path.to_owned() });
        };
        let mut records = 0;
        while let Some((id, user, after)) = parse(rest) {
            pair(id, user);
            records += 1;
            rest = after;
        }
        if !rest.is_empty() {
            tracing::warn!(path = %path.display(), bytes = rest.len(), "dropped the torn tail of the channel file");
        }
        let bytes = length(&bytes) - length(rest);
        file.set_len(bytes).map_err(failed("cut"))?;
        Ok(ChannelFile { path: path.to_owned(), file, records, bytes })
    }

    /// Records in the file, outdated ones among them.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    pub(super) fn append(&mut self, id: &str, user: &str) -> Result<(), Error> {
        let record = record(id, user);
        // One write: a kill cannot tear it, only a power cut or a full disk can.
        if let Err(source) = self.file.write_all(&record) {
            self.file.set_len(self.bytes).map_err(|source| self.failed("cut", source))?;
            return Err(self.failed("append to", source));
        }
        self.records += 1;
        self.bytes += length(&record);
        Ok(())
    }

    /// Replaces the file by one with just these pairs.
    pub(super) fn rewrite(&mut self, pairs: &[(Arc<str>, Arc<str>)]) -> Result<(), Error> {
        let mut bytes = HEADER.to_vec();
        for (id, user) in pairs {
            bytes.extend_from_slice(&record(id, user));
        }
        let beside = self.path.with_extension("new");
        let replace = || -> io::Result<File> {
            let mut file = private().create(true).open(&beside)?;
            file.set_len(0)?;
            file.write_all(&bytes)?;
            // Else the rename may reach the disk before the content.
            file.sync_data()?;
            std::fs::rename(&beside, &self.path)?;
            Ok(file)
        };
        self.file = replace().map_err(|source| self.failed("rewrite", source))?;
        self.records = pairs.len();
        self.bytes = length(&bytes);
        Ok(())
    }

    fn failed(&self, verb: &'static str, source: io::Error) -> Error {
        Error::ChannelFile { verb, path: self.path.clone(), source }
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o600);
    options
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("what is in memory fits 64 bits")
}

fn record(id: &str, user: &str) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.push(u8::try_from(id.len()).expect("ids are bounded before they get here"));
    let user_bytes = u16::try_from(user.len()).expect("users are bounded before they get here");
    bytes.extend_from_slice(&user_bytes.to_le_bytes());
    bytes.extend_from_slice(id.as_bytes());
    bytes.extend_from_slice(user.as_bytes());
    let crc = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The first record and what is behind it; None if it is torn or damaged.
fn parse(bytes: &[u8]) -> Option<(&str, &str, &[u8])> {
    let (fixed, rest) = bytes.split_at_checked(FIXED_BYTES)?;
    let crc = u32::from_le_bytes(fixed[..4].try_into().expect("four bytes"));
    let id_bytes = usize::from(fixed[4]);
    let user_bytes = usize::from(u16::from_le_bytes([fixed[5], fixed[6]]));
    let (body, after) = rest.split_at_checked(id_bytes + user_bytes)?;
    if crc32c::crc32c_append(crc32c::crc32c(&fixed[4..]), body) != crc {
        return None;
    }
    let (id, user) = body.split_at(id_bytes);
    Some((std::str::from_utf8(id).ok()?, std::str::from_utf8(user).ok()?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_channel_records() {
        let pairs = [("0c3e8b1e-3f62-4d5c", "ann"), ("1", "j\u{fc}rgen")];
        let sample: Vec<u8> = pairs.iter().flat_map(|(id, user)| record(id, user)).collect();
        testkit::fuzz::fuzz("channel_records", &[sample], |bytes| {
            let mut rest = bytes;
            while let Some((id, user, after)) = parse(rest) {
                assert_eq!(record(id, user), rest[..rest.len() - after.len()], "nobody's name was made up");
                rest = after;
            }
        });
    }
}
