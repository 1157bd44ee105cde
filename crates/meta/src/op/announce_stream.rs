//! A worker is about to complete a stream to the under store. What it makes there may outlive both the worker and the
//! report of the close, so the directories above count as the store's from here on: moving or removing them must reach it.

use crate::effect::Done;
use crate::entry::AnnounceStream;
use crate::op::close_stream::being_written;
use crate::step::{Outcome, Step};

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &AnnounceStream) -> Outcome {
    let resolved = being_written(step, op.container)?;

    step.mark_persisted(&resolved.spots[..resolved.spots.len() - 1])?;
    Ok(Done::Inode(resolved.last().inode.id))
}
