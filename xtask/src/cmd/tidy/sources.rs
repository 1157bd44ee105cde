//! What must not stand in any file.

use super::Problem;
use crate::tree::Tree;
use anyhow::Result;

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
    let here = format!("{}/", tree.root().display());
    let home = home.filter(|home| home.len() > 1).map(|home| format!("{}/", home.trim_end_matches('/')));
    let mut problems = Vec::new();
    for file in tree.files() {
        let bytes = tree.bytes_of(file)?;
        if bytes > FILE_BYTES {
            problems.push(Problem::new(file, 0, format!("has {bytes} bytes; the limit is {FILE_BYTES}")));
            continue;
        }
        let Some(text) = tree.text(file)? else { continue };
        for (number, line) in (1..).zip(text.lines()) {
            if line.contains(&here) || home.as_ref().is_some_and(|home| line.contains(home.as_str())) {
                problems.push(Problem::new(file, number, "names a path of this machine"));
            }
        }
        if file.ends_with(".rs") {
            problems.extend(check_rust(file, &text));
        }
    }
    Ok(problems)
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
        let found = check(&tree, Some("/home/somebody")).unwrap();
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
    fn machine_paths_and_large_files_are_found() {
        assert_eq!(problems("a.sh", "ls\ncd /home/somebody/x\n"), [(2, "names a path of this machine".to_owned())]);
        assert_eq!(problems("a.sh", "cd /home/somebodyelse/x\n"), []);
        let large = "x".repeat(usize::try_from(FILE_BYTES).unwrap() + 1);
        assert!(problems("a.txt", &large)[0].1.contains("2097153 bytes"));
    }
}
