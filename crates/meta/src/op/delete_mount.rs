//! Unmounts a namespace: what we knew of it goes, in steps, and its store is not touched. Operations on the store that
//! still ran are given up undecided.

use crate::effect::Done;
use crate::entry::DeleteMount;
use crate::record::{Intent, Mount};
use crate::reject::Reject;
use crate::step::{Gone, Outcome, Step};
use types::{GfsPath, InodeId, Name};

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &DeleteMount) -> Outcome {
    step.who.check_superuser("delete a namespace")?;
    let mount = find(step, &op.name)?;
    let resolved = step.walk(&mount.path)?;
    let spot = resolved.found(&mount.path)?;

    let intents: Vec<Intent> = step.index.intents.values().filter(|intent| intent.mount == mount.id).cloned().collect();
    for intent in &intents {
        step.drop_intent(intent, None)?;
    }
    let loads: Vec<InodeId> =
        step.index.loads.iter().filter(|(_, load)| load.mount == mount.id).map(|(directory, _)| *directory).collect();
    for directory in loads {
        step.end_load(directory)?;
    }
    step.unlink(resolved.parent(), spot, Gone::Here)?;
    step.drop_mount(mount.id);
    Ok(Done::Mount(mount.id))
}

/// The namespace of that name.
pub(crate) fn find(step: &Step<'_, '_>, name: &Name) -> Result<Mount, Reject> {
    let path = GfsPath::root().child(name);
    let found = step.index.mounts.values().find(|mount| mount.path == path).cloned();
    found.ok_or_else(|| Reject::NoNamespace(name.as_str().to_owned()))
}
