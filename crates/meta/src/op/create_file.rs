//! Makes an incomplete file, never over something that exists.

use crate::effect::Done;
use crate::entry::CreateFile;
use crate::record::{File, Node};
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use types::{Mode, PersistenceState, WriteType};

/// Of directories made above it.
const PARENT_MODE: Mode = Mode::new(0o755);

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &CreateFile) -> Outcome {
    if op.block_bytes == 0 {
        return Err(Reject::BlockSize(op.block_bytes).into());
    }
    let resolved = step.walk(&op.path)?;
    step.check_new(&resolved, &op.path, op.recursive)?;
    let file = File {
        complete: false,
        length: 0,
        block_bytes: op.block_bytes,
        write_type: op.write_type.unwrap_or_else(|| unsaid(resolved.write_type())),
        persistence: PersistenceState::NotPersisted,
        fingerprint: None,
        closed: None,
        checksum: None,
        locations: Vec::new(),
        opened: step.age,
    };
    let reaches_store_at_once = file.write_type.is_through();
    let made = step.make(&resolved, PARENT_MODE, op.mode, Node::File(file))?;
    if reaches_store_at_once {
        // Its object may stand there before anybody hears of it: a move or removal of a directory above must reach it.
        let parent = step.locate(made.parent)?;
        step.mark_persisted(&parent.map(|parent| parent.spots).unwrap_or_default())?;
    }
    Ok(Done::Inode(made.inode.id))
}

/// A client that names no write type writes to the cache alone, whatever the directory's policy says. Where the policy
/// wants data in the store, they follow from there.
fn unsaid(policy: Option<WriteType>) -> WriteType {
    match policy {
        Some(WriteType::CacheThrough | WriteType::Through) => WriteType::AsyncThrough,
        Some(kind) => kind,
        None => WriteType::MustCache,
    }
}
