//! The group's file: which member this is, who the others are, and which disks they were met with.
//!
//! Is:     `group` in the journal's directory, one line per fact, replaced whole (docs/formats/journal.md).
//! Owns:   the numbers of the members.
//! Never:  accepts another disk for a member that was met before.

use journal::{MAX_VOTERS, MemberId};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const FILE: &str = "group";
const MAGIC: &str = "goosefs-group-1";

/// Why a group's file cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum GroupError {
    #[error("cannot {verb} {}: {source}; {}", path.display(), types::remedy(source))]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is damaged ({what}); put it back from a backup of this master, other masters' files are of no use here", path.display())]
    Damaged { path: PathBuf, what: &'static str },
    #[error("{} begins with {found:?}, this program knows {MAGIC:?}; start a newer program", path.display())]
    Newer { path: PathBuf, found: String },
    #[error(
        "this master was formatted for {was}, but goosefs.master.embedded.journal.addresses says {now}; set it back: \
         this release cannot change the members of a group. To begin anew, format all masters with the new list, which \
         destroys the namespace"
    )]
    OtherMembers { was: String, now: String },
    #[error(
        "{member} ({address}) comes with another disk than before: its journal was formatted again or exchanged, so it \
         has forgotten what it promised, and counting it could undo what was acknowledged. Give it its old journal \
         back; this release cannot take a blank member into a group"
    )]
    OtherDisk { member: MemberId, address: String },
}

/// The addresses of all members, sorted: member 1 is the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members(Vec<(MemberId, String)>);

impl Members {
    /// Numbers them. The order given means nothing. Error: why these cannot be a group, as the end of a sentence.
    pub fn new(addresses: &[String]) -> Result<Members, String> {
        let mut sorted = addresses.to_vec();
        sorted.sort();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("{} stands there twice; name each master once", twice[0]));
        }
        if sorted.len() > MAX_VOTERS {
            return Err(format!(
                "{} masters are too many; {MAX_VOTERS} are the most, three or five are sensible",
                sorted.len()
            ));
        }
        Ok(Members((1..).map(MemberId).zip(sorted).collect()))
    }

    pub fn iter(&self) -> impl Iterator<Item = (MemberId, &str)> {
        self.0.iter().map(|(id, address)| (*id, address.as_str()))
    }
    pub fn ids(&self) -> Vec<MemberId> {
        self.0.iter().map(|(id, _)| *id).collect()
    }
    pub fn addresses(&self) -> Vec<String> {
        self.0.iter().map(|(_, address)| address.clone()).collect()
    }
    pub fn address(&self, id: MemberId) -> Option<&str> {
        self.iter().find(|(there, _)| *there == id).map(|(_, address)| address)
    }
    pub fn id(&self, address: &str) -> Option<MemberId> {
        self.iter().find(|(_, there)| *there == address).map(|(id, _)| id)
    }
}

/// What the file holds.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    pub own: MemberId,
    /// Names this member's journal; another after each format.
    pub disk: u128,
    pub members: Members,
    /// Disks of members that were met.
    met: Vec<(MemberId, u128)>,
}

impl Group {
    /// Writes the file of a new member.
    pub fn create(dir: &Path, own: MemberId, members: Members, disk: u128) -> Result<Group, GroupError> {
        let group = Group { path: dir.join(FILE), own, disk, members, met: Vec::new() };
        group.save()?;
        Ok(group)
    }

    /// Forgets an earlier group, if any.
    pub fn remove(dir: &Path) -> Result<(), GroupError> {
        let path = dir.join(FILE);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(GroupError::Io { verb: "remove", path, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Reads the file; None: this journal belongs to a master alone.
    pub fn open(dir: &Path) -> Result<Option<Group>, GroupError> {
        let path = dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) if source.kind() == io::ErrorKind::InvalidData => {
                return Err(GroupError::Damaged { path, what: "it is no text" });
            }
            Err(source) => return Err(GroupError::Io { verb: "read", path, source }),
        };
        parse(path, &text).map(Some)
    }

    /// Error: the file was made for other members.
    pub fn check(&self, members: &Members) -> Result<(), GroupError> {
        if self.members == *members {
            return Ok(());
        }
        let shown = |members: &Members| members.addresses().join(",");
        Err(GroupError::OtherMembers { was: shown(&self.members), now: shown(members) })
    }

    /// Notes, on disk before it returns, that `member` has this disk. Error: it had another one before.
    pub fn meet(&mut self, member: MemberId, disk: u128) -> Result<(), GroupError> {
        match self.met.iter().find(|(known, _)| *known == member) {
            Some((_, known)) if *known == disk => return Ok(()),
            Some(_) => {
                let address = self.members.address(member).unwrap_or_default().to_owned();
                return Err(GroupError::OtherDisk { member, address });
            }
            None => {}
        }
        self.met.push((member, disk));
        self.met.sort_unstable();
        self.save().inspect_err(|_| self.met.retain(|(known, _)| *known != member))
    }

    fn text(&self) -> String {
        let mut text = format!("{MAGIC}\nown {} {:032x}\n", self.own.0, self.disk);
        for (id, address) in self.members.iter() {
            writeln!(text, "member {} {address}", id.0).expect("strings grow");
        }
        for (id, disk) in &self.met {
            writeln!(text, "met {} {disk:032x}", id.0).expect("strings grow");
        }
        let sum = crc32c::crc32c(text.as_bytes());
        writeln!(text, "crc32c {sum:08x}").expect("strings grow");
        text
    }

    /// Replaces the file: whole or not at all.
    fn save(&self) -> Result<(), GroupError> {
        let fail = |verb, path: &Path| {
            let path = path.to_owned();
            move |source| GroupError::Io { verb, path, source }
        };
        let new = self.path.with_extension("tmp");
        let mut file = File::create(&new).map_err(fail("write", &new))?;
        file.write_all(self.text().as_bytes()).and_then(|()| file.sync_all()).map_err(fail("write", &new))?;
        std::fs::rename(&new, &self.path).map_err(fail("replace", &self.path))?;
        let dir = self.path.parent().expect("it lies in a directory");
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(fail("sync", dir))
    }
}

fn parse(path: PathBuf, text: &str) -> Result<Group, GroupError> {
    let first = text.lines().next().unwrap_or_default();
    if first != MAGIC && first.starts_with("goosefs-group-") {
        return Err(GroupError::Newer { found: first.to_owned(), path });
    }
    let whole = text.rfind("crc32c ").is_some_and(|at| {
        u32::from_str_radix(text[at + 7..].trim_end(), 16)
            .is_ok_and(|sum| sum == crc32c::crc32c(&text.as_bytes()[..at]))
    });
    if first != MAGIC || !whole {
        return Err(GroupError::Damaged { path, what: "its checksum is wrong" });
    }
    let (mut own, mut members, mut met) = (None, Vec::new(), Vec::new());
    for line in text.lines().skip(1) {
        let mut words = line.split(' ');
        let (kind, number, value) = (words.next(), words.next(), words.next());
        let id = number.and_then(|number| number.parse().ok()).map(MemberId);
        let disk = || value.and_then(|value| u128::from_str_radix(value, 16).ok());
        match (kind, id) {
            (Some("own"), Some(id)) => own = disk().map(|disk| (id, disk)),
            (Some("member"), Some(id)) => members.extend(value.map(|address| (id, address.to_owned()))),
            (Some("met"), Some(id)) => met.extend(disk().map(|disk| (id, disk))),
            (Some("crc32c"), _) => break,
            _ => return Err(GroupError::Damaged { path, what: "a line means nothing" }),
        }
    }
    let Some((own, disk)) = own.filter(|(own, _)| members.iter().any(|(id, _)| id == own)) else {
        return Err(GroupError::Damaged { path, what: "it does not say which member this is" });
    };
    Ok(Group { path, own, disk, members: Members(members), met })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        let list = ["c:9202", "a:9202", "b:9202"].map(str::to_owned);
        Members::new(&list).expect("three masters")
    }

    #[test]
    fn members_are_numbered_by_address_whatever_the_order() {
        let members = members();
        assert_eq!(members.addresses(), ["a:9202", "b:9202", "c:9202"]);
        assert_eq!((members.id("b:9202"), members.id("d:9202")), (Some(MemberId(2)), None));
        let twice = Members::new(&["a:1".to_owned(), "a:1".to_owned()]).expect_err("refused");
        assert!(twice.contains("a:1 stands there twice"), "{twice}");
    }

    #[test]
    fn the_file_says_it_all_again_and_another_disk_of_a_known_member_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(Group::open(dir.path()).expect("readable").is_none(), "a master alone");
        let mut group = Group::create(dir.path(), MemberId(2), members(), 0xabc).expect("written");
        group.meet(MemberId(1), 7).expect("new");
        group.meet(MemberId(1), 7).expect("known");
        let text = std::fs::read_to_string(dir.path().join(FILE)).expect("written");
        let golden = "goosefs-group-1\nown 2 00000000000000000000000000000abc\nmember 1 a:9202\nmember 2 b:9202\nmember 3 \
                      c:9202\nmet 1 00000000000000000000000000000007\ncrc32c ";
        assert!(text.starts_with(golden), "a change here is a change of the format: {text}");
        let mut again = Group::open(dir.path()).expect("readable").expect("there");
        assert_eq!((again.own, again.disk, &again.members), (MemberId(2), 0xabc, &members()));
        let why = again.meet(MemberId(1), 8).expect_err("another disk").to_string();
        assert!(why.starts_with("member-1 (a:9202) comes with another disk"), "{why}");
        again.check(&members()).expect("the same");
        let other = Members::new(&["a:9202".to_owned(), "b:9202".to_owned()]).expect("two");
        assert!(again.check(&other).expect_err("other members").to_string().contains("set it back"));
    }

    #[test]
    fn every_damage_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        Group::create(dir.path(), MemberId(2), members(), 5).expect("written");
        let path = dir.path().join(FILE);
        let text = std::fs::read(&path).expect("written");
        for (at, bit) in (0..text.len() - 1).flat_map(|at| [(at, 1), (at, 0x80)]) {
            let mut bad = text.clone();
            bad[at] ^= bit;
            std::fs::write(&path, &bad).expect("written");
            let why = Group::open(dir.path()).expect_err("damaged");
            assert!(matches!(why, GroupError::Damaged { .. } | GroupError::Newer { .. }), "byte {at}: {why}");
        }
        for cut in 0..text.len() - 1 {
            std::fs::write(&path, &text[..cut]).expect("written");
            assert!(Group::open(dir.path()).is_err(), "cut to {cut} bytes");
        }
        std::fs::write(&path, "goosefs-group-2\n").expect("written");
        assert!(Group::open(dir.path()).expect_err("newer").to_string().contains("start a newer program"));
    }
}
