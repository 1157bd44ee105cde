//! Clients under load while one master after the other is killed, hangs, is cut off or gets another wall clock: nothing
//! acknowledged is lost or doubled, and nobody sees an error that is not documented.

use crate::support::{Group, MASTERS, PATIENCE};
use crate::{GIVEN_UP, content, make_and_rename, official, path, read, write_and_read};
use client::{FileSystem, MakeDirectory};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use testkit::eventually_async;
use testkit::netns::{Lan, available, isolated};
use types::Mode;

/// Operations a client must have had acknowledged before, during and after each trouble.
const BETWEEN: u64 = 10;
/// How far a wall clock jumps, in seconds.
const HOUR: i64 = 3600;
const CLOCK: &str = include_str!("clock.c");

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    /// kill −9, and a new start.
    Killed,
    /// It does nothing for a while, and does not know of it.
    Hangs,
    /// Nothing reaches it or leaves it, and connections do not break.
    CutOff,
    /// Its wall clock is an hour ahead or behind, and then right again.
    WrongClock,
}

const TROUBLES: [Trouble; 4] = [Trouble::Killed, Trouble::Hangs, Trouble::CutOff, Trouble::WrongClock];

impl Trouble {
    fn begin(self, group: &mut Group, n: usize, ahead: bool) {
        match self {
            Trouble::Killed => group.kill9(n),
            Trouble::Hangs => group.master(n).pause().expect("it can be stopped"),
            Trouble::CutOff => group.cut(n),
            Trouble::WrongClock => group.set_clock(n, if ahead { HOUR } else { -HOUR }),
        }
    }

    fn end(self, group: &mut Group, n: usize) {
        match self {
            Trouble::Killed => group.start_master(n),
            Trouble::Hangs => group.master(n).resume().expect("it goes on"),
            Trouble::CutOff => group.mend(n),
            Trouble::WrongClock => group.set_clock(n, 0),
        }
    }

    /// Whether an official client, too, goes on meanwhile: it waits minutes for one who is silent.
    fn is_heard_of(self) -> bool {
        matches!(self, Trouble::Killed | Trouble::WrongClock)
    }
}

/// Builds what lies about the wall clock.
fn wrong_clock(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    std::fs::write(&source, CLOCK).expect("written");
    let cc = Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
    assert!(cc.expect("a C compiler").success(), "{} does not compile", source.display());
    library
}

struct Load {
    stop: Arc<AtomicBool>,
    /// Acknowledged operations of our own client and of the official one.
    counts: [Arc<AtomicU64>; 2],
    own: tokio::task::JoinHandle<u64>,
    official: tokio::task::JoinHandle<(Vec<u64>, usize)>,
}

impl Load {
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

async fn ride(group: &mut Group, can_cut: bool) {
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
    let rounds = testkit::rounds(5);
    for round in 0..rounds {
        let trouble = TROUBLES[usize::try_from(round).expect("few") % TROUBLES.len()];
        if trouble == Trouble::CutOff && !can_cut {
            continue;
        }
        load.goes_on(true).await;
        let leader = group.leader();
        // Now and then a follower: the group must not even notice.
        let who = if round % 7 == 6 { (leader + 1) % MASTERS } else { leader };
        println!("round {round}: {trouble:?} of master {who}, {leader} leads");
        trouble.begin(group, who, round % 2 == 0);
        load.goes_on(trouble.is_heard_of() || who != leader).await;
        trouble.end(group, who);
        load.goes_on(true).await;
        (0..MASTERS).for_each(|n| group.caught_up(n));
    }
    load.stop.store(true, Ordering::Relaxed);
    let (written, given_up) = load.official.await.expect("the official client never failed");
    let bound = GIVEN_UP * usize::try_from(rounds).expect("few");
    assert!(given_up <= bound, "{given_up} calls given up in {rounds} troubles: it did not find the new leader");
    let made = load.own.await.expect("our own client never failed");
    for n in written {
        assert!(read(&sdk, &format!("/official/f{n}")).await == content(n), "file {n}");
    }
    let own = fs.list_all(&path("/own")).await.expect("listed");
    assert_eq!(own.len() as u64, made, "each directory once, under its last name");
}

#[test]
fn clients_ride_through_whatever_befalls_a_master_and_nothing_is_lost_or_doubled() {
    let test = || {
        let dir = tempfile::tempdir().expect("a directory");
        let lan = available().then(|| Lan::new(u8::try_from(MASTERS).expect("few")).expect("a network"));
        let can_cut = lan.is_some();
        let mut group = Group::format_on(lan, dir.path(), &["goosefs.master.journal.checkpoint.period.entries=200"]);
        group.preload = Some(wrong_clock(dir.path()));
        group.start_all();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(ride(&mut group, can_cut));
    };
    // Without privilege no cable can be pulled.
    if available() { isolated(test).expect("a namespace") } else { test() }
}
