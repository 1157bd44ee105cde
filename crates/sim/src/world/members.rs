//! Disks that are lost, masters that come and go, and the operator who sees to both.

use super::*;

/// When an operator sees to a master, at least and at most, and how often he looks.
const OPERATES_US: (u64, u64) = (100_000, 1_000_000);
const OPERATES_AGAIN_US: u64 = 200_000;
/// With no more masters than this none is removed.
const FEWEST: usize = 3;

impl World {
    /// Which machine this member is now.
    pub(super) fn machine_of(&self, id: MemberId) -> Option<usize> {
        self.machines.iter().position(|machine| machine.id == id)
    }

    /// Whether the group can do without this disk: nobody comes or goes, everybody is a member with a vote, and all others have on
    /// their disks whatever anybody has applied, and that the members are these.
    pub(super) fn can_spare(&self, master: usize) -> bool {
        let (applied, term) = self.judge.applied();
        let may_stay = |machine: &Machine| {
            machine.holds(applied, term) && self.knows_all(machine) && machine.committed() >= self.changed
        };
        let is_settled = |machine: &Machine| !machine.is_lost && machine.is_wanted != machine.is_waiting();
        let mut others = self.machines.iter().enumerate().filter(|(at, machine)| *at != master && machine.is_wanted);
        self.machines[master].is_wanted
            && self.machines.iter().all(is_settled)
            && others.all(|(_, machine)| may_stay(machine))
    }

    /// Whether the voters are the members that the machines are, as far as this one has applied.
    pub(super) fn knows_all(&self, machine: &Machine) -> bool {
        let Some(members) = machine.process.as_ref().and_then(|process| process.rig.members()) else { return false };
        let mut wanted = self.machines.iter().filter(|machine| machine.is_wanted);
        members.iter().count() == wanted.clone().count() && wanted.all(|machine| members.is_voter(machine.id))
    }

    /// The disks of a master are gone. Where members are replaced it comes back with empty ones, else it stays away.
    pub(super) fn lose_disks(&mut self, master: usize) {
        if !self.plan.changes {
            self.machines[master].is_lost = true;
            return;
        }
        self.note(format_args!("the disks of master {} are replaced", master + 1));
        self.machines[master].replace_disks();
        self.flushing[master] = false;
        self.forget_process(master);
        self.attend(master);
        if let (Some(Bug::OldId), Some(was)) = (self.plan.bug, self.machines[master].was) {
            self.machines[master].id = was;
            self.after(RESTART_US, Happening::Start { master });
        }
    }

    fn attend(&mut self, master: usize) {
        self.machines[master].attended_us = self.line.now_us() + self.dice.between(OPERATES_US.0, OPERATES_US.1);
    }

    /// An operator wants one more master in the group.
    pub(super) fn want(&mut self, master: usize) {
        let machine = &mut self.machines[master];
        if machine.is_waiting() && !machine.is_wanted {
            machine.is_wanted = true;
            self.attend(master);
        }
    }

    /// An operator wants the group to do without a master.
    pub(super) fn unwant(&mut self, master: usize) {
        let wanted = self.machines.iter().filter(|machine| machine.is_wanted).count();
        if wanted > FEWEST && self.machines[master].is_wanted {
            self.machines[master].is_wanted = false;
            self.attend(master);
        }
    }

    /// The one that leads, if it is not about to find out that it does not.
    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |machine: &Machine| {
            let process = machine.process.as_ref().filter(|process| process.rig.leads() && !machine.is_paused);
            // An operator believes who knows of the last change.
            process.is_some_and(|process| process.rig.applied() >= self.changed)
        };
        self.machines.iter().position(leads)
    }

    /// Has whoever leads do the next step for each master that is to come or to go. A leader that knows of the id of one that
    /// waits calls it by that.
    pub(super) fn operate(&mut self) -> Result<(), Failure> {
        self.after(OPERATES_AGAIN_US, Happening::Operate);
        for master in 0..self.machines.len() {
            if self.machines[master].attended_us > self.line.now_us() {
                continue;
            }
            match (self.machines[master].is_wanted, self.machines[master].is_waiting()) {
                (true, true) => self.take_in(master)?,
                (true, false) => {}
                (false, _) => self.let_go(master)?,
            }
        }
        Ok(())
    }

    fn take_in(&mut self, master: usize) -> Result<(), Failure> {
        let (address, was) = (self.machines[master].address.clone(), self.machines[master].was);
        let Some((leader, members)) = self.leader_and_members() else { return Ok(()) };
        let known = members.at(&address).find(|id| Some(*id) != was);
        match known {
            Some(id) if !self.loses_between(leader, master) => {
                let (in_us, life) = (self.way_us(leader, master), self.machines[master].life);
                self.after(in_us, Happening::Admit { master, life, id });
                Ok(())
            }
            Some(_) => Ok(()),
            None => {
                let replaces = was.filter(|was| members.seat(*was).is_some());
                self.change(leader, Change::AddLearner { address, replaces })
            }
        }
    }

    /// Nobody is removed while another one that is to stay has no vote: the group would hang on too few.
    fn let_go(&mut self, master: usize) -> Result<(), Failure> {
        let Some((leader, members)) = self.leader_and_members() else { return Ok(()) };
        let address = &self.machines[master].address;
        let learner = members.at(address).find(|id| !members.is_voter(*id));
        let Some(id) = learner.or_else(|| members.at(address).next()) else {
            if !self.machines[master].is_waiting() {
                self.note(format_args!("master {} has left the group", master + 1));
                self.statistics.removed += 1;
                self.machines[master].retire();
                self.flushing[master] = false;
                self.forget_process(master);
            }
            return Ok(());
        };
        let mut staying = self.machines.iter().filter(|machine| machine.is_wanted);
        if !staying.all(|machine| members.is_voter(machine.id)) {
            return Ok(());
        }
        if self.machines[leader].id == id {
            let next = self.machines.iter().position(|machine| machine.is_wanted && machine.process.is_some());
            return next.map_or(Ok(()), |next| self.hand_over(next));
        }
        self.change(leader, Change::Remove(id))
    }

    fn leader_and_members(&self) -> Option<(usize, Arc<Membership>)> {
        let leader = self.leader()?;
        Some((leader, self.machines[leader].process.as_ref()?.rig.members()?))
    }

    fn change(&mut self, leader: usize, change: Change) -> Result<(), Failure> {
        let now = self.machines[leader].now();
        if let Some(process) = &mut self.machines[leader].process {
            process.rig.step(now, Event::Change(Ticket(u64::MAX), change));
        }
        self.pump(leader)
    }

    /// From here on it is that member, for good.
    pub(super) fn admit(&mut self, master: usize, life: u64, id: MemberId) -> Result<(), Failure> {
        if !self.machines[master].is_waiting() || self.machines[master].life != life {
            return Ok(());
        }
        self.note(format_args!("master {} is taken in as {id}", master + 1));
        self.statistics.admitted += 1;
        self.machines[master].id = id;
        self.start(master)
    }
}
