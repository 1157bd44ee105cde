//! The one table between our error kinds and gRPC's codes.

use tonic::{Code, Status};
use types::ErrorKind;

/// Longest text of a status. It travels percent-encoded in the trailers, whose usual limit is 16 KiB: three times
/// this fits, a path of the longest kind would not.
pub const MAX_STATUS_BYTES: usize = 4096;

/// The status for a failure of `kind`; `message` is the sentence for the user, cut at [`MAX_STATUS_BYTES`].
pub fn status(kind: ErrorKind, message: impl Into<String>) -> Status {
    let mut message = message.into();
    if message.len() > MAX_STATUS_BYTES {
        message.truncate(message.floor_char_boundary(MAX_STATUS_BYTES - '…'.len_utf8()));
        message.push('…');
    }
    Status::new(code(kind), message)
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::Precondition => Code::FailedPrecondition,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::Full => Code::ResourceExhausted,
        ErrorKind::Busy | ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::Internal => Code::Internal,
    }
}

/// What the caller of an RPC can do about its status. [`ErrorKind::Busy`] comes back as `Unavailable`: the wire has
/// one code for both. A status without a code of its own (UNKNOWN) is a broken transport when it has a source.
pub fn kind_of(status: &Status) -> ErrorKind {
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::Invalid,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::PermissionDenied => ErrorKind::Denied,
        Code::FailedPrecondition => ErrorKind::Precondition,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::ResourceExhausted => ErrorKind::Full,
        Code::Unavailable | Code::Aborted | Code::Cancelled => ErrorKind::Unavailable,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        Code::DataLoss => ErrorKind::Corrupt,
        Code::Unimplemented => ErrorKind::Unimplemented,
        Code::Unknown if std::error::Error::source(status).is_some() => ErrorKind::Unavailable,
        Code::Unknown | Code::Internal | Code::Ok => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_contract() {
        for (kind, expected) in [
            (ErrorKind::Invalid, Code::InvalidArgument),
            (ErrorKind::NotFound, Code::NotFound),
            (ErrorKind::AlreadyExists, Code::AlreadyExists),
            (ErrorKind::Denied, Code::PermissionDenied),
            (ErrorKind::Precondition, Code::FailedPrecondition),
            (ErrorKind::Unauthenticated, Code::Unauthenticated),
            (ErrorKind::Full, Code::ResourceExhausted),
            (ErrorKind::Unavailable, Code::Unavailable),
            (ErrorKind::Timeout, Code::DeadlineExceeded),
            (ErrorKind::Corrupt, Code::DataLoss),
            (ErrorKind::Unimplemented, Code::Unimplemented),
            (ErrorKind::Internal, Code::Internal),
        ] {
            let made = status(kind, "why");
            assert_eq!(made.code(), expected);
            assert_eq!(kind_of(&made), kind);
        }
        assert_eq!(status(ErrorKind::Busy, "").code(), Code::Unavailable);
    }

    #[test]
    fn a_sentence_that_would_not_fit_the_trailers_is_cut_between_characters() {
        let long = status(ErrorKind::Invalid, "ü".repeat(100_000));
        assert!(long.message().len() <= MAX_STATUS_BYTES);
        assert!(long.message().ends_with("ü…"));
        assert_eq!(status(ErrorKind::Invalid, "short").message(), "short");
    }
}
