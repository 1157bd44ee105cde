//! What can go wrong, when, and how often.

use crate::data::mix;
use std::time::Duration;
use tokio::sync::watch;

/// Which body a fault concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Response,
}

/// Something that goes wrong with one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It reaches the server this much later.
    Delay(Duration),
    /// The server never sees it: it is answered with this status and the error S3 would send. 503 is `SlowDown`.
    Status(u16),
    /// The connection is reset when this many bytes of the body have passed: at once for 0, and for a body shorter than
    /// that, at its end.
    Cut { side: Side, after_bytes: u64 },
    /// The answer's body stops after this many bytes and the connection ends in good order: short of what
    /// `Content-Length` says.
    Truncate { after_bytes: u64 },
    /// Nothing passes any more after this many bytes of the body, and the connection stays open until the rules are
    /// cleared or the proxy goes.
    Hang { side: Side, after_bytes: u64 },
    /// All of it reaches the proxy at once, and the server only when the rules are cleared: also when whoever sent it is
    /// gone by then. Other faults of the same request do nothing.
    Late,
    /// The byte at this position of the body is another. Nothing happens to a body that is too short.
    Flip { side: Side, at: u64 },
    /// The answer's `Content-Length` is this much off. When it says less than there is, the rest never comes and the
    /// answer looks whole; when it says more, the connection ends before that.
    Length(i64),
}

/// How often a rule's fault happens.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Often {
    Always,
    Times(u64),
    /// With this chance out of 2^32, decided by a seed and the count of matching requests.
    Chance {
        out_of_2_32: u64,
        seed: u64,
    },
}

/// A fault, and the requests it befalls.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    method: Option<String>,
    path_part: Option<String>,
    skip: u64,
    often: Often,
}

impl Rule {
    /// Every request, until the rule is removed.
    pub fn always(fault: Fault) -> Rule {
        Rule { fault, method: None, path_part: None, skip: 0, often: Often::Always }
    }

    /// The next `count` requests.
    pub fn times(count: u64, fault: Fault) -> Rule {
        Rule { often: Often::Times(count), ..Rule::always(fault) }
    }

    /// The next request.
    pub fn once(fault: Fault) -> Rule {
        Rule::times(1, fault)
    }

    /// Each request with the chance `fraction` (0 to 1). The same seed picks the same requests by their order.
    pub fn fraction(fraction: f64, seed: u64, fault: Fault) -> Rule {
        assert!((0.0..=1.0).contains(&fraction), "a fraction lies between 0 and 1, not at {fraction}");
        // Floating point has no lossless conversion; the value lies within [0, 2^32].
        let out_of_2_32 = (fraction * 4_294_967_296.0) as u64;
        Rule { often: Often::Chance { out_of_2_32, seed }, ..Rule::always(fault) }
    }

    /// Only requests with this method.
    pub fn method(mut self, method: &str) -> Rule {
        self.method = Some(method.to_owned());
        self
    }

    /// Only requests whose target (path and query, as sent) contains `part`.
    pub fn path(mut self, part: &str) -> Rule {
        self.path_part = Some(part.to_owned());
        self
    }

    /// The first `count` requests that would match are spared.
    pub fn skip(mut self, count: u64) -> Rule {
        self.skip = count;
        self
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && self.path_part.as_ref().is_none_or(|part| path.contains(part))
    }
}

/// Names an injected rule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RuleId(u64);

/// What befalls one request.
pub(super) struct Faults {
    pub list: Vec<Fault>,
    /// Changes when the rules are cleared after this request was decided upon: whoever saw its hit counted may clear them
    /// before it comes to the fault.
    pub cleared: watch::Receiver<u64>,
}

impl Faults {
    /// Decided at the same moment, and nothing befalls it.
    pub(super) fn none(&self) -> Faults {
        Faults { list: Vec::new(), cleared: self.cleared.clone() }
    }
}

pub(super) struct Rules {
    next_id: u64,
    rules: Vec<Injected>,
    cleared: watch::Sender<u64>,
}

struct Injected {
    id: RuleId,
    rule: Rule,
    /// Matching requests so far.
    seen: u64,
    hits: u64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { next_id: 0, rules: Vec::new(), cleared: watch::channel(0).0 }
    }
}

impl Rules {
    pub(super) fn add(&mut self, rule: Rule) -> RuleId {
        self.next_id += 1;
        let id = RuleId(self.next_id);
        self.rules.push(Injected { id, rule, seen: 0, hits: 0 });
        id
    }

    pub(super) fn remove(&mut self, id: RuleId) {
        self.rules.retain(|injected| injected.id != id);
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
        self.cleared.send_modify(|count| *count += 1);
    }

    pub(super) fn hits(&self, id: RuleId) -> u64 {
        self.rules.iter().find(|injected| injected.id == id).map_or(0, |injected| injected.hits)
    }

    /// The faults of this request, by rule, oldest first.
    pub(super) fn decide(&mut self, method: &str, path: &str) -> Faults {
        let mut list = Vec::new();
        for injected in &mut self.rules {
            if !injected.rule.matches(method, path) {
                continue;
            }
            injected.seen += 1;
            let Some(turn) = injected.seen.checked_sub(injected.rule.skip + 1) else { continue };
            let happens = match injected.rule.often {
                Often::Always => true,
                Often::Times(count) => turn < count,
                Often::Chance { out_of_2_32, seed } => mix(seed ^ mix(turn)) >> 32 < out_of_2_32,
            };
            if happens {
                injected.hits += 1;
                list.push(injected.rule.fault.clone());
            }
        }
        Faults { list, cleared: self.cleared.subscribe() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAULT: Fault = Fault::Status(503);

    fn decide(rule: Rule, count: usize) -> Vec<bool> {
        let mut rules = Rules::default();
        rules.add(rule);
        (0..count).map(|_| !rules.decide("GET", "/bucket/key?list-type=2").list.is_empty()).collect()
    }

    #[test]
    fn rules_match_by_method_path_and_count() {
        assert_eq!(decide(Rule::times(2, FAULT).skip(1), 4), [false, true, true, false]);
        assert_eq!(decide(Rule::always(FAULT).method("get"), 2), [true, true]);
        assert_eq!(decide(Rule::always(FAULT).method("PUT"), 1), [false]);
        assert_eq!(decide(Rule::always(FAULT).path("list-type"), 1), [true]);
        assert_eq!(decide(Rule::always(FAULT).path("uploads"), 1), [false]);
    }

    #[test]
    fn a_fraction_is_about_that_and_the_same_for_a_seed() {
        let hit = |seed: u64| decide(Rule::fraction(0.2, seed, FAULT), 10_000);
        let count = hit(1).iter().filter(|hit| **hit).count();
        assert!((1800..2200).contains(&count), "{count} of 10000");
        assert_eq!(hit(1), hit(1));
        assert_ne!(hit(1), hit(2));
        assert!(decide(Rule::fraction(1.0, 3, FAULT), 1000).iter().all(|hit| *hit));
        assert!(!decide(Rule::fraction(0.0, 3, FAULT), 1000).iter().any(|hit| *hit));
    }
}
