//! `goosefs fs stat`

use super::ls;
use crate::cmd::{Context, Done, PathArg};
use crate::output;
use client::{FileStatus, FileSystem, Held};
use jiff::tz::TimeZone;
use serde_json::json;
use std::collections::HashMap;
use std::process::ExitCode;
use types::BlockId;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs fs stat /data/part-0\n  goosefs fs stat --check_replicas=2 /data/part-0     asks the workers what they hold"
)]
pub struct Args {
    #[arg(value_name = "PATH")]
    path: PathArg,
    /// Ask the workers how much of each block they hold; N at least 1
    #[arg(long = "check_replicas", value_name = "N", default_value_t = 0)]
    check_replicas: u32,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// What workers hold by block, as they themselves say.
type AllHeld = HashMap<BlockId, Vec<Held>>;

pub async fn run(args: &Args, context: &Context) -> Done {
    let fs = context.connect_at(&[&args.path]).await?;
    let status = fs.status(&args.path.path).await?;
    let held = if args.check_replicas > 0 && !status.blocks.is_empty() { Some(ask(&fs, &status).await?) } else { None };
    if args.json {
        println!("{}", document(&status, held.as_ref()));
    } else {
        print!("{}", layout(&status, held.as_ref(), &TimeZone::system()));
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(fs: &FileSystem, status: &FileStatus) -> client::Result<AllHeld> {
    let blocks: Vec<BlockId> = status.blocks.iter().map(|block| block.block).collect();
    fs.held_blocks(&blocks).await
}

/// What each worker holds of a block, or where the master places it.
fn places(block: &client::BlockStatus, held: Option<&AllHeld>) -> Vec<String> {
    match held {
        Some(held) => {
            let at = held.get(&block.block).map_or(&[][..], Vec::as_slice);
            at.iter().map(|held| format!("{} ({})", held.worker, held.bytes)).collect()
        }
        None => block.locations.iter().map(|at| format!("{}:{}", at.host, at.port)).collect(),
    }
}

fn layout(status: &FileStatus, held: Option<&AllHeld>, zone: &TimeZone) -> String {
    let mut out = format!("{} is a {}.\n", status.path, if status.folder { "directory path" } else { "file" });
    let mut field = |name: &str, value: String| out.push_str(&format!("{name}: {value}\n"));
    field("fileId", status.file.to_wire().to_string());
    field("name", status.path.file_name().to_owned());
    field("path", status.path.to_string());
    field("ufsPath", status.ufs_path.clone());
    field("length", status.length.to_string());
    field("blockSizeBytes", status.block_bytes.to_string());
    field("creationTime", output::time(status.created, zone));
    field("lastModificationTime", output::time(status.modified, zone));
    field("completed", status.completed.to_string());
    field("folder", status.folder.to_string());
    field("cacheable", status.cacheable.to_string());
    field("persistenceState", status.persistence.name().to_owned());
    field("mountPoint", status.mount_point.to_string());
    field("mountId", status.mount_id.to_string());
    field("owner", status.owner.clone());
    field("group", status.group.clone());
    field("mode", format!("{:03o}", status.mode.bits()));
    field("inGooseFSPercentage", status.cached_percent.to_string());
    field("ufsFingerprint", status.fingerprint.clone());
    for (name, value) in &status.xattr {
        field(&format!("xattr.{name}"), shown(value));
    }
    if let Some(target) = &status.symlink {
        field("symlink", target.clone());
    }
    if !status.folder {
        out.push_str("Containing the following blocks:\n");
        let head = if held.is_some() { "workers (cached bytes)" } else { "workers" };
        let mut rows = vec![["block", "offset", "length", head].map(str::to_owned).to_vec()];
        rows.extend(status.blocks.iter().map(|block| {
            let (id, offset, length) = (block.block.to_wire(), block.offset, block.length);
            vec![id.to_string(), offset.to_string(), length.to_string(), places(block, held).join(", ")]
        }));
        out.push_str(&output::columns(&rows));
    }
    out
}

/// Text as text, anything else as hexadecimal digits.
fn shown(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if !text.is_empty() && !text.contains(char::is_control) => text.to_owned(),
        Ok(_) | Err(_) => value.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
    }
}

fn document(status: &FileStatus, held: Option<&AllHeld>) -> serde_json::Value {
    let blocks: Vec<_> = status
        .blocks
        .iter()
        .map(|b| json!({ "blockId": b.block.to_wire(), "offset": b.offset, "length": b.length, "workers": places(b, held) }))
        .collect();
    let mut document = ls::document(status);
    document["mountId"] = json!(status.mount_id);
    document["cacheable"] = json!(status.cacheable);
    document["ufsFingerprint"] = json!(status.fingerprint);
    document["xattr"] = status.xattr.iter().map(|(name, value)| (name.clone(), json!(shown(value)))).collect();
    document["blocks"] = json!(blocks);
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::fs::ls::tests::file;

    #[test]
    fn layout_of_a_file() {
        let mut status = file("/data/f", 5);
        status.xattr.insert("CrcType".into(), vec![2]);
        let held = HashMap::from([(
            status.blocks[0].block,
            vec![Held { worker: types::WorkerId(3), bytes: 5, tier: "SSD".into() }],
        )]);
        assert_eq!(
            layout(&status, Some(&held), &TimeZone::UTC),
            "/data/f is a file.\n\
             fileId: 134217727\n\
             name: f\n\
             path: /data/f\n\
             ufsPath: s3://bucket/data/f\n\
             length: 5\n\
             blockSizeBytes: 67108864\n\
             creationTime: 11-22-2025 19:00:00:007\n\
             lastModificationTime: 11-22-2025 19:00:01:123\n\
             completed: true\n\
             folder: false\n\
             cacheable: true\n\
             persistenceState: PERSISTED\n\
             mountPoint: false\n\
             mountId: 1\n\
             owner: alice\n\
             group: staff\n\
             mode: 644\n\
             inGooseFSPercentage: 100\n\
             ufsFingerprint: etag:9b2c\n\
             xattr.CrcType: 0x02\n\
             Containing the following blocks:\n\
             block      offset  length  workers (cached bytes)\n\
             117440512  0       5       worker-3 (5)\n"
        );
    }

    #[test]
    fn a_directory_has_no_block_table() {
        let status = FileStatus { folder: true, blocks: Vec::new(), ..file("/d", 0) };
        let shown = layout(&status, None, &TimeZone::UTC);
        assert!(shown.starts_with("/d is a directory path.\n") && !shown.contains("blocks:"), "{shown}");
    }
}
