//! Audits of the metadata while this master serves, for whoever asks: what does not fit together, and repairs through the log.
//!
//! Is:     the steps of an audit, each on a view of one moment, with rests in between; one audit at a time.
//! Owns:   how much of the master's time an audit takes.
//! Never:  changes a record but by a log entry, which every master judges for itself; goes on when nobody listens any more.

use crate::driver::Handle;
use crate::error::Error;
use meta::{Audit, Fault, Op, REPAIRS, Repair};
use proto::admin::{AuditFinding, AuditMetadataResponse};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use tonic::Status;
use types::{Monotonic, Principal};

/// Records looked at in one view: a view that breaks under load holds up the writer when it is taken for the last time, for
/// about a millisecond.
const STEP: usize = 32;
/// Chunks of the bitmap compared at once.
const LIVE_STEP: usize = 4;
/// After each step this many times as long as it took.
const RESTS: u32 = 3;
/// Reports between which nobody has looked yet.
const AHEAD: usize = 8;
/// Records between two reports of nothing.
const REPORT: u64 = 10_000;
/// Looks through everything while repairs bring new findings to light.
const PASSES: u32 = 8;

pub type Reports = mpsc::Receiver<Result<AuditMetadataResponse, Status>>;

/// Audits of this master, one at a time.
pub struct Audits {
    handle: Handle,
    running: Arc<tokio::sync::Mutex<()>>,
}

impl Audits {
    pub fn new(handle: Handle) -> Audits {
        Audits { handle, running: Arc::default() }
    }

    /// Begins one. Findings come as they are come upon, the last report says that it is done; who drops the reports ends it.
    /// Errors, at once: another one runs; repairs are asked for and not every master knows them yet.
    pub fn begin(&self, repair: bool) -> Result<Reports, Error> {
        let rules = self.handle.shared.counters().map_or(0, |counters| counters.rules);
        if repair && rules < REPAIRS {
            return Err(Error::Refused(format!(
                "rules {rules} are in force, and repairs come with {REPAIRS}: every master must be of a release that knows \
                 them, and have met the leader; try again then"
            )));
        }
        let alone = Arc::clone(&self.running).try_lock_owned();
        let alone = alone.map_err(|_| Error::Refused("another audit is running; wait for its end".to_owned()))?;
        let (reports, receiver) = mpsc::channel(AHEAD);
        let run = Run { handle: self.handle.clone(), reports, repair, pass: 1, records: 0, reported: 0 };
        tokio::spawn(async move {
            run.run().await;
            drop(alone);
        });
        Ok(receiver)
    }
}

struct Run {
    handle: Handle,
    reports: mpsc::Sender<Result<AuditMetadataResponse, Status>>,
    repair: bool,
    pass: u32,
    records: u64,
    /// Records when the last report went out.
    reported: u64,
}

/// Whoever asked has gone.
struct Gone;

/// Why an audit ends before its end.
enum Stop {
    Gone,
    Failed(Error),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Stop {
        Stop::Gone
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

impl Run {
    async fn run(mut self) {
        match self.passes().await {
            Ok(()) => {}
            Err(Stop::Gone) => tracing::info!(records = self.records, "an audit was given up"),
            Err(Stop::Failed(error)) => {
                tracing::warn!(%error, "an audit ended early");
                let _ = self.reports.send(Err(error.into())).await;
            }
        }
    }

    async fn passes(&mut self) -> Result<(), Stop> {
        loop {
            let (repaired, uncounted) = self.pass().await?;
            let is_last = repaired == 0 || self.pass == PASSES;
            let drift = self.handle.shared.metrics.location_drift.load(Ordering::Relaxed);
            let done = AuditMetadataResponse { done: is_last, uncounted, location_drift: drift, ..self.report() };
            self.send(done).await?;
            if is_last {
                return Ok(());
            }
            self.pass += 1;
        }
    }

    fn report(&self) -> AuditMetadataResponse {
        AuditMetadataResponse { pass: self.pass, records: self.records, ..AuditMetadataResponse::default() }
    }

    async fn send(&mut self, report: AuditMetadataResponse) -> Result<(), Gone> {
        self.reported = report.records;
        self.reports.send(Ok(report)).await.map_err(|_| Gone)
    }

    /// One look through everything. How many findings were repaired, and directories that changed too fast to be counted.
    async fn pass(&mut self) -> Result<(u64, u64), Stop> {
        let (mut audit, mut repaired, before) = (Audit::default(), 0, self.records);
        while !audit.is_done() {
            let faults = self.step(&mut audit).await?;
            self.records = before + audit.looked_at();
            repaired += self.tell(&faults).await?;
        }
        repaired += self.live().await?;
        Ok((repaired, audit.uncounted()))
    }

    async fn step(&self, audit: &mut Audit) -> Result<Vec<Fault>, Stop> {
        let shared = self.handle.shared.clone();
        shared.must_lead()?;
        let now = shared.clock.monotonic();
        let before = audit.clone();
        let looked = tokio::task::spawn_blocking(move || {
            shared.read_any(|view| {
                let mut audit = before.clone();
                let faults = audit.step(view, STEP)?;
                Ok((audit, faults))
            })
        });
        let (after, faults) = looked.await.map_err(|_| Error::Stopping)??;
        *audit = after;
        self.rest(now).await?;
        Ok(faults)
    }

    /// Leaves the master to others for a while.
    async fn rest(&self, began: Monotonic) -> Result<(), Gone> {
        let took = self.handle.shared.clock.monotonic() - began;
        tokio::select! {
            () = tokio::time::sleep(took * RESTS) => Ok(()),
            () = self.reports.closed() => Err(Gone),
        }
    }

    /// Repairs what can be, if asked to, and reports. How many were repaired.
    async fn tell(&mut self, faults: &[Fault]) -> Result<u64, Stop> {
        let mut findings = Vec::with_capacity(faults.len());
        let mut repaired = 0;
        for fault in faults {
            let mut finding = AuditFinding {
                kind: fault.kind().to_owned(),
                what: fault.to_string(),
                advice: fault.advice().to_owned(),
                repairable: fault.is_repairable(),
                ..AuditFinding::default()
            };
            if self.repair && fault.is_repairable() {
                let op = Op::Repair(Repair { fault: fault.clone() });
                match self.handle.submit(&Principal::system(), None, op).await {
                    Ok(_) => {
                        tracing::warn!(kind = fault.kind(), what = %fault, "repaired");
                        finding.repaired = true;
                        repaired += 1;
                    }
                    Err(Error::Rejected(reject)) => finding.refusal = reject.to_string(),
                    Err(error) => return Err(error.into()),
                }
            }
            findings.push(finding);
        }
        if !findings.is_empty() || self.records - self.reported >= REPORT {
            let report = AuditMetadataResponse { findings, ..self.report() };
            self.send(report).await?;
        }
        Ok(repaired)
    }

    /// Compares the bitmap of containers that live with the records. It is this master's alone, and no part of the log: what is
    /// wrong is made anew from the records where it stands.
    async fn live(&mut self) -> Result<u64, Stop> {
        let (mut from, mut repaired) = (Some(0), 0);
        while let Some(chunk) = from {
            let (shared, repair) = (self.handle.shared.clone(), self.repair);
            shared.must_lead()?;
            let now = shared.clock.monotonic();
            let looked = tokio::task::spawn_blocking(move || shared.state.compare_live(chunk, LIVE_STEP, repair));
            let (drift, next) = looked.await.map_err(|_| Error::Stopping)?.map_err(Error::from)?;
            from = next;
            if !drift.is_empty() {
                repaired += if repair { u64::try_from(drift.len()).unwrap_or(u64::MAX) } else { 0 };
                let finding = |what| AuditFinding {
                    kind: "live-drift".to_owned(),
                    what,
                    advice: "a repair makes this part of the bitmap from the containers".to_owned(),
                    repairable: true,
                    repaired: repair,
                    refusal: String::new(),
                };
                let report =
                    AuditMetadataResponse { findings: drift.into_iter().map(finding).collect(), ..self.report() };
                self.send(report).await?;
            }
            self.rest(now).await?;
        }
        Ok(repaired)
    }
}

#[cfg(test)]
mod tests;
