//! WorkerManagerMasterClientService: membership and capacity, for official clients. A standby answers the worker list from
//! its own table, because old clients never ask another master; the rest is the leader's.

use super::caller;
use super::file_info::net_address;
use crate::error::Error;
use crate::registry::{State, Worker};
use crate::shared::Shared;
use proto::grpc::WorkerStatus;
use proto::grpc::block::worker_manager_master_client_service_server::WorkerManagerMasterClientService;
use proto::grpc::block::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// How long a worker list waits for workers the log knows, once one is live.
const KNOWN_WORKERS: Duration = Duration::from_secs(5);
/// How long it waits for any worker at all.
const ANY_WORKER: Duration = Duration::from_secs(60);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);
/// Ids of workers that registered within this time after the start are waited for.
type Answer<T> = Result<Response<T>, Status>;

pub struct WorkerManager(pub Arc<Shared>);

impl WorkerManager {
    /// Clients remember an empty list for life, so none is ever sent.
    async fn settled(&self) -> Result<(), Error> {
        let begun = self.0.clock.monotonic();
        loop {
            let now = self.0.clock.monotonic();
            let (live, expected) = {
                let registry = self.0.registry.lock();
                (registry.live(), registry.expected())
            };
            let waited_for_known = now - self.0.started >= KNOWN_WORKERS;
            if live > 0 && (expected == 0 || waited_for_known) {
                return Ok(());
            }
            if now - begun >= ANY_WORKER {
                return Err(Error::Starting("no worker has registered yet"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn info(&self, worker: &Worker) -> WorkerInfo {
        let silent = self.0.clock.monotonic() - worker.last_contact;
        let live = worker.state == State::Live;
        WorkerInfo {
            id: Some(worker.id.0.cast_signed()),
            address: Some(net_address(worker)),
            last_contact_sec: i32::try_from(silent.as_secs()).ok(),
            state: Some(if live { WorkerStatus::Active } else { WorkerStatus::Inactive } as i32),
            capacity_bytes: Some(worker.capacity_bytes().cast_signed()),
            used_bytes: Some(worker.used_bytes().cast_signed()),
            cache_used_bytes: Some(worker.used_bytes().saturating_sub(worker.persist_used_bytes).cast_signed()),
            persist_used_bytes: Some(worker.persist_used_bytes.cast_signed()),
            start_time_ms: Some(worker.started_unix_ms),
            virtual_node_num: i32::try_from(self.0.config.virtual_nodes).ok(),
            alive: Some(live),
            forbid_write: Some(false),
            ..WorkerInfo::default()
        }
    }

    fn infos(&self, wanted: impl Fn(&Worker) -> bool) -> GetWorkerInfoListPResponse {
        let registry = self.0.registry.lock();
        GetWorkerInfoListPResponse {
            worker_infos: registry.list().filter(|worker| wanted(worker)).map(|worker| self.info(worker)).collect(),
            last_updated_timestamp: Some(self.0.clock.unix().0),
        }
    }

    fn sum(&self, of: impl Fn(&Worker) -> u64) -> i64 {
        let registry = self.0.registry.lock();
        registry.list().filter(|worker| worker.state == State::Live).map(of).sum::<u64>().cast_signed()
    }
}

#[tonic::async_trait]
impl WorkerManagerMasterClientService for WorkerManager {
    async fn get_worker_info_list(&self, _: Request<GetWorkerInfoListPOptions>) -> Answer<GetWorkerInfoListPResponse> {
        self.settled().await?;
        Ok(Response::new(self.infos(|worker| worker.state == State::Live)))
    }

    async fn get_worker_report(&self, request: Request<GetWorkerReportPOptions>) -> Answer<GetWorkerInfoListPResponse> {
        caller(&request)?;
        self.0.must_lead()?;
        let options = request.into_inner();
        let named: BTreeSet<String> = options.addresses.iter().cloned().collect();
        let range = options.worker_range();
        Ok(Response::new(self.infos(|worker| match range {
            WorkerRange::All => true,
            WorkerRange::Live => worker.state == State::Live,
            WorkerRange::Lost => worker.state == State::Lost,
            WorkerRange::Specified => {
                named.contains(&worker.host) || named.contains(&format!("{}:{}", worker.host, worker.rpc_port))
            }
            WorkerRange::ForbidWrite => false,
        })))
    }

    async fn get_worker_manager_master_info(
        &self,
        request: Request<GetWorkerManagerMasterInfoPOptions>,
    ) -> Answer<GetWorkerManagerMasterInfoPResponse> {
        caller(&request)?;
        self.0.must_lead()?;
        let (capacity, used) = (self.sum(Worker::capacity_bytes), self.sum(Worker::used_bytes));
        let (live, lost) = {
            let registry = self.0.registry.lock();
            (registry.live(), registry.lost())
        };
        let info = WorkerManagerMasterInfo {
            capacity_bytes: Some(capacity),
            free_bytes: Some(capacity - used),
            used_bytes: Some(used),
            live_worker_num: i32::try_from(live).ok(),
            lost_worker_num: i32::try_from(lost).ok(),
        };
        Ok(Response::new(GetWorkerManagerMasterInfoPResponse { worker_manager_master_info: Some(info) }))
    }

    async fn get_capacity_bytes(
        &self,
        request: Request<GetCapacityBytesPOptions>,
    ) -> Answer<GetCapacityBytesPResponse> {
        caller(&request)?;
        self.0.must_lead()?;
        Ok(Response::new(GetCapacityBytesPResponse { bytes: Some(self.sum(Worker::capacity_bytes)) }))
    }

    async fn get_used_bytes(&self, request: Request<GetUsedBytesPOptions>) -> Answer<GetUsedBytesPResponse> {
        caller(&request)?;
        self.0.must_lead()?;
        Ok(Response::new(GetUsedBytesPResponse { bytes: Some(self.sum(Worker::used_bytes)) }))
    }

    async fn get_worker_lost_storage(
        &self,
        request: Request<GetWorkerLostStoragePOptions>,
    ) -> Answer<GetWorkerLostStoragePResponse> {
        caller(&request)?;
        self.0.must_lead()?;
        let registry = self.0.registry.lock();
        let lost = |worker: &Worker| {
            let storage: Vec<String> = worker
                .directories
                .iter()
                .filter(|directory| !directory.lost.is_empty())
                .map(|directory| format!("{} ({})", directory.path, directory.lost))
                .collect();
            (!storage.is_empty()).then(|| WorkerLostStorageInfo {
                address: Some(net_address(worker)),
                lost_storage: Some(StorageList { storage }),
            })
        };
        let worker_lost_storage_info = registry.list().filter_map(lost).collect();
        Ok(Response::new(GetWorkerLostStoragePResponse { worker_lost_storage_info }))
    }
}
