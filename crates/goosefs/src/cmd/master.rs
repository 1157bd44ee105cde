//! `goosefs master`

use super::role::{self, DRAIN, Stop};
use super::{Done, ServerArgs};
use crate::settings::{Settings, roles};
use ::master::Master;
use rpc::{SystemClock, SystemEntropy};
use std::sync::Arc;

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs formatMaster && goosefs master --log-dir /var/log/goosefs")]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

pub fn run(args: Args, settings: Settings) -> Done {
    role::run("master", args.server.log_dir.as_deref(), &settings, || {
        let config = roles::master(&settings)?;
        Ok(async move {
            let mut stop = Stop::listen()?;
            let master = Master::start(config, Arc::new(SystemClock), Arc::new(SystemEntropy)).await?;
            let (rpc, web, internal) = (master.rpc_addr(), master.web_addr(), master.internal_addr());
            tracing::info!(%rpc, %web, %internal, "master ready");
            let asked = stop.asked(master.failed()).await;
            let stopped = stop.while_stopping(master.stop(DRAIN)).await;
            asked?;
            Ok(stopped?)
        })
    })
}
