//! `fs du -m`: what workers hold in memory.

use super::support::Local;
use super::{number, said};

#[test]
fn du_tells_what_is_in_memory_by_file_and_by_worker() {
    let dir = tempfile::tempdir().expect("a directory");
    let (home, file) = (dir.path(), dir.path().join("file"));
    std::fs::write(&file, vec![7; 300_000]).expect("written");
    let file = file.to_str().expect("a plain name");
    for (alias, in_memory) in [("MEM", "300000 (100%)"), ("SSD", "0 (0%)")] {
        let medium = format!("goosefs.worker.tieredstore.level0.alias={alias}");
        let local = Local::start_with(&dir.path().join(alias), &[&medium]);
        said(&local, home, &["fs", "copyFromLocal", file, "/f"]);
        let shown = said(&local, home, &["fs", "du", "-m", "/f"]);
        let head = "File Size     In GooseFS       In Memory        Path";
        assert_eq!(shown, format!("{head}\n300000        300000 (100%)    {in_memory:<16} /f\n"));
        let shown = said(&local, home, &["fs", "du", "-g", "-m", "/f"]);
        let bytes = in_memory.split(' ').next().expect("a number");
        let worker = format!("{:<13} {:<16} {bytes:<16}   {}\n", "", "300000", local.worker_addr());
        assert!(shown.ends_with(&worker), "{shown}");
        let shown = said(&local, home, &["fs", "du", "-m", "-s", "--json", "/"]);
        assert_eq!((number(&shown, "cachedBytes"), number(&shown, "memoryBytes").to_string()), (300_000, bytes.into()));
    }
}
