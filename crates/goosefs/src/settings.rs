//! Settings: one table, three sources, every value checked before anything starts.
//!
//! Is:     what a process was told, with the place each value came from.
//! Owns:   precedence, `${key}` references, and the sentences about wrong keys and values.
//! Never:  reads a clock, opens a socket, keeps a default outside the table.

mod document;
mod nearest;
mod properties;
pub mod roles;
mod source;
pub mod table;
pub mod value;

pub use document::markdown;
pub use source::{Inputs, Source};
pub use table::Role;
pub use value::Value;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How deep `${key}` may lead to another `${key}`.
const MAX_REFERENCES: usize = 8;
/// What is shown instead of a secret.
pub const HIDDEN: &str = "******";

/// Why settings cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cannot read settings from {}: {source}; make it readable or move it away", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}:{line} is not a line of a properties file: {why}", path.display())]
    BadLine { path: PathBuf, line: usize, why: &'static str },
    #[error("setting {key} = \"{value}\" ({source}) is not valid: expected {expected}", source = .from)]
    BadValue { key: String, value: String, from: Source, expected: String },
    #[error("setting {key} ({source}) is not known{}; correct or remove it", suggestion(.nearest), source = .from)]
    Unknown { key: String, from: Source, nearest: Option<&'static str> },
    #[error("setting {key} is not known{}", suggestion(.nearest))]
    NoSuchKey { key: String, nearest: Option<&'static str> },
    #[error("setting {key} ({source}) refers to ${{{reference}}}, which {why}", source = .from)]
    Reference { key: String, from: Source, reference: String, why: &'static str },
    #[error("{first} and {second} both set {key}, to different values; keep one")]
    Conflict { key: String, first: Source, second: Source },
    #[error("setting {key} is needed and not set; {hint}")]
    Missing { key: String, hint: &'static str },
    #[error("setting {key} = \"{value}\" ({source}) cannot be used: {why}", source = .from)]
    Unusable { key: String, value: String, from: Source, why: String },
}

fn suggestion(key: &Option<&'static str>) -> String {
    key.map_or(String::new(), |key| format!("; the nearest known one is {key}"))
}

/// One value and who set it.
#[derive(Clone, Debug)]
struct Entry {
    text: String,
    source: Source,
}

/// All settings of one process. Every value parses and every reference leads somewhere: checked by [`Settings::load`].
#[derive(Clone, Debug)]
pub struct Settings {
    set: BTreeMap<String, Entry>,
    warnings: Vec<String>,
}

impl Settings {
    /// Reads and checks everything. Unknown keys are kept: whether they matter depends on the role,
    /// see [`Settings::check_for_server`].
    pub fn load(inputs: &Inputs) -> Result<Settings, Error> {
        let (found, warnings) = inputs.collect()?;
        let mut settings = Settings { set: BTreeMap::new(), warnings };
        for f in found {
            let key = canonical(&f.key);
            match settings.set.get(&key) {
                None => {
                    settings.set.insert(key, Entry { text: f.text, source: f.source });
                }
                // Two variables, or two spellings in one file: neither is stronger. A repeated flag is: the last counts.
                Some(earlier) if same_rank(&earlier.source, &f.source) => {
                    if f.source == Source::Flag {
                        settings.set.insert(key, Entry { text: f.text, source: f.source });
                    } else if earlier.text != f.text {
                        return Err(Error::Conflict { key, first: earlier.source.clone(), second: f.source });
                    }
                }
                Some(_) => {}
            }
        }
        settings.check_values()?;
        Ok(settings)
    }

    fn check_values(&self) -> Result<(), Error> {
        for key in self.set.keys() {
            if let Some(row) = table::find(key) {
                self.parse(key, row)?;
            }
        }
        Ok(())
    }

    /// What a server must not overlook: stops at an unknown `goosefs.master.*` or `goosefs.worker.*` key.
    pub fn check_for_server(&self) -> Result<(), Error> {
        let unknown = self.unknown().find(|(key, _)| is_server_key(key));
        match unknown {
            Some((key, entry)) => {
                Err(Error::Unknown { key: key.clone(), from: entry.source.clone(), nearest: nearest_key(key) })
            }
            None => Ok(()),
        }
    }

    fn unknown(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.set.iter().filter(|(key, _)| table::find(key).is_none())
    }

    /// Sentences about keys and variables that have no effect because nobody knows them.
    pub fn warnings(&self) -> Vec<String> {
        let unknown = self.unknown().map(|(key, entry)| {
            format!("setting {key} ({}) is not known and has no effect{}", entry.source, suggestion(&nearest_key(key)))
        });
        self.warnings.iter().cloned().chain(unknown).collect()
    }

    /// Sentences about keys that the real product has and that do nothing here.
    pub fn unneeded(&self) -> Vec<String> {
        let row = |key: &String| table::find(key).filter(|row| row.role == Role::Nobody);
        self.set
            .iter()
            .filter_map(|(key, e)| Some(format!("{key} ({}) has no effect: {}", e.source, row(key)?.about)))
            .collect()
    }

    /// Sets what a command's own option says. Only `-D` is stronger.
    pub fn set_by_option(&mut self, option: &'static str, key: &str, text: impl Into<String>) -> Result<(), Error> {
        self.insert(key, text.into(), Source::Option(option))
    }

    /// Sets a default of one command. Anything somebody set is stronger.
    pub fn set_default(&mut self, key: &str, text: impl Into<String>) -> Result<(), Error> {
        self.insert(key, text.into(), Source::Default)
    }

    fn insert(&mut self, key: &str, text: String, source: Source) -> Result<(), Error> {
        if self.set.get(key).is_none_or(|there| there.source >= source) {
            self.set.insert(key.to_owned(), Entry { text, source });
        }
        self.check_values()
    }

    /// Who set `key`.
    pub fn source(&self, key: &str) -> Source {
        self.set.get(&canonical(key)).map_or(Source::Default, |entry| entry.source.clone())
    }

    /// The text of `key` with references filled in; None when unset and without default.
    /// Errors: an unknown key, a reference that leads nowhere.
    pub fn text(&self, key: &str) -> Result<Option<String>, Error> {
        let key = canonical(key);
        if table::find(&key).is_none() && !self.set.contains_key(&key) {
            return Err(Error::NoSuchKey { nearest: nearest_key(&key), key });
        }
        let text = self.resolve(&key, MAX_REFERENCES)?;
        Ok((!text.is_empty()).then_some(text))
    }

    fn resolve(&self, key: &str, depth: usize) -> Result<String, Error> {
        let default = || table::find(key).map_or("", |row| row.default);
        let text = self.set.get(key).map_or_else(default, |entry| &entry.text);
        let bad = |reference: &str, why| Error::Reference {
            key: key.to_owned(),
            from: self.source(key),
            reference: reference.to_owned(),
            why,
        };
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((reference, after)) = after.split_once('}') else { break };
            if depth == 0 {
                return Err(bad(reference, "refers back to itself or through too many others"));
            }
            if table::find(reference).is_none() && !self.set.contains_key(reference) {
                return Err(bad(reference, "is no known setting"));
            }
            out.push_str(before);
            out.push_str(&self.resolve(&canonical(reference), depth - 1)?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn parse(&self, key: &str, row: &table::Setting) -> Result<Option<Value>, Error> {
        let text = self.resolve(key, MAX_REFERENCES)?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        let hide = |text: String| if table::is_secret(key) { HIDDEN.to_owned() } else { text };
        row.kind.parse(&text).map(Some).map_err(|expected| Error::BadValue {
            key: key.to_owned(),
            value: hide(text),
            from: self.source(key),
            expected,
        })
    }

    /// The checked value of a key of the table; None when unset.
    pub fn value(&self, key: &str) -> Option<Value> {
        let key = canonical(key);
        let row = table::find(&key).expect("roles ask for keys of the table only; a test asks for all of them");
        self.parse(&key, row).expect("load checked every value, and a test every default")
    }

    /// Keys set by somebody, or having a default, in order, with the text a user may see and its source.
    pub fn shown(&self) -> Vec<(String, String, Source)> {
        let mut keys: Vec<String> =
            table::TABLE.iter().filter(|row| !row.is_pattern()).map(|row| row.key.to_owned()).collect();
        for level in 0..self.count("goosefs.worker.tieredstore.levels") {
            let instances = table::TABLE.iter().filter(|row| row.key.contains("level{x}"));
            keys.extend(instances.map(|row| row.key.replace("{x}", &level.to_string())));
        }
        keys.extend(self.set.keys().cloned());
        keys.sort();
        keys.dedup();
        keys.into_iter()
            .map(|key| {
                let (text, source) = (self.shown_text(&key), self.source(&key));
                (key, text, source)
            })
            .collect()
    }

    /// The text of `key` as a user may see it.
    pub fn shown_text(&self, key: &str) -> String {
        let text = self.resolve(&canonical(key), MAX_REFERENCES).unwrap_or_default();
        if table::is_secret(key) && !text.is_empty() { HIDDEN.to_owned() } else { text }
    }

    /// Every key below `prefix` that is set, without the prefix, and its text.
    pub fn below(&self, prefix: &str) -> BTreeMap<String, String> {
        let keys = self.set.keys().filter_map(|key| Some((key.strip_prefix(prefix)?, key)));
        keys.map(|(rest, key)| (rest.to_owned(), self.resolve(key, MAX_REFERENCES).unwrap_or_default())).collect()
    }
}

/// Typed access for the roles. Each takes a key of the table whose kind it is.
impl Settings {
    /// A size; None when unset.
    pub fn bytes_if_set(&self, key: &str) -> Option<u64> {
        self.value(key).map(|value| match value {
            Value::Bytes(bytes) => bytes,
            other => wrong_kind(key, &other),
        })
    }

    /// A size of a key that has a default.
    pub fn bytes(&self, key: &str) -> u64 {
        self.bytes_if_set(key).unwrap_or_else(|| no_default(key))
    }

    /// A time; None when switched off with -1.
    pub fn duration_or_off(&self, key: &str) -> Option<Duration> {
        match self.value(key) {
            Some(Value::Duration(time)) => time,
            Some(other) => wrong_kind(key, &other),
            None => no_default(key),
        }
    }

    /// A time that cannot be switched off. Error: it is -1.
    pub fn duration(&self, key: &str) -> Result<Duration, Error> {
        self.duration_or_off(key).ok_or_else(|| Error::BadValue {
            key: key.to_owned(),
            value: "-1".into(),
            from: self.source(key),
            expected: "a time; this one cannot be switched off".into(),
        })
    }

    pub fn switch(&self, key: &str) -> bool {
        match self.value(key) {
            Some(Value::Bool(on)) => on,
            Some(other) => wrong_kind(key, &other),
            None => no_default(key),
        }
    }

    /// A number of a key whose range begins at 0 or above.
    pub fn count(&self, key: &str) -> u64 {
        match self.value(key) {
            Some(Value::Int(number)) => u64::try_from(number).expect("the table's range begins at 0 or above"),
            Some(other) => wrong_kind(key, &other),
            None => no_default(key),
        }
    }

    pub fn port(&self, key: &str) -> u16 {
        u16::try_from(self.count(key)).expect("the table bounds ports")
    }

    pub fn ratio(&self, key: &str) -> f64 {
        match self.value(key) {
            Some(Value::Ratio(ratio)) => ratio,
            Some(other) => wrong_kind(key, &other),
            None => no_default(key),
        }
    }

    /// A text, path or word; None when unset.
    pub fn word_if_set(&self, key: &str) -> Option<String> {
        self.value(key).map(|value| match value {
            Value::Text(text) => text,
            other => wrong_kind(key, &other),
        })
    }

    /// A text, path or word of a key that has a default.
    pub fn word(&self, key: &str) -> String {
        self.word_if_set(key).unwrap_or_else(|| no_default(key))
    }

    pub fn path(&self, key: &str) -> PathBuf {
        self.word(key).into()
    }

    /// Values separated by commas; empty when unset.
    pub fn list(&self, key: &str) -> Vec<String> {
        match self.value(key) {
            Some(Value::List(items)) => items,
            Some(other) => wrong_kind(key, &other),
            None => Vec::new(),
        }
    }

    /// Addresses; empty when unset.
    pub fn addresses(&self, key: &str) -> Vec<(String, u16)> {
        match self.value(key) {
            Some(Value::Addresses(addresses)) => addresses,
            Some(other) => wrong_kind(key, &other),
            None => Vec::new(),
        }
    }
}

fn wrong_kind(key: &str, value: &Value) -> ! {
    panic!("{key} is asked for as another kind than the table gives it: {value:?}")
}

fn no_default(key: &str) -> ! {
    panic!("{key} is taken for set, but the table gives it no default")
}

/// The table's own spelling: aliases become the key they stand for.
fn canonical(key: &str) -> String {
    match table::find(key) {
        Some(row) if !row.is_pattern() => row.key.to_owned(),
        Some(_) | None => key.to_owned(),
    }
}

fn same_rank(a: &Source, b: &Source) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

fn is_server_key(key: &str) -> bool {
    key.starts_with("goosefs.master.") || key.starts_with("goosefs.worker.")
}

fn nearest_key(key: &str) -> Option<&'static str> {
    nearest::nearest(key, table::TABLE.iter().map(|row| row.key))
}

#[cfg(test)]
mod tests;
