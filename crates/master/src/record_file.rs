//! Small text files that are replaced whole and say themselves whether they are whole.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// Replaces `path` by `text` and a line with its checksum: whole or not at all, and safe when it returns.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    replace_sealed(path, &sealed(text))
}

/// `text` and a line with its checksum.
pub fn sealed(text: &str) -> String {
    format!("{text}crc32c {:08x}\n", crc32c::crc32c(text.as_bytes()))
}

/// As [`replace`], of what has its checksum already.
pub fn replace_sealed(path: &Path, sealed: &str) -> io::Result<()> {
    let new = path.with_extension("tmp");
    let mut file = File::create(&new)?;
    file.write_all(sealed.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    sync_parent(path)
}

/// Removes `path`, safely; absent is fine.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_parent(path),
    }
}

/// What stands before the checksum; None: it is not whole.
pub fn whole(text: &str) -> Option<&str> {
    let at = text.rfind("crc32c ")?;
    let sum = u32::from_str_radix(text[at + 7..].trim_end(), 16).ok()?;
    (sum == crc32c::crc32c(&text.as_bytes()[..at])).then_some(&text[..at])
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().expect("it lies in a directory"))?.sync_all()
}
