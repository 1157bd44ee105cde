//! Key files: one line of text, `<magic> <64 hex digits> <crc32c>`, readable by their owner alone. The checksum, 8 hex digits
//! over what stands before it, may be missing: the first release wrote none.

use super::{KEY_BYTES, Key};
use crate::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Longer than any key file: enough to say that it is none.
const MAX_FILE_BYTES: u64 = 1024;
const OWNER_ONLY: u32 = 0o600;

/// A kind of key file.
pub(super) struct Kind {
    pub(super) what: &'static str,
    pub(super) magic: &'static str,
    /// What to do when it is missing.
    pub(super) hint: &'static str,
}

impl Kind {
    pub(super) fn write(&self, path: &Path, key: &Key) -> Result<(), Error> {
        let failed = |verb| move |source| self.failed(verb, path, source);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(OWNER_ONLY);
        let mut file = options.open(path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => Error::KeyExists { what: self.what, path: path.to_owned(), source },
            _ => self.failed("make", path, source),
        })?;
        let mut line = format!("{} ", self.magic);
        for byte in key.0 {
            line.push_str(&format!("{byte:02x}"));
        }
        let sum = crc32c::crc32c(line.as_bytes());
        line.push_str(&format!(" {sum:08x}\n"));
        file.write_all(line.as_bytes()).map_err(failed("write"))?;
        file.sync_all().map_err(failed("write"))?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("write"))
    }

    pub(super) fn read(&self, path: &Path) -> Result<Key, Error> {
        let line = self.text(path)?;
        match line.split_once(' ') {
            Some((magic, hex)) if magic == self.magic => self.parse(path, hex),
            Some(_) | None => Err(self.damaged(path, format!("it does not begin with {}", self.magic))),
        }
    }

    /// None for a file of another kind.
    pub(super) fn read_if_it_is_one(&self, path: &Path) -> Result<Option<Key>, Error> {
        let line = self.text(path)?;
        match line.split_once(' ') {
            Some((magic, hex)) if magic == self.magic => self.parse(path, hex).map(Some),
            Some(_) | None => Ok(None),
        }
    }

    /// The content, after the checks that every key file must pass.
    fn text(&self, path: &Path) -> Result<String, Error> {
        let failed = |verb| move |source| self.failed(verb, path, source);
        let file = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                Error::KeyMissing { what: self.what, path: path.to_owned(), hint: self.hint, source }
            }
            _ => self.failed("open", path, source),
        })?;
        // Of the open file: nobody can swap it after the look.
        let metadata: fs::Metadata = file.metadata().map_err(failed("look at"))?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(Error::KeyNotPrivate { what: self.what, path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => self.damaged(path, "it is no text".to_owned()),
            _ => self.failed("read", path, source),
        })?;
        Ok(text)
    }

    /// - `rest`: of the line, behind its first word.
    fn parse(&self, path: &Path, rest: &str) -> Result<Key, Error> {
        let rest = rest.trim_end();
        let (hex, sum) = rest.split_once(' ').map_or((rest, None), |(hex, sum)| (hex, Some(sum)));
        let is_whole = |sum: &str| {
            let body = format!("{} {hex}", self.magic);
            sum == format!("{:08x}", crc32c::crc32c(body.as_bytes()))
        };
        if !sum.is_none_or(is_whole) {
            return Err(self.damaged(path, "its checksum is wrong".to_owned()));
        }
        let digits = hex.as_bytes();
        if digits.len() != 2 * KEY_BYTES {
            let why = format!("its key has {} digits, {} are needed", digits.len(), 2 * KEY_BYTES);
            return Err(self.damaged(path, why));
        }
        let mut key = Key([0; KEY_BYTES]);
        for (byte, pair) in key.0.iter_mut().zip(digits.chunks_exact(2)) {
            let pair =
                std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()));
            *byte = pair
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or_else(|| self.damaged(path, "its key is not hexadecimal".to_owned()))?;
        }
        Ok(key)
    }

    fn damaged(&self, path: &Path, why: String) -> Error {
        Error::KeyDamaged { what: self.what, path: path.to_owned(), why }
    }

    fn failed(&self, verb: &'static str, path: &Path, source: io::Error) -> Error {
        Error::KeyIo { verb, what: self.what, path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::CLUSTER_KEY;

    #[test]
    fn fuzz_key_file() {
        let digits = "0123456789abcdef".repeat(4);
        let body = format!("{} {digits}", CLUSTER_KEY.magic);
        let with_sum = format!("{digits} {:08x}\n", crc32c::crc32c(body.as_bytes()));
        let key = CLUSTER_KEY.parse(Path::new("key"), &digits).expect("a key").0;
        testkit::fuzz::fuzz("key_file", &[with_sum.into_bytes()], |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let Ok(found) = CLUSTER_KEY.parse(Path::new("key"), &text) else { return };
            let has_sum = text.trim_end().contains(' ');
            assert!(found.0 == key || !has_sum, "a checksum does not hold for another key");
        });
    }
}
