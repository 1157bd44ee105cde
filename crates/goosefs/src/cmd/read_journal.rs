//! `goosefs readJournal`

use super::Done;
use crate::settings::Settings;
use anyhow::bail;
use master::JournalFilter;
use serde_json::ser::Formatter;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Each line is one JSON object: index, term, wall and age (ms), who, operation, ids, op. An index that \
                        comes again replaces what came from it on. Secrets are left out.\n\n\
                        Examples:\n  goosefs readJournal | tail -n 20\n  \
                        goosefs readJournal --from 1000 --to 1999 /backup/journal"
)]
pub struct Args {
    /// The journal directory; without it the one in the settings
    dir: Option<PathBuf>,
    /// First index to print
    #[arg(long, value_name = "INDEX", default_value_t = 1)]
    from: u64,
    /// Last index to print; without it all that follow
    #[arg(long, value_name = "INDEX")]
    to: Option<u64>,
    /// Also print a line for each batch: its number, term, vote, commit index and what was synced before it
    #[arg(long)]
    batches: bool,
}

pub fn run(args: &Args, settings: &Settings) -> Done {
    let dir = args.dir.clone().unwrap_or_else(|| settings.path("goosefs.master.journal.folder"));
    let last = args.to.unwrap_or(u64::MAX);
    if args.from > last {
        bail!("--from {} lies behind --to {last}; nothing can stand between", args.from);
    }
    let filter = JournalFilter { indexes: args.from..=last, batches: args.batches };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut unwritten = None;
    let read = master::read_journal(&dir, &filter, |line| {
        let json = serde::Serialize::serialize(&line, &mut serde_json::Serializer::with_formatter(&mut out, HexIds));
        match json.map_err(io::Error::from).and_then(|()| out.write_all(b"\n")) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                unwritten = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    if let Some(error) = unwritten {
        return Err(error.into());
    }
    // What was read before the damage is worth having.
    out.flush()?;
    if let Some(note) = read? {
        eprintln!("goosefs: {note}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Compact JSON with ids of 128 bits as 32 hexadecimal digits, as they are shown everywhere.
struct HexIds;

impl Formatter for HexIds {
    fn write_u128<W: ?Sized + Write>(&mut self, out: &mut W, value: u128) -> io::Result<()> {
        write!(out, "\"{value:032x}\"")
    }
}
