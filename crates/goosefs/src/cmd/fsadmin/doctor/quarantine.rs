//! Cached blocks of files that the namespace does not know: lost with a quorum, or made after its backup.

use super::Finding;
use client::{FileSystem, QuarantinedFile};
use serde_json::json;
use std::collections::BTreeMap;

/// Files shown of one worker; --json shows all.
const SHOWN: usize = 10;

pub async fn look(fs: &FileSystem) -> anyhow::Result<Finding> {
    let (files, not_listed) = fs.quarantined().await?;
    let well = "every cached block belongs to a file of this namespace";
    let document = json!({ "files": files.iter().map(document).collect::<Vec<_>>(), "blocksNotListed": not_listed });
    Ok(Finding::of(well, layout(&files, not_listed), document))
}

fn layout(files: &[QuarantinedFile], not_listed: u64) -> String {
    if files.is_empty() && not_listed == 0 {
        return String::new();
    }
    let mut out =
        String::from("Cached blocks of files this namespace does not know, neither served nor freed, by worker:\n");
    let mut workers: BTreeMap<(&str, u32), Vec<&QuarantinedFile>> = BTreeMap::new();
    for file in files {
        workers.entry((&file.host, file.rpc_port)).or_default().push(file);
    }
    for ((host, port), files) in workers {
        let blocks: u64 = files.iter().map(|file| u64::from(file.blocks)).sum();
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        out.push_str(&format!("    {host}:{port}: {blocks} blocks of {} files, {bytes} bytes\n", files.len()));
        for file in files.iter().take(SHOWN) {
            let id = types::ContainerId(file.container).file();
            out.push_str(&format!("        {id}: {} blocks, {} bytes\n", file.blocks, file.bytes));
        }
        if files.len() > SHOWN {
            out.push_str(&format!("        and {} more; --json lists them\n", files.len() - SHOWN));
        }
    }
    if not_listed > 0 {
        out.push_str(&format!("    and {not_listed} blocks that the master does not list\n"));
    }
    out.push_str(
        "They are what was written and then lost with a quorum or by going back to a backup. If nobody needs them, stop the worker, run goosefs formatWorker and start it again.\n",
    );
    out
}

fn document(file: &QuarantinedFile) -> serde_json::Value {
    json!({
        "workerId": file.worker,
        "host": file.host,
        "rpcPort": file.rpc_port,
        "fileId": types::ContainerId(file.container).file().to_wire(),
        "blocks": file.blocks,
        "bytes": file.bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_of_two_files_on_a_worker() {
        let file = |container: u64, blocks: u32, bytes: u64| QuarantinedFile {
            worker: 7,
            host: "h1".into(),
            rpc_port: 9203,
            container,
            blocks,
            bytes,
        };
        assert_eq!(layout(&[], 0), "");
        let shown = layout(&[file(1, 2, 30), file(2, 1, 5)], 4);
        assert!(
            shown.contains("    h1:9203: 3 blocks of 2 files, 35 bytes\n        file-33554431: 2 blocks, 30 bytes\n")
        );
        assert!(shown.contains("    and 4 blocks that the master does not list\n"));
        assert_eq!(document(&file(1, 2, 30))["fileId"], json!(33_554_431));
    }
}
