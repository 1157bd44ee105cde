//! `goosefs worker`

use super::role::{self, DRAIN, Stop};
use super::{Done, ServerArgs};
use crate::settings::{Settings, roles};
use ::worker::{Env, Worker};

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example:\n  goosefs worker -Dgoosefs.master.hostname=m1 -Dgoosefs.worker.tieredstore.level0.dirs.path=/ssd"
)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

pub fn run(args: Args, settings: Settings) -> Done {
    role::run("worker", args.server.log_dir.as_deref(), &settings, || {
        let config = roles::worker(&settings)?;
        Ok(async move {
            let mut stop = Stop::listen()?;
            let worker = Worker::start(config, Env::system()).await?;
            let (rpc, web) = (worker.rpc_addr(), worker.web_addr());
            tracing::info!(%rpc, %web, "worker ready");
            let asked = stop.asked(std::future::pending()).await;
            stop.while_stopping(worker.stop(DRAIN)).await;
            asked
        })
    })
}
