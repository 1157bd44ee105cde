//! Where settings come from: `-D` flags, environment variables, one site file.
//!
//! Is:     the search for the site file, and the names variables have.
//! Owns:   the order of the search and the special names of the official clients.
//! Never:  checks a value.

use super::Error;
use super::properties;
use super::table::TABLE;
use std::fmt;
use std::path::{Path, PathBuf};

/// Name of the site file.
pub const SITE_FILE: &str = "goosefs-site.properties";

/// Who set a value; later variants give way to earlier ones.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Source {
    /// `-D key=value`.
    Flag,
    /// A command's own option, such as `--dir` of `goosefs local`.
    Option(&'static str),
    Variable(String),
    File {
        path: PathBuf,
        line: usize,
    },
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("-D"),
            Source::Option(name) => f.write_str(name),
            Source::Variable(name) => write!(f, "environment variable {name}"),
            Source::File { path, line } => write!(f, "{}:{line}", path.display()),
            Source::Default => f.write_str("default"),
        }
    }
}

/// One value as it was found, before any check.
#[derive(Clone, Debug)]
pub struct Found {
    pub key: String,
    pub text: String,
    pub source: Source,
}

/// Everything the outside says.
#[derive(Clone, Default, Debug)]
pub struct Inputs {
    /// `key=value`, as given with `-D`.
    pub flags: Vec<(String, String)>,
    /// The environment, whole.
    pub variables: Vec<(String, String)>,
    /// Directories to search for the site file, in order; the first that has one ends the search.
    pub directories: Vec<PathBuf>,
    /// The site file itself, when a variable names it.
    pub file: Option<PathBuf>,
}

impl Inputs {
    /// What this process was started with.
    pub fn of_process(flags: Vec<(String, String)>) -> Inputs {
        let variables: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let variable = |wanted: &str| {
            variables.iter().find(|(name, value)| name == wanted && !value.is_empty()).map(|(_, v)| PathBuf::from(v))
        };
        let conf = match variable("GOOSEFS_HOME") {
            Some(home) => home.join("conf"),
            None => PathBuf::from("conf"),
        };
        let directories = [
            variable("GOOSEFS_CONF_DIR"),
            Some(conf),
            variable("HOME").map(|home| home.join(".goosefs")),
            Some(PathBuf::from("/etc/goosefs")),
        ];
        let file = variable("GOOSEFS_CONFIG_FILE");
        Inputs { flags, directories: directories.into_iter().flatten().collect(), file, variables }
    }

    /// All values, strongest source first, and warnings about variables nobody knows.
    pub fn collect(&self) -> Result<(Vec<Found>, Vec<String>), Error> {
        let mut found = Vec::new();
        for (key, text) in &self.flags {
            found.push(Found { key: key.clone(), text: text.clone(), source: Source::Flag });
        }
        let mut warnings = Vec::new();
        for (name, text) in &self.variables {
            match key_of_variable(name) {
                Variable::Key(key) if !text.is_empty() => {
                    found.push(Found { key, text: text.clone(), source: Source::Variable(name.clone()) });
                }
                Variable::Key(_) | Variable::Other => {}
                Variable::Unknown => {
                    warnings.push(format!("environment variable {name} is not known and has no effect"))
                }
            }
        }
        match &self.file {
            Some(path) => found.extend(read_site_file(path)?),
            None => {
                if let Some(path) = self.directories.iter().map(|dir| dir.join(SITE_FILE)).find(|path| path.is_file()) {
                    found.extend(read_site_file(&path)?);
                }
            }
        }
        Ok((found, warnings))
    }
}

fn read_site_file(path: &Path) -> Result<Vec<Found>, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Error::BadLine { path: path.to_owned(), line, why: "the text is not UTF-8" }
    })?;
    let properties = properties::parse(&text).map_err(|bad| Error::BadLine {
        path: path.to_owned(),
        line: bad.line,
        why: bad.why,
    })?;
    let mut found: Vec<Found> = Vec::with_capacity(properties.len());
    for p in properties {
        // As Java has it, the last of two entries counts.
        found.retain(|earlier| earlier.key != p.key);
        found.push(Found { key: p.key, text: p.value, source: Source::File { path: path.to_owned(), line: p.line } });
    }
    Ok(found)
}

/// Names the official clients and scripts use beside `GOOSEFS_A_B` for `goosefs.a.b`.
const SPECIAL_VARIABLES: &[(&str, &str)] = &[
    ("GOOSEFS_MASTER_ADDR", "goosefs.master.rpc.addresses"),
    ("GOOSEFS_AUTH_TYPE", "goosefs.security.authentication.type"),
    ("GOOSEFS_AUTH_USERNAME", "goosefs.security.login.username"),
    ("GOOSEFS_LOGIN_IMPERSONATION_USERNAME", "goosefs.security.login.impersonation.username"),
    ("GOOSEFS_AUTHORIZATION_PERMISSION_ENABLED", "goosefs.security.authorization.permission.enabled"),
    ("GOOSEFS_BLOCK_SIZE", "goosefs.user.block.size.bytes.default"),
    ("GOOSEFS_CHUNK_SIZE", "goosefs.user.network.data.transfer.chunk.size"),
    ("GOOSEFS_WRITE_TYPE", "goosefs.user.file.writetype.default"),
    ("GOOSEFS_FILE_METADATA_LOAD_TYPE", "goosefs.user.file.metadata.load.type"),
    ("GOOSEFS_FILE_METADATA_SYNC_INTERVAL", "goosefs.user.file.metadata.sync.interval"),
    ("GOOSEFS_METADATA_CACHE_ENABLED", "goosefs.user.metadata.cache.enabled"),
    ("GOOSEFS_METADATA_CACHE_EXPIRATION", "goosefs.user.metadata.cache.expiration.time"),
    ("GOOSEFS_METADATA_CACHE_MAX_SIZE", "goosefs.user.metadata.cache.max.size"),
    ("GOOSEFS_METRICS_PUSHGATEWAY_PUSH_INTERVAL_MS", "goosefs.metrics.pushgateway.push.interval"),
    ("GOOSEFS_MASTER_CONNECTION_POOL_SIZE", "goosefs.user.master.connection.pool.size"),
    ("GOOSEFS_MASTER_POOL_SCHEDULE", "goosefs.user.master.pool.schedule"),
    ("GOOSEFS_WORKER_CONNECTION_POOL_SIZE", "goosefs.user.worker.connection.pool.size"),
    ("GOOSEFS_TRANSPARENT_ACCELERATION_ENABLED", "goosefs.user.client.transparent_acceleration.enabled"),
    (
        "GOOSEFS_TRANSPARENT_ACCELERATION_COSRANGER_ENABLED",
        "goosefs.user.client.transparent_acceleration.cosranger.enabled",
    ),
    ("GOOSEFS_USER_METRICS_HEARTBEAT_INTERVAL_MS", "goosefs.user.metrics.heartbeat.interval"),
    ("USER_LOCAL_WRITE_UFS_CLIENT_ENABLED", "goosefs.user.local.write.ufs.client.enabled"),
];

/// Variables that steer the search or the scripts of the real product, and are no settings.
const OTHER_VARIABLES: &[&str] = &["GOOSEFS_CONF_DIR", "GOOSEFS_CONFIG_FILE"];

enum Variable {
    Key(String),
    /// Known, or none of ours.
    Other,
    Unknown,
}

fn key_of_variable(name: &str) -> Variable {
    if let Some((_, key)) = SPECIAL_VARIABLES.iter().find(|(special, _)| *special == name) {
        return Variable::Key((*key).to_owned());
    }
    if !name.starts_with("GOOSEFS_") || OTHER_VARIABLES.contains(&name) || name.ends_with("_JAVA_OPTS") {
        return Variable::Other;
    }
    let plain = TABLE.iter().filter(|row| !row.is_pattern()).flat_map(|row| row.aliases.iter().chain([&row.key]));
    if let Some(key) = plain.into_iter().find(|key| variable_of_key(key) == name) {
        return Variable::Key((*key).to_owned());
    }
    // A pattern's own part may hold underscores; what follows it is taken to hold dots only.
    let instance = TABLE.iter().filter(|row| row.is_pattern()).find_map(|row| {
        let own = row.key.split('{').next().unwrap_or_default();
        let rest = name.strip_prefix(&variable_of_key(own))?;
        let key = format!("{own}{}", rest.to_ascii_lowercase().replace('_', "."));
        row.matches(&key).then_some(key)
    });
    instance.map_or(Variable::Unknown, Variable::Key)
}

/// `goosefs.a.b` as the environment spells it: `GOOSEFS_A_B`.
pub fn variable_of_key(key: &str) -> String {
    key.to_ascii_uppercase().replace(['.', '-'], "_")
}
