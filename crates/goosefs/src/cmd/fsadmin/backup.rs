//! `goosefs fsadmin backup`

use crate::cmd::{Context, Done};
use crate::{output, progress};
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs fsadmin backup\n  goosefs fsadmin backup /mnt/backups --local\n\nOn a new cluster: goosefs formatMaster --from-backup FILE, see docs/backup.md. Ctrl-C gives a backup up."
)]
pub struct Args {
    /// Directory in the root under store; with --local, of the leading master's machine
    #[arg(value_name = "DIR", required_if_eq("local", "true"))]
    directory: Option<String>,
    /// Write to the leading master's own disk
    #[arg(long)]
    local: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let fs = context.connect().await?;
    let bar = progress::written("backup");
    let outcome = fs.backup(args.directory.as_deref(), args.local, |bytes| bar.set_position(bytes)).await;
    bar.finish_and_clear();
    let done = outcome?;
    if args.json {
        println!(
            "{}",
            json!({
                "host": done.host,
                "place": done.place,
                "records": done.records,
                "bytes": done.bytes,
                "journal_index": done.index,
            })
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("Backup host    {}", done.host);
    println!("Backup         {}", done.place);
    println!("Records        {}", done.records);
    println!("Size           {}", output::size(done.bytes));
    println!("Journal index  {}", done.index);
    Ok(ExitCode::SUCCESS)
}
