//! From an address and its properties to a store.

use crate::error::UfsError;
use crate::local::LocalStore;
use crate::memory::MemoryStore;
use crate::object::{CosOptions, ObjectStore, S3Options};
use crate::property::Properties;
use crate::store::UnderStore;
use crate::uri::{Scheme, StoreUri};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use types::Secret;

/// The store at `uri`, without retries or deadlines (see [`crate::Layered`]). Asks nothing of the store yet:
/// [`UnderStore::check`] does.
///
/// A credential may come from `secrets` or `properties` (secrets win); without one the environment and the provider's
/// chain are asked. Errors: an address or property that is not understood, in a sentence.
pub fn open(
    uri: &str,
    properties: &BTreeMap<String, String>,
    secrets: &BTreeMap<String, Secret>,
) -> Result<Arc<dyn UnderStore>, UfsError> {
    let uri = StoreUri::parse(uri)?;
    let properties = Properties::check(&uri, properties, secrets)?;
    Ok(match uri.scheme {
        Scheme::Local => Arc::new(LocalStore::new(Path::new(&uri.base))),
        Scheme::Memory => MemoryStore::named(&uri),
        Scheme::S3 => Arc::new(ObjectStore::s3(S3Options::from_properties(&properties)?)?),
        Scheme::Cos => Arc::new(ObjectStore::cos(CosOptions::from_properties(&properties)?)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(uri: &str, properties: &[(&str, &str)], secrets: &[(&str, &str)]) -> Result<String, String> {
        let properties = properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let secrets = secrets.iter().map(|(k, v)| (k.to_string(), Secret::new(*v))).collect();
        open(uri, &properties, &secrets).map(|store| store.uri().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn each_scheme_opens_its_store() {
        let s3 = [("goosefs.underfs.s3.endpoint", "http://127.0.0.1:9"), ("goosefs.underfs.s3.region", "r")];
        assert_eq!(attempt("s3a://b/p/", &s3, &[]).as_deref(), Ok("s3://b/p"));
        assert_eq!(attempt("cos://b-1/p", &[("fs.cosn.bucket.region", "ap-x")], &[]).as_deref(), Ok("cosn://b-1/p"));
        assert_eq!(attempt("/tmp", &[], &[]).as_deref(), Ok("file:///tmp"));
        assert_eq!(attempt("mem://open-test", &[], &[]).as_deref(), Ok("mem://open-test"));
    }

    #[test]
    fn wrong_settings_are_refused_with_a_sentence() {
        let check = |uri, properties: &[(&str, &str)], secrets: &[(&str, &str)], expected: &str| {
            let error = attempt(uri, properties, secrets).expect_err("refused");
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("hush"), "{error}");
        };
        check("cosn://b-1", &[], &[], "fs.cosn.bucket.region");
        check(
            "s3://b",
            &[("goosefs.underfs.s3.region", "r")],
            &[("aws.accessKeyId", "hush")],
            "only a part of a credential",
        );
        check(
            "s3://b",
            &[("goosefs.underfs.s3.region", "r")],
            &[("aws.sessionToken", "hush")],
            "only a part of a credential",
        );
        check("s3://b", &[("goosefs.underfs.s3.disable.dns.buckets", "yes")], &[], "true or false");
        check("s3://b", &[("goosefs.underfs.s3.endpoint", "http://")], &[], "endpoint");
        check("s3://b", &[], &[("s3a.secret", "hush")], "the nearest is s3a.secretKey");
    }
}
