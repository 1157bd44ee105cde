//! `goosefs ns`: one file per command.

mod create;
mod delete;
mod ls;
mod policy;
mod stat;
mod update;

use super::{Context, Done};
use client::{FileSystem, Namespace};
use types::{ReadPolicy, Secret, WriteType};

/// Works with namespaces
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Mounts a store under a name
    Create(create::Args),
    /// Unmounts a store; its data stay
    Delete(delete::Args),
    /// Lists namespaces
    Ls(ls::Args),
    /// Shows one namespace
    Stat(stat::Args),
    /// Changes policies
    #[command(name = "setPolicy")]
    SetPolicy(policy::SetArgs),
    /// Clears policies: CACHE_THROUGH and CACHE hold again
    #[command(name = "unsetPolicy")]
    UnsetPolicy(policy::UnsetArgs),
    /// Replaces properties and credentials while the store stays mounted
    Update(update::Args),
}

impl Command {
    pub async fn run(self, context: &Context) -> Done {
        match self {
            Command::Create(args) => create::run(args, context).await,
            Command::Delete(args) => delete::run(&args, context).await,
            Command::Ls(args) => ls::run(&args, context).await,
            Command::Stat(args) => stat::run(&args, context).await,
            Command::SetPolicy(args) => policy::run_set(&args, context).await,
            Command::UnsetPolicy(args) => policy::run_unset(&args, context).await,
            Command::Update(args) => update::run(args, context).await,
        }
    }
}

/// `--wPolicy` by number or name.
fn parse_write(text: &str) -> Result<WriteType, String> {
    let found = match text.parse() {
        Ok(number) => WriteType::from_number(number),
        Err(_) => WriteType::from_name(&text.to_ascii_uppercase()),
    };
    found.ok_or_else(|| {
        let all: Vec<_> = WriteType::ALL.iter().map(|kind| format!("{} {}", kind.number(), kind.name())).collect();
        format!("a write policy is one of {}", all.join(", "))
    })
}

/// `--rPolicy` by number or name.
fn parse_read(text: &str) -> Result<ReadPolicy, String> {
    let found = match text.parse() {
        Ok(number) => ReadPolicy::from_number(number),
        Err(_) => ReadPolicy::ALL.into_iter().find(|policy| policy.name().eq_ignore_ascii_case(text)),
    };
    found.ok_or_else(|| {
        let all: Vec<_> =
            ReadPolicy::ALL.iter().map(|policy| format!("{} {}", policy.number(), policy.name())).collect();
        format!("a read policy is one of {}", all.join(", "))
    })
}

/// `key=value` whose value must not be shown.
fn parse_secret(text: &str) -> Result<(String, Secret), String> {
    super::key_value(text).map(|(key, value)| (key, Secret::new(value)))
}

/// The namespace of this name. Error: there is none, with those there are.
async fn find(fs: &FileSystem, name: &str) -> anyhow::Result<Namespace> {
    let all = fs.namespaces().await?;
    let names: Vec<String> = all.iter().filter(|ns| !ns.name.is_empty()).map(|ns| ns.name.clone()).collect();
    let wanted = name.trim_matches('/');
    match all.into_iter().find(|namespace| namespace.name == wanted) {
        Some(namespace) => Ok(namespace),
        None if names.is_empty() => {
            anyhow::bail!("there is no namespace {name:?}, nor any other; make one with ns create")
        }
        None => anyhow::bail!("there is no namespace {name:?}; there are {}", names.join(", ")),
    }
}

/// The name of a write policy's number; what holds without one stands in its place.
fn write_name(number: i32) -> &'static str {
    WriteType::from_number(number).unwrap_or(WriteType::CacheThrough).name()
}

fn read_name(number: i32) -> &'static str {
    ReadPolicy::from_number(number).unwrap_or(ReadPolicy::Cache).name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_numbers_or_names() {
        assert_eq!(parse_write("3"), Ok(WriteType::CacheThrough));
        assert_eq!(parse_write("async_through"), Ok(WriteType::AsyncThrough));
        assert!(parse_write("7").is_err_and(|why| why.contains("5 ASYNC_THROUGH")));
        assert_eq!(parse_read("5"), Ok(ReadPolicy::CacheConsistent));
        assert_eq!(parse_read("NO_CACHE"), Ok(ReadPolicy::NoCache));
        assert!(parse_read("0").is_err());
        assert_eq!((write_name(0), read_name(0)), ("CACHE_THROUGH", "CACHE"));
    }
}
