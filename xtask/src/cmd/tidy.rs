//! `cargo xtask tidy`: the rules of the house that a compiler does not know.
//!
//! Is:     a list of problems, each with its place and what to do.
//! Never:  changes a file, except the picture in ARCHITECTURE.md with `--write`.

mod documents;
mod layers;
mod picture;
mod sources;

use crate::tree::{self, Tree};
use anyhow::{Result, bail};
use clap::Args;
use std::fmt;
use std::path::Path;

/// Check layers, documents and sources against the rules of the house
#[derive(Args, Debug)]
pub struct Tidy {
    /// Redraw the crate picture in ARCHITECTURE.md
    #[arg(long)]
    pub write: bool,
}

/// Something that must be mended before it lands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Problem {
    file: String,
    /// Counted from 1; 0 for the file as a whole.
    line: usize,
    what: String,
}

impl Problem {
    fn new(file: &str, line: usize, what: impl Into<String>) -> Problem {
        Problem { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

impl Tidy {
    pub fn run(self) -> Result<()> {
        if self.is_clean(&tree::root()?)? { Ok(()) } else { bail!("tidy found what must be mended") }
    }

    /// Prints the problems; whether there are none.
    pub fn is_clean(&self, root: &Path) -> Result<bool> {
        let tree = Tree::of_git(root)?;
        let crates = layers::read(&tree)?;
        let mut problems = layers::check(&crates);
        problems.extend(picture::check(&tree, &crates, self.write)?);
        problems.extend(documents::check(&tree, &crates, &crate::command_names())?);
        problems.extend(sources::check(&tree, std::env::var("HOME").ok().as_deref())?);
        problems.sort();
        for problem in &problems {
            println!("{problem}");
        }
        Ok(problems.is_empty())
    }
}
