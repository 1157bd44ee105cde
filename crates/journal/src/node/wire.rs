//! Messages between members, as bytes of our own.
//!
//! Is:     one fixed layout, little endian, version first; pinned by golden bytes (`docs/formats/journal.md`).
//! Owns:   nothing.
//! Never:  passes on a message that only a local caller may create, or entries with holes.

use crate::Error;
use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};

const VERSION: u8 = 1;
const REJECT: u8 = 1;
const FIXED_BYTES: usize = 4 + 10 * 8;
const ENTRY_HEADER_BYTES: usize = 12;
/// In the length of an entry's payload: it is a change of the membership.
const CHANGE: u32 = 1 << 31;

/// Types that travel, and their numbers. Numbers are only ever added.
const TYPES: [(u8, MessageType); 10] = [
    (1, MessageType::MsgAppend),
    (2, MessageType::MsgAppendResponse),
    (3, MessageType::MsgHeartbeat),
    (4, MessageType::MsgHeartbeatResponse),
    (5, MessageType::MsgRequestVote),
    (6, MessageType::MsgRequestVoteResponse),
    (7, MessageType::MsgRequestPreVote),
    (8, MessageType::MsgRequestPreVoteResponse),
    (9, MessageType::MsgTimeoutNow),
    (10, MessageType::MsgSnapshot),
];

/// Encodes a message. A snapshot is its mark alone: index and term. Panics on a type that never leaves a member: raft-rs
/// produces none while proposals and reads are not forwarded.
pub(super) fn encode(message: &Message) -> Bytes {
    let kind = message.get_msg_type();
    let (number, _) =
        TYPES.into_iter().find(|&(_, known)| known == kind).unwrap_or_else(|| panic!("{kind:?} is local"));
    let entry_bytes: usize = message.entries.iter().map(|entry| ENTRY_HEADER_BYTES + entry.data.len()).sum();
    let mut out = Vec::with_capacity(FIXED_BYTES + 8 + message.context.len() + entry_bytes);
    out.extend_from_slice(&[VERSION, number, if message.reject { REJECT } else { 0 }, 0]);
    let mark = message.get_snapshot().get_metadata();
    let offers = kind == MessageType::MsgSnapshot;
    let (log_term, index) = if offers { (mark.term, mark.index) } else { (message.log_term, message.index) };
    let fields = [
        message.to,
        message.from,
        message.term,
        log_term,
        index,
        message.commit,
        message.commit_term,
        message.reject_hint,
        message.request_snapshot,
        message.priority.cast_unsigned(),
    ];
    fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
    put_bytes(&mut out, &message.context);
    put_len(&mut out, message.entries.len());
    for (entry, before) in message.entries.iter().zip(message.index..) {
        assert_eq!(entry.index, before + 1, "the receiver counts indexes on from the previous one");
        out.extend_from_slice(&entry.term.to_le_bytes());
        match entry.get_entry_type() {
            EntryType::EntryNormal => put_bytes(&mut out, &entry.data),
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                let len = u32::try_from(entry.context.len()).expect("changes are small");
                out.extend_from_slice(&(len | CHANGE).to_le_bytes());
                out.extend_from_slice(&entry.context);
            }
        }
    }
    Bytes::from(out)
}

/// Whether encoded bytes carry part of the log: such a message may be large, and others had better not wait behind it.
pub(super) fn carries_log(bytes: &[u8]) -> bool {
    bytes.get(1) == Some(&TYPES[0].0)
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    let len = u32::try_from(len).expect("messages are bounded far below 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Reads what [`encode`] wrote. Errors: `BadMessage`, whatever the bytes.
pub(super) fn decode(bytes: &[u8]) -> Result<Message, Error> {
    let mut take = Take(bytes);
    let [version, number, flags, _] = take.array::<4>()?;
    if version != VERSION {
        return Err(bad(format!("it has version {version}, this program knows {VERSION}")));
    }
    let kind = TYPES.into_iter().find(|&(known, _)| known == number);
    let (_, kind) = kind.ok_or_else(|| bad(format!("type {number} is unknown")))?;
    let mut message = Message::default();
    message.set_msg_type(kind);
    message.reject = flags & REJECT != 0;
    message.to = take.u64()?;
    message.from = take.u64()?;
    message.term = take.u64()?;
    message.log_term = take.u64()?;
    message.index = take.u64()?;
    message.commit = take.u64()?;
    message.commit_term = take.u64()?;
    message.reject_hint = take.u64()?;
    message.request_snapshot = take.u64()?;
    message.priority = take.u64()?.cast_signed();
    message.context = take.counted()?.to_vec();
    let entry_count = u64::from(u32::from_le_bytes(take.array()?));
    let last = message.index.checked_add(entry_count).ok_or_else(|| bad("its indexes overflow".to_owned()))?;
    if entry_count > 0 && kind != MessageType::MsgAppend {
        return Err(bad(format!("{kind:?} carries no entries")));
    }
    for index in message.index..last {
        let (term, len) = (take.u64()?, u32::from_le_bytes(take.array()?));
        let payload = take.slice(usize::try_from(len & !CHANGE).expect("u32 fits usize"))?.to_vec();
        let index = index + 1;
        message.entries.push(match len & CHANGE {
            0 => Entry { index, term, data: payload, ..Entry::default() },
            _ => super::tail::change_entry(index, term, payload),
        });
    }
    if kind == MessageType::MsgSnapshot {
        let (index, term) = (std::mem::take(&mut message.index), std::mem::take(&mut message.log_term));
        let mark = message.mut_snapshot().mut_metadata();
        (mark.index, mark.term) = (index, term);
    }
    if message.term == 0 || !take.0.is_empty() {
        return Err(bad("it has no term, or bytes behind its end".to_owned()));
    }
    Ok(message)
}

fn bad(why: String) -> Error {
    Error::BadMessage { why }
}

struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    fn slice(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(|| bad("it is cut short".to_owned()))?;
        self.0 = rest;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        Ok(self.slice(N)?.try_into().expect("a slice of this length"))
    }
    fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    fn counted(&mut self) -> Result<&'a [u8], Error> {
        let len = u32::from_le_bytes(self.array()?);
        self.slice(usize::try_from(len).expect("u32 fits usize"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append() -> Message {
        let mut message = Message { to: 2, from: 1, term: 7, log_term: 6, index: 40, commit: 39, ..Message::default() };
        message.set_msg_type(MessageType::MsgAppend);
        for (index, data) in [(41, &b""[..]), (42, b"mv")] {
            message.entries.push(Entry { index, term: 7, data: data.to_vec(), ..Entry::default() });
        }
        message
    }

    /// A change here is a change of the protocol: members of two versions talk to each other during an upgrade.
    #[test]
    fn golden_bytes_of_a_message() {
        let hex: String = encode(&append()).iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = concat!(
            "01010000",
            "0200000000000000",
            "0100000000000000",
            "0700000000000000",
            "0600000000000000",
            "2800000000000000",
            "2700000000000000",
            "0000000000000000",
            "0000000000000000",
            "0000000000000000",
            "0000000000000000",
            "00000000",
            "02000000",
            "0700000000000000",
            "00000000",
            "0700000000000000",
            "02000000",
            "6d76",
        );
        assert_eq!(hex, expected);
        assert_eq!(decode(&encode(&append())).expect("our own bytes"), append());
    }

    #[test]
    fn every_type_survives_the_way_and_every_cut_is_noticed() {
        for (_, kind) in TYPES {
            let mut message = append();
            message.set_msg_type(kind);
            message.context = b"context".to_vec();
            (message.reject, message.priority, message.reject_hint) = (true, -3, 9);
            if kind != MessageType::MsgAppend {
                message.entries.clear();
            }
            if kind == MessageType::MsgSnapshot {
                (message.index, message.log_term) = (0, 0);
                let mark = message.mut_snapshot().mut_metadata();
                (mark.index, mark.term) = (40, 6);
            }
            let bytes = encode(&message);
            assert_eq!(carries_log(&bytes), kind == MessageType::MsgAppend);
            assert_eq!(decode(&bytes).expect("our own bytes"), message);
            (0..bytes.len()).for_each(|cut| assert!(decode(&bytes[..cut]).is_err(), "{kind:?} cut at {cut}"));
        }
    }

    #[test]
    fn a_change_of_the_members_travels_as_such() {
        let mut message = append();
        message.entries[1] = super::super::tail::change_entry(42, 7, b"mv".to_vec());
        let bytes = encode(&message);
        assert_eq!(bytes[bytes.len() - 6..], [2, 0, 0, 0x80, b'm', b'v'], "the top bit of the length");
        assert_eq!(decode(&bytes).expect("our own bytes"), message);
    }

    #[test]
    fn messages_only_a_member_itself_may_create_do_not_come_in() {
        let mut bytes = encode(&append()).to_vec();
        bytes[1] = 200;
        assert!(matches!(decode(&bytes), Err(Error::BadMessage { .. })));
        bytes[1] = 3;
        assert!(decode(&bytes).is_err(), "a heartbeat with entries");
        bytes[0] = 2;
        assert!(decode(&bytes).expect_err("newer").to_string().contains("version 2"));
    }

    #[test]
    fn a_number_beyond_all_indexes_survives_the_way_to_be_refused_by_the_member() {
        let mut message = Message { index: u64::MAX, entries: Vec::new(), ..append() };
        message.set_msg_type(MessageType::MsgRequestVote);
        assert_eq!(decode(&encode(&message)).expect("well formed"), message);
    }

    #[test]
    fn fuzz_message_of_a_member() {
        let mut samples = vec![encode(&append()).to_vec()];
        for (_, kind) in TYPES.into_iter().skip(1) {
            let mut message = Message { context: b"context".to_vec(), entries: Vec::new(), ..append() };
            message.set_msg_type(kind);
            samples.push(encode(&message).to_vec());
        }
        testkit::fuzz::fuzz("message_of_a_member", &samples, |bytes| {
            let Ok(message) = decode(bytes) else { return };
            assert_eq!(decode(&encode(&message)).expect("it leads back"), message);
            carries_log(bytes);
        });
    }
}
