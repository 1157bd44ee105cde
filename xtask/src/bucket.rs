//! A namespace over the S3 server that the demo and the bench start.

use client::NewNamespace;
use testkit::proxy::FaultProxy;
use testkit::s3::S3Server;
use types::Secret;

/// `/bucket` over the bucket of that name, reached through the proxy.
pub fn namespace(bucket: &str, server: &S3Server, proxy: &FaultProxy) -> NewNamespace {
    NewNamespace {
        name: bucket.to_owned(),
        ufs_uri: format!("s3://{bucket}"),
        read_only: false,
        shared: false,
        write_policy: None,
        read_policy: None,
        properties: S3Server::properties(proxy.endpoint()).map(|(key, value)| (key.to_owned(), value)).into(),
        secrets: server.secrets().map(|(key, value)| (key.to_owned(), Secret::new(value))).into(),
    }
}
