//! The `FORMAT` file: what a database directory is, before anything in it is opened.
//!
//! Is:     four lines of text and a checksum, written last when a directory is formatted or copied.
//! Never:  changed afterwards.

use crate::error::{damaged, from_io};
use meta::StoreError;
use std::io;
use std::path::Path;
use types::{ClusterId, ErrorKind};

/// Name of the file.
pub(crate) const NAME: &str = "FORMAT";
/// The layout this code reads and writes (docs/formats/database.md).
const VERSION: u32 = 1;
const TITLE: &str = "goosefs metadata database";

/// Which of our stores a directory belongs to; the text is the value of `goosefs.master.metastore`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Rocks,
    Heap,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Rocks => "ROCKS",
            Kind::Heap => "HEAP",
        }
    }
}

/// The content of the file.
pub(crate) fn encode(kind: Kind, cluster: ClusterId) -> Vec<u8> {
    let body = format!("{TITLE}\nformat {VERSION}\nstore {}\n{cluster}\n", kind.name());
    format!("{body}crc32c {:08x}\n", crc32c::crc32c(body.as_bytes())).into_bytes()
}

/// Refuses, naming `place`, whatever is not a database of `cluster` that this code can open as `kind`.
/// `content` is what reading the file gave.
pub(crate) fn check(
    place: &Path,
    content: io::Result<Vec<u8>>,
    kind: Kind,
    cluster: ClusterId,
) -> Result<(), StoreError> {
    let what = format!("cannot open the metadata database at {}", place.display());
    let refuse = |kind, why: String| Err(StoreError { what: format!("{what}: {why}"), kind });
    let bytes = match content {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return refuse(
                ErrorKind::Precondition,
                format!(
                    "it holds no {NAME} file, so it was never formatted or formatting was cut short; run \
                     `goosefs format` on an empty directory or correct goosefs.master.metastore.dir"
                ),
            );
        }
        Err(error) => return Err(from_io(format_args!("{what}: cannot read {NAME}"), &error)),
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    if lines.next() != Some(TITLE) {
        return Err(damaged(format_args!("{what}: its {NAME} file is not one of ours")));
    }
    // The version comes first: a newer one may have other lines and another checksum.
    let format = lines.next().unwrap_or_default();
    match format.strip_prefix("format ").and_then(|version| version.parse::<u32>().ok()) {
        Some(VERSION) => {}
        Some(newer) if newer > VERSION => {
            return refuse(
                ErrorKind::Precondition,
                format!("it has format {newer} and this program reads up to {VERSION}; start the newer program"),
            );
        }
        Some(_) | None => return Err(damaged(format_args!("{what}: its {NAME} file says {format:?}"))),
    }
    let (Some(store), Some(owner), Some(sum), None) = (lines.next(), lines.next(), lines.next(), lines.next()) else {
        return Err(damaged(format_args!("{what}: its {NAME} file has not five lines")));
    };
    let body = format!("{TITLE}\n{format}\n{store}\n{owner}\n");
    if sum != format!("crc32c {:08x}", crc32c::crc32c(body.as_bytes())) {
        return Err(damaged(format_args!("{what}: the checksum of its {NAME} file is wrong")));
    }
    if store.strip_prefix("store ") != Some(kind.name()) {
        let (mine, theirs) = (kind.name(), store.trim_start_matches("store "));
        return refuse(
            ErrorKind::Precondition,
            format!("it was formatted for {theirs}, not {mine}; set goosefs.master.metastore={theirs}"),
        );
    }
    if owner != cluster.to_string() {
        return refuse(
            ErrorKind::Precondition,
            format!("it belongs to {owner}, and this is {cluster}; correct goosefs.master.metastore.dir"),
        );
    }
    Ok(())
}

/// Whose database `content` says the one at `place` is. Errors: as those of [`check`], but for another cluster.
pub(crate) fn cluster(place: &Path, content: io::Result<Vec<u8>>, kind: Kind) -> Result<ClusterId, StoreError> {
    let text = content.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    let digits = text.lines().nth(3).and_then(|line| line.strip_prefix("cluster-"));
    let said = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok()).map(ClusterId).unwrap_or_default();
    check(place, content, kind, said)?;
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &[u8]) -> Result<(), String> {
        check(Path::new("/db"), Ok(text.to_vec()), Kind::Rocks, ClusterId(5)).map_err(|error| error.what)
    }

    #[test]
    fn bytes_on_disk() {
        let text = String::from_utf8(encode(Kind::Rocks, ClusterId(5))).expect("text");
        assert_eq!(
            text,
            "goosefs metadata database\nformat 1\nstore ROCKS\ncluster-00000000000000000000000000000005\n\
             crc32c e298cac6\n"
        );
    }

    #[test]
    fn only_its_own_is_opened() {
        assert_eq!(check_text(&encode(Kind::Rocks, ClusterId(5))), Ok(()));
        let named = cluster(Path::new("/db"), Ok(encode(Kind::Rocks, ClusterId(5))), Kind::Rocks);
        assert_eq!(named.expect("its own"), ClusterId(5));
        let other = cluster(Path::new("/db"), Ok(encode(Kind::Heap, ClusterId(5))), Kind::Rocks);
        assert!(other.expect_err("refused").what.contains("set goosefs.master.metastore=HEAP"));
        let refusal = |text: &[u8]| check_text(text).expect_err("refused");
        assert!(refusal(&encode(Kind::Heap, ClusterId(5))).contains("set goosefs.master.metastore=HEAP"));
        assert!(refusal(&encode(Kind::Rocks, ClusterId(6))).contains("it belongs to cluster-"));
        let newer = String::from_utf8(encode(Kind::Rocks, ClusterId(5))).expect("text").replace("at 1", "at 9");
        assert!(refusal(newer.as_bytes()).contains("it has format 9 and this program reads up to 1"));
        assert!(refusal(b"").contains("not one of ours"));
        for index in 0..encode(Kind::Rocks, ClusterId(5)).len() {
            let mut bytes = encode(Kind::Rocks, ClusterId(5));
            bytes[index] ^= 2;
            refusal(&bytes);
        }
    }

    #[test]
    fn fuzz_marker() {
        let sample = encode(Kind::Rocks, ClusterId(5));
        testkit::fuzz::fuzz("marker", std::slice::from_ref(&sample), |bytes| {
            let same = String::from_utf8_lossy(bytes).lines().eq(String::from_utf8_lossy(&sample).lines());
            assert!(same || check_text(bytes).is_err());
        });
    }
}
