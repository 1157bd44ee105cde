//! What a namespace is to those who use it: a sequential model of one room.

use crate::calls::{Answer, Call, Refusal, Shown};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Who makes files and directories, and so owns them.
const MAKER: Option<u64> = Some(0);

/// Something in a room.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Item {
    pub directory: bool,
    /// 0 while no answer has shown it.
    pub id: i64,
    /// None while incomplete, and for directories.
    pub length: Option<i64>,
    /// None while it was in the store alone and no answer has shown it.
    pub owner: Option<u64>,
    /// It was in the store from the beginning: forgotten while nobody uses it, and then found there again, it has another id.
    pub is_from_store: bool,
}

impl Item {
    fn made(directory: bool, id: i64) -> Item {
        Item { directory, id, length: None, owner: MAKER, is_from_store: false }
    }

    /// A file of this length, or a directory.
    fn of_store(length: Option<i64>) -> Item {
        Item { directory: length.is_none(), id: 0, length, owner: None, is_from_store: true }
    }
}

/// All items of a room by path. The room itself is there always.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct State(Rc<BTreeMap<String, Item>>);

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

fn is_within(path: &str, above: &str) -> bool {
    above.is_empty() || path == above || path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

impl State {
    /// A room that begins with these files of known lengths, in directories of their own.
    pub fn with(files: &[(String, i64)]) -> State {
        let mut items = BTreeMap::new();
        for (path, length) in files {
            items.insert(path.clone(), Item::of_store(Some(*length)));
            let above = parent(path);
            if !above.is_empty() {
                items.insert(above.to_owned(), Item::of_store(None));
            }
        }
        State(Rc::new(items))
    }

    fn is_directory(&self, path: &str) -> bool {
        path.is_empty() || self.0.get(path).is_some_and(|item| item.directory)
    }

    /// Why nothing can stand at `path`, or be made there.
    fn objections_above(&self, path: &str) -> Vec<Refusal> {
        let mut above = parent(path);
        let mut objections = Vec::new();
        while !above.is_empty() {
            match self.0.get(above) {
                None => objections.push(Refusal::NotFound),
                Some(item) if !item.directory => objections.extend([Refusal::NotFound, Refusal::Precondition]),
                Some(_) => {}
            }
            above = parent(above);
        }
        objections
    }

    fn objections_to_new(&self, path: &str) -> Vec<Refusal> {
        let mut objections = self.objections_above(path);
        if path.is_empty() || self.0.contains_key(path) {
            objections.push(Refusal::AlreadyExists);
        }
        objections
    }

    fn objections_to_missing(&self, path: &str) -> Vec<Refusal> {
        let mut objections = self.objections_above(path);
        if !path.is_empty() && !self.0.contains_key(path) {
            objections.push(Refusal::NotFound);
        }
        objections
    }

    /// The state after `call` if its answer can be `answer` here; None if it cannot. Without an answer: the state after its
    /// effect, None if it has none.
    pub fn step(&self, call: &Call, answer: Option<&Answer>) -> Option<State> {
        let objections = self.objections(call);
        match answer {
            Some(Answer::Refused(why)) => objections.contains(why).then(|| self.clone()),
            Some(_) | None if !objections.is_empty() => None,
            answer => self.done(call, answer),
        }
    }

    fn objections(&self, call: &Call) -> Vec<Refusal> {
        match call {
            Call::Create { path } | Call::MakeDirectory { path } => self.objections_to_new(path),
            Call::Remove { path } | Call::SetOwner { path, .. } | Call::Status { path } | Call::List { path } => {
                self.objections_to_missing(path)
            }
            Call::Complete { file, .. } => match self.by_id(*file) {
                Some(_) => Vec::new(),
                None => vec![Refusal::NotFound],
            },
            Call::Rename { from, to } => {
                let mut objections = self.objections_to_missing(from);
                if from != to && is_within(to, from) {
                    objections.push(Refusal::Invalid);
                }
                objections.extend(self.objections_to_new(to));
                objections
            }
        }
    }

    fn by_id(&self, id: i64) -> Option<String> {
        self.0.iter().find(|(_, item)| item.id == id && !item.directory).map(|(path, _)| path.clone())
    }

    fn done(&self, call: &Call, answer: Option<&Answer>) -> Option<State> {
        let mut next = self.clone();
        let items = Rc::make_mut(&mut next.0);
        match (call, answer) {
            (Call::Create { path }, Some(Answer::Made(id))) => {
                items.insert(path.clone(), Item::made(false, *id));
            }
            (Call::Create { path }, Some(Answer::Vanished) | None) => {
                items.insert(path.clone(), Item::made(false, 0));
            }
            (Call::MakeDirectory { path }, Some(Answer::Done) | None) => {
                items.insert(path.clone(), Item::made(true, 0));
            }
            (Call::Complete { file, length, .. }, Some(Answer::Done) | None) => {
                let path = self.by_id(*file)?;
                items.get_mut(&path)?.length = Some(*length);
            }
            (Call::Remove { path }, Some(Answer::Done) | None) => {
                items.retain(|at, _| !is_within(at, path));
            }
            (Call::SetOwner { path, owner, recursive }, Some(Answer::Done) | None) => {
                let is_meant = |at: &str| at == path || (*recursive && is_within(at, path));
                items.iter_mut().filter(|(at, _)| is_meant(at)).for_each(|(_, item)| item.owner = Some(*owner));
            }
            (Call::Rename { from, to }, Some(Answer::Done) | None) => {
                let moved: Vec<String> = items.keys().filter(|at| is_within(at, from)).cloned().collect();
                for at in moved {
                    let item = items.remove(&at)?;
                    items.insert(format!("{to}{}", &at[from.len()..]), item);
                }
            }
            (Call::Status { path }, Some(Answer::Entry(shown))) => {
                if path.is_empty() {
                    return shown.directory.then_some(next);
                }
                agree(items, path, shown)?;
            }
            (Call::List { path }, Some(Answer::Entries(shown))) => {
                let names: Vec<String> = if self.is_directory(path) {
                    let below = |at: &&String| !at.is_empty() && parent(at) == path;
                    items.keys().filter(below).cloned().collect()
                } else {
                    vec![path.clone()]
                };
                let mut expected: Vec<&str> =
                    names.iter().map(|at| at.rsplit_once('/').map_or(at.as_str(), |(_, name)| name)).collect();
                expected.sort_unstable();
                if !expected.iter().eq(shown.iter().map(|entry| &entry.name).collect::<Vec<_>>()) {
                    return None;
                }
                for at in &names {
                    let name = at.rsplit_once('/').map_or(at.as_str(), |(_, name)| name);
                    agree(items, at, shown.iter().find(|entry| entry.name == name)?)?;
                }
            }
            (Call::Status { .. } | Call::List { .. }, None) => {}
            (call, Some(answer)) => unreachable!("{call:?} does not answer {answer:?}"),
        }
        Some(next)
    }
}

/// Whether an item can be what was shown; from then on it has the id and the owner that were shown.
fn agree(items: &mut BTreeMap<String, Item>, path: &str, shown: &Shown) -> Option<()> {
    let taken = items.iter().any(|(at, item)| item.id == shown.id && at != path);
    let item = items.get_mut(path)?;
    let same_id = item.id == shown.id || ((item.id == 0 || item.is_from_store) && !taken);
    if !same_id || item.directory != shown.directory || item.length != shown.length {
        return None;
    }
    if *item.owner.get_or_insert(shown.owner) != shown.owner {
        return None;
    }
    item.id = shown.id;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(path: &str) -> Call {
        Call::Create { path: path.into() }
    }

    #[test]
    fn what_is_made_is_there_once_and_moves_as_a_whole() {
        let state = State::default();
        let state = state.step(&Call::MakeDirectory { path: "d".into() }, Some(&Answer::Done)).expect("room");
        let state = state.step(&create("d/f"), Some(&Answer::Made(7))).expect("room");
        assert_eq!(state.step(&create("d/f"), Some(&Answer::Made(8))), None);
        assert!(state.step(&create("d/f"), Some(&Answer::Refused(Refusal::AlreadyExists))).is_some());
        let moved = Call::Rename { from: "d".into(), to: "e".into() };
        let state = state.step(&moved, Some(&Answer::Done)).expect("free");
        let shown = Shown { name: "f".into(), id: 7, directory: false, owner: 0, length: None };
        let look = Call::Status { path: "e/f".into() };
        assert!(state.step(&look, Some(&Answer::Entry(shown.clone()))).is_some());
        assert_eq!(state.step(&look, Some(&Answer::Entry(Shown { id: 9, ..shown.clone() }))), None, "another file");
        assert_eq!(state.step(&look, Some(&Answer::Refused(Refusal::NotFound))), None);
        let give = Call::SetOwner { path: "e".into(), owner: 5, recursive: true };
        let state = state.step(&give, Some(&Answer::Done)).expect("there");
        assert_eq!(state.step(&look, Some(&Answer::Entry(shown.clone()))), None, "it has another owner");
        assert!(state.step(&look, Some(&Answer::Entry(Shown { owner: 5, ..shown }))).is_some());
        let gone = state.step(&Call::Remove { path: "e".into() }, Some(&Answer::Done)).expect("there");
        assert_eq!(gone, State::default());
    }
}
