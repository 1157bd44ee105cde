//! How we tell whether an object is still the one we know.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One version of one object in an under store. Equal fingerprints mean equal content as far as the store can tell.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Fingerprint {
    /// The store's entity tag, without quotes.
    Etag(String),
    /// The store's version id.
    Version(String),
    /// Modification time and length, for stores that have nothing better. `mtime_ns` is since 1970.
    Stamp { mtime_ns: i128, length: u64 },
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fingerprint::Etag(tag) => write!(f, "etag:{tag}"),
            Fingerprint::Version(id) => write!(f, "version:{id}"),
            Fingerprint::Stamp { mtime_ns, length } => write!(f, "stamp:{mtime_ns}:{length}"),
        }
    }
}

impl Fingerprint {
    /// Reads back what `Display` wrote. None for anything else.
    pub fn parse(text: &str) -> Option<Fingerprint> {
        let (kind, value) = text.split_once(':')?;
        match kind {
            "etag" => Some(Fingerprint::Etag(value.to_owned())),
            "version" => Some(Fingerprint::Version(value.to_owned())),
            "stamp" => {
                let (mtime_ns, length) = value.split_once(':')?;
                Some(Fingerprint::Stamp { mtime_ns: mtime_ns.parse().ok()?, length: length.parse().ok()? })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_leads_back() {
        for fingerprint in [
            Fingerprint::Etag("9b2c-3".into()),
            Fingerprint::Version("a:b".into()),
            Fingerprint::Stamp { mtime_ns: -5, length: 17 },
        ] {
            assert_eq!(Fingerprint::parse(&fingerprint.to_string()), Some(fingerprint));
        }
        assert_eq!(Fingerprint::parse("md5:x"), None);
    }
}
