//! Storage directories that workers gave up.

use super::Finding;
use client::{FileSystem, LostStorage};
use serde_json::json;

pub async fn look(fs: &FileSystem) -> anyhow::Result<Finding> {
    let mut lost = fs.lost_storage().await?;
    lost.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
    let well = "every storage directory of every worker takes data";
    Ok(Finding::of(well, layout(&lost), lost.iter().map(document).collect()))
}

fn layout(lost: &[LostStorage]) -> String {
    if lost.is_empty() {
        return String::new();
    }
    let mut out = String::from("Storage directories that take no more data, by worker:\n");
    for worker in lost {
        out.push_str(&format!("    {}:{}\n", worker.host, worker.port));
        for directory in &worker.directories {
            out.push_str(&format!("        {directory}\n"));
        }
    }
    out.push_str("Repair or replace the disks, then start their workers again; a full one opens when it has room.\n");
    out
}

fn document(worker: &LostStorage) -> serde_json::Value {
    json!({ "host": worker.host, "rpcPort": worker.port, "lost": worker.directories })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_of_two_workers() {
        let worker = |host: &str, directories: &[&str]| LostStorage {
            host: host.into(),
            port: 9203,
            directories: directories.iter().map(|&directory| directory.to_owned()).collect(),
        };
        assert_eq!(layout(&[]), "");
        assert_eq!(
            layout(&[worker("h1", &["/ssd1 (it failed)", "/ssd2 (it is full)"]), worker("h2", &["/ssd1 (it failed)"])]),
            "Storage directories that take no more data, by worker:
    h1:9203
        /ssd1 (it failed)
        /ssd2 (it is full)
    h2:9203
        /ssd1 (it failed)
Repair or replace the disks, then start their workers again; a full one opens when it has room.
"
        );
    }
}
