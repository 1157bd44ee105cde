//! Disks that are full or fail, in a mount namespace that nobody else sees.
//!
//! Is:     a test run again in a child with mounts of its own; small file systems in memory and on a loop device.
//! Owns:   the child; what it mounted goes with it.
//! Never:  changes a mount of the machine.

use std::path::Path;
use std::process::Command;

/// Set in a child that has mounts of its own.
const OWN: &str = "TESTKIT_OWN_MOUNTS";

/// Runs the test `name` again in a child that may mount and unmount file systems in memory. Needs no privilege.
pub fn own(name: &str, body: impl FnOnce() + Send) {
    run(&["--map-root-user", "--mount"], name, body);
}

/// The same with loop devices, which only the machine's superuser has: false without that, and nothing was run.
pub fn own_with_loops(name: &str, body: impl FnOnce() + Send) -> bool {
    let superuser = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let available = superuser && Path::new("/dev/loop-control").exists();
    if available {
        run(&["--mount"], name, body);
    }
    available
}

fn run(how: &[&str], name: &str, body: impl FnOnce() + Send) {
    if std::env::var_os(OWN).is_some() {
        // Ports of its own, too: other tests of the program look for free ones at the same time.
        return crate::netns::isolated(body).expect("who may mount may have a network");
    }
    let output = Command::new("unshare")
        .args(how)
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture"])
        .env(OWN, "yes")
        .output()
        .expect("unshare starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
    print!("{out}");
}

/// Mounts an empty file system of `mib` MiB in memory there.
pub fn in_memory(at: &Path, mib: u64) {
    std::fs::create_dir_all(at).expect("a directory");
    succeeds(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(at));
}

/// Has the existing file `at` hold `text`, for this child alone; `dir` is a directory of the test's own.
pub fn over(at: &Path, dir: &Path, text: &str) {
    let file = dir.join(at.file_name().expect("a file has a name"));
    std::fs::write(&file, text).expect("written");
    succeeds(Command::new("mount").arg("--bind").arg(&file).arg(at));
}

/// Makes an ext4 of `mib` MiB in the file `image` and mounts it there.
pub fn ext4(image: &Path, at: &Path, mib: u64) {
    std::fs::File::create(image).and_then(|file| file.set_len(mib << 20)).expect("a file of its own");
    succeeds(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image));
    std::fs::create_dir_all(at).expect("a directory");
    mount_image(image, at);
}

/// Has the ext4 there break off: from now on it is read-only, whatever was open for writing.
pub fn abort(at: &Path) {
    succeeds(Command::new("mount").args(["-o", "remount,abort"]).arg(at));
}

/// Mends an ext4 that broke off and is not in use any more.
pub fn mend(image: &Path, at: &Path) {
    succeeds(Command::new("umount").arg(at));
    // 1: it was corrected.
    let status = Command::new("e2fsck").args(["-f", "-y"]).arg(image).stdout(std::process::Stdio::null()).status();
    assert!(status.expect("e2fsck starts").code().is_some_and(|code| code <= 1), "{} is mended", image.display());
    mount_image(image, at);
}

fn mount_image(image: &Path, at: &Path) {
    succeeds(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(image).arg(at));
}

fn succeeds(command: &mut Command) {
    let status = command.status().expect("it starts");
    assert!(status.success(), "{command:?} ended with {status}");
}

/// Takes all the room that is left on the file system of `file`.
pub fn fill(file: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(file).expect("made");
    for piece in [64 << 10, 4 << 10] {
        let zeros = vec![0; piece];
        while file.write_all(&zeros).is_ok() {}
    }
}
