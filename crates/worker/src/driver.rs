//! The worker's loop with its IO: waits for what happens, asks the core, carries out what it says.
//!
//! Is:     one task; the work it starts runs in tasks of its own and reports back as events.
//! Owns:   the core, the tasks it started, the heartbeat being sent.
//! Never:  decides.

use crate::core::{Action, Beat, Event, Known, Masters, Orders, Seat};
use crate::error::WorkerError;
use crate::master_link::{MasterLink, Presence, block_report, directory};
use crate::metrics::Metrics;
use crate::persist::{Persister, Task};
use crate::resolve::Resolver;
use crate::store::{BlockStore, Identity};
use proto::internal::{HeartbeatRequest, HeartbeatResponse};
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};
use types::{Attempt, Clock, ContainerId, SessionEpoch, Term};

/// The core hears at least this often that time passed.
const TICK: Duration = Duration::from_millis(50);
/// The store is tidied at least this often.
const TIDY_EVERY: u32 = 10;
/// Reports of finished work on their way to the loop; their senders wait when it is full.
const EVENTS_QUEUED: usize = 1024;

/// What the loop acts on.
pub struct Parts {
    pub store: BlockStore,
    /// One way to each master, in the order of the settings: for registrations and heartbeats.
    pub links: Vec<Arc<MasterLink>>,
    /// The way to whoever leads.
    pub leader: Arc<MasterLink>,
    pub resolver: Arc<Resolver>,
    pub persister: Arc<Persister>,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    /// All that a registration says besides the blocks and directories.
    pub host: String,
    pub rpc_port: u16,
    pub web_port: u16,
    pub registered: Arc<AtomicBool>,
}

/// The loop.
pub struct Driver {
    parts: Arc<Parts>,
    core: Masters,
    work: JoinSet<()>,
    events: (mpsc::Sender<Heard>, mpsc::Receiver<Heard>),
    persists: BTreeMap<(ContainerId, Attempt), watch::Sender<bool>>,
    /// By master.
    beats: Vec<Beating>,
    ticks: u32,
    tidying: bool,
}

/// An event, and the master it came from; None: of the worker itself.
type Heard = (Option<Seat>, Event);

/// What one master hears of counters.
#[derive(Default)]
struct Beating {
    /// The heartbeat being sent: a repeat must be the same to the byte, counters too.
    beat: Option<HeartbeatRequest>,
    /// Counters as of the last acknowledged heartbeat.
    counted: HashMap<&'static str, u64>,
    /// Counters as of the heartbeat being sent.
    counting: HashMap<&'static str, u64>,
}

impl Driver {
    pub fn new(parts: Parts, seed: u64) -> Driver {
        let masters = parts.links.len();
        Driver {
            parts: Arc::new(parts),
            core: Masters::new(masters, seed),
            work: JoinSet::new(),
            events: mpsc::channel(EVENTS_QUEUED),
            persists: BTreeMap::new(),
            beats: (0..masters).map(|_| Beating::default()).collect(),
            ticks: 0,
            tidying: false,
        }
    }

    /// Runs until `stop` becomes true.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let wake = self.parts.store.wake();
        let mut clock = tokio::time::interval(TICK);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let (seat, event) = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => (None, Event::Stop),
                Some(event) = self.events.1.recv() => event,
                Some(done) = self.work.join_next() => {
                    if let Err(panic) = done {
                        error!(%panic, "work of the worker's loop failed; this is a bug");
                    }
                    continue;
                }
                () = wake.notified() => {
                    self.ticks = TIDY_EVERY;
                    (None, Event::Tick)
                }
                _ = clock.tick() => (None, Event::Tick),
            };
            let stopping = event == Event::Stop;
            self.step(seat, event);
            if stopping {
                break;
            }
        }
        // Cancelled persists end by themselves; the rest is answered by nobody any more.
        self.persists.values().for_each(|cancel| {
            cancel.send_replace(true);
        });
        self.work.abort_all();
        while self.work.join_next().await.is_some() {}
        self.parts.store.tidied().await;
    }

    fn step(&mut self, seat: Option<Seat>, event: Event) {
        self.tidy(&event);
        let now = self.parts.clock.monotonic();
        let mut actions = Vec::new();
        let room = self.core.wants_changes();
        if room > 0 && self.parts.store.has_changes() {
            actions.extend(self.core.step(now, &Event::Changes(self.parts.store.take_changes(room))));
        }
        self.note(seat, &event);
        actions.extend(match seat {
            Some(seat) => self.core.answer(now, seat, event),
            None => self.core.step(now, &event),
        });
        self.parts.registered.store(self.core.is_registered(), Ordering::Relaxed);
        actions.into_iter().for_each(|(seat, action)| self.act(seat, action));
    }

    /// Keeps what belongs to a heartbeat in step with the core's view of it.
    fn note(&mut self, seat: Option<Seat>, event: &Event) {
        let beating = seat.map(|seat| &mut self.beats[seat.0]);
        match (event, beating) {
            (Event::Answered { sequence, .. }, Some(beating)) => {
                if beating.beat.take_if(|beat| beat.sequence == *sequence).is_some() {
                    beating.counted = std::mem::take(&mut beating.counting);
                }
            }
            (Event::Registered { .. }, Some(beating)) => beating.beat = None,
            (Event::PersistEnded { container, attempt }, _) => {
                self.persists.remove(&(*container, *attempt));
            }
            (
                Event::Tick | Event::Changes(_) | Event::NotRegistered(_) | Event::NotAnswered { .. } | Event::Stop,
                _,
            )
            | (Event::Answered { .. } | Event::Registered { .. }, None) => {}
        }
    }

    fn tidy(&mut self, event: &Event) {
        if *event != Event::Tick {
            return;
        }
        self.ticks += 1;
        if self.ticks < TIDY_EVERY || self.tidying {
            self.tidying = false;
            return;
        }
        self.ticks = 0;
        self.tidying = true;
        let store = self.parts.store.clone();
        self.work.spawn(async move { store.tidied().await });
    }

    fn act(&mut self, seat: Seat, action: Action) {
        let parts = Arc::clone(&self.parts);
        let events = self.events.0.clone();
        match action {
            Action::Register => {
                let known = self.core.known(seat);
                self.work.spawn(async move {
                    let event = register(&parts, seat, known).await;
                    let _ = events.send((Some(seat), event)).await;
                });
            }
            Action::Beat(beat) => {
                let sequence = beat.sequence;
                let request = self.request(seat, beat);
                self.work.spawn(async move {
                    let event = match parts.links[seat.0].heartbeat(request).await {
                        Ok(answer) => {
                            parts.metrics.heartbeats.inc();
                            Event::Answered { sequence, orders: orders(answer) }
                        }
                        Err(error) => {
                            parts.metrics.heartbeat_failures.inc();
                            warn!(error = %error.sentence(), "heartbeat not answered");
                            Event::NotAnswered { sequence, kind: error.kind() }
                        }
                    };
                    let _ = events.send((Some(seat), event)).await;
                });
            }
            Action::Free(container) => {
                let freed = parts.store.free(container);
                parts.resolver.forget(container);
                parts.metrics.freed_blocks.inc_by(u64::try_from(freed).unwrap_or(u64::MAX));
            }
            Action::MakeEvictable(container) => {
                // What is known of it says that it is in no store.
                parts.resolver.forget(container);
                self.work.spawn(async move {
                    if let Err(error) = parts.store.make_evictable(container).await {
                        warn!(%container, error = %error.sentence(), "blocks stay unevictable for now");
                    }
                });
            }
            Action::Persist(task) => self.persist(task),
            Action::CancelPersist(container, attempt) => {
                if let Some(cancel) = self.persists.remove(&(container, attempt)) {
                    cancel.send_replace(true);
                }
            }
        }
    }

    fn persist(&mut self, task: Task) {
        let (cancel, cancelled) = watch::channel(false);
        let (container, attempt) = (task.container, task.attempt);
        self.persists.insert((container, attempt), cancel);
        let (persister, events) = (Arc::clone(&self.parts.persister), self.events.0.clone());
        self.work.spawn(async move {
            persister.run(task, cancelled).await;
            let _ = events.send((None, Event::PersistEnded { container, attempt })).await;
        });
    }

    /// The whole of a heartbeat; for a repeat, the same as before.
    fn request(&mut self, seat: Seat, beat: Beat) -> HeartbeatRequest {
        let same = |known: &&HeartbeatRequest| (known.epoch, known.sequence) == (beat.epoch.0, beat.sequence);
        let beating = &mut self.beats[seat.0];
        if let Some(known) = beating.beat.as_ref().filter(same) {
            return known.clone();
        }
        let parts = &self.parts;
        beating.counting = parts.metrics.counters().into_iter().collect();
        let grown = beating.counting.iter().filter_map(|(name, value)| {
            let by = value - beating.counted.get(name).copied().unwrap_or(0);
            // Doubles on the wire; counts of one interval are far below their precision.
            (by > 0).then(|| ((*name).to_owned(), u32::try_from(by).map_or(f64::from(u32::MAX), f64::from)))
        });
        let small = |value: i64| u32::try_from(value).unwrap_or(0);
        let request = HeartbeatRequest {
            worker: beat.worker.0,
            epoch: beat.epoch.0,
            sequence: beat.sequence,
            added: beat.added.iter().map(block_report).collect(),
            removed: beat.removed.iter().map(|block| block.to_wire().cast_unsigned()).collect(),
            directories: parts.store.directories().iter().map(directory).collect(),
            persist_used_bytes: parts.store.kept_bytes(),
            active_reads: small(parts.metrics.active_reads.get()),
            active_writes: small(parts.metrics.active_writes.get()),
            metrics: grown.collect(),
        };
        beating.beat = Some(request.clone());
        request
    }
}

/// Tells a master everything, and remembers who that made us.
async fn register(parts: &Arc<Parts>, seat: Seat, known: Known) -> Event {
    let only = parts.links.len() == 1;
    // What changed so far is part of the list taken next; what changes later is told by heartbeats. Other masters are
    // still to hear of it.
    while only && !parts.store.take_changes(crate::core::CHANGES_MAX).is_empty() {}
    let presence = Presence {
        host: parts.host.clone(),
        rpc_port: parts.rpc_port,
        web_port: parts.web_port,
        started_unix_ms: parts.clock.unix().0,
        directories: parts.store.directories(),
        kept_bytes: parts.store.kept_bytes(),
    };
    let outcome = async {
        let answer = parts.links[seat.0].register(presence, parts.store.reports(), known).await?;
        let own = parts.leader.own();
        let joined = Identity {
            worker: Some(answer.worker),
            cluster: Some(answer.cluster),
            incarnation: answer.incarnation,
            ..own
        };
        if joined != own {
            parts.store.keep_identity(joined).await?;
            parts.leader.set_own(joined);
            parts.links.iter().for_each(|link| link.set_own(joined));
        }
        Ok::<_, WorkerError>(answer)
    };
    match outcome.await {
        Ok(answer) => {
            parts.metrics.registrations.inc();
            info!(worker = %answer.worker, epoch = answer.epoch, cluster = %answer.cluster, "registered");
            let epoch = SessionEpoch(answer.epoch);
            Event::Registered { worker: answer.worker, epoch, interval: answer.heartbeat_interval }
        }
        Err(error) => {
            if error.kind().is_transient() && !only {
                // A standby that has not heard of the session, or a master that is away: others serve.
                debug!(master = seat.0, error = %error.sentence(), "not registered there yet");
            } else if error.kind().is_transient() {
                warn!(error = %error.sentence(), "not registered yet");
            } else {
                error!(error = %error.sentence(), "the master refuses this worker");
            }
            Event::NotRegistered(error.kind())
        }
    }
}

fn orders(answer: HeartbeatResponse) -> Orders {
    let containers = |raw: Vec<u64>| raw.into_iter().map(ContainerId).collect();
    Orders {
        register: answer.register,
        term: Term(answer.term),
        free: containers(answer.free),
        evictable: containers(answer.evictable),
        persist: answer.persist.into_iter().map(Task::read).collect(),
        cancel_persist: containers(answer.cancel_persist),
    }
}
