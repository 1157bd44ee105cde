//! Notes which files were used, coarsely: one bit for each file and time, however often it is read.

use crate::entry::{EXPIRIES, NoteUse};
use crate::key::{USES_KEY, used_before, used_key};
use crate::op::NOTHING;
use crate::record::{UseTime, Used, Uses};
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::{Family, Read};
use crate::txn::fetch;
use crate::uses::{USE_WORDS, UsePlace};
use std::collections::BTreeMap;

/// Uses one entry notes at most.
const MAX_USES: usize = 10_000;
/// Records of times that are over that one entry drops.
const MAX_DROPPED: usize = 1_000;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &NoteUse) -> Outcome {
    if step.counters.rules < EXPIRIES {
        let why = format!("rules {} are in force, and uses are noted from {EXPIRIES} on", step.counters.rules);
        return Err(Reject::Refused(why).into());
    }
    let mut uses: Uses = fetch(step.txn, Family::State, USES_KEY)?.unwrap_or_default();
    if op.begins {
        let number = uses.times.last().map_or(0, |last| last.number.saturating_add(1));
        uses.times.push(UseTime { number, began: step.age, at: step.at });
        uses.times.drain(..uses.times.len().saturating_sub(Uses::KEPT));
        step.txn.put(Family::State, USES_KEY, &uses);
    }
    let (Some(oldest), Some(now)) = (uses.times.first(), uses.times.last()) else {
        return Err(Reject::Stale("no time of use has begun".to_owned()).into());
    };

    let mut chunks: BTreeMap<u64, Used> = BTreeMap::new();
    for container in op.containers.iter().take(MAX_USES) {
        let UsePlace { chunk, word, bit } = UsePlace::of(*container);
        let used = match chunks.remove(&chunk) {
            Some(used) => Some(used),
            None => fetch(step.txn, Family::State, used_key(now.number, chunk))?,
        };
        let mut used = used.unwrap_or_default();
        used.words.resize(USE_WORDS, 0);
        used.words[word] |= bit;
        chunks.insert(chunk, used);
    }
    for (chunk, used) in &chunks {
        step.txn.put(Family::State, used_key(now.number, *chunk), used);
    }
    let (start, end) = used_before(oldest.number);
    for (key, _) in step.read().scan(Family::State, &start, &end, MAX_DROPPED)? {
        step.txn.delete(Family::State, key);
    }
    NOTHING
}
