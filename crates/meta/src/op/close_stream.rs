//! A worker closed a stream to the under store: the object is there.

use crate::effect::Done;
use crate::entry::CloseStream;
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::walk::{Resolved, Stop};
use types::{ContainerId, GfsPath, WriteType};

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &CloseStream) -> Outcome {
    let resolved = being_written(step, op.container)?;
    let spot = resolved.last();

    step.edit_file(spot, |file| file.closed = Some((op.fingerprint.clone(), op.length)))?;
    step.mark_persisted(&resolved.spots[..resolved.spots.len() - 1])?;
    Ok(Done::Inode(spot.inode.id))
}

/// The incomplete file a stream to the store is for, still at the key the stream was opened with.
pub(crate) fn being_written(step: &Step<'_, '_>, container: ContainerId) -> Result<Resolved, Stop> {
    let file = container.file();
    let Some(resolved) = step.locate_container(container)? else {
        return Err(Reject::Stale(format!("{file} was removed while it was written")).into());
    };
    let spot = resolved.last();
    let Some(found) = spot.inode.file().filter(|found| !found.complete) else {
        return Err(Reject::Stale(format!("{} ({file}) is not being written any more", spot.path)).into());
    };
    check_reaches_store(&spot.path, found.write_type)?;
    // The stream's key was taken when the file was made. A directory moved since then took the name elsewhere.
    if resolved.spots.iter().any(|above| above.inode.changed > spot.inode.changed) {
        return Err(Reject::Stale(format!("a directory above {} was renamed while it was written", spot.path)).into());
    }
    step.check_covered(spot.mount, &spot.key, &spot.path)?;
    Ok(resolved)
}

/// Refuses a stream to the under store for a file whose writer may have none.
pub fn check_reaches_store(path: &GfsPath, write_type: WriteType) -> Result<(), Reject> {
    if reaches_store(write_type) {
        return Ok(());
    }
    Err(Reject::Refused(format!("{path} is written as {}, which goes to no store", write_type.name())))
}

/// Whether a writer of this type may have a stream to the under store.
pub fn reaches_store(write_type: WriteType) -> bool {
    match write_type {
        WriteType::CacheThrough | WriteType::Through | WriteType::AsyncThrough => true,
        WriteType::MustCache | WriteType::TryCache | WriteType::None => false,
    }
}
