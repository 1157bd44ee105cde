//! Those who look at a run and say what is wrong with it.

use crate::clients::Crowd;
use crate::history::Verdict;
use crate::machine::Machine;
use crate::porters::is_porters;
use crate::under::{Gone, Under};
use meta::Audit;
use std::collections::BTreeMap;
use std::fmt;
use types::{LogIndex, Term};
use ufs::Verb;

/// Records an audit looks at in one step.
const AUDIT_STEP: usize = 16;

/// What kind of promise was broken. Shrinking looks for the same kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// No order of effects explains what clients were told.
    NotLinearisable,
    /// The search for such an order was given up.
    Undecided,
    /// Two members differ at the same index.
    Diverged,
    TwoLeaders,
    TwoLeases,
    /// Applied entries were unapplied.
    Backwards,
    /// The records contradict themselves.
    Recount,
    /// An audit finds something in records that are well.
    Audit,
    /// An object went that nobody asked to go, or stayed though it was to go.
    Store,
    /// A worker gave other bytes than were written.
    Content,
    /// A location without a block, or a block without a location or an owner.
    Places,
    NotHealed,
    /// A member refuses its own files.
    Start,
    /// A client was told something no healthy cluster says.
    Answer,
    Panic,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub kind: Kind,
    pub what: String,
}

impl Failure {
    pub fn new(kind: Kind, what: String) -> Failure {
        Failure { kind, what }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

pub struct Judge {
    /// The digest of the state at each index somebody stopped at, and who did first.
    states: BTreeMap<LogIndex, (u64, u64)>,
    leaders: BTreeMap<u64, u64>,
    /// The last entry that anybody has applied, and its term.
    applied: (LogIndex, Term),
    gone: Vec<Gone>,
}

impl Judge {
    pub fn new() -> Judge {
        let applied = (LogIndex(0), Term(0));
        Judge { states: BTreeMap::new(), leaders: BTreeMap::new(), applied, gone: Vec::new() }
    }

    /// Terms somebody led.
    pub fn leaders(&self) -> usize {
        self.leaders.len()
    }

    /// The last entry that anybody has applied, and its term.
    pub fn applied(&self) -> (LogIndex, Term) {
        self.applied
    }

    pub fn gone(&mut self, gone: Vec<Gone>) {
        self.gone.extend(gone);
    }

    /// After a turn: the state at its index, the leader of its term, and no way back.
    pub fn state(&mut self, machine: &mut Machine) -> Result<(), Failure> {
        let id = machine.id.0;
        let Some(process) = &mut machine.process else { return Ok(()) };
        for (index, digest) in process.database.take_noted() {
            let (known, first) = *self.states.entry(index).or_insert((digest, id));
            if known != digest {
                let what = format!("at {index} master {id} has another state than master {first} had");
                return Err(Failure::new(Kind::Diverged, what));
            }
        }
        let applied = process.rig.applied();
        if applied < process.applied {
            let what = format!("master {id} had applied {} and now {applied}", process.applied);
            return Err(Failure::new(Kind::Backwards, what));
        }
        process.applied = applied;
        if let Some(term) = process.rig.term_at(applied).filter(|_| applied > self.applied.0) {
            self.applied = (applied, term);
        }
        if process.rig.leads() {
            let term = process.rig.term().0;
            let known = *self.leaders.entry(term).or_insert(id);
            if known != id {
                let what = format!("masters {known} and {id} both led term {term}");
                return Err(Failure::new(Kind::TwoLeaders, what));
            }
        }
        Ok(())
    }

    /// At most one master may answer reads by itself.
    pub fn leases(&self, machines: &[Machine]) -> Result<(), Failure> {
        let holds = |machine: &&Machine| {
            !machine.is_paused && machine.process.as_ref().is_some_and(|process| process.rig.has_lease())
        };
        let holders: Vec<u64> = machines.iter().filter(holds).map(|machine| machine.id.0).collect();
        if holders.len() > 1 {
            return Err(Failure::new(Kind::TwoLeases, format!("masters {holders:?} hold a lease at once")));
        }
        Ok(())
    }

    pub fn recount(&self, machine: &Machine) -> Result<(), Failure> {
        let Some(process) = &machine.process else { return Ok(()) };
        let broken = match process.rig.recount() {
            Ok(broken) => broken,
            Err(err) => vec![err.to_string()],
        };
        if broken.is_empty() {
            return Ok(());
        }
        let what = format!("the records of master {} contradict themselves: {}", machine.id.0, broken.join("; "));
        Err(Failure::new(Kind::Recount, what))
    }

    /// The next step of an audit, as an operator has it made while the records change: nothing is to be found. Whether it was
    /// the last one.
    pub fn audit(&self, machine: &mut Machine) -> Result<bool, Failure> {
        let Some(process) = &mut machine.process else { return Ok(true) };
        let before = std::mem::take(&mut process.audit);
        let looked = process.rig.look(|read| {
            let mut audit = before.clone();
            let faults = audit.step(read, AUDIT_STEP)?;
            Ok((audit, faults))
        });
        let wrong = match looked {
            Ok((audit, faults)) if faults.is_empty() => {
                let is_done = audit.is_done();
                process.audit = if is_done { Audit::default() } else { audit };
                return Ok(is_done);
            }
            Ok((_, faults)) => faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            Err(err) => err.to_string(),
        };
        Err(Failure::new(Kind::Audit, format!("an audit of master {} finds: {wrong}", machine.id.0)))
    }

    pub fn histories(&self, crowd: &Crowd) -> Result<(), Failure> {
        for (room, history) in crowd.histories() {
            match history.check() {
                Verdict::Linearisable => {}
                Verdict::Broken(why) => {
                    return Err(Failure::new(Kind::NotLinearisable, format!("room {room}: {why}")));
                }
                Verdict::Undecided => {
                    let what = format!("room {room}: {} calls, too many to order", history.records.len());
                    return Err(Failure::new(Kind::Undecided, what));
                }
            }
        }
        Ok(())
    }

    /// Each object version that went was asked to go by a call that was not over when the version came. What is left is
    /// what the last listing showed.
    pub fn store(&self, crowd: &Crowd, under: &Under) -> Result<(), Failure> {
        for gone in self.gone.iter().filter(|gone| !is_porters(&gone.key)) {
            let (made_us, by) = under.made(&gone.version);
            // A tree is moved after the answer, and an attempt that was broken off is made again over what it left.
            let is_own_copy = gone.verb == Verb::Copy && by == Some(Verb::Copy);
            let is_over_before = if is_own_copy { 0 } else { made_us };
            if !crowd.asked_for(&gone.key, gone.at_us, is_over_before) {
                let what = format!(
                    "{:?} took {} of {} at {} ms, made at {} ms, and no call asked for that",
                    gone.verb,
                    gone.version,
                    gone.key,
                    gone.at_us / 1000,
                    made_us / 1000
                );
                return Err(Failure::new(Kind::Store, what));
            }
        }
        let left: Vec<String> = under
            .keys()
            .into_iter()
            .filter(|key| !key.ends_with('/') && !is_porters(key) && !crowd.was_shown(key))
            .collect();
        if !left.is_empty() {
            let what = format!("the store holds what no listing shows: {}", left.join(", "));
            return Err(Failure::new(Kind::Store, what));
        }
        Ok(())
    }
}
