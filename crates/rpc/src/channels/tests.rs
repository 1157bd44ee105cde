use super::*;
use crate::ClusterKey;
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use testkit::Chance;
use testkit::damage::{copy_tree, damage};

fn user(channels: &Channels, id: &str) -> Option<String> {
    channels.user_of(id).map(|user| user.to_string())
}

#[test]
fn a_pair_outlives_its_handshake_and_the_process() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("channels");
    let channels = Channels::open(&path).expect("a new file");
    let registration = channels.register("id-1", "ann").expect("free");
    assert_eq!(channels.open_count(), 1);
    drop(registration);
    assert_eq!(channels.open_count(), 0);
    assert_eq!(user(&channels, "id-1").as_deref(), Some("ann"));
    // No goodbye: the file is read as a killed process leaves it.
    let again = Channels::open(&path).expect("our file");
    assert_eq!(user(&again, "id-1").as_deref(), Some("ann"));
    assert_eq!(user(&again, "id-2"), None);
}

#[test]
fn an_open_id_cannot_be_taken_by_another_user() {
    let channels = Channels::in_memory();
    let first = channels.register("id", "ann").expect("free");
    let second = channels.register("id", "ann").expect("the same user again");
    assert_eq!(channels.register("id", "bob").map(|_| ()), Err(Refused::Taken("id".into())));
    drop(first);
    assert_eq!(channels.register("id", "bob").map(|_| ()), Err(Refused::Taken("id".into())));
    drop(second);
    let _bob = channels.register("id", "bob").expect("free again");
    assert_eq!(user(&channels, "id").as_deref(), Some("bob"));
}

#[test]
fn only_the_last_pairs_are_kept_in_memory_and_on_disk() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("channels");
    let channels = Channels::open_with(&path, 10).expect("a new file");
    let mut longest = 0;
    for number in 0..100 {
        drop(channels.register(&format!("id-{number}"), "ann").expect("free"));
        longest = longest.max(fs::metadata(&path).expect("there").len());
    }
    assert_eq!(channels.known_count(), 10);
    assert_eq!(user(&channels, "id-89"), None);
    let again = Channels::open_with(&path, 10).expect("our file");
    assert_eq!(again.known_count(), 10);
    assert_eq!(user(&again, "id-90").as_deref(), Some("ann"));
    assert!(longest < 19 + 22 * 20, "{longest} bytes");
}

#[test]
fn the_last_user_of_an_id_counts() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("channels");
    let channels = Channels::open(&path).expect("a new file");
    drop(channels.register("id", "ann").expect("free"));
    drop(channels.register("id", "bob").expect("free"));
    assert_eq!(user(&Channels::open(&path).expect("our file"), "id").as_deref(), Some("bob"));
}

#[test]
fn a_torn_tail_is_dropped_at_every_byte() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("channels");
    let channels = Channels::open(&path).expect("a new file");
    drop(channels.register("id-1", "ann").expect("free"));
    let one = fs::read(&path).expect("there").len();
    drop(channels.register("id-2", "bob").expect("free"));
    let whole = fs::read(&path).expect("there");
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).expect("write");
        let again = Channels::open(&path).expect("a torn file is not an error");
        assert_eq!(again.known_count(), usize::from(cut >= one), "cut at {cut}");
        // And what comes next is whole.
        drop(again.register("id-3", "cy").expect("free"));
        assert_eq!(user(&Channels::open(&path).expect("our file"), "id-3").as_deref(), Some("cy"), "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_ends_the_file_there() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("channels");
    let channels = Channels::open(&path).expect("a new file");
    drop(channels.register("id-1", "ann").expect("free"));
    let one = fs::read(&path).expect("there").len();
    drop(channels.register("id-2", "bob").expect("free"));
    let mut bytes = fs::read(&path).expect("there");
    bytes[one + 9] ^= 4;
    fs::write(&path, &bytes).expect("write");
    assert_eq!(Channels::open(&path).expect("our file").known_count(), 1);
}

#[test]
fn a_file_of_something_else_is_not_overwritten() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("channels");
    fs::write(&path, "precious words of somebody else").expect("write");
    let error = Channels::open(&path).expect_err("not ours");
    assert!(error.to_string().contains("is no channel file of this release; move it away"), "{error}");
    assert_eq!(fs::read(&path).expect("there"), b"precious words of somebody else");
}

/// What stands in the two small files that master and worker keep beside their data. Error: why one of them is refused.
fn opened(dir: &Path) -> Result<(Arc<Channels>, ClusterKey), String> {
    let channels = Channels::open(&dir.join("channels")).map_err(|why| why.to_string())?;
    let key = ClusterKey::load(&dir.join("key")).map_err(|why| why.to_string())?;
    Ok((channels, key))
}

#[test]
fn damaged_channels_and_keys_are_refused_by_name_or_forgotten_and_never_another_users() {
    let dir = TempDir::new().expect("a directory");
    let whole = dir.path().join("whole");
    fs::create_dir_all(&whole).expect("made");
    let key = ClusterKey::create(&whole.join("key")).expect("a new file");
    let channels = Channels::open(&whole.join("channels")).expect("a new file");
    for number in 0..50 {
        drop(channels.register(&format!("id-{number}"), &format!("user-{number}")).expect("free"));
    }
    let (mut refused, mut forgot) = (0, 0);
    for seed in 0..10 * testkit::rounds(10) {
        let copy = dir.path().join(format!("seed-{seed}"));
        copy_tree(&whole, &copy).expect("copied");
        let done = damage(&copy, &mut Chance::new(seed)).expect("files").expect("one with bytes");
        match opened(&copy) {
            Err(why) => {
                assert!(why.contains(copy.to_str().expect("a plain name")), "{done}: it does not say where: {why}");
                refused += 1;
            }
            Ok((channels, found)) => {
                assert!(found.group_id() == key.group_id(), "{done}: another key");
                let known = (0..50).map(|number| (user(&channels, &format!("id-{number}")), format!("user-{number}")));
                for (found, expected) in known {
                    assert!(found.as_ref().is_none_or(|found| *found == expected), "{done}: {found:?} for {expected}");
                    forgot += u64::from(found.is_none());
                }
                // It is not only for reading.
                drop(channels.register("later", "ann").expect("free"));
                assert_eq!(user(&channels, "later").as_deref(), Some("ann"));
            }
        }
        fs::remove_dir_all(&copy).expect("removed");
    }
    assert!(refused > 0 && forgot > 0, "{refused} are refused, {forgot} are forgotten");
}
