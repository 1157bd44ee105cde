//! One rule of a member per test, without a disk or a network; `tests/node_sim.rs` runs whole groups.

use super::*;
use crate::log::conformance::batch;
use crate::{AppendBatch, HardState, JournalLog, MemLog};
use std::sync::Mutex;
use std::time::Duration;
use types::{ClusterId, ErrorKind};

const ME: MemberId = MemberId(1);
/// Everybody has everything.
const ALL: LogIndex = LogIndex(u64::MAX);

fn at(ms: u64) -> Monotonic {
    Monotonic(Duration::from_millis(ms))
}

fn config(voters: u64) -> NodeConfig {
    NodeConfig {
        tick: Duration::from_millis(10),
        heartbeat_ticks: 2,
        election_ticks: 20,
        lease: Duration::from_millis(150),
        max_entry_bytes: 100,
        max_pending_entries: 8,
        max_pending_bytes: 400,
        max_committed_bytes: 300,
        cache_bytes: 500,
        ..NodeConfig::new(ME, (1..=voters).map(MemberId).collect())
    }
}

fn boot(applied: u64) -> Boot {
    Boot { applied: LogIndex(applied), now: at(0), seed: 1 }
}

/// A member with a log in memory.
struct Bench {
    node: Node,
    log: MemLog,
    applied: Vec<Committed>,
}

impl Bench {
    fn start(config: NodeConfig, log: MemLog, applied: u64) -> Result<Bench, Error> {
        let node = Node::new(config, log.recovered(), log.reader(), boot(applied))?;
        Ok(Bench { node, log, applied: Vec::new() })
    }

    /// A group of one that has opened its term.
    fn alone() -> Bench {
        let mut bench = Bench::start(config(1), MemLog::new(ClusterId(1)), 0).expect("a fresh member");
        bench.settle();
        bench
    }

    fn drain(&mut self) -> Output {
        let output = self.node.drain().expect("a healthy log");
        self.node.check_invariants();
        output
    }

    fn store(&mut self, batch: &AppendBatch) {
        self.log.append(batch).expect("a batch that continues the log");
        self.log.sync().expect("memory");
        self.node.persisted(batch.seq);
    }

    fn apply(&mut self, output: &Output) {
        self.applied.extend(output.committed.iter().cloned());
        if let Some(last) = output.committed.last() {
            self.node.advance_applied(last.index);
        }
    }

    /// Carries out work until there is none.
    fn settle(&mut self) -> Vec<Output> {
        self.try_to_settle().expect("a healthy log")
    }

    /// Errors: it stops there.
    fn try_to_settle(&mut self) -> Result<Vec<Output>, Error> {
        let mut all = Vec::new();
        for _ in 0..1000 {
            let output = self.node.drain()?;
            self.node.check_invariants();
            self.apply(&output);
            if let Some(batch) = &output.append {
                self.store(batch);
            } else if !output.more {
                all.push(output);
                return Ok(all);
            }
            all.push(output);
        }
        panic!("a member that never rests");
    }

    fn propose(&mut self, ticket: u64, payload: &'static str) -> Result<(), Refused> {
        self.node.propose(ticket, &Bytes::from_static(payload.as_bytes()))
    }
}

/// A log of entries `1..=last`, term 1, all committed.
fn long_log(last: u64, bytes: usize) -> MemLog {
    let mut log = MemLog::new(ClusterId(1));
    let payload = vec![7; bytes];
    let entries: Vec<_> = (1..=last).map(|index| (index, 1, &payload[..])).collect();
    log.append(&batch(1, None, &entries, last)).expect("a new log");
    log.sync().expect("memory");
    log
}

#[test]
fn a_group_of_one_leads_at_once_and_says_when_it_may_stamp() {
    let mut bench = Bench::start(config(1), MemLog::new(ClusterId(1)), 0).expect("a fresh member");
    let first = bench.drain();
    let role = first.role.expect("it changed");
    assert_eq!((role.role, role.term, role.leader), (Role::Leader, Term(1), Some(ME)));
    let opening = first.append.expect("the vote and the entry that opens the term");
    assert_eq!(opening.hard_state, HardState { term: Term(1), vote: Some(ME), commit: LogIndex(0) });
    assert!(opening.entries[0].payload.is_empty());
    assert_eq!((bench.node.established(), bench.node.lease_valid(at(0))), (None, false));
    bench.store(&opening);
    let output = bench.drain();
    assert_eq!(output.committed.len(), 1);
    assert_eq!(bench.node.established(), Some(LogIndex(1)));
    assert!(!bench.node.lease_valid(at(0)), "its own first entry is not applied");
    bench.apply(&output);
    assert!(bench.node.lease_valid(at(1_000_000)), "a group of one asks nobody");
}

#[test]
fn nothing_commits_before_it_is_persisted_and_tickets_come_back_in_order() {
    let mut bench = Bench::alone();
    bench.propose(70, "a").unwrap();
    bench.propose(71, "b").unwrap();
    let output = bench.drain();
    assert!(output.committed.is_empty());
    let batch = output.append.expect("both entries");
    assert_eq!(batch.entries.len(), 2);
    assert!(bench.drain().append.is_none(), "one batch at a time");
    bench.store(&batch);
    let committed = bench.drain().committed;
    let seen: Vec<_> = committed.iter().map(|entry| (entry.index.0, entry.ticket, &entry.payload[..])).collect();
    assert_eq!(seen, [(2, Some(70), &b"a"[..]), (3, Some(71), b"b")]);
}

#[test]
fn all_that_comes_while_a_batch_is_outstanding_goes_into_the_next() {
    let mut bench = Bench::alone();
    bench.propose(1, "first").unwrap();
    let first = bench.drain().append.expect("a batch");
    for ticket in 2..=6 {
        bench.propose(ticket, "later").unwrap();
        assert!(bench.drain().append.is_none());
    }
    bench.store(&first);
    let second = bench.drain().append.expect("the next batch");
    assert_eq!(second.entries.len(), 5);
    assert_eq!(second.seq.0, first.seq.0 + 1);
    assert_eq!(second.hard_state.commit, LogIndex(2), "the commit rides with the batch");
    bench.store(&second);
    let last = bench.settle();
    assert!(last.iter().all(|output| output.append.is_none()), "a commit index alone is not worth a write");
}

#[test]
fn proposals_are_refused_by_sentence() {
    let mut bench = Bench::alone();
    let long = Bytes::from(vec![0; 101]);
    let refused = bench.node.propose(1, &long).expect_err("too big");
    assert_eq!(refused, Refused::TooBig { bytes: 101, max_bytes: 100 });
    assert_eq!(bench.propose(1, "").expect_err("empty").kind(), ErrorKind::Invalid);
    let full = (0..20).find_map(|ticket| bench.propose(ticket, "x").err()).expect("a bound");
    assert_eq!((full.kind(), full), (ErrorKind::Busy, Refused::Full { entries: 8, bytes: 8 }));
    bench.settle();
    bench.propose(9, "x").expect("room again");

    let mut follower = Bench::start(config(3), MemLog::new(ClusterId(1)), 0).expect("a fresh member");
    let refused = follower.propose(1, "x").expect_err("no leader");
    assert_eq!(refused.to_string(), "this master does not lead; no leader is known yet");
    assert_eq!(follower.node.read_index(1), Err(Refused::NotLeader { leader: None }));
}

#[test]
fn pending_bytes_are_bounded_too() {
    let mut bench = Bench::alone();
    let large = Bytes::from(vec![0; 90]);
    let refused = (0..8).find_map(|ticket| bench.node.propose(ticket, &large).err()).expect("a bound");
    assert_eq!(refused, Refused::Full { entries: 4, bytes: 360 });
}

#[test]
fn reads_wait_for_the_first_entry_of_the_term_and_share_rounds() {
    let mut bench = Bench::start(config(1), MemLog::new(ClusterId(1)), 0).expect("a fresh member");
    bench.node.read_index(5).expect("a leader");
    bench.node.read_index(6).expect("a leader");
    let opening = bench.drain();
    assert!(opening.reads.is_empty());
    bench.store(&opening.append.expect("the opening entry"));
    let reads: Vec<_> = bench.settle().into_iter().flat_map(|output| output.reads).collect();
    assert_eq!(reads, [(5, LogIndex(1)), (6, LogIndex(1))]);
}

#[test]
fn a_restart_replays_in_bounded_portions_without_loading_the_log() {
    /// Refuses to read much at once.
    struct Frugal(Arc<dyn LogReader>, Mutex<usize>);
    impl LogReader for Frugal {
        fn read(&self, from: LogIndex, to: LogIndex, max_bytes: usize) -> Result<Vec<LogEntry>, Error> {
            assert!(max_bytes <= 300, "asked for {max_bytes} bytes at once");
            *self.1.lock().unwrap() += 1;
            self.0.read(from, to, max_bytes)
        }
    }
    let log = long_log(200, 50);
    let reader = Arc::new(Frugal(log.reader(), Mutex::new(0)));
    let node = Node::new(config(1), log.recovered(), reader.clone(), boot(40)).expect("a healthy log");
    let mut bench = Bench { node, log, applied: Vec::new() };
    let outputs = bench.settle();
    assert!(outputs.iter().all(|output| output.committed.len() <= 7), "at most 300 bytes per drain");
    let indexes: Vec<_> = bench.applied.iter().map(|entry| entry.index.0).collect();
    assert_eq!(indexes, (41..=201).collect::<Vec<_>>(), "everything after what was applied, once, in order");
    assert!(*reader.1.lock().unwrap() >= 160 / 7);
    assert_eq!(bench.node.established(), Some(LogIndex(201)));
}

#[test]
fn a_store_that_does_not_fit_the_log_is_refused_by_sentence() {
    let mut log = long_log(20, 10);
    log.purge_below(LogIndex(11)).expect("memory");
    let start = |applied| Node::new(config(1), log.recovered(), log.reader(), boot(applied)).err();
    assert!(start(10).is_none() && start(15).is_none() && start(20).is_none());
    let below = start(9).expect("a hole");
    assert!(matches!(below, Error::AppliedBelowLog { applied: LogIndex(9), first: LogIndex(11) }));
    assert!(below.to_string().contains("stands at log-9, but the journal begins at log-11"), "{below}");
    let beyond = start(21).expect("a lost tail");
    assert!(beyond.to_string().contains("committed entries are missing from the journal"), "{beyond}");
    assert_eq!(beyond.kind(), ErrorKind::Corrupt);
}

#[test]
fn the_log_is_given_up_only_below_both_the_flush_and_the_snapshot() {
    let mut bench = Bench::alone();
    for ticket in 0..30 {
        bench.propose(ticket, "entry").unwrap();
        bench.settle();
    }
    assert_eq!(bench.node.compact(LogIndex(20), ALL), None, "there is no snapshot");
    bench.node.set_snapshot(SnapshotMark { index: LogIndex(10), term: Term(1) });
    assert_eq!(bench.node.compact(LogIndex(20), ALL), Some(LogIndex(11)));
    assert_eq!(bench.node.compact(LogIndex(20), ALL), None, "nothing moved");
    bench.node.set_snapshot(SnapshotMark { index: LogIndex(25), term: Term(1) });
    assert_eq!(bench.node.compact(LogIndex(20), ALL), Some(LogIndex(21)));
    bench.log.purge_below(LogIndex(21)).expect("memory");
    bench.propose(99, "after").unwrap();
    bench.settle();
    assert_eq!(bench.applied.last().and_then(|entry| entry.ticket), Some(99));
    let again = Bench::start(config(1), bench.log, 22).expect("applied above the start of the log");
    assert_eq!(again.node.applied(), LogIndex(22));
}

#[test]
fn a_log_that_cannot_be_read_stops_the_member_with_its_reason() {
    struct Broken;
    impl LogReader for Broken {
        fn read(&self, index: LogIndex, _: LogIndex, _: usize) -> Result<Vec<LogEntry>, Error> {
            Err(Error::Purged { index, first: LogIndex(9) })
        }
    }
    let log = long_log(5, 10);
    let mut node = Node::new(config(1), log.recovered(), Arc::new(Broken), boot(0)).expect("nothing is read yet");
    assert!(matches!(node.drain(), Err(Error::Purged { .. })));
}

/// Messages of a member of three after so many milliseconds in steps of `step_ms`.
fn campaigns_within(bench: &mut Bench, from_ms: u64, to_ms: u64, step_ms: usize) -> bool {
    (from_ms..=to_ms).step_by(step_ms).any(|ms| {
        bench.node.tick(at(ms));
        !bench.drain().messages.is_empty()
    })
}

#[test]
fn ticks_follow_the_clock_and_never_run_ahead_of_it() {
    let mut often = Bench::start(config(3), MemLog::new(ClusterId(1)), 0).expect("a fresh member");
    assert!(
        !campaigns_within(&mut often, 0, 199, 1),
        "twenty ticks of 10 ms have not passed, however often it is asked"
    );
    assert!(campaigns_within(&mut often, 200, 400, 1));
    let mut rarely = Bench::start(config(3), MemLog::new(ClusterId(1)), 0).expect("a fresh member");
    rarely.node.tick(at(199));
    rarely.node.tick(at(100));
    assert!(rarely.drain().messages.is_empty());
    assert!(campaigns_within(&mut rarely, 1_000_000, 1_000_200, 200), "a long pause is time too");
}

/// A message from member 2 at term 5, as member 2 would send it.
fn from_two(kind: MessageType, term: u64, context: &[u8]) -> Bytes {
    let mut message = Message { to: 1, from: 2, term, index: 9, log_term: term, ..Message::default() };
    message.set_msg_type(kind);
    message.context = context.to_vec();
    wire::encode(&message)
}

#[test]
fn a_restarted_member_of_three_neither_votes_nor_campaigns_for_one_lease() {
    let ask = from_two(MessageType::MsgRequestVote, 2, b"");
    let hurry = from_two(MessageType::MsgTimeoutNow, 1, b"");
    let mut bench = Bench::start(config(3), long_log(3, 10), 3).expect("a member with a past");
    for (ms, message) in [(0, &ask), (164, &ask), (164, &hurry)] {
        bench.node.step(at(ms), message).expect("a well-formed message");
        assert!(bench.settle().iter().all(|output| output.messages.is_empty()), "silent at {ms} ms");
        assert_eq!(bench.node.term(), Term(1));
    }
    bench.node.step(at(165), &ask).expect("a well-formed message");
    let votes: usize = bench.settle().iter().map(|output| output.messages.len()).sum();
    assert_eq!((votes, bench.node.term()), (1, Term(2)), "150 ms and a tenth have passed");

    let mut newborn = Bench::start(config(3), MemLog::new(ClusterId(1)), 0).expect("a fresh member");
    newborn.node.step(at(0), &ask).expect("a well-formed message");
    assert_eq!(newborn.node.term(), Term(2), "it has promised nobody anything");
}

#[test]
fn a_vote_is_answered_only_after_it_is_on_disk() {
    let mut bench = Bench::start(config(3), MemLog::new(ClusterId(1)), 0).expect("a fresh member");
    bench.node.step(at(0), &from_two(MessageType::MsgRequestVote, 2, b"")).expect("a well-formed message");
    let output = bench.drain();
    assert!(output.messages.is_empty());
    let batch = output.append.expect("the vote");
    assert_eq!(batch.hard_state, HardState { term: Term(2), vote: Some(MemberId(2)), commit: LogIndex(0) });
    bench.store(&batch);
    assert_eq!(bench.drain().messages.len(), 1);
}

/// The promise holds whatever term has come since: a stray message of a higher term must not free the vote.
#[test]
fn who_answered_a_heartbeat_does_not_vote_for_one_lease_even_in_a_newer_term() {
    let mut bench = Bench::start(config(3), MemLog::new(ClusterId(1)), 0).expect("a fresh member");
    bench.node.step(at(100), &from_two(MessageType::MsgHeartbeat, 1, &[0; 8])).expect("a well-formed message");
    bench.settle();
    bench.node.step(at(110), &from_two(MessageType::MsgAppendResponse, 2, b"")).expect("a well-formed message");
    assert_eq!((bench.node.term(), bench.node.leader()), (Term(2), None));
    let mut voted = |ms, context: &[u8]| {
        bench.node.step(at(ms), &from_two(MessageType::MsgRequestVote, 2, context)).expect("a well-formed message");
        bench.settle().iter().any(|output| !output.messages.is_empty())
    };
    assert!(!voted(264, b""));
    assert!(voted(264, CAMPAIGN_TRANSFER), "the leader itself gave its lease up");
}

#[test]
fn a_heartbeat_that_claims_more_than_the_log_holds_stops_the_member() {
    let mut bench = Bench::start(config(3), long_log(3, 10), 3).expect("a member with a past");
    let mut beat = Message { to: 1, from: 2, term: 5, commit: 9, context: vec![0; 8], ..Message::default() };
    beat.set_msg_type(MessageType::MsgHeartbeat);
    let error = bench.node.step(at(0), &wire::encode(&beat)).expect_err("its disk lost entries");
    assert!(error.is_fatal() && error.to_string().contains("its journal ends at log-3"), "{error}");
}

/// Makes member 1 the leader of a log of 300 entries, by the vote of member 2.
fn leader_of_three() -> Bench {
    leader_over(300, 10)
}

/// It has so many entries of so many bytes, all applied.
fn leader_over(last: u64, bytes: usize) -> Bench {
    let mut bench = Bench::start(config(3), long_log(last, bytes), last).expect("a member with a past");
    (0..=600).step_by(10).for_each(|ms| {
        bench.node.tick(at(ms));
        bench.settle();
    });
    for kind in [MessageType::MsgRequestPreVoteResponse, MessageType::MsgRequestVoteResponse] {
        bench.node.step(at(600), &from_two(kind, 2, b"")).expect("a well-formed message");
        bench.settle();
    }
    assert_eq!((bench.node.role(), bench.node.term()), (Role::Leader, Term(2)));
    bench
}

/// raft-rs alone would probe from entry 101 again, find it purged, and never replicate to member 2 again.
#[test]
fn a_rejection_that_was_delayed_does_not_strand_a_follower() {
    let answer = |index, reject, hint| {
        let mut message = Message { to: 1, from: 2, term: 2, index, reject, reject_hint: hint, ..Message::default() };
        message.log_term = u64::from(reject);
        message.set_msg_type(MessageType::MsgAppendResponse);
        wire::encode(&message)
    };
    let mut bench = leader_of_three();
    let late = answer(300, true, 100);
    for message in [&late, &answer(300, false, 0)] {
        bench.node.step(at(600), message).expect("a well-formed message");
        assert!(bench.settle().iter().any(|output| !output.messages.is_empty()));
    }
    bench.node.unreachable(MemberId(2));
    bench.node.raft.mut_store().drop_below(250);
    bench.node.step(at(610), &late).expect("a well-formed message");
    bench.propose(1, "more").expect("a leader");
    let outputs = bench.settle();
    assert!(outputs.iter().all(|output| output.snapshots_wanted.is_empty()), "everything it lacks is here");
}

/// A member that had stood for election in vain got nothing of the log any more, once that had been cut: it was in a later term
/// than its leader, who did not listen to that.
#[test]
fn a_member_of_a_later_term_makes_its_leader_begin_a_new_one_though_the_log_was_cut() {
    let mut bench = leader_of_three();
    bench.agreed();
    bench.node.raft.mut_store().drop_below(250);
    let mut later = Message { to: 1, from: 3, term: 3, ..Message::default() };
    later.set_msg_type(MessageType::MsgAppendResponse);
    bench.node.step(at(610), &wire::encode(&later)).expect("a well-formed message");
    assert_eq!((bench.node.role(), bench.node.term()), (Role::Follower, Term(3)));
}

/// It would lead without a lease for ever, and whatever needs one, such as work at a store, would never be done.
#[test]
fn a_leader_whose_transfer_came_to_nothing_makes_room_for_a_new_term() {
    let mut bench = leader_of_three();
    let beats = |bench: &mut Bench, from_ms: usize, to_ms: usize| {
        for ms in (from_ms..to_ms).step_by(10) {
            let now = at(u64::try_from(ms).expect("small"));
            bench.node.tick(now);
            let beat = from_two(MessageType::MsgHeartbeatResponse, 2, &[0; 8]);
            bench.node.step(now, &beat).expect("a well-formed message");
            bench.settle();
        }
    };
    beats(&mut bench, 610, 1_500);
    assert_eq!(bench.node.role(), Role::Leader, "its followers answer");
    bench.node.transfer_leadership(MemberId(3)).expect("a leader");
    bench.settle();
    beats(&mut bench, 1_500, 1_600);
    assert_eq!(bench.node.role(), Role::Leader, "member 3 still has time");
    beats(&mut bench, 1_600, 2_000);
    assert_ne!(bench.node.role(), Role::Leader);
    assert!(bench.node.propose(1, &Bytes::from_static(b"x")).is_err());
}

#[test]
fn messages_from_strangers_or_for_others_are_refused() {
    let mut bench = Bench::start(config(3), MemLog::new(ClusterId(1)), 0).expect("a fresh member");
    for (from, to) in [(0, 1), (2, 3), (1, 1)] {
        let mut message = Message { to, from, term: 1, ..Message::default() };
        message.set_msg_type(MessageType::MsgAppendResponse);
        let error = bench.node.step(at(0), &wire::encode(&message)).expect_err("not for this member");
        assert!(!error.is_fatal() && error.kind() == ErrorKind::Invalid, "{error}");
    }
}

#[test]
fn settings_that_break_the_lease_are_refused_by_sentence() {
    let lease = |ms| NodeConfig { lease: Duration::from_millis(ms), ..config(3) };
    let refusals = [
        (lease(180), "the earliest election"),
        (lease(39), "outlast two heartbeats"),
        (NodeConfig::new(ME, vec![MemberId(2)]), "not among the members"),
        (NodeConfig::new(ME, Vec::new()), "are not 1 to 7 members"),
        (NodeConfig { max_pending_bytes: 99, ..config(1) }, "at least one entry"),
    ];
    for (config, expected) in refusals {
        let error = Bench::start(config, MemLog::new(ClusterId(1)), 0).err().expect("refused");
        assert!(error.to_string().contains(expected), "{error}");
    }
    for members in [1, 3] {
        NodeConfig::new(ME, (1..=members).map(MemberId).collect()).check().expect("the defaults");
    }
}

impl Bench {
    /// Member 2 says that it has everything.
    fn agreed(&mut self) {
        let mut message = Message { to: 1, from: 2, term: 2, index: self.node.last_index().0, ..Message::default() };
        message.set_msg_type(MessageType::MsgAppendResponse);
        self.node.step(at(600), &wire::encode(&message)).expect("a member");
        self.settle();
    }
}

#[test]
fn a_change_of_the_members_counts_once_it_is_committed_and_one_at_a_time() {
    let mut bench = leader_of_three();
    let add = |address: &str| Change::AddLearner { address: address.to_owned(), replaces: None };
    assert_eq!(bench.node.propose_change(1, &add("d:1")), Err(Refused::Changing), "its own first entry is not applied");
    bench.agreed();
    bench.node.propose_change(1, &add("d:1")).expect("a leader");
    bench.settle();
    assert_eq!(bench.node.propose_change(2, &add("e:1")), Err(Refused::Changing));
    assert!(bench.node.members().learners().next().is_none(), "not committed");
    bench.agreed();
    assert_eq!(bench.node.members().learners().collect::<Vec<_>>(), [MemberId(4)]);
    let last = bench.applied.last().expect("the change");
    assert_eq!((last.ticket, last.members.as_ref()), (Some(1), Some(bench.node.members())));
    let own = bench.node.propose_change(2, &Change::Remove(ME)).expect_err("it leads");
    assert!(own.to_string().contains("hand the lead over first"), "{own}");
    bench.node.propose_change(2, &Change::Promote(MemberId(4))).expect("a learner");
}

#[test]
fn a_change_behind_the_applied_index_is_handed_out_again() {
    let mut bench = leader_of_three();
    bench.agreed();
    let before = bench.node.applied();
    bench.node.propose_change(1, &Change::Remove(MemberId(3))).expect("a leader");
    bench.settle();
    bench.agreed();
    bench.propose(2, "the commit of the change goes with it").expect("a leader");
    bench.settle();
    let recovered = bench.log.recovered();
    assert_eq!(recovered.changes, [LogIndex(before.0 + 1)]);
    let mut again = Bench::start(config(3), bench.log, before.0).expect("it fits");
    assert!(again.node.members().is_voter(MemberId(3)));
    again.settle();
    assert!(!again.node.members().is_voter(MemberId(3)));
}

/// All members lost power after a change and nothing else, and then waited for the vote of one whose disk was gone by then.
#[test]
fn a_group_that_rested_since_a_change_of_its_members_knows_it_after_a_power_cut() {
    let mut bench = leader_of_three();
    bench.agreed();
    bench.node.propose_change(1, &Change::Remove(MemberId(3))).expect("a leader");
    bench.settle();
    bench.agreed();
    let changed = bench.applied.last().expect("the change").index;
    assert_eq!(bench.log.recovered().hard_state.commit, changed);
}

#[test]
fn who_lags_behind_the_log_is_offered_the_mark_for_its_driver_to_fetch() {
    let mut bench = leader_of_three();
    bench.node.raft.mut_store().drop_below(250);
    let mut rejection =
        Message { to: 1, from: 2, term: 2, index: 300, reject: true, reject_hint: 100, ..Message::default() };
    rejection.set_msg_type(MessageType::MsgAppendResponse);
    rejection.log_term = 1;
    bench.node.step(at(600), &wire::encode(&rejection)).expect("a member");
    let mut offers = |ms| {
        bench.node.tick(at(ms));
        let mut beat = Message { to: 1, from: 2, term: 2, context: vec![0; 8], ..Message::default() };
        beat.set_msg_type(MessageType::MsgHeartbeatResponse);
        bench.node.step(at(ms), &wire::encode(&beat)).expect("a member");
        let messages = bench.settle().into_iter().flat_map(|output| output.messages);
        let snapshots = messages.filter(|message| message.to == MemberId(2));
        let decoded = snapshots.map(|message| wire::decode(&message.bytes).expect("our own"));
        decoded.filter(|message| message.get_msg_type() == MessageType::MsgSnapshot).collect::<Vec<_>>()
    };
    let first = offers(600);
    let mark = first.first().expect("its next entry is gone").get_snapshot().get_metadata();
    assert_eq!((mark.index, mark.term), (300, 1), "what the state held when this member began");
    assert!(offers(700).is_empty(), "once is enough for a while");
    // The member that gets it leaves it to its driver.
    let (log, two) = (MemLog::new(ClusterId(1)), NodeConfig { id: MemberId(2), ..config(3) });
    let mut other = Node::new(two, log.recovered(), log.reader(), boot(0)).expect("fresh");
    other.step(at(0), &wire::encode(&first[0])).expect("a leader");
    let offer = other.drain().expect("well").snapshot_offered.expect("for the driver");
    assert_eq!((offer.from, offer.mark.index), (ME, LogIndex(300)));
}

#[test]
fn a_lone_voter_with_changes_to_apply_keeps_silent_like_any_other() {
    let mut log = MemLog::new(ClusterId(1));
    let mut first = batch(1, None, &[(1, 1, b""), (2, 1, b"change")], 2);
    first.entries[1].kind = crate::EntryKind::Change;
    first.entries[1].payload = Change::AddLearner { address: "b:1".to_owned(), replaces: None }.encode().into();
    log.append(&first).and_then(|()| log.sync()).expect("memory");
    let mut bench = Bench::start(config(1), log, 1).expect("it fits");
    assert_eq!(bench.node.role(), Role::Follower, "who knows who votes by now");
    bench.settle();
    assert_eq!(bench.node.members().learners().count(), 1);
    (0..=600).step_by(10).for_each(|ms| {
        bench.node.tick(at(ms));
        bench.settle();
    });
    assert_eq!(bench.node.role(), Role::Leader, "it has seen that nobody else does");
}

/// What a member is fed: messages one after the other, each behind its length in two bytes.
fn strung(messages: &[Message]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        let bytes = wire::encode(message);
        out.extend_from_slice(&u16::try_from(bytes.len()).expect("short").to_le_bytes());
        out.extend_from_slice(&bytes);
    }
    out
}

fn each(mut bytes: &[u8], mut feed: impl FnMut(&[u8]) -> Result<(), Error>) {
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (message, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        match feed(message) {
            Ok(()) | Err(Error::BadMessage { .. }) => bytes = rest,
            // It would stop here.
            Err(_) => return,
        }
    }
}

fn said(kind: MessageType, with: Message) -> Message {
    let mut message = Message { to: 1, from: 2, ..with };
    message.set_msg_type(kind);
    message
}

fn entry(index: u64, term: u64) -> Entry {
    Entry { index, term, data: b"x".to_vec(), ..Entry::default() }
}

/// Whatever the others say, in whatever state: a member takes it or refuses it, and its invariants hold.
#[test]
fn fuzz_steps_of_a_member() {
    use MessageType::*;
    let none = Message::default;
    let beat = |term, commit| said(MsgHeartbeat, Message { term, commit, ..none() });
    let append = |term, index, log_term, terms: &[u64], commit| {
        let entries = terms.iter().zip(index + 1..).map(|(term, index)| entry(index, *term)).collect();
        said(MsgAppend, Message { term, index, log_term, commit, entries, ..none() })
    };
    let answer = |term, index| said(MsgAppendResponse, Message { term, index, ..none() });
    let rejects = said(MsgAppendResponse, Message { term: 2, index: 3, reject: true, reject_hint: 1, ..none() });
    let asks = |kind, term| said(kind, Message { term, index: 9, log_term: term, ..none() });
    let samples = [
        strung(&[beat(3, 0), append(3, 3, 1, &[3, 3], 3), append(3, 5, 3, &[3], 5), beat(3, 6)]),
        strung(&[append(3, 3, 1, &[3, 3], 4), append(4, 4, 3, &[4], 4), append(4, 5, 4, &[4, 4], 6)]),
        strung(&[asks(MsgRequestPreVote, 4), asks(MsgRequestVote, 4), append(4, 3, 1, &[4], 4)]),
        strung(&[answer(2, 4), answer(2, 5), rejects, said(MsgHeartbeatResponse, Message { term: 2, ..none() })]),
        strung(&[append(3, 3, 1, &[3], 4), asks(MsgTimeoutNow, 3), asks(MsgRequestVoteResponse, 4), answer(4, 5)]),
    ];
    testkit::fuzz::fuzz("steps_of_a_member", &samples, |bytes| {
        let following = Bench::start(config(3), long_log(3, 4), 0).expect("a member with a past");
        for mut bench in [following, leader_over(3, 4)] {
            let mut now = 1000;
            bench.node.tick(at(now));
            bench.settle();
            each(bytes, |message| {
                now += 50;
                bench.node.step(at(now), message)?;
                bench.node.tick(at(now));
                // A leader's own proposals go between.
                let _ = bench.propose(now, "p");
                // What a leader has committed may be a change that this release does not know: it stops.
                bench.try_to_settle().map(drop)
            });
        }
    });
}
