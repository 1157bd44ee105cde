//! What every [`Disk`] must do. Implementations call these from their tests.

use super::{Aligned, Disk, DiskFile};
use std::io::ErrorKind;
use std::path::Path;

/// Runs the whole suite in `dir`, which need not exist. Panics with the rule that was broken.
pub fn disk<D: Disk>(disk: &D, dir: &Path) {
    assert_eq!(disk.list(dir).expect_err("no such directory yet").kind(), ErrorKind::NotFound);
    disk.create_dir(dir).expect("a directory can be made");
    disk.create_dir(dir).expect("making it again is fine");
    files(disk, dir);
    names(disk, dir);
    locks(disk, dir);
}

fn files<D: Disk>(disk: &D, dir: &Path) {
    let path = dir.join("file");
    assert_eq!(disk.open(&path).err().expect("nothing to open").kind(), ErrorKind::NotFound);
    let file = disk.create(&path).expect("a free name");
    assert_eq!(disk.create(&path).err().expect("taken").kind(), ErrorKind::AlreadyExists);
    file.allocate(8192).expect("room");
    file.allocate(4096).expect("shrinking is not what allocate does");
    assert_eq!(file.len_bytes().expect("a length"), 8192);
    let mut buf = [1; 100];
    file.read_at(&mut buf, 8000).expect("allocated bytes are readable");
    assert_eq!(buf, [0; 100], "and zero");
    file.write_at(b"hello", 8190).expect("a write past the end grows the file");
    file.sync().expect("a sync");
    assert_eq!(file.len_bytes().expect("a length"), 8195);
    let again = disk.open(&path).expect("an existing file");
    through(&again, &file);
    again.read_at(&mut buf[..5], 8190).expect("written bytes");
    assert_eq!(&buf[..5], b"hello");
    assert_eq!(again.read_at(&mut buf, 8190).expect_err("short").kind(), ErrorKind::UnexpectedEof);
}

/// What one handle writes through, another one reads, though it has read what was there before.
fn through<F: DiskFile>(writer: &F, reader: &F) {
    let mut sectors = Aligned::default();
    let mut buf = [1; 1024];
    for byte in [3, 4] {
        reader.read_at(&mut buf, 512).expect("written bytes");
        let bytes = sectors.fill(512, |out| out.extend([byte; 512]));
        writer.write_through(bytes, 1024).expect("a whole sector");
        reader.read_at(&mut buf, 512).expect("written bytes");
        assert_eq!((&buf[..512], &buf[512..]), (&[0; 512][..], &[byte; 512][..]));
    }
    writer.write_through(&[5; 5], 1030).expect("no whole sector, and not where one begins");
    writer.write_through(&[6; 512], 512).expect("and whole ones after that");
    writer.sync().expect("a sync");
    reader.read_at(&mut buf, 512).expect("written bytes");
    assert_eq!((&buf[..512], &buf[512..518]), (&[6; 512][..], &[4; 6][..]));
    assert_eq!((&buf[518..523], &buf[523..]), (&[5; 5][..], &[4; 501][..]));
}

fn names<D: Disk>(disk: &D, dir: &Path) {
    let (old, new) = (dir.join("file"), dir.join("other"));
    let handle = disk.open(&old).expect("an existing file");
    disk.rename(&old, &new).expect("a free name");
    disk.sync_dir(dir).expect("a directory sync");
    assert_eq!(disk.list(dir).expect("a listing"), ["other"]);
    handle.read_at(&mut [0; 5], 8190).expect("handles outlive a rename");
    disk.remove(&new).expect("an existing file");
    assert_eq!(disk.remove(&new).expect_err("gone").kind(), ErrorKind::NotFound);
    disk.sync_dir(dir).expect("a directory sync");
}

fn locks<D: Disk>(disk: &D, dir: &Path) {
    let path = dir.join("lock");
    let held = disk.lock(&path).expect("free");
    assert_eq!(disk.lock(&path).err().expect("held").kind(), ErrorKind::WouldBlock);
    drop(held);
    drop(disk.lock(&path).expect("free again"));
}

#[cfg(test)]
mod tests {
    use crate::disk::{RealDisk, SimDisk};

    #[test]
    fn real_files_conform() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        super::disk(&RealDisk, &dir.path().join("journal"));
    }

    #[test]
    fn the_simulated_disk_conforms() {
        super::disk(&SimDisk::new(), std::path::Path::new("/journal"));
    }
}
