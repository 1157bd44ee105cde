//! Uploads that may land in a store at any moment, by what workers say.
//!
//! Is:     soft state of this leader: where each upload under way goes, and when it was last heard of.
//! Never:  takes an upload for ended because its worker is gone, or says that it failed: a store may carry out a request
//!         after whoever sent it is dead. Only one that succeeded is over at once.

use hashbrown::HashMap;
use std::time::Duration;
use types::{ContainerId, Monotonic, MountId};

/// How long after the last word of an upload its store may still carry out a request of it. A worker that finishes an upload
/// says so every second; what it sent before it died is done within moments, or never.
pub const LANDING: Duration = Duration::from_secs(5);
/// Files with an upload under way remembered at once; when there are more, each is taken for one that was not.
const UPLOADS: usize = 100_000;

struct Upload {
    mount: MountId,
    key: String,
    last_heard: Monotonic,
}

impl Upload {
    fn may_land(&self, now: Monotonic) -> bool {
        now - self.last_heard < LANDING
    }
}

#[derive(Default)]
pub struct Uploads {
    of: HashMap<ContainerId, Vec<Upload>>,
    /// Until then there may be uploads that are not remembered here.
    unsure_until: Monotonic,
}

impl Uploads {
    /// This master begins to lead: what an earlier leader let complete, it does not know.
    pub fn lead(&mut self, now: Monotonic) {
        self.of.clear();
        self.unsure_until = now + LANDING;
    }

    /// An upload to this key may land from now on.
    pub fn heard(&mut self, container: ContainerId, mount: MountId, key: &str, now: Monotonic) {
        if self.of.len() >= UPLOADS {
            self.of.retain(|_, uploads| uploads.iter().any(|upload| upload.may_land(now)));
        }
        if self.of.len() >= UPLOADS {
            self.unsure_until = now + LANDING;
            return;
        }
        let uploads = self.of.entry(container).or_default();
        match uploads.iter_mut().find(|upload| upload.mount == mount && upload.key == key) {
            Some(known) => known.last_heard = now,
            None => uploads.push(Upload { mount, key: key.to_owned(), last_heard: now }),
        }
    }

    /// The upload of this file succeeded, and its worker said so.
    pub fn landed(&mut self, container: ContainerId) {
        self.of.remove(&container);
    }

    /// Whether something may land at this key or, if it is a directory's, below it. Cost: a look at every upload under way.
    pub fn may_land(&self, mount: MountId, key: &str, now: Monotonic) -> bool {
        let is_there = |at: &str| at == key || (key.ends_with('/') && at.starts_with(key));
        let mut all = self.of.values().flatten();
        all.any(|upload| upload.mount == mount && upload.may_land(now) && is_there(&upload.key))
    }

    /// Whether something may land that is not remembered here.
    pub fn is_unsure(&self, now: Monotonic) -> bool {
        now < self.unsure_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_may_land_until_it_succeeded_or_was_not_heard_of_for_long() {
        let at = |ms| Monotonic(Duration::from_millis(ms));
        let (mount, mut uploads) = (MountId(1), Uploads::default());
        uploads.heard(ContainerId(1), mount, "a/f", at(0));
        uploads.heard(ContainerId(2), mount, "b", at(0));
        for (key, may) in [("a/f", true), ("a/", true), ("a", false), ("a/f/", false), ("b", true), ("b/", false)] {
            assert_eq!(uploads.may_land(mount, key, at(10)), may, "{key}");
        }
        assert!(!uploads.may_land(MountId(2), "a/f", at(10)));
        uploads.landed(ContainerId(2));
        assert!(!uploads.may_land(mount, "b", at(10)));
        uploads.heard(ContainerId(1), mount, "a/f", at(4_000));
        assert!(uploads.may_land(mount, "a/f", at(8_999)));
        assert!(!uploads.may_land(mount, "a/f", at(9_000)));
        uploads.lead(at(10_000));
        assert!(uploads.is_unsure(at(14_999)) && !uploads.is_unsure(at(15_000)));
    }
}
