//! `ReadPType`, which knows two policies, and the `read_policy` of our own service, which knows five.

use super::WireError;
use crate::grpc::file::ReadPType;
use types::ReadPolicy;

/// None for 0 and for an absent field: the namespace's policy decides.
pub fn from_wire(number: Option<i32>) -> Result<Option<ReadPolicy>, WireError> {
    let Some(number) = number else { return Ok(None) };
    Ok(match super::known(number, "the read type")? {
        ReadPType::UnspecifiedReadType => None,
        ReadPType::NoCache => Some(ReadPolicy::NoCache),
        ReadPType::Cache => Some(ReadPolicy::Cache),
    })
}

/// The nearest the official wire can say: every policy that caches is `CACHE`.
pub fn to_wire(policy: Option<ReadPolicy>) -> i32 {
    let member = match policy {
        None => ReadPType::UnspecifiedReadType,
        Some(ReadPolicy::NoCache) => ReadPType::NoCache,
        Some(
            ReadPolicy::Cache
            | ReadPolicy::CachePromote
            | ReadPolicy::CacheConsistentPromote
            | ReadPolicy::CacheConsistent,
        ) => ReadPType::Cache,
    };
    i32::from(member)
}

/// As `--rPolicy` counts; None for 0.
pub fn from_admin(number: i32) -> Result<Option<ReadPolicy>, WireError> {
    if number == 0 {
        return Ok(None);
    }
    ReadPolicy::from_number(number)
        .map(Some)
        .ok_or(WireError::UnknownNumber { what: "the read policy", number: i64::from(number) })
}

/// As `--rPolicy` counts; 0 for None.
pub fn to_admin(policy: Option<ReadPolicy>) -> i32 {
    policy.map_or(0, ReadPolicy::number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_numbers_lead_back_and_the_official_ones_say_the_nearest() {
        for policy in ReadPolicy::ALL.map(Some).into_iter().chain([None]) {
            assert_eq!(from_admin(to_admin(policy)), Ok(policy));
        }
        for policy in [None, Some(ReadPolicy::NoCache), Some(ReadPolicy::Cache)] {
            assert_eq!(from_wire(Some(to_wire(policy))), Ok(policy));
        }
        assert_eq!(to_wire(Some(ReadPolicy::CacheConsistent)), 2);
        assert_eq!(from_wire(None), Ok(None));
        assert!(from_wire(Some(3)).is_err());
        assert!(from_admin(6).is_err());
    }
}
