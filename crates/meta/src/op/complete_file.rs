//! Gives a file its length and makes it readable.

use crate::effect::{Done, Effect};
use crate::entry::CompleteFile;
use crate::key::incomplete_key;
use crate::op::commit_location::{find_file, merge_locations};
use crate::record::File;
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::Family;
use types::{ContainerId, GfsPath, PersistenceState, WriteType};

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &CompleteFile) -> Outcome {
    let resolved = find_file(step, &op.path, op.file)?;
    let spot = resolved.last();
    let Some(file) = spot.inode.file() else { return Err(Reject::IsDirectory(spot.path.clone()).into()) };
    step.check_writer(spot)?;
    if file.complete {
        return match file.length == op.length {
            true => Ok(Done::Inode(spot.inode.id)),
            false => Err(Reject::Length { path: spot.path.clone(), was: file.length, length: op.length }.into()),
        };
    }
    check_blocks(spot.inode.container, file, op.length, &spot.path)?;
    let wanted = resolved.write_type().is_some_and(WriteType::is_through);
    let persistence = persistence(file, op, wanted, &spot.path)?;
    let mut done = file.clone();
    if persistence == PersistenceState::Persisted {
        done.locations.clear();
        done.fingerprint = done.closed.take().and_then(|(fingerprint, _)| fingerprint);
    } else {
        merge_locations(&mut done.locations, spot.inode.container, &op.locations)?;
    }
    done.complete = true;
    done.length = op.length;
    done.checksum = op.checksum;
    done.persistence = persistence;

    let (container, inode) = (spot.inode.container, spot.inode.id);
    step.txn.delete(Family::Incomplete, incomplete_key(file.opened, container));
    let (modified, at) = (step.modified_now(spot), step.at);
    step.edit(spot, |inode| {
        inode.modified = modified;
        inode.changed = at;
    })?;
    step.edit_file(spot, |file| *file = done)?;
    match persistence {
        PersistenceState::Persisted => {
            step.mark_persisted(&resolved.spots[..resolved.spots.len() - 1])?;
            step.effects.push(Effect::Evictable(container));
        }
        PersistenceState::ToBePersisted => {
            step.schedule_persist(container, inode, op.persist_after_ms.unwrap_or_default());
        }
        PersistenceState::NotPersisted | PersistenceState::Lost => {}
    }
    Ok(Done::Inode(inode))
}

fn check_blocks(container: ContainerId, file: &File, length: u64, path: &GfsPath) -> Result<(), Reject> {
    let blocks = length.div_ceil(file.block_bytes);
    if blocks > 0 && container.block(blocks - 1).is_none() {
        return Err(Reject::TooManyBlocks { path: path.clone(), length, blocks });
    }
    Ok(())
}

/// A file is persisted only if a worker reported that its stream to the store was closed, with the same length.
///
/// - `wanted`: the directory's policy wants data in the store, so those that are only cached follow without being told.
fn persistence(file: &File, op: &CompleteFile, wanted: bool, path: &GfsPath) -> Result<PersistenceState, Reject> {
    match &file.closed {
        Some((_, closed)) if *closed == op.length => Ok(PersistenceState::Persisted),
        Some((_, closed)) => Err(Reject::StreamLength { path: path.clone(), closed: *closed, length: op.length }),
        None if file.write_type.is_through() || op.force_persisted => Err(Reject::Refused(format!(
            "{path} cannot be completed: its data were never written to the store; write it again"
        ))),
        None if op.persist_after_ms.is_some() => Ok(PersistenceState::ToBePersisted),
        None if wanted && file.write_type == WriteType::AsyncThrough => Ok(PersistenceState::ToBePersisted),
        None => Ok(PersistenceState::NotPersisted),
    }
}
