//! The first entry of a cluster that is taken: makes `/`.

use crate::effect::{Done, Effect};
use crate::entry::Format;
use crate::key::{ABOVE_ROOT, ROOT, ROOT_MOUNT, mount_key, place_key};
use crate::record::{Directory, Mount, Node};
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::Family;
use types::{GfsPath, LogIndex};

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &Format) -> Outcome {
    if let Some(cluster) = step.counters.cluster {
        return Err(Reject::Refused(format!("this cluster is formatted already ({cluster})")).into());
    }
    let (_, container) = step.take_ids()?;

    step.counters.cluster = Some(op.cluster);
    let directory =
        Directory { children: 0, loaded: false, persisted: true, removed_at: LogIndex(0), mount: Some(ROOT_MOUNT) };
    let node = Node::Directory(directory);
    let inode = step.inode_now((ROOT, container), (&op.owner, &op.group), op.mode, node);
    step.txn.put(Family::Edges, place_key(ABOVE_ROOT, None), &inode);
    step.own_container(container, ROOT);
    step.txn.put(Family::Mounts, mount_key(ROOT_MOUNT), &Mount::new(ROOT_MOUNT, GfsPath::root(), &op.root, step.wall));
    step.effects.push(Effect::MountsChanged);
    Ok(Done::Inode(ROOT))
}
