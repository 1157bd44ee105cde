//! Ends a load session that will not see its last page.

use crate::entry::AbortLoad;
use crate::op::{NOTHING, load_page};
use crate::step::{Outcome, Step};

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &AbortLoad) -> Outcome {
    load_page::find(step, op.directory, op.load)?;
    step.end_load(op.directory)?;
    NOTHING
}
