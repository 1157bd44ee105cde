//! Documents name only what exists: files, links, items of our crates, commands.

use super::Problem;
use super::layers::Crate;
use crate::tree::Tree;
use anyhow::Result;
use std::collections::BTreeMap;

/// First parts of paths that are the repository's own.
const OUR_DIRS: [&str; 6] = ["crates/", "docs/", "tests/", "tools/", "xtask/", ".ci/"];
/// Words that declare the name after them, in Rust and in proto files.
const DECLARES: [&str; 15] = [
    "fn",
    "struct",
    "enum",
    "trait",
    "const",
    "static",
    "type",
    "mod",
    "union",
    "macro_rules!",
    "message",
    "service",
    "rpc",
    "oneof",
    "package",
];
/// Characters that make a path or a name a pattern.
const PATTERN: [char; 8] = ['*', '<', '>', '{', '}', '…', '$', '?'];
/// What happened stands there, also of things that are gone.
const HISTORY: &str = "CHANGELOG.md";

pub(super) fn check(tree: &Tree, crates: &[Crate], xtasks: &[String]) -> Result<Vec<Problem>> {
    let names = Names { tree, sources: sources(tree, crates)?, x_commands: x_commands(tree)?, xtasks };
    let mut problems = Vec::new();
    for file in tree.files().filter(|file| is_document(file)) {
        let Some(text) = tree.text(file)? else { continue };
        let mut fenced = false;
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
                continue;
            }
            let found = if fenced { names.wrong_commands(line) } else { names.wrong_in_prose(file, line) };
            problems.extend(found.into_iter().map(|what| Problem::new(file, number, what)));
        }
    }
    Ok(problems)
}

fn is_document(file: &str) -> bool {
    file.ends_with(".md") && (!file.contains('/') || file.starts_with("docs/"))
}

/// The text of each crate's sources.
fn sources(tree: &Tree, crates: &[Crate]) -> Result<BTreeMap<String, String>> {
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    for krate in crates {
        let dir = format!("{}/", krate.dir);
        let text = sources.entry(krate.name.clone()).or_default();
        for file in tree.files().filter(|file| file.starts_with(&dir)) {
            if file.ends_with(".rs") || file.ends_with(".proto") {
                text.push_str(&tree.text(file)?.unwrap_or_default());
                text.push('\n');
            }
            // A file is a module, or a test's binary.
            if let Some(stem) = file.strip_suffix(".rs").and_then(|path| path.rsplit('/').next()) {
                text.push_str(&format!("mod {stem}\n"));
            }
        }
    }
    Ok(sources)
}

/// The labels of `x`'s choice of commands.
fn x_commands(tree: &Tree) -> Result<Vec<String>> {
    let script = if tree.has("x") { tree.text("x")?.unwrap_or_default() } else { String::new() };
    let choice = script.split_once("case $command in").map_or("", |(_, choice)| choice);
    let labels = choice.lines().filter_map(|line| line.trim().strip_suffix(')'));
    let is_label = |label: &&str| label.chars().all(|c| c.is_ascii_alphabetic() || " |-".contains(c));
    Ok(labels.filter(is_label).flat_map(|label| label.split(" | ")).map(str::to_owned).collect())
}

struct Names<'a> {
    tree: &'a Tree,
    sources: BTreeMap<String, String>,
    x_commands: Vec<String>,
    xtasks: &'a [String],
}

impl Names<'_> {
    fn wrong_in_prose(&self, file: &str, line: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        for (index, part) in line.split('`').enumerate() {
            if index % 2 == 0 {
                continue;
            }
            wrong.extend(self.wrong_commands(part));
            if file != HISTORY {
                wrong.extend(self.wrong_path(part));
                wrong.extend(self.wrong_item(part));
            }
        }
        let prose: String = line.split('`').step_by(2).collect();
        wrong.extend(links(&prose).filter_map(|target| self.wrong_link(file, target)));
        wrong
    }

    fn wrong_commands(&self, text: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let after = |prefix: &str| {
            let uses = text.match_indices(prefix).map(|(at, _)| &text[at + prefix.len()..]);
            let word =
                |rest: &str| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().map(str::to_owned);
            let words: Vec<String> = uses.filter_map(word).collect();
            words.into_iter().filter(|word| !word.is_empty() && !word.starts_with('-'))
        };
        for word in after("./x ").filter(|word| !self.x_commands.contains(word) && !is_placeholder(word)) {
            wrong.push(format!("./x has no command {word}"));
        }
        for word in after("cargo xtask ").filter(|word| !self.xtasks.contains(word) && !is_placeholder(word)) {
            wrong.push(format!("cargo xtask has no command {word}"));
        }
        wrong
    }

    fn wrong_path(&self, span: &str) -> Option<String> {
        if !OUR_DIRS.iter().any(|dir| span.starts_with(dir)) || span.contains(PATTERN) || span.contains("NNNN") {
            return None;
        }
        let path = span.split_whitespace().next()?.split('#').next()?;
        // `path:12` names a line, `path::test_name` a test.
        let (path, item) = path.split_once(':').unwrap_or((path, ""));
        if !self.tree.has(path) {
            return Some(format!("there is no {path}"));
        }
        let item = item.trim_start_matches(':');
        if item.is_empty() || item.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let text = self.tree.text(path).ok().flatten().unwrap_or_default();
        let name = item.rsplit("::").next()?;
        let python = format!("def {name}(");
        (!defines(&text, name) && !text.contains(&python)).then(|| format!("{path} does not define {name}"))
    }

    fn wrong_link(&self, file: &str, target: &str) -> Option<String> {
        if target.contains("://") || target.starts_with("mailto:") || target.starts_with('#') {
            return None;
        }
        let target = target.split('#').next()?;
        let dir = file.rsplit_once('/').map_or("", |(dir, _)| dir);
        let path =
            if let Some(rooted) = target.strip_prefix('/') { rooted.to_owned() } else { format!("{dir}/{target}") };
        (!self.tree.has(path.trim_start_matches('/'))).then(|| format!("the link to {target} leads nowhere"))
    }

    /// `krate::module::item` and `Type::method` of our crates; what begins with anything else is not ours to judge.
    fn wrong_item(&self, span: &str) -> Option<String> {
        let path = span.strip_suffix("()").unwrap_or(span);
        let parts: Vec<&str> = path.split("::").collect();
        let is_name = |part: &&str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if parts.len() < 2 || !parts.iter().all(is_name) {
            return None;
        }
        let (first, last) = (parts[0], parts[parts.len() - 1]);
        if let Some(source) = self.sources.get(first) {
            return (!defines(source, last)).then(|| format!("the crate {first} does not define {last}"));
        }
        if !first.starts_with(|c: char| c.is_ascii_uppercase()) {
            return None;
        }
        let homes: Vec<(&String, &String)> = self.sources.iter().filter(|(_, source)| defines(source, first)).collect();
        if homes.is_empty() {
            return Some(format!("none of our crates defines {first}; if it is another's, write its whole path"));
        }
        let found = homes.iter().any(|(_, source)| defines(source, last));
        (!found).then(|| format!("{first} is there ({}), but nothing called {last} is", homes[0].0))
    }
}

/// Words like `COMMAND`, which stand for any.
fn is_placeholder(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_uppercase())
}

/// The targets of `[text](target)`.
fn links(prose: &str) -> impl Iterator<Item = &str> {
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(|target| target.trim())
}

/// Whether a source declares `name`: after a word that declares, or at the start of a line as fields, variants and the
/// lists of our id macros have it.
fn defines(source: &str, name: &str) -> bool {
    source.match_indices(name).any(|(at, _)| {
        let (before, after) = (&source[..at], &source[at + name.len()..]);
        let part_of_a_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if before.ends_with(part_of_a_word) || after.starts_with(part_of_a_word) {
            return false;
        }
        let line = before.rsplit('\n').next().unwrap_or("").trim();
        let is_field = after.starts_with(": ");
        if line.is_empty() {
            return is_field
                || after.starts_with([',', '(', '\n'])
                || after.starts_with(" {")
                || after.starts_with(" =");
        }
        if is_field && line.starts_with("pub") && !line.contains(' ') {
            return true;
        }
        line.split_whitespace().next_back().is_some_and(|word| DECLARES.contains(&word))
    })
}

#[cfg(test)]
mod tests {
    use super::super::layers;
    use super::*;

    const SCRIPT: &str = "case $command in\n  demo | bench)\n    a=$(b)\n    ;;\n  test)\n    ;;\n  *)\nesac\n";
    const SOURCE: &str = "pub struct Ring;\nimpl Ring {\n    pub fn candidates(&self) {}\n}\npub enum Kind {\n    Busy,\n    \
                          Full { bytes: u64 },\n}\npub struct Can {\n    pub rename: bool,\n}\nids! {\n    WorkerId(u64) \"worker-\";\n}\n";

    fn problems(document: &str) -> Vec<String> {
        let files = [
            ("x", SCRIPT),
            ("docs/other.md", "# Other\n"),
            ("crates/placement/Cargo.toml", "[package]\nname = \"placement\"\n"),
            ("crates/placement/src/ring.rs", SOURCE),
            ("docs/guide.md", document),
        ];
        let (tree, _dir) = Tree::fixture(&files);
        let found = check(&tree, &layers::read(&tree).unwrap(), &["tidy".to_owned()]).unwrap();
        found.into_iter().map(|problem| problem.what).collect()
    }

    #[test]
    fn what_exists_may_be_named() {
        let document = "See `crates/placement/src/ring.rs:3`, `crates/placement/`, [other](other.md#top), \
            [home](/docs/other.md), [web](https://example.com/x.md), `docs/design/NNNN-name.md`, `crates/*/src`.\n\
            `placement::ring::Ring`, `Ring::candidates()`, `Kind::Busy`, `Kind::Full`, `Can::rename`, `placement::WorkerId`, \
            `std::time::Duration`, `crates/placement/src/ring.rs::candidates`, `a::b`, `GET /x::y`.\n\
            `./x test`, `./x COMMAND`, `cargo xtask tidy --write`.\n```sh\n./x bench --fast\n```\n";
        assert_eq!(problems(document), [""; 0]);
    }

    #[test]
    fn what_is_gone_may_not() {
        for (document, expected) in [
            ("`crates/placement/src/gone.rs`", "there is no crates/placement/src/gone.rs"),
            ("`crates/placement/src/ring.rs::gone`", "does not define gone"),
            ("[other](gone.md)", "leads nowhere"),
            ("`placement::ring::gone`", "the crate placement does not define gone"),
            ("`Ring::gone`", "nothing called gone"),
            ("`Gone::new`", "none of our crates defines Gone"),
            ("`./x gone`", "./x has no command gone"),
            ("`cargo xtask gone`", "cargo xtask has no command gone"),
            ("```sh\n./x gone\n```", "./x has no command gone"),
        ] {
            let found = problems(document);
            assert!(found.len() == 1 && found[0].contains(expected), "{document}: {found:?}");
        }
    }

    #[test]
    fn a_name_that_is_only_used_is_not_defined() {
        assert!(!defines("let ring = candidates();\nself.candidates()\n", "candidates"));
        assert!(!defines("fn candidates_of() {}\n", "candidates"));
        assert!(defines("pub(crate) async fn candidates<T>() {}\n", "candidates"));
        assert!(defines("rpc GetStatus(A) returns (B);\n", "GetStatus"));
    }
}
