//! The checkout as the checks see it: a root and the files that belong to it.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Tree {
    root: PathBuf,
    /// Relative to the root, with `/`, in order.
    files: Vec<String>,
}

/// The directory of the workspace: the current one, or the next above it with an `xtask`.
pub fn root() -> Result<PathBuf> {
    let here = std::env::current_dir().context("find the current directory")?;
    let root = here.ancestors().find(|dir| dir.join("xtask/Cargo.toml").is_file());
    root.map(Path::to_owned).with_context(|| format!("{} is not inside the checkout", here.display()))
}

/// Where cargo builds the checkout.
pub fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

impl Tree {
    /// What git tracks, or would if it were added.
    pub fn of_git(root: &Path) -> Result<Tree> {
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
        let output = git.output().context("run git ls-files")?;
        if !output.status.success() {
            bail!("git ls-files in {}: {}", root.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        let names = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
        let files = names.split('\0').filter(|name| !name.is_empty() && root.join(name).is_file());
        Ok(Tree::new(root, files.map(str::to_owned).collect()))
    }

    fn new(root: &Path, mut files: Vec<String>) -> Tree {
        files.sort();
        files.dedup();
        Tree { root: root.to_owned(), files }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    pub fn bytes_of(&self, file: &str) -> Result<u64> {
        Ok(fs::metadata(self.root.join(file)).with_context(|| format!("look at {file}"))?.len())
    }

    /// The text of a file; None if it is not UTF-8.
    pub fn text(&self, file: &str) -> Result<Option<String>> {
        let bytes = fs::read(self.root.join(file)).with_context(|| format!("read {file}"))?;
        Ok(String::from_utf8(bytes).ok())
    }

    /// Whether a file or directory stands at this path below the root.
    pub fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// A tree in a temporary directory, for tests of the checks.
    #[cfg(test)]
    pub fn fixture(files: &[(&str, &str)]) -> (Tree, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let names = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        (Tree::new(dir.path(), names), dir)
    }
}
