//! A start that replays a log of creates, over both kinds of database.

use crate::child::ask;
use crate::process;
use crate::world::{Ground, config, create_only, file, mixed, root, runtime};
use crate::{Plan, float};
use journal::disk::RealDisk;
use journal::{
    AppendBatch, BatchSeq, EntryKind, HardState, JournalLog, LogEntry, MemberId, SegmentLog, SegmentOptions,
};
use master::{MasterConfig, Metastore};
use meta::{Entry, Format, Ids, MountSpec, Op, Record};
use rpc::SystemEntropy;
use std::path::Path;
use std::time::Duration;
use types::{AgeMs, ContainerId, InodeId, LogIndex, Mode, OperationId, Term, UnixMs};

/// Entries written with one sync.
const BATCH: u64 = 4_096;
/// For the child: which database.
const STORE: &str = "SCALE_STORE";

pub fn measure(plan: &Plan, dir: &Path) {
    for (store, metastore, floor, least) in
        [("ROCKS", Metastore::Rocks, "≥ 60000", 60_000.0), ("HEAP", Metastore::Heap, "≥ 200000", 200_000.0)]
    {
        let place = dir.join(store);
        let config = MasterConfig { metastore, ..config(&place) };
        std::fs::create_dir_all(&config.root_ufs).expect("a root store");
        let cluster = master::format(&config, &SystemEntropy, false).expect("empty directories");
        write_log(&config, plan.few());
        let said = ask("replay", &place, cluster, plan.few(), &[(STORE, store)]);
        let rate = float(plan.few()) / said.time("cpu").as_secs_f64();
        let what = format!("replay of {} creates over {store}, per CPU-second of the whole start", plan.few());
        let text = format!("{rate:.0} ({:.1} s by the clock)", said.time("took").as_secs_f64());
        plan.figure("4", &what, &text, Some((floor, rate >= least)));
        std::fs::remove_dir_all(&place).expect("it was made here");
    }
}

/// The child: a start, and what it used.
pub fn run(ground: &Ground) {
    let is_heap = std::env::var(STORE).is_ok_and(|store| store == "HEAP");
    let metastore = if is_heap { Metastore::Heap } else { Metastore::Rocks };
    let config = MasterConfig { metastore, ..ground.config.clone() };
    let ground = Ground { config, cluster: ground.cluster };
    runtime().block_on(async {
        let (before, began) = (process::cpu(), std::time::Instant::now());
        let master = ground.start().await;
        let (cpu, took) = (process::cpu() - before, began.elapsed());
        let nanos = |time: Duration| time.as_nanos();
        println!("cpu {}\ntook {}", nanos(cpu), nanos(took));
        master.stop(Duration::from_secs(10)).await.expect("it stops");
    });
}

/// The log of a master that made files and was killed before it wrote anything to its database.
fn write_log(config: &MasterConfig, files: u64) {
    let options = SegmentOptions { segment_bytes: config.segment_bytes };
    let (mut log, recovered) = SegmentLog::open(RealDisk, &config.journal_dir, None, options).expect("formatted");
    let format = Op::Format(Format {
        cluster: recovered.cluster,
        owner: config.superuser.clone(),
        group: config.supergroup.clone(),
        mode: Mode::new(0o755),
        root: MountSpec::plain(format!("file://{}", config.root_ufs)),
    });
    let ops = std::iter::once(format).chain((0..files).map(|n| create_only(file(n))));
    let mut entries = Vec::new();
    let (mut at, mut next_id, mut seq) = (0, 1, 0);
    let mut write = |entries: &mut Vec<LogEntry>, at: u64| {
        seq += 1;
        let hard_state = HardState { term: Term(1), vote: Some(MemberId(1)), commit: LogIndex(at) };
        let entries = std::mem::take(entries);
        log.append(&AppendBatch { seq: BatchSeq(seq), truncate_from: None, entries, hard_state }).expect("room");
        log.sync().expect("a healthy disk");
    };
    for op in ops {
        at += 1;
        let count = if let Op::CreateFile(op) = &op { u32::try_from(op.path.depth()).expect("few") } else { 1 };
        let operation = OperationId(u128::from(mixed(at)) << 64 | u128::from(at));
        let entry = Entry {
            wall: UnixMs(1_767_225_600_000 + i64::try_from(at).expect("few")),
            age: AgeMs(at),
            who: root(),
            operation: (at > 1).then_some(operation),
            ids: Ids { inode: InodeId(next_id), container: ContainerId(next_id), count },
            op,
        };
        next_id += u64::from(count);
        entries.push(LogEntry { index: LogIndex(at), term: Term(1), kind: EntryKind::Normal, payload: entry.encode() });
        if at % BATCH == 0 {
            write(&mut entries, at);
        }
    }
    write(&mut entries, at);
}
