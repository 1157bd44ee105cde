//! Who asks, and what they may do.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How a principal was proven.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Proof {
    /// Nobody checked: NOSASL, or an unknown channel on one of the tolerant calls.
    Assumed,
    /// The client named itself (SIMPLE).
    Claimed,
    /// A part of the cluster itself: a worker with the cluster's token, or the master acting on its own.
    System,
}

/// Who asks: the user, the groups the master's system says they are in, and how it was proven.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Principal {
    pub user: String,
    pub groups: Vec<String>,
    pub proof: Proof,
}

impl Principal {
    /// The cluster itself: passes every check.
    pub fn system() -> Principal {
        Principal { user: String::new(), groups: Vec::new(), proof: Proof::System }
    }
    /// The first group, which new inodes get; empty if the system knows none.
    pub fn group(&self) -> &str {
        self.groups.first().map_or("", String::as_str)
    }
}

/// Something one may do to an inode. A set of read, write, execute, as POSIX has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Right(u8);

impl Right {
    pub const EXECUTE: Right = Right(1);
    pub const WRITE: Right = Right(2);
    pub const READ: Right = Right(4);
    pub const fn and(self, other: Right) -> Right {
        Right(self.0 | other.0)
    }
    /// rwx bits, 0 to 7.
    pub const fn bits(self) -> u8 {
        self.0
    }
    pub fn from_bits(bits: u8) -> Option<Right> {
        (bits <= 7).then_some(Right(bits))
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(Right::READ, "read"), (Right::WRITE, "write"), (Right::EXECUTE, "execute")];
        let held: Vec<_> = names.iter().filter(|(right, _)| self.0 & right.0 != 0).map(|(_, name)| *name).collect();
        f.write_str(&held.join(" and "))
    }
}

/// Permission bits, 0 to 0o7777.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Mode(u16);

impl Mode {
    pub const fn new(bits: u16) -> Mode {
        Mode(bits & 0o7777)
    }
    pub const fn bits(self) -> u16 {
        self.0
    }
    /// The rwx bits of `owner`, `group` or `other` as a number from 0 to 7.
    pub fn owner(self) -> u8 {
        class(self.0 >> 6)
    }
    pub fn group(self) -> u8 {
        class(self.0 >> 3)
    }
    pub fn other(self) -> u8 {
        class(self.0)
    }
    /// Only the owner of an entry (or of the directory) may remove or rename it: 01000.
    pub fn is_sticky(self) -> bool {
        self.0 & 0o1000 != 0
    }
}

fn class(bits: u16) -> u8 {
    u8::try_from(bits & 7).expect("three bits fit")
}

/// `rwxr-xr-x`, with `t` or `T` for the sticky bit.
impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(9);
        for bits in [self.owner(), self.group(), self.other()] {
            for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
                text.push(if bits & bit != 0 { letter } else { '-' });
            }
        }
        if self.is_sticky() {
            let last = text.pop();
            text.push(if last == Some('x') { 't' } else { 'T' });
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_print_as_ls_does() {
        assert_eq!(Mode::new(0o644).to_string(), "rw-r--r--");
        assert_eq!(Mode::new(0o1777).to_string(), "rwxrwxrwt");
        assert_eq!(Mode::new(0o1640).to_string(), "rw-r----T");
        assert_eq!(Right::READ.and(Right::EXECUTE).to_string(), "read and execute");
    }
}
