//! A storage directory: what it may hold and what it holds.

use types::{DirIndex, Ordinal};

/// What a directory stands on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Medium {
    Mem,
    Ssd,
    Hdd,
}

impl Medium {
    pub const ALL: [Medium; 3] = [Medium::Mem, Medium::Ssd, Medium::Hdd];

    /// As settings and the wire spell it.
    pub fn name(self) -> &'static str {
        match self {
            Medium::Mem => "MEM",
            Medium::Ssd => "SSD",
            Medium::Hdd => "HDD",
        }
    }
    /// None for any other word.
    pub fn from_name(name: &str) -> Option<Medium> {
        Medium::ALL.into_iter().find(|medium| medium.name() == name)
    }
    /// Gone when the machine restarts.
    pub fn is_volatile(self) -> bool {
        match self {
            Medium::Mem => true,
            Medium::Ssd | Medium::Hdd => false,
        }
    }
}

/// Whether bytes that exist nowhere else may rest on a volatile directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Volatile {
    #[default]
    Refuse,
    Allow,
}

/// A share in thousandths, 0 to 1000. Whole numbers, so that every machine plans alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Permille(u16);

impl Permille {
    /// None above 1000.
    pub const fn new(thousandths: u16) -> Option<Permille> {
        if thousandths <= 1000 { Some(Permille(thousandths)) } else { None }
    }
    /// This share of `bytes`, rounded down.
    pub fn of(self, bytes: u64) -> u64 {
        let share = u128::from(bytes) * u128::from(self.0) / 1000;
        u64::try_from(share).expect("a share of a u64 is no larger")
    }
}

/// When more than `high` of a directory is taken, it is emptied down to `low` in the background.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watermarks {
    pub high: Permille,
    pub low: Permille,
}

impl Default for Watermarks {
    fn default() -> Watermarks {
        Watermarks { high: Permille(950), low: Permille(700) }
    }
}

/// How a directory was configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectorySpec {
    pub index: DirIndex,
    /// 0 is the fastest.
    pub tier: Ordinal,
    pub medium: Medium,
    pub capacity_bytes: u64,
    pub watermarks: Watermarks,
}

/// A directory and what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directory {
    pub spec: DirectorySpec,
    /// Bytes of pieces that are here.
    pub used_bytes: u64,
    /// Promised to writers, not yet here.
    pub reserved_bytes: u64,
    /// Of the used bytes, those that may go at once: evictable, committed, nobody reads them.
    pub evictable_bytes: u64,
    /// Why it takes no new bytes (read-only, no space left on its file system); what it holds can still be read.
    pub shut: Option<String>,
    /// Why it was taken out with everything on it; None while it works.
    pub lost: Option<String>,
}

impl Directory {
    pub(crate) fn new(spec: DirectorySpec) -> Directory {
        Directory { spec, used_bytes: 0, reserved_bytes: 0, evictable_bytes: 0, shut: None, lost: None }
    }
    /// Neither used nor promised. 0 when a smaller quota than the content was configured.
    pub fn free_bytes(&self) -> u64 {
        self.spec.capacity_bytes.saturating_sub(self.used_bytes).saturating_sub(self.reserved_bytes)
    }
    pub fn is_lost(&self) -> bool {
        self.lost.is_some()
    }
    /// Takes new bytes.
    pub fn is_open(&self) -> bool {
        self.shut.is_none() && self.lost.is_none()
    }
    /// Why it takes no new bytes.
    pub fn why_closed(&self) -> Option<&str> {
        self.lost.as_deref().or(self.shut.as_deref())
    }
}
