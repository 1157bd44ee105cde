//! The HTTP client of one store.
//!
//! One client per store, not one per process: its pool ends with the store, and one store's slow connections do not delay
//! another's. It follows no redirects (a signed request must not go elsewhere), checks that a ranged answer is the range
//! that was asked for, and that a listing that says "there is more" says where. That bytes were damaged on their way to the
//! store passes: the same request may be sent again.

use bytes::Bytes;
use futures::stream;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use opendal::raw::Operation;
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport, HttpTransporter, Result};
use opendal_http_transport_reqwest::ReqwestTransport;
use std::time::Duration;

/// How long a TCP or TLS connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections kept per host.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// After this long an idle connection is closed: most servers do so after a minute.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a store says of bytes that do not fit their checksum, or ended early: nothing of them was stored.
const DAMAGED_CODES: [&str; 3] = ["BadDigest", "XAmzContentChecksumMismatch", "IncompleteBody"];

/// Errors: the system's certificates cannot be loaded.
pub(super) fn client(is_bucket_root: bool) -> Result<HttpTransporter> {
    // Another part of the process may have installed it before; it is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .tcp_nodelay(true)
        .build()
        .map_err(|error| Error::new(ErrorKind::ConfigInvalid, "build the HTTP client").set_source(error))?;
    Ok(HttpTransporter::new(Strict { inner: ReqwestTransport::new(client), is_bucket_root }))
}

/// Refuses answers that are not what was asked for.
pub(super) struct Strict<T> {
    pub inner: T,
    /// The mount has no prefix: keys may begin with a slash.
    pub is_bucket_root: bool,
}

impl<T: HttpTransport> HttpTransport for Strict<T> {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        let asked = text(request.headers(), &RANGE).and_then(|range| bounds(range.strip_prefix("bytes=")?));
        let is_listing = request.extensions().get::<Operation>() == Some(&Operation::List);
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let response = self.inner.fetch(request).await.map_err(|error| unanswered(&host, &error))?;
        if response.status() == StatusCode::BAD_REQUEST {
            return damaged_or(response).await;
        }
        if !response.status().is_success() {
            return Ok(response);
        }
        if let Some((start, end)) = asked {
            check_range(start, end, response.status(), response.headers())?;
        }
        if !is_listing {
            return Ok(response);
        }
        let (parts, mut body) = response.into_parts();
        let document = check_listing(body.to_buffer().await?.to_bytes(), self.is_bucket_root)?;
        let size = u64::try_from(document.len()).ok();
        let body = HttpBody::new(stream::iter([Ok(Buffer::from(document))]), size);
        Ok(Response::from_parts(parts, body))
    }
}

/// A refusal as it came, unless it says that other bytes arrived than were sent: OpenDAL would take that for final.
async fn damaged_or(response: Response<HttpBody>) -> Result<Response<HttpBody>> {
    let (parts, mut body) = response.into_parts();
    let document = body.to_buffer().await?.to_bytes();
    let text = String::from_utf8_lossy(&document);
    if let Some(code) = DAMAGED_CODES.iter().find(|code| text.contains(&format!("<Code>{code}</Code>"))) {
        return Err(Error::new(ErrorKind::Unexpected, format!("{code}: bytes were damaged on the way")).set_temporary());
    }
    let size = u64::try_from(document.len()).ok();
    Ok(Response::from_parts(parts, HttpBody::new(stream::iter([Ok(Buffer::from(document))]), size)))
}

/// The same failure with the host that was asked: an address that is wrong must be seen.
fn unanswered(host: &str, error: &Error) -> Error {
    let mut words = format!("no answer from {host}: {}", error.message());
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    let told = Error::new(error.kind(), words);
    if error.is_temporary() { told.set_temporary() } else { told }
}

/// A listing that goes on must say where: OpenDAL would take it for complete, or begin again for ever.
///
/// In a bucket without a prefix OpenDAL drops one slash at the beginning of a key, so that `/a` and `a` become one. A second
/// slash is put there for it to drop.
fn check_listing(document: Bytes, is_bucket_root: bool) -> Result<Bytes> {
    let Ok(text) = std::str::from_utf8(&document) else {
        return Err(Error::new(ErrorKind::Unexpected, "the listing is not UTF-8").set_temporary());
    };
    let goes_on = text.contains("<IsTruncated>true</IsTruncated>");
    let says_where = ["<NextMarker>", "<NextContinuationToken>"]
        .iter()
        .any(|tag| text.split(tag).nth(1).is_some_and(|after| !after.starts_with("</")));
    if goes_on && !says_where {
        return Err(Error::new(ErrorKind::Unexpected, "the listing is cut off and does not say where it goes on"));
    }
    if is_bucket_root && (text.contains("<Key>/") || text.contains("<Prefix>/")) {
        return Ok(text.replace("<Key>/", "<Key>//").replace("<Prefix>/", "<Prefix>//").into());
    }
    Ok(document)
}

fn check_range(start: u64, end: u64, status: StatusCode, headers: &HeaderMap) -> Result<()> {
    let refuse = |found: String| {
        Err(Error::new(ErrorKind::Unexpected, format!("asked for the bytes {start}-{end}, the answer is {found}")))
    };
    if status != StatusCode::PARTIAL_CONTENT {
        // The whole object in answer to a range from its start to its end is the same bytes.
        let length = text(headers, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        let is_whole = start == 0 && length == Some(end + 1);
        return if is_whole { Ok(()) } else { refuse(format!("the whole object (status {})", status.as_u16())) };
    }
    let range = text(headers, &CONTENT_RANGE).unwrap_or("");
    match range.strip_prefix("bytes ").and_then(|range| bounds(range.split('/').next()?)) {
        Some((from, to)) if from == start && to <= end => Ok(()),
        Some(_) | None => refuse(format!("{range:?}")),
    }
}

fn bounds(text: &str) -> Option<(u64, u64)> {
    let (start, end) = text.split_once('-')?;
    Some((start.parse().ok()?, end.parse().ok()?))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: StatusCode, headers: &[(HeaderName, &str)]) -> bool {
        let map = headers.iter().map(|(name, value)| (name.clone(), value.parse().expect("a header value"))).collect();
        check_range(10, 19, status, &map).is_ok()
    }

    #[test]
    fn a_listing_that_goes_on_says_where() {
        let check = |text: &'static str| check_listing(Bytes::from_static(text.as_bytes()), false).is_ok();
        assert!(check("<IsTruncated>false</IsTruncated>"));
        assert!(check("<NextMarker>x</NextMarker><IsTruncated>true</IsTruncated>"));
        assert!(!check("<NextMarker></NextMarker><IsTruncated>true</IsTruncated>"));
        assert!(!check("<IsTruncated>true</IsTruncated>"));
    }

    #[test]
    fn only_the_range_asked_for_is_taken() {
        let partial = StatusCode::PARTIAL_CONTENT;
        assert!(check(partial, &[(CONTENT_RANGE, "bytes 10-19/100")]));
        assert!(check(partial, &[(CONTENT_RANGE, "bytes 10-14/15")]), "a shorter one is found while it is read");
        assert!(!check(partial, &[(CONTENT_RANGE, "bytes 0-9/100")]));
        assert!(!check(partial, &[(CONTENT_RANGE, "bytes 10-29/100")]));
        assert!(!check(partial, &[]));
        assert!(!check(StatusCode::OK, &[(CONTENT_LENGTH, "100")]));
    }
}
