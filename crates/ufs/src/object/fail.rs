//! From a store's answers to our errors, with credentials blanked out.

use crate::error::Failure;
use opendal::ErrorKind;
use std::error::Error;
use types::Secret;

/// Longest text of a store that is passed on.
const WORDS_CHARS_MAX: usize = 400;
/// Values shorter than this are not looked for: blanking them would blank ordinary text.
const SECRET_BYTES_MIN: usize = 4;

/// Blanks out the credentials of one store.
#[derive(Default)]
pub(super) struct Redactor(Vec<Secret>);

impl Redactor {
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Redactor {
        Redactor(secrets.into_iter().filter(|secret| secret.expose().len() >= SECRET_BYTES_MIN).collect())
    }

    /// One line, of bounded length, without credentials.
    pub fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.0.iter().filter_map(Secret::expose_str) {
            text = text.replace(secret, "(hidden)");
        }
        let shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_CHARS_MAX).collect();
        shown.trim().to_owned()
    }
}

/// Codes that blame the credential itself.
const CREDENTIAL_CODES: &[&str] = &[
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "TokenRefreshRequired",
    "InvalidToken",
    "InvalidSecurity",
    "RequestTimeTooSkewed",
    "RequestExpired",
    "NotSignedUp",
    "AuthFailure",
    "SecretIdNotFound",
];
/// Codes that say the bucket is served by another endpoint or region.
const PLACE_CODES: &[&str] = &[
    "PermanentRedirect",
    "TemporaryRedirect",
    "Redirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "NoSuchUpload.Region",
];
const BUCKET_CODES: &[&str] = &["NoSuchBucket", "InvalidBucketName", "InvalidBucketState", "AllAccessDisabled"];
const FULL_CODES: &[&str] =
    &["QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "EntityTooLarge", "AccountProblem"];
const BUSY_CODES: &[&str] = &["SlowDown", "TooManyRequests", "RequestLimitExceeded", "OperationAborted"];

pub(super) fn failure_of(error: &opendal::Error, redactor: &Redactor) -> Failure {
    let code = field(error.message(), "code: \"");
    let status = status_of(error);
    let words = words_of(error, code.as_deref(), status, redactor);
    let is = |codes: &[&str]| code.as_deref().is_some_and(|code| codes.contains(&code));
    if is(CREDENTIAL_CODES) || is_unsigned(error) {
        return Failure::BadCredential { words };
    }
    if is(PLACE_CODES) || status.is_some_and(|status| (300..400).contains(&status) && status != 304) {
        return Failure::WrongPlace { words };
    }
    if is(BUCKET_CODES) {
        return Failure::NoStore { words };
    }
    if is(FULL_CODES) || status == Some(507) {
        return Failure::Full { words };
    }
    if is(BUSY_CODES) || status == Some(429) {
        return Failure::Busy { words };
    }
    if is(&["NotImplemented", "MethodNotAllowed"]) || matches!(status, Some(501 | 405)) {
        return Failure::Unsupported { words };
    }
    match error.kind() {
        ErrorKind::NotFound => Failure::NotFound,
        ErrorKind::PermissionDenied => Failure::Refused { words },
        ErrorKind::ConditionNotMatch => Failure::Changed { expected: "the version known".into(), found: words },
        ErrorKind::RateLimited => Failure::Busy { words },
        ErrorKind::AlreadyExists => Failure::AlreadyExists,
        ErrorKind::IsADirectory => Failure::IsDirectory,
        ErrorKind::NotADirectory => Failure::NotDirectory,
        ErrorKind::Unsupported => Failure::Unsupported { words },
        ErrorKind::ConfigInvalid => Failure::BadSetting { words },
        ErrorKind::Conflict => Failure::Busy { words },
        ErrorKind::IsSameFile | ErrorKind::RangeNotSatisfied => Failure::BadRequest { words },
        _ if error.is_temporary() || status.is_some_and(|status| status >= 500) => Failure::Unreachable { words },
        _ if status.is_some() => Failure::BadRequest { words },
        // No answer at all, or one that is not the protocol's: the way to the store, or what stands in its place.
        _ => Failure::Unreachable { words },
    }
}

/// The range begins past the end of the object.
pub(super) fn is_outside(error: &opendal::Error) -> bool {
    error.kind() == ErrorKind::RangeNotSatisfied || status_of(error) == Some(416)
}

/// No credential was found, or it could not be used: nothing was sent.
fn is_unsigned(error: &opendal::Error) -> bool {
    error.message().contains("signing http request failed") || error.message().contains("failed to sign")
}

fn words_of(error: &opendal::Error, code: Option<&str>, status: Option<u16>, redactor: &Redactor) -> String {
    let text = match (code, field(error.message(), "message: \"")) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}"),
        (Some(code), _) if !code.is_empty() => code.to_owned(),
        _ => {
            let mut text = error.message().to_owned();
            let mut source = error.source();
            // A chain of causes: each names the one below.
            while let Some(cause) = source {
                text = if text.is_empty() { cause.to_string() } else { format!("{text}: {cause}") };
                source = cause.source();
            }
            match status {
                Some(status) if text.is_empty() => format!("HTTP status {status} without a reason"),
                Some(status) if !text.contains(&status.to_string()) => format!("HTTP status {status}: {text}"),
                Some(_) | None => text,
            }
        }
    };
    let clean = redactor.clean(&text);
    if clean.is_empty() { error.kind().to_string() } else { clean }
}

/// The status of the answer, which OpenDAL keeps only in its text.
fn status_of(error: &opendal::Error) -> Option<u16> {
    let text = error.to_string();
    let at = text.find("Parts { status: ")? + "Parts { status: ".len();
    text.get(at..at + 3)?.parse().ok()
}

/// A field of the error document, which OpenDAL prints as a debug structure.
fn field(message: &str, opening: &str) -> Option<String> {
    let start = message.find(opening)? + opening.len();
    let mut value = String::new();
    let mut rest = message[start..].chars();
    loop {
        match rest.next()? {
            '"' => return Some(value),
            '\\' => value.push(rest.next()?),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_own_words_survive_and_credentials_do_not() {
        let redactor = Redactor::new([Secret::new("topsecret")]);
        let error = opendal::Error::new(
            ErrorKind::PermissionDenied,
            "S3Error { code: \"InvalidAccessKeyId\", message: \"The key \\\"topsecret\\\" is unknown.\", resource: \"\" }",
        );
        assert_eq!(
            failure_of(&error, &redactor),
            Failure::BadCredential { words: "InvalidAccessKeyId: The key \"(hidden)\" is unknown.".into() }
        );
    }

    #[test]
    fn an_answer_without_a_reason_names_its_status() {
        let error = opendal::Error::new(ErrorKind::PermissionDenied, "")
            .with_context("response", "Parts { status: 403, version: HTTP/1.1, headers: {} }");
        assert_eq!(
            failure_of(&error, &Redactor::default()),
            Failure::Refused { words: "HTTP status 403 without a reason".into() }
        );
    }
}
