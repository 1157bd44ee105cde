//! `goosefs format`, `formatMaster` and `formatWorker`

use super::Done;
use crate::settings::{Settings, Source, roles};
use crate::{output, progress};
use ::master::MasterConfig;
use ::worker::DirectoryConfig;
use anyhow::{Context as _, bail};
use rpc::{SystemClock, SystemEntropy};
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use types::ClusterId;

/// What a worker keeps in a storage directory.
const WORKER_ENTRIES: [&str; 4] = ["identity.json", "lock", "blocks", "damaged"];
/// Marks a directory as a worker's.
const WORKER_MARK: &str = "identity.json";

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs format\n  goosefs format -s          for scripts: nothing happens if it was done before"
)]
pub struct Args {
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs formatWorker && goosefs worker\n  goosefs formatWorker --force     for scripts: nobody is asked"
)]
pub struct RoleArgs {
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs formatMaster && goosefs master\n  goosefs formatMaster --join && goosefs master     then: fsadmin journal quorum add\n  goosefs formatMaster --from-backup FILE && goosefs master     see docs/backup.md"
)]
pub struct MasterArgs {
    #[command(flatten)]
    how: How,
    /// Wait to be taken into a group that is there, instead of founding one
    #[arg(long)]
    join: bool,
    /// Go on from a backup: a file of this machine, or an address in the root under store
    #[arg(long = "from-backup", value_name = "FILE", conflicts_with_all = ["join", "skip"])]
    from_backup: Option<String>,
}

/// What a master begins with.
#[derive(Clone, Copy)]
enum Begin<'a> {
    Empty,
    Joining,
    From(&'a str),
}

#[derive(clap::Args, Debug)]
struct How {
    /// Leave alone what was formatted before
    #[arg(short = 's', conflicts_with = "force")]
    skip: bool,
    /// Remove an older cluster's journal, metadata and cache first, and do not ask
    #[arg(long)]
    force: bool,
}

impl How {
    /// Whether `what` may be removed: by --force, or by whoever sits at the terminal. Error: who was asked said no.
    fn may_remove(&self, what: &str) -> anyhow::Result<bool> {
        agreed(self.force, &format!("This removes {what}."), "nothing was removed")
    }
}

/// Whether it may be done: by --force, or by whoever sits at the terminal. Error: who was asked said no, and `undone`.
pub fn agreed(force: bool, what: &str, undone: &str) -> anyhow::Result<bool> {
    if force || !std::io::stdin().is_terminal() {
        return Ok(force);
    }
    eprint!("{what}\nType yes to go on: ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    match answer.trim() {
        "yes" => Ok(true),
        _ => bail!("{undone}: the answer was not yes"),
    }
}

pub fn run(args: &Args, settings: &Settings) -> Done {
    format_master(&args.how, Begin::Empty, settings)?;
    format_worker(&args.how, settings)?;
    Ok(ExitCode::SUCCESS)
}

pub fn run_master(args: &MasterArgs, settings: &Settings) -> Done {
    let begin = match &args.from_backup {
        Some(file) => Begin::From(file),
        None if args.join => Begin::Joining,
        None => Begin::Empty,
    };
    format_master(&args.how, begin, settings)?;
    Ok(ExitCode::SUCCESS)
}

pub fn run_worker(args: &RoleArgs, settings: &Settings) -> Done {
    format_worker(&args.how, settings)?;
    Ok(ExitCode::SUCCESS)
}

fn format_master(how: &How, begin: Begin<'_>, settings: &Settings) -> anyhow::Result<()> {
    let config = roles::master(settings)?;
    let mut full = None;
    for (directory, key) in [
        (&config.journal_dir, "goosefs.master.journal.folder"),
        (&config.metastore_dir, "goosefs.master.metastore.dir"),
    ] {
        if full.is_none() && !is_empty(directory)? {
            full = Some((directory.display(), key));
        }
    }
    if let Some((directory, _)) = full.as_ref().filter(|_| how.skip) {
        println!("{directory} is formatted already");
        return Ok(());
    }
    if let Some((directory, key)) = &full {
        let (journal, metadata) = (config.journal_dir.display(), config.metastore_dir.display());
        let what = format!("the journal {journal} and the metadata {metadata}, and with them the namespace they hold");
        if !how.may_remove(&what)? {
            bail!(
                "cannot format the master: {directory} ({key}) is not empty; name another, or remove what it holds with --force"
            );
        }
    }
    // A store somebody named is theirs to make: an unmounted disk must not become a directory.
    if settings.source("goosefs.master.mount.table.root.ufs") == Source::Default {
        make(Path::new(&config.root_ufs))?;
    }
    let cluster = match begin {
        Begin::Empty => ::master::format(&config, &SystemEntropy, full.is_some())?,
        Begin::Joining => ::master::format_to_join(&config, &SystemEntropy, full.is_some())?,
        Begin::From(file) => restore(&config, full.is_some(), file)?,
    };
    println!(
        "Formatted {cluster}: journal {}, metadata {}",
        config.journal_dir.display(),
        config.metastore_dir.display()
    );
    Ok(())
}

fn restore(config: &MasterConfig, force: bool, file: &str) -> anyhow::Result<ClusterId> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let bar = progress::written("restore");
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
    let show = |bytes| bar.set_position(bytes);
    let restored = runtime.block_on(::master::format_from_backup(config, clock, entropy, force, file, show));
    bar.finish_and_clear();
    let restored = restored?;
    println!(
        "Restored {} records as of {}",
        restored.records,
        output::time(restored.written, &jiff::tz::TimeZone::system())
    );
    if restored.intents > 0 {
        println!(
            "{} operations on stores were under way; they are not taken up, a look at the store shows what became of them",
            restored.intents
        );
    }
    if restored.held > 0 {
        println!(
            "{} files were on their way to their store. They stay in the cache: look whether the store has",
            restored.held
        );
        println!("something newer, then goosefs fs persist PATH. The first of them:");
        restored.held_paths.iter().for_each(|path| println!("  {path}"));
    }
    Ok(restored.cluster)
}

fn format_worker(how: &How, settings: &Settings) -> anyhow::Result<()> {
    for directory in roles::worker(settings)?.directories {
        format_directory(how, &directory)?;
    }
    Ok(())
}

fn format_directory(how: &How, directory: &DirectoryConfig) -> anyhow::Result<()> {
    let path = directory.path.as_path();
    let shown = path.display();
    if !is_empty(path)? {
        let is_worker = path.join(WORKER_MARK).exists();
        if how.skip && is_worker {
            println!("{shown} is formatted already");
            return Ok(());
        }
        if !is_worker {
            bail!(
                "cannot format {shown} for a worker: it holds something that is not a worker's cache; name another directory, or empty it"
            );
        }
        if !how.may_remove(&format!("the cached blocks in {shown}, those that are in no store yet among them"))? {
            bail!(
                "cannot format {shown} for a worker: it is not empty; name another directory, or drop its cache with --force"
            );
        }
        for entry in WORKER_ENTRIES.map(|name| path.join(name)) {
            remove(&entry).with_context(|| format!("cannot remove {}", entry.display()))?;
        }
    }
    make(path)?;
    println!("Formatted {shown}");
    Ok(())
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a directory holds nothing, or does not exist. Error: it cannot be read, or is no directory.
pub fn is_empty(directory: &Path) -> anyhow::Result<bool> {
    match std::fs::read_dir(directory) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(unusable("read", directory, &error)),
    }
}

/// Makes a directory with all above it; fine if it is there.
pub fn make(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).map_err(|error| unusable("make", directory, &error))
}

fn unusable(verb: &str, path: &Path, error: &std::io::Error) -> anyhow::Error {
    anyhow::anyhow!("cannot {verb} {}: {error}; {}", path.display(), types::remedy(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tier::{Medium, Watermarks};
    use types::Ordinal;

    fn directory(path: &Path) -> DirectoryConfig {
        let (path, watermarks) = (path.to_owned(), Watermarks::default());
        DirectoryConfig { path, tier: Ordinal(0), medium: Medium::Ssd, quota_bytes: 1, watermarks }
    }

    #[test]
    fn a_worker_directory_is_emptied_only_by_force_and_only_of_what_is_a_workers() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (path, how) = (dir.path(), |skip, force| How { skip, force });
        std::fs::write(path.join("thesis.tex"), b"years of work").expect("written");
        let why = format_directory(&how(false, true), &directory(path)).expect_err("refused").to_string();
        assert!(why.contains("not a worker's cache"), "{why}");
        std::fs::remove_file(path.join("thesis.tex")).expect("removed");
        std::fs::create_dir_all(path.join("blocks/00")).expect("made");
        std::fs::write(path.join(WORKER_MARK), b"{}").expect("written");
        let why = format_directory(&how(false, false), &directory(path)).expect_err("refused").to_string();
        assert!(why.contains("with --force"), "{why}");
        format_directory(&how(true, false), &directory(path)).expect("left alone");
        assert!(path.join(WORKER_MARK).exists());
        format_directory(&how(false, true), &directory(path)).expect("emptied");
        assert!(is_empty(path).expect("readable"));
        format_directory(&how(false, false), &directory(&path.join("new"))).expect("made");
    }
}
