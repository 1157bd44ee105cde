//! From messages to our words and back. Raw integers and strings stop here.
//!
//! Is:     total functions; what the wire can say and we do not know is an error with a sentence.
//! Owns:   which number, bit order and default each official field has.
//! Never:  guesses. An unknown number is not a default, an absent field means what the official servers take it for.

pub mod access;
pub mod checksum;
pub mod cluster;
pub mod fingerprint;
pub mod id;
pub mod load_metadata;
pub mod mode;
pub mod operation_id;
pub mod read_policy;
pub mod write_type;

use types::ErrorKind;

/// What a message says that we cannot take.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum WireError {
    #[error(
        "the message has {number} for {what}, a number this release does not know; use a client of the same release"
    )]
    UnknownNumber { what: &'static str, number: i64 },
    #[error("the message lacks {what}, which this call needs")]
    Missing { what: &'static str },
    #[error("{number} is not a {what}: {rule}")]
    BadNumber { what: &'static str, number: i64, rule: &'static str },
    #[error("{what} has {bytes} bytes, {expected} are needed")]
    BadLength { what: &'static str, bytes: usize, expected: usize },
    #[error("{text:?} is not a {what}")]
    BadText { what: &'static str, text: String },
}

impl WireError {
    /// Always the caller's to change.
    pub fn kind(&self) -> ErrorKind {
        match self {
            WireError::UnknownNumber { .. }
            | WireError::Missing { .. }
            | WireError::BadNumber { .. }
            | WireError::BadLength { .. }
            | WireError::BadText { .. } => ErrorKind::Invalid,
        }
    }
}

/// A member of a generated enum; `what` names the field in the error. For enums that need no word of ours.
pub fn known<E: TryFrom<i32>>(number: i32, what: &'static str) -> Result<E, WireError> {
    E::try_from(number).map_err(|_| WireError::UnknownNumber { what, number: i64::from(number) })
}

/// The field, or an error that names it.
pub fn needed<T>(field: Option<T>, what: &'static str) -> Result<T, WireError> {
    field.ok_or(WireError::Missing { what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::block::RequestType;

    #[test]
    fn members_are_found_and_strangers_named() {
        assert_eq!(known(1, "a write's type"), Ok(RequestType::UfsFile));
        let error = known::<RequestType>(9, "a write's type").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().starts_with("the message has 9 for a write's type"), "{error}");
        assert_eq!(
            needed(None::<u8>, "path").unwrap_err().to_string(),
            "the message lacks path, which this call needs"
        );
    }
}
