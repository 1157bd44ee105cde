//! Clients under load while one master after the other is killed, hangs, is cut off or far away, from the others or from
//! clients, has a full disk or another wall clock: nothing acknowledged is lost or doubled, and nobody sees an error that is not documented.

use crate::support::{Group, MASTERS, PATIENCE, library};
use crate::{GIVEN_UP, content, make_and_rename, official, path, read, write_and_read};
use client::{FileSystem, MakeDirectory};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use testkit::netns::Lan;
use testkit::{Chance, eventually, eventually_async, mounts};
use types::Mode;

/// Operations a client must have had acknowledged before, during and after each trouble.
const BETWEEN: u64 = 10;
/// Operations whose entries fill several files of the log, and bring a checkpoint.
const SEVERAL_FILES: u64 = 3_000;
/// How far a wall clock jumps, in seconds.
const HOUR: i64 = 3600;
/// Lies about the wall clock.
const CLOCK: &str = include_str!("clock.c");
/// Of the disk below each master's journal. It holds what the log keeps for a master that is away.
const DISK_MIB: u64 = 48;
/// How much later everything arrives on a slow line, at least and at most: less than the others take for silence.
const SLOW_MS: [usize; 2] = [20, 150];
/// How often each trouble is dealt; one seed deals each once. Of the night's 200 rounds that makes 50.
const FEW_TURNS: u64 = 1;
const ROUNDS_PER_TURN: u64 = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    /// kill −9, and a new start.
    Killed,
    /// It does nothing for a while, and does not know of it.
    Hangs,
    /// Nothing reaches it or leaves it, and connections do not break.
    CutOff,
    /// What it says to the other masters arrives late, and what they say.
    FarAway(Duration),
    /// Nothing gets from clients to it or back, and connections do not break; in the end all of it arrives, late.
    CutFromClients,
    /// What clients say to it arrives late, and what it says to them.
    FarFromClients(Duration),
    /// The disk of its journal is full: it hands the lead over, and ends of that.
    FullDisk,
    /// Its wall clock is that many seconds ahead, and then right again.
    WrongClock(i64),
}

/// One trouble of one master.
#[derive(Clone, Copy, Debug)]
struct Round {
    trouble: Trouble,
    /// Of a follower: the group must not even notice.
    of_a_follower: bool,
}

/// What a seed chooses: the rounds of one turn, each trouble once.
fn turn(seed: u64) -> Vec<Round> {
    let mut chance = Chance::new(seed);
    let mut slow = || {
        let slow = SLOW_MS[0] + chance.below(SLOW_MS[1] - SLOW_MS[0]);
        Duration::from_millis(u64::try_from(slow).expect("small"))
    };
    let (far_away, far_from_clients) = (slow(), slow());
    let jump = if chance.one_in(2) { HOUR } else { -HOUR };
    let mut left = vec![
        Trouble::Killed,
        Trouble::Hangs,
        Trouble::CutOff,
        Trouble::FarAway(far_away),
        Trouble::CutFromClients,
        Trouble::FarFromClients(far_from_clients),
        Trouble::FullDisk,
        Trouble::WrongClock(jump),
    ];
    let mut rounds = Vec::new();
    while !left.is_empty() {
        let trouble = left.swap_remove(chance.below(left.len()));
        rounds.push(Round { trouble, of_a_follower: chance.one_in(4) });
    }
    rounds
}

impl Trouble {
    fn begin(self, group: &mut Group, n: usize, dir: &Path) {
        match self {
            Trouble::Killed => group.kill9(n),
            Trouble::Hangs => group.master(n).pause().expect("it can be stopped"),
            Trouble::CutOff => group.cut(n),
            Trouble::FarAway(delay) => group.set_delay(n, delay),
            Trouble::CutFromClients => group.cut_from_clients(n),
            Trouble::FarFromClients(delay) => group.set_client_delay(n, delay),
            Trouble::FullDisk => mounts::fill(&filler(dir, n)),
            Trouble::WrongClock(seconds) => group.set_clock(n, seconds),
        }
    }

    fn end(self, group: &mut Group, n: usize, dir: &Path) {
        match self {
            Trouble::Killed => group.start_master(n),
            Trouble::Hangs => group.master(n).resume().expect("it goes on"),
            Trouble::CutOff => group.mend(n),
            Trouble::FarAway(_) => group.set_delay(n, Duration::ZERO),
            Trouble::CutFromClients => group.mend_to_clients(n),
            Trouble::FarFromClients(_) => group.set_client_delay(n, Duration::ZERO),
            // It may have ended, or be about to, or still have had room.
            Trouble::FullDisk => {
                group.stop_or_ended(n);
                std::fs::remove_file(filler(dir, n)).expect("it was full");
                group.start_master(n);
            }
            Trouble::WrongClock(_) => group.set_clock(n, 0),
        }
    }

    /// Whether an official client, too, goes on meanwhile: it waits minutes for one who is silent.
    fn is_heard_of(self) -> bool {
        !matches!(self, Trouble::Hangs | Trouble::CutOff | Trouble::CutFromClients)
    }

    /// Whether the master suffers from it by now.
    fn bites(self, group: &Group, n: usize) -> bool {
        // It says so first, and soon has room again where a file of the log goes.
        let said = || group.master(n).output().contains("no room for its next file");
        let ended = || group.master(n).exit_status().expect("known").is_some();
        self != Trouble::FullDisk || said() || ended()
    }

    fn needs_a_network(self) -> bool {
        use Trouble::{CutFromClients, CutOff, FarAway, FarFromClients};
        matches!(self, CutOff | FarAway(_) | CutFromClients | FarFromClients(_))
    }
}

fn filler(dir: &Path, n: usize) -> PathBuf {
    Group::journal_disk(dir, n).join("somebody-elses")
}

struct Load {
    stop: Arc<AtomicBool>,
    /// Acknowledged operations of our own client and of the official one.
    counts: [Arc<AtomicU64>; 2],
    own: tokio::task::JoinHandle<u64>,
    official: tokio::task::JoinHandle<(Vec<u64>, usize)>,
}

impl Load {
    /// What our own client was told is done.
    fn made(&self) -> u64 {
        self.counts[0].load(Ordering::Relaxed)
    }

    /// Waits until our client, and the official one if it is to, got so much further.
    async fn goes_on(&self, both: bool) {
        let progress = || self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        let before = progress();
        eventually_async(PATIENCE, || async {
            assert!(!self.own.is_finished() && !self.official.is_finished(), "a client failed");
            let [own, official] = progress();
            own - before[0] >= BETWEEN && (!both || official - before[1] >= BETWEEN)
        })
        .await;
    }
}

async fn ride(group: &mut Group, dir: &Path, has_network: bool) {
    let fs = FileSystem::connect(group.client_config()).await.expect("a master leads");
    let sdk = official(group).await;
    let parents = MakeDirectory { recursive: false, allow_exists: false, mode: Mode::new(0o755) };
    for parent in ["/official", "/own"] {
        fs.make_directory(&path(parent), parents).await.expect("made");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let counts: [Arc<AtomicU64>; 2] = std::array::from_fn(|_| Arc::default());
    let load = Load {
        own: tokio::spawn(make_and_rename(fs.clone(), stop.clone(), counts[0].clone())),
        official: tokio::spawn(write_and_read(sdk.clone(), stop.clone(), counts[1].clone())),
        stop,
        counts,
    };
    let turns = (testkit::rounds(FEW_TURNS * ROUNDS_PER_TURN) / ROUNDS_PER_TURN).max(1);
    let rounds: Vec<Round> = (0..turns).flat_map(turn).collect();
    for (number, round) in rounds.iter().enumerate() {
        let trouble = round.trouble;
        if trouble.needs_a_network() && !has_network {
            continue;
        }
        load.goes_on(true).await;
        let leader = group.leader();
        let who = if round.of_a_follower { (leader + 1) % MASTERS } else { leader };
        println!("round {number}: {trouble:?} of master {who}, {leader} leads");
        trouble.begin(group, who, dir);
        if trouble == Trouble::CutFromClients && who == leader {
            // The masters see nothing wrong, and nobody is served: this is for an operator.
            let other = group.journal_address((who + 1) % MASTERS);
            group.run(&["fsadmin", "journal", "quorum", "elect", "-address", &other]);
        }
        load.goes_on(trouble.is_heard_of() || who != leader).await;
        // A log whose old files go in time needs no more room than it has.
        let before = load.made();
        eventually(PATIENCE, || trouble.bites(group, who) || load.made() - before >= SEVERAL_FILES);
        trouble.end(group, who, dir);
        load.goes_on(true).await;
        (0..MASTERS).for_each(|n| group.caught_up(n));
    }
    load.stop.store(true, Ordering::Relaxed);
    let (written, given_up) = load.official.await.expect("the official client never failed");
    let (count, bound) = (rounds.len(), GIVEN_UP * rounds.len());
    assert!(given_up <= bound, "{given_up} calls given up in {count} troubles: it did not find the new leader");
    let made = load.own.await.expect("our own client never failed");
    println!("{count} troubles: {made} directories, {} files, {given_up} calls given up", written.len());
    for n in written {
        assert!(read(&sdk, &format!("/official/f{n}")).await == content(n), "file {n}");
    }
    let own = fs.list_all(&path("/own")).await.expect("listed");
    assert_eq!(own.len() as u64, made, "each directory once, under its last name");
}

#[test]
fn clients_ride_through_whatever_befalls_a_master_and_nothing_is_lost_or_doubled() {
    let name = "troubles::clients_ride_through_whatever_befalls_a_master_and_nothing_is_lost_or_doubled";
    mounts::own(name, || {
        let dir = tempfile::tempdir().expect("a directory");
        (0..MASTERS).for_each(|n| mounts::in_memory(&Group::journal_disk(dir.path(), n), DISK_MIB));
        let lan = Lan::available().then(|| Lan::new(u8::try_from(MASTERS).expect("few")).expect("a network"));
        let has_network = lan.is_some();
        let small =
            ["goosefs.master.journal.checkpoint.period.entries=2000", "goosefs.master.journal.log.size.bytes.max=64KB"];
        let mut group = Group::format_on(lan, dir.path(), &small);
        group.preload = Some(library(dir.path(), "clock", CLOCK));
        group.worker_count = 2;
        group.start_all();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(ride(&mut group, dir.path(), has_network));
    });
}
