//! Where log lines go.
//!
//! Is:     tracing to standard error, and to a file per role when asked.
//! Owns:   the filter: `RUST_LOG`, else INFO for servers and WARN for commands.
//! Never:  sees a secret: those cannot be printed.

use anyhow::anyhow;
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt};
use types::remedy;

/// Sends log lines to standard error and, when `directory` is given, to `<directory>/<role>.log` too.
/// Errors: the directory or file cannot be made.
pub fn start(default: &str, directory: Option<&Path>, role: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new(default))?;
    let (writer, colours) = match directory {
        None => (BoxMakeWriter::new(std::io::stderr), std::io::stderr().is_terminal()),
        Some(directory) => {
            let path = directory.join(format!("{role}.log"));
            std::fs::create_dir_all(directory)
                .and_then(|()| OpenOptions::new().create(true).append(true).open(&path))
                .map(|file| (BoxMakeWriter::new(std::io::stderr.and(Arc::new(file))), false))
                .map_err(|error| anyhow!("cannot write the log {}: {error}; {}", path.display(), remedy(&error)))?
        }
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colours).init();
    Ok(())
}
