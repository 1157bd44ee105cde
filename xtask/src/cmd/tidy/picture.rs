//! The picture of the crates in ARCHITECTURE.md, drawn from the manifests.

use super::Problem;
use super::layers::{Crate, ROWS, Use};
use crate::tree::Tree;
use anyhow::{Context, Result};
use std::fmt::Write as _;

const FILE: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- crates:begin -->";
const END: &str = "<!-- crates:end -->";

/// Compares the picture in the document with the manifests, or redraws it.
pub(super) fn check(tree: &Tree, crates: &[Crate], write: bool) -> Result<Vec<Problem>> {
    let problem = |what: &str| Ok(vec![Problem::new(FILE, 0, what)]);
    if !tree.has(FILE) {
        return problem("is missing; it holds the picture of the crates");
    }
    let text = tree.text(FILE)?.with_context(|| format!("{FILE} is not UTF-8"))?;
    let Some((before, rest)) = text.split_once(BEGIN) else {
        return problem(&format!("has no line {BEGIN}, after which the picture of the crates stands"));
    };
    let Some((_, after)) = rest.split_once(END) else {
        return problem(&format!("has no line {END}, before which the picture of the crates stands"));
    };
    let drawn = format!("{before}{BEGIN}\n{}{END}{after}", draw(crates));
    if drawn == text {
        return Ok(Vec::new());
    }
    if write {
        std::fs::write(tree.root().join(FILE), drawn).with_context(|| format!("write {FILE}"))?;
        return Ok(Vec::new());
    }
    problem("the picture of the crates is out of date: cargo xtask tidy --write")
}

/// The rows, highest first, and what each crate uses.
fn draw(crates: &[Crate]) -> String {
    let mut out = String::from("```text\n");
    let names = |row: &'static [&'static str]| {
        let is_there = |name: &&str| crates.iter().any(|krate| krate.name == *name);
        row.iter().copied().filter(is_there).collect::<Vec<&str>>()
    };
    let (beside, product) = ROWS.split_last().expect("there are rows");
    for (row, crates) in product.iter().rev().chain([beside]) {
        writeln!(out, " {row:<10} {}", names(crates).join("  ")).expect("a string takes everything");
    }
    out.push('\n');
    for (_, row) in product.iter().rev().chain([beside]) {
        for name in names(row) {
            let krate = crates.iter().find(|krate| krate.name == name).expect("filtered by being there");
            let uses = krate.uses.iter().filter(|(_, kind)| *kind == Use::Normal);
            let uses: Vec<&str> = uses.map(|(used, _)| used.as_str()).collect();
            let arrow = if uses.is_empty() { String::new() } else { format!("→ {}", uses.join(" ")) };
            writeln!(out, "{}", format!(" {name:<10} {arrow}").trim_end()).expect("a string takes everything");
        }
    }
    out.push_str("```\n");
    out
}

#[cfg(test)]
mod tests {
    use super::super::layers;
    use super::*;

    const TYPES: (&str, &str) = ("crates/types/Cargo.toml", "[package]\nname = \"types\"\n");
    const PROTO: (&str, &str) =
        ("crates/proto/Cargo.toml", "[package]\nname = \"proto\"\n[dependencies]\ntypes.workspace = true\n");

    fn run(document: &str, write: bool) -> (Vec<Problem>, String) {
        let (tree, _dir) = Tree::fixture(&[TYPES, PROTO, (FILE, document)]);
        let problems = check(&tree, &layers::read(&tree).unwrap(), write).unwrap();
        (problems, tree.text(FILE).unwrap().unwrap())
    }

    #[test]
    fn is_redrawn_on_demand_and_then_stands() {
        let old = format!("# Map\n{BEGIN}\nold\n{END}\nmore\n");
        let (problems, untouched) = run(&old, false);
        assert!(problems[0].what.contains("out of date"), "{problems:?}");
        assert_eq!(untouched, old);
        let (problems, drawn) = run(&old, true);
        assert_eq!(problems, []);
        assert!(drawn.starts_with("# Map\n") && drawn.ends_with("\nmore\n"), "{drawn}");
        assert!(drawn.contains(" words      types  proto\n"), "{drawn}");
        assert!(
            drawn.contains(" proto      → types\n types\n") || drawn.contains(" types\n proto      → types\n"),
            "{drawn}"
        );
        assert_eq!(run(&drawn, false).0, []);
    }

    #[test]
    fn markers_must_be_there() {
        assert!(run("# Map\n", true).0[0].what.contains(BEGIN));
        assert!(run(BEGIN, true).0[0].what.contains(END));
    }
}
