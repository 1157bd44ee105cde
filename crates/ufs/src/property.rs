//! The properties of a mount: which ones each kind of store knows.

use crate::error::{Failure, UfsError, Verb};
use crate::uri::{Scheme, StoreUri};
use std::collections::BTreeMap;
use types::Secret;

/// One property of a kind of store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Property {
    pub name: &'static str,
    pub scheme: Scheme,
    /// Its value is a credential: keep it as a [`Secret`], never print it.
    pub is_secret: bool,
    /// One sentence.
    pub meaning: &'static str,
}

const fn plain(scheme: Scheme, name: &'static str, meaning: &'static str) -> Property {
    Property { name, scheme, is_secret: false, meaning }
}
const fn secret(scheme: Scheme, name: &'static str, meaning: &'static str) -> Property {
    Property { name, scheme, is_secret: true, meaning }
}

const PROPERTIES: &[Property] = &[
    plain(Scheme::S3, S3_ENDPOINT, "Address of the S3 service; without a scheme https is meant. Default: that of AWS."),
    plain(Scheme::S3, S3_REGION, "Region that requests are signed for. Default: us-east-1 when an endpoint is given."),
    plain(
        Scheme::S3,
        S3_PATH_STYLE,
        "true puts the bucket into the path instead of the host name. Default: true when the endpoint is an IP address or \
         localhost.",
    ),
    secret(Scheme::S3, S3A_KEY_ID, "Access key id; without one the environment and the provider's chain are asked."),
    secret(Scheme::S3, S3A_KEY, "Secret access key."),
    secret(Scheme::S3, S3A_TOKEN, "Session token of a temporary credential."),
    secret(Scheme::S3, AWS_KEY_ID, "The same as s3a.accessKeyId."),
    secret(Scheme::S3, AWS_KEY, "The same as s3a.secretKey."),
    secret(Scheme::S3, AWS_TOKEN, "The same as s3a.sessionToken."),
    plain(
        Scheme::Cos,
        COS_REGION,
        "Region of the bucket, such as ap-guangzhou; needed unless the endpoint suffix is given.",
    ),
    plain(Scheme::Cos, COS_SUFFIX, "Host that follows the bucket's name. Default: cos.<region>.myqcloud.com."),
    secret(Scheme::Cos, COS_ID, "SecretId; without one the environment and the provider's chain are asked."),
    secret(Scheme::Cos, COS_KEY, "SecretKey."),
    secret(Scheme::Cos, COS_TOKEN, "Session token of a temporary credential."),
];

pub(crate) const S3_ENDPOINT: &str = "goosefs.underfs.s3.endpoint";
pub(crate) const S3_REGION: &str = "goosefs.underfs.s3.region";
pub(crate) const S3_PATH_STYLE: &str = "goosefs.underfs.s3.disable.dns.buckets";
pub(crate) const S3A_KEY_ID: &str = "s3a.accessKeyId";
pub(crate) const S3A_KEY: &str = "s3a.secretKey";
pub(crate) const S3A_TOKEN: &str = "s3a.sessionToken";
pub(crate) const AWS_KEY_ID: &str = "aws.accessKeyId";
pub(crate) const AWS_KEY: &str = "aws.secretKey";
pub(crate) const AWS_TOKEN: &str = "aws.sessionToken";
pub(crate) const COS_REGION: &str = "fs.cosn.bucket.region";
pub(crate) const COS_SUFFIX: &str = "fs.cosn.bucket.endpoint_suffix";
pub(crate) const COS_ID: &str = "fs.cosn.userinfo.secretId";
pub(crate) const COS_KEY: &str = "fs.cosn.userinfo.secretKey";
pub(crate) const COS_TOKEN: &str = "fs.cosn.userinfo.sessionToken";

/// Every property of every kind of store, for the manual.
pub fn known_properties() -> &'static [Property] {
    PROPERTIES
}

/// Whether a property's value is a credential, whichever store it belongs to. Unknown names that sound like one count.
pub fn is_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    match PROPERTIES.iter().find(|property| property.name == name) {
        Some(property) => property.is_secret,
        None => ["secret", "password", "token", "accesskey", "credential"].iter().any(|word| lower.contains(word)),
    }
}

/// The properties of one mount, checked against the table.
pub(crate) struct Properties<'a> {
    pub uri: &'a StoreUri,
    plain: &'a BTreeMap<String, String>,
    secrets: &'a BTreeMap<String, Secret>,
}

impl<'a> Properties<'a> {
    /// Refuses names the store does not know, naming the nearest one it does.
    pub fn check(
        uri: &'a StoreUri,
        plain: &'a BTreeMap<String, String>,
        secrets: &'a BTreeMap<String, Secret>,
    ) -> Result<Properties<'a>, UfsError> {
        let this = Properties { uri, plain, secrets };
        let known: Vec<&str> = PROPERTIES.iter().filter(|p| p.scheme == uri.scheme).map(|p| p.name).collect();
        for name in plain.keys().chain(secrets.keys()) {
            if !known.contains(&name.as_str()) {
                return Err(this.refuse(unknown(uri.scheme, name, &known)));
            }
        }
        Ok(this)
    }

    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.plain.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>, UfsError> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(self.refuse(format!("property {name} is {other:?}; it is true or false"))),
        }
    }

    /// A credential, from the secrets first; the first of several names that is set.
    pub fn secret(&self, names: &[&str]) -> Result<Option<Secret>, UfsError> {
        for name in names {
            let value = match (self.secrets.get(*name), self.text(name)) {
                (Some(secret), _) => secret.clone(),
                (None, Some(text)) => Secret::new(text),
                (None, None) => continue,
            };
            if value.expose_str().is_none_or(|text| text.trim().is_empty() || text.contains(char::is_control)) {
                return Err(self.refuse(format!("property {name} is empty or not printable text")));
            }
            return Ok(Some(value));
        }
        Ok(None)
    }

    pub fn refuse(&self, words: String) -> UfsError {
        UfsError::new(Verb::Open, self.uri.to_string(), None, Failure::BadSetting { words })
    }
}

fn unknown(scheme: Scheme, name: &str, known: &[&str]) -> String {
    let shown: String = name.chars().take(100).collect();
    match known.iter().min_by_key(|candidate| distance(&shown, candidate)) {
        Some(nearest) => {
            format!("{scheme} stores know no property {shown:?}; the nearest is {nearest}", scheme = scheme.name())
        }
        None => format!("{scheme} stores have no properties, but {shown:?} is given", scheme = scheme.name()),
    }
}

/// Levenshtein distance in characters, ignoring case.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(uri: &str, plain: &[(&str, &str)]) -> String {
        let uri = StoreUri::parse(uri).expect("a valid address");
        let plain = plain.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        match Properties::check(&uri, &plain, &BTreeMap::new()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_unknown_property_names_the_nearest_known_one() {
        let error = refused("s3://b", &[("goosefs.underfs.s3.endpiont", "http://x")]);
        assert!(
            error.contains("\"goosefs.underfs.s3.endpiont\"; the nearest is goosefs.underfs.s3.endpoint"),
            "{error}"
        );
        let error = refused("cosn://b", &[("fs.cosn.userinfo.secretid", "x")]);
        assert!(error.contains("the nearest is fs.cosn.userinfo.secretId"), "{error}");
        assert!(refused("/dir", &[("x", "y")]).contains("file stores have no properties"));
        assert!(refused("s3://b", &[("fs.cosn.bucket.region", "x")]).contains("s3 stores know no property"));
        assert_eq!(refused("s3://b", &[("goosefs.underfs.s3.region", "x")]), "");
    }

    #[test]
    fn what_sounds_like_a_credential_is_one() {
        assert!(is_secret("s3a.secretKey") && is_secret("fs.cosn.userinfo.sessionToken") && is_secret("my.password"));
        assert!(!is_secret("fs.cosn.bucket.region"));
    }
}
