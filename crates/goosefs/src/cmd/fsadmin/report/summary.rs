//! `goosefs fsadmin report summary`

use crate::output;
use client::{FileSystem, MasterInfo};
use jiff::tz::TimeZone;
use serde_json::json;
use std::time::Duration;
use types::UnixMs;

pub async fn run(fs: &FileSystem, json: bool) -> anyhow::Result<()> {
    let info = fs.master_info().await?;
    if json {
        println!("{}", document(&info));
    } else {
        print!("{}", layout(&info, &TimeZone::system()));
    }
    Ok(())
}

/// Capacity and use of all tiers.
fn totals(info: &MasterInfo) -> (u64, u64) {
    let sum = |of: fn(&proto::admin::TierUse) -> u64| info.tiers.iter().map(of).sum();
    (sum(|tier| tier.capacity_bytes), sum(|tier| tier.used_bytes))
}

fn layout(info: &MasterInfo, zone: &TimeZone) -> String {
    let (capacity, used) = totals(info);
    let mut out = String::from("GooseFS cluster summary:\n");
    let mut field = |name: &str, value: String| out.push_str(&format!("    {name}: {value}\n"));
    field("Master Address", info.rpc_address.clone());
    field("Web Port", info.web_port.to_string());
    field("Rpc Port", info.rpc_port.to_string());
    field("Started", output::time(UnixMs(info.started_unix_ms), zone));
    let uptime = Duration::from_millis(u64::try_from(info.uptime_ms).unwrap_or(0));
    field("Uptime", output::uptime(uptime));
    for member in &info.members {
        let state = if member.leads {
            "leads"
        } else if member.active {
            "follows"
        } else {
            "away"
        };
        field("Journal Member", format!("{} ({state})", member.address));
    }
    for short in &info.short_of_room {
        for (disk, _) in [("journal", short.journal), ("metadata", short.metastore)].iter().filter(|(_, short)| *short)
        {
            field("Short Of Room", format!("{}: the disk of the {disk}", short.master));
        }
    }
    field("Version", info.version.clone());
    field("Safe Mode", info.safe_mode.to_string());
    field("Zookeeper Enabled", info.zookeeper_enabled.to_string());
    field("Live Workers", info.live_workers.to_string());
    field("Lost Workers", info.lost_workers.to_string());
    field("Total Capacity", output::size(capacity));
    for tier in &info.tiers {
        field("    Tier", format!("{}  Size: {}", tier.alias, output::size(tier.capacity_bytes)));
    }
    field("Used Capacity", output::size(used));
    for tier in &info.tiers {
        field("    Tier", format!("{}  Size: {}", tier.alias, output::size(tier.used_bytes)));
    }
    field("Free Capacity", output::size(capacity.saturating_sub(used)));
    out
}

fn document(info: &MasterInfo) -> serde_json::Value {
    let (capacity, used) = totals(info);
    let tier = |t: &proto::admin::TierUse| json!({ "alias": t.alias, "capacityBytes": t.capacity_bytes, "usedBytes": t.used_bytes });
    let short =
        |s: &proto::admin::ShortOfRoom| json!({ "master": s.master, "journal": s.journal, "metastore": s.metastore });
    json!({
        "shortOfRoom": info.short_of_room.iter().map(short).collect::<Vec<_>>(),
        "masterAddress": info.rpc_address,
        "webPort": info.web_port,
        "rpcPort": info.rpc_port,
        "startedMs": info.started_unix_ms,
        "uptimeMs": info.uptime_ms,
        "version": info.version,
        "safeMode": info.safe_mode,
        "zookeeperEnabled": info.zookeeper_enabled,
        "liveWorkers": info.live_workers,
        "lostWorkers": info.lost_workers,
        "capacityBytes": capacity,
        "usedBytes": used,
        "freeBytes": capacity.saturating_sub(used),
        "tiers": info.tiers.iter().map(tier).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::admin::{ShortOfRoom, TierUse};

    #[test]
    fn layout_of_the_lineage() {
        let info = MasterInfo {
            rpc_address: "localhost:9200".into(),
            rpc_port: 9200,
            web_port: 9201,
            started_unix_ms: 1_763_838_000_007,
            uptime_ms: 62_000,
            version: "0.1.0".into(),
            live_workers: 1,
            tiers: vec![TierUse { alias: "SSD".into(), capacity_bytes: 10 << 30, used_bytes: 64 << 20 }],
            ..MasterInfo::default()
        };
        assert_eq!(
            layout(&info, &TimeZone::UTC),
            "GooseFS cluster summary:
    Master Address: localhost:9200
    Web Port: 9201
    Rpc Port: 9200
    Started: 11-22-2025 19:00:00:007
    Uptime: 0 day(s), 0 hour(s), 1 minute(s), and 2 second(s)
    Version: 0.1.0
    Safe Mode: false
    Zookeeper Enabled: false
    Live Workers: 1
    Lost Workers: 0
    Total Capacity: 10.00GB
        Tier: SSD  Size: 10.00GB
    Used Capacity: 64.00MB
        Tier: SSD  Size: 64.00MB
    Free Capacity: 9.94GB
"
        );
    }

    #[test]
    fn masters_with_full_disks_are_named() {
        let short = |master: &str, journal, metastore| ShortOfRoom { master: master.to_owned(), journal, metastore };
        let short_of_room =
            vec![short("m1:9202", true, false), short("m2:9202", false, true), short("m3:9202", true, true)];
        let info = MasterInfo { short_of_room, ..MasterInfo::default() };
        let shown = layout(&info, &TimeZone::UTC);
        for line in [
            "    Short Of Room: m1:9202: the disk of the journal\n",
            "    Short Of Room: m2:9202: the disk of the metadata\n",
            "    Short Of Room: m3:9202: the disk of the journal\n    Short Of Room: m3:9202: the disk of the metadata\n",
        ] {
            assert!(shown.contains(line), "{line} in {shown}");
        }
        assert_eq!(
            document(&info)["shortOfRoom"][1],
            json!({ "master": "m2:9202", "journal": false, "metastore": true })
        );
    }
}
