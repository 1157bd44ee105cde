//! Changes what a namespace was mounted with; its store stays.

use crate::effect::{Done, Effect};
use crate::entry::UpdateMount;
use crate::key::mount_key;
use crate::op::delete_mount::find;
use crate::step::{Outcome, Step};
use crate::store::Family;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &UpdateMount) -> Outcome {
    step.who.check_superuser("change a namespace")?;
    let mut mount = find(step, &op.name)?;

    mount.read_only = op.read_only.unwrap_or(mount.read_only);
    mount.shared = op.shared.unwrap_or(mount.shared);
    if let Some(properties) = &op.properties {
        mount.properties.clone_from(properties);
    }
    if let Some(secrets) = &op.secrets {
        mount.secrets.clone_from(secrets);
    }
    mount.write_policy = op.write_policy.unwrap_or(mount.write_policy);
    mount.read_policy = op.read_policy.unwrap_or(mount.read_policy);
    step.txn.put(Family::Mounts, mount_key(mount.id), &mount);
    step.effects.push(Effect::MountsChanged);
    Ok(Done::Mount(mount.id))
}
