//! Gives a worker its id, which it keeps over restarts and blank disks, and a new epoch.

use crate::effect::Done;
use crate::entry::RegisterWorker;
use crate::key::worker_key;
use crate::record::WorkerRecord;
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::Family;
use types::{SessionEpoch, WorkerId};

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &RegisterWorker) -> Outcome {
    let id = choose(step, op)?;

    let epoch = SessionEpoch(step.at.0);
    let record = WorkerRecord {
        id,
        host: op.host.clone(),
        rpc_port: op.rpc_port,
        web_port: op.web_port,
        epoch,
        identity: op.identity,
    };
    step.txn.put(Family::Workers, worker_key(id), &record);
    Ok(Done::Worker { id, epoch })
}

fn choose(step: &Step<'_, '_>, op: &RegisterWorker) -> Result<WorkerId, Reject> {
    let workers = &step.index.workers;
    let known = match op.worker {
        Some(id) => workers.get(&id),
        // Its disks, else its address, tell who it was.
        None => workers
            .values()
            .find(|known| known.identity == op.identity)
            .or_else(|| workers.values().find(|known| known.host == op.host && known.rpc_port == op.rpc_port)),
    };
    match (known, op.worker) {
        (Some(known), _) if known.identity == op.identity || op.session_lost => Ok(known.id),
        (Some(known), _) => Err(Reject::WorkerTwice(known.id)),
        (None, Some(id)) => Ok(id),
        (None, None) if workers.contains_key(&op.new_id) => {
            Err(Reject::Busy(format!("{} was just given to another worker; register again", op.new_id)))
        }
        (None, None) => Ok(op.new_id),
    }
}
