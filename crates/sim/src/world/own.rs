//! What clients of ours ask on its way to masters, and back.

use super::*;
use crate::own::{Asked, broken};

/// How often time goes on for them while they wait.
const STEP_US: u64 = 5_000;

impl World {
    pub(super) fn begin_own(&mut self) {
        if !self.own.is_empty() {
            self.after(STEP_US, Happening::Own(Way::Step));
        }
    }

    /// The client of ours has a call to make.
    pub(super) fn own_call(&mut self, client: usize, call: crate::calls::Call) -> Result<(), Failure> {
        self.note(format_args!("client {client}, of ours, asks {call:?}"));
        self.own.get_mut(&client).expect("one of ours").begin(call);
        self.work_own()
    }

    pub(super) fn own(&mut self, way: Way) -> Result<(), Failure> {
        match way {
            Way::Step => {
                self.after(STEP_US, Happening::Own(Way::Step));
                self.work_own()
            }
            Way::Back { number, answer } => {
                self.ways.end(number, answer);
                self.work_own()
            }
        }
    }

    /// Lets their time come to where it is, and drives what they have under way.
    fn work_own(&mut self) -> Result<(), Failure> {
        let handle = self.own_runtime.handle().clone();
        let _entered = handle.enter();
        let behind_us = self.line.now_us() - self.own_us;
        if behind_us > 0 {
            self.own_us += behind_us;
            self.own_runtime.block_on(tokio::time::advance(std::time::Duration::from_micros(behind_us)));
        }
        let mut context = Context::from_waker(Waker::noop());
        let mut ended = Vec::new();
        for (client, own) in &mut self.own {
            if let Some(work) = &mut own.work
                && let Poll::Ready(outcome) = work.as_mut().poll(&mut context)
            {
                own.work = None;
                ended.push((*client, outcome));
            }
        }
        for asked in self.ways.take() {
            self.send_own(asked);
        }
        for (client, outcome) in ended {
            self.note(format_args!("client {client}, of ours, is told {outcome:?}"));
            let rest_us = match outcome {
                Ok(Some(answer)) => {
                    self.statistics.own_calls += 1;
                    self.crowd.end(client, self.line.now_us(), answer)
                }
                // What becomes of it is open.
                Ok(None) => {
                    self.crowd.clients[client].give_up();
                    1_000
                }
                Err(wrong) => {
                    return Err(Failure::new(Kind::Answer, format!("client {client}, of ours, was told {wrong}")));
                }
            };
            self.after(rest_us, Happening::Next { client });
        }
        Ok(())
    }

    fn send_own(&mut self, Asked { number, master, method, request }: Asked) {
        if self.loses(master) {
            let in_us = self.dice.between(50_000, 800_000);
            return self.after(in_us, Happening::Own(Way::Back { number, answer: Err(broken()) }));
        }
        let in_us = self.dice.between(80, 900);
        self.after(in_us, Happening::At { master, life: None, what: Inside::Own { number, method, request } });
    }

    pub(super) fn answer_own(&mut self, master: usize, number: u64, answer: Result<Bytes, tonic::Status>) {
        let (in_us, answer) = match self.loses(master) {
            true => (self.dice.between(10_000, 300_000), Err(broken())),
            false => (self.dice.between(80, 900), answer),
        };
        self.after(in_us, Happening::Own(Way::Back { number, answer }));
    }

    /// The process is gone, and its connections with it.
    pub(super) fn break_own_at(&mut self, master: usize) {
        for number in self.ways.at(master) {
            let in_us = self.dice.between(100, 20_000);
            self.after(in_us, Happening::Own(Way::Back { number, answer: Err(broken()) }));
        }
    }
}

/// What comes to clients of ours.
pub(super) enum Way {
    /// Time.
    Step,
    Back {
        number: u64,
        answer: Result<Bytes, tonic::Status>,
    },
}
