//! `goosefs fsadmin metastore`

use crate::cmd::{Context, Done};
use crate::settings::roles;
use crate::{output, progress};
use master::RepairedMetastore;
use serde_json::json;
use std::process::ExitCode;

/// Findings that are shown.
const SHOWN: usize = 20;

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Has the leading master rewrite its database so that removed and replaced records take no room
    Compact(Compact),
    /// Saves what can be read of the damaged database of a stopped master that is alone
    Repair(Repair),
}

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  goosefs fsadmin metastore compact\n\nThe master serves meanwhile. RocksDB compacts by itself as well; this is for a disk that is short of room after much was removed. Ctrl-C gives it up; what was rewritten stays so."
)]
pub struct Compact {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  goosefs fsadmin metastore repair && goosefs master\n\nRun it on the master's machine, as its user, while it is stopped. The old files stay in the directory `damaged` of the database's. A backup is worth more than a repair, and of several masters the others have everything: see docs/losing-a-master.md. Exits with 0 if all records could be read and fit together, with 1 if not."
)]
pub struct Repair {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Command {
    pub async fn run(self, context: &Context) -> Done {
        match self {
            Command::Compact(args) => compact(&args, context).await,
            Command::Repair(args) => repair(&args, context),
        }
    }
}

async fn compact(args: &Compact, context: &Context) -> Done {
    let fs = context.connect().await?;
    let bar = progress::written("tables on disk");
    let outcome = fs.compact_metastore(|bytes| bar.set_position(bytes)).await;
    bar.finish_and_clear();
    let (before, now) = outcome?;
    if args.json {
        println!("{}", json!({ "bytes_before": before, "bytes": now }));
    } else {
        println!(
            "The tables of the metadata database took {}, and take {} now",
            output::size(before),
            output::size(now)
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn repair(args: &Repair, context: &Context) -> Done {
    let config = roles::master(&context.settings)?;
    let bar = progress::counter("look");
    let outcome = master::repair_metastore(&config, |records| bar.set_position(records));
    bar.finish_and_clear();
    let RepairedMetastore { repaired, wrong, wrong_count } = outcome?;
    let gaps: Vec<String> = repaired.gaps.iter().map(ToString::to_string).collect();
    let is_well = gaps.is_empty() && !repaired.without_manifest && wrong_count == 0;
    if args.json {
        let document = json!({
            "records": repaired.records,
            "applied_index": repaired.applied.0,
            "lost": gaps,
            "without_manifest": repaired.without_manifest,
            "wrong": wrong.iter().map(|one| json!({ "kind": one.kind, "what": one.what })).collect::<Vec<_>>(),
            "wrong_count": wrong_count,
            "old_files": repaired.kept,
        });
        println!("{document}");
    } else {
        println!("Records saved  {}", repaired.records);
        println!("Journal index  {}", repaired.applied.0);
        println!("Old files      {}", repaired.kept.display());
        if repaired.without_manifest {
            println!("The manifest was of no use: records that were removed shortly before may have come back.");
        }
        gaps.iter().for_each(|gap| println!("Lost: {gap}"));
        wrong.iter().take(SHOWN).for_each(|one| println!("Wrong: {}: {}", one.kind, one.what));
        let shown = u64::try_from(wrong.len().min(SHOWN)).unwrap_or(u64::MAX);
        if wrong_count > shown {
            println!("and {} more; `goosefs fsck --offline` names them", wrong_count - shown);
        }
        if wrong.iter().any(|one| one.is_repairable) {
            println!("`goosefs fsck --offline --repair` puts right what follows from the other records.");
        }
        if !is_well {
            println!(
                "Something is missing or wrong. If there is a backup, `goosefs formatMaster --from-backup` is better than \
                 going on from here; see docs/backup.md."
            );
        }
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
