//! Log entries and records of the database, as a damaged disk or a stranger may give them.

use crate::*;
use testkit::fuzz::fuzz;

/// The pinned bytes of every kind.
fn samples(golden: &str) -> Vec<Vec<u8>> {
    let lines = golden.lines().filter_map(|line| line.split_once(' '));
    let bytes = |hex: &str| {
        let digits = hex.as_bytes().chunks_exact(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
        digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
    };
    let found: Vec<Vec<u8>> = lines.map(|(_, hex)| bytes(hex)).collect();
    assert!(!found.is_empty());
    found
}

fn check<R: Record + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(record) = R::decode(bytes) else { return };
    assert_eq!(R::decode(&record.encode()).ok().as_ref(), Some(&record), "it leads back");
}

#[test]
fn fuzz_log_entry() {
    let entries = samples(include_str!("../../golden/entries.txt"));
    fuzz("log_entry", &entries, check::<Entry>);
}

#[test]
fn fuzz_record() {
    let records = samples(include_str!("../../golden/records.txt"));
    fuzz("record", &records, |bytes| {
        check::<Inode>(bytes);
        check::<Parent>(bytes);
        check::<OperationRecord>(bytes);
        check::<Mount>(bytes);
        check::<Intent>(bytes);
        check::<Detached>(bytes);
        check::<Load>(bytes);
        check::<Persist>(bytes);
        check::<WorkerRecord>(bytes);
        check::<Counters>(bytes);
        check::<LeftOut>(bytes);
        check::<Uses>(bytes);
        check::<Used>(bytes);
    });
}
