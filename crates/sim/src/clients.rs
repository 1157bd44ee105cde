//! The clients of a cluster: what they call, how they try again, and what they remember of it.

use crate::Plan;
use crate::calls::{Answer, Call, Room};
use crate::dice::Dice;
use crate::history::{History, Record};
use crate::model::State;
use crate::under::Under;
use std::collections::BTreeSet;
use types::{Entropy, OperationId};

/// Names in a room: few, so that clients meet.
const NAMES: [&str; 3] = ["a", "b", "c"];
/// Objects a room of the store begins with.
const OBJECTS: [(&str, &[u8]); 5] = [("a", b"1"), ("b", b"22"), ("d/a", b"333"), ("d/b", b"4444"), ("e/c", b"55555")];
/// Names in a room of the store.
const STORED: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Pause of a client between two calls, at most.
const REST_US: u64 = 250_000;

struct Open {
    call: Call,
    operation: OperationId,
    /// Where it stands in the history; none for the making of the room.
    record: Option<usize>,
    was_tried: bool,
    /// The master that was asked last, while the try lasts.
    asking: Option<usize>,
}

pub struct Client {
    pub room: usize,
    /// Tries so far, over all calls. What belongs to an earlier one is void.
    pub attempt: u64,
    master: usize,
    dice: Dice,
    /// For owners alone.
    owners: Dice,
    open: Option<Open>,
    room_name: Room,
    /// A file it has made and not completed.
    unfinished: Option<(String, i64)>,
    /// It only looks, and asks whichever master first.
    pub watches: bool,
    /// It is one of ours, which finds its master and tries again by itself.
    pub is_own: bool,
}

impl Client {
    pub fn is_busy(&self) -> bool {
        self.open.is_some()
    }

    pub fn is_asking(&self, master: usize) -> bool {
        self.open.as_ref().is_some_and(|open| open.asking == Some(master))
    }

    /// The call that one of ours has to make.
    pub fn own_call(&self) -> Option<Call> {
        self.open.as_ref().filter(|_| self.is_own).map(|open| open.call.clone())
    }

    /// What this try asks for; None if it was given up.
    pub fn asks(&self, attempt: u64) -> Option<(Room, Call, OperationId)> {
        let open = self.open.as_ref().filter(|open| self.attempt == attempt && open.asking.is_some())?;
        Some((self.room_name.clone(), open.call.clone(), open.operation))
    }

    /// The next try: its number, and the master it goes to.
    pub fn try_again(&mut self, masters: usize) -> (u64, usize) {
        self.attempt += 1;
        let is_first = self.open.as_ref().is_some_and(|open| !open.was_tried);
        // Now and then a client begins with another master, as one that has just started does.
        let anew = self.dice.once_in(6) || (self.watches && is_first);
        self.master = if anew { self.dice.index(masters) } else { self.master % masters };
        if let Some(open) = &mut self.open {
            open.was_tried = true;
            open.asking = Some(self.master);
        }
        (self.attempt, self.master)
    }

    /// The try is over without an outcome. Returns the number under which the pause before the next one goes.
    pub fn give_up_try(&mut self) -> u64 {
        self.attempt += 1;
        self.master += 1;
        if let Some(open) = &mut self.open {
            open.asking = None;
        }
        self.attempt
    }

    /// Nobody needs to know any more: the call stays without an outcome.
    pub fn give_up(&mut self) {
        self.attempt += 1;
        self.open = None;
    }

    /// Whether it only waits before its next try.
    pub fn is_resting(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.asking.is_none())
    }
}

struct RoomOf {
    name: Room,
    is_ready: bool,
    history: History,
    /// All is over but the last reading: paths still to list, and what was shown.
    is_reading: bool,
    to_read: Vec<String>,
    shown: BTreeSet<String>,
}

/// All clients and their rooms.
pub struct Crowd {
    pub clients: Vec<Client>,
    rooms: Vec<RoomOf>,
}

impl Crowd {
    pub fn new(plan: &Plan, under: &Under) -> Crowd {
        let room = |at: usize| {
            let is_stored = at % 2 == 1;
            let name = if is_stored { format!("s{at}") } else { format!("r{at}") };
            let mut begins = State::default();
            if is_stored {
                OBJECTS.iter().for_each(|(key, content)| under.put(&format!("{name}/{key}"), *content));
                let length = |content: &[u8]| i64::try_from(content.len()).expect("short");
                let files: Vec<(String, i64)> =
                    OBJECTS.iter().map(|(key, content)| ((*key).to_owned(), length(content))).collect();
                begins = State::with(&files);
            }
            RoomOf {
                name: Room { name, is_stored },
                is_ready: is_stored,
                history: History { begins, records: Vec::new() },
                is_reading: false,
                to_read: vec![String::new()],
                shown: BTreeSet::new(),
            }
        };
        let rooms: Vec<RoomOf> = (0..plan.rooms).map(room).collect();
        let workers = plan.rooms * plan.clients_per_room;
        let client = |at: usize| {
            let room = at % plan.rooms;
            Client {
                room,
                attempt: 0,
                master: at,
                dice: Dice::new(plan.seed, &format!("client {at}")),
                owners: Dice::new(plan.seed, &format!("owners of {at}")),
                open: None,
                room_name: rooms[room].name.clone(),
                unfinished: None,
                watches: at >= workers,
                is_own: plan.own_clients && plan.clients_per_room > 1 && at < workers && at + plan.rooms >= workers,
            }
        };
        let clients = (0..workers + plan.rooms).map(client).collect();
        Crowd { clients, rooms }
    }

    /// The room of a client.
    pub fn room(&self, client: usize) -> &Room {
        &self.rooms[self.clients[client].room].name
    }

    pub fn rooms_are_ready(&self) -> bool {
        self.rooms.iter().all(|room| room.is_ready)
    }

    /// Calls with an outcome.
    pub fn calls(&self) -> usize {
        let records = self.rooms.iter().flat_map(|room| &room.history.records);
        records.filter(|record| record.returned.is_some()).count()
    }

    /// Begins the client's next call. False if there is none for it.
    pub fn begin(&mut self, at: usize, now_us: u64, reading: bool) -> bool {
        let is_first = at < self.rooms.len();
        let client = &mut self.clients[at];
        let room = &mut self.rooms[client.room];
        // Whoever else gave up would take a path with it that is still to be read.
        if client.open.is_some() || (reading && !is_first) {
            return false;
        }
        let operation = OperationId(client.dice.next_u128());
        if !room.is_ready {
            if is_first {
                let call = Call::MakeDirectory { path: String::new() };
                client.open = Some(Open { call, operation, record: None, was_tried: false, asking: None });
            }
            return is_first;
        }
        let call = match reading {
            true => match room.to_read.pop() {
                Some(path) => Call::List { path },
                None => return false,
            },
            false => client.draw(room.name.is_stored),
        };
        let record = Record { client: at, call: call.clone(), invoked_us: now_us, returned: None };
        room.history.records.push(record);
        let record = Some(room.history.records.len() - 1);
        client.open = Some(Open { call, operation, record, was_tried: false, asking: None });
        true
    }

    /// The client heard an outcome. Returns how long it rests now.
    pub fn end(&mut self, at: usize, now_us: u64, answer: Answer) -> u64 {
        let client = &mut self.clients[at];
        let room = &mut self.rooms[client.room];
        let open = client.open.take().expect("an outcome belongs to a call");
        if let (Call::Create { path }, Answer::Made(id), false) = (&open.call, &answer, client.is_own) {
            client.unfinished = Some((path.clone(), *id));
        }
        if let (Call::List { path }, Answer::Entries(entries), true) = (&open.call, &answer, room.is_reading) {
            let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            room.to_read.extend(entries.iter().filter(|entry| entry.directory).map(|entry| below(&entry.name)));
            room.shown.extend(entries.iter().map(|entry| below(&entry.name)));
        }
        match open.record {
            None => room.is_ready = true,
            Some(record) => room.history.records[record].returned = Some((now_us, answer)),
        }
        client.dice.below(if client.watches { REST_US / 2 } else { REST_US })
    }

    /// One client of each room, to read all that is left.
    pub fn readers(&mut self) -> Vec<usize> {
        self.rooms.iter_mut().for_each(|room| room.is_reading = true);
        (0..self.rooms.len()).collect()
    }

    pub fn has_read_all(&self) -> bool {
        self.rooms.iter().all(|room| room.to_read.is_empty()) && self.clients.iter().all(|client| !client.is_busy())
    }

    /// Who has a call open.
    pub fn busy(&self) -> Vec<String> {
        let busy = self.clients.iter().enumerate().filter_map(|(at, client)| {
            let open = client.open.as_ref()?;
            Some(format!("client {at} waits for {:?}", open.call))
        });
        busy.collect()
    }

    /// Forgets what was read so far: where clocks run wild, a leader that leads no more may have answered.
    pub fn forget_reads(&mut self) {
        assert!(self.clients.iter().all(|client| !client.is_busy()), "nothing is under way at rest");
        for room in &mut self.rooms {
            room.history.records.retain(|record| record.call.is_mutation());
        }
    }

    pub fn histories(&self) -> impl Iterator<Item = (&Room, &History)> {
        self.rooms.iter().map(|room| (&room.name, &room.history))
    }

    /// Whether a call asked for an object to go, and was not over when this version of it came.
    pub fn asked_for(&self, key: &str, gone_us: u64, made_us: u64) -> bool {
        let covers = |path: &str, below: &str| below == path || below.starts_with(&format!("{path}/"));
        self.rooms.iter().any(|room| {
            let Some(below) = key.strip_prefix(&format!("{}/", room.name.name)) else { return false };
            room.history.records.iter().any(|record| {
                let names = match &record.call {
                    Call::Remove { path } => covers(path, below),
                    Call::Rename { from, to } => covers(from, below) || covers(to, below),
                    Call::Create { .. }
                    | Call::Complete { .. }
                    | Call::MakeDirectory { .. }
                    | Call::SetOwner { .. }
                    | Call::Status { .. }
                    | Call::List { .. } => false,
                };
                let is_over = record.returned.as_ref().is_some_and(|(at_us, _)| *at_us < made_us);
                names && record.invoked_us <= gone_us && !is_over
            })
        })
    }

    /// Whether the last listing of its room showed what stands at this key.
    pub fn was_shown(&self, key: &str) -> bool {
        self.rooms.iter().any(|room| {
            key.strip_prefix(&format!("{}/", room.name.name)).is_some_and(|below| room.shown.contains(below))
        })
    }
}

impl Client {
    /// A call for this room.
    fn draw(&mut self, is_stored: bool) -> Call {
        if let Some((path, file)) = self.unfinished.take()
            && !self.dice.once_in(4)
        {
            let length = i64::try_from(self.dice.below(1 << 40)).expect("small");
            return Call::Complete { path, file, length };
        }
        let path = self.path(is_stored);
        let kind = if self.watches { self.dice.between(13, 20) } else { self.dice.below(20) };
        match kind {
            0..=4 => Call::Create { path },
            5 | 6 => Call::MakeDirectory { path },
            7..=9 => Call::Remove { path },
            10..=12 => {
                let to = self.path(is_stored);
                if to == path { Call::Status { path } } else { Call::Rename { from: path, to } }
            }
            // What only the store knows is not given to anybody along with what is above it.
            13..=17 if !self.watches && self.owners.once_in(3) => Call::SetOwner {
                path,
                owner: 1 + self.owners.below(u64::from(u32::MAX)),
                recursive: !is_stored && self.owners.once_in(2),
            },
            13..=17 => Call::Status { path },
            // Ours list in more than one message, which their way here does not carry.
            _ if self.is_own => Call::Status { path },
            _ if self.dice.once_in(2) => Call::List { path: String::new() },
            _ => Call::List { path },
        }
    }

    fn path(&self, is_stored: bool) -> String {
        let names: &[&str] = if is_stored { &STORED } else { &NAMES };
        let first = self.dice.pick(names);
        if self.dice.per_mille(450) { format!("{first}/{}", self.dice.pick(&NAMES)) } else { (*first).to_owned() }
    }
}
