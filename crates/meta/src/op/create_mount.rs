//! Mounts a store under a name of its own in `/`.

use crate::effect::{Done, Effect};
use crate::entry::CreateMount;
use crate::key::mount_key;
use crate::record::{Directory, Mount, Node};
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::store::Family;
use types::{GfsPath, LogIndex, Mode, MountId};

const MODE: Mode = Mode::new(0o755);

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &CreateMount) -> Outcome {
    step.who.check_superuser("create a namespace")?;
    let path = GfsPath::root().join(&op.name)?;
    let resolved = step.walk(&path)?;
    if resolved.missing.is_empty() {
        return Err(Reject::AlreadyExists(path).into());
    }
    if let Some(other) = step.index.mounts.values().find(|other| overlap(&other.uri, &op.spec.uri)) {
        let (new, old) = (&op.spec.uri, &other.uri);
        let why = format!("cannot mount {new} at {path}: {} holds {old}, and one would hold the other", other.path);
        return Err(Reject::Refused(why).into());
    }
    let root = resolved.last();
    step.check_covered(root.mount, &resolved.missing_key(), &path)?;

    let id = MountId(step.at.0);
    let directory = Directory { children: 0, loaded: false, persisted: true, removed_at: LogIndex(0), mount: Some(id) };
    step.make(&resolved, MODE, MODE, Node::Directory(directory))?;
    step.txn.put(Family::Mounts, mount_key(id), &Mount::new(id, path, &op.spec, step.wall));
    step.effects.push(Effect::MountsChanged);
    Ok(Done::Mount(id))
}

/// Whether one of two stores holds the other.
fn overlap(one: &str, other: &str) -> bool {
    let (one, other) = (one.trim_end_matches('/'), other.trim_end_matches('/'));
    let holds = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    holds(one, other) || holds(other, one)
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn stores_overlap_by_whole_names_only() {
        assert!(overlap("s3://bucket", "s3://bucket/a/"));
        assert!(overlap("s3://bucket/a/", "s3://bucket/a"));
        assert!(!overlap("s3://bucket/a", "s3://bucket/ab"));
        assert!(!overlap("s3://bucket", "s3://bucket2"));
    }
}
