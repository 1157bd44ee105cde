//! Sets or removes one extended attribute.

use crate::effect::Done;
use crate::entry::SetXattr;
use crate::read::{CRC_TYPE, CRC_VALUE};
use crate::reject::Reject;
use crate::step::{Outcome, Step};
use crate::walk::{INNER_WRITE_TYPE, Spot};
use types::WriteType;

/// As on Linux.
const MAX_NAME_BYTES: usize = 255;
const MAX_VALUE_BYTES: usize = 64 << 10;
/// An inode's record is read whole at each look.
const MAX_TOTAL_BYTES: usize = 128 << 10;

pub(crate) fn apply(step: &mut Step<'_, '_>, op: &SetXattr) -> Outcome {
    let resolved = step.walk(&op.path)?;
    let spot = resolved.found(&op.path)?;
    resolved.check_writable()?;
    step.check_writer(spot)?;
    check(op, spot)?;

    step.edit(spot, |inode| match &op.value {
        Some(value) => {
            inode.xattrs.insert(op.name.clone(), value.clone());
        }
        None => {
            inode.xattrs.remove(&op.name);
        }
    })?;
    Ok(Done::Inode(spot.inode.id))
}

fn check(op: &SetXattr, spot: &Spot) -> Result<(), Reject> {
    let name = op.name.as_str();
    let refuse = |why: String| Err(Reject::Invalid(format!("cannot set attribute {name:?} of {}: {why}", op.path)));
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return refuse(format!("a name has 1 to {MAX_NAME_BYTES} bytes"));
    }
    if name == CRC_TYPE || name == CRC_VALUE {
        return refuse("it is computed from the file's checksum".to_owned());
    }
    let Some(value) = &op.value else { return Ok(()) };
    let others = spot.inode.xattrs.iter().filter(|(other, _)| *other != name);
    let total = others.map(|(name, value)| name.len() + value.len()).sum::<usize>() + name.len() + value.len();
    if value.len() > MAX_VALUE_BYTES || total > MAX_TOTAL_BYTES {
        return refuse(format!("a value has at most {MAX_VALUE_BYTES} bytes, all of a file {MAX_TOTAL_BYTES}"));
    }
    if name == INNER_WRITE_TYPE {
        let kind = std::str::from_utf8(value).ok().and_then(WriteType::from_name);
        if !spot.inode.is_directory() || kind.is_none() {
            return refuse("it goes on directories, with a write type such as MUST_CACHE or CACHE_THROUGH".to_owned());
        }
    }
    Ok(())
}
