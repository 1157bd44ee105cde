//! Tencent Cloud Object Storage, by its own protocol.

use super::s3::{Credential, host_of, with_scheme};
use super::{ObjectStore, transport};
use crate::error::{Failure, UfsError, Verb};
use crate::property::{COS_ID, COS_KEY, COS_REGION, COS_SUFFIX, COS_TOKEN, Properties};
use crate::uri::{Scheme, StoreUri};
use opendal::services::Cos;
use opendal::{HttpTransporter, Operator};

/// Where a COS bucket is and how it is entered.
#[derive(Clone, Debug)]
pub struct CosOptions {
    /// With the number of its account: `bucket-1250000000`.
    pub bucket: String,
    /// Below the bucket, without slashes at its ends; may be empty.
    pub prefix: String,
    /// With scheme, without the bucket: `https://cos.ap-guangzhou.myqcloud.com`.
    pub endpoint: String,
    /// None: the environment and the provider's chain are asked at the first request.
    pub credential: Option<Credential>,
}

impl CosOptions {
    pub(crate) fn from_properties(properties: &Properties<'_>) -> Result<CosOptions, UfsError> {
        let endpoint = match (properties.text(COS_SUFFIX), properties.text(COS_REGION)) {
            (Some(suffix), _) => with_scheme(suffix.trim_start_matches('.')),
            (None, Some(region)) => format!("https://cos.{region}.myqcloud.com"),
            (None, None) => return Err(properties.refuse(format!("property {COS_REGION} is missing"))),
        };
        if host_of(&endpoint).is_none() {
            let words = format!("properties {COS_REGION} and {COS_SUFFIX} make no host name: {endpoint:?}");
            return Err(properties.refuse(words));
        }
        Ok(CosOptions {
            bucket: properties.uri.bucket.clone(),
            prefix: properties.uri.base.clone(),
            endpoint,
            credential: Credential::from_properties(properties, &[COS_ID], &[COS_KEY], &[COS_TOKEN])?,
        })
    }
}

impl ObjectStore {
    /// A COS bucket. Errors: settings OpenDAL refuses, in its words.
    pub fn cos(options: CosOptions) -> Result<ObjectStore, UfsError> {
        ObjectStore::cos_over(options, transport::client)
    }

    /// The same with requests sent by `transport` instead of a network client, for tests.
    #[cfg(feature = "test-support")]
    pub fn cos_with_transport(
        options: CosOptions,
        transport: impl opendal::HttpTransport,
    ) -> Result<ObjectStore, UfsError> {
        ObjectStore::cos_over(options, |is_bucket_root| {
            Ok(HttpTransporter::new(transport::Strict { inner: transport, is_bucket_root }))
        })
    }

    fn cos_over(
        options: CosOptions,
        transport: impl FnOnce(bool) -> opendal::Result<HttpTransporter>,
    ) -> Result<ObjectStore, UfsError> {
        let uri = StoreUri { scheme: Scheme::Cos, bucket: options.bucket.clone(), base: options.prefix.clone() };
        let uri = uri.to_string();
        let redactor = Credential::redactor(options.credential.as_ref());
        let mut builder = Cos::default().bucket(&options.bucket).root(&options.prefix).endpoint(&options.endpoint);
        if let Some(credential) = &options.credential {
            let (id, key, token) = credential.exposed();
            builder = builder.secret_id(id).secret_key(key).security_token(token).disable_config_load();
        }
        let made = Operator::new(builder).and_then(|operator| Ok((operator, transport(options.prefix.is_empty())?)));
        let (operator, client) = made.map_err(|error| {
            let words = redactor.clean(error.message());
            UfsError::new(Verb::Open, uri.as_str(), None, Failure::BadSetting { words })
        })?;
        Ok(ObjectStore::new(uri, operator, client, redactor))
    }
}
