//! Faults begin and end.

use super::*;

impl World {
    pub(super) fn begin(&mut self, at: usize) -> Result<(), Failure> {
        if self.phase != Phase::Faults {
            return Ok(());
        }
        let planned = self.schedule.0[at];
        if let Fault::LogRot { master } | Fault::DiskLost { master } = planned.fault
            && !self.can_spare(master)
        {
            let begins_us = self.healing_since_us - 1000 * self.plan.faults_ms.saturating_sub(planned.at_ms);
            if self.line.now_us() < begins_us + SPARED_US.0 {
                self.after(SPARED_US.1, Happening::Begin(at));
            }
            return Ok(());
        }
        self.note(format_args!("fault {:?}", planned.fault));
        self.statistics.faults += 1;
        let lasts_us = 1000 * planned.for_ms;
        match planned.fault {
            Fault::PowerCut { master } => self.cut_power(master, lasts_us),
            Fault::Blackout => {
                for master in 0..self.machines.len() {
                    let more_us = self.dice.below(200_000);
                    self.cut_power(master, lasts_us + more_us);
                }
            }
            Fault::Kill { master } => {
                if self.machines[master].process.is_some() {
                    self.machines[master].kill();
                    self.forget_process(master);
                    self.after(lasts_us, Happening::Start { master });
                }
            }
            Fault::Pause { master } => {
                if self.machines[master].process.is_some() && !self.machines[master].is_paused {
                    self.machines[master].is_paused = true;
                    let life = self.machines[master].life;
                    self.after(lasts_us, Happening::Wake { master, life });
                }
            }
            Fault::Cut { from, to } => self.network.cut[from][to] += 1,
            Fault::Isolate { master } => self.network.isolated[master] += 1,
            Fault::Rain { loss, twice, late } => self.network.rain = (loss, twice, late),
            Fault::SlowLink { from, to, ms } => self.network.slow_ms[from][to] = ms,
            Fault::SlowDisk { master, ms } => self.machines[master].fsync_ms = ms,
            Fault::WriteError { master } => self.machines[master].home.log.fail_next(DiskOp::Write, ErrorKind::Other),
            Fault::SyncError { master } => self.machines[master].home.log.fail_next(DiskOp::Sync, ErrorKind::Other),
            Fault::DatabaseError { master } => self.machines[master].home.metastore.fail_next(),
            Fault::DiskFull { master } => {
                self.machines[master].home.log.set_capacity(0);
                self.machines[master].home.metastore.set_full(true);
            }
            Fault::LogRot { master } => self.rot(master, lasts_us),
            Fault::DiskLost { master } => self.lose_disks(master),
            Fault::ClockJump { master, by_ms } => self.machines[master].clock.jump(by_ms),
            Fault::HandOver { to } => self.hand_over(to)?,
            Fault::AddMaster { master } => self.want(master),
            Fault::RemoveMaster { master } => self.unwant(master),
            Fault::RemoveLeader => {
                if let Some(leader) = self.leader() {
                    self.unwant(leader);
                }
            }
            Fault::StoreAway => self.under.set_weather(|weather| weather.away = true),
            Fault::StoreSlow { ms } => self.under.set_weather(|weather| weather.slow_ms = ms),
            Fault::StoreForgetful { per_mille } => self.under.set_weather(|weather| weather.forgetful = per_mille),
            Fault::Worker(fault) => self.begin_worker_fault(fault, lasts_us),
        }
        self.after(lasts_us, Happening::End(at));
        Ok(())
    }

    pub(super) fn cut_power(&mut self, master: usize, lasts_us: u64) {
        self.machines[master].cut_power(&self.dice, self.flushing[master]);
        self.forget_process(master);
        self.after(lasts_us, Happening::Start { master });
    }

    fn rot(&mut self, master: usize, lasts_us: u64) {
        if self.dice.once_in(2) {
            self.cut_power(master, lasts_us);
        } else {
            self.machines[master].kill();
            self.forget_process(master);
            self.after(lasts_us, Happening::Start { master });
        }
        let place = self.machines[master].rot(&self.dice);
        self.note(format_args!("a bit flips in {place} of master {}", master + 1));
    }

    pub(super) fn hand_over(&mut self, to: usize) -> Result<(), Failure> {
        let id = self.machines[to].id;
        for master in 0..self.machines.len() {
            let now = self.machines[master].now();
            let is_paused = self.machines[master].is_paused;
            if let Some(process) = &mut self.machines[master].process
                && process.rig.leads()
                && master != to
                && !is_paused
            {
                process.rig.step(now, Event::HandOver(Ticket(u64::MAX), id));
                return self.pump(master);
            }
        }
        Ok(())
    }

    pub(super) fn end(&mut self, at: usize) {
        match self.schedule.0[at].fault {
            Fault::Cut { from, to } => self.network.cut[from][to] = self.network.cut[from][to].saturating_sub(1),
            Fault::Isolate { master } => {
                self.network.isolated[master] = self.network.isolated[master].saturating_sub(1);
            }
            Fault::Rain { .. } => self.network.rain = (0, 0, 0),
            Fault::SlowLink { from, to, .. } => self.network.slow_ms[from][to] = 0,
            Fault::SlowDisk { master, .. } => self.machines[master].fsync_ms = 0,
            Fault::DiskFull { master } => {
                self.machines[master].home.log.set_capacity(usize::MAX);
                self.machines[master].home.metastore.set_full(false);
            }
            Fault::StoreAway => self.under.set_weather(|weather| weather.away = false),
            Fault::StoreSlow { .. } => self.under.set_weather(|weather| weather.slow_ms = 0),
            Fault::StoreForgetful { .. } => self.under.set_weather(|weather| weather.forgetful = 0),
            Fault::Worker(fault) => self.end_worker_fault(fault),
            Fault::PowerCut { .. }
            | Fault::Blackout
            | Fault::Kill { .. }
            | Fault::Pause { .. }
            | Fault::WriteError { .. }
            | Fault::SyncError { .. }
            | Fault::DatabaseError { .. }
            | Fault::LogRot { .. }
            | Fault::DiskLost { .. }
            | Fault::ClockJump { .. }
            | Fault::HandOver { .. }
            | Fault::AddMaster { .. }
            | Fault::RemoveMaster { .. }
            | Fault::RemoveLeader => {}
        }
    }

    /// Faults are over: the network is whole, disks work, everybody is started.
    pub(super) fn heal(&mut self) -> Result<(), Failure> {
        self.phase = Phase::Healing;
        self.healing_since_us = self.line.now_us();
        self.note(format_args!("faults are over"));
        let count = self.machines.len();
        self.network = Network {
            cut: vec![vec![0; count]; count],
            isolated: vec![0; count],
            slow_ms: vec![vec![0; count]; count],
            rain: (0, 0, 0),
        };
        self.under.set_weather(|weather| *weather = Default::default());
        for master in 0..count {
            let machine = &mut self.machines[master];
            machine.fsync_ms = 0;
            machine.home.log.set_capacity(usize::MAX);
            machine.home.metastore.mend();
            let life = machine.life;
            self.wake(master, life)?;
            self.start(master)?;
        }
        self.heal_workers()
    }
}
