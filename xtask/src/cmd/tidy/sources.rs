//! What must not stand in any file.

use super::Problem;
use crate::tree::Tree;
use anyhow::Result;
use std::path::Path;

/// Larger files do not belong into a repository that is cloned.
const FILE_BYTES: u64 = 2 << 20;

/// What Rust sources must not contain, with what to do instead. In halves, so that this file does not contain it.
const UNFINISHED: [(&str, &str); 4] = [
    (concat!("to", "do!("), "finish it or leave it out"),
    (concat!("unimple", "mented!("), "finish it or leave it out"),
    (concat!("FIX", "ME"), "fix it, or file an issue and name it"),
    (concat!("#[ig", "nore"), "make the test fit into ./x test, or count its rounds by GOOSEFS_TEST_ROUNDS"),
];
const PAUSE: &str = concat!("sle", "ep(");

pub(super) fn check(tree: &Tree, home: Option<&str>) -> Result<Vec<Problem>> {
    let places: Vec<String> = [tree.root().to_str(), home].into_iter().flatten().map(str::to_owned).collect();
    let mut problems = Vec::new();
    for file in tree.files() {
        let bytes = tree.bytes_of(file)?;
        if bytes > FILE_BYTES {
            problems.push(Problem::new(file, 0, format!("has {bytes} bytes; the limit is {FILE_BYTES}")));
            continue;
        }
        let Some(text) = tree.text(file)? else { continue };
        for (number, line) in (1..).zip(text.lines()) {
            if places.iter().any(|place| names_something_in(line, place)) {
                problems.push(Problem::new(file, number, "names a path of this machine"));
            }
        }
        if file.ends_with(".rs") {
            problems.extend(check_rust(file, &text));
        }
    }
    Ok(problems)
}

/// Whether `line` names a file or directory that there is in `dir`. A namespace has paths of its own, such as `/root/f`.
fn names_something_in(line: &str, dir: &str) -> bool {
    line.match_indices(&format!("{dir}/")).any(|(at, prefix)| {
        let rest = &line[at + prefix.len()..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let first = rest.split(|c| !is_name(c)).next().unwrap_or("");
        dir.len() > 1 && !first.is_empty() && Path::new(dir).join(first).exists()
    })
}

fn check_rust(file: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut is_test = file.starts_with("tests/") || file.contains("/tests/") || file.ends_with("/tests.rs");
    for (number, line) in (1..).zip(text.lines()) {
        for (what, instead) in UNFINISHED {
            if line.contains(what) {
                problems.push(Problem::new(file, number, format!("{what}: {instead}")));
            }
        }
        is_test |= line.trim() == "#[cfg(test)]";
        if is_test && line.contains(PAUSE) {
            let what = format!("{PAUSE}) in a test: wait for the event itself with testkit::eventually");
            problems.push(Problem::new(file, number, what));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(file: &str, text: &str) -> Vec<(usize, String)> {
        let (tree, _dir) = Tree::fixture(&[(file, text)]);
        let found = check(&tree, None).unwrap();
        found.into_iter().map(|problem| (problem.line, problem.what)).collect()
    }

    #[test]
    fn unfinished_code_is_found() {
        for (what, _) in UNFINISHED {
            assert_eq!(problems("crates/a/src/lib.rs", &format!("fn a() {{\n    {what}\n}}")).len(), 1, "{what}");
            assert_eq!(problems("README.md", what), [], "only code is code");
        }
    }

    #[test]
    fn pauses_are_for_the_product_not_for_tests() {
        let pause = format!("{PAUSE}1)\n");
        assert_eq!(problems("crates/a/src/lib.rs", &pause), []);
        assert_eq!(problems("crates/a/src/lib.rs", &format!("{pause}#[cfg(test)]\n{pause}")).len(), 1);
        assert_eq!(problems("crates/a/src/b/tests.rs", &pause).len(), 1);
        assert_eq!(problems("crates/a/tests/b.rs", &pause).len(), 1);
    }

    #[test]
    fn large_files_are_found() {
        let large = "x".repeat(usize::try_from(FILE_BYTES).unwrap() + 1);
        assert!(problems("a.txt", &large)[0].1.contains("2097153 bytes"));
    }

    #[test]
    fn paths_that_are_there_on_this_machine_are_found() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("project")).unwrap();
        let home = home.path().to_str().unwrap();
        let text = format!("ls\ncd {home}/project/x\ncat {home}/other {home}more/project mem:/{home}/x\n");
        let (tree, _dir) = Tree::fixture(&[("a.sh", &text)]);
        let found = check(&tree, Some(home)).unwrap();
        assert_eq!(found.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2]);
    }
}
