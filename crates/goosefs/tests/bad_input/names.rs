//! Paths that cannot be: too long, too deep, names that are none.

use super::{goes_on, program, run, says};
use crate::support::Local;
use goosefs_sdk::FileSystemContext;
use goosefs_sdk::config::GoosefsConfig;
use goosefs_sdk::error::Error;
use goosefs_sdk::io::GoosefsFileWriter;

fn ten_thousand_characters() -> String {
    format!("/{}", "directory/".repeat(999) + "123456789")
}

fn thousand_levels() -> String {
    "/d".repeat(1000)
}

#[test]
fn commands_refuse_paths_that_are_too_long_or_too_deep() {
    let (long, deep) = (ten_thousand_characters(), thousand_levels());
    assert_eq!(long.len(), 10_000);
    let name = format!("/{}", "x".repeat(300));
    for command in ["ls", "stat", "cat", "mkdir", "rm"] {
        for (path, words) in [
            (&long, &["10000 bytes", "longer than 4096", "use shorter names or fewer levels"][..]),
            (&deep, &["1000 levels", "at most", "are allowed"]),
            (&name, &["300 bytes", "at most 255"]),
        ] {
            let (code, said) = run(program().args(["fs", command, path]));
            assert_eq!(code, 2, "{said}");
            says(&said, words);
        }
    }
}

/// Every call with a path, as the official client makes it: it checks nothing itself.
#[test]
fn the_master_refuses_what_cannot_be_a_path() {
    let dir = tempfile::tempdir().expect("a directory");
    let local = Local::start(dir.path());
    super::block_on(async {
        let config = GoosefsConfig::new(local.master_addr().to_string()).with_auth_username("root");
        let context = FileSystemContext::connect(config).await.expect("connects");
        let master = context.acquire_master();
        master.create_directory("/there", true).await.expect("made");
        for (path, words) in [
            (ten_thousand_characters(), &["10000 bytes", "longer than 4096", "use shorter names"][..]),
            (thousand_levels(), &["1000 levels", "at most"]),
            (format!("/{}", "x".repeat(300)), &["300 bytes", "at most 255"]),
            ("/a\0b".to_owned(), &["\"a\\0b\"", "nor NUL"]),
            ("/there/../other".to_owned(), &["\"..\"", "not . or .."]),
            ("/there/./other".to_owned(), &["\".\"", "not . or .."]),
            ("there".to_owned(), &["\"there\"", "not absolute", "begin it with /"]),
            (String::new(), &["empty", "an absolute path such as"]),
        ] {
            let refused = [
                master.get_status(&path).await.map(drop),
                master.list_status(&path, false).await.map(drop),
                master.create_directory(&path, true).await,
                GoosefsFileWriter::create_with_context(context.clone(), &path, None).await.map(drop),
                master.delete(&path, true).await,
                master.rename(&path, "/there/new").await,
                master.rename("/there", &path).await,
                master.schedule_async_persistence(&path, None).await,
            ];
            for (call, result) in refused.into_iter().enumerate() {
                let error = result.expect_err("refused");
                assert!(matches!(error, Error::InvalidArgument { .. }), "call {call}: {error:?}");
                says(&error.to_string(), words);
                assert!(error.to_string().len() < 1000, "a path of 10,000 characters is not repeated");
            }
        }
        assert_eq!(master.list_status("/", true).await.expect("listed").len(), 1, "only what was there before");
        // What just fits is taken.
        let name = "n".repeat(255);
        master.create_directory(&format!("/{name}"), true).await.expect("made");
        master.delete(&format!("/{name}"), false).await.expect("removed");
        goes_on(&local).await;
    });
}
