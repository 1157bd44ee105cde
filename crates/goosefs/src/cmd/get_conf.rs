//! `goosefs getConf`

use super::Done;
use crate::settings::{Settings, Source};
use serde_json::{Map, Value, json};
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  goosefs getConf\n  goosefs getConf goosefs.master.rpc.port\n  goosefs getConf --source --json"
)]
pub struct Args {
    /// Show this setting only: its bare value
    key: Option<String>,
    /// Say where each value comes from
    #[arg(long)]
    source: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, settings: &Settings) -> Done {
    for warning in settings.warnings() {
        eprintln!("goosefs: {warning}");
    }
    let rows = match &args.key {
        Some(key) => {
            settings.text(key)?;
            vec![(key.clone(), settings.shown_text(key), settings.source(key))]
        }
        None => settings.shown(),
    };
    print!("{}", show(args, &rows));
    Ok(ExitCode::SUCCESS)
}

fn show(args: &Args, rows: &[(String, String, Source)]) -> String {
    if args.json {
        let entry = |value: &String, source: &Source| match args.source {
            true => json!({ "value": value, "source": source.to_string() }),
            false => json!(value),
        };
        let document: Map<String, Value> =
            rows.iter().map(|(key, v, source)| (key.clone(), entry(v, source))).collect();
        return format!("{:#}\n", Value::Object(document));
    }
    let line = |(key, value, source): &(String, String, Source)| {
        let key = if args.key.is_some() { String::new() } else { format!("{key}=") };
        let source = if args.source { format!(" ({source})") } else { String::new() };
        format!("{key}{value}{source}\n")
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_bare_and_all_keys_carry_names() {
        let rows = [("k".to_owned(), "v".to_owned(), Source::Flag)];
        let args = |key: Option<&str>, source, json| Args { key: key.map(str::to_owned), source, json };
        assert_eq!(show(&args(Some("k"), false, false), &rows), "v\n");
        assert_eq!(show(&args(None, false, false), &rows), "k=v\n");
        assert_eq!(show(&args(None, true, false), &rows), "k=v (-D)\n");
        assert_eq!(show(&args(None, false, true), &rows), "{\n  \"k\": \"v\"\n}\n");
    }
}
