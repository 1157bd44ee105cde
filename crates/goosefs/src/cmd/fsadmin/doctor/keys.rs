//! Objects of under stores that cannot be shown, because their key cannot be a path.

use super::Finding;
use client::{FileSystem, SkippedKeys};
use proto::admin::SkippedDirectory;
use serde_json::json;
use std::collections::BTreeMap;

pub async fn look(fs: &FileSystem) -> anyhow::Result<Finding> {
    let keys = fs.skipped_keys().await?;
    let well = "every store key that was listed since the master started is shown as a path";
    Ok(Finding::of(well, layout(&keys), document(&keys)))
}

/// By mount, then by directory.
fn by_mount(keys: &SkippedKeys) -> BTreeMap<(&str, &str), Vec<&SkippedDirectory>> {
    let mut mounts: BTreeMap<_, Vec<&SkippedDirectory>> = BTreeMap::new();
    for directory in &keys.directories {
        mounts.entry((directory.mount.as_str(), directory.ufs_uri.as_str())).or_default().push(directory);
    }
    mounts.values_mut().for_each(|directories| directories.sort_by(|a, b| a.path.cmp(&b.path)));
    mounts
}

fn total(directories: &[&SkippedDirectory]) -> u64 {
    directories.iter().map(|directory| directory.count).sum()
}

fn layout(keys: &SkippedKeys) -> String {
    if keys.directories.is_empty() && keys.forgotten == 0 {
        return String::new();
    }
    let mut out =
        String::from("Store keys that cannot be a path and are not shown, as listed since the master started:\n");
    for ((mount, uri), directories) in by_mount(keys) {
        out.push_str(&format!("    {mount} ({uri}): {}\n", total(&directories)));
        for directory in directories {
            out.push_str(&format!("        in {}: {}\n", directory.path, directory.count));
            for sample in &directory.samples {
                out.push_str(&format!("            {}: {}\n", sample.key, sample.why));
            }
        }
    }
    if keys.forgotten > 0 {
        out.push_str(&format!("    in directories the master no longer remembers: {}\n", keys.forgotten));
    }
    out.push_str("Give these objects other names in the store, then look at it again with goosefs fs ls -f.\n");
    out
}

fn document(keys: &SkippedKeys) -> serde_json::Value {
    let directory = |directory: &&SkippedDirectory| {
        let samples = directory.samples.iter().map(|sample| json!({ "key": sample.key, "why": sample.why }));
        json!({ "path": directory.path, "count": directory.count, "samples": samples.collect::<Vec<_>>() })
    };
    let mounts = by_mount(keys).into_iter().map(|((mount, uri), directories)| {
        let below: Vec<_> = directories.iter().map(directory).collect();
        json!({ "mount": mount, "ufsUri": uri, "count": total(&directories), "directories": below })
    });
    json!({ "mounts": mounts.collect::<Vec<_>>(), "forgotten": keys.forgotten })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::admin::SkippedKey;

    fn directory(path: &str, count: u64, key: &str) -> SkippedDirectory {
        SkippedDirectory {
            path: path.into(),
            mount: "/lake".into(),
            ufs_uri: "s3://lake/".into(),
            count,
            samples: vec![SkippedKey { key: key.into(), why: "name \"\" is not allowed".into() }],
        }
    }

    #[test]
    fn layout_of_two_directories() {
        assert_eq!(layout(&SkippedKeys::default()), "");
        let keys = SkippedKeys {
            directories: vec![directory("/lake/b", 1, "b//"), directory("/lake/a", 4, "a//x")],
            forgotten: 7,
        };
        assert_eq!(
            layout(&keys),
            "Store keys that cannot be a path and are not shown, as listed since the master started:
    /lake (s3://lake/): 5
        in /lake/a: 4
            a//x: name \"\" is not allowed
        in /lake/b: 1
            b//: name \"\" is not allowed
    in directories the master no longer remembers: 7
Give these objects other names in the store, then look at it again with goosefs fs ls -f.
"
        );
        let shown = document(&keys);
        assert_eq!((&shown["mounts"][0]["count"], &shown["forgotten"]), (&json!(5), &json!(7)));
    }
}
