//! `goosefs fsck`

use super::Done;
use super::format::agreed;
use crate::settings::{Settings, roles};
use crate::{output, progress};
use ::master::{Altered, Finding, Fsck, MasterConfig};
use anyhow::{Context as _, bail};
use rpc::SystemClock;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use types::Clock as _;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Of one of several masters everything is named and nothing repaired: it would differ from the others under the \
                        same log. Repair such a group while it runs, with goosefs fsadmin doctor metadata --repair; a single \
                        damaged master of it is replaced, see docs/losing-a-master.md.\n\n\
                        Examples:\n  goosefs fsck --offline\n  goosefs fsck --offline --json | grep orphans\n  \
                        goosefs fsck --offline --repair\n\n\
                        Exits with 0 if nothing is wrong any more, with 1 if something is."
)]
pub struct Args {
    /// Look at the directories of a master that does not run (while it runs: goosefs fsadmin doctor metadata)
    #[arg(long, required = true)]
    offline: bool,
    /// Repair what can be, after asking; what is changed is kept in a file first
    #[arg(long)]
    repair: bool,
    /// Do not ask
    #[arg(long, requires = "repair")]
    force: bool,
    /// Print each finding as a line of JSON, and a summary as the last one
    #[arg(long)]
    json: bool,
}

/// What a look came upon.
#[derive(Default)]
struct Found {
    kinds: BTreeMap<&'static str, u64>,
    repairable: u64,
    looked_at: u64,
}

impl Found {
    fn count(&self) -> u64 {
        self.kinds.values().sum()
    }
}

pub fn run(args: &Args, settings: &Settings) -> Done {
    assert!(args.offline, "the parser asks for it");
    let config = roles::master(settings)?;
    let fsck = Fsck::open(&config)?;
    if !args.json {
        println!("{}, up to {}", fsck.cluster(), fsck.applied());
    }
    fsck.notes().iter().for_each(|note| eprintln!("goosefs: {note}"));
    let mut found = look(&fsck, args.json)?;
    let mut repaired = 0;
    let mut record = None;
    if args.repair && found.repairable > 0 {
        if let Some(why) = fsck.objection() {
            bail!("{} findings are not repaired: {why}", found.repairable);
        }
        let what = format!("{} records or more in {}", found.repairable, config.metastore_dir.display());
        if !agreed(args.force, &format!("This changes {what}."), "nothing was changed")? {
            bail!("{what} would be changed; confirm that with --force");
        }
        let mut kept = Kept::create(&config)?;
        let bar = progress::counter("repair");
        let outcome = fsck.repair(|altered| kept.keep(altered), |records| bar.set_position(records));
        bar.finish_and_clear();
        repaired = outcome.with_context(|| format!("what was changed so far stands in {}", kept.path.display()))?;
        record = Some(kept.path);
        if !args.json {
            println!("Repaired {repaired}. What is left:");
        }
        found = look(&fsck, args.json)?;
    }
    match args.json {
        true => println!("{}", summary(&found, repaired, record.as_deref())),
        false => print!("{}", layout(&found, record.as_deref(), args.repair)),
    }
    Ok(if found.count() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Looks through everything and prints what is wrong as it is come upon.
fn look(fsck: &Fsck, json: bool) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut unwritten = None;
    let bar = progress::counter("look");
    let looked = fsck.look(
        |finding| {
            *found.kinds.entry(finding.kind).or_default() += 1;
            found.repairable += u64::from(finding.is_repairable);
            let written = match json {
                true => writeln!(out, "{}", document(finding)),
                false => writeln!(out, "{}: {}\n    {}", finding.kind, finding.what, finding.advice),
            };
            unwritten = unwritten.take().or(written.err());
        },
        |records| bar.set_position(records),
    );
    bar.finish_and_clear();
    if let Some(error) = unwritten {
        return Err(error.into());
    }
    // What was found before the database could not be read is worth having.
    out.flush()?;
    found.looked_at = looked?;
    Ok(found)
}

fn document(finding: &Finding) -> serde_json::Value {
    json!({
        "kind": finding.kind,
        "what": finding.what,
        "advice": finding.advice,
        "repairable": finding.is_repairable,
    })
}

fn summary(found: &Found, repaired: u64, record: Option<&Path>) -> serde_json::Value {
    json!({
        "healthy": found.count() == 0,
        "records": found.looked_at,
        "kinds": found.kinds,
        "repairable": found.repairable,
        "repaired": repaired,
        "record": record,
    })
}

fn layout(found: &Found, record: Option<&Path>, repair: bool) -> String {
    let mut out = String::new();
    if found.count() == 0 {
        out.push_str(&format!("Nothing is wrong with {} records.\n", found.looked_at));
    } else {
        let rows: Vec<Vec<String>> =
            found.kinds.iter().map(|(kind, count)| vec![format!("    {kind}"), count.to_string()]).collect();
        out.push_str(&format!(
            "{} findings in {} records:\n{}",
            found.count(),
            found.looked_at,
            output::columns(&rows)
        ));
        if found.repairable > 0 && !repair {
            out.push_str(&format!("{} of them can be repaired, with --repair.\n", found.repairable));
        }
    }
    if let Some(record) = record {
        out.push_str(&format!("What was changed stands in {}.\n", record.display()));
    }
    out
}

/// The record of what repairs change: a line of JSON for each commit, safe before it is made.
struct Kept {
    path: PathBuf,
    file: File,
}

impl Kept {
    fn create(config: &MasterConfig) -> anyhow::Result<Kept> {
        let dir = &config.work_dir;
        let unusable = || format!("cannot keep a record of repairs in {}; set goosefs.work.dir", dir.display());
        fs::create_dir_all(dir).with_context(unusable)?;
        let path = dir.join(format!("fsck-{}.jsonl", SystemClock.unix().0));
        let file = File::options().write(true).create_new(true).open(&path).with_context(unusable)?;
        File::open(dir).and_then(|dir| dir.sync_all()).with_context(unusable)?;
        Ok(Kept { path, file })
    }

    fn keep(&mut self, altered: &Altered) -> io::Result<()> {
        let mut line = serde_json::to_vec(altered)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_how_many_of_each_kind_and_what_can_be_done() {
        let mut found = Found { looked_at: 70, ..Found::default() };
        assert_eq!(layout(&found, None, false), "Nothing is wrong with 70 records.\n");
        found.kinds.extend([("orphans", 1), ("place-missing", 12)]);
        found.repairable = 12;
        assert_eq!(
            layout(&found, None, false),
            "13 findings in 70 records:\n    orphans        1\n    place-missing  12\n12 of them can be repaired, with --repair.\n"
        );
        let shown = layout(&found, Some(Path::new("/w/fsck-1.jsonl")), true);
        assert!(shown.ends_with("What was changed stands in /w/fsck-1.jsonl.\n") && !shown.contains("--repair"));
        assert_eq!(summary(&found, 3, None)["kinds"]["place-missing"], 12);
    }
}
