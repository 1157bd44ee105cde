//! `goosefs ns stat`

use super::ls::document;
use super::{find, read_name, write_name};
use crate::cmd::{Context, Done};
use crate::settings::HIDDEN;
use client::Namespace;
use std::collections::BTreeMap;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  goosefs ns stat lake\n\nPrints:\n  NamespaceStatus{name=lake, path=/lake, ufsPath=s3://bucket/, ...}"
)]
pub struct Args {
    #[arg(value_name = "NAMESPACE")]
    name: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let namespace = find(&context.connect().await?, &args.name).await?;
    if args.json {
        println!("{}", document(&namespace));
    } else {
        println!("{}", layout(&namespace));
    }
    Ok(ExitCode::SUCCESS)
}

fn layout(namespace: &Namespace) -> String {
    let secrets = namespace.secret_names.iter().map(|name| (name.as_str(), HIDDEN));
    let properties = namespace.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let all: BTreeMap<&str, &str> = properties.chain(secrets).collect();
    let all: Vec<String> = all.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!(
        "NamespaceStatus{{name={}, path={}, ufsPath={}, mountId={}, creationTimeMs={}, wPolicy={}, rPolicy={}, \
         readOnly={}, shared={}, ttl=-1, ttlAction=FREE, properties={{{}}}}}",
        namespace.name,
        namespace.path,
        namespace.ufs_uri,
        namespace.mount_id,
        namespace.created_unix_ms,
        write_name(namespace.write_policy),
        read_name(namespace.read_policy),
        namespace.read_only,
        namespace.shared,
        all.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::ns::ls::tests::namespace;

    #[test]
    fn layout_hides_secrets() {
        assert_eq!(
            layout(&namespace()),
            "NamespaceStatus{name=lake, path=/lake, ufsPath=s3://bucket/, mountId=2, creationTimeMs=1763838000007, \
             wPolicy=CACHE_THROUGH, rPolicy=CACHE_CONSISTENT, readOnly=false, shared=true, ttl=-1, ttlAction=FREE, \
             properties={goosefs.underfs.s3.region=r, s3a.secretKey=******}}"
        );
    }
}
