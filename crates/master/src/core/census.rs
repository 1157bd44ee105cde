//! The leader's slow walk through all inodes, some at each tick: what it sees becomes the figures of `fsadmin report metadata`,
//! and what of it was not used for a time may expire.
//!
//! It reads records one by one and not as of one moment: a figure for people. It is begun anew by each leader, and again
//! some time after it has ended.

use super::{Core, Now};
use crate::census::{Census, Known};
use bytes::Bytes;
use meta::{Family, Inode, Record as _};
use std::sync::Arc;
use std::time::Duration;
use types::Monotonic;

/// Records read at one tick, at most: about a tenth of a millisecond of the state thread.
const STEP: u64 = 256;

/// How fast, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalkConfig {
    /// Inodes looked at in a second.
    pub per_second: u64,
    /// Rest between two walks.
    pub every: Duration,
}

#[derive(Default)]
pub struct Walk {
    /// Under way: where it goes on.
    at: Option<(Bytes, Census)>,
    /// When the last one ended.
    ended: Option<Monotonic>,
    last_tick: Monotonic,
}

impl Core {
    pub(super) fn tick_census(&mut self, now: Now) {
        let Some(config) = self.config.walk else { return };
        let since = now.mono - std::mem::replace(&mut self.walk.last_tick, now.mono);
        if self.walk.at.is_none() && self.walk.ended.is_none_or(|ended| now.mono - ended >= config.every) {
            self.walk.at = Some((Bytes::new(), Census::begin(now.unix)));
        }
        if self.is_expiry_full() {
            return;
        }
        let Some((from, mut census)) = self.walk.at.take() else { return };
        let share = u128::from(config.per_second) * since.as_millis() / 1000;
        let limit = u64::try_from(share).unwrap_or(STEP).clamp(1, STEP);
        let store = self.shared.state.store();
        let page = store.scan(Family::Edges, &from, meta::KEYS_END, usize::try_from(limit).expect("a small number"));
        let Ok(page) = page else {
            // Whoever needs it hears of it; this walk tries again.
            self.walk.at = Some((from, census));
            return;
        };
        let mut unused = self.look_for_unused(now);
        for (_, value) in &page {
            match Inode::decode(value) {
                Ok(inode) => {
                    census.add(&inode, now.unix);
                    if let Some(unused) = &mut unused {
                        self.look_at_unused(&inode, unused);
                    }
                }
                Err(_) => census.unreadable += 1,
            }
        }
        let is_end = u64::try_from(page.len()).unwrap_or(u64::MAX) < limit;
        let mut known = self.shared.census.lock();
        match page.last().filter(|_| !is_end) {
            Some((last, _)) => {
                known.walking = Some((census.began, census.inodes()));
                self.walk.at = Some((meta::key_after(last), census));
            }
            None => {
                census.ended = now.unix;
                *known = Known { last: Some(Arc::new(census)), walking: None };
                self.walk.ended = Some(now.mono);
            }
        }
    }

    /// Another master leads: its own figures count.
    pub(super) fn end_census(&mut self) {
        self.walk = Walk::default();
        *self.shared.census.lock() = Known::default();
    }
}
