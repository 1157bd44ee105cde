//! A store's version of an object, as text in our internal messages.

use super::WireError;
use types::Fingerprint;

/// None for an empty text.
pub fn from_wire(text: &str) -> Result<Option<Fingerprint>, WireError> {
    if text.is_empty() {
        return Ok(None);
    }
    let bad = || WireError::BadText { what: "fingerprint", text: text.chars().take(60).collect() };
    Fingerprint::parse(text).map(Some).ok_or_else(bad)
}

/// As [`Fingerprint`] prints itself; empty for None.
pub fn to_wire(fingerprint: Option<&Fingerprint>) -> String {
    fingerprint.map_or_else(String::new, Fingerprint::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_lead_back() {
        for fingerprint in
            [None, Some(Fingerprint::Etag("9b-2".into())), Some(Fingerprint::Stamp { mtime_ns: 5, length: 7 })]
        {
            assert_eq!(from_wire(&to_wire(fingerprint.as_ref())), Ok(fingerprint));
        }
        assert!(from_wire("md5:1").is_err());
    }
}
