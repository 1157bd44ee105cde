//! The store did, or refused, what an intent announced.
//!
//! Names that left the store are noted again as removed: until now a listing could still show them.

use crate::effect::Done;
use crate::entry::{CloseIntent, IntentEnd, Renewed};
use crate::record::{Intent, IntentKind, Node};
use crate::reject::Reject;
use crate::step::{Gone, Outcome, Step};
use crate::store::StoreError;
use crate::walk::child;
use types::{Fingerprint, InodeId, IntentId, Name};

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &CloseIntent) -> Outcome {
    let intent = find(step, op.intent)?;
    if op.attempt != intent.attempt {
        let why = format!("{} at {} comes when {} is the last", op.attempt, op.intent, intent.attempt);
        return Err(Reject::Stale(why).into());
    }

    let (inode, decided, left) = match &op.end {
        IntentEnd::Done { fingerprint } => {
            let inode = done(step, &intent, fingerprint.as_ref())?;
            (inode, Some(inode), None)
        }
        IntentEnd::Copied { fingerprint } => {
            let left = left_behind(step, &intent)?;
            let inode = done(step, &intent, fingerprint.as_ref())?;
            (inode, Some(inode), left)
        }
        IntentEnd::CopiedTree { renewed } => {
            let left = left_behind(step, &intent)?;
            let inode = done(step, &intent, None)?;
            if let IntentKind::MoveTree { inode, .. } = &intent.kind {
                renew(step, *inode, renewed)?;
            }
            (inode, Some(inode), left)
        }
        IntentEnd::DoneForNow => {
            let inode = done(step, &intent, None)?;
            (inode, Some(inode), once_more(&intent))
        }
        IntentEnd::Refused { .. } => (refused(step, &intent)?, None, None),
    };
    step.drop_intent(&intent, decided)?;
    if let Some(left) = left {
        step.open_intent(intent.mount, left, false);
    }
    Ok(inode.map_or(Done::Nothing, Done::Inode))
}

pub(crate) fn find(step: &Step<'_, '_>, intent: IntentId) -> Result<Intent, Reject> {
    let found = step.index.intents.get(&intent).cloned();
    found.ok_or_else(|| Reject::Stale(format!("{intent} was closed already")))
}

/// The removal of what a copy left at its old key; asked before the edge moves.
fn left_behind(step: &Step<'_, '_>, intent: &Intent) -> Result<Option<IntentKind>, StoreError> {
    Ok(match &intent.kind {
        IntentKind::RenameFile { from, fingerprint, inode, .. } => {
            let spot = step.locate(*inode)?.map(|found| found.last().clone());
            spot.and_then(|spot| Some((spot.parent, spot.name?))).map(|(parent, name)| IntentKind::DeleteFile {
                key: from.clone(),
                fingerprint: fingerprint.clone(),
                parent,
                name,
            })
        }
        IntentKind::MoveTree { from, parent, name, .. } => {
            Some(IntentKind::DeleteTree { key: from.clone(), parent: *parent, name: name.clone() })
        }
        IntentKind::DeleteFile { .. }
        | IntentKind::DeleteTree { .. }
        | IntentKind::DeleteAgain { .. }
        | IntentKind::MakeDirectory { .. } => None,
    })
}

/// The removal of what may yet land at the key that was left. A file moves only when nothing is on its way to its key.
fn once_more(intent: &Intent) -> Option<IntentKind> {
    match &intent.kind {
        IntentKind::DeleteFile { key, parent, name, .. }
        | IntentKind::DeleteTree { key, parent, name }
        | IntentKind::DeleteAgain { key, parent, name }
        | IntentKind::MoveTree { from: key, parent, name, .. } => {
            Some(IntentKind::DeleteAgain { key: key.clone(), parent: *parent, name: name.clone() })
        }
        IntentKind::RenameFile { .. } | IntentKind::MakeDirectory { .. } => None,
    }
}

/// Files of a moved tree keep their content, and so their container, under the versions their copies got; one whose stream
/// was closed and that is not complete yet as well. One whose object was another already keeps the version it had: the
/// next look at the store then makes a new generation of it.
fn renew(step: &mut Step<'_, '_>, tree: InodeId, renewed: &[Renewed]) -> Result<(), StoreError> {
    let Some(tree) = step.locate(tree)? else { return Ok(()) };
    for one in renewed {
        let mut at = Some(tree.last().clone());
        for name in one.key.split('/') {
            at = match (&at, Name::new(name)) {
                (Some(above), Ok(name)) => child(step.txn, above, &name)?,
                (Some(_) | None, _) => None,
            };
        }
        let Some(spot) = at else { continue };
        step.edit_file(&spot, |file| {
            let closed = file.closed.as_mut().map(|(fingerprint, _)| fingerprint);
            let known = [Some(&mut file.fingerprint), closed].into_iter().flatten().flatten();
            known.filter(|known| **known == one.was).for_each(|known| known.clone_from(&one.is));
        })?;
    }
    Ok(())
}

fn done(step: &mut Step<'_, '_>, intent: &Intent, new: Option<&Fingerprint>) -> Result<Option<InodeId>, StoreError> {
    match &intent.kind {
        IntentKind::DeleteFile { parent, name, .. }
        | IntentKind::DeleteTree { parent, name, .. }
        | IntentKind::DeleteAgain { parent, name, .. } => {
            note_removed(step, *parent, name, Gone::Everywhere)?;
            Ok(None)
        }
        IntentKind::RenameFile { inode, to_parent, to_name, .. } => {
            let (source, target) = (step.locate(*inode)?, step.locate(*to_parent)?);
            if let (Some(source), Some(target)) = (source, target) {
                let new = new.cloned();
                step.move_edge(source.last(), source.parent(), target.last(), to_name, |inode| {
                    if let Node::File(file) = &mut inode.node {
                        file.fingerprint = new;
                    }
                })?;
            }
            Ok(Some(*inode))
        }
        IntentKind::MoveTree { inode, parent, name, .. } => {
            let at = step.at;
            if let Some(moved) = step.locate(*inode)? {
                step.edit(moved.last(), |inode| {
                    inode.store_key = None;
                    inode.changed = at;
                })?;
                step.edit_directory(moved.last(), |directory| directory.removed_at = at)?;
            }
            note_removed(step, *parent, name, Gone::Everywhere)?;
            Ok(Some(*inode))
        }
        IntentKind::MakeDirectory { inode, .. } => {
            if let Some(made) = step.locate(*inode)? {
                step.mark_persisted(&made.spots)?;
            }
            Ok(Some(*inode))
        }
    }
}

/// Nothing changed in the store: what was removed here can be loaded again, what was moved goes back.
fn refused(step: &mut Step<'_, '_>, intent: &Intent) -> Result<Option<InodeId>, StoreError> {
    match &intent.kind {
        IntentKind::DeleteFile { parent, name, .. }
        | IntentKind::DeleteTree { parent, name, .. }
        | IntentKind::DeleteAgain { parent, name, .. } => {
            note_removed(step, *parent, name, Gone::Here)?;
            Ok(None)
        }
        IntentKind::MoveTree { inode, parent, name, .. } => {
            let (moved, back) = (step.locate(*inode)?, step.locate(*parent)?);
            if let (Some(moved), Some(back)) = (moved, back) {
                step.move_edge(moved.last(), moved.parent(), back.last(), name, |inode| inode.store_key = None)?;
            }
            Ok(Some(*inode))
        }
        IntentKind::RenameFile { inode, .. } | IntentKind::MakeDirectory { inode, .. } => Ok(Some(*inode)),
    }
}

fn note_removed(step: &mut Step<'_, '_>, parent: InodeId, name: &Name, gone: Gone) -> Result<(), StoreError> {
    match step.locate(parent)? {
        Some(parent) => step.note_removed(parent.last(), name, gone),
        None => Ok(()),
    }
}
