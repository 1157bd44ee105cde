//! Addresses of under stores.

use crate::error::{Failure, UfsError, Verb};
use std::fmt;

/// Which kind of store an address names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// `/dir` or `file:///dir`.
    Local,
    /// `s3://bucket/prefix`, also `s3a://`.
    S3,
    /// `cosn://bucket-appid/prefix`, also `cos://`.
    Cos,
    /// `mem://name`: in this process, for tests.
    Memory,
}

impl Scheme {
    /// As addresses spell it.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Local => "file",
            Scheme::S3 => "s3",
            Scheme::Cos => "cosn",
            Scheme::Memory => "mem",
        }
    }
}

/// A checked address of a store: kind, bucket (or name) and base.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct StoreUri {
    pub scheme: Scheme,
    /// Empty for local directories.
    pub bucket: String,
    /// Below the bucket, without slashes at either end; for local directories the absolute path.
    pub base: String,
}

impl StoreUri {
    /// Errors name what is wrong; an address that carries a credential is refused without repeating it.
    pub fn parse(text: &str) -> Result<StoreUri, UfsError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None if text.starts_with('/') => ("file", text),
            None => {
                return Err(bad(text, "an address is /dir, file:///dir, s3://bucket/prefix or cosn://bucket/prefix"));
            }
        };
        let authority = rest.split('/').next().unwrap_or("");
        if authority.contains('@') {
            return Err(bad(scheme, "an address holds no credential; give it as a secret property"));
        }
        let scheme = match scheme {
            "file" => Scheme::Local,
            "s3" | "s3a" => Scheme::S3,
            "cosn" | "cos" => Scheme::Cos,
            "mem" => Scheme::Memory,
            _ => return Err(bad(text, "known schemes are file, s3 (s3a), cosn (cos) and mem")),
        };
        if scheme == Scheme::Local {
            if !rest.starts_with('/') {
                return Err(bad(text, "a local directory is absolute: file:///dir"));
            }
            let base = clean(text, rest)?;
            return Ok(StoreUri { scheme, bucket: String::new(), base: format!("/{base}") });
        }
        if authority.is_empty() {
            return Err(bad(text, "the bucket is missing"));
        }
        if !authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
            return Err(bad(text, "a bucket name holds letters, digits, '-', '.' and '_'"));
        }
        Ok(StoreUri { scheme, bucket: authority.to_owned(), base: clean(text, &rest[authority.len()..])? })
    }
}

/// The path without slashes at its ends, each part checked.
fn clean(text: &str, path: &str) -> Result<String, UfsError> {
    let trimmed = path.trim_matches('/');
    let is_bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
    if !trimmed.is_empty() && trimmed.split('/').any(is_bad) {
        return Err(bad(text, "its path holds an empty part, '.', '..' or NUL"));
    }
    Ok(trimmed.to_owned())
}

fn bad(text: &str, why: &str) -> UfsError {
    let shown = text.chars().take(200).collect::<String>().escape_debug().to_string();
    UfsError::new(Verb::Open, shown, None, Failure::BadSetting { words: why.to_owned() })
}

impl fmt::Display for StoreUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.bucket)?;
        match self.scheme {
            Scheme::Local => f.write_str(&self.base),
            Scheme::S3 | Scheme::Cos | Scheme::Memory if self.base.is_empty() => Ok(()),
            Scheme::S3 | Scheme::Cos | Scheme::Memory => write!(f, "/{}", self.base),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_again() {
        let shown = |text: &str| StoreUri::parse(text).map(|uri| uri.to_string()).map_err(|error| error.to_string());
        assert_eq!(shown("/data/x/").as_deref(), Ok("file:///data/x"));
        assert_eq!(shown("file:///data").as_deref(), Ok("file:///data"));
        assert_eq!(shown("s3a://b/p/q/").as_deref(), Ok("s3://b/p/q"));
        assert_eq!(shown("cos://b-125/").as_deref(), Ok("cosn://b-125"));
        for wrong in ["data", "ftp://x/y", "s3:///x", "s3://b/a//b", "s3://b/../c", "file://x", "s3://b?x=1/", "s3://"]
        {
            assert!(shown(wrong).is_err(), "{wrong} was taken");
        }
    }

    #[test]
    fn a_credential_in_an_address_is_refused_and_not_repeated() {
        let error = StoreUri::parse("s3://AKIAX:topsecret@bucket/p").expect_err("refused").to_string();
        assert!(error.contains("secret property"), "{error}");
        assert!(!error.contains("AKIAX") && !error.contains("topsecret"), "{error}");
    }

    #[test]
    fn fuzz_store_uri() {
        let samples = ["s3://b/p/q", "cosn://b-125", "file:///data", "/data/x/", "mem://x"];
        testkit::fuzz::fuzz("store_uri", &samples.map(|text| text.as_bytes().to_vec()), |bytes| {
            let Ok(uri) = StoreUri::parse(&String::from_utf8_lossy(bytes)) else { return };
            assert_eq!(StoreUri::parse(&uri.to_string()).ok().as_ref(), Some(&uri), "what it shows leads back");
        });
    }
}
