//! Snapshots on their way between masters.

use super::*;
use master::rig::Snapshot;
use proto::internal::{CheckpointFile, CheckpointResponse, FetchPiece};
use store::HeapDisk;
use types::Entropy;

/// Bytes of one piece: small, so that there are several.
const PIECE_BYTES: usize = 4 << 10;
/// A sender that says nothing for so long is given up.
const SILENT_US: u64 = 2_000_000;
/// Checkpoints kept for others.
const MAX_HELD: usize = 2;
/// How long a process takes to put itself in its own place, at least and at most.
const REOPENS_US: (u64, u64) = (5_000, 50_000);

impl World {
    /// Begins to fetch what a leader offered, unless something is being fetched.
    pub(super) fn fetch(&mut self, master: usize, offer: SnapshotOffer) {
        let machine = &mut self.machines[master];
        let Some(process) = &mut machine.process else { return };
        if process.fetching.is_none() {
            process.fetching = Some(Fetching::begin(offer.from, &machine.home));
            self.note(format_args!("master {} fetches the snapshot {:?}", master + 1, offer.mark.index));
        }
    }

    /// Goes on fetching as far as that comes. True if something came of it.
    pub(super) fn go_on_fetching(&mut self, master: usize) -> Result<bool, Failure> {
        let Some(process) = &mut self.machines[master].process else { return Ok(false) };
        let applied = process.rig.applied();
        let Some(fetching) = &mut process.fetching else { return Ok(false) };
        let from = fetching.from;
        match fetching.step() {
            fetching::Step::Waits => return Ok(false),
            fetching::Step::Asks { number, ask } => self.ask(master, from, number, ask),
            fetching::Step::Over(outcome) => {
                process.fetching = None;
                match outcome {
                    Ok(snapshot) if snapshot.index > applied => self.install(master, &snapshot),
                    Ok(_) => self.note(format_args!("master {} does not need the snapshot any more", master + 1)),
                    Err(why) => self.note(format_args!("master {} gives the snapshot up: {why}", master + 1)),
                }
            }
        }
        Ok(true)
    }

    /// A snapshot is here: the process ends, and the next one installs it.
    fn install(&mut self, master: usize, snapshot: &Snapshot) {
        let files = snapshot.files.len();
        self.note(format_args!("master {} has the snapshot {} in {files} files", master + 1, snapshot.index));
        self.statistics.snapshots += 1;
        if let Err(why) = self.machines[master].begin_install(snapshot) {
            return self.stop(master, &why);
        }
        self.machines[master].kill();
        self.forget_process(master);
        let in_us = self.dice.between(REOPENS_US.0, REOPENS_US.1);
        self.after(in_us, Happening::Start { master });
    }

    fn ask(&mut self, master: usize, from: MemberId, number: u64, ask: Ask) {
        let (in_us, answer) = match (&ask, self.machine_of(from)) {
            (Ask::Rest(time), _) => (u64::try_from(time.as_micros()).expect("short"), Ok(Got::Rested)),
            (Ask::Checkpoint { .. } | Ask::Piece { .. }, Some(sender)) if !self.loses_between(master, sender) => {
                let in_us = self.way_us(master, sender);
                let life = self.machines[master].life;
                let what = Inside::Asked { by: master, life, to: from, number, ask };
                self.after(in_us, Happening::At { master: sender, life: None, what });
                (SILENT_US, Err("nothing came".to_owned()))
            }
            (Ask::Checkpoint { .. } | Ask::Piece { .. }, _) => {
                (self.dice.between(20_000, 300_000), Err("the connection broke".to_owned()))
            }
        };
        self.at(master, in_us, Inside::Fetched { number, answer });
    }

    /// Answers who fetches a snapshot here.
    pub(super) fn asked(&mut self, sender: usize, by: usize, life: u64, number: u64, ask: &Ask) {
        let mut answer = self.answer_of(sender, ask);
        let mut in_us = self.way_us(sender, by);
        if matches!(ask, Ask::Checkpoint { .. }) {
            in_us += self.dice.between(1_000, 30_000) + 1000 * self.machines[sender].fsync_ms;
        }
        if self.loses_between(sender, by) {
            answer = Err("the connection broke".to_owned());
        }
        // What rain does to bytes that no checksum of the way protects.
        if let Ok(Got::Piece(piece)) = &mut answer
            && self.network.rain.2 > 0
            && self.dice.once_in(5)
        {
            let at = self.dice.index(piece.data.len());
            let mut data = piece.data.to_vec();
            data[at] ^= 0x10;
            piece.data = data.into();
        }
        self.after(in_us, Happening::At { master: by, life: Some(life), what: Inside::Fetched { number, answer } });
    }

    fn answer_of(&mut self, sender: usize, ask: &Ask) -> fetching::Answer {
        let machine = &mut self.machines[sender];
        let Some(process) = &mut machine.process else { return Err("nobody listens".to_owned()) };
        match ask {
            Ask::Rest(_) => unreachable!("nobody else is asked for that"),
            Ask::Checkpoint { have } => {
                if let Some(held) = process.sent.iter().find(|held| held.id == *have) {
                    return Ok(Got::Checkpoint(held.clone()));
                }
                let id = format!("{:016x}", self.dice.next_u64());
                let place = machine.home.sent(&id);
                let (index, term) = process.rig.checkpoint(&place).map_err(|err| err.to_string())?;
                let dir = machine.home.metastore.at(&place).expect("it was just made");
                let mut names = dir.list().map_err(|err| err.to_string())?;
                names.sort();
                let length = |name: &String| dir.read(name).map_or(0, |bytes| bytes.len());
                let length = |name: &String| u64::try_from(length(name)).expect("short");
                let files = names.iter().map(|name| CheckpointFile { name: name.clone(), length: length(name) });
                let (files, store) = (files.collect(), fetching::STORE.to_owned());
                let made = CheckpointResponse { id, index: index.0, term: term.0, store, files };
                process.sent.push(made.clone());
                if process.sent.len() > MAX_HELD {
                    process.sent.remove(0);
                }
                Ok(Got::Checkpoint(made))
            }
            Ask::Piece { id, name, offset } => {
                let kept = process.sent.iter().any(|held| held.id == *id);
                let dir = machine.home.metastore.at(&machine.home.sent(id)).filter(|_| kept);
                let dir = dir.ok_or_else(|| format!("checkpoint {id} is not kept any more"))?;
                let bytes = dir.read(name).map_err(|err| err.to_string())?;
                let offset = usize::try_from(*offset).expect("short").min(bytes.len());
                let data = bytes[offset..].iter().take(PIECE_BYTES).copied().collect::<Vec<u8>>();
                if data.is_empty() {
                    return Err(format!("{name} ended at byte {offset}"));
                }
                Ok(Got::Piece(FetchPiece { crc32c: crc32c::crc32c(&data), data: data.into() }))
            }
        }
    }
}
