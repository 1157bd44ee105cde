//! Where an unpersisted block was written: journaled, because the block exists nowhere else.

use crate::effect::Done;
use crate::entry::CommitLocation;
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::walk::{Resolved, Stop};
use types::{BlockId, ContainerId, FileId, GfsPath, PersistenceState, WorkerId};

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &CommitLocation) -> Outcome {
    let resolved = find_file(step, &op.path, op.file)?;
    let spot = resolved.last();
    let Some(file) = spot.inode.file() else { return Err(Reject::IsDirectory(spot.path.clone()).into()) };
    step.check_writer(spot)?;
    if file.persistence == PersistenceState::Persisted {
        return Ok(Done::Inode(spot.inode.id));
    }
    let mut locations = file.locations.clone();
    merge_locations(&mut locations, spot.inode.container, &op.locations)?;

    step.edit_file(spot, |file| file.locations = locations)?;
    Ok(Done::Inode(spot.inode.id))
}

/// The file an official client means: by its id when it gives one, since it may have been renamed, else by its path.
pub(crate) fn find_file(step: &Step<'_, '_>, path: &GfsPath, file: Option<FileId>) -> Result<Resolved, Stop> {
    let Some(file) = file else {
        let resolved = step.walk(path)?;
        resolved.found(path)?;
        return Ok(resolved);
    };
    Ok(step.locate_container(file.container())?.ok_or_else(|| Reject::NotFound(path.clone()))?)
}

/// Adds what `new` says of blocks of `container`; what is known of a block is kept.
pub(crate) fn merge_locations(
    known: &mut Vec<(u32, Vec<WorkerId>)>,
    container: ContainerId,
    new: &[(BlockId, Vec<WorkerId>)],
) -> Result<(), Reject> {
    for (block, workers) in new {
        if block.container() != container {
            return Err(Reject::Stale(format!("{block} does not belong to {}", container.file())));
        }
        let index = u32::try_from(block.index()).expect("an index has 24 bits");
        let at = known.binary_search_by_key(&index, |(index, _)| *index).unwrap_or_else(|at| {
            known.insert(at, (index, Vec::new()));
            at
        });
        let held = &mut known[at].1;
        for worker in workers {
            if !held.contains(worker) {
                held.push(*worker);
            }
        }
    }
    Ok(())
}
