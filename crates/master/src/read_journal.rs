//! The log for people: each entry of a journal directory as a line of JSON.
//!
//! Is:     a reader that changes nothing and takes no lock, so it may be called beside a running master.
//! Never:  shows what is sealed: the secrets of a mount are named, their values left out.

use crate::error::Error;
use journal::{Change, EntryKind, LogEntry, StoredBatch};
use meta::{Entry, Op, Record};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::Path;

/// One line: an entry, or the state of consensus that was written with a batch.
#[derive(Serialize, Debug)]
#[serde(untagged)]
pub enum JournalLine {
    Entry {
        index: u64,
        term: u64,
        #[serde(flatten)]
        content: Content,
    },
    Batch {
        batch: u64,
        term: u64,
        /// The member this one voted for in that term.
        vote: Option<u64>,
        commit: u64,
        synced: u64,
        entries: usize,
    },
}

/// What an entry asks for.
#[derive(Debug)]
pub enum Content {
    /// Nothing: with it a leader opens its term.
    TermOpened,
    /// Who the members of the group are.
    MembersChanged(Change),
    Asked(Box<Entry>),
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Content::TermOpened => BTreeMap::from([("op", "TermOpened")]).serialize(to),
            Content::MembersChanged(change) => {
                let mut map = to.serialize_map(None)?;
                map.serialize_entry("op", "MembersChanged")?;
                match change {
                    Change::AddLearner { address, replaces } => {
                        map.serialize_entry("add", address)?;
                        map.serialize_entry("replaces", &replaces.map(|member| member.0))?;
                    }
                    Change::Promote(member) => map.serialize_entry("promote", &member.0)?,
                    Change::Remove(member) => map.serialize_entry("remove", &member.0)?,
                    Change::Reduce(member) => map.serialize_entry("reduce_to", &member.0)?,
                }
                map.end()
            }
            Content::Asked(entry) => entry.serialize(to),
        }
    }
}

/// Which lines to give.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalFilter {
    pub indexes: RangeInclusive<u64>,
    /// Also one line for each batch.
    pub batches: bool,
}

/// Gives the lines of the log in `dir`, in the order they were written, to `line` until it breaks off. An index that comes
/// again replaces what came from it on.
///
/// Returns a sentence about a last batch that is not whole, if there is one.
/// Errors: no journal, a newer release's, and damage with its file and byte; the lines before it have been given.
pub fn read_journal(
    dir: &Path,
    filter: &JournalFilter,
    mut line: impl FnMut(JournalLine) -> ControlFlow<()>,
) -> Result<Option<String>, Error> {
    let mut unreadable = None;
    let torn = journal::look(dir, |batch| {
        lines(batch, filter, &mut line).unwrap_or_else(|why| {
            unreadable = Some(why);
            ControlFlow::Break(())
        })
    });
    let torn = torn.map_err(|err| Error::Start(types::sentence(&err)))?;
    match unreadable {
        Some(why) => Err(why),
        None => Ok(torn.map(|cut| {
            format!(
                "the batch at byte {} of {} is not whole: torn by a crash and never acknowledged, or being written now",
                cut.offset,
                cut.path.display()
            )
        })),
    }
}

fn lines(
    batch: StoredBatch,
    filter: &JournalFilter,
    line: &mut impl FnMut(JournalLine) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    let last = batch.entries.last().map(|entry| entry.index.0);
    if filter.batches && last.is_none_or(|last| last >= *filter.indexes.start()) {
        let state = batch.hard_state;
        let about = JournalLine::Batch {
            batch: batch.number,
            term: state.term.0,
            vote: state.vote.map(|member| member.0),
            commit: state.commit.0,
            synced: batch.synced.0,
            entries: batch.entries.len(),
        };
        if line(about).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    for entry in batch.entries.iter().filter(|entry| filter.indexes.contains(&entry.index.0)) {
        let place = format_args!("the batch at byte {} of {}", batch.offset, batch.path.display()).to_string();
        let content = content(entry, &place)?;
        let shown = JournalLine::Entry { index: entry.index.0, term: entry.term.0, content };
        if line(shown).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn content(entry: &LogEntry, place: &str) -> Result<Content, Error> {
    let LogEntry { index, kind, payload, .. } = entry;
    let unreadable = |err: &dyn std::fmt::Display| {
        Error::Start(format!("{index} in {place}: {err}; it is damaged or from a newer release"))
    };
    if *kind == EntryKind::Change {
        return Change::decode(payload).map(Content::MembersChanged).map_err(|err| unreadable(&err));
    }
    if payload.is_empty() {
        return Ok(Content::TermOpened);
    }
    let mut entry = Entry::decode(payload).map_err(|err| unreadable(&err))?;
    let secrets = match &mut entry.op {
        Op::Format(op) => Some(&mut op.root.secrets),
        Op::CreateMount(op) => Some(&mut op.spec.secrets),
        Op::UpdateMount(op) => op.secrets.as_mut(),
        Op::CreateFile(_)
        | Op::CompleteFile(_)
        | Op::CreateDirectory(_)
        | Op::Rename(_)
        | Op::Remove(_)
        | Op::SetAttribute(_)
        | Op::CommitLocation(_)
        | Op::CloseStream(_)
        | Op::SchedulePersist(_)
        | Op::GrantPersist(_)
        | Op::FinishPersist(_)
        | Op::FailPersist(_)
        | Op::ExpireIncomplete(_)
        | Op::BeginAttempt(_)
        | Op::CloseIntent(_)
        | Op::Collect(_)
        | Op::OpenLoad(_)
        | Op::LoadPage(_)
        | Op::AbortLoad(_)
        | Op::LoadPath(_)
        | Op::Sync(_)
        | Op::DeleteMount(_)
        | Op::RegisterWorker(_)
        | Op::ForgetOperations(_)
        | Op::RaiseRules(_)
        | Op::SetXattr(_)
        | Op::MarkLost(_)
        | Op::BeginPersist(_)
        | Op::AnnounceStream(_)
        | Op::BeginIncarnation(_)
        | Op::HoldPersist(_)
        | Op::Repair(_)
        | Op::NoteUse(_)
        | Op::Expire(_)
        | Op::Batch(_) => None,
    };
    secrets.into_iter().flat_map(BTreeMap::values_mut).for_each(Vec::clear);
    Ok(Content::Asked(Box::new(entry)))
}
