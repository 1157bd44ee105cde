//! `goosefs fsadmin journal quorum`: one function per verb.

use crate::cmd::{Context, Done};
use anyhow::bail;
use client::MasterInfo;
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a hand-over may take until the other master says that it leads.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Shows every master, who leads, and how far each one's log reaches
    Info(Info),
    /// Hands the lead over to one of them
    Elect(Elect),
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

impl Command {
    pub async fn run(self, context: &Context) -> Done {
        match self {
            Command::Info(args) => info(&args, context).await,
            Command::Elect(args) => elect(&args, context).await,
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
    fs.elect(&args.address).await?;
    let deadline = Instant::now() + HANDED_OVER_WITHIN;
    loop {
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

fn layout(info: &MasterInfo) -> String {
    if info.members.is_empty() {
        return format!("This master is alone: {}\n", info.rpc_address);
    }
    let mut out = format!("Journal quorum: term {}, committed {}\n", info.term, info.committed_index);
    for member in &info.members {
        let role = if member.leads { "LEADER" } else { "FOLLOWER" };
        let state = if member.active { "AVAILABLE" } else { "UNAVAILABLE" };
        out.push_str(&format!("    {}  {role}  {state}  acknowledged {}\n", member.address, member.acknowledged_index));
    }
    out
}

fn document(info: &MasterInfo) -> serde_json::Value {
    let member = |m: &proto::admin::Member| json!({ "id": m.id, "address": m.address, "leads": m.leads, "available": m.active, "acknowledgedIndex": m.acknowledged_index });
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
        };
        let members = vec![member(1, false, true, 41), member(2, true, true, 42), member(3, false, false, 7)];
        let info = MasterInfo { members, term: 3, committed_index: 42, ..MasterInfo::default() };
        assert_eq!(
            layout(&info),
            "Journal quorum: term 3, committed 42
    m1:9202  FOLLOWER  AVAILABLE  acknowledged 41
    m2:9202  LEADER  AVAILABLE  acknowledged 42
    m3:9202  FOLLOWER  UNAVAILABLE  acknowledged 7
"
        );
    }
}
