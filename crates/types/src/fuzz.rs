//! Paths, names and fingerprints as strangers may spell them.

use crate::{Fingerprint, GfsPath, MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES, Name};
use testkit::fuzz::fuzz;

fn samples(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn fuzz_path() {
    fuzz("path", &samples(&["/", "/a/b//c/", "/name with blanks/\u{fc}.txt", "/a/../b", "//./x"]), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(path) = GfsPath::parse(&text) else { return };
        let shown = path.as_str();
        assert!(shown.starts_with('/') && shown.len() <= MAX_PATH_BYTES && path.depth() <= MAX_DEPTH);
        assert!(path.names().all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0')));
        assert_eq!(GfsPath::parse(shown).as_ref(), Ok(&path), "what it shows leads back");
    });
}

#[test]
fn fuzz_name() {
    fuzz("name", &samples(&["a", "..", "a/b", "\u{fc}", "x\0"]), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(name) = Name::new(&text) else { return };
        assert!(!name.as_str().contains(['/', '\0']) && !matches!(name.as_str(), "" | "." | ".."));
        assert!(name.as_str().len() <= MAX_NAME_BYTES);
    });
}

#[test]
fn fuzz_fingerprint() {
    fuzz("fingerprint", &samples(&["etag:9b2c-3", "version:a:b", "stamp:-5:17"]), |bytes| {
        let Some(found) = Fingerprint::parse(&String::from_utf8_lossy(bytes)) else { return };
        assert_eq!(Fingerprint::parse(&found.to_string()), Some(found));
    });
}
