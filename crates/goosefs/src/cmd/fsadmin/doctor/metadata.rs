//! Records of the metadata that do not fit together, as an audit by the leading master finds them.

use super::Finding;
use crate::progress;
use client::{AuditFinding, AuditReport, FileSystem};
use serde_json::{Value, json};

/// Findings kept and shown; of more only the number.
const KEPT: usize = 10_000;

/// What the reports of an audit add up to.
#[derive(Default)]
struct Outcome {
    pass: u32,
    records: u64,
    repaired: Vec<AuditFinding>,
    repaired_count: u64,
    /// Of the last look through everything: what is wrong still.
    left: Vec<AuditFinding>,
    left_count: u64,
    uncounted: u64,
    location_drift: u64,
}

impl Outcome {
    fn take(&mut self, report: &AuditReport) {
        if report.pass != self.pass {
            self.pass = report.pass;
            self.left.clear();
            self.left_count = 0;
        }
        for finding in &report.findings {
            let (kept, count) = match finding.repaired {
                true => (&mut self.repaired, &mut self.repaired_count),
                false => (&mut self.left, &mut self.left_count),
            };
            *count += 1;
            if kept.len() < KEPT {
                kept.push(finding.clone());
            }
        }
        self.records = report.records;
        (self.uncounted, self.location_drift) = (report.uncounted, report.location_drift);
    }

    fn is_well(&self) -> bool {
        self.left_count == 0 && self.location_drift == 0
    }
}

pub async fn look(fs: &FileSystem, repair: bool) -> anyhow::Result<Finding> {
    let mut outcome = Outcome::default();
    let bar = progress::counter("records");
    let audited = fs.audit_metadata(repair, |report| {
        outcome.take(report);
        bar.set_position(report.records);
    });
    let audited = audited.await;
    bar.finish_and_clear();
    audited?;
    Ok(Finding {
        well: "the records of the metadata fit together",
        is_well: outcome.is_well(),
        text: layout(&outcome, repair),
        document: document(&outcome),
    })
}

fn lines(out: &mut String, findings: &[AuditFinding], count: u64) {
    for finding in findings {
        out.push_str(&format!("    {}: {}\n", finding.kind, finding.what));
        match (finding.repaired, finding.refusal.as_str()) {
            (true, _) => {}
            (false, "") => out.push_str(&format!("        {}\n", finding.advice)),
            (false, refusal) => out.push_str(&format!("        not repaired: {refusal}\n")),
        }
    }
    let shown = u64::try_from(findings.len()).unwrap_or(u64::MAX);
    if count > shown {
        out.push_str(&format!("    and {} more\n", count - shown));
    }
}

fn layout(outcome: &Outcome, repair: bool) -> String {
    let mut out = String::new();
    if outcome.repaired_count > 0 {
        out.push_str(&format!("Repaired: {}\n", outcome.repaired_count));
        lines(&mut out, &outcome.repaired, outcome.repaired_count);
    }
    if outcome.left_count > 0 {
        out.push_str(&format!("Wrong: {}, in {} records that were looked at\n", outcome.left_count, outcome.records));
        lines(&mut out, &outcome.left, outcome.left_count);
        if !repair && outcome.left.iter().any(|finding| finding.repairable) {
            out.push_str("Repair what can be with --repair.\n");
        }
    }
    if outcome.location_drift > 0 {
        out.push_str(&format!(
            "The table of block locations held {} containers that the namespace does not have, and was corrected; report this\n",
            outcome.location_drift
        ));
    }
    if outcome.uncounted > 0 && !out.is_empty() {
        out.push_str(&format!("Not counted, because they changed all the time: {} directories\n", outcome.uncounted));
    }
    out
}

fn document(outcome: &Outcome) -> Value {
    let one = |finding: &AuditFinding| {
        json!({
            "kind": finding.kind,
            "what": finding.what,
            "advice": finding.advice,
            "repairable": finding.repairable,
            "refusal": Some(&finding.refusal).filter(|refusal| !refusal.is_empty()),
        })
    };
    json!({
        "records": outcome.records,
        "wrong": outcome.left.iter().map(one).collect::<Vec<_>>(),
        "wrongCount": outcome.left_count,
        "repaired": outcome.repaired.iter().map(one).collect::<Vec<_>>(),
        "repairedCount": outcome.repaired_count,
        "directoriesNotCounted": outcome.uncounted,
        "locationDrift": outcome.location_drift,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: &str, repaired: bool) -> AuditFinding {
        AuditFinding {
            kind: kind.into(),
            what: format!("{kind} it is"),
            advice: "a repair helps".into(),
            repairable: true,
            repaired,
            refusal: String::new(),
        }
    }

    fn report(pass: u32, findings: Vec<AuditFinding>) -> AuditReport {
        AuditReport { pass, records: 70, findings, ..AuditReport::default() }
    }

    #[test]
    fn what_a_later_pass_does_not_find_any_more_is_not_wrong() {
        let mut outcome = Outcome::default();
        outcome.take(&report(1, vec![finding("orphans", true), finding("loop", false)]));
        outcome.take(&report(2, Vec::new()));
        assert!(outcome.is_well());
        assert_eq!(layout(&outcome, true), "Repaired: 1\n    orphans: orphans it is\n");
        assert_eq!(document(&outcome)["repairedCount"], 1);
    }

    #[test]
    fn what_is_left_is_shown_with_what_can_be_done() {
        let mut outcome = Outcome::default();
        let refused = AuditFinding { refusal: "it is taken".into(), ..finding("loop", false) };
        outcome.take(&report(1, vec![finding("orphans", false), refused]));
        assert!(!outcome.is_well());
        assert_eq!(
            layout(&outcome, false),
            "Wrong: 2, in 70 records that were looked at\n    orphans: orphans it is\n        a repair helps\n    \
             loop: loop it is\n        not repaired: it is taken\nRepair what can be with --repair.\n"
        );
    }
}
