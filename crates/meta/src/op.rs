//! What each entry does: one file for one operation. Each decides first, reading only, and may refuse; then it changes,
//! and from there nothing is refused.

pub(crate) mod abort_load;
pub(crate) mod announce_stream;
pub(crate) mod begin_attempt;
pub(crate) mod begin_incarnation;
pub(crate) mod begin_persist;
pub(crate) mod close_intent;
pub(crate) mod close_stream;
pub(crate) mod collect;
pub(crate) mod commit_location;
pub(crate) mod complete_file;
pub(crate) mod create_directory;
pub(crate) mod create_file;
pub(crate) mod create_mount;
pub(crate) mod delete_mount;
pub(crate) mod expire;
pub(crate) mod expire_incomplete;
pub(crate) mod fail_persist;
pub(crate) mod finish_persist;
pub(crate) mod forget_operations;
pub(crate) mod format;
pub(crate) mod grant_persist;
mod hold_persist;
pub(crate) mod load_page;
pub(crate) mod load_path;
pub(crate) mod mark_lost;
pub(crate) mod note_use;
pub(crate) mod open_load;
pub(crate) mod raise_rules;
pub(crate) mod register_worker;
pub(crate) mod remove;
pub(crate) mod rename;
mod repair;
pub(crate) mod schedule_persist;
pub(crate) mod set_attribute;
pub(crate) mod set_xattr;
pub(crate) mod sync;
pub(crate) mod update_mount;

use crate::effect::Done;
use crate::entry::{BatchOp, Op};
use crate::reject::Reject;
use crate::step::{Outcome, Step};

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &Op) -> Outcome {
    match op {
        Op::Format(op) => format::apply(step, op),
        Op::CreateFile(op) => create_file::apply(step, op),
        Op::CompleteFile(op) => complete_file::apply(step, op),
        Op::CreateDirectory(op) => create_directory::apply(step, op),
        Op::Rename(op) => rename::apply(step, op),
        Op::Remove(op) => remove::apply(step, op),
        Op::SetAttribute(op) => set_attribute::apply(step, op),
        Op::CommitLocation(op) => commit_location::apply(step, op),
        Op::CloseStream(op) => close_stream::apply(step, op),
        Op::SchedulePersist(op) => schedule_persist::apply(step, op),
        Op::GrantPersist(op) => grant_persist::apply(step, op),
        Op::FinishPersist(op) => finish_persist::apply(step, op),
        Op::FailPersist(op) => fail_persist::apply(step, op),
        Op::ExpireIncomplete(op) => expire_incomplete::apply(step, op),
        Op::BeginAttempt(op) => begin_attempt::apply(step, op),
        Op::CloseIntent(op) => close_intent::apply(step, op),
        Op::Collect(op) => collect::apply(step, op),
        Op::OpenLoad(op) => open_load::apply(step, op),
        Op::LoadPage(op) => load_page::apply(step, op),
        Op::AbortLoad(op) => abort_load::apply(step, op),
        Op::LoadPath(op) => load_path::apply(step, op),
        Op::Sync(op) => sync::apply(step, op),
        Op::CreateMount(op) => create_mount::apply(step, op),
        Op::UpdateMount(op) => update_mount::apply(step, op),
        Op::DeleteMount(op) => delete_mount::apply(step, op),
        Op::RegisterWorker(op) => register_worker::apply(step, op),
        Op::ForgetOperations(op) => forget_operations::apply(step, op),
        Op::RaiseRules(op) => raise_rules::apply(step, op),
        Op::SetXattr(op) => set_xattr::apply(step, op),
        Op::MarkLost(op) => mark_lost::apply(step, op),
        Op::BeginPersist(op) => begin_persist::apply(step, op),
        Op::AnnounceStream(op) => announce_stream::apply(step, op),
        Op::BeginIncarnation(op) => begin_incarnation::apply(step, op),
        Op::HoldPersist(op) => hold_persist::apply(step, op),
        Op::Repair(op) => repair::apply(step, op),
        Op::NoteUse(op) => note_use::apply(step, op),
        Op::Expire(op) => expire::apply(step, op),
        // The namespace takes a batch apart: each item sees what those before it did.
        Op::Batch(_) => Err(Reject::Refused("a batch holds no batch; that is a bug of the leader".to_owned()).into()),
    }
}

/// One item of a batch.
pub(crate) fn apply_item(step: &mut Step<'_, '_>, op: &BatchOp) -> Outcome {
    match op {
        BatchOp::CreateFile(op) => create_file::apply(step, op),
        BatchOp::CompleteFile(op) => complete_file::apply(step, op),
        BatchOp::CreateDirectory(op) => create_directory::apply(step, op),
        BatchOp::Remove(op) => remove::apply(step, op),
    }
}

/// An answer that changed nothing, or nothing anybody waits for.
pub(crate) const NOTHING: Outcome = Ok(Done::Nothing);
