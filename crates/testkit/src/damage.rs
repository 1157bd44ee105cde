//! Files that are no longer what was written: a bit turned, or an end missing, somewhere below a directory.
//!
//! Is:     the copy of a directory, and one wound in it by chance.
//! Never:  removes a file or touches its name.

use crate::Chance;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What was done to one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    pub file: PathBuf,
    pub wound: Wound,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wound {
    /// The file ends here.
    Cut { bytes: usize },
    /// One bit of this byte is the other one.
    Flip { offset: usize, bit: u8 },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wound {
            Wound::Cut { bytes } => write!(f, "{} cut to {bytes} bytes", self.file.display()),
            Wound::Flip { offset, bit } => write!(f, "bit {bit} of byte {offset} of {} flipped", self.file.display()),
        }
    }
}

/// Copies all files and directories below `from` to `to`, permissions too.
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type()?.is_dir() {
            true => copy_tree(&source, &target)?,
            false => fs::copy(&source, &target).map(drop)?,
        }
    }
    Ok(())
}

/// Wounds one file below `dir`. Every kind of file is as likely as any other, however many there are of it, and half of
/// the wounds lie where something was written. None: there is no file with a byte in it.
pub fn damage(dir: &Path, chance: &mut Chance) -> io::Result<Option<Damage>> {
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in files(dir)? {
        kinds.entry(kind(&file)).or_default().push(file);
    }
    let kinds: Vec<Vec<PathBuf>> = kinds.into_values().collect();
    if kinds.is_empty() {
        return Ok(None);
    }
    let kind = chance.pick(&kinds);
    let file = chance.pick(kind).clone();
    let mut bytes = fs::read(&file)?;
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(bytes.len(), |last| last + 1);
    let end = if chance.one_in(2) { used } else { bytes.len() };
    let offset = chance.below(end);
    let wound = if chance.one_in(3) {
        bytes.truncate(offset);
        Wound::Cut { bytes: offset }
    } else {
        let bit = chance.byte() % 8;
        bytes[offset] ^= 1 << bit;
        Wound::Flip { offset, bit }
    };
    fs::write(&file, bytes)?;
    Ok(Some(Damage { file, wound }))
}

/// All files below `dir` that hold something, in order.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => found.extend(files(&entry.path())?),
            false if entry.metadata()?.len() > 0 => found.push(entry.path()),
            false => {}
        }
    }
    found.sort();
    Ok(found)
}

/// A file's name without its numbers.
fn kind(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (stem, end) = name.rsplit_once('.').unwrap_or((&name, ""));
    let word = stem.split(|c: char| c == '-' || c.is_ascii_digit()).next().unwrap_or_default();
    format!("{word}.{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_is_wounded_and_every_kind_gets_its_turn() {
        let dir = tempfile::tempdir().expect("a directory");
        let whole = dir.path().join("whole");
        fs::create_dir_all(whole.join("below")).expect("made");
        for name in ["key", "segment-01.log", "segment-02.log", "below/000012.sst", "below/empty"] {
            let content = if name == "below/empty" { Vec::new() } else { vec![7; 100] };
            fs::write(whole.join(name), content).expect("written");
        }
        let mut chance = Chance::new(1);
        let mut kinds = BTreeMap::new();
        for round in 0..60 {
            let copy = dir.path().join(format!("copy-{round}"));
            copy_tree(&whole, &copy).expect("copied");
            let done = damage(&copy, &mut chance).expect("files").expect("one with bytes");
            let changed =
                files(&copy).expect("listed").into_iter().filter(|file| fs::read(file).expect("read") != [7; 100]);
            let gone = done.wound == Wound::Cut { bytes: 0 };
            assert_eq!(changed.collect::<Vec<_>>(), if gone { vec![] } else { vec![done.file.clone()] }, "{done}");
            *kinds.entry(kind(&done.file)).or_insert(0) += 1;
        }
        assert_eq!(kinds.keys().map(String::as_str).collect::<Vec<_>>(), [".sst", "key.", "segment.log"]);
        assert!(kinds.values().all(|&times| times > 8), "{kinds:?}");
    }
}
