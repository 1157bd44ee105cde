//! `goosefs ns create`

use super::{parse_read, parse_secret, parse_write};
use crate::cmd::{Context, Done, key_value};
use client::NewNamespace;
use std::process::ExitCode;
use types::{ReadPolicy, Secret, WriteType};

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs ns create data /mnt/nas --wPolicy 3 --rPolicy 2\n  goosefs ns create lake s3://bucket/ --attribute goosefs.underfs.s3.endpoint=http://s3:9000 \\\n      --attribute goosefs.underfs.s3.region=us-east-1 --secret s3a.accessKeyId=... --secret s3a.secretKey=...\n  goosefs ns create cos cosn://bucket-1250000000/ --attribute fs.cosn.bucket.region=ap-guangzhou \\\n      --secret fs.cosn.userinfo.secretId=... --secret fs.cosn.userinfo.secretKey=..."
)]
pub struct Args {
    /// The name below / it gets
    #[arg(value_name = "NAMESPACE")]
    name: String,
    /// Its store: a directory, s3://bucket/prefix or cosn://bucket/prefix
    #[arg(value_name = "UFS URI")]
    ufs_uri: String,
    /// Where writes go, 1 to 6 or by name
    #[arg(long = "wPolicy", value_name = "POLICY", value_parser = parse_write)]
    write: Option<WriteType>,
    /// How reads cache and check, 1 to 5 or by name
    #[arg(long = "rPolicy", value_name = "POLICY", value_parser = parse_read)]
    read: Option<ReadPolicy>,
    /// Refuse every change
    #[arg(long)]
    readonly: bool,
    /// Owned by nobody in particular
    #[arg(long)]
    shared: bool,
    /// A credential; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_secret)]
    secret: Vec<(String, Secret)>,
    /// A property of the store; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    attribute: Vec<(String, String)>,
}

pub async fn run(args: Args, context: &Context) -> Done {
    let name = args.name.trim_matches('/').to_owned();
    let said = format!("Namespace {name} created over {}", args.ufs_uri);
    // A credential given as an attribute is kept as one all the same.
    let (secret, plain): (Vec<_>, Vec<_>) = args.attribute.into_iter().partition(|(key, _)| ufs::is_secret(key));
    let new = NewNamespace {
        name,
        ufs_uri: args.ufs_uri,
        read_only: args.readonly,
        shared: args.shared,
        write_policy: args.write,
        read_policy: args.read,
        properties: plain.into_iter().collect(),
        secrets: secret.into_iter().map(|(key, value)| (key, Secret::new(value))).chain(args.secret).collect(),
    };
    context.connect().await?.create_namespace(new).await?;
    println!("{said}");
    Ok(ExitCode::SUCCESS)
}
