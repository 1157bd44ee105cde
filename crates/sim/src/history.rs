//! What clients did and were told, and whether one order of it explains everything: linearisability.
//!
//! The search of Wing and Gong (1993) with the memory of Lowe (2017): try calls in every order that respects real time,
//! never the same set of calls with the same state twice.

use crate::calls::{Answer, Call};
use crate::model::State;
use std::collections::HashSet;
use std::fmt::Write;

/// States a search may look at. A history that needs more is reported as undecided, which is a failure of the test's size.
const LOOKS: usize = 3_000_000;

/// One call of a client, over all its tries.
#[derive(Clone, Debug)]
pub struct Record {
    pub client: usize,
    pub call: Call,
    pub invoked_us: u64,
    /// When the outcome was heard, and what it was. None: nobody knows.
    pub returned: Option<(u64, Answer)>,
}

/// All calls of one room, in the order they were begun.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub begins: State,
    pub records: Vec<Record>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Linearisable,
    /// The calls before which every order got stuck, as text.
    Broken(String),
    Undecided,
}

/// One call the search has decided on.
struct Frame {
    candidates: Vec<usize>,
    next: usize,
    state: State,
}

impl History {
    pub fn check(&self) -> Verdict {
        let definite = self.records.iter().filter(|record| record.returned.is_some()).count();
        let mut done = Done(vec![0; self.records.len() / 64 + 1]);
        let mut seen: HashSet<(Done, State)> = HashSet::new();
        let mut taken: Vec<usize> = Vec::new();
        let mut frames = vec![self.frame(&done, self.begins.clone())];
        let (mut decided, mut deepest, mut looks) = (0, (0, Vec::new(), self.begins.clone()), 0);
        loop {
            if decided == definite {
                return Verdict::Linearisable;
            }
            let Some(frame) = frames.last_mut() else { break };
            let Some(&at) = frame.candidates.get(frame.next) else {
                frames.pop();
                if let Some(last) = taken.pop() {
                    done.flip(last);
                    decided -= usize::from(self.records[last].returned.is_some());
                }
                continue;
            };
            frame.next += 1;
            let record = &self.records[at];
            let answer = record.returned.as_ref().map(|(_, answer)| answer);
            let Some(state) = frame.state.step(&record.call, answer) else { continue };
            looks += 1;
            if looks > LOOKS {
                return Verdict::Undecided;
            }
            done.flip(at);
            if !seen.insert((done.clone(), state.clone())) {
                done.flip(at);
                continue;
            }
            taken.push(at);
            decided += usize::from(answer.is_some());
            if decided > deepest.0 {
                deepest = (decided, taken.clone(), state.clone());
            }
            frames.push(self.frame(&done, state));
        }
        let (_, order, state) = deepest;
        Verdict::Broken(self.explain(&order, &state))
    }

    /// Calls that may come next: begun before any other that is open was answered. Those with an outcome first.
    fn frame(&self, done: &Done, state: State) -> Frame {
        let open = || self.records.iter().enumerate().filter(|(at, _)| !done.has(*at));
        let first_return = open().filter_map(|(_, record)| Some(record.returned.as_ref()?.0)).min();
        let may = |record: &Record| first_return.is_none_or(|first| record.invoked_us <= first);
        let known = open().filter(|(_, record)| record.returned.is_some() && may(record));
        let unknown =
            open().filter(|(_, record)| record.returned.is_none() && record.call.is_mutation() && may(record));
        let candidates = known.chain(unknown).map(|(at, _)| at).collect();
        Frame { candidates, next: 0, state }
    }

    fn explain(&self, order: &[usize], state: &State) -> String {
        let mut text = String::new();
        let mut show = |what: &str, at: usize| {
            let record = &self.records[at];
            let end = record.returned.as_ref().map_or("…".to_owned(), |(us, _)| format!("{}", us / 1000));
            let answer = record.returned.as_ref().map(|(_, answer)| answer);
            writeln!(
                text,
                "    {what} #{at} client {} [{}, {end}] ms: {:?} -> {answer:?}",
                record.client,
                record.invoked_us / 1000,
                record.call
            )
            .expect("a string takes everything");
        };
        for at in order.iter().rev().take(12).rev() {
            show("then ", *at);
        }
        let mut done = Done(vec![0; self.records.len() / 64 + 1]);
        order.iter().for_each(|at| done.flip(*at));
        for at in self.frame(&done, state.clone()).candidates {
            show("stuck", at);
        }
        format!("no order explains what clients were told; the longest one ends:\n{text}    state {state:?}")
    }
}

/// A set of calls.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

impl Done {
    fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }
    fn flip(&mut self, at: usize) {
        self.0[at / 64] ^= 1 << (at % 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{Refusal, Shown};

    fn record(call: Call, from: u64, to: u64, answer: Option<Answer>) -> Record {
        Record { client: 0, call, invoked_us: from, returned: answer.map(|answer| (to, answer)) }
    }
    fn create(from: u64, to: u64, answer: Option<Answer>) -> Record {
        record(Call::Create { path: "f".into() }, from, to, answer)
    }
    fn look(from: u64, to: u64, id: i64) -> Record {
        let answer = match id {
            0 => Answer::Refused(Refusal::NotFound),
            id => Answer::Entry(Shown { name: "f".into(), id, directory: false, owner: 0, length: None }),
        };
        record(Call::Status { path: "f".into() }, from, to, Some(answer))
    }
    fn verdict(records: Vec<Record>) -> Verdict {
        History { begins: State::default(), records }.check()
    }

    #[test]
    fn calls_at_the_same_time_may_take_effect_in_either_order() {
        let made = Some(Answer::Made(3));
        assert_eq!(
            verdict(vec![create(0, 100, made.clone()), look(10, 20, 0), look(30, 40, 3)]),
            Verdict::Linearisable
        );
        assert!(matches!(verdict(vec![create(0, 100, made), look(10, 20, 3), look(30, 40, 0)]), Verdict::Broken(_)));
    }

    #[test]
    fn a_stale_read_is_found() {
        assert!(matches!(verdict(vec![create(0, 5, Some(Answer::Made(3))), look(10, 20, 0)]), Verdict::Broken(_)));
    }

    #[test]
    fn a_call_without_an_outcome_may_have_happened_late_or_never() {
        let seen_late = vec![create(0, 0, None), look(10, 20, 0), look(30, 40, 3)];
        assert_eq!(verdict(seen_late), Verdict::Linearisable);
        assert_eq!(verdict(vec![create(0, 0, None), look(10, 20, 0)]), Verdict::Linearisable);
        let twice = vec![create(0, 0, None), look(10, 20, 3), look(30, 40, 4)];
        assert!(matches!(verdict(twice), Verdict::Broken(_)));
    }

    #[test]
    fn an_effect_after_a_refusal_is_found() {
        let refused = Some(Answer::Refused(Refusal::AlreadyExists));
        assert!(matches!(verdict(vec![create(0, 5, refused)]), Verdict::Broken(_)));
    }
}
