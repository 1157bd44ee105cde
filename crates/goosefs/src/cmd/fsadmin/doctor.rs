//! `goosefs fsadmin doctor`: one file per category.

mod keys;
mod metadata;
mod quarantine;
mod storage;

use crate::cmd::{Context, Done};
use clap::ValueEnum;
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Without a category everything is looked at but the metadata: that reads every record.\n\nExamples:\n  goosefs fsadmin doctor\n  goosefs fsadmin doctor storage --json\n  goosefs fsadmin doctor metadata\n  goosefs fsadmin doctor metadata --repair\n\nCtrl-C ends an audit of the metadata; what was repaired stays.\n\nExits with 0 if nothing is wrong, with 1 if something is."
)]
pub struct Args {
    /// What to look at; without it, everything
    #[arg(value_enum)]
    category: Option<Category>,
    /// Repair what can be, through the log (metadata)
    #[arg(long)]
    repair: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
enum Category {
    /// Storage directories that workers gave up
    Storage,
    /// Objects of under stores that cannot be shown, because their key cannot be a path
    Keys,
    /// Cached blocks of files that the namespace does not know: lost with a quorum, or made after its backup
    Quarantine,
    /// Records of the metadata that do not fit together; only when it is asked for
    Metadata,
}

/// What one category found.
struct Finding {
    /// What was looked at and is well; shown when it is.
    well: &'static str,
    /// Whether nothing is wrong, or not any more.
    is_well: bool,
    /// What is wrong and what to do, or was done; empty: nothing.
    text: String,
    document: serde_json::Value,
}

impl Finding {
    fn of(well: &'static str, text: String, document: serde_json::Value) -> Finding {
        Finding { well, is_well: text.is_empty(), text, document }
    }
}

pub async fn run(args: &Args, context: &Context) -> Done {
    if args.repair && args.category != Some(Category::Metadata) {
        anyhow::bail!("--repair belongs to the category metadata");
    }
    let fs = context.connect().await?;
    let mut findings = Vec::new();
    for category in Category::value_variants() {
        // Of the metadata every record is read: not unasked.
        if args.category.map_or(*category == Category::Metadata, |wanted| wanted != *category) {
            continue;
        }
        let finding = match category {
            Category::Storage => ("storage", storage::look(&fs).await?),
            Category::Keys => ("keys", keys::look(&fs).await?),
            Category::Quarantine => ("quarantine", quarantine::look(&fs).await?),
            Category::Metadata => ("metadata", metadata::look(&fs, args.repair).await?),
        };
        findings.push(finding);
    }
    let is_healthy = findings.iter().all(|(_, finding)| finding.is_well);
    if args.json {
        println!("{}", document(&findings, is_healthy));
    } else {
        print!("{}", layout(&findings));
    }
    Ok(if is_healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whatever is wrong; if nothing is, one sentence that says what was looked at.
fn layout(findings: &[(&str, Finding)]) -> String {
    let wrong: Vec<&str> = findings.iter().map(|(_, f)| f.text.as_str()).filter(|text| !text.is_empty()).collect();
    if !wrong.is_empty() {
        return wrong.join("\n");
    }
    let well: Vec<&str> = findings.iter().map(|(_, finding)| finding.well).collect();
    format!("Nothing is wrong: {}.\n", well.join(", and "))
}

fn document(findings: &[(&str, Finding)], is_healthy: bool) -> serde_json::Value {
    let mut out = json!({ "healthy": is_healthy });
    for (name, finding) in findings {
        out[*name] = finding.document.clone();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(well: &'static str, text: &str) -> Finding {
        Finding::of(well, text.to_owned(), json!([]))
    }

    #[test]
    fn a_healthy_cluster_gets_one_sentence_and_an_ill_one_only_what_is_wrong() {
        let well = [("storage", finding("all work", "")), ("keys", finding("all are shown", ""))];
        assert_eq!(layout(&well), "Nothing is wrong: all work, and all are shown.\n");
        assert_eq!(document(&well, true).to_string(), "{\"healthy\":true,\"keys\":[],\"storage\":[]}");
        let ill = [("storage", finding("all work", "one is lost\n")), ("keys", finding("all are shown", ""))];
        assert_eq!(layout(&ill), "one is lost\n");
    }
}
