//! S3 and what speaks its protocol.

use super::fail::Redactor;
use super::{ObjectStore, transport};
use crate::error::{Failure, UfsError, Verb};
use crate::property::{
    AWS_KEY, AWS_KEY_ID, AWS_TOKEN, Properties, S3_ENDPOINT, S3_PATH_STYLE, S3_REGION, S3A_KEY, S3A_KEY_ID, S3A_TOKEN,
};
use crate::uri::{Scheme, StoreUri};
use opendal::Operator;
use opendal::services::S3;
use std::net::IpAddr;
use types::Secret;

/// Region used with an endpoint of one's own; such stores rarely look at it.
const REGION_DEFAULT: &str = "us-east-1";

/// Sent with every object and part; the cheapest that stores verify.
const CHECKSUM_ALGORITHM: &str = "crc32c";

/// Where an S3 bucket is and how it is entered.
#[derive(Clone, Debug)]
pub struct S3Options {
    pub bucket: String,
    /// Below the bucket, without slashes at its ends; may be empty.
    pub prefix: String,
    /// With scheme. None: that of AWS in the region.
    pub endpoint: Option<String>,
    /// None: from the environment.
    pub region: Option<String>,
    /// The bucket stands in the path, not in the host name.
    pub is_path_style: bool,
    /// None: the environment and the provider's chain are asked at the first request.
    pub credential: Option<Credential>,
}

/// An access key.
#[derive(Clone, Debug)]
pub struct Credential {
    pub id: Secret,
    pub key: Secret,
    pub token: Option<Secret>,
}

impl Credential {
    /// All or nothing of id and key; a token only with both.
    pub(super) fn from_properties(
        properties: &Properties<'_>,
        id: &[&str],
        key: &[&str],
        token: &[&str],
    ) -> Result<Option<Credential>, UfsError> {
        match (properties.secret(id)?, properties.secret(key)?, properties.secret(token)?) {
            (None, None, None) => Ok(None),
            (Some(id), Some(key), token) => Ok(Some(Credential { id, key, token })),
            _ => {
                let (id, key) = (id[0], key[0]);
                Err(properties.refuse(format!("only a part of a credential is given; it needs both {id} and {key}")))
            }
        }
    }

    pub(super) fn redactor(credential: Option<&Credential>) -> Redactor {
        Redactor::new(credential.into_iter().flat_map(|credential| {
            [Some(credential.id.clone()), Some(credential.key.clone()), credential.token.clone()].into_iter().flatten()
        }))
    }

    /// Id, key and token as text.
    pub(super) fn exposed(&self) -> (&str, &str, &str) {
        (
            self.id.expose_str().unwrap_or(""),
            self.key.expose_str().unwrap_or(""),
            self.token.as_ref().and_then(Secret::expose_str).unwrap_or(""),
        )
    }
}

impl S3Options {
    pub(crate) fn from_properties(properties: &Properties<'_>) -> Result<S3Options, UfsError> {
        let endpoint = properties.text(S3_ENDPOINT).map(with_scheme);
        let host = match &endpoint {
            None => String::new(),
            Some(endpoint) => host_of(endpoint)
                .ok_or_else(|| properties.refuse(format!("property {S3_ENDPOINT} is no endpoint: {endpoint:?}")))?,
        };
        let is_local = host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let region = properties.text(S3_REGION).map(str::to_owned);
        Ok(S3Options {
            bucket: properties.uri.bucket.clone(),
            prefix: properties.uri.base.clone(),
            region: region.or_else(|| endpoint.as_ref().map(|_| REGION_DEFAULT.to_owned())),
            endpoint,
            is_path_style: properties.flag(S3_PATH_STYLE)?.unwrap_or(is_local),
            credential: Credential::from_properties(
                properties,
                &[S3A_KEY_ID, AWS_KEY_ID],
                &[S3A_KEY, AWS_KEY],
                &[S3A_TOKEN, AWS_TOKEN],
            )?,
        })
    }

    fn uri(&self) -> String {
        StoreUri { scheme: Scheme::S3, bucket: self.bucket.clone(), base: self.prefix.clone() }.to_string()
    }
}

pub(super) fn with_scheme(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    if endpoint.contains("://") || endpoint.ends_with(':') {
        endpoint.to_owned()
    } else {
        format!("https://{endpoint}")
    }
}

/// The host of an http or https address. None for anything else.
pub(super) fn host_of(endpoint: &str) -> Option<String> {
    let uri: http::Uri = endpoint.parse().ok()?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    uri.host().filter(|host| is_http && !host.is_empty()).map(str::to_owned)
}

impl ObjectStore {
    /// An S3 bucket. Errors: settings OpenDAL refuses, in its words.
    pub fn s3(options: S3Options) -> Result<ObjectStore, UfsError> {
        let uri = options.uri();
        let redactor = Credential::redactor(options.credential.as_ref());
        // The store compares what arrives with what was sent: nothing else would notice a byte changed on the way.
        let mut builder =
            S3::default().bucket(&options.bucket).root(&options.prefix).checksum_algorithm(CHECKSUM_ALGORITHM);
        if let Some(endpoint) = &options.endpoint {
            builder = builder.endpoint(endpoint);
        }
        if let Some(region) = &options.region {
            builder = builder.region(region);
        }
        if !options.is_path_style {
            builder = builder.enable_virtual_host_style();
        }
        if let Some(credential) = &options.credential {
            let (id, key, token) = credential.exposed();
            builder = builder.access_key_id(id).secret_access_key(key).session_token(token).disable_config_load();
        }
        let made =
            Operator::new(builder).and_then(|operator| Ok((operator, transport::client(options.prefix.is_empty())?)));
        let (operator, client) = made.map_err(|error| {
            let words = format!("{}; set {S3_REGION} or {S3_ENDPOINT}", redactor.clean(error.message()));
            UfsError::new(Verb::Open, uri.as_str(), None, Failure::BadSetting { words })
        })?;
        Ok(ObjectStore::new(uri, operator, client, redactor))
    }
}
