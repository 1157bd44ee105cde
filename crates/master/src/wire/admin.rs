//! goosefs.v1: what operators want and the official contract does not carry.

use super::caller;
use super::file_system::FileSystem;
use super::namespace::{Wish, empty_update};
use crate::audits::Audits;
use crate::backup::{Backups, Destination};
use crate::compaction::Compactions;
use crate::error::Error;
use crate::registry::{Registry, State, Worker};
use crate::room::Short;
use crate::shared::Shared;
use journal::{Change, MemberId, Membership, Seat};
use meta::{Mount, Op};
use proto::admin::admin_server::Admin;
use proto::admin::*;
use proto::convert;
use std::sync::Arc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};
use types::{ContainerId, WorkerId, WriteType};

/// Files named in one answer.
const FILES_PER_ANSWER: usize = 10_000;

type Answer<T> = Result<Response<T>, Status>;

pub struct Operators {
    pub fs: FileSystem,
    pub backups: Arc<Backups>,
    pub audits: Arc<Audits>,
    pub compactions: Compactions,
}

fn write_policy(number: i32) -> Result<Option<WriteType>, Error> {
    if number == 0 {
        return Ok(None);
    }
    let policy = WriteType::from_number(number);
    policy
        .map(Some)
        .ok_or_else(|| Error::Invalid(format!("write policy {number} is unknown; pass 1 to 6, or 0 for none")))
}

fn namespace(mount: &Mount) -> Namespace {
    Namespace {
        name: mount.path.file_name().to_owned(),
        path: mount.path.as_str().to_owned(),
        ufs_uri: mount.uri.clone(),
        mount_id: mount.id.0,
        read_only: mount.read_only,
        shared: mount.shared,
        write_policy: mount.write_policy.map_or(0, WriteType::number),
        read_policy: convert::read_policy::to_admin(mount.read_policy),
        created_unix_ms: mount.created.0,
        properties: mount.properties.clone().into_iter().collect(),
        secret_names: mount.secrets.keys().cloned().collect(),
    }
}

/// What comes after a file of a worker, by worker and file.
fn quarantined(registry: &Registry, after: WorkerId, container: ContainerId) -> QuarantinedResponse {
    let mut answer = QuarantinedResponse {
        not_listed: registry.list().map(Worker::not_listed).sum(),
        ..QuarantinedResponse::default()
    };
    for worker in registry.list().filter(|worker| worker.id >= after) {
        let from = if worker.id == after { ContainerId(container.0.saturating_add(1)) } else { ContainerId(0) };
        for (block, bytes) in worker.quarantine(from) {
            let file = (worker.id.0, block.container().0);
            if answer.files.last().is_none_or(|last| (last.worker, last.container) != file) {
                if answer.files.len() == FILES_PER_ANSWER {
                    answer.more = true;
                    return answer;
                }
                answer.files.push(QuarantinedFile {
                    worker: worker.id.0,
                    host: worker.host.clone(),
                    rpc_port: u32::from(worker.rpc_port),
                    container: block.container().0,
                    blocks: 0,
                    bytes: 0,
                });
            }
            if let Some(last) = answer.files.last_mut() {
                last.blocks += 1;
                last.bytes += bytes;
            }
        }
    }
    answer
}

fn skipped_directory(at: &meta::Status, skipped: &ufs::Skipped) -> SkippedDirectory {
    let samples = skipped.samples.iter();
    SkippedDirectory {
        path: at.spot.path.as_str().to_owned(),
        mount: at.mount.path.as_str().to_owned(),
        ufs_uri: at.mount.uri.clone(),
        count: skipped.count,
        samples: samples.map(|sample| SkippedKey { key: sample.key.clone(), why: sample.why.clone() }).collect(),
    }
}

/// The group, as its leader sees it.
fn members(shared: &Arc<Shared>) -> Vec<Member> {
    let view = shared.group();
    let member = |(id, seat): (MemberId, &Seat)| {
        let leads = view.leader == Some(id);
        let follower = view.followers.iter().find(|follower| follower.id == id);
        Member {
            id: id.0,
            address: seat.address.clone(),
            learner: !seat.voter,
            needs_snapshot: follower.is_some_and(|follower| follower.needs_snapshot),
            leads,
            active: leads || follower.is_some_and(|follower| follower.active),
            priority: match view.own == Some(id) {
                true => shared.config.group.as_ref().map_or(0, |group| group.priority),
                false => view.met.get(&id).map_or(0, |said| said.priority),
            },
            acknowledged_index: follower.map_or(view.committed.0, |follower| follower.acknowledged.0),
        }
    };
    view.members.as_ref().map(|group| group.iter().map(member).collect()).unwrap_or_default()
}

/// The masters whose disks are short of room.
fn short_of_room(shared: &Arc<Shared>, own_address: &str) -> Vec<ShortOfRoom> {
    let view = shared.group();
    let own = shared.rooms.own();
    let all: Vec<(String, Short)> = match &view.members {
        None => vec![(own_address.to_owned(), own)],
        Some(group) => {
            let of = |id| if view.own == Some(id) { own } else { shared.rooms.of(id) };
            group.iter().map(|(id, seat)| (seat.address.clone(), of(id))).collect()
        }
    };
    let short = all.into_iter().filter(|(_, short)| short.is_any());
    short.map(|(master, Short { journal, metastore })| ShortOfRoom { master, journal, metastore }).collect()
}

/// Who the members are; refused by a master alone.
fn group_of(shared: &Arc<Shared>) -> Result<Arc<Membership>, Error> {
    shared
        .group()
        .members
        .ok_or_else(|| Error::Refused("this master is alone: it was not formatted as one of a group".to_owned()))
}

/// The member at an address.
fn member_at(group: &Membership, address: &str) -> Result<MemberId, Error> {
    let found: Vec<MemberId> = group.at(address).collect();
    match found[..] {
        [only] => Ok(only),
        [] => Err(Error::Invalid(format!("{address} is not one of the masters {}", group.addresses().join(", ")))),
        _ => Err(Error::Refused(format!("{address} is just being replaced: see fsadmin journal quorum info"))),
    }
}

/// The change that an operator's words mean.
fn change(group: &Membership, step: change_members_request::Step) -> Result<Change, Error> {
    use change_members_request::Step;
    Ok(match step {
        Step::Add(address) => Change::AddLearner { address, replaces: None },
        Step::Replace(address) => {
            let replaces = Some(member_at(group, &address)?);
            Change::AddLearner { address, replaces }
        }
        Step::Remove(address) => {
            // Of two at one address the one that never got so far goes.
            let learner = group.at(&address).find(|id| !group.is_voter(*id));
            Change::Remove(learner.map_or_else(|| member_at(group, &address), Ok)?)
        }
    })
}

#[tonic::async_trait]
impl Admin for Operators {
    async fn master_info(&self, request: Request<MasterInfoRequest>) -> Answer<MasterInfoResponse> {
        caller(&request)?;
        let shared = &self.fs.handle.shared;
        shared.must_lead()?;
        let cluster = shared.counters().and_then(|counters| counters.cluster);
        let now = shared.clock.monotonic();
        let uptime_ms = i64::try_from((now - shared.started).as_millis()).unwrap_or(i64::MAX);
        let registry = shared.registry.lock();
        let group = shared.group();
        let lost = registry.list().filter(|worker| worker.state == State::Lost).map(|worker| LostWorker {
            id: worker.id.0,
            host: worker.host.clone(),
            rpc_port: u32::from(worker.rpc_port),
            last_contact_ms: i64::try_from((now - worker.last_contact).as_millis()).unwrap_or(i64::MAX),
        });
        let rpc_address = format!("{}:{}", shared.config.hostname, shared.config.rpc_addr.port());
        Ok(Response::new(MasterInfoResponse {
            short_of_room: short_of_room(shared, &rpc_address),
            rpc_address,
            rpc_port: u32::from(shared.config.rpc_addr.port()),
            web_port: u32::from(shared.config.web_addr.port()),
            started_unix_ms: shared.clock.unix().0 - uptime_ms,
            uptime_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            safe_mode: registry.live() == 0,
            zookeeper_enabled: false,
            live_workers: u32::try_from(registry.live()).unwrap_or(u32::MAX),
            lost_workers: u32::try_from(registry.lost()).unwrap_or(u32::MAX),
            tiers: registry
                .tiers()
                .into_iter()
                .map(|(alias, (capacity_bytes, used_bytes))| TierUse { alias, capacity_bytes, used_bytes })
                .collect(),
            cluster: cluster.map(|id| id.0.to_be_bytes().to_vec().into()).unwrap_or_default(),
            applied_index: shared.applied().0,
            lost: lost.collect(),
            members: members(shared),
            term: group.term.0,
            committed_index: group.committed.0,
        }))
    }

    async fn list_namespaces(&self, request: Request<ListNamespacesRequest>) -> Answer<ListNamespacesResponse> {
        caller(&request)?;
        let namespaces = self.fs.mounts().await?.iter().map(namespace).collect();
        Ok(Response::new(ListNamespacesResponse { namespaces }))
    }

    async fn create_namespace(&self, request: Request<CreateNamespaceRequest>) -> Answer<CreateNamespaceResponse> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let mut properties = request.properties;
        properties.extend(request.secrets);
        let wish = Wish {
            name: request.name,
            uri: request.ufs_uri,
            read_only: request.read_only,
            shared: request.shared,
            properties,
            write_policy: write_policy(request.write_policy)?,
            read_policy: convert::read_policy::from_admin(request.read_policy).map_err(Error::from)?,
        };
        self.fs.create_mount(&who, request.operation.map(convert::operation_id::from_admin), wish).await?;
        Ok(Response::new(CreateNamespaceResponse {}))
    }

    async fn elect(&self, request: Request<ElectRequest>) -> Answer<ElectResponse> {
        let who = caller(&request)?;
        let shared = &self.fs.handle.shared;
        shared.must_lead()?;
        shared.authority.caller(&who).check_superuser("choose the leading master").map_err(Error::from)?;
        let address = request.into_inner().address;
        let to = member_at(&*group_of(shared)?, &address)?;
        if shared.group().leader != Some(to) {
            self.fs.handle.hand_over(to).await?;
        }
        Ok(Response::new(ElectResponse {}))
    }

    async fn change_members(&self, request: Request<ChangeMembersRequest>) -> Answer<ChangeMembersResponse> {
        let who = caller(&request)?;
        let shared = &self.fs.handle.shared;
        shared.must_lead()?;
        shared.authority.caller(&who).check_superuser("change who the masters are").map_err(Error::from)?;
        let step = request.into_inner().step.ok_or_else(|| Error::Invalid("no step is named".to_owned()))?;
        let group = group_of(shared)?;
        let change = change(&group, step)?;
        if let Change::AddLearner { replaces: Some(old), .. } = &change
            && shared.group().leader == Some(*old)
        {
            let why =
                "the leading master has not lost its disk; hand the lead over first: fsadmin journal quorum elect";
            return Err(Error::Refused(why.to_owned()).into());
        }
        self.fs.handle.change_members(change).await?;
        Ok(Response::new(ChangeMembersResponse {}))
    }

    async fn checkpoint_now(&self, request: Request<CheckpointNowRequest>) -> Answer<CheckpointNowResponse> {
        let who = caller(&request)?;
        let shared = &self.fs.handle.shared;
        shared.must_lead()?;
        shared.authority.caller(&who).check_superuser("have a checkpoint made").map_err(Error::from)?;
        self.fs.handle.checkpoint().await?;
        Ok(Response::new(CheckpointNowResponse { index: shared.state.store().flushed().0 }))
    }

    async fn set_policy(&self, request: Request<SetPolicyRequest>) -> Answer<SetPolicyResponse> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let mut op = empty_update(&self.fs.mount_named(&request.name).await?)?;
        op.write_policy = request.write_policy.map(write_policy).transpose()?;
        op.read_policy = request.read_policy.map(convert::read_policy::from_admin).transpose().map_err(Error::from)?;
        self.fs
            .handle
            .submit(&who, request.operation.map(convert::operation_id::from_admin), Op::UpdateMount(op))
            .await?;
        Ok(Response::new(SetPolicyResponse {}))
    }

    async fn skipped_keys(&self, request: Request<SkippedKeysRequest>) -> Answer<SkippedKeysResponse> {
        let who = caller(&request)?;
        let shared = &self.fs.handle.shared;
        // The names may lie where the caller may not look.
        shared.authority.caller(&who).check_superuser("list skipped store keys").map_err(Error::from)?;
        let (all, forgotten) = {
            let skipped = shared.skipped.lock();
            (skipped.all(), skipped.forgotten())
        };
        let directories = self.fs.handle.read(|read| {
            let here = all.iter().map(|(inode, skipped)| Ok(meta::by_inode(read, *inode)?.map(|at| (at, skipped))));
            let here: Vec<_> = here.collect::<Result<_, meta::StoreError>>()?;
            Ok(here.into_iter().flatten().map(|(at, skipped)| skipped_directory(&at, skipped)).collect())
        });
        Ok(Response::new(SkippedKeysResponse { directories: directories.await?, forgotten }))
    }

    async fn metadata_report(&self, request: Request<MetadataReportRequest>) -> Answer<MetadataReportResponse> {
        let who = caller(&request)?;
        let shared = &self.fs.handle.shared;
        shared.must_lead()?;
        // The names may lie where the caller may not look.
        shared.authority.caller(&who).check_superuser("have the metadata reported on").map_err(Error::from)?;
        let known = shared.census.lock().clone();
        let largest = known.last.as_ref().map(|census| census.largest()).unwrap_or_default();
        let largest = self.fs.handle.read(|read| {
            let mut found = Vec::with_capacity(largest.len());
            for (inode, entries) in &largest {
                let at = meta::by_inode(read, *inode)?;
                found.extend(at.map(|at| LargeDirectory { path: at.spot.path.as_str().to_owned(), entries: *entries }));
            }
            Ok(found)
        });
        let largest = largest.await?;
        Ok(Response::new(super::metadata::report(shared, &known, largest)))
    }

    async fn audit_metadata(&self, request: Request<AuditMetadataRequest>) -> Answer<BoxStream<AuditMetadataResponse>> {
        let who = caller(&request)?;
        let shared = &self.fs.handle.shared;
        shared.must_lead()?;
        shared.authority.caller(&who).check_superuser("have the metadata audited").map_err(Error::from)?;
        let reports = self.audits.begin(request.into_inner().repair)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(reports))))
    }

    async fn backup(&self, request: Request<BackupRequest>) -> Answer<BoxStream<BackupResponse>> {
        let who = caller(&request)?;
        let shared = &self.fs.handle.shared;
        shared.must_lead()?;
        shared.authority.caller(&who).check_superuser("have a backup written").map_err(Error::from)?;
        let BackupRequest { directory, local } = request.into_inner();
        let destination = match (local, directory.as_str()) {
            (true, dir) if dir.starts_with('/') => Destination::Local(dir.into()),
            (true, dir) => {
                let why = format!("{dir:?} is no directory of this master's machine; name one from / on");
                return Err(Error::Invalid(why).into());
            }
            (false, "") => Destination::Store(shared.config.backup_dir.clone()),
            (false, _) => Destination::Store(directory),
        };
        Ok(Response::new(Box::pin(ReceiverStream::new(self.backups.begin(destination)?))))
    }

    async fn compact_metastore(
        &self,
        request: Request<CompactMetastoreRequest>,
    ) -> Answer<BoxStream<CompactMetastoreResponse>> {
        let who = caller(&request)?;
        let shared = &self.fs.handle.shared;
        shared.must_lead()?;
        shared.authority.caller(&who).check_superuser("have the metadata database compacted").map_err(Error::from)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(self.compactions.begin(shared)?))))
    }

    async fn quarantined(&self, request: Request<QuarantinedRequest>) -> Answer<QuarantinedResponse> {
        let who = caller(&request)?;
        let shared = &self.fs.handle.shared;
        shared.authority.caller(&who).check_superuser("list quarantined blocks").map_err(Error::from)?;
        let QuarantinedRequest { after_worker, after_container } = request.into_inner();
        Ok(Response::new(quarantined(&shared.registry.lock(), WorkerId(after_worker), ContainerId(after_container))))
    }
}
