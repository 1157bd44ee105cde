//! The `goosefs` program: servers and commands behind one name.
//!
//! Is:     flags, settings, the choice of what to run.
//! Owns:   the settings table, the layouts of commands, exit codes, log files.
//! Never:  decides anything about files; `master`, `worker` and `client` do.

mod cmd;
mod logging;
mod output;
mod progress;
mod settings;

/// A master's work is a fifth cheaper by it (docs/design/0013-rocksdb-settings.md). RocksDB has the system's.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(test)]
#[global_allocator]
static ALLOCATOR: testkit::fuzz::Metered = testkit::fuzz::Metered;

use clap::Parser;
use std::process::ExitCode;

/// A command was called wrongly.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = match cmd::Cli::try_parse_from(cmd::arguments(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and are no failure. Nothing is left to do if printing fails.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.run() {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("goosefs: {}", types::sentence(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Whoever read our output has seen enough, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.into_iter().any(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}
