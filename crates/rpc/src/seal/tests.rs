use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;
use types::ErrorKind;

fn directory() -> TempDir {
    TempDir::new().expect("a directory")
}

fn transcript() -> Transcript {
    Transcript { versions: (1, 1), cluster: vec![3; 16], incarnation: 7, worker: [1; 32], master: [2; 32] }
}

#[test]
fn a_key_file_is_private_and_leads_back() {
    let dir = directory();
    let path = dir.path().join("key");
    let key = ClusterKey::create(&path).expect("a new key");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o600);
    let sealed = key.seal(b"hunter2", b"mount-secret");
    let again = ClusterKey::load(&path).expect("our file");
    assert_eq!(again.open(&sealed, b"mount-secret").expect("ours").expose(), b"hunter2");
    assert_eq!(ClusterKey::create(&path).expect_err("kept").kind(), ErrorKind::AlreadyExists);
    assert!(again.open(&sealed, b"mount-secret").is_ok());
}

#[test]
fn every_bad_key_file_has_its_sentence() {
    let dir = directory();
    let path = dir.path().join("key");
    let says = |what: &str, kind: ErrorKind| {
        let error = ClusterKey::load(&path).expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(error.kind(), kind, "{error}");
    };
    says("does not exist; make it with `goosefs format`", ErrorKind::NotFound);
    ClusterKey::create(&path).expect("a new key");
    let text = fs::read_to_string(&path).expect("there");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
    says("(mode 640); make it private: chmod 600", ErrorKind::Denied);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::write(&path, &text[..text.len() - 12]).expect("write");
    says("its key has 62 digits, 64 are needed", ErrorKind::Corrupt);
    fs::write(&path, "").expect("write");
    says("it does not begin with goosefs-cluster-key-1", ErrorKind::Corrupt);
    fs::write(&path, [0xff, 0xfe]).expect("write");
    says("it is no text", ErrorKind::Corrupt);
    fs::write(&path, format!("goosefs-cluster-key-1 {}", "+1".repeat(32))).expect("write");
    says("its key is not hexadecimal", ErrorKind::Corrupt);
    fs::write(&path, format!("{text}more")).expect("write");
    says("its checksum is wrong", ErrorKind::Corrupt);
}

#[test]
fn a_flipped_bit_makes_no_other_key_and_a_file_of_the_first_release_is_read() {
    let dir = directory();
    let path = dir.path().join("key");
    let key = ClusterKey::create(&path).expect("a new key");
    let text = fs::read(&path).expect("there");
    let is_the_same = |loaded: &ClusterKey| loaded.group_id() == key.group_id();
    for at in 0..text.len() * 8 {
        let mut bytes = text.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        fs::write(&path, &bytes).expect("write");
        match ClusterKey::load(&path) {
            Ok(loaded) => assert!(is_the_same(&loaded), "bit {at}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}"),
        }
    }
    let first = String::from_utf8(text).expect("text").rsplit_once(' ').expect("a checksum").0.to_owned();
    fs::write(&path, format!("{first}\n")).expect("write");
    assert!(is_the_same(&ClusterKey::load(&path).expect("as the first release wrote it")));
}

#[test]
fn what_was_sealed_opens_only_with_its_key_and_context() {
    let dir = directory();
    let key = ClusterKey::create(&dir.path().join("one")).expect("a new key");
    let other = ClusterKey::create(&dir.path().join("two")).expect("a new key");
    let sealed = key.seal(b"hunter2", b"here");
    assert_ne!(sealed, key.seal(b"hunter2", b"here"), "a nonce of its own");
    assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
    assert!(key.open(&sealed, b"there").is_err());
    assert!(other.open(&sealed, b"here").is_err());
    for at in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1;
        assert!(key.open(&damaged, b"here").is_err(), "byte {at}");
        assert!(key.open(&sealed[..at], b"here").is_err(), "cut at {at}");
    }
    assert_eq!(key.open(&key.seal(b"", b""), b"").expect("empty is fine").expose(), b"");
    let error = other.open(&sealed, b"here").expect_err("another key");
    assert!(error.to_string().contains("open the sealed here: it was sealed with another key"), "{error}");
}

/// Made with another implementation of the same standards. Sealed secrets rest in the journal and in snapshots: what an older release sealed must open.
#[test]
fn golden_sealed_bytes_open() {
    let key = ClusterKey::from_key(Key([9; KEY_BYTES]));
    let sealed = hex("01000102030405060708090a0b549d25d3eca443f6be0237a79fcaeb3ba9e84de02bbb69");
    assert_eq!(key.open(&sealed, b"golden").expect("an old seal").expose(), b"hunter2");
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

#[test]
fn both_sides_prove_themselves_and_then_share_a_key() {
    let dir = directory();
    let path = dir.path().join("key");
    let master = ClusterKey::create(&path).expect("a new key").token();
    let worker = WorkerToken::load(&path).expect("the key file itself");
    let seen = transcript();
    master.verify(Side::Worker, &seen, &worker.prove(Side::Worker, &seen)).expect("the worker holds it");
    worker.verify(Side::Master, &seen, &master.prove(Side::Master, &seen)).expect("the master holds it");
    let sealed = master.session(&seen).seal(b"secret key", b"mount-3");
    assert_eq!(worker.session(&seen).open(&sealed, b"mount-3").expect("one session").expose(), b"secret key");
    let later = Transcript { worker: [8; 32], ..seen };
    assert!(worker.session(&later).open(&sealed, b"mount-3").is_err(), "another session, another key");
}

#[test]
fn a_token_file_does_for_a_worker_and_not_for_a_master() {
    let dir = directory();
    let (key_path, token_path) = (dir.path().join("key"), dir.path().join("token"));
    let key = ClusterKey::create(&key_path).expect("a new key");
    key.token().create(&token_path).expect("a new token");
    let token = WorkerToken::load(&token_path).expect("our file");
    let seen = transcript();
    key.token().verify(Side::Worker, &seen, &token.prove(Side::Worker, &seen)).expect("made from the key");
    assert!(ClusterKey::load(&token_path).is_err());
    assert!(
        !fs::read_to_string(&token_path)
            .expect("there")
            .contains(fs::read_to_string(&key_path).expect("there").split(' ').nth(1).expect("the key").trim_end())
    );
}

#[test]
fn a_proof_of_another_side_key_or_transcript_is_wrong() {
    let dir = directory();
    let token = ClusterKey::create(&dir.path().join("one")).expect("a new key").token();
    let other = ClusterKey::create(&dir.path().join("two")).expect("a new key").token();
    let seen = transcript();
    let proof = token.prove(Side::Worker, &seen);
    assert!(token.verify(Side::Master, &seen, &proof).is_err(), "a reflected proof");
    assert!(other.verify(Side::Worker, &seen, &proof).is_err());
    assert!(token.verify(Side::Worker, &seen, &proof[..31]).is_err());
    assert!(token.verify(Side::Worker, &seen, &[]).is_err());
    for changed in [
        Transcript { versions: (1, 2), ..seen.clone() },
        Transcript { cluster: vec![4; 16], ..seen.clone() },
        Transcript { incarnation: 8, ..seen.clone() },
        Transcript { worker: [9; 32], ..seen.clone() },
        Transcript { master: [9; 32], ..seen.clone() },
    ] {
        assert!(token.verify(Side::Worker, &changed, &proof).is_err(), "{changed:?}");
    }
    let error = token.verify(Side::Master, &seen, &proof).expect_err("wrong");
    assert_eq!(
        error.to_string(),
        "the master does not hold this cluster's key: its proof is wrong; give both sides the same key file"
    );
    assert!(Transcript::read_challenge(&[0; 31]).is_err());
    assert_ne!(Transcript::challenge(), Transcript::challenge());
}

#[test]
fn keys_are_not_printed() {
    let dir = directory();
    let key = ClusterKey::create(&dir.path().join("one")).expect("a new key");
    assert_eq!(format!("{key:?} {:?}", key.token()), "ClusterKey(hidden) WorkerToken(hidden)");
}

#[test]
fn masters_prove_themselves_with_what_no_worker_has_and_agree_on_an_id() {
    let dir = directory();
    let path = dir.path().join("one");
    let key = ClusterKey::create(&path).expect("a new key");
    let seen = transcript();
    let proof = key.peer_token().prove(Side::Worker, &seen);
    assert!(key.token().verify(Side::Worker, &seen, &proof).is_err());
    assert_eq!(key.group_id(), ClusterKey::load(&path).expect("the file").group_id());
    assert_ne!(key.group_id(), ClusterKey::create(&dir.path().join("two")).expect("a new key").group_id());
}

#[test]
fn fuzz_sealed() {
    let key = ClusterKey::from_key(Key([7; KEY_BYTES]));
    let sealed = key.seal(b"hunter2", b"here");
    testkit::fuzz::fuzz("sealed", std::slice::from_ref(&sealed), |bytes| {
        assert!(key.open(bytes, b"here").is_err() || bytes == sealed, "only what was sealed opens");
    });
}
