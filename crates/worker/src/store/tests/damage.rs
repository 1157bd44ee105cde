//! A worker's directory whose files are no longer what it wrote: healed, or refused by name; never other bytes, never another
//! worker.

use super::*;
use std::path::Path;
use testkit::Chance;
use testkit::damage::{Damage, copy_tree, damage};

const BLOCKS: u64 = 6;

fn at(dir: &Path) -> Vec<DirectoryConfig> {
    ["a", "b"].map(|name| config(dir.join(name).to_str().expect("a plain name"), 16 * MIB)).to_vec()
}

fn length(index: u64) -> u64 {
    1 + index * 70_000
}

fn class(index: u64) -> Class {
    if index.is_multiple_of(2) { Class::Unpersisted } else { Class::Evictable }
}

fn reopen(dir: &Path) -> Result<(BlockStore, Identity), WorkerError> {
    open_at(Arc::new(RealIo), &at(dir))
}

/// Two directories of one worker with some blocks in them.
async fn written(dir: &Path) -> Identity {
    let (store, identity) = reopen(dir).expect("new directories");
    let identity = Identity { worker: Some(types::WorkerId(4)), cluster: Some(types::ClusterId(9)), ..identity };
    store.set_identity(&identity).expect("written");
    for index in 0..BLOCKS {
        put(&store, block(index), class(index), &pattern(index, length(index))).await.expect("there is room");
    }
    store.tidy();
    identity
}

/// Opens wounded directories and reads all blocks. Error: what may not be.
async fn outcome(dir: &Path, identity: Identity, done: &Damage) -> Result<&'static str, String> {
    let (store, found) = match reopen(dir) {
        Ok(opened) => opened,
        Err(why) => {
            let words = why.sentence();
            let names_it = words.contains(dir.to_str().expect("a plain name"));
            return if names_it { Ok("refused") } else { Err(format!("it does not say where: {words}")) };
        }
    };
    if found != identity {
        return Err(format!("it is {found:?} now"));
    }
    store.check_invariants();
    let mut end = "unharmed";
    for index in 0..BLOCKS {
        match get(&store, block(index)).await {
            Ok(Ok(bytes)) if bytes == pattern(index, length(index)) => {}
            Ok(Ok(_)) => return Err(format!("wrong bytes of {}", block(index))),
            Ok(Err(_)) if class(index) == Class::Evictable => end = "a miss",
            // Set aside: reported, and counted where an operator looks.
            Ok(Err(_)) if store.metrics().damaged_blocks.get() > 0 => end = "set aside",
            Ok(Err(_)) => return Err(format!("the only copy of {} is gone without a word", block(index))),
            Err(why) if done.file.extension().is_some_and(|end| end == "data") => {
                assert_eq!(why.kind(), types::ErrorKind::Corrupt, "{why}");
                end = "a named loss";
            }
            Err(why) => return Err(why.sentence()),
        }
    }
    Ok(end)
}

#[tokio::test]
async fn a_damaged_file_of_a_worker_is_healed_or_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let whole = dir.path().join("whole");
    std::fs::create_dir_all(&whole).expect("made");
    let identity = written(&whole).await;
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..2 * testkit::rounds(10) {
        let copy = dir.path().join(format!("seed-{seed}"));
        copy_tree(&whole, &copy).expect("copied");
        let done = damage(&copy, &mut Chance::new(seed)).expect("files").expect("one with bytes");
        let end = outcome(&copy, identity, &done).await.unwrap_or_else(|why| panic!("seed {seed}: {done}: {why}"));
        *ends.entry(end).or_default() += 1;
        std::fs::remove_dir_all(&copy).expect("removed");
    }
    println!("{ends:?}");
}
