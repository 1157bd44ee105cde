//! `goosefs master`

use super::role::{self, DRAIN, Stop};
use super::{Done, ServerArgs};
use crate::settings::{Settings, roles};
use ::master::{Ended, Master};
use rpc::{SystemClock, SystemEntropy};
use std::os::unix::process::CommandExt as _;
use std::sync::Arc;

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs formatMaster && goosefs master --log-dir /var/log/goosefs")]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// Most masters of the group are lost for good: this one goes on alone, from what it has, as a new incarnation. Read
    /// docs/losing-a-master.md first: what only the lost ones had is gone, and they must never be started again
    #[arg(long = "recover-from-quorum-loss")]
    recover_from_quorum_loss: bool,
}

pub fn run(args: Args, settings: Settings) -> Done {
    role::run("master", args.server.log_dir.as_deref(), &settings, || {
        let mut config = roles::master(&settings)?;
        match &mut config.group {
            Some(group) => group.recover = args.recover_from_quorum_loss,
            None if args.recover_from_quorum_loss => {
                anyhow::bail!(
                    "--recover-from-quorum-loss is for one of several masters; this one is alone: just start it"
                )
            }
            None => {}
        }
        Ok(async move {
            let mut stop = Stop::listen()?;
            let starting = Master::start(config, Arc::new(SystemClock), Arc::new(SystemEntropy));
            // One that waits to be taken into a group may be told to stop.
            let Some(master) = stop.unless_asked(starting).await else { return Ok(()) };
            let master = master?;
            let (rpc, web, internal) = (master.rpc_addr(), master.web_addr(), master.internal_addr());
            tracing::info!(%rpc, %web, %internal, "master ready");
            let failed = async {
                match master.ended().await {
                    Ended::Failed(why) => why,
                    Ended::Reopen => begin_anew(),
                }
            };
            let asked = stop.asked(failed).await;
            let stopped = stop.while_stopping(master.stop(DRAIN)).await;
            asked?;
            Ok(stopped?)
        })
    })
}

/// Puts this program, with the same arguments, in the place of this process: nothing of the old state is left open, and the
/// start installs the snapshot. Why that failed, if it did.
fn begin_anew() -> String {
    tracing::info!("beginning anew from the snapshot");
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            return format!(
                "a snapshot is here, and this program cannot be found to begin anew: {error}; start it again"
            );
        }
    };
    let error = std::process::Command::new(&program)
        .args(std::env::args_os().skip(1).filter(|arg| arg != "--recover-from-quorum-loss"))
        .exec();
    format!("a snapshot is here, and {} cannot begin anew: {error}; start it again", program.display())
}
