//! Changes mode, owner and group. A recursive change is one entry, so it is refused for trees above [`MAX_INODES`].

use crate::effect::Done;
use crate::entry::SetAttribute;
use crate::key::edge_range;
use crate::record::{Inode, Record};
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::{Family, Read};
use crate::walk::{Spot, Stop};

/// Inodes one recursive change may touch: a batch of this many records is some megabytes.
const MAX_INODES: usize = 10_000;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &SetAttribute) -> Outcome {
    let resolved = step.walk(&op.path)?;
    let top = resolved.found(&op.path)?;
    resolved.check_writable()?;
    let spots = if op.recursive { subtree(step, top, op)? } else { vec![top.clone()] };
    for spot in &spots {
        check(step, op, spot)?;
    }

    for spot in &spots {
        step.edit(spot, |inode| {
            inode.mode = op.mode.unwrap_or(inode.mode);
            if let Some(owner) = &op.owner {
                inode.owner.clone_from(owner);
            }
            if let Some(group) = &op.group {
                inode.group.clone_from(group);
            }
        })?;
    }
    Ok(Done::Inode(top.inode.id))
}

fn check(step: &Step<'_, '_>, op: &SetAttribute, spot: &Spot) -> Result<(), Reject> {
    let (who, inode, path) = (step.who, &spot.inode, &spot.path);
    if op.owner.as_ref().is_some_and(|owner| *owner != inode.owner) {
        who.check_superuser("change who owns a file")?;
    }
    if let Some(group) = op.group.as_ref().filter(|group| **group != inode.group) {
        who.check_owner("group", inode, path)?;
        if !who.superuser && !who.groups.contains(group) {
            let why = format!("{} is no member of {group} and so cannot give {path} to it", who.user);
            return Err(Reject::Refused(why));
        }
    }
    if op.mode.is_some() {
        who.check_owner("mode", inode, path)?;
    }
    Ok(())
}

/// `top` and everything below it within its mount.
fn subtree(step: &Step<'_, '_>, top: &Spot, op: &SetAttribute) -> Result<Vec<Spot>, Stop> {
    let mut spots = vec![top.clone()];
    let mut next = 0;
    while let Some(at) = spots.get(next).cloned() {
        next += 1;
        if !at.inode.is_directory() {
            continue;
        }
        let (start, end) = edge_range(at.inode.id, None);
        let room = MAX_INODES - spots.len();
        let page = step.read().scan(Family::Edges, &start, &end, room + 1)?;
        if page.len() > room {
            let why = format!(
                "{} has more than {MAX_INODES} files and directories, too many for one recursive change; change its \
                 subdirectories one by one",
                op.path
            );
            return Err(Reject::Refused(why).into());
        }
        for (key, value) in page {
            let (_, name) = crate::key::edge_of(&key)?;
            let spot = at.below(name.expect("the range holds names"), Inode::decode(&value)?);
            if !spot.is_mount_root() {
                spots.push(spot);
            }
        }
    }
    Ok(spots)
}
