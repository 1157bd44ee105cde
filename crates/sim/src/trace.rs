//! What happened, line by line: hashed always, kept or printed when asked.

use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Keep {
    #[default]
    Digest,
    Lines,
    /// To standard output, as it happens.
    Print,
}

/// The event log of a run.
#[derive(Default)]
pub struct Trace {
    keep: Keep,
    hasher: DefaultHasher,
    line: String,
    pub text: String,
}

impl Trace {
    pub fn new(keep: Keep) -> Trace {
        Trace { keep, ..Trace::default() }
    }

    pub fn line(&mut self, at_us: u64, what: fmt::Arguments<'_>) {
        self.line.clear();
        writeln!(self.line, "{:>7}.{:03} {what}", at_us / 1000, at_us % 1000).expect("a string takes everything");
        self.hasher.write(self.line.as_bytes());
        match self.keep {
            Keep::Digest => {}
            Keep::Lines => self.text.push_str(&self.line),
            Keep::Print => print!("{}", self.line),
        }
    }

    /// The same for two runs that did the same.
    pub fn digest(&self) -> u64 {
        self.hasher.finish()
    }
}
