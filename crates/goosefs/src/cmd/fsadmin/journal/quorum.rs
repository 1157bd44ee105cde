//! `goosefs fsadmin journal quorum`: one function per verb.

use crate::cmd::{Context, Done};
use anyhow::bail;
use client::{FileSystem, MasterInfo};
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a hand-over may take until the other master says that it leads.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether a new master has caught up.
const JOIN_LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Shows every master, who leads, and how far each one's log reaches
    Info(Info),
    /// Hands the lead over to one of them
    Elect(Elect),
    /// Takes a master into the group that was formatted with `formatMaster --join` and started
    Add(Join),
    /// Takes such a master in, in place of the one at the same address whose disk was lost
    Replace(Join),
    /// Removes a master from the group for good
    Remove(Remove),
}

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fsadmin journal quorum info --json")]
pub struct Info {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fsadmin journal quorum elect -address master2:9202")]
pub struct Elect {
    /// The master, as in goosefs.master.embedded.journal.addresses
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
}

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs fsadmin journal quorum add -address master4:9202\n  goosefs fsadmin journal quorum replace -address master2:9202"
)]
pub struct Join {
    /// Where the other masters reach it: its goosefs.master.hostname and goosefs.master.embedded.journal.port
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
    /// Return at once; the leading master does the rest by itself
    #[arg(long = "no-wait")]
    no_wait: bool,
    /// How long to wait until it has caught up and votes, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
}

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fsadmin journal quorum remove -address master4:9202")]
pub struct Remove {
    /// The master, as fsadmin journal quorum info shows it
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
}

impl Command {
    pub async fn run(self, context: &Context) -> Done {
        match self {
            Command::Info(args) => info(&args, context).await,
            Command::Elect(args) => elect(&args, context).await,
            Command::Add(args) => {
                let fs = context.connect().await?;
                fs.add_master(&args.address).await?;
                joined(&args, &fs).await
            }
            Command::Replace(args) => {
                let fs = context.connect().await?;
                fs.replace_master(&args.address).await?;
                joined(&args, &fs).await
            }
            Command::Remove(args) => {
                context.connect().await?.remove_master(&args.address).await?;
                println!(
                    "{} is no longer one of the masters; stop it, and take it out of the settings of the others",
                    args.address
                );
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

async fn info(args: &Info, context: &Context) -> Done {
    let info = context.connect().await?.master_info().await?;
    if args.json {
        println!("{}", document(&info));
    } else {
        print!("{}", layout(&info));
    }
    Ok(ExitCode::SUCCESS)
}

async fn elect(args: &Elect, context: &Context) -> Done {
    let fs = context.connect().await?;
    let deadline = Instant::now() + HANDED_OVER_WITHIN;
    let mut ask_at = Instant::now();
    loop {
        // One that just began promises its leader silence for a moment, and a hand-over in that moment comes to nothing.
        if Instant::now() >= ask_at {
            fs.elect(&args.address).await?;
            ask_at = Instant::now() + ASK_EVERY;
        }
        let info = fs.master_info().await?;
        if info.members.iter().any(|member| member.leads && member.address == args.address) {
            println!("{} leads", args.address);
            return Ok(ExitCode::SUCCESS);
        }
        if Instant::now() >= deadline {
            bail!(
                "{} did not take over within {} s; it may be down or far behind: see fsadmin journal quorum info",
                args.address,
                HANDED_OVER_WITHIN.as_secs()
            );
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits until the only master at the address is a voter.
async fn joined(args: &Join, fs: &FileSystem) -> Done {
    let address = &args.address;
    if args.no_wait {
        println!("{address} is a learner; it votes as soon as it has caught up");
        return Ok(ExitCode::SUCCESS);
    }
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    loop {
        let info = fs.master_info().await?;
        let here: Vec<_> = info.members.iter().filter(|member| member.address == *address).collect();
        if let [only] = here[..]
            && !only.learner
        {
            println!("{address} has caught up and votes");
            return Ok(ExitCode::SUCCESS);
        }
        if here.is_empty() {
            bail!("{address} was removed from the group meanwhile");
        }
        if Instant::now() >= deadline {
            bail!(
                "{address} has not caught up within {} s; it votes as soon as it has: see fsadmin journal quorum info. Does it run, formatted with `goosefs formatMaster --join`?",
                args.timeout
            );
        }
        sleep(JOIN_LOOK_EVERY).await;
    }
}

fn layout(info: &MasterInfo) -> String {
    if info.members.is_empty() {
        return format!("This master is alone: {}\n", info.rpc_address);
    }
    let mut out = format!("Journal quorum: term {}, committed {}\n", info.term, info.committed_index);
    for member in &info.members {
        let role = match (member.leads, member.learner) {
            (true, _) => "LEADER",
            (false, true) => "LEARNER",
            (false, false) => "FOLLOWER",
        };
        let snapshot = if member.needs_snapshot { "  needs a snapshot" } else { "" };
        let state = if member.active { "AVAILABLE" } else { "UNAVAILABLE" };
        let (address, acknowledged) = (&member.address, member.acknowledged_index);
        let priority = if member.priority > 0 { format!("  priority {}", member.priority) } else { String::new() };
        out.push_str(&format!("    {address}  {role}  {state}  acknowledged {acknowledged}{priority}{snapshot}\n"));
    }
    out
}

fn document(info: &MasterInfo) -> serde_json::Value {
    let member = |m: &proto::admin::Member| json!({ "id": m.id, "address": m.address, "leads": m.leads, "available": m.active, "acknowledgedIndex": m.acknowledged_index, "learner": m.learner, "needsSnapshot": m.needs_snapshot, "priority": m.priority });
    json!({
        "term": info.term,
        "committedIndex": info.committed_index,
        "members": info.members.iter().map(member).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::admin::Member;

    #[test]
    fn the_group_is_shown_one_master_a_line() {
        let member = |id, leads, active, acknowledged_index| Member {
            id,
            address: format!("m{id}:9202"),
            leads,
            active,
            acknowledged_index,
            learner: id == 4,
            needs_snapshot: id == 4,
            priority: u32::from(id == 2),
        };
        let members = vec![
            member(1, false, true, 41),
            member(2, true, true, 42),
            member(3, false, false, 7),
            member(4, false, true, 0),
        ];
        let info = MasterInfo { members, term: 3, committed_index: 42, ..MasterInfo::default() };
        assert_eq!(
            layout(&info),
            "Journal quorum: term 3, committed 42
    m1:9202  FOLLOWER  AVAILABLE  acknowledged 41
    m2:9202  LEADER  AVAILABLE  acknowledged 42  priority 1
    m3:9202  FOLLOWER  UNAVAILABLE  acknowledged 7
    m4:9202  LEARNER  AVAILABLE  acknowledged 0  needs a snapshot
"
        );
    }
}
