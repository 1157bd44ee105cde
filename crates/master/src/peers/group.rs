//! The group's file: which member this is, who founded the group, and which disks others were met with.
//!
//! Is:     `group` in the journal's directory, one line per fact, replaced whole (docs/formats/journal.md). Who the members
//!         are now is a record of the state, not here.
//! Owns:   this member's number, and the founders'.
//! Never:  accepts another disk for a member that was met before.

use crate::record_file;
use journal::{MAX_VOTERS, MemberId, Membership};
use std::fmt::Write as _;
use std::io;
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
        "{member} ({address}) comes with another disk than before: its journal was formatted again or exchanged, so it \
         has forgotten what it promised, and counting it could undo what was acknowledged. Give it its old journal \
         back; or format it with `goosefs formatMaster --force --join`, start it, and run \
         `goosefs fsadmin journal quorum replace -address {address}`"
    )]
    OtherDisk { member: MemberId, address: String },
}

/// The addresses of the founders, sorted: member 1 is the first.
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
    pub fn addresses(&self) -> Vec<String> {
        self.0.iter().map(|(_, address)| address.clone()).collect()
    }
    pub fn address(&self, id: MemberId) -> Option<&str> {
        self.iter().find(|(there, _)| *there == id).map(|(_, address)| address)
    }
    /// Who the members are before the first entry of the log.
    pub fn membership(&self) -> Membership {
        Membership::founding(self.iter().map(|(id, address)| (id, address.to_owned())))
    }
    pub fn id(&self, address: &str) -> Option<MemberId> {
        self.iter().find(|(_, there)| *there == address).map(|(id, _)| id)
    }
}

/// Of a master that waits to be taken into a group.
const NOBODY: MemberId = MemberId(0);

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

    /// Writes the file of a master that is to be taken into a group: which one, and as whom, it hears from a leader.
    pub fn create_waiting(dir: &Path, disk: u128) -> Result<Group, GroupError> {
        Group::create(dir, NOBODY, Members(Vec::new()), disk)
    }

    /// Whether it waits to be taken into a group.
    pub fn is_waiting(&self) -> bool {
        self.own == NOBODY
    }

    /// A leader calls this master by a new id: from here on it is that member, for good.
    pub fn admit(&mut self, own: MemberId, members: Members) -> Result<(), GroupError> {
        assert!(self.is_waiting(), "an id is for life");
        (self.own, self.members) = (own, members);
        self.save().inspect_err(|_| self.own = NOBODY)
    }

    /// Forgets an earlier group, if any.
    pub fn remove(dir: &Path) -> Result<(), GroupError> {
        let path = dir.join(FILE);
        record_file::remove(&path).map_err(|source| GroupError::Io { verb: "remove", path, source })
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

    /// Notes, on disk before it returns, that `member` has this disk. Error: it had another one before.
    ///
    /// - `address`: where it is reached, for the message.
    pub fn meet(&mut self, member: MemberId, disk: u128, address: &str) -> Result<(), GroupError> {
        match self.met.iter().find(|(known, _)| *known == member) {
            Some((_, known)) if *known == disk => return Ok(()),
            Some(_) => {
                let address = address.to_owned();
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
        text
    }

    /// Replaces the file: whole or not at all.
    fn save(&self) -> Result<(), GroupError> {
        let path = self.path.clone();
        record_file::replace(&path, &self.text()).map_err(|source| GroupError::Io { verb: "replace", path, source })
    }
}

fn parse(path: PathBuf, text: &str) -> Result<Group, GroupError> {
    let first = text.lines().next().unwrap_or_default();
    if first != MAGIC && first.starts_with("goosefs-group-") {
        return Err(GroupError::Newer { found: first.to_owned(), path });
    }
    let Some(text) = record_file::whole(text).filter(|_| first == MAGIC) else {
        return Err(GroupError::Damaged { path, what: "its checksum is wrong" });
    };
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
            _ => return Err(GroupError::Damaged { path, what: "a line means nothing" }),
        }
    }
    let Some((own, disk)) = own else {
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
        group.meet(MemberId(1), 7, "a:9202").expect("new");
        group.meet(MemberId(1), 7, "a:9202").expect("known");
        let text = std::fs::read_to_string(dir.path().join(FILE)).expect("written");
        let golden = "goosefs-group-1\nown 2 00000000000000000000000000000abc\nmember 1 a:9202\nmember 2 b:9202\nmember 3 \
                      c:9202\nmet 1 00000000000000000000000000000007\ncrc32c ";
        assert!(text.starts_with(golden), "a change here is a change of the format: {text}");
        let mut again = Group::open(dir.path()).expect("readable").expect("there");
        assert_eq!((again.own, again.disk, &again.members), (MemberId(2), 0xabc, &members()));
        let why = again.meet(MemberId(1), 8, "a:9202").expect_err("another disk").to_string();
        assert!(why.starts_with("member-1 (a:9202) comes with another disk"), "{why}");
    }

    #[test]
    fn a_master_that_waits_is_given_an_id_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut group = Group::create_waiting(dir.path(), 0xabc).expect("written");
        assert!(group.is_waiting());
        group.admit(MemberId(4), members()).expect("written");
        let again = Group::open(dir.path()).expect("readable").expect("there");
        assert_eq!((again.own, again.disk, &again.members), (MemberId(4), 0xabc, &members()));
        assert!(!again.is_waiting());
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
