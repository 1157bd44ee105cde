//! `goosefs fs`: one file per command.

mod attributes;
mod cat;
mod checksum;
mod copy;
mod count;
mod cp;
mod du;
mod free;
mod head;
mod load;
mod load_metadata;
mod location;
mod ls;
mod many;
mod mkdir;
mod mv;
mod persist;
mod rm;
mod stat;
mod tail;
mod test;
mod totals;
mod touch;
mod walk;

use super::{Context, Done};

/// Works with files
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Prints files to standard output
    Cat(cat::Args),
    /// Prints the MD5 of a file's content
    Checksum(checksum::Args),
    /// Changes the group
    Chgrp(attributes::ChgrpArgs),
    /// Changes the mode
    Chmod(attributes::ChmodArgs),
    /// Changes the owner, and the group with owner:group
    Chown(attributes::ChownArgs),
    /// Copies local files into GooseFS
    #[command(name = "copyFromLocal")]
    CopyFromLocal(cp::FromLocalArgs),
    /// Copies files out of GooseFS to local ones
    #[command(name = "copyToLocal")]
    CopyToLocal(cp::LocalArgs),
    /// Counts files, directories and bytes
    Count(count::Args),
    /// Copies files within GooseFS; file:// names a local one
    Cp(cp::Args),
    /// Shows how much files take, and how much of them is cached
    Du(du::Args),
    /// Drops cached data; the under store keeps its copy
    Free(free::Args),
    /// Shows the bytes all workers can cache
    #[command(name = "getCapacityBytes")]
    GetCapacityBytes(totals::Args),
    /// Shows the bytes all workers have cached
    #[command(name = "getUsedBytes")]
    GetUsedBytes(totals::Args),
    /// Prints the beginning of a file
    Head(head::Args),
    /// Brings files into the cache
    Load(load::Args),
    /// Brings the entries of directories in from the under store
    #[command(name = "loadMetadata")]
    LoadMetadata(load_metadata::Args),
    /// Shows which workers hold each block of a file
    Location(location::Args),
    /// Lists a directory
    Ls(ls::Args),
    /// Makes directories, missing parents too
    Mkdir(mkdir::Args),
    /// Renames a file or directory
    Mv(mv::Args),
    /// Uploads cached files to the under store
    Persist(persist::Args),
    /// Removes files and directories
    Rm(rm::Args),
    /// Shows everything known about a path
    Stat(stat::Args),
    /// Prints the end of a file
    Tail(tail::Args),
    /// Exits with 0 if something holds for a path, else with 1
    Test(test::Args),
    /// Makes an empty file
    Touch(touch::Args),
}

impl Command {
    pub async fn run(self, context: &Context) -> Done {
        match self {
            Command::Cat(args) => cat::run(&args, context).await,
            Command::Checksum(args) => checksum::run(&args, context).await,
            Command::Chgrp(args) => args.run(context).await,
            Command::Chmod(args) => args.run(context).await,
            Command::Chown(args) => args.run(context).await,
            Command::CopyFromLocal(args) => cp::run_from_local(args, context).await,
            Command::CopyToLocal(args) => cp::run_to_local(args, context).await,
            Command::Count(args) => count::run(&args, context).await,
            Command::Cp(args) => cp::run(args, context).await,
            Command::Du(args) => du::run(&args, context).await,
            Command::Free(args) => free::run(&args, context).await,
            Command::GetCapacityBytes(args) => totals::run_capacity(&args, context).await,
            Command::GetUsedBytes(args) => totals::run_used(&args, context).await,
            Command::Head(args) => head::run(&args, context).await,
            Command::Load(args) => load::run(&args, context).await,
            Command::LoadMetadata(args) => load_metadata::run(&args, context).await,
            Command::Location(args) => location::run(&args, context).await,
            Command::Ls(args) => ls::run(&args, context).await,
            Command::Mkdir(args) => mkdir::run(&args, context).await,
            Command::Mv(args) => mv::run(&args, context).await,
            Command::Persist(args) => persist::run(&args, context).await,
            Command::Rm(args) => rm::run(&args, context).await,
            Command::Stat(args) => stat::run(&args, context).await,
            Command::Tail(args) => tail::run(&args, context).await,
            Command::Test(args) => test::run(&args, context).await,
            Command::Touch(args) => touch::run(&args, context).await,
        }
    }
}
