//! Masters: their processes start, stop, stand still, and do what their cores ask for.

use super::*;
use crate::calls::maker;
use crate::porters::Reply;

impl World {
    pub(super) fn start(&mut self, master: usize) -> Result<(), Failure> {
        let machine = &self.machines[master];
        if machine.process.is_some() || machine.is_lost || machine.is_waiting() {
            return Ok(());
        }
        if machine.home.is_installing() && self.phase == Phase::Faults && self.dice.once_in(2) {
            match self.machines[master].install_and_break(&self.dice) {
                Ok(()) => {}
                Err(NoStart::Disk(why)) => {
                    self.note(format_args!("master {} loses power while it installs: {why}", master + 1));
                    self.cut_power(master, RESTART_US);
                    return Ok(());
                }
                Err(no) => return self.refuses_to_start(master, &no),
            }
        }
        let dice = Dice::new(self.plan.seed, &format!("process {master} {}", self.machines[master].life));
        let count = u64::try_from(self.plan.masters).expect("few");
        self.flushing[master] = false;
        match self.machines[master].start(count, &self.under, &self.key, dice) {
            Ok(()) => {
                self.statistics.starts += 1;
                self.note(format_args!("master {} starts", master + 1));
                self.judge.recount(&self.machines[master])?;
                let first_us = self.dice.below(TICK_US);
                self.at(master, first_us, Inside::Tick);
                Ok(())
            }
            Err(no @ NoStart::Disk(_)) if self.phase != Phase::Reading => {
                self.note(format_args!("master {} cannot start: {no}", master + 1));
                self.machines[master].home.log.kill_process();
                self.after(RESTART_US, Happening::Start { master });
                Ok(())
            }
            Err(no) => self.refuses_to_start(master, &no),
        }
    }

    /// There is a reason, or it is a failure.
    fn refuses_to_start(&mut self, master: usize, no: &NoStart) -> Result<(), Failure> {
        let machine = &self.machines[master];
        if !machine.is_wanted && no.is_removal() {
            self.note(format_args!("master {} stays away: {no}", master + 1));
        } else if machine.is_rotten && no.is_rot() {
            self.note(format_args!("master {} refuses its log: {no}", master + 1));
            self.statistics.refused += 1;
            self.lose_disks(master);
        } else {
            return Err(Failure::new(Kind::Start, format!("master {} cannot start: {no}", master + 1)));
        }
        Ok(())
    }

    /// The process ends by itself, and is started again.
    pub(super) fn stop(&mut self, master: usize, why: &str) {
        self.note(format_args!("master {} stops: {why}", master + 1));
        self.machines[master].kill();
        self.forget_process(master);
        self.after(RESTART_US, Happening::Start { master });
    }

    pub(super) fn forget_process(&mut self, master: usize) {
        self.mail[master].clear();
        for client in 0..self.crowd.clients.len() {
            if self.crowd.clients[client].is_asking(master) {
                let attempt = self.crowd.clients[client].attempt;
                let in_us = self.dice.between(100, 20_000);
                self.after(in_us, Happening::Broken { client, attempt, why: "the master is gone" });
            }
        }
        self.break_calls_at(master);
        self.break_own_at(master);
    }

    pub(super) fn wake(&mut self, master: usize, life: u64) -> Result<(), Failure> {
        if self.machines[master].life != life || !self.machines[master].is_paused {
            return Ok(());
        }
        self.note(format_args!("master {} wakes", master + 1));
        self.machines[master].is_paused = false;
        let is_request = |(_, what): &(_, Inside)| matches!(what, Inside::Request { .. });
        let (requests, mut rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.mail[master]).into_iter().partition(is_request);
        // Threads that serve connections may come to run before the thread of the state.
        if self.dice.once_in(2) {
            for (_, what) in requests {
                if let Inside::Request { client, attempt } = what {
                    self.serve(master, client, attempt);
                }
            }
            self.work(master);
        } else {
            rest.extend(requests);
        }
        for (meant_for, what) in rest {
            self.happen_at(master, meant_for.or(Some(life)), what)?;
        }
        self.pump(master)
    }

    /// A request has arrived at a master.
    fn serve(&mut self, master: usize, client: usize, attempt: u64) {
        let Some(process) = &mut self.machines[master].process else { return };
        // The connection was given up: what it still had to deliver is gone with it.
        let Some((room, call, operation)) = self.crowd.clients[client].asks(attempt) else { return };
        let services = (process.fs.clone(), process.batches.clone());
        let answer = Box::pin(perform(services, room, call, operation, attempt));
        process.work.push(Work::Call { client, attempt, answer });
    }

    /// Bugs are to be seen by what they do.
    fn audit(&mut self, master: usize) -> Result<(), Failure> {
        if self.plan.bug.is_none() && self.judge.audit(&mut self.machines[master])? {
            self.statistics.audits += 1;
        }
        Ok(())
    }

    pub(super) fn happen_at(&mut self, master: usize, life: Option<u64>, what: Inside) -> Result<(), Failure> {
        let machine = &mut self.machines[master];
        let now = machine.now();
        if life.is_some_and(|life| life != machine.life) {
            return Ok(());
        }
        let Some(process) = &mut machine.process else {
            match what {
                Inside::Request { client, attempt } => {
                    self.after(2_000, Happening::Broken { client, attempt, why: "nobody listens" });
                }
                Inside::FromWorker { call, .. } => self.nobody_listens(call),
                Inside::Porter { porter, attempt } => self.nobody_listens_to(porter, attempt),
                Inside::Own { number, .. } => {
                    self.after(2_000, Happening::Own(own::Way::Back { number, answer: Err(crate::own::broken()) }));
                }
                Inside::Tick
                | Inside::Deliver { .. }
                | Inside::Unreachable { .. }
                | Inside::Asked { .. }
                | Inside::Fetched { .. }
                | Inside::Synced(_)
                | Inside::Flush { .. }
                | Inside::LateJob(_) => {}
            }
            return Ok(());
        };
        match what {
            // A connection is between two members: what was meant for an earlier one of this machine is gone with it.
            Inside::Deliver { to, .. } | Inside::Asked { to, .. } if to != machine.id => return Ok(()),
            Inside::Deliver { from, message, everywhere, .. } => {
                if process.met.insert(from) {
                    process.rig.step(now, Event::Met(from, self.plan.said()));
                }
                process.rig.step(now, Event::PeerMessage { from, message, everywhere });
            }
            Inside::Unreachable { to } => process.rig.step(now, Event::Unreachable(to)),
            Inside::Asked { by, life, number, ask, .. } => self.asked(master, by, life, number, &ask),
            Inside::Fetched { number, answer } => {
                if let Some(fetching) = &process.fetching {
                    fetching.answer(number, answer);
                }
            }
            Inside::Tick => {
                process.rig.step(now, Event::Tick);
                self.at(master, TICK_US, Inside::Tick);
                self.audit(master)?;
            }
            Inside::Synced(batch) => match process.log.sync() {
                Ok(()) => {
                    process.prepare_log();
                    if self.plan.bug != Some(Bug::AckBeforeFsync) {
                        self.persisted(master, batch);
                    }
                }
                Err(err) => {
                    self.stop(master, &types::sentence(&err));
                    return Ok(());
                }
            },
            Inside::Flush { told } => {
                let flushed = process.rig.flush();
                self.flushing[master] = false;
                match (flushed, told) {
                    (Ok(_), true) => {}
                    (Ok(index), false) => process.rig.step(now, Event::Flushed(index)),
                    (Err(err), _) => {
                        self.stop(master, &err.to_string());
                        return Ok(());
                    }
                }
            }
            Inside::LateJob(job) => {
                let result = process.rig.execute(job);
                process.work.push(Work::Forgotten { result });
            }
            Inside::Request { client, attempt } => self.serve(master, client, attempt),
            Inside::FromWorker { call, request } => self.serve_worker(master, call, *request),
            Inside::Porter { porter, attempt } => self.serve_porter(master, porter, attempt),
            Inside::Own { number, method, request } => {
                let answer = process.frames.ask(method, request, Some(maker()));
                process.work.push(Work::Own { number, answer });
            }
        }
        self.pump(master)
    }

    /// Has a master do all there is to do now.
    pub(super) fn pump(&mut self, master: usize) -> Result<(), Failure> {
        for _ in 0..TURNS {
            if self.machines[master].is_paused {
                return Ok(());
            }
            let mut busy = self.work(master);
            busy |= self.go_on_fetching(master)?;
            let now = self.machines[master].now();
            let Some(process) = &mut self.machines[master].process else { return Ok(()) };
            process.read_clock();
            let actions = match process.rig.turn(now) {
                Ok(actions) => actions,
                Err(why) => {
                    self.stop(master, &why);
                    return Ok(());
                }
            };
            busy |= process.rig.is_unfinished() || !actions.is_empty();
            let life = self.machines[master].life;
            for action in actions {
                if self.machines[master].life == life {
                    self.act(master, action);
                }
            }
            self.judge.state(&mut self.machines[master])?;
            if !busy && !self.work(master) {
                return Ok(());
            }
        }
        Err(Failure::new(Kind::NotHealed, format!("master {} does not come to rest", master + 1)))
    }

    /// Drives calls and jobs as far as they come. True if one ended.
    fn work(&mut self, master: usize) -> bool {
        let now = self.machines[master].now();
        let (mut ended, mut refused) = (Vec::new(), Vec::new());
        let (mut replies, mut answers, mut own) = (Vec::new(), Vec::new(), Vec::new());
        let Some(process) = &mut self.machines[master].process else { return false };
        let mut context = Context::from_waker(Waker::noop());
        let mut any = false;
        for mut work in std::mem::take(&mut process.work) {
            match &mut work {
                Work::Call { client, attempt, answer } => match answer.as_mut().poll(&mut context) {
                    Poll::Ready(result) => ended.push((*client, *attempt, Heard::of(result))),
                    Poll::Pending => process.work.push(work),
                },
                Work::Own { number, answer } => match answer.as_mut().poll(&mut context) {
                    Poll::Ready(answer) => own.push((*number, answer.map(Bytes::from))),
                    Poll::Pending => process.work.push(work),
                },
                Work::Job { id, result } => match result.as_mut().poll(&mut context) {
                    Poll::Ready(result) => {
                        any = true;
                        if let Err(err) = &result {
                            refused.push(format!("{id:?}: {}", err.message));
                        }
                        process.rig.step(now, Event::JobDone(*id, result));
                    }
                    Poll::Pending => process.work.push(work),
                },
                Work::Porter { porter, attempt, answer } => match answer.as_mut().poll(&mut context) {
                    Poll::Ready(result) => replies.push((*porter, *attempt, Reply::of_master(result))),
                    Poll::Pending => process.work.push(work),
                },
                Work::OfWorker { call, answer } => match answer.as_mut().poll(&mut context) {
                    Poll::Ready(answer) => answers.push((*call, answer)),
                    Poll::Pending => process.work.push(work),
                },
                Work::Forgotten { result } => {
                    if result.as_mut().poll(&mut context).is_pending() {
                        process.work.push(work);
                    }
                }
            }
        }
        for why in refused {
            self.note(format_args!("master {} hears from the store: {why}", master + 1));
        }
        any |= !ended.is_empty() || !replies.is_empty() || !answers.is_empty() || !own.is_empty();
        for (client, attempt, heard) in ended {
            self.answer(master, client, attempt, heard);
        }
        for (number, answer) in own {
            self.answer_own(master, number, answer);
        }
        for (porter, attempt, reply) in replies {
            self.answer_to_porter(master, porter, attempt, reply);
        }
        for (call, answer) in answers {
            self.answer_to_worker(master, call, answer);
        }
        any
    }

    fn act(&mut self, master: usize, action: Action) {
        match action {
            Action::Append(batch) => self.append(master, &batch),
            Action::Send(message, everywhere) => self.send(master, message, everywhere),
            Action::Job(id, job) => self.job(master, id, job),
            Action::Flush => {
                self.note(format_args!("master {} flushes", master + 1));
                self.flushing[master] = true;
                if self.plan.bug == Some(Bug::LogCutEarly) {
                    let now = self.machines[master].now();
                    if let Some(process) = &mut self.machines[master].process {
                        let applied = process.rig.applied();
                        process.rig.step(now, Event::Flushed(applied));
                    }
                    return self.at(master, FLUSHED_AFTER_US, Inside::Flush { told: true });
                }
                let in_us = self.dice.between(500, 30_000) + 1000 * self.machines[master].fsync_ms;
                self.at(master, in_us, Inside::Flush { told: false });
            }
            Action::Purge(below) => {
                self.note(format_args!("master {} cuts its log below {below}", master + 1));
                if let Some(process) = &mut self.machines[master].process {
                    // As the writer: what fails here is tried again at the next flush.
                    let _ = process.log.purge_below(below);
                }
            }
            // The network knows them.
            Action::Members(_) => {
                let applied =
                    self.machines[master].process.as_ref().map_or(LogIndex(0), |process| process.rig.applied());
                self.changed = self.changed.max(applied);
            }
            Action::Fetch(offer) => self.fetch(master, offer),
            Action::Reply(..) | Action::MountsChanged => unreachable!("the rig does these"),
        }
    }

    fn append(&mut self, master: usize, batch: &AppendBatch) {
        let last = batch.entries.last().map(|entry| entry.index.0);
        let payload = hash(&batch.entries.iter().map(|entry| (entry.term.0, &entry.payload)).collect::<Vec<_>>());
        let state = batch.hard_state;
        self.note(format_args!(
            "master {} appends {} to {last:?}, {payload:x}, {} voted {:?} commit {}",
            master + 1,
            batch.entries.len(),
            state.term,
            state.vote,
            state.commit
        ));
        if let Err(why) = self.machines[master].append(batch) {
            return self.stop(master, &why);
        }
        let batch =
            Batch { seq: batch.seq, state: batch.hard_state, last: batch.entries.last().map(|entry| entry.index) };
        let mut took_us = if self.dice.once_in(40) { 25_000 } else { self.dice.between(200, 2_500) };
        took_us += 1000 * self.machines[master].fsync_ms;
        if self.plan.bug == Some(Bug::AckBeforeFsync) {
            self.persisted(master, batch);
            took_us += WRITTEN_BACK_AFTER_US;
        }
        self.at(master, took_us, Inside::Synced(batch));
    }

    fn persisted(&mut self, master: usize, batch: Batch) {
        let machine = &mut self.machines[master];
        let now = machine.now();
        machine.promise(batch.state, batch.last);
        if let Some(process) = &mut machine.process {
            process.rig.step(now, Event::Persisted(batch.seq));
        }
    }

    fn job(&mut self, master: usize, id: master::core::JobId, job: Job) {
        self.note(format_args!("master {} asks {URI}: {job:?}", master + 1));
        let now = self.machines[master].now();
        let Some(process) = &mut self.machines[master].process else { return };
        if self.plan.bug == Some(Bug::CollectorLate) && matches!(job, Job::DeleteTree { .. }) {
            process.rig.step(now, Event::JobDone(id, Ok(JobOk::Done(None))));
            return self.at(master, COLLECTED_AFTER_US, Inside::LateJob(job));
        }
        let result = process.rig.execute(job);
        process.work.push(Work::Job { id, result });
    }
}
