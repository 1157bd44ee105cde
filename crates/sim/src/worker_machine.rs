//! One worker's machine: clocks, a disk, and the process while it runs.

use crate::blocks::BlockDisk;
use crate::dice::Dice;
use crate::post::{Outbox, Tell, To};
use crate::time::{MachineClock, Timeline};
use crate::under::{Backward, Under};
use crate::{Bug, world::Asker};
use rpc::WorkerToken;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use types::{Clock, Monotonic, Ordinal};
use ufs::UnderStore;
use worker::rig::{MountFacts, Rig, Served, Ways, WorkerConfig};
use worker::{DirectoryConfig, Env, Medium, Watermarks};

/// Small, so that blocks have to leave.
const QUOTA_BYTES: u64 = 1 << 20;
pub const RPC_PORT: u16 = 29_999;
const MASTER_PORT: u16 = 19_998;

/// A request being served, and who waits for it.
pub struct Serving {
    pub asker: Asker,
    pub served: Served,
}

/// A run of the process.
pub struct WorkerProcess {
    pub rig: Rig,
    begun: Monotonic,
    pub outbox: Outbox,
    pub serving: Vec<Serving>,
    /// Requests on their way, by number.
    pub open: BTreeMap<u64, (To, Tell)>,
}

pub struct WorkerMachine {
    pub name: String,
    pub clock: Arc<MachineClock>,
    pub disk: BlockDisk,
    /// Counts starts and stops: what was meant for an earlier one is void.
    pub life: u64,
    pub process: Option<WorkerProcess>,
    /// While the process stands still.
    pub is_paused: bool,
    /// How many faults cut it off.
    pub isolated: u32,
    /// A master that it does not reach, and one that does not reach it.
    pub unheard_by: Option<usize>,
    pub deaf_to: Option<usize>,
    pub slow_link_ms: u64,
    /// Its disk fails, or is full.
    pub is_failing: bool,
    /// Reads of its disk fail.
    pub fails_reads: bool,
    /// A bit of its disk has flipped.
    pub is_rotten: bool,
}

impl WorkerMachine {
    /// - `drift`: how much faster than true time its clock runs, in parts per thousand.
    pub fn new(number: usize, line: &Timeline, drift: i64) -> WorkerMachine {
        WorkerMachine {
            name: format!("worker-{number}"),
            clock: Arc::new(MachineClock::new(line.clone(), drift)),
            disk: BlockDisk::new(),
            life: 0,
            process: None,
            is_paused: false,
            isolated: 0,
            unheard_by: None,
            deaf_to: None,
            slow_link_ms: 0,
            is_failing: false,
            fails_reads: false,
            is_rotten: false,
        }
    }

    /// Errors: it refuses its own directory.
    pub fn start(
        &mut self,
        masters: usize,
        under: &Under,
        token: Arc<WorkerToken>,
        dice: Dice,
        bug: Option<Bug>,
    ) -> Result<(), String> {
        let outbox = Outbox::default();
        let entropy = Arc::new(dice);
        let (store, is_backward) = (under.clone(), bug == Some(Bug::OldBlock));
        let opens = move |_: &MountFacts| -> Result<Arc<dyn UnderStore>, ufs::UfsError> {
            let store = store.clone();
            Ok(if is_backward { Arc::new(Backward(store)) } else { Arc::new(store) })
        };
        let ways = Ways {
            token,
            dial: Arc::new(outbox.clone()),
            opens: Arc::new(opens),
            peers: Arc::new(outbox.clone()),
            clock: self.clock.clone(),
            entropy: entropy.clone(),
        };
        let env = Env { clock: self.clock.clone(), entropy, io: Arc::new(self.disk.clone()) };
        let begun = self.clock.monotonic();
        let rig = Rig::open(config(&self.name, masters), &env, ways, RPC_PORT);
        let rig = rig.map_err(|error| types::sentence(&error))?;
        self.life += 1;
        self.process = Some(WorkerProcess { rig, begun, outbox, serving: Vec::new(), open: BTreeMap::new() });
        Ok(())
    }

    /// Everything that happens in the process up to now.
    pub fn live(&self) {
        if let Some(process) = &self.process {
            process.rig.live_until(self.clock.monotonic() - process.begun);
        }
    }

    /// The process is gone; what it wrote is still in the machine.
    pub fn kill(&mut self) {
        self.process = None;
        self.disk.lose_power_at(0);
        self.life += 1;
        self.is_paused = false;
    }

    /// The machine is dark; what was not synced is gone in part.
    pub fn cut_power(&mut self, dice: &Dice) {
        self.kill();
        self.disk.crash(dice);
        self.clock.reboot();
    }

    pub fn is_cut_off(&self) -> bool {
        self.isolated > 0
    }
}

fn config(name: &str, masters: usize) -> WorkerConfig {
    let directory = DirectoryConfig {
        path: PathBuf::from("/blocks"),
        tier: Ordinal(0),
        medium: Medium::Ssd,
        quota_bytes: QUOTA_BYTES,
        watermarks: Watermarks::default(),
    };
    let masters = (1..=masters).map(|number| format!("master-{number}:{MASTER_PORT}")).collect();
    let local = WorkerConfig::local(vec![directory], "/none".into(), "/none".into());
    WorkerConfig { hostname: name.to_owned(), masters, ..local }
}
