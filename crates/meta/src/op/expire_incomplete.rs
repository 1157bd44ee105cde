//! Drops a file that nobody writes any more. What a stream left in the store stays there, whole, for the next load to
//! find, whether its close was reported or not.

use crate::effect::Done;
use crate::entry::ExpireIncomplete;
use crate::op::close_stream::reaches_store;
use crate::reject::Reject;
use crate::step::{Gone, Outcome, Step};

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &ExpireIncomplete) -> Outcome {
    let resolved = step.locate_container(op.container)?;
    let file = resolved.as_ref().and_then(|resolved| resolved.last().inode.file()).filter(|file| !file.complete);
    let (Some(resolved), Some(file)) = (&resolved, file) else {
        return Err(Reject::Stale(format!("{} is not being written any more", op.container.file())).into());
    };
    let gone = if reaches_store(file.write_type) { Gone::Here } else { Gone::Everywhere };

    step.unlink(resolved.parent(), resolved.last(), gone)?;
    Ok(Done::Nothing)
}
