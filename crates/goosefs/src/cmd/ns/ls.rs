//! `goosefs ns ls`

use super::{read_name, write_name};
use crate::cmd::{Context, Done};
use crate::output;
use client::Namespace;
use jiff::tz::TimeZone;
use serde_json::json;
use std::process::ExitCode;
use types::UnixMs;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  goosefs ns ls\n\nPrints:\n  namespace  mountPoint  ufsPath        creationTime             wPolicy        rPolicy  TTL  ttlAction\n  lake       /lake       s3://bucket/   11-22-2026 19:17:39:123  CACHE_THROUGH  CACHE    -1   FREE"
)]
pub struct Args {
    /// Last first
    #[arg(short = 'r')]
    reverse: bool,
    /// Order
    #[arg(long, value_enum, default_value = "name")]
    sort: Order,
    /// Times as milliseconds since 1970
    #[arg(long)]
    timestamp: bool,
    /// Print one JSON document per line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum, Debug)]
#[value(rename_all = "camelCase")]
enum Order {
    Name,
    CreationTime,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let mut all = context.connect().await?.namespaces().await?;
    match args.sort {
        Order::Name => all.sort_by(|a, b| a.name.cmp(&b.name)),
        Order::CreationTime => all.sort_by_key(|namespace| namespace.created_unix_ms),
    }
    if args.reverse {
        all.reverse();
    }
    if args.json {
        all.iter().for_each(|namespace| println!("{}", document(namespace)));
    } else {
        print!("{}", table(&all, args.timestamp, &TimeZone::system()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The root store has no name; it shows as `/`.
fn shown_name(namespace: &Namespace) -> &str {
    if namespace.name.is_empty() { "/" } else { &namespace.name }
}

fn table(all: &[Namespace], timestamp: bool, zone: &TimeZone) -> String {
    let head = ["namespace", "mountPoint", "ufsPath", "creationTime", "wPolicy", "rPolicy", "TTL", "ttlAction"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(all.iter().map(|namespace| {
        let created = UnixMs(namespace.created_unix_ms);
        vec![
            shown_name(namespace).to_owned(),
            namespace.path.clone(),
            namespace.ufs_uri.clone(),
            if timestamp { created.0.to_string() } else { output::time(created, zone) },
            write_name(namespace.write_policy).to_owned(),
            read_name(namespace.read_policy).to_owned(),
            "-1".into(),
            "FREE".into(),
        ]
    }));
    output::columns(&rows)
}

/// A namespace as JSON; of secrets only the names.
pub fn document(namespace: &Namespace) -> serde_json::Value {
    json!({
        "name": shown_name(namespace),
        "path": namespace.path,
        "ufsPath": namespace.ufs_uri,
        "mountId": namespace.mount_id,
        "creationTimeMs": namespace.created_unix_ms,
        "wPolicy": write_name(namespace.write_policy),
        "rPolicy": read_name(namespace.read_policy),
        "readOnly": namespace.read_only,
        "shared": namespace.shared,
        "properties": namespace.properties.iter().collect::<std::collections::BTreeMap<_, _>>(),
        "secrets": namespace.secret_names,
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn namespace() -> Namespace {
        Namespace {
            name: "lake".into(),
            path: "/lake".into(),
            ufs_uri: "s3://bucket/".into(),
            mount_id: 2,
            read_only: false,
            shared: true,
            write_policy: 0,
            read_policy: 5,
            created_unix_ms: 1_763_838_000_007,
            properties: [("goosefs.underfs.s3.region".to_owned(), "r".to_owned())].into(),
            secret_names: vec!["s3a.secretKey".into()],
        }
    }

    #[test]
    fn layout() {
        let root = Namespace { name: String::new(), path: "/".into(), ufs_uri: "file:///r".into(), ..namespace() };
        assert_eq!(
            table(&[root, namespace()], false, &TimeZone::UTC),
            "namespace  mountPoint  ufsPath       creationTime             wPolicy        rPolicy           TTL  ttlAction\n\
             /          /           file:///r     11-22-2025 19:00:00:007  CACHE_THROUGH  CACHE_CONSISTENT  -1   FREE\n\
             lake       /lake       s3://bucket/  11-22-2025 19:00:00:007  CACHE_THROUGH  CACHE_CONSISTENT  -1   FREE\n"
        );
    }
}
