//! Who may use whom: a row uses only rows below it.

use super::Problem;
use crate::tree::Tree;
use anyhow::{Context, Result};
use toml::{Table, Value};

/// The rows, lowest first (STYLE §1).
pub(super) const ROWS: [(&str, &[&str]); 7] = [
    ("words", &["types", "proto"]),
    ("cores", &["meta", "tier", "placement"]),
    ("plumbing", &["rpc", "journal", "store", "ufs"]),
    ("access", &["client"]),
    ("roles", &["master", "worker"]),
    ("binary", &["goosefs"]),
    ("beside", &["sim", "testkit", "xtask"]),
];

/// Arrows within a row that are meant.
const SIDEWAYS: [(&str, &str); 1] = [("proto", "types")];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    /// In the product, or to build it.
    Normal,
    /// In tests only.
    Dev,
}

/// One of our crates.
#[derive(Debug)]
pub(super) struct Crate {
    pub(super) name: String,
    /// Its directory, relative to the root.
    pub(super) dir: String,
    /// Which of our crates it uses.
    pub(super) uses: Vec<(String, Use)>,
}

/// Our crates, from their manifests.
pub(super) fn read(tree: &Tree) -> Result<Vec<Crate>> {
    let mut manifests = Vec::new();
    for file in tree.files().filter(|file| file.ends_with("/Cargo.toml")) {
        let text = tree.text(file)?.with_context(|| format!("{file} is not UTF-8"))?;
        let manifest: Table = text.parse().with_context(|| format!("parse {file}"))?;
        let name = manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
        if let Some(name) = name {
            let dir = file.trim_end_matches("/Cargo.toml").to_owned();
            manifests.push((name.to_owned(), dir, manifest));
        }
    }
    let ours: Vec<String> = manifests.iter().map(|(name, ..)| name.clone()).collect();
    let crates = manifests.into_iter().map(|(name, dir, manifest)| {
        let mut uses = used(&manifest);
        uses.retain(|(used, _)| ours.contains(used));
        uses.sort_by(|a, b| a.0.cmp(&b.0));
        Crate { name, dir, uses }
    });
    Ok(crates.collect())
}

/// All packages a manifest (or one target's table in it) depends on.
fn used(table: &Table) -> Vec<(String, Use)> {
    let mut all = Vec::new();
    for (key, kind) in
        [("dependencies", Use::Normal), ("build-dependencies", Use::Normal), ("dev-dependencies", Use::Dev)]
    {
        for (name, value) in table.get(key).and_then(Value::as_table).into_iter().flatten() {
            let package = value.get("package").and_then(Value::as_str).unwrap_or(name);
            all.push((package.to_owned(), kind));
        }
    }
    let targets = table.get("target").and_then(Value::as_table).into_iter().flatten();
    all.extend(targets.filter_map(|(_, target)| target.as_table()).flat_map(used));
    all
}

pub(super) fn check(crates: &[Crate]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for krate in crates {
        let manifest = format!("{}/Cargo.toml", krate.dir);
        if row(&krate.name).is_none() {
            let what = format!("the crate {} has no row: give it one in xtask/src/cmd/tidy/layers.rs", krate.name);
            problems.push(Problem::new(&manifest, 0, what));
            continue;
        }
        for (used, kind) in &krate.uses {
            if let Some(why) = objection(&krate.name, used, *kind) {
                problems.push(Problem::new(&manifest, 0, format!("{} must not use {used}: {why}", krate.name)));
            }
        }
    }
    problems
}

fn row(name: &str) -> Option<usize> {
    ROWS.iter().position(|(_, crates)| crates.contains(&name))
}

/// Why `from` may not use `to`. None if it may, or if `to` has no row, which is a problem of its own.
fn objection(from: &str, to: &str, kind: Use) -> Option<String> {
    let (below, above) = (row(to)?, row(from)?);
    let name = |row: usize| ROWS[row].0;
    match (from, to) {
        (_, "xtask") => Some("nothing uses the chores".into()),
        ("xtask", _) => None,
        // A crate's tests may want it with other features.
        _ if from == to && kind == Use::Dev => None,
        (_, "testkit") if kind == Use::Dev => None,
        (_, "testkit") => Some("it is for tests, the demo and the benches (dev-dependencies, or xtask)".into()),
        ("testkit", _) if name(below) != "words" => Some("testkit knows nothing of the product but words".into()),
        _ if SIDEWAYS.contains(&(from, to)) || below < above => None,
        _ if below == above => Some(format!("both are {}, and a row uses only rows below it", name(above))),
        _ => Some(format!("{} are below {}; a row uses only rows below it", name(above), name(below))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(manifests: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<(String, String)> = manifests
            .iter()
            .map(|(name, rest)| {
                (format!("crates/{name}/Cargo.toml"), format!("[package]\nname = \"{name}\"\n{rest}\n"))
            })
            .collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let (tree, _dir) = Tree::fixture(&files);
        check(&read(&tree).unwrap()).into_iter().map(|problem| problem.what).collect()
    }

    const WORDS: (&str, &str) = ("types", "");

    #[test]
    fn arrows_down_are_fine_and_so_is_the_one_between_words() {
        let proto = ("proto", "[dependencies]\ntypes.workspace = true");
        let meta = ("meta", "[dependencies]\ntypes = { path = \"../types\" }\nserde = \"1\"");
        let store = (
            "store",
            "[dependencies]\nmeta.workspace = true\n[dev-dependencies]\ntestkit.workspace = true\nstore.path = \".\"",
        );
        let testkit = ("testkit", "[dependencies]\ntypes.workspace = true");
        let xtask = ("xtask", "[dependencies]\nstore.workspace = true\ntestkit.workspace = true");
        assert_eq!(problems(&[WORDS, proto, meta, store, testkit, xtask]), [""; 0]);
    }

    #[test]
    fn arrows_up_and_sideways_are_not() {
        let up = problems(&[WORDS, ("types", "[dependencies]\nmeta.workspace = true"), ("meta", "")]);
        assert!(up[0].contains("types must not use meta: words are below cores"), "{up:?}");
        let master = ("master", "[dev-dependencies]\nworker.workspace = true");
        let sideways = problems(&[master, ("worker", "")]);
        assert!(sideways[0].contains("both are roles"), "{sideways:?}");
        let hidden = ("meta", "[target.'cfg(unix)'.dependencies]\nother = { package = \"store\", path = \"x\" }");
        assert_eq!(problems(&[hidden, ("store", "")]).len(), 1);
    }

    #[test]
    fn what_is_beside_stays_beside() {
        let uses_testkit = ("meta", "[dependencies]\ntestkit.workspace = true");
        let uses_xtask = ("tier", "[dev-dependencies]\nxtask.workspace = true");
        let knows_too_much = ("testkit", "[dependencies]\nmeta.workspace = true");
        let found = problems(&[uses_testkit, uses_xtask, knows_too_much, ("xtask", "")]);
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn a_new_crate_needs_a_row() {
        assert!(problems(&[("fuse", "")])[0].contains("has no row"));
    }
}
