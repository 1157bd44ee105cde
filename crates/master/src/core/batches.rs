//! Batches: many mutations in one entry, each with somebody who waits for it.
//!
//! Is:     a way into the log and back. What becomes of an item once it was applied, waiting for its store among it, is
//!         what becomes of a request of its own.
//! Never:  holds up an item because of another one.

use super::{Core, Now, Origin, Proposal, Request, Ticket};
use crate::error::Error;
use meta::{BatchItem, Done, Op, Reject};

/// Items of batches in the core at once; a batch that would exceed it is refused as Busy. They and their entries are
/// some 40 MB.
const BATCHED: usize = 64_000;

impl Core {
    pub(super) fn admit_batch(&mut self, tickets: Vec<Ticket>, request: Request) {
        let Op::Batch(batch) = &request.op else { unreachable!("the driver makes batches only") };
        assert_eq!(batch.items.len(), tickets.len(), "somebody waits for each item");
        self.batched += tickets.len();
        if self.batched > BATCHED {
            return self.answer_batch(tickets, &Err(Error::Overloaded(BATCHED)));
        }
        self.admit(Proposal::new(Origin::Batch(tickets), request));
    }

    /// Refuses what members of an older release could not read.
    pub(super) fn check_rules(&self, op: &Op) -> Result<(), Error> {
        if matches!(op, Op::Batch(_)) { self.shared.check_batches() } else { Ok(()) }
    }

    /// Everybody gets the same answer.
    pub(super) fn answer_batch(&mut self, tickets: Vec<Ticket>, result: &Result<Done, Error>) {
        self.batched -= tickets.len();
        for ticket in tickets {
            self.reply(ticket, result.clone());
        }
    }

    pub(super) fn batch_outcome(
        &mut self,
        now: Now,
        tickets: Vec<Ticket>,
        request: Request,
        outcome: Result<Done, Reject>,
    ) {
        let Request { who, operation, op, came, deadline } = request;
        let (outcomes, batch) = match (outcome, op) {
            (Ok(Done::Batch(outcomes)), Op::Batch(batch)) => (outcomes, batch),
            (Ok(other), _) => unreachable!("a batch ended as {other:?}"),
            (Err(reject), _) => return self.answer_batch(tickets, &Err(reject.into())),
        };
        self.batched -= tickets.len();
        for ((BatchItem { number, op }, ticket), outcome) in batch.items.into_iter().zip(tickets).zip(outcomes) {
            match outcome {
                // From here on it is a request like any other: it waits for an intent.
                Ok(Done::Pending(_)) | Err(Reject::Covered { .. }) => {
                    let operation = operation.map(|operation| operation.of_item(number));
                    let alone = Request { who: who.clone(), operation, op: op.into(), came, deadline };
                    self.client_outcome(now, ticket, Proposal::new(Origin::Client(ticket), alone), outcome);
                }
                outcome => self.reply(ticket, outcome.map_err(Error::from)),
            }
        }
    }
}
