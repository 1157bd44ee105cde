//! `goosefs fsadmin report ufs`

use crate::output;
use client::{FileSystem, Mount};
use serde_json::json;

pub async fn run(fs: &FileSystem, json: bool) -> anyhow::Result<()> {
    let mounts = fs.mounts().await?;
    if json {
        println!("{}", json!({ "ufs": mounts.iter().map(document).collect::<Vec<_>>() }));
    } else {
        print!("{}", layout(&mounts));
    }
    Ok(())
}

fn layout(mounts: &[Mount]) -> String {
    let mut out = String::from("GooseFS under storage system information:\n");
    let size = |bytes: Option<u64>| bytes.map_or("UNKNOWN".into(), output::size);
    let mut rows = Vec::new();
    for mount in mounts {
        let access = if mount.read_only { "read-only" } else { "not read-only" };
        let sharing = if mount.shared { "shared" } else { "not shared" };
        rows.push(vec![
            mount.ufs_uri.clone(),
            format!("on  {}", mount.path),
            format!(
                "({}, capacity={}, used={}, {access}, {sharing})",
                mount.ufs_type,
                size(mount.capacity_bytes),
                size(mount.used_bytes)
            ),
        ]);
    }
    out.push_str(&output::columns(&rows));
    out
}

fn document(mount: &Mount) -> serde_json::Value {
    json!({
        "path": mount.path,
        "ufsUri": mount.ufs_uri,
        "ufsType": mount.ufs_type,
        "capacityBytes": mount.capacity_bytes,
        "usedBytes": mount.used_bytes,
        "readOnly": mount.read_only,
        "shared": mount.shared,
        "properties": mount.properties,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn layout_of_two_stores() {
        let mount = |path: &str, uri: &str| Mount {
            path: path.into(),
            ufs_uri: uri.into(),
            ufs_type: "s3".into(),
            capacity_bytes: None,
            used_bytes: Some(10 << 20),
            read_only: path == "/",
            shared: false,
            properties: BTreeMap::new(),
        };
        assert_eq!(
            layout(&[mount("/", "s3://b/"), mount("/lake", "s3://lake/")]),
            "GooseFS under storage system information:
s3://b/     on  /      (s3, capacity=UNKNOWN, used=10.00MB, read-only, not shared)
s3://lake/  on  /lake  (s3, capacity=UNKNOWN, used=10.00MB, not read-only, not shared)
"
        );
    }
}
