//! The loop towards all masters: one [`Core`] each, and what they have in common.
//!
//! Is:     one session for all. Whoever leads gives it, through the log; the others are joined under it.
//! Owns:   the session's id and epoch, the highest term heard, which master gets which event.
//! Never:  obeys a master of an older term.
//!
//! With one master it adds nothing: the same events give the same actions as its core alone.

use super::{Action, CHANGES_MAX, Core, Event, Orders, Phase};
use types::{ContainerId, ErrorKind, Monotonic, SessionEpoch, Term, WorkerId};

/// Which master, by its place in the worker's settings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Seat(pub usize);

/// The session a registration names, and the number after which its heartbeats go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// 0: none yet; only a leader can give one.
    pub epoch: u64,
    pub sequence: u64,
}

#[derive(Debug)]
pub struct Masters {
    cores: Vec<Core>,
    session: Option<(WorkerId, SessionEpoch)>,
    /// By master, the session its last registration names; 0: none.
    named: Vec<u64>,
    term: Term,
}

impl Masters {
    /// `seed` decides the jitter of pauses.
    pub fn new(count: usize, seed: u64) -> Masters {
        let cores = (0..count).zip(seed..=u64::MAX).map(|(_, seed)| Core::new(seed)).collect();
        Masters { cores, session: None, named: vec![0; count], term: Term(0) }
    }

    /// Some master accepts this worker.
    pub fn is_registered(&self) -> bool {
        self.cores.iter().any(Core::is_registered)
    }

    /// How many changed blocks the next step can take in. Of several masters none waits for another.
    pub fn wants_changes(&self) -> usize {
        match &self.cores[..] {
            [only] => only.wants_changes(),
            several => {
                if several.iter().any(listens) {
                    CHANGES_MAX
                } else {
                    0
                }
            }
        }
    }

    /// What the registration at this seat says of the session.
    pub fn known(&self, seat: Seat) -> Known {
        match self.named[seat.0] {
            0 => Known::default(),
            epoch => Known { epoch, sequence: self.cores[seat.0].base },
        }
    }

    /// One step about the worker itself: time, changes, ended persists, the end.
    pub fn step(&mut self, now: Monotonic, event: &Event) -> Vec<(Seat, Action)> {
        let mut actions = Vec::new();
        for at in 0..self.cores.len() {
            let told = match event {
                // A master that is registered later hears everything then.
                Event::Changes(_) if self.cores.len() > 1 && !listens(&self.cores[at]) => Event::Tick,
                event => event.clone(),
            };
            actions.extend(self.tell(now, Seat(at), told));
        }
        actions
    }

    /// One step about one master's answer.
    pub fn answer(&mut self, now: Monotonic, seat: Seat, event: Event) -> Vec<(Seat, Action)> {
        let mut actions = Vec::new();
        let event = if let Event::Answered { sequence, orders } = event {
            Event::Answered { sequence, orders: self.obey(seat, orders, &mut actions) }
        } else {
            event
        };
        let several = self.cores.len() > 1;
        let joined = if let Event::Registered { worker, epoch, .. } = &event { Some((*worker, *epoch)) } else { None };
        let over = (several && event == Event::NotRegistered(ErrorKind::NotFound)).then(|| self.ended(seat)).flatten();
        actions.extend(self.tell(now, seat, event));
        if let Some(over) = over {
            // Whoever leads gives another, and may not have heard that this one is over.
            actions.extend(self.part(now, seat, |epoch| epoch == over));
        }
        if let Some(session) = joined.filter(|_| several) {
            actions.extend(self.joined(now, seat, session));
        }
        actions
    }

    /// A master took the worker in under `session`: the others are to have the same, now.
    fn joined(&mut self, now: Monotonic, seat: Seat, session: (WorkerId, SessionEpoch)) -> Vec<(Seat, Action)> {
        if self.session.is_some_and(|(_, epoch)| epoch > session.1) {
            self.cores[seat.0].phase = Phase::Apart { tries: 0, next_try: now };
            return self.tell(now, seat, Event::Tick);
        }
        self.session = Some(session);
        for core in &mut self.cores {
            if let Phase::Apart { next_try, .. } = &mut core.phase {
                *next_try = now;
            }
        }
        self.part(now, seat, |epoch| epoch != session.1)
    }

    /// The session that the last registration at this seat named is over. Returns it, if it is the one there is.
    fn ended(&mut self, seat: Seat) -> Option<SessionEpoch> {
        let named = std::mem::take(&mut self.named[seat.0]);
        let over = self.session.map(|(_, epoch)| epoch).filter(|epoch| epoch.0 == named)?;
        self.session = None;
        Some(over)
    }

    /// Has the worker register anew, at once, wherever it is apart and may, and where it is joined under a session that is
    /// over. Not at `seat`.
    fn part(&mut self, now: Monotonic, seat: Seat, is_over: impl Fn(SessionEpoch) -> bool) -> Vec<(Seat, Action)> {
        let mut actions = Vec::new();
        for at in (0..self.cores.len()).filter(|at| *at != seat.0) {
            let phase = &mut self.cores[at].phase;
            if matches!(phase, Phase::Joined(there) if is_over(there.epoch)) {
                *phase = Phase::Apart { tries: 0, next_try: now };
            }
            if matches!(phase, Phase::Apart { .. }) {
                actions.extend(self.tell(now, Seat(at), Event::Tick));
            }
        }
        actions
    }

    /// What is left of a master's orders: nothing of an older term's, and what another master ordered before ends.
    fn obey(&mut self, seat: Seat, orders: Orders, actions: &mut Vec<(Seat, Action)>) -> Orders {
        if orders.term < self.term {
            return Orders { register: orders.register, term: orders.term, ..Orders::default() };
        }
        self.term = orders.term;
        let replaced = orders.persist.iter().map(|task| (task.container, Some(task.attempt)));
        let ended = orders.free.iter().chain(&orders.cancel_persist).map(|container| (*container, None));
        for (container, attempt) in replaced.chain(ended).collect::<Vec<(ContainerId, _)>>() {
            for at in (0..self.cores.len()).filter(|at| *at != seat.0) {
                let persisting = &mut self.cores[at].persisting;
                let older = persisting.get(&container).copied().filter(|old| attempt.is_none_or(|new| *old < new));
                if let Some(old) = older {
                    persisting.remove(&container);
                    actions.push((Seat(at), Action::CancelPersist(container, old)));
                }
            }
        }
        orders
    }

    fn tell(&mut self, now: Monotonic, seat: Seat, event: Event) -> Vec<(Seat, Action)> {
        let several = self.cores.len() > 1;
        let session = self.session.map_or(0, |(_, epoch)| epoch.0);
        let core = &mut self.cores[seat.0];
        let mut actions = core.step(now, event);
        if several && actions.contains(&Action::Register) {
            core.base = if session > 0 { core.last_sequence } else { 0 };
            self.named[seat.0] = session;
        }
        actions.drain(..).map(|action| (seat, action)).collect()
    }
}

/// Whether a master is to hear of changes: it has a session, or its registration may have been read from the store already.
fn listens(core: &Core) -> bool {
    matches!(core.phase, Phase::Joined(_) | Phase::Registering { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Beat;
    use crate::store::{Change, Report};
    use std::time::Duration;
    use types::BlockId;

    fn at(ms: u64) -> Monotonic {
        Monotonic(Duration::from_millis(ms))
    }

    fn registered(epoch: u64) -> Event {
        Event::Registered { worker: WorkerId(7), epoch: SessionEpoch(epoch), interval: Duration::from_secs(1) }
    }

    fn block(number: u64) -> BlockId {
        ContainerId(1).block(number).expect("small")
    }

    /// Three masters, the second leads, all joined.
    fn joined() -> Masters {
        let mut masters = Masters::new(3, 1);
        let asked = masters.step(at(0), &Event::Tick);
        assert_eq!(asked, [0, 1, 2].map(|seat| (Seat(seat), Action::Register)));
        for standby in [0, 2] {
            assert_eq!(masters.known(Seat(standby)).epoch, 0);
            masters.answer(at(1), Seat(standby), Event::NotRegistered(ErrorKind::Unavailable));
        }
        let actions = masters.answer(at(2), Seat(1), registered(5));
        assert!(
            matches!(
                &actions[..],
                [(Seat(1), Action::Beat(_)), (Seat(0), Action::Register), (Seat(2), Action::Register)]
            ),
            "the others at once: {actions:?}"
        );
        assert_eq!(masters.known(Seat(0)), Known { epoch: 5, sequence: 0 });
        masters.answer(at(3), Seat(0), registered(5));
        masters.answer(at(3), Seat(2), registered(5));
        for seat in 0..3 {
            answered(&mut masters, 4, seat, 1, Orders::default());
        }
        masters
    }

    fn answered(masters: &mut Masters, ms: u64, seat: usize, sequence: u64, orders: Orders) -> Vec<(Seat, Action)> {
        masters.answer(at(ms), Seat(seat), Event::Answered { sequence, orders })
    }

    fn beats(actions: &[(Seat, Action)]) -> Vec<(usize, &Beat)> {
        let mut beats = Vec::new();
        for (seat, action) in actions {
            if let Action::Beat(beat) = action {
                beats.push((seat.0, beat));
            }
        }
        beats
    }

    #[test]
    fn every_master_hears_every_change_and_none_waits_for_another() {
        let mut masters = joined();
        let change = Change::Here(Report { block: block(1), resident_bytes: 1, unpersisted: true });
        let sent = masters.step(at(100), &Event::Changes(vec![change]));
        let told = |actions: &[(Seat, Action)]| -> Vec<(usize, usize, usize)> {
            beats(actions).iter().map(|(seat, beat)| (*seat, beat.added.len(), beat.removed.len())).collect()
        };
        assert_eq!(told(&sent), [(0, 1, 0), (1, 1, 0), (2, 1, 0)]);
        // The third is silent; the others go on.
        answered(&mut masters, 101, 0, 2, Orders::default());
        answered(&mut masters, 101, 1, 2, Orders::default());
        masters.answer(at(101), Seat(2), Event::NotAnswered { sequence: 2, kind: ErrorKind::Unavailable });
        assert_eq!(masters.wants_changes(), CHANGES_MAX);
        let sent = masters.step(at(9000), &Event::Changes(vec![Change::Gone(block(1))]));
        assert_eq!(told(&sent), [(0, 0, 1), (1, 0, 1), (2, 1, 0)], "to the third the old one again, unchanged");
    }

    #[test]
    fn a_master_that_restarted_is_joined_under_the_session_there_is_with_numbers_that_go_on() {
        let mut masters = joined();
        masters.step(at(2000), &Event::Tick);
        let actions = answered(&mut masters, 2001, 2, 2, Orders { register: true, ..Orders::default() });
        assert_eq!(actions, [(Seat(2), Action::Register)]);
        assert_eq!(masters.known(Seat(2)), Known { epoch: 5, sequence: 2 });
        let actions = masters.answer(at(2002), Seat(2), registered(5));
        assert_eq!(beats(&actions).iter().map(|(seat, beat)| (*seat, beat.sequence)).collect::<Vec<_>>(), [(2, 3)]);
    }

    #[test]
    fn a_session_that_is_over_is_begun_anew_everywhere() {
        let mut masters = joined();
        masters.step(at(2000), &Event::Tick);
        answered(&mut masters, 2001, 1, 2, Orders { register: true, ..Orders::default() });
        let actions = masters.answer(at(2002), Seat(1), Event::NotRegistered(ErrorKind::NotFound));
        assert_eq!(actions, [(Seat(0), Action::Register), (Seat(2), Action::Register)], "one of them may lead by now");
        assert_eq!([0, 1, 2].map(|seat| masters.known(Seat(seat))), [Known::default(); 3]);
        for standby in [0, 2] {
            masters.answer(at(2003), Seat(standby), Event::NotRegistered(ErrorKind::Unavailable));
        }
        let again = masters.step(at(2120), &Event::Tick);
        assert!(again.contains(&(Seat(1), Action::Register)), "{again:?}");
        for standby in [0, 2] {
            masters.answer(at(2121), Seat(standby), Event::NotRegistered(ErrorKind::Unavailable));
        }
        let actions = masters.answer(at(2122), Seat(1), registered(9));
        assert!(
            actions.contains(&(Seat(0), Action::Register)) && actions.contains(&(Seat(2), Action::Register)),
            "{actions:?}"
        );
        assert_eq!(masters.known(Seat(0)).epoch, 9);
    }

    #[test]
    fn an_old_session_that_is_refused_late_does_not_end_the_one_there_is() {
        let mut masters = joined();
        // The third was paused: its registration under the first session is on its way for long.
        masters.step(at(2000), &Event::Tick);
        answered(&mut masters, 2001, 2, 2, Orders { register: true, ..Orders::default() });
        assert_eq!(masters.known(Seat(2)).epoch, 5);
        answered(&mut masters, 2002, 1, 2, Orders { register: true, ..Orders::default() });
        masters.answer(at(2003), Seat(1), Event::NotRegistered(ErrorKind::NotFound));
        assert!(masters.step(at(9000), &Event::Tick).contains(&(Seat(1), Action::Register)));
        assert_eq!(masters.known(Seat(1)), Known::default());
        masters.answer(at(9001), Seat(1), registered(9));
        masters.answer(at(9002), Seat(2), Event::NotRegistered(ErrorKind::NotFound));
        assert!(masters.step(at(20_000), &Event::Tick).contains(&(Seat(2), Action::Register)));
        assert_eq!(masters.known(Seat(2)).epoch, 9, "a standby can give no session, only let it join");
    }

    #[test]
    fn orders_of_an_older_term_are_void() {
        let mut masters = joined();
        let frees = |term| Orders { term: Term(term), free: vec![ContainerId(4)], ..Orders::default() };
        masters.step(at(2000), &Event::Tick);
        let obeyed = answered(&mut masters, 2001, 0, 2, frees(8));
        assert_eq!(obeyed, [(Seat(0), Action::Free(ContainerId(4)))]);
        assert_eq!(answered(&mut masters, 2002, 1, 2, frees(7)), [], "it was deposed and does not know it");
    }
}
