//! raft-rs logs through slog; this hands it on to tracing.

use crate::MemberId;
use slog::{Drain, Level, Never, OwnedKVList, Record};

struct ToTracing(MemberId);

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        let (member, message) = (self.0, record.msg());
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", %member, "{message}"),
            Level::Warning => tracing::warn!(target: "raft", %member, "{message}"),
            // What raft-rs calls information is detail to an operator.
            Level::Info => tracing::debug!(target: "raft", %member, "{message}"),
            Level::Debug | Level::Trace => {}
        }
        Ok(())
    }

    fn is_enabled(&self, level: Level) -> bool {
        level.is_at_least(Level::Info)
    }
}

pub(super) fn logger(member: MemberId) -> slog::Logger {
    slog::Logger::root(ToTracing(member), slog::o!())
}
