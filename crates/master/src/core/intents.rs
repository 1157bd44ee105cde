//! Carries out announced mutations of under stores: begin an attempt, ask the store, close.

use super::{Core, Job, JobError, JobId, JobOk, Now, Origin};
use crate::error::Error;
use crate::uploads::LANDING;
use meta::{BeginAttempt, CloseIntent, Done, Intent, IntentEnd, IntentKind, Op, Reject};
use std::collections::BTreeMap;
use std::time::Duration;
use types::{Attempt, IntentId, Monotonic};

/// First and longest pause between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Intents whose outcome is kept for callers that still ask.
const OUTCOMES: usize = 10_000;

const FIRST_ATTEMPT: Attempt = Attempt(1);

enum Stage {
    Waiting { until: Monotonic },
    Beginning,
    InStore,
    Closing,
}

struct Run {
    stage: Stage,
    attempt: Attempt,
    failures: u32,
    last_error: Option<Error>,
}

/// Intents this leader works on.
#[derive(Default)]
pub struct Intents {
    runs: BTreeMap<IntentId, Run>,
    jobs: BTreeMap<JobId, IntentId>,
    outcomes: BTreeMap<IntentId, Result<Done, Error>>,
}

impl Intents {
    pub fn take_job(&mut self, job: JobId) -> Option<IntentId> {
        self.jobs.remove(&job)
    }

    /// Its closing entry was applied.
    pub fn closed(&mut self, id: IntentId) {
        self.runs.remove(&id);
    }

    /// An entry about it was not taken: look again at the next tick.
    pub fn retry(&mut self, id: IntentId) {
        if let Some(run) = self.runs.get_mut(&id) {
            run.stage = Stage::Waiting { until: Monotonic::default() };
        }
    }

    /// What to tell who waited for it.
    pub fn outcome(&self, id: IntentId) -> Result<Done, Error> {
        self.outcomes.get(&id).cloned().unwrap_or(Ok(Done::Nothing))
    }

    pub fn last_error(&self, id: IntentId) -> Option<Error> {
        self.runs.get(&id).and_then(|run| run.last_error.clone())
    }

    fn remember(&mut self, id: IntentId, outcome: Result<Done, Error>) {
        self.outcomes.insert(id, outcome);
        while self.outcomes.len() > OUTCOMES {
            self.outcomes.pop_first();
        }
    }
}

impl Core {
    pub(super) fn start_intent(&mut self, now: Now, id: IntentId) {
        if self.intents.runs.contains_key(&id) {
            return;
        }
        let Some(intent) = self.namespace.intent(id) else { return };
        if let Some(until) = self.held_until(now, intent) {
            let (stage, attempt) = (Stage::Waiting { until }, intent.attempt);
            self.intents.runs.insert(id, Run { stage, attempt, failures: 0, last_error: None });
            return;
        }
        let attempt = Attempt(intent.attempt.0 + 1);
        self.intents.runs.insert(id, Run { stage: Stage::Beginning, attempt, failures: 0, last_error: None });
        self.task(now, Origin::BeginIntent(id), Op::BeginAttempt(BeginAttempt { intent: id, attempt }));
    }

    /// What is removed once more is removed when nothing can land there any more.
    fn held_until(&self, now: Now, intent: &Intent) -> Option<Monotonic> {
        match &intent.kind {
            IntentKind::DeleteAgain { .. } => {
                let held = Duration::from_millis(self.stamper.age(now).0.saturating_sub(intent.opened.0));
                Some(now.mono + LANDING.saturating_sub(held))
            }
            IntentKind::DeleteFile { .. }
            | IntentKind::DeleteTree { .. }
            | IntentKind::RenameFile { .. }
            | IntentKind::MoveTree { .. }
            | IntentKind::MakeDirectory { .. } => None,
        }
    }

    /// Whether an upload, or what an earlier leader sent, may yet land at the key that was emptied. A key that was held for
    /// long enough is only in doubt if somebody else has tried to empty it before.
    fn may_be_filled_again(&self, now: Now, intent: &Intent) -> bool {
        let (key, is_first) = match &intent.kind {
            IntentKind::DeleteAgain { key, .. } => (key, intent.attempt == Attempt(1)),
            IntentKind::DeleteFile { key, .. }
            | IntentKind::DeleteTree { key, .. }
            | IntentKind::MoveTree { from: key, .. } => (key, false),
            IntentKind::RenameFile { .. } | IntentKind::MakeDirectory { .. } => return false,
        };
        let uploads = self.shared.uploads.lock();
        uploads.may_land(intent.mount, key, now.mono) || (!is_first && uploads.is_unsure(now.mono))
    }

    /// An intent found by a new leader. In a group the store may still be carrying out what an earlier leader asked.
    pub(super) fn take_up_intent(&mut self, now: Now, id: IntentId) {
        if self.is_alone() {
            return self.start_intent(now, id);
        }
        let Some(intent) = self.namespace.intent(id) else { return };
        let rested = now.mono + self.config.intent_rest;
        let stage = Stage::Waiting { until: self.held_until(now, intent).map_or(rested, |held| held.max(rested)) };
        self.intents.runs.insert(id, Run { stage, attempt: intent.attempt, failures: 0, last_error: None });
    }

    pub(super) fn intent_begun(&mut self, id: IntentId, outcome: Result<Done, Reject>) {
        if outcome.is_err() {
            // Closed, or another attempt began: nothing of ours to do.
            self.intents.runs.remove(&id);
            return;
        }
        let Some(job) = self.namespace.intent(id).map(job_of) else { return };
        let job = self.job(job);
        self.intents.jobs.insert(job, id);
        if let Some(run) = self.intents.runs.get_mut(&id) {
            run.stage = Stage::InStore;
        }
    }

    pub(super) fn intent_answered(&mut self, now: Now, id: IntentId, result: Result<JobOk, JobError>) {
        let Some(intent) = self.namespace.intent(id).cloned() else {
            self.intents.runs.remove(&id);
            return;
        };
        let end = match result {
            Ok(ok) => {
                self.intents.remember(id, Ok(done_of(&intent)));
                match ok {
                    JobOk::Done(_) if self.may_be_filled_again(now, &intent) => IntentEnd::DoneForNow,
                    JobOk::Done(fingerprint) => IntentEnd::Done { fingerprint },
                    JobOk::Copied(fingerprint) => IntentEnd::Copied { fingerprint },
                    JobOk::CopiedTree(renewed) => IntentEnd::CopiedTree { renewed },
                    JobOk::Found(_) | JobOk::Chain(_) | JobOk::Page { .. } => IntentEnd::Done { fingerprint: None },
                }
            }
            Err(err) if err.is_transient() => return self.pause_intent(now, id, err),
            Err(err) => {
                let why = err.message.clone();
                self.intents.remember(id, Err(err.into()));
                IntentEnd::Refused { why }
            }
        };
        let Some(run) = self.intents.runs.get_mut(&id) else { return };
        run.stage = Stage::Closing;
        let attempt = run.attempt;
        self.task(now, Origin::CloseIntent(id), Op::CloseIntent(CloseIntent { intent: id, attempt, end }));
    }

    fn pause_intent(&mut self, now: Now, id: IntentId, err: JobError) {
        let Some(run) = self.intents.runs.get_mut(&id) else { return };
        run.failures += 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << run.failures.min(16)).min(LONGEST_PAUSE);
        tracing::warn!(intent = %id, failures = run.failures, ?pause, error = %err.message, "the under store did not do it, trying again");
        run.last_error = Some(err.into());
        run.stage = Stage::Waiting { until: now.mono + pause };
    }

    pub(super) fn tick_intents(&mut self, now: Now) {
        let due: Vec<IntentId> = self
            .intents
            .runs
            .iter()
            .filter(|(_, run)| match run.stage {
                Stage::Waiting { until } => now.mono >= until,
                Stage::Beginning | Stage::InStore | Stage::Closing => false,
            })
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some(intent) = self.namespace.intent(id) else {
                self.intents.runs.remove(&id);
                continue;
            };
            let attempt = Attempt(intent.attempt.0 + 1);
            if let Some(run) = self.intents.runs.get_mut(&id) {
                run.stage = Stage::Beginning;
                run.attempt = attempt;
            }
            self.task(now, Origin::BeginIntent(id), Op::BeginAttempt(BeginAttempt { intent: id, attempt }));
        }
    }
}

fn job_of(intent: &Intent) -> Job {
    let mount = intent.mount;
    match &intent.kind {
        IntentKind::DeleteFile { key, fingerprint, .. } => {
            Job::DeleteFile { mount, key: key.clone(), fingerprint: fingerprint.clone() }
        }
        IntentKind::DeleteTree { key, .. } => Job::DeleteTree { mount, key: key.clone() },
        IntentKind::DeleteAgain { key, .. } if key.ends_with('/') => Job::DeleteTree { mount, key: key.clone() },
        IntentKind::DeleteAgain { key, .. } => Job::DeleteFile { mount, key: key.clone(), fingerprint: None },
        IntentKind::RenameFile { from, to, fingerprint, .. } => {
            Job::MoveFile { mount, from: from.clone(), to: to.clone(), fingerprint: fingerprint.clone() }
        }
        IntentKind::MoveTree { from, to, .. } => {
            let again = intent.attempt > FIRST_ATTEMPT;
            Job::MoveTree { mount, from: from.clone(), to: to.clone(), again }
        }
        IntentKind::MakeDirectory { key, .. } => Job::MakeDirectory { mount, key: key.clone() },
    }
}

fn done_of(intent: &Intent) -> Done {
    match &intent.kind {
        IntentKind::RenameFile { inode, .. }
        | IntentKind::MoveTree { inode, .. }
        | IntentKind::MakeDirectory { inode, .. } => Done::Inode(*inode),
        IntentKind::DeleteFile { .. } | IntentKind::DeleteTree { .. } | IntentKind::DeleteAgain { .. } => Done::Nothing,
    }
}
