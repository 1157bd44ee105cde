//! What operators ask about the cluster.

use crate::{Error, FileSystem, MasterInfo, Result, WorkerStatus};
use proto::admin::admin_client::AdminClient;
use proto::admin::change_members_request::Step;
use proto::admin::{
    AuditMetadataRequest, AuditMetadataResponse, BackupRequest, BackupResponse as Backup, ChangeMembersRequest,
    CheckpointNowRequest, CompactMetastoreRequest, CompactMetastoreResponse, ElectRequest, MasterInfoRequest,
    MetadataReportRequest, MetadataReportResponse, QuarantinedFile, QuarantinedRequest, SkippedKeysRequest,
    SkippedKeysResponse,
};
use proto::grpc::block::{
    GetCapacityBytesPOptions, GetUsedBytesPOptions, GetWorkerLostStoragePOptions, GetWorkerReportPOptions, WorkerRange,
};
use proto::grpc::file::GetMountTablePRequest;
use proto::grpc::metric::GetMetricsPOptions;
use std::collections::BTreeMap;

/// One metric's value.
#[derive(Clone, PartialEq, Debug)]
pub enum MetricValue {
    Number(f64),
    Text(String),
}

/// One store in the tree.
#[derive(Clone, PartialEq, Debug)]
pub struct Mount {
    pub path: String,
    pub ufs_uri: String,
    pub ufs_type: String,
    /// None: the store does not say.
    pub capacity_bytes: Option<u64>,
    pub used_bytes: Option<u64>,
    pub read_only: bool,
    pub shared: bool,
    pub properties: BTreeMap<String, String>,
}

/// Storage directories of one worker that take no new bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostStorage {
    pub host: String,
    pub port: u16,
    /// Each with the reason, as the worker reported it.
    pub directories: Vec<String>,
}

impl FileSystem {
    /// The leading master's own account of itself and of all tiers.
    pub async fn master_info(&self) -> Result<MasterInfo> {
        self.shared.master.ask("ask", "the master about itself", MasterInfoRequest {}).await
    }

    /// Has the leading master hand over to another one, named as in `goosefs.master.embedded.journal.addresses`.
    pub async fn elect(&self, address: &str) -> Result<()> {
        let request = ElectRequest { address: address.to_owned() };
        self.shared.master.ask("hand the lead over to", address, request).await.map(drop)
    }

    /// Takes a master into the group that waits at `address`.
    pub async fn add_master(&self, address: &str) -> Result<()> {
        self.change_members("add the master", address, Step::Add(address.to_owned())).await
    }

    /// Takes the blank master that waits at `address` into the group in place of the one that was there.
    pub async fn replace_master(&self, address: &str) -> Result<()> {
        self.change_members("replace the master", address, Step::Replace(address.to_owned())).await
    }

    /// Removes a master from the group.
    pub async fn remove_master(&self, address: &str) -> Result<()> {
        self.change_members("remove the master", address, Step::Remove(address.to_owned())).await
    }

    async fn change_members(&self, verb: &'static str, address: &str, step: Step) -> Result<()> {
        self.shared.master.ask(verb, address, ChangeMembersRequest { step: Some(step) }).await.map(drop)
    }

    /// Has the leading master flush its state and cut its log; up to which entry.
    pub async fn checkpoint_now(&self) -> Result<u64> {
        Ok(self.shared.master.ask("ask for", "a checkpoint", CheckpointNowRequest {}).await?.index)
    }

    /// Has the leading master rewrite its metadata database so that removed records take no room; bytes on its disk before and
    /// after.
    ///
    /// - `progress`: called with the bytes there now, about every second.
    ///
    /// Errors: Denied for all but superusers, refused while another one runs, what the database said. A call that is dropped
    /// gives it up within some seconds. Cost: the master reads and writes all of it, besides what it serves.
    pub async fn compact_metastore(&self, mut progress: impl FnMut(u64)) -> Result<(u64, u64)> {
        let call = |service| async move {
            AdminClient::new(service)
                .compact_metastore(CompactMetastoreRequest {})
                .await
                .map(tonic::Response::into_inner)
        };
        let words = |status: tonic::Status| Error::refused("compact", "the metadata database", &status);
        let mut reports = self.shared.master.call("compact", "the metadata database", call).await?;
        let mut last = CompactMetastoreResponse::default();
        while let Some(report) = reports.message().await.map_err(words)? {
            progress(report.bytes);
            last = report;
        }
        Ok((last.bytes_before, last.bytes))
    }

    /// Has the leading master write a backup of its metadata into a directory of the root under store, or, if `local`, of its
    /// own machine. No directory: `goosefs.master.backup.directory`. What was acknowledged before is in it.
    ///
    /// - `progress`: called with the bytes written so far.
    ///
    /// Errors: Denied for all but superusers, refused while another one is being written, what the store or the disk said. A
    /// call that is dropped gives the backup up. Cost: the master reads its whole state, besides what it serves.
    pub async fn backup(&self, directory: Option<&str>, local: bool, mut progress: impl FnMut(u64)) -> Result<Backup> {
        let call = |service| {
            let request = BackupRequest { directory: directory.unwrap_or_default().to_owned(), local };
            async move { AdminClient::new(service).backup(request).await.map(tonic::Response::into_inner) }
        };
        let words = |status: tonic::Status| Error::refused("write", "a backup", &status);
        let mut reports = self.shared.master.call("write", "a backup", call).await?;
        let mut last = Backup::default();
        while let Some(report) = reports.message().await.map_err(words)? {
            progress(report.bytes);
            last = report;
        }
        Ok(last)
    }

    /// What the leading master's metadata consist of and what they take. Errors: Denied for all but superusers. Cost: nothing
    /// that grows with the number of files.
    pub async fn metadata_report(&self) -> Result<MetadataReportResponse> {
        self.shared.master.ask("report on", "the metadata", MetadataReportRequest {}).await
    }

    /// Has the leading master look through its metadata for what does not fit together and, if `repair`, put right what it can.
    ///
    /// - `see`: told of each report; the last one is done.
    ///
    /// Errors: Denied for all but superusers, refused while another audit runs. A call that is dropped ends the audit; what
    /// was repaired stays. Cost: the master reads all its records, beside what it serves.
    pub async fn audit_metadata(&self, repair: bool, mut see: impl FnMut(&AuditMetadataResponse)) -> Result<()> {
        let call = |service| async move {
            AdminClient::new(service)
                .audit_metadata(AuditMetadataRequest { repair })
                .await
                .map(tonic::Response::into_inner)
        };
        let words = |status: tonic::Status| Error::refused("audit", "the metadata", &status);
        let mut reports = self.shared.master.call("audit", "the metadata", call).await?;
        let mut is_done = false;
        while let Some(report) = reports.message().await.map_err(words)? {
            see(&report);
            is_done = report.done;
        }
        match is_done {
            true => Ok(()),
            false => Err(words(tonic::Status::unavailable("the master ended it before its end; run it again"))),
        }
    }

    /// Live and lost workers. Cost: one call; the list the read path uses is another, see `workers`.
    pub async fn worker_report(&self) -> Result<Vec<WorkerStatus>> {
        let options = GetWorkerReportPOptions {
            worker_range: Some(WorkerRange::All.into()),
            ..GetWorkerReportPOptions::default()
        };
        let answer = self.shared.master.ask("report", "workers", options).await?;
        answer.worker_infos.into_iter().map(WorkerStatus::from_wire).collect()
    }

    /// The workers that reported failed storage directories.
    pub async fn lost_storage(&self) -> Result<Vec<LostStorage>> {
        let answer = self.shared.master.ask("ask for", "lost storage", GetWorkerLostStoragePOptions {}).await?;
        let lost = answer.worker_lost_storage_info.into_iter().map(|info| {
            let address = info.address.unwrap_or_default();
            LostStorage {
                host: address.host.unwrap_or_default(),
                port: address.rpc_port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
                directories: info.lost_storage.map(|list| list.storage).unwrap_or_default(),
            }
        });
        Ok(lost.filter(|worker| !worker.directories.is_empty()).collect())
    }

    /// Store keys that cannot be a path, as the master's listings met them since it started. Errors: Denied for all but
    /// superusers.
    pub async fn skipped_keys(&self) -> Result<SkippedKeysResponse> {
        self.shared.master.ask("list", "skipped store keys", SkippedKeysRequest {}).await
    }

    /// Cached blocks of files that this history of the namespace does not know, by worker and file, and how many more blocks the
    /// master does not list. Errors: Denied for all but superusers.
    pub async fn quarantined(&self) -> Result<(Vec<QuarantinedFile>, u64)> {
        let mut files: Vec<QuarantinedFile> = Vec::new();
        loop {
            let last = files.last().map_or((0, 0), |file| (file.worker, file.container));
            let request = QuarantinedRequest { after_worker: last.0, after_container: last.1 };
            let answer = self.shared.master.ask("list", "quarantined blocks", request).await?;
            files.extend(answer.files);
            if !answer.more {
                return Ok((files, answer.not_listed));
            }
        }
    }

    /// Bytes all live workers can cache.
    pub async fn capacity_bytes(&self) -> Result<u64> {
        let answer = self.shared.master.ask("ask for", "the capacity", GetCapacityBytesPOptions {}).await?;
        Ok(u64::try_from(answer.bytes.unwrap_or(0)).unwrap_or(0))
    }

    /// Bytes all live workers have cached.
    pub async fn used_bytes(&self) -> Result<u64> {
        let answer = self.shared.master.ask("ask for", "the used bytes", GetUsedBytesPOptions {}).await?;
        Ok(u64::try_from(answer.bytes.unwrap_or(0)).unwrap_or(0))
    }

    /// Every store in the tree, by path.
    pub async fn mounts(&self) -> Result<Vec<Mount>> {
        let answer = self.shared.master.ask("read", "the mount table", GetMountTablePRequest {}).await?;
        let size = |bytes: Option<i64>| bytes.and_then(|bytes| u64::try_from(bytes).ok());
        let mut mounts: Vec<Mount> = answer
            .mount_points
            .into_iter()
            .map(|(path, info)| Mount {
                path,
                ufs_uri: info.ufs_uri.unwrap_or_default(),
                ufs_type: info.ufs_type.unwrap_or_default(),
                capacity_bytes: size(info.ufs_capacity_bytes),
                used_bytes: size(info.ufs_used_bytes),
                read_only: info.read_only.unwrap_or(false),
                shared: info.shared.unwrap_or(false),
                properties: info.properties.into_iter().collect(),
            })
            .collect();
        mounts.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(mounts)
    }

    /// The cluster's metrics as the master has them, by name.
    pub async fn metrics(&self) -> Result<BTreeMap<String, MetricValue>> {
        let answer = self.shared.master.ask("read", "the metrics", GetMetricsPOptions {}).await?;
        let value = |m: proto::grpc::metric::MetricValue| match m.string_value {
            Some(text) => MetricValue::Text(text),
            None => MetricValue::Number(m.double_value.unwrap_or(0.0)),
        };
        Ok(answer.metrics.into_iter().map(|(name, metric)| (name, value(metric))).collect())
    }
}
