//! Who the members of a group are, and the steps in which that changes.
//!
//! Is:     a value that every member computes alike from the entries of kind 1; its bytes are in `docs/formats/journal.md`.
//! Owns:   the ids: each is given out once.
//! Never:  decides that a change is wise; lets two changes happen in one step.

use crate::{Error, MAX_VOTERS, MemberId};
use bytes::Bytes;
use std::collections::BTreeMap;

const VERSION: u8 = 1;
const ADD_LEARNER: u8 = 1;
const PROMOTE: u8 = 2;
const REMOVE: u8 = 3;
const REDUCE: u8 = 4;
/// Longest address of a member.
const MAX_ADDRESS_BYTES: usize = 1024;

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A member that gets the log but has no vote yet. `replaces`: who goes before it is promoted.
    AddLearner { address: String, replaces: Option<MemberId> },
    /// It has a vote from here on.
    Promote(MemberId),
    /// It is a member no longer, and its id is never given out again.
    Remove(MemberId),
    /// The group was lost but for this member, which goes on alone. Only a forced recovery says so.
    Reduce(MemberId),
}

/// What a change means for one member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    Learner(MemberId),
    Voter(MemberId),
    Gone(MemberId),
}

/// One member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seat {
    /// Where the others reach it.
    pub address: String,
    pub voter: bool,
    pub replaces: Option<MemberId>,
}

/// All members as of one index.
///
/// Invariants: ids are above 0 and below `next_id`, which never falls; at least one is a voter; nobody is more than
/// one of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    seats: BTreeMap<MemberId, Seat>,
    next_id: u64,
}

impl Membership {
    /// The voters a group begins with.
    pub fn founding(members: impl IntoIterator<Item = (MemberId, String)>) -> Membership {
        let seat = |(id, address)| (id, Seat { address, voter: true, replaces: None });
        let seats: BTreeMap<MemberId, Seat> = members.into_iter().map(seat).collect();
        let next_id = seats.keys().next_back().map_or(0, |last| last.0) + 1;
        Membership { seats, next_id }
    }

    pub fn iter(&self) -> impl Iterator<Item = (MemberId, &Seat)> {
        self.seats.iter().map(|(id, seat)| (*id, seat))
    }
    pub fn seat(&self, id: MemberId) -> Option<&Seat> {
        self.seats.get(&id)
    }
    pub fn is_voter(&self, id: MemberId) -> bool {
        self.seats.get(&id).is_some_and(|seat| seat.voter)
    }
    pub fn voters(&self) -> impl Iterator<Item = MemberId> {
        self.iter().filter(|(_, seat)| seat.voter).map(|(id, _)| id)
    }
    pub fn learners(&self) -> impl Iterator<Item = MemberId> {
        self.iter().filter(|(_, seat)| !seat.voter).map(|(id, _)| id)
    }
    /// The members with this address: two while one replaces the other.
    pub fn at<'a>(&'a self, address: &'a str) -> impl Iterator<Item = MemberId> + 'a {
        self.iter().filter(move |(_, seat)| seat.address == address).map(|(id, _)| id)
    }
    pub fn addresses(&self) -> Vec<String> {
        self.seats.values().map(|seat| seat.address.clone()).collect()
    }
    /// The id that the next new member gets.
    pub fn next_id(&self) -> MemberId {
        MemberId(self.next_id)
    }
    /// Whether it was a member once and is none now. What it says counts no more.
    pub fn was_removed(&self, id: MemberId) -> bool {
        id.0 < self.next_id && !self.seats.contains_key(&id)
    }

    /// Why a change cannot be made, as a sentence; None: it can.
    pub fn objection(&self, change: &Change) -> Option<String> {
        match change {
            Change::AddLearner { address, .. } if address.is_empty() || address.len() > MAX_ADDRESS_BYTES => {
                Some(format!("an address has 1 to {MAX_ADDRESS_BYTES} bytes"))
            }
            Change::AddLearner { .. } if self.seats.len() > MAX_VOTERS => {
                Some(format!("the group has {} members, as many as it can: remove one first", self.seats.len()))
            }
            Change::AddLearner { replaces: Some(old), .. } if !self.seats.contains_key(old) => {
                Some(format!("{old} is no member and cannot be replaced"))
            }
            Change::AddLearner { address, replaces } => self
                .at(address)
                .find(|there| Some(*there) != *replaces)
                .map(|there| format!("{address} is {there} already")),
            Change::Promote(id) => match self.seats.get(id) {
                Some(seat) if !seat.voter && self.voters().count() < MAX_VOTERS => None,
                Some(seat) if !seat.voter => Some(format!("the group has {MAX_VOTERS} voters already")),
                Some(_) | None => Some(format!("{id} is no learner")),
            },
            Change::Remove(id) if !self.seats.contains_key(id) => Some(format!("{id} is no member")),
            Change::Remove(id) if self.voters().all(|voter| voter == *id) => {
                Some(format!("{id} is the only voter: a group cannot be without one"))
            }
            Change::Remove(_) => None,
            Change::Reduce(id) => (!self.seats.contains_key(id)).then(|| format!("{id} is no member")),
        }
    }

    /// Makes a change; nothing happens if there is an objection. Returns the steps it means, each about one member.
    pub(crate) fn apply(&mut self, change: &Change) -> Vec<Step> {
        if self.objection(change).is_some() {
            return Vec::new();
        }
        match change {
            Change::AddLearner { address, replaces } => {
                let id = self.next_id();
                self.next_id += 1;
                self.seats.insert(id, Seat { address: address.clone(), voter: false, replaces: *replaces });
                vec![Step::Learner(id)]
            }
            Change::Promote(id) => {
                let seat = self.seats.get_mut(id).expect("there is no objection");
                (seat.voter, seat.replaces) = (true, None);
                vec![Step::Voter(*id)]
            }
            Change::Remove(id) => {
                self.seats.remove(id);
                vec![Step::Gone(*id)]
            }
            Change::Reduce(survivor) => {
                let (was_voter, others) = (
                    self.is_voter(*survivor),
                    self.seats.keys().copied().filter(|id| id != survivor).collect::<Vec<_>>(),
                );
                self.reduce_to(*survivor);
                // First the vote, so that no step leaves a group without one.
                let vote = (!was_voter).then_some(Step::Voter(*survivor));
                vote.into_iter().chain(others.into_iter().map(Step::Gone)).collect()
            }
        }
    }

    /// The last member of a lost group goes on alone, under its id. Ids of the others are not given out again.
    pub fn reduce_to(&mut self, survivor: MemberId) {
        self.seats.retain(|id, _| *id == survivor);
        if let Some(seat) = self.seats.get_mut(&survivor) {
            (seat.voter, seat.replaces) = (true, None);
        }
    }

    /// As the state keeps it.
    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.next_id.to_le_bytes());
        for (id, seat) in &self.seats {
            out.extend_from_slice(&id.0.to_le_bytes());
            out.push(u8::from(seat.voter));
            put_seat(&mut out, &seat.address, seat.replaces);
        }
        out.into()
    }

    /// Reads what [`Membership::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Membership, Error> {
        let mut take = Take(bytes);
        take.version()?;
        let next_id = take.u64()?;
        let mut seats = BTreeMap::new();
        while !take.0.is_empty() {
            let (id, voter) = (MemberId(take.u64()?), take.u8()? != 0);
            let (address, replaces) = take.seat()?;
            seats.insert(id, Seat { address, voter, replaces });
        }
        let sound = seats.keys().all(|id| id.0 > 0 && id.0 < next_id) && seats.values().any(|seat| seat.voter);
        if sound { Ok(Membership { seats, next_id }) } else { Err(bad("its ids or voters cannot be")) }
    }

    /// Panics where an invariant of the type does not hold.
    pub fn check_invariants(&self) {
        assert!(self.seats.keys().all(|id| id.0 > 0 && id.0 < self.next_id), "ids: {self:?}");
        assert!(self.voters().next().is_some(), "voters: {self:?}");
    }
}

impl Change {
    /// The payload of an entry of kind 1.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Change::AddLearner { address, replaces } => {
                let mut out = vec![VERSION, ADD_LEARNER];
                put_seat(&mut out, address, *replaces);
                out
            }
            Change::Promote(id) => [&[VERSION, PROMOTE][..], &id.0.to_le_bytes()].concat(),
            Change::Remove(id) => [&[VERSION, REMOVE][..], &id.0.to_le_bytes()].concat(),
            Change::Reduce(id) => [&[VERSION, REDUCE][..], &id.0.to_le_bytes()].concat(),
        }
    }

    /// What the payload of an entry of this kind says.
    pub fn decode(bytes: &[u8]) -> Result<Change, Error> {
        let mut take = Take(bytes);
        take.version()?;
        let change = match take.u8()? {
            ADD_LEARNER => {
                let (address, replaces) = take.seat()?;
                Change::AddLearner { address, replaces }
            }
            PROMOTE => Change::Promote(MemberId(take.u64()?)),
            REMOVE => Change::Remove(MemberId(take.u64()?)),
            REDUCE => Change::Reduce(MemberId(take.u64()?)),
            other => return Err(bad(&format!("step {other} is unknown; start a newer program"))),
        };
        if take.0.is_empty() { Ok(change) } else { Err(bad("bytes stand behind its end")) }
    }
}

fn put_seat(out: &mut Vec<u8>, address: &str, replaces: Option<MemberId>) {
    out.extend_from_slice(&replaces.map_or(0, |id| id.0).to_le_bytes());
    let len = u16::try_from(address.len()).expect("addresses are bounded");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(address.as_bytes());
}

fn bad(why: &str) -> Error {
    Error::BadMembership { why: why.to_owned() }
}

struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    fn slice(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(|| bad("it is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }
    fn u8(&mut self) -> Result<u8, Error> {
        Ok(self.slice(1)?[0])
    }
    fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.slice(8)?.try_into().expect("eight bytes")))
    }
    fn version(&mut self) -> Result<(), Error> {
        match self.u8()? {
            VERSION => Ok(()),
            other => Err(bad(&format!("it has version {other}, this program knows {VERSION}; start a newer program"))),
        }
    }
    fn seat(&mut self) -> Result<(String, Option<MemberId>), Error> {
        let replaces = Some(MemberId(self.u64()?)).filter(|id| id.0 != 0);
        let len = u16::from_le_bytes(self.slice(2)?.try_into().expect("two bytes"));
        let address = self.slice(usize::from(len))?.to_vec();
        Ok((String::from_utf8(address).map_err(|_| bad("an address is not UTF-8"))?, replaces))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Membership {
        Membership::founding((1..=3).map(|id| (MemberId(id), format!("m{id}:9202"))))
    }

    fn add(address: &str, replaces: Option<u64>) -> Change {
        Change::AddLearner { address: address.to_owned(), replaces: replaces.map(MemberId) }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn an_id_is_given_out_once() {
        let mut members = three();
        assert_eq!(members.apply(&add("m4:9202", None)), [Step::Learner(MemberId(4))]);
        assert_eq!(members.apply(&Change::Remove(MemberId(4))), [Step::Gone(MemberId(4))]);
        assert!(members.was_removed(MemberId(4)) && !members.was_removed(MemberId(5)));
        assert_eq!(members.apply(&add("m4:9202", None)), [Step::Learner(MemberId(5))]);
        members.check_invariants();
        let gone = [1, 3, 5].map(|id| Step::Gone(MemberId(id)));
        assert_eq!(members.apply(&Change::Reduce(MemberId(2))), gone);
        assert_eq!((members.next_id(), members.voters().collect::<Vec<_>>()), (MemberId(6), vec![MemberId(2)]));
    }

    #[test]
    fn a_replacement_shares_the_address_until_the_old_one_is_gone() {
        let mut members = three();
        assert!(members.objection(&add("m2:9202", None)).expect("taken").contains("is member-2 already"));
        let new = members.next_id();
        assert_eq!(members.apply(&add("m2:9202", Some(2))), [Step::Learner(new)]);
        assert_eq!(members.at("m2:9202").count(), 2);
        assert_eq!(members.apply(&Change::Remove(MemberId(2))), [Step::Gone(MemberId(2))]);
        assert_eq!(members.apply(&Change::Promote(new)), [Step::Voter(new)]);
        assert_eq!(members.voters().collect::<Vec<_>>(), [1, 3, 4].map(MemberId));
        assert_eq!(members.seat(new).expect("there").replaces, None);
    }

    #[test]
    fn what_makes_no_sense_is_objected_to_and_changes_nothing() {
        let mut members = three();
        for change in [
            add("", None),
            add("x:1", Some(9)),
            Change::Promote(MemberId(1)),
            Change::Promote(MemberId(7)),
            Change::Remove(MemberId(7)),
        ] {
            assert!(members.objection(&change).is_some(), "{change:?}");
            assert_eq!(members.apply(&change), []);
        }
        assert_eq!(members, three());
        let mut one = Membership::founding([(MemberId(1), "a:1".to_owned())]);
        assert!(one.apply(&Change::Remove(MemberId(1))).is_empty());
        for n in 1..=7 {
            assert!(!one.apply(&add(&format!("b:{n}"), None)).is_empty());
        }
        assert!(one.objection(&add("c:1", None)).expect("full").contains("as many as it can"));
    }

    #[test]
    fn golden_bytes() {
        let mut members = Membership::founding([(MemberId(1), "a:1".to_owned())]);
        members.apply(&add("a:1", Some(1)));
        let expected = concat!(
            "01",
            "0300000000000000",
            "0100000000000000",
            "01",
            "0000000000000000",
            "0300613a31",
            "0200000000000000",
            "00",
            "0100000000000000",
            "0300613a31",
        );
        assert_eq!(hex(&members.encode()), expected);
        assert_eq!(Membership::decode(&members.encode()).expect("our own bytes"), members);
        assert_eq!(hex(&add("a:1", None).encode()), "010100000000000000000300613a31");
        assert_eq!(hex(&Change::Promote(MemberId(2)).encode()), "01020200000000000000");
        assert_eq!(hex(&Change::Remove(MemberId(2)).encode()), "01030200000000000000");
        assert_eq!(hex(&Change::Reduce(MemberId(2)).encode()), "01040200000000000000");
    }

    #[test]
    fn every_cut_is_noticed() {
        let two = MemberId(2);
        for change in [add("a:1", Some(2)), Change::Promote(two), Change::Remove(two), Change::Reduce(two)] {
            let bytes = change.encode();
            assert_eq!(Change::decode(&bytes).expect("our own bytes"), change);
            (0..bytes.len()).for_each(|cut| assert!(Change::decode(&bytes[..cut]).is_err(), "{change:?} at {cut}"));
        }
        assert!(Change::decode(&[1, 9]).expect_err("unknown").to_string().contains("newer program"));
        assert!(Membership::decode(&[2]).is_err() && Membership::decode(&[]).is_err());
    }
}
