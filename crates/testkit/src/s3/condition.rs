//! Conditional requests: when a request does not apply, as S3 decides it.

use super::index::Object;
use s3s::dto::{ETag, ETagCondition, Timestamp};
use s3s::{S3Result, s3_error};
use std::time::{Duration, SystemTime};

/// The four conditions of a read.
#[derive(Default)]
pub(super) struct Conditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
    pub(super) if_modified_since: Option<Timestamp>,
    pub(super) if_unmodified_since: Option<Timestamp>,
}

impl Conditions {
    /// For GET and HEAD: 412 when the object is not the wanted one, 304 when it is the one the caller has.
    pub(super) fn check_read(&self, object: &Object) -> S3Result<()> {
        self.check_wanted(object)?;
        if self.is_unchanged(object) { Err(s3_error!(NotModified)) } else { Ok(()) }
    }

    /// For the source of a copy: 412 in both cases.
    pub(super) fn check_copy(&self, object: &Object) -> S3Result<()> {
        self.check_wanted(object)?;
        if self.is_unchanged(object) { Err(s3_error!(PreconditionFailed)) } else { Ok(()) }
    }

    fn check_wanted(&self, object: &Object) -> S3Result<()> {
        // A date is looked at only without the tag condition of its kind.
        let wanted = match (&self.if_match, &self.if_unmodified_since) {
            (Some(tag), _) => names(tag, object),
            (None, Some(since)) => modified(object) <= *since,
            (None, None) => true,
        };
        if wanted { Ok(()) } else { Err(s3_error!(PreconditionFailed)) }
    }

    fn is_unchanged(&self, object: &Object) -> bool {
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(tag), _) => names(tag, object),
            (None, Some(since)) => modified(object) <= *since,
            (None, None) => false,
        }
    }
}

/// For writes and deletes: `current` is what stands at the key now.
pub(super) fn check_write(
    current: Option<&Object>,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    match (if_match, current) {
        (Some(_), None) => return Err(s3_error!(NoSuchKey)),
        (Some(tag), Some(object)) if !names(tag, object) => return Err(s3_error!(PreconditionFailed)),
        (Some(_) | None, _) => {}
    }
    match (if_none_match, current) {
        (Some(tag), Some(object)) if names(tag, object) => Err(s3_error!(PreconditionFailed)),
        (Some(_) | None, _) => Ok(()),
    }
}

/// Last modification in whole seconds, which is all that HTTP dates can say.
pub(super) fn modified(object: &Object) -> Timestamp {
    Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(object.modified_ms() / 1000))
}

pub(super) fn etag(object: &Object) -> ETag {
    ETag::Strong(object.etag().to_owned())
}

fn names(condition: &ETagCondition, object: &Object) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(tag) => tag.value() == object.etag(),
    }
}
