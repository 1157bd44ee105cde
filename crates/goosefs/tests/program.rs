//! The program itself: what it prints and how it exits, without a cluster.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs the program with a bare environment and no site file but `conf`'s.
fn goosefs(conf: Option<&Path>, variables: &[(&str, &str)], args: &[&str]) -> Output {
    let home = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_goosefs"));
    command.args(args).env_clear().env("HOME", home.path()).env("TZ", "UTC").current_dir(home.path());
    if let Some(conf) = conf {
        command.env("GOOSEFS_CONF_DIR", conf);
    }
    command.envs(variables.iter().copied()).output().expect("the program starts")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one line on standard error.
fn sentence(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "one sentence: {text}");
    text.trim_end().to_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it exits by itself")
}

fn site(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("goosefs-site.properties"), text).expect("written");
    dir
}

#[test]
fn version_prints_the_release() {
    let output = goosefs(None, &[], &["version"]);
    assert_eq!((code(&output), out(&output)), (0, format!("{}\n", env!("CARGO_PKG_VERSION"))));
    let output = goosefs(None, &[], &["version", "--json"]);
    assert_eq!(out(&output), format!("{{\"version\":\"{}\"}}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_is_no_failure_and_wrong_calls_exit_with_2() {
    let output = goosefs(None, &[], &["fs", "ls", "--help"]);
    assert_eq!(code(&output), 0);
    assert!(out(&output).contains("Examples:"), "{}", out(&output));
    for wrong in [
        &["fs", "ls"][..],
        &["fs", "list", "/"],
        &["fs", "ls", "relative/path"],
        &["fs", "chmod", "999", "/x"],
        &["fs", "test", "/x"],
        &["ns", "create", "a", "s3://b", "--wPolicy", "7"],
        &["-Dnovalue", "version"],
        &["fs", "ls", "/a/../b"],
        &[],
    ] {
        let output = goosefs(None, &[], wrong);
        assert_eq!(code(&output), 2, "{wrong:?}");
        assert!(out(&output).is_empty() && !output.stderr.is_empty(), "{wrong:?}");
    }
    let long = format!("/{}", "x".repeat(10_000));
    let output = goosefs(None, &[], &["fs", "ls", &long]);
    assert_eq!(code(&output), 2);
    assert!(String::from_utf8_lossy(&output.stderr).contains("longer than 4096"));
}

#[test]
fn get_conf_shows_values_sources_and_no_secrets() {
    let conf = site("goosefs.master.rpc.port=9300\nfs.cosn.userinfo.secretKey=hunter2\n");
    let output = goosefs(Some(conf.path()), &[], &["getConf", "goosefs.master.rpc.port"]);
    assert_eq!((code(&output), out(&output)), (0, "9300\n".into()));
    let variables = [("GOOSEFS_MASTER_RPC_PORT", "9400")];
    let output = goosefs(Some(conf.path()), &variables, &["getConf", "--source", "goosefs.master.rpc.port"]);
    assert_eq!(out(&output), "9400 (environment variable GOOSEFS_MASTER_RPC_PORT)\n");
    let output =
        goosefs(Some(conf.path()), &variables, &["-Dgoosefs.master.rpc.port=1", "getConf", "--source", "--json"]);
    assert!(
        out(&output).contains("\"goosefs.master.rpc.port\": {\n    \"source\": \"-D\",\n    \"value\": \"1\"\n"),
        "{}",
        out(&output)
    );
    assert!(out(&output).contains("fs.cosn.userinfo.secretKey") && !out(&output).contains("hunter2"));
    let output = goosefs(Some(conf.path()), &[], &["getConf", "fs.cosn.userinfo.secretKey"]);
    assert_eq!(out(&output), "******\n");
}

#[test]
fn unknown_keys_are_named_with_the_nearest() {
    let output = goosefs(None, &[], &["getConf", "goosefs.master.rcp.port"]);
    assert_eq!(code(&output), 1);
    assert_eq!(
        sentence(&output),
        "goosefs: setting goosefs.master.rcp.port is not known; the nearest known one is goosefs.master.rpc.port"
    );
    let conf = site("\ngoosefs.worker.tieredstore.level0.dirs.qouta=1GB\n");
    let output = goosefs(Some(conf.path()), &[], &["worker"]);
    assert_eq!(code(&output), 1);
    let file = conf.path().join("goosefs-site.properties");
    let said = sentence(&output);
    assert!(
        said.starts_with(&format!("goosefs: setting goosefs.worker.tieredstore.level0.dirs.qouta ({}:2) is not known; the nearest known one is goosefs.worker.tieredstore.level{{x}}.dirs.quota", file.display())),
        "{said}"
    );
}

#[test]
fn a_bad_value_stops_everything_with_its_place() {
    let conf = site("goosefs.user.file.writetype.default=CACHE_TROUGH\n");
    let output = goosefs(Some(conf.path()), &[], &["fs", "ls", "/"]);
    assert_eq!(code(&output), 1);
    let said = sentence(&output);
    assert!(said.contains("\"CACHE_TROUGH\"") && said.contains("goosefs-site.properties:1"), "{said}");
    assert!(
        said.ends_with("expected one of MUST_CACHE, TRY_CACHE, CACHE_THROUGH, THROUGH, ASYNC_THROUGH, NONE"),
        "{said}"
    );
}

#[test]
fn no_master_is_a_sentence_with_the_address_and_what_to_do() {
    // A port that was free a moment ago: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let address = format!("127.0.0.1:{port}");
    let output = goosefs(None, &[("GOOSEFS_MASTER_ADDR", &address)], &["fs", "ls", "/"]);
    assert_eq!(code(&output), 1);
    let said = sentence(&output);
    assert!(said.starts_with(&format!("goosefs: no master can be reached at {address} (")), "{said}");
    assert!(said.ends_with("check that one is running, and goosefs.master.rpc.addresses"), "{said}");
}

#[test]
fn an_unknown_variable_warns_and_the_command_goes_on() {
    let output = goosefs(None, &[("GOOSEFS_MASTRE_ADDR", "x")], &["getConf", "goosefs.master.rpc.port"]);
    assert_eq!((code(&output), out(&output)), (0, "9200\n".into()));
    assert_eq!(sentence(&output), "goosefs: environment variable GOOSEFS_MASTRE_ADDR is not known and has no effect");
}

/// Runs the program at a terminal, where somebody types `answer`. Exit code and all that was shown.
fn at_a_terminal(home: &Path, args: &str, answer: &str) -> (i32, String) {
    let program = format!("{} {args}", env!("CARGO_BIN_EXE_goosefs"));
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command", &program, "/dev/null"])
        .env_clear()
        .env("HOME", home)
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script of util-linux starts");
    script.stdin.take().expect("piped").write_all(answer.as_bytes()).expect("it reads");
    let output = script.wait_with_output().expect("it ends");
    (code(&output), out(&output))
}

#[test]
fn formats_ask_before_they_remove_what_a_cluster_left() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let work = home.path().join("work");
    let cache = home.path().join("cache");
    let settings = format!(
        "-Dgoosefs.work.dir={} -Dgoosefs.worker.tieredstore.level0.dirs.path={}",
        work.display(),
        cache.display()
    );
    std::fs::create_dir_all(cache.join("blocks")).expect("made");
    for (command, lost) in [("formatMaster", "namespace"), ("formatWorker", "in no store yet")] {
        let call = format!("{settings} {command}");
        if command == "formatMaster" {
            let (status, shown) = at_a_terminal(home.path(), &call, "");
            assert_eq!(status, 0, "nobody is asked about an empty place: {shown}");
        } else {
            std::fs::write(cache.join("identity.json"), b"{}").expect("written");
        }
        let (status, shown) = at_a_terminal(home.path(), &call, "no\n");
        assert!(status == 1 && shown.contains(lost) && shown.contains("nothing was removed"), "{status}: {shown}");
        let (status, shown) = at_a_terminal(home.path(), &call, "yes\n");
        assert!(status == 0 && shown.contains("Formatted"), "{status}: {shown}");
    }
    assert!(!cache.join("identity.json").exists());
}
