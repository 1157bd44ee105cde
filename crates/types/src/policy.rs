//! How data are written, read and kept.

use serde::{Deserialize, Serialize};

/// Where a write goes. Numbers are those of the official wire and of `ns create --wPolicy`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum WriteType {
    /// Cache only; never evicted, gone with the worker's tier.
    MustCache,
    /// Cache if there is room; evictable.
    TryCache,
    /// Cache and under store, both before the close returns.
    CacheThrough,
    /// Under store only.
    Through,
    /// Cache first, durable there before the close returns; the under store follows.
    AsyncThrough,
    /// Neither is promised; evictable.
    None,
}

impl WriteType {
    pub const ALL: [WriteType; 6] = [
        WriteType::MustCache,
        WriteType::TryCache,
        WriteType::CacheThrough,
        WriteType::Through,
        WriteType::AsyncThrough,
        WriteType::None,
    ];
    pub fn number(self) -> i32 {
        match self {
            WriteType::MustCache => 1,
            WriteType::TryCache => 2,
            WriteType::CacheThrough => 3,
            WriteType::Through => 4,
            WriteType::AsyncThrough => 5,
            WriteType::None => 6,
        }
    }
    pub fn from_number(number: i32) -> Option<WriteType> {
        WriteType::ALL.into_iter().find(|kind| kind.number() == number)
    }
    pub fn name(self) -> &'static str {
        match self {
            WriteType::MustCache => "MUST_CACHE",
            WriteType::TryCache => "TRY_CACHE",
            WriteType::CacheThrough => "CACHE_THROUGH",
            WriteType::Through => "THROUGH",
            WriteType::AsyncThrough => "ASYNC_THROUGH",
            WriteType::None => "NONE",
        }
    }
    pub fn from_name(name: &str) -> Option<WriteType> {
        WriteType::ALL.into_iter().find(|kind| kind.name() == name)
    }
    /// The close itself writes the under store.
    pub fn is_through(self) -> bool {
        matches!(self, WriteType::CacheThrough | WriteType::Through)
    }
}

/// How a namespace reads. Numbers are those of `ns create --rPolicy`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ReadPolicy {
    NoCache,
    Cache,
    CachePromote,
    CacheConsistentPromote,
    CacheConsistent,
}

impl ReadPolicy {
    pub const ALL: [ReadPolicy; 5] = [
        ReadPolicy::NoCache,
        ReadPolicy::Cache,
        ReadPolicy::CachePromote,
        ReadPolicy::CacheConsistentPromote,
        ReadPolicy::CacheConsistent,
    ];
    pub fn number(self) -> i32 {
        match self {
            ReadPolicy::NoCache => 1,
            ReadPolicy::Cache => 2,
            ReadPolicy::CachePromote => 3,
            ReadPolicy::CacheConsistentPromote => 4,
            ReadPolicy::CacheConsistent => 5,
        }
    }
    pub fn from_number(number: i32) -> Option<ReadPolicy> {
        ReadPolicy::ALL.into_iter().find(|policy| policy.number() == number)
    }
    pub fn name(self) -> &'static str {
        match self {
            ReadPolicy::NoCache => "NO_CACHE",
            ReadPolicy::Cache => "CACHE",
            ReadPolicy::CachePromote => "CACHE_PROMOTE",
            ReadPolicy::CacheConsistentPromote => "CACHE_CONSISTENT_PROMOTE",
            ReadPolicy::CacheConsistent => "CACHE_CONSISTENT",
        }
    }
    /// Metadata are checked against the store at every access.
    pub fn is_consistent(self) -> bool {
        matches!(self, ReadPolicy::CacheConsistentPromote | ReadPolicy::CacheConsistent)
    }
}

/// Whether the under store holds a file's content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum PersistenceState {
    NotPersisted,
    ToBePersisted,
    Persisted,
    Lost,
}

impl PersistenceState {
    /// As the official wire spells it.
    pub fn name(self) -> &'static str {
        match self {
            PersistenceState::NotPersisted => "NOT_PERSISTED",
            PersistenceState::ToBePersisted => "TO_BE_PERSISTED",
            PersistenceState::Persisted => "PERSISTED",
            PersistenceState::Lost => "LOST",
        }
    }
}

/// When a call looks into the under store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LoadMetadata {
    /// What the namespace knows, and no more. Also what a call without a word about it means.
    Never,
    /// For names the namespace does not know yet.
    Once,
    /// Every time, unless the sync interval says that what is known is young enough.
    Always,
}

/// How a client summed a whole file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ChecksumKind {
    /// Not at all.
    Null,
    Crc32,
    Crc32c,
}

impl ChecksumKind {
    pub const ALL: [ChecksumKind; 3] = [ChecksumKind::Null, ChecksumKind::Crc32, ChecksumKind::Crc32c];
    /// The number of the official wire, which is also the content of the `CrcType` attribute.
    pub fn number(self) -> u8 {
        match self {
            ChecksumKind::Null => 0,
            ChecksumKind::Crc32 => 1,
            ChecksumKind::Crc32c => 2,
        }
    }
    pub fn from_number(number: u8) -> Option<ChecksumKind> {
        ChecksumKind::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back() {
        for kind in WriteType::ALL {
            assert_eq!(WriteType::from_number(kind.number()), Some(kind));
            assert_eq!(WriteType::from_name(kind.name()), Some(kind));
        }
        for policy in ReadPolicy::ALL {
            assert_eq!(ReadPolicy::from_number(policy.number()), Some(policy));
        }
        assert_eq!(WriteType::from_number(0), None);
    }
}
