//! The command line: what there is to call, and how it is called.

mod docs;
mod format;
mod fs;
mod fsadmin;
mod fsck;
mod get_conf;
mod local;
mod master;
mod ns;
mod read_journal;
mod role;
mod version;
mod worker;

use crate::logging;
use crate::settings::{Inputs, Settings, Source};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use client::FileSystem;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use types::GfsPath;

/// What a command gives back: its exit code, or the one sentence to print.
pub type Done = anyhow::Result<ExitCode>;

/// GooseFS: a cache with a file system in front of object stores.
#[derive(Parser, Debug)]
#[command(name = "goosefs", version, disable_help_subcommand = true, after_help = ROOT_EXAMPLES)]
pub struct Cli {
    /// Sets one setting for this call; may be repeated, and stand anywhere
    #[arg(short = 'D', value_name = "KEY=VALUE", value_parser = key_value)]
    define: Vec<(String, String)>,
    #[command(subcommand)]
    command: Command,
}

const ROOT_EXAMPLES: &str = "Examples:
  goosefs local --dir /tmp/goose                        master and worker here, all state below one directory
  goosefs ns create data s3://bucket/ --wPolicy 3       a bucket as /data
  goosefs fs ls /data
  goosefs getConf --source

Settings come from -D, GOOSEFS_* variables and goosefs-site.properties, see docs/settings.md.";

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs a master until it is stopped
    Master(master::Args),
    /// Runs a worker until it is stopped
    Worker(worker::Args),
    /// Runs master and worker in one process, for one machine
    Local(local::Args),
    /// Prepares empty directories for a new cluster
    Format(format::Args),
    /// Prepares the master's directories for a new cluster
    #[command(name = "formatMaster")]
    FormatMaster(format::MasterArgs),
    /// Prepares the worker's directories for a new cluster
    #[command(name = "formatWorker")]
    FormatWorker(format::RoleArgs),
    /// Works with files
    #[command(subcommand)]
    Fs(fs::Command),
    /// Works with namespaces: stores mounted under a name
    #[command(subcommand)]
    Ns(ns::Command),
    /// Looks after the cluster
    #[command(subcommand)]
    Fsadmin(fsadmin::Command),
    /// Looks through a stopped master's journal and metadata for what is wrong, and repairs what can be
    Fsck(fsck::Args),
    /// Prints a master's log, an entry a line, and changes nothing
    #[command(name = "readJournal")]
    ReadJournal(read_journal::Args),
    /// Shows settings in force and where they come from
    #[command(name = "getConf")]
    GetConf(get_conf::Args),
    /// Shows the release of this program
    Version(version::Args),
    /// Prints generated documents
    #[command(hide = true)]
    Docs(docs::Args),
}

impl Cli {
    /// Runs the chosen command to its end.
    pub fn run(self) -> Done {
        // Nothing but the program itself is asked.
        match self.command {
            Command::Version(args) => return version::run(&args),
            Command::Docs(args) => return docs::run(&args),
            _ => {}
        }
        let settings = Settings::load(&Inputs::of_process(self.define))?;
        match self.command {
            Command::GetConf(args) => get_conf::run(&args, &settings),
            Command::ReadJournal(args) => read_journal::run(&args, &settings),
            Command::Fsck(args) => fsck::run(&args, &settings),
            Command::Master(args) => master::run(args, settings),
            Command::Worker(args) => worker::run(args, settings),
            Command::Local(args) => local::run(args, settings),
            Command::Format(args) => format::run(&args, &settings),
            Command::FormatMaster(args) => format::run_master(&args, &settings),
            Command::FormatWorker(args) => format::run_worker(&args, &settings),
            Command::Fs(command) => with_client(settings, async |context| command.run(&context).await),
            Command::Ns(command) => with_client(settings, async |context| command.run(&context).await),
            Command::Fsadmin(command) => with_client(settings, async |context| command.run(&context).await),
            Command::Version(_) | Command::Docs(_) => unreachable!("answered above"),
        }
    }
}

/// Runs a command that talks to a cluster.
fn with_client(settings: Settings, command: impl AsyncFnOnce(Context) -> Done) -> Done {
    logging::start("warn", None, "client")?;
    for warning in settings.warnings() {
        eprintln!("goosefs: {warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    runtime.block_on(command(Context { settings }))
}

/// What commands that talk to a cluster start from.
pub struct Context {
    pub settings: Settings,
}

impl Context {
    /// Connects as the settings say.
    pub async fn connect(&self) -> anyhow::Result<FileSystem> {
        self.connect_at(&[]).await
    }

    /// Connects as the settings say; if they name no master, as the first path that names one says.
    pub async fn connect_at(&self, paths: &[&PathArg]) -> anyhow::Result<FileSystem> {
        let mut config = crate::settings::roles::client(&self.settings)?;
        let named = ["goosefs.master.rpc.addresses", "goosefs.master.hostname"];
        if named.iter().all(|key| self.settings.source(key) == Source::Default)
            && let Some(path) = paths.iter().find(|path| !path.masters.is_empty())
        {
            config.masters = path.masters.clone();
        }
        Ok(FileSystem::connect(config).await?)
    }
}

/// A path inside GooseFS: `/a/b`, or `gfs://host:9200/a/b`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathArg {
    pub masters: Vec<(String, u16)>,
    pub path: GfsPath,
}

impl std::str::FromStr for PathArg {
    type Err = String;
    fn from_str(text: &str) -> Result<PathArg, String> {
        let rest = ["gfs://", "goosefs://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let (authority, path) = match rest {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", text),
        };
        let path = if rest.is_some() && path.is_empty() { "/" } else { path };
        let masters = authority
            .split(',')
            .filter(|address| !address.is_empty())
            .map(|address| crate::settings::value::address(address).ok_or(address))
            .collect::<Result<_, _>>()
            .map_err(|address| format!("{address:?} is not a master's address such as host:9200"))?;
        Ok(PathArg { masters, path: GfsPath::parse(path).map_err(|e| e.to_string())? })
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        Some(_) | None => Err("write it as key=value".into()),
    }
}

/// Long options of the real product that begin with one dash.
const SINGLE_DASH: [&str; 3] = ["-address", "-live", "-lost"];

/// The arguments as clap wants them: settings first, wherever they stood, and long options with two dashes.
pub fn arguments(mut given: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let program: Vec<OsString> = given.next().into_iter().collect();
    let (mut definitions, mut rest) = (Vec::new(), Vec::new());
    while let Some(argument) = given.next() {
        match argument.to_str() {
            Some("--") => {
                rest.push(argument);
                rest.extend(given.by_ref());
            }
            Some("-D") => definitions.extend([argument].into_iter().chain(given.next())),
            Some(text) if text.starts_with("-D") => definitions.push(argument),
            Some(text) if SINGLE_DASH.contains(&text) => rest.push(format!("-{text}").into()),
            Some(_) | None => rest.push(argument),
        }
    }
    program.into_iter().chain(definitions).chain(rest)
}

/// Options every server takes.
#[derive(clap::Args, Debug)]
pub struct ServerArgs {
    /// Also write the log to a file in this directory
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        fn check(command: &clap::Command) {
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                assert!(sub.get_about().is_some(), "{} has no description", sub.get_name());
                if !sub.has_subcommands() {
                    let example = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                    assert!(example.contains("Example"), "{} has no example", sub.get_name());
                }
                check(sub);
            }
        }
        check(&Cli::command());
    }

    #[test]
    fn paths_may_name_masters() {
        let parse = |text: &str| text.parse::<PathArg>().map(|p| (p.masters.len(), p.path.to_string()));
        assert_eq!(parse("/a//b/"), Ok((0, "/a/b".into())));
        assert_eq!(parse("gfs://h1:9200,h2:9200/a"), Ok((2, "/a".into())));
        assert_eq!(parse("goosefs://h1:9200"), Ok((1, "/".into())));
        assert_eq!(parse("gfs:///a"), Ok((0, "/a".into())));
        assert_eq!(parse("gfs://h1/a"), Err("\"h1\" is not a master's address such as host:9200".into()));
        assert!(parse("a/b").is_err_and(|why| why.contains("is not absolute")));
        assert!(parse(&format!("/{}", "x/".repeat(1000))).is_err_and(|why| why.contains("levels")));
    }

    #[test]
    fn definitions_may_stand_anywhere_and_single_dash_words_are_understood() {
        let parse = |given: &[&str]| Cli::try_parse_from(arguments(given.iter().map(OsString::from)));
        let cli = parse(&["goosefs", "-Da=1", "fs", "ls", "-Dgoosefs.x=y=z", "/", "-D", "b=2"]).expect("parses");
        assert_eq!(cli.define, [("a", "1"), ("goosefs.x", "y=z"), ("b", "2")].map(|(k, v)| (k.into(), v.into())));
        parse(&["goosefs", "fsadmin", "report", "capacity", "-live"]).expect("parses");
        assert!(parse(&["goosefs", "-Dx", "version"]).is_err());
    }

    #[test]
    fn fuzz_path_argument() {
        let samples = ["/a/b", "gfs://host:9200/a", "goosefs://h:1,[::1]:2/x", "gfs://"];
        testkit::fuzz::fuzz("path_argument", &samples.map(|text| text.as_bytes().to_vec()), |bytes| {
            let Ok(argument) = String::from_utf8_lossy(bytes).parse::<PathArg>() else { return };
            assert!(argument.path.as_str().starts_with('/'));
        });
    }
}
