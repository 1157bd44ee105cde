//! What goes between masters, and between them and their clients.

use super::*;

impl World {
    pub(super) fn send(&mut self, from: usize, message: Outgoing, everywhere: LogIndex) {
        let print = hash(&message.bytes);
        self.note(format_args!("master {} to {}: {print:x}", from + 1, message.to));
        let (id, member) = (self.machines[from].id, message.to);
        // Whoever replaces it has another id.
        let Some(to) = self.machine_of(member) else {
            return self.at(from, 1_000, Inside::Unreachable { to: member });
        };
        if self.loses_between(from, to) {
            return self.at(from, 1_000, Inside::Unreachable { to: member });
        }
        let (_, twice, late) = self.network.rain;
        let copies = if self.dice.per_mille(twice) { 2 } else { 1 };
        for _ in 0..copies {
            let rainy_us = if self.dice.per_mille(late) { self.dice.below(600_000) } else { 0 };
            let in_us = self.dice.between(80, 900) + rainy_us + 1000 * self.network.slow_ms[from][to];
            let message = message.bytes.clone();
            let what = Inside::Deliver { from: id, to: member, message, everywhere };
            self.after(in_us, Happening::At { master: to, life: None, what });
        }
    }

    /// Whether what goes from one master to another is lost.
    pub(super) fn loses_between(&mut self, from: usize, to: usize) -> bool {
        let is_cut = self.network.cut[from][to] + self.network.isolated[from] + self.network.isolated[to] > 0;
        is_cut || self.dice.per_mille(self.network.rain.0)
    }

    /// How long it takes otherwise.
    pub(super) fn way_us(&self, from: usize, to: usize) -> u64 {
        self.dice.between(80, 900) + 1000 * self.network.slow_ms[from][to]
    }

    /// Whether what goes between a client and a master is lost.
    pub(super) fn loses(&mut self, master: usize) -> bool {
        self.network.isolated[master] > 0 || self.dice.per_mille(self.network.rain.0)
    }

    pub(super) fn next_call(&mut self, client: usize) -> Result<(), Failure> {
        let is_open = matches!(self.phase, Phase::Begin | Phase::Faults | Phase::Reading);
        let now_us = self.line.now_us();
        if is_open && self.crowd.begin(client, now_us, self.phase == Phase::Reading) {
            match self.crowd.clients[client].own_call() {
                Some(call) => return self.own_call(client, call),
                None => self.try_call(client),
            }
        } else if self.phase == Phase::Begin || self.phase == Phase::Faults {
            // Its room is not there yet.
            self.after(20_000, Happening::Next { client });
        }
        Ok(())
    }

    pub(super) fn try_call(&mut self, client: usize) {
        let masters = self.machines.len();
        let (attempt, master) = self.crowd.clients[client].try_again(masters);
        if self.loses(master) {
            let in_us = self.dice.between(50_000, 800_000);
            return self.after(in_us, Happening::Broken { client, attempt, why: "no way to the master" });
        }
        let in_us = self.dice.between(80, 900);
        self.after(in_us, Happening::At { master, life: None, what: Inside::Request { client, attempt } });
        let patience_us = if self.crowd.clients[client].watches {
            self.dice.between(WATCHES_US.0, WATCHES_US.1)
        } else if self.dice.once_in(2) {
            PATIENCE_US.1
        } else {
            self.dice.between(PATIENCE_US.0, PATIENCE_US.1)
        };
        self.after(patience_us, Happening::Broken { client, attempt, why: "no answer" });
    }

    pub(super) fn answer(&mut self, master: usize, client: usize, attempt: u64, heard: Heard) {
        if self.loses(master) {
            let in_us = self.dice.between(10_000, 300_000);
            return self.after(in_us, Happening::Broken { client, attempt, why: "the answer is lost" });
        }
        let in_us = self.dice.between(80, 900);
        self.after(in_us, Happening::Heard { client, attempt, heard });
    }

    pub(super) fn heard(&mut self, client: usize, attempt: u64, heard: Heard) -> Result<(), Failure> {
        if self.crowd.clients[client].attempt != attempt || !self.crowd.clients[client].is_busy() {
            return Ok(());
        }
        self.note(format_args!("client {client} hears {heard:?}"));
        match heard {
            Heard::Outcome(answer) => {
                let rest_us = self.crowd.end(client, self.line.now_us(), answer);
                self.after(rest_us, Happening::Next { client });
                Ok(())
            }
            Heard::Again(_) => {
                self.again(client);
                Ok(())
            }
            Heard::Wrong(what) => {
                let call = self.crowd.clients[client].asks(attempt);
                Err(Failure::new(Kind::Answer, format!("client {client} asked {call:?} and was told {what}")))
            }
        }
    }

    pub(super) fn broken(&mut self, client: usize, attempt: u64, why: &'static str) {
        if self.crowd.clients[client].attempt != attempt || !self.crowd.clients[client].is_busy() {
            return;
        }
        self.note(format_args!("client {client}: {why}"));
        for machine in &mut self.machines {
            if let Some(process) = &mut machine.process {
                process.work.retain(|work| !matches!(work, Work::Call { client: at, .. } if *at == client));
            }
        }
        if self.crowd.clients[client].watches {
            self.crowd.clients[client].give_up();
            return self.after(1_000, Happening::Next { client });
        }
        self.again(client);
    }

    fn again(&mut self, client: usize) {
        let attempt = self.crowd.clients[client].give_up_try();
        let in_us = self.dice.between(10_000, 120_000);
        self.after(in_us, Happening::Again { client, attempt });
    }
}
