//! `goosefs fs chmod`, `chown` and `chgrp`: one change, three spellings.

use crate::cmd::{Context, Done, PathArg};
use client::SetAttributes;
use std::process::ExitCode;
use types::Mode;

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fs chmod -R 750 /data")]
pub struct ChmodArgs {
    /// Octal, such as 644
    #[arg(value_parser = parse_mode)]
    mode: Mode,
    #[arg(value_name = "PATH")]
    path: PathArg,
    /// Everything below a directory too
    #[arg(short = 'R', long)]
    recursive: bool,
}

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  goosefs fs chown alice /data\n  goosefs fs chown -R alice:team /data")]
pub struct ChownArgs {
    /// A user, or user:group
    #[arg(value_name = "OWNER[:GROUP]", value_parser = parse_owner)]
    owner: (String, Option<String>),
    #[arg(value_name = "PATH")]
    path: PathArg,
    /// Everything below a directory too
    #[arg(short = 'R', long)]
    recursive: bool,
}

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fs chgrp -R team /data")]
pub struct ChgrpArgs {
    group: String,
    #[arg(value_name = "PATH")]
    path: PathArg,
    /// Everything below a directory too
    #[arg(short = 'R', long)]
    recursive: bool,
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    // The wire of clients has no room for more than the nine bits.
    let bits = u16::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o777);
    bits.map(Mode::new).ok_or_else(|| "a mode is an octal number from 000 to 777, such as 644".into())
}

fn parse_owner(text: &str) -> Result<(String, Option<String>), String> {
    let (owner, group) = match text.split_once(':') {
        Some((owner, group)) => (owner, Some(group)),
        None => (text, None),
    };
    if owner.is_empty() || group.is_some_and(str::is_empty) {
        return Err("write it as owner or owner:group".into());
    }
    Ok((owner.to_owned(), group.map(str::to_owned)))
}

impl ChmodArgs {
    pub async fn run(self, context: &Context) -> Done {
        let said = format!("Changed permission of {} to {:o}", self.path.path, self.mode.bits());
        let change = SetAttributes { mode: Some(self.mode), recursive: self.recursive, ..SetAttributes::default() };
        set(context, &self.path, change, said).await
    }
}

impl ChownArgs {
    pub async fn run(self, context: &Context) -> Done {
        let (owner, group) = self.owner;
        let mut said = format!("Changed owner of {} to {owner}", self.path.path);
        if let Some(group) = &group {
            said = format!("Changed owner:group of {} to {owner}:{group}", self.path.path);
        }
        let change = SetAttributes { owner: Some(owner), group, recursive: self.recursive, ..SetAttributes::default() };
        set(context, &self.path, change, said).await
    }
}

impl ChgrpArgs {
    pub async fn run(self, context: &Context) -> Done {
        let said = format!("Changed group of {} to {}", self.path.path, self.group);
        let change = SetAttributes { group: Some(self.group), recursive: self.recursive, ..SetAttributes::default() };
        set(context, &self.path, change, said).await
    }
}

async fn set(context: &Context, path: &PathArg, change: SetAttributes, said: String) -> Done {
    context.connect_at(&[path]).await?.set_attributes(&path.path, change).await?;
    println!("{said}");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_owners() {
        assert_eq!(parse_mode("0640").map(Mode::bits), Ok(0o640));
        assert!(parse_mode("888").is_err() && parse_mode("1777").is_err() && parse_mode("rwx").is_err());
        assert_eq!(parse_owner("a:b"), Ok(("a".into(), Some("b".into()))));
        assert_eq!(parse_owner("a"), Ok(("a".into(), None)));
        assert!(parse_owner(":b").is_err() && parse_owner("a:").is_err());
    }
}
