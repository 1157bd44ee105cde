//! A snapshot on its way from one master to another: the product's own visit, whose questions the simulator carries.

use crate::home::Home;
use journal::MemberId;
use master::rig::{Snapshot, Source, Visit};
use parking_lot::Mutex;
use proto::internal::{CheckpointResponse, FetchPiece};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How this simulator's masters keep their metadata.
pub const STORE: &str = "HEAP";

/// What a visit wants next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    Checkpoint { have: String },
    Piece { id: String, name: String, offset: u64 },
    Rest(Duration),
}

/// What it gets.
#[derive(Clone, PartialEq, Debug)]
pub enum Got {
    Checkpoint(CheckpointResponse),
    Piece(FetchPiece),
    Rested,
}

/// That, or in words why not.
pub type Answer = Result<Got, String>;

/// Where a visit leaves its questions and finds the answers.
#[derive(Default)]
struct Desk {
    asked: Option<Ask>,
    /// Of the last question.
    number: u64,
    answer: Option<Answer>,
}

struct Caller(Arc<Mutex<Desk>>);

impl Caller {
    fn ask(&self, ask: Ask) -> impl Future<Output = Answer> + Send + use<> {
        let desk = self.0.clone();
        {
            let mut desk = desk.lock();
            desk.number += 1;
            (desk.asked, desk.answer) = (Some(ask), None);
        }
        poll_fn(move |_| desk.lock().answer.take().map_or(Poll::Pending, Poll::Ready))
    }
}

impl Source for Caller {
    async fn checkpoint(&mut self, have: &str) -> Result<CheckpointResponse, String> {
        match self.ask(Ask::Checkpoint { have: have.to_owned() }).await? {
            Got::Checkpoint(answer) => Ok(answer),
            other => unreachable!("{other:?} is no checkpoint"),
        }
    }

    async fn piece(&mut self, id: &str, name: &str, offset: u64) -> Result<FetchPiece, String> {
        match self.ask(Ask::Piece { id: id.to_owned(), name: name.to_owned(), offset }).await? {
            Got::Piece(piece) => Ok(piece),
            other => unreachable!("{other:?} is no piece"),
        }
    }

    async fn rest(&mut self, time: Duration) {
        // Nothing can go wrong with that.
        let _ = self.ask(Ask::Rest(time)).await;
    }
}

/// A visit under way.
pub struct Fetching {
    pub from: MemberId,
    visit: Pin<Box<dyn Future<Output = Result<Snapshot, String>> + Send>>,
    desk: Arc<Mutex<Desk>>,
}

/// What a visit came to for now.
pub enum Step {
    Asks { number: u64, ask: Ask },
    Waits,
    Over(Result<Snapshot, String>),
}

impl Fetching {
    /// Of the snapshot that `from` has, to be gathered in `home`.
    pub fn begin(from: MemberId, home: &Home) -> Fetching {
        let desk: Arc<Mutex<Desk>> = Arc::default();
        let visit = Visit::new(Caller(desk.clone()), home.basket(), STORE);
        Fetching { from, visit: Box::pin(visit.run()), desk }
    }

    /// Goes on as far as it comes.
    pub fn step(&mut self) -> Step {
        if let Poll::Ready(outcome) = self.visit.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Step::Over(outcome);
        }
        let mut desk = self.desk.lock();
        let number = desk.number;
        desk.asked.take().map_or(Step::Waits, |ask| Step::Asks { number, ask })
    }

    /// An answer to the question of this number has arrived. The first counts.
    pub fn answer(&self, number: u64, answer: Answer) {
        let mut desk = self.desk.lock();
        if desk.number == number && desk.asked.is_none() && desk.answer.is_none() {
            desk.answer = Some(answer);
        }
    }
}
