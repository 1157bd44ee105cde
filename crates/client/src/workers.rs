//! The workers: who is live, who failed lately, who holds or should hold a block.

use crate::link::{self, kind_of};
use crate::master::Master;
use crate::status::BlockStatus;
use crate::{ClientConfig, Error, Result, WorkerStatus};
use parking_lot::Mutex;
use placement::{Member, Ring};
use proto::grpc::block::GetWorkerInfoListPOptions;
use rpc::{Connection, Pool};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tonic::Status;
use types::{BlockId, ErrorKind, WorkerId};

/// Age at which the list is asked for again.
const LIST_LIFETIME: Duration = Duration::from_secs(30);
/// How long a caller waits for a new list when there is an old one: about an election.
const LIST_PATIENCE: Duration = Duration::from_secs(1);
/// When an old list is asked about again that no master answered for.
const LIST_AGAIN: Duration = Duration::from_secs(5);
/// Connections to one worker.
const CONNECTIONS: usize = 1;
/// How long a worker that failed is passed over.
const FAILED_FOR: Duration = Duration::from_secs(60);

/// The live workers at one moment, and the ring they form.
pub(crate) struct Live {
    pub members: Vec<WorkerStatus>,
    ring: Ring,
}

#[derive(Default)]
struct Known {
    /// Those of the last answer, and when the master is asked again.
    live: Option<(Arc<Live>, Instant)>,
    failed: HashMap<WorkerId, Instant>,
}

pub(crate) struct Workers {
    config: Arc<ClientConfig>,
    known: Mutex<Known>,
    connections: Pool,
}

impl Live {
    pub(crate) fn new(mut members: Vec<WorkerStatus>) -> Live {
        // In one order everywhere: where two points of the ring fall together, the later member has them.
        members.sort_by_key(|worker| worker.worker);
        let on_ring: Vec<Member> = members
            .iter()
            .map(|w| Member { id: w.worker, host: w.host.clone(), virtual_nodes: w.virtual_nodes })
            .collect();
        Live { ring: Ring::new(&on_ring), members }
    }

    fn get(&self, id: WorkerId) -> Option<&WorkerStatus> {
        self.members.iter().find(|worker| worker.worker == id)
    }

    /// Workers to read `block` from, best first: those that report it, then those that should have it. Failed ones
    /// only when nobody else is left. At most `count`, empty only when no worker is live.
    pub(crate) fn sources(
        &self,
        block: &BlockStatus,
        count: usize,
        failed: impl Fn(WorkerId) -> bool,
    ) -> Vec<WorkerStatus> {
        let reported = block.locations.iter().map(|at| at.worker).filter(|id| !failed(*id));
        let placed = self.ring.candidates(block.block, count, &failed);
        let mut chosen = self.distinct(reported.chain(placed), count);
        if chosen.is_empty() {
            let reported = block.locations.iter().map(|at| at.worker);
            chosen = self.distinct(reported.chain(self.ring.candidates(block.block, count, |_| false)), count);
        }
        chosen
    }

    fn distinct(&self, ids: impl Iterator<Item = WorkerId>, count: usize) -> Vec<WorkerStatus> {
        let mut chosen: Vec<WorkerStatus> = Vec::with_capacity(count);
        for worker in ids.filter_map(|id| self.get(id)) {
            if chosen.len() < count && chosen.iter().all(|there| there.worker != worker.worker) {
                chosen.push(worker.clone());
            }
        }
        chosen
    }

    /// Workers `block` is to be written to, best first, among those `fit`.
    pub(crate) fn targets(
        &self,
        block: BlockId,
        count: usize,
        fit: impl Fn(&WorkerStatus) -> bool,
    ) -> Vec<WorkerStatus> {
        let ids = self.ring.candidates(block, count, |id| !self.get(id).is_some_and(&fit));
        self.distinct(ids.into_iter(), count)
    }
}

impl Workers {
    pub(crate) fn new(config: Arc<ClientConfig>) -> Workers {
        let connections = Pool::new(link::identity(&config), CONNECTIONS);
        Workers { config, known: Mutex::default(), connections }
    }

    /// The live workers; asked of the master at most every [`LIST_LIFETIME`]. While no master answers, those of its last
    /// answer. Error: none is live.
    pub(crate) async fn live(&self, master: &Master, verb: &'static str, subject: &str) -> Result<Arc<Live>> {
        let kept = {
            let mut known = self.known.lock();
            match &mut known.live {
                Some((live, ask_at)) if Instant::now() < *ask_at => return Ok(live.clone()),
                Some((live, ask_at)) => {
                    // One caller asks, the others go on meanwhile.
                    *ask_at = Instant::now() + LIST_AGAIN;
                    Some(live.clone())
                }
                None => None,
            }
        };
        let asked = self.ask(master, verb, subject);
        let Some(kept) = kept else { return asked.await };
        match timeout(LIST_PATIENCE, asked).await {
            Ok(Err(error)) if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => Err(error),
            Ok(Ok(live)) => Ok(live),
            Ok(Err(_)) | Err(_) => {
                tracing::debug!(verb, subject, "no master names the workers: going on with those known");
                Ok(kept)
            }
        }
    }

    async fn ask(&self, master: &Master, verb: &'static str, subject: &str) -> Result<Arc<Live>> {
        let answer = master.ask("list", "workers", GetWorkerInfoListPOptions {}).await?;
        let members = answer.worker_infos.into_iter().map(WorkerStatus::from_wire).collect::<Result<Vec<_>>>()?;
        if members.is_empty() {
            return Err(Error::NoWorker { verb, subject: subject.to_owned() });
        }
        let live = Arc::new(Live::new(members));
        let mut known = self.known.lock();
        known.live = Some((live.clone(), Instant::now() + LIST_LIFETIME));
        known.failed.retain(|_, at| at.elapsed() < FAILED_FOR);
        Ok(live)
    }

    pub(crate) fn has_failed(&self, id: WorkerId) -> bool {
        self.known.lock().failed.get(&id).is_some_and(|at| at.elapsed() < FAILED_FOR)
    }

    /// What a failed call on `connection` means for later ones: a broken connection is opened anew, and a worker that
    /// is unreachable is passed over for a while.
    pub(crate) fn note_failure(&self, worker: &WorkerStatus, connection: &Arc<Connection>, status: &Status) {
        let kind = kind_of(status);
        self.connections.observe(connection, kind);
        if kind == ErrorKind::Unavailable {
            self.pass_over(worker, status);
        }
    }

    fn pass_over(&self, worker: &WorkerStatus, why: &Status) {
        tracing::debug!(worker = %worker.worker, host = %worker.host, why = why.message(), "passed over for a while");
        self.known.lock().failed.insert(worker.worker, Instant::now());
    }

    /// A connection to `worker`, opened if need be. Error: it cannot be reached, and is passed over from now on.
    pub(crate) async fn connection(&self, worker: &WorkerStatus) -> std::result::Result<Arc<Connection>, Status> {
        let deadline = Instant::now() + self.config.connect_timeout;
        let opened = self.connections.get(&link::address(&worker.host, worker.port), deadline).await;
        opened.map_err(|error| {
            let status = link::status_of(&error);
            self.pass_over(worker, &status);
            status
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Location, WorkerState};
    use types::{ContainerId, UnixMs};

    fn worker(id: u64) -> WorkerStatus {
        WorkerStatus {
            worker: WorkerId(id),
            host: format!("h{id}"),
            port: 1,
            state: WorkerState::Active,
            alive: true,
            last_contact_s: 0,
            capacity_bytes: 0,
            used_bytes: 0,
            persist_used_bytes: 0,
            started: UnixMs(0),
            virtual_nodes: 50,
            forbid_write: false,
        }
    }

    fn block(locations: &[u64]) -> BlockStatus {
        let locations = locations.iter().map(|id| Location { worker: WorkerId(*id), host: format!("h{id}"), port: 1 });
        let block = ContainerId(9).block(0).expect("a small index");
        BlockStatus { block, offset: 0, length: 1, locations: locations.collect() }
    }

    fn ids(workers: &[WorkerStatus]) -> Vec<u64> {
        workers.iter().map(|w| w.worker.0).collect()
    }

    #[test]
    fn reported_places_come_first_and_strangers_are_left_out() {
        let live = Live::new((1..=5).map(worker).collect());
        let ring = ids(&live.sources(&block(&[]), 3, |_| false));
        assert_eq!(ring.len(), 3);
        let unlikely = (1..=5).find(|id| !ring.contains(id)).expect("two of five are not named");
        let found = ids(&live.sources(&block(&[99, unlikely]), 3, |_| false));
        assert_eq!(found, [unlikely, ring[0], ring[1]]);
    }

    #[test]
    fn failed_workers_are_asked_only_when_nobody_else_is_left() {
        let live = Live::new((1..=3).map(worker).collect());
        let all = ids(&live.sources(&block(&[2]), 3, |_| false));
        let without = ids(&live.sources(&block(&[2]), 3, |id| id == WorkerId(2)));
        assert!(!without.contains(&2) && without.len() == 2, "{without:?}");
        assert_eq!(ids(&live.sources(&block(&[2]), 3, |_| true)), all);
    }

    #[tokio::test]
    async fn while_no_master_answers_the_workers_are_those_of_its_last_answer() {
        let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let masters = vec![("127.0.0.1".to_owned(), nobody.expect("a free port").port())];
        let config = Arc::new(ClientConfig { masters, ..ClientConfig::default() });
        let (workers, master) = (Workers::new(config.clone()), Master::new(config));
        workers.known.lock().live = Some((Arc::new(Live::new(vec![worker(7)])), Instant::now()));
        let live = workers.live(&master, "read", "/file").await.expect("the last ones");
        assert_eq!(ids(&live.members), [7]);
        let ask_at = workers.known.lock().live.as_ref().map(|(_, ask_at)| *ask_at);
        assert!(ask_at.is_some_and(|at| at > Instant::now()), "not asked by every reader");
    }

    #[test]
    fn writes_go_to_workers_that_fit() {
        let live = Live::new((1..=4).map(worker).collect());
        let block = block(&[]).block;
        let all = ids(&live.targets(block, 2, |_| true));
        let rest = ids(&live.targets(block, 2, |w| w.worker.0 != all[0]));
        assert_eq!(rest[0], all[1], "the order stays, the unfit one is passed over");
        assert!(live.targets(block, 2, |_| false).is_empty());
    }
}
