//! Disks that are lost, and the operator who has empty ones take their place.

use super::*;

/// When an operator sees to a lost disk, at least and at most, and how often he looks again.
const OPERATES_US: (u64, u64) = (100_000, 1_000_000);
const OPERATES_AGAIN_US: u64 = 200_000;

impl World {
    /// Which machine this member is now.
    pub(super) fn machine_of(&self, id: MemberId) -> Option<usize> {
        self.machines.iter().position(|machine| machine.id == id)
    }

    /// Whether the group can do without this disk: everybody is a member with a vote, and all others have on their disks whatever
    /// anybody has applied, and that the members are these.
    pub(super) fn can_spare(&self, master: usize) -> bool {
        let (applied, term) = self.judge.applied();
        let may_stay = |machine: &Machine| {
            machine.holds(applied, term) && self.knows_all(machine) && machine.committed() >= self.changed
        };
        let all_belong = self.machines.iter().all(|machine| !machine.is_lost && !machine.is_waiting());
        all_belong && self.machines.iter().enumerate().all(|(at, machine)| at == master || may_stay(machine))
    }

    /// Whether the voters are the members that the machines are, as far as this one has applied.
    pub(super) fn knows_all(&self, machine: &Machine) -> bool {
        let Some(members) = machine.process.as_ref().and_then(|process| process.rig.members()) else { return false };
        let all = self.machines.iter().all(|machine| members.is_voter(machine.id));
        all && members.iter().count() == self.machines.len()
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
        let in_us = self.dice.between(OPERATES_US.0, OPERATES_US.1);
        self.after(in_us, Happening::Operate { master });
    }

    /// Has whoever leads take the master in, and goes on until it is. A leader that knows of its id calls it by that.
    pub(super) fn operate(&mut self, master: usize) -> Result<(), Failure> {
        if !self.machines[master].is_waiting() {
            return Ok(());
        }
        self.after(OPERATES_AGAIN_US, Happening::Operate { master });
        let (address, was) = (self.machines[master].address.clone(), self.machines[master].was);
        for leader in 0..self.machines.len() {
            let machine = &self.machines[leader];
            let leads = machine.process.as_ref().filter(|process| process.rig.leads() && !machine.is_paused);
            let Some(members) = leads.and_then(|process| process.rig.members()) else { continue };
            let known = members.at(&address).find(|id| Some(*id) != was);
            match known {
                Some(id) if !self.loses_between(leader, master) => {
                    let in_us = self.way_us(leader, master);
                    self.after(in_us, Happening::Admit { master, id });
                }
                Some(_) => {}
                None => {
                    let replaces = was.filter(|was| members.seat(*was).is_some());
                    self.change(leader, Change::AddLearner { address: address.clone(), replaces })?;
                }
            }
        }
        Ok(())
    }

    fn change(&mut self, leader: usize, change: Change) -> Result<(), Failure> {
        let now = self.machines[leader].now();
        if let Some(process) = &mut self.machines[leader].process {
            process.rig.step(now, Event::Change(Ticket(u64::MAX), change));
        }
        self.pump(leader)
    }

    /// From here on it is that member, for good.
    pub(super) fn admit(&mut self, master: usize, id: MemberId) -> Result<(), Failure> {
        if !self.machines[master].is_waiting() {
            return Ok(());
        }
        self.note(format_args!("master {} is taken in as {id}", master + 1));
        self.statistics.admitted += 1;
        self.machines[master].id = id;
        self.start(master)
    }
}
