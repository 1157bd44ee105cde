//! Wrong arguments, wrong settings, wrong addresses.

use super::{program, refusal, run, says, sentence};
use std::net::TcpListener;

#[test]
fn a_wrong_call_names_the_word_and_shows_how_it_is_called() {
    for (args, words) in [
        (
            &["fs", "ls", "--recurive", "/"][..],
            &["--recurive", "similar", "--recursive", "Usage: goosefs fs ls", "--help"][..],
        ),
        (&["fs", "mv", "/a"], &["required arguments were not provided", "Usage: goosefs fs mv", "--help"]),
        (&["fs", "ls"], &["required arguments were not provided", "<PATH>", "--help"]),
        (&["fs", "lss", "/"], &["unrecognized subcommand 'lss'", "similar", "'ls'", "Usage: goosefs"]),
        (&["msater"], &["unrecognized subcommand 'msater'", "'master'", "--help"]),
        (&["local"], &["--dir <DIR>", "Usage: goosefs local", "--help"]),
        (&["worker", "extra"], &["unexpected argument 'extra'", "Usage: goosefs worker"]),
        (&["ns", "create", "a", "s3://b", "--wPolicy", "7"], &["'7'", "--wPolicy", "--help"]),
        (&["fs", "ls", "a/b"], &["'a/b'", "<PATH>", "not absolute", "begin it with /"]),
        (&["fs", "ls", "/a/../b"], &["\"..\"", "a name is not empty, not . or .."]),
        (&["-Dnovalue", "version"], &["'novalue'", "key=value"]),
    ] {
        let (code, said) = run(program().args(args));
        assert_eq!(code, 2, "{args:?}: {said}");
        says(&said, words);
    }
}

#[test]
fn a_wrong_setting_says_key_value_place_and_what_it_may_be() {
    let dir = tempfile::tempdir().expect("a directory");
    let site = dir.path().join("goosefs-site.properties");
    let place = format!("{}:2", site.display());
    for (command, key, value, why) in [
        (&["fs", "ls", "/"][..], "goosefs.user.block.size.bytes.default", "12XB", "a size such as 64MB"),
        (&["fs", "ls", "/"], "goosefs.user.network.rpc.timeout", "soon", "a time such as 500ms"),
        (&["fs", "ls", "/"], "goosefs.master.rpc.port", "ninety", "a whole number from 0 to 65535"),
        (&["master"], "goosefs.master.rpc.port", "70000", "a whole number from 0 to 65535"),
        (&["master"], "goosefs.master.metastore", "MYSQL", "one of ROCKS, HEAP"),
        (&["master"], "goosefs.security.authorization.permission.enabled", "perhaps", "true or false"),
        (&["worker"], "goosefs.worker.tieredstore.level0.watermark.high.ratio", "1.5", "a number from 0 to 1"),
        (&["worker"], "goosefs.worker.tieredstore.level0.dirs.quota", "lots", "each quota is a size such as 10GB"),
        (&["fs", "ls", "/"], "goosefs.master.rpc.addresses", "host:port", "addresses such as host1:9200,host2:9200"),
    ] {
        let variable = key.to_uppercase().replace('.', "_");
        std::fs::write(&site, format!("# comment\n{key}={value}\n")).expect("written");
        for (from, told) in [
            ("(-D)".to_owned(), program().arg(format!("-D{key}={value}")).args(command)),
            (format!("(environment variable {variable})"), program().env(&variable, value).args(command)),
            (format!("({place})"), program().env("GOOSEFS_CONF_DIR", dir.path()).args(command)),
        ] {
            says(&sentence(told), &[key, value, &from, why]);
        }
    }
}

#[test]
fn settings_that_contradict_each_other_are_named_both() {
    for (command, settings, words) in [
        (
            "worker",
            &[
                "goosefs.worker.tieredstore.level0.watermark.low.ratio=0.9",
                "goosefs.worker.tieredstore.level0.watermark.high.ratio=0.5",
            ][..],
            &["level0.watermark.low.ratio", "must be below watermark.high.ratio"][..],
        ),
        (
            "worker",
            &[
                "goosefs.worker.tieredstore.level0.dirs.path=/a,/b,/c",
                "goosefs.worker.tieredstore.level0.dirs.quota=1GB,2GB",
            ],
            &["level0.dirs.quota", "2 values for 3 directories", "give one each, or one for all"],
        ),
        (
            "worker",
            &["goosefs.worker.rpc.port=9999", "goosefs.worker.web.port=9999"],
            &["goosefs.worker.web.port", "9999", "goosefs.worker.rpc.port is the same", "a port of its own"],
        ),
        (
            "master",
            &["goosefs.master.worker.timeout=1s", "goosefs.master.worker.heartbeat.interval=2s"],
            &["goosefs.master.worker.timeout", "1s", "longer than goosefs.master.worker.heartbeat.interval"],
        ),
        (
            "master",
            &["goosefs.master.embedded.journal.addresses=a:9202,b:9202"],
            &["embedded.journal.addresses", "a:9202,b:9202", "not among them", "goosefs.master.hostname"],
        ),
        (
            "master",
            &["goosefs.master.hostname=a", "goosefs.master.embedded.journal.addresses=a:9202,a:9202,b:9202"],
            &["embedded.journal.addresses", "a:9202 stands there 2 times", "name each master once"],
        ),
        (
            "getConf",
            &["goosefs.logs.dir=${goosefs.log.dir}"],
            &["goosefs.logs.dir", "(-D)", "${goosefs.log.dir}", "is no known setting"],
        ),
    ] {
        let mut command = [command].iter().fold(program(), |mut program, command| {
            program.arg(command);
            program
        });
        says(&sentence(command.args(settings.iter().map(|setting| format!("-D{setting}")))), words);
    }
    let mut list = program();
    list.args([
        "fs",
        "ls",
        "/",
        "-Dgoosefs.user.file.replication.durable=1",
        "-Dgoosefs.user.file.replication.durable.min=2",
    ]);
    says(&sentence(&mut list), &["durable.min = \"2\"", "above goosefs.user.file.replication.durable", "lower it"]);

    let dir = tempfile::tempdir().expect("a directory");
    let text = "goosefs.worker.memory.size=1GB\ngoosefs.worker.ramdisk.size=2GB\n";
    std::fs::write(dir.path().join("goosefs-site.properties"), text).expect("written");
    let said = sentence(program().env("GOOSEFS_CONF_DIR", dir.path()).arg("getConf"));
    says(&said, &["goosefs-site.properties:1", "goosefs-site.properties:2", "both set", "keep one"]);
    std::fs::write(dir.path().join("goosefs-site.properties"), "# comment\ngoosefs.master.rpc.port=92\\u00\n")
        .expect("written");
    let said = sentence(program().env("GOOSEFS_CONF_DIR", dir.path()).arg("getConf"));
    says(&said, &["goosefs-site.properties:2", "is not a line of a properties file", "four hexadecimal digits"]);
}

#[test]
fn an_unknown_key_names_the_nearest_wherever_it_stands() {
    for role in ["master", "worker"] {
        let said = sentence(program().args([role, "-Dgoosefs.master.rcp.port=1"]));
        says(
            &said,
            &["goosefs.master.rcp.port", "(-D)", "nearest known one is goosefs.master.rpc.port", "correct or remove"],
        );
    }
    // Keys that no server reads, and variables, are warned about: they may be another program's.
    let output = program().args(["-Dgoosefs.user.block.sise=1", "fs", "count", "--help"]).output().expect("it starts");
    assert!(output.status.success());
    let mut list = program();
    list.args(["-Dgoosefs.user.block.sise=1", "-Dgoosefs.user.network.rpc.timeout=1s", "fs", "ls", "/"]);
    let (code, said) =
        run(list.env("GOOSEFS_USER_NETWORK_RCP_TIMEOUT", "1s").env("GOOSEFS_MASTER_ADDR", "127.0.0.1:1"));
    assert_eq!(code, 1);
    says(
        &said,
        &[
            "goosefs.user.block.sise (-D) is not known and has no effect",
            "GOOSEFS_USER_NETWORK_RCP_TIMEOUT is not known",
        ],
    );
}

#[test]
fn an_address_nobody_answers_at_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("an address").to_string();
    let nowhere = "no-such-host.invalid:9200";
    for (address, why) in [(free.as_str(), "refused"), (nowhere, "no-such-host.invalid")] {
        let said = testkit::eventually(super::PATIENCE, || {
            // On a busy machine the time may be over before the address was tried.
            let mut list = program();
            list.args(["-Dgoosefs.user.network.rpc.timeout=1s", "fs", "ls", "/"]).env("GOOSEFS_MASTER_ADDR", address);
            let said = sentence(&mut list);
            said.contains(why).then_some(said)
        });
        says(
            &said,
            &["no master can be reached", address, why, "check that one is running", "goosefs.master.rpc.addresses"],
        );
    }
    for wrong in ["gfs://host/a", "gfs://host:port/a", "gfs://:9200/a"] {
        let (code, said) = run(program().args(["fs", "ls", wrong]));
        assert_eq!(code, 2, "{said}");
        says(&said, &[wrong, "is not a master's address such as host:9200"]);
    }
}

#[test]
fn an_address_that_cannot_be_listened_on_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("state");
    let state = state.to_str().expect("text");
    for (key, host, words) in [
        ("master.bind.host", "no-such-host.invalid", &["no name that resolves"][..]),
        (
            "master.bind.host",
            "192.0.2.1",
            &["cannot listen on 192.0.2.1:", "no interface of this host has the address", "0.0.0.0"],
        ),
        (
            "worker.bind.host",
            "192.0.2.1",
            &["cannot listen on 192.0.2.1:", "no interface of this host has the address", "0.0.0.0"],
        ),
        ("master.web.bind.host", "192.0.2.1", &["192.0.2.1:", "goosefs.master.web.bind.host"]),
        ("worker.web.bind.host", "192.0.2.1", &["192.0.2.1:", "goosefs.worker.web.bind.host"]),
    ] {
        let told = format!("-Dgoosefs.{key}={host}");
        let said = super::local_refusal(std::path::Path::new(state), &[&told]);
        says(&said, words);
        says(&said, &[host]);
    }
}

/// A worker waits for its master, and says for whom.
#[test]
fn a_worker_without_a_master_says_so_and_waits() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
    let work = format!("-Dgoosefs.work.dir={}", at("work"));
    let said = refusal(dir.path(), &["worker", &work]);
    says(&said, &["secret.key", "does not exist"]);
    let formatted = program().args(["format", &work]).output().expect("it starts");
    assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
    let ports = testkit::ports::free_ports(3).expect("free ports");
    let settings = [
        work,
        "-Dgoosefs.master.hostname=127.0.0.1".to_owned(),
        format!("-Dgoosefs.master.internal.rpc.port={}", ports[0]),
        format!("-Dgoosefs.worker.rpc.port={}", ports[1]),
        format!("-Dgoosefs.worker.web.port={}", ports[2]),
    ];
    let worker = testkit::process::Builder::new(env!("CARGO_BIN_EXE_goosefs"), dir.path());
    let worker = worker.arg("worker").args(settings).spawn().expect("it starts");
    let line = worker.wait_for_line("not registered yet", super::PATIENCE).expect("it says so");
    says(
        &line,
        &[&format!("127.0.0.1:{}", ports[0]), "no master answers", "check that a master runs", "address is right"],
    );
    let web = ([127, 0, 0, 1], ports[2]).into();
    let (status, body) = testkit::process::http_get(web, "/readyz").expect("answered");
    assert_eq!(status, 503);
    says(&body, &["no master has accepted this worker"]);
    assert!(worker.terminate(super::PATIENCE).expect("it stops").success());
}
