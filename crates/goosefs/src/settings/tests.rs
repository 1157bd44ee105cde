use super::*;

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

/// Settings from flags, variables and the text of a site file.
fn load(flags: &[(&str, &str)], variables: &[(&str, &str)], site: &str) -> Result<Settings, Error> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("goosefs-site.properties"), site).expect("written");
    Settings::load(&Inputs {
        flags: pairs(flags),
        variables: pairs(variables),
        directories: vec![dir.path().join("absent"), dir.path().to_owned()],
        file: None,
    })
}

fn refusal(flags: &[(&str, &str)], variables: &[(&str, &str)], site: &str) -> String {
    load(flags, variables, site).and_then(|s| s.check_for_server()).expect_err("refused").to_string()
}

#[test]
fn flags_beat_variables_beat_the_file_beats_defaults() {
    const KEY: &str = "goosefs.master.rpc.port";
    let port = |f: &[_], v: &[_], s: &str| load(f, v, s).expect("good settings").port(KEY);
    let (flag, variable, site) = ([(KEY, "1")], [("GOOSEFS_MASTER_RPC_PORT", "2")], "goosefs.master.rpc.port=3");
    assert_eq!(port(&flag, &variable, site), 1);
    assert_eq!(port(&[], &variable, site), 2);
    assert_eq!(port(&[], &[], site), 3);
    assert_eq!(port(&[], &[], ""), 9200);
    let settings = load(&[], &[], "\n\n  goosefs.master.rpc.port : 3").expect("good settings");
    assert!(settings.source(KEY).to_string().ends_with("goosefs-site.properties:3"));
}

#[test]
fn variables_have_special_names_too() {
    let settings = load(
        &[],
        &[
            ("GOOSEFS_MASTER_ADDR", "a:1,b:2"),
            ("GOOSEFS_AUTH_TYPE", "nosasl"),
            ("GOOSEFS_WORKER_TIEREDSTORE_LEVEL1_ALIAS", "hdd"),
            ("GOOSEFS_USER_CLIENT_TRANSPARENT_ACCELERATION_SCOPE", "GFS_UFS"),
            ("PATH", "/bin"),
            ("GOOSEFS_WORKER_JAVA_OPTS", "-Xmx1g"),
        ],
        "",
    )
    .expect("good settings");
    assert_eq!(settings.addresses("goosefs.master.rpc.addresses"), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    assert_eq!(settings.word("goosefs.security.authentication.type"), "NOSASL");
    assert_eq!(settings.word("goosefs.worker.tieredstore.level1.alias"), "HDD");
    assert_eq!(settings.warnings(), Vec::<String>::new());
}

#[test]
fn an_unknown_variable_or_user_key_warns_and_does_not_stop() {
    let settings =
        load(&[], &[("GOOSEFS_MASTRE_ADDR", "x")], "goosefs.user.file.writetype.defualt=THROUGH\n").expect("good");
    assert!(settings.check_for_server().is_ok());
    let warnings = settings.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(warnings[0], "environment variable GOOSEFS_MASTRE_ADDR is not known and has no effect");
    assert!(warnings[1].ends_with("; the nearest known one is goosefs.user.file.writetype.default"), "{}", warnings[1]);
}

#[test]
fn an_unknown_server_key_stops_a_role_and_names_the_nearest() {
    let said = refusal(&[("goosefs.master.rcp.port", "1")], &[], "");
    assert_eq!(
        said,
        "setting goosefs.master.rcp.port (-D) is not known; the nearest known one is goosefs.master.rpc.port; correct or remove it"
    );
    let said = refusal(&[], &[], "#\ngoosefs.worker.tieredstore.level0.dir.path=/x");
    assert!(said.contains("goosefs-site.properties:2) is not known; the nearest known one is goosefs.worker.tieredstore.level{x}.dirs.path"), "{said}");
}

#[test]
fn a_bad_value_names_key_value_source_and_what_is_expected() {
    assert_eq!(
        refusal(&[], &[("GOOSEFS_USER_BLOCK_SIZE_BYTES_DEFAULT", "big")], ""),
        "setting goosefs.user.block.size.bytes.default = \"big\" (environment variable \
         GOOSEFS_USER_BLOCK_SIZE_BYTES_DEFAULT) is not valid: expected a size such as 64MB, 1.5GB or 1048576 \
         (units B, KB, MB, GB, TB, PB; base 1024)"
    );
    let said = refusal(&[], &[], "goosefs.master.metastore=DISK");
    assert!(said.ends_with("goosefs-site.properties:1) is not valid: expected one of ROCKS, HEAP"), "{said}");
}

#[test]
fn two_names_for_one_key_must_agree() {
    let both = [("GOOSEFS_MASTER_ADDR", "a:1"), ("GOOSEFS_MASTER_RPC_ADDRESSES", "b:1")];
    assert_eq!(
        refusal(&[], &both, ""),
        "environment variable GOOSEFS_MASTER_ADDR and environment variable GOOSEFS_MASTER_RPC_ADDRESSES both set \
         goosefs.master.rpc.addresses, to different values; keep one"
    );
}

#[test]
fn references_are_followed_and_bounded() {
    let settings = load(&[("goosefs.work.dir", "/data")], &[], "").expect("good");
    assert_eq!(settings.path("goosefs.master.journal.folder"), PathBuf::from("/data/journal"));
    let said = refusal(&[("goosefs.work.dir", "${goosefs.home}"), ("goosefs.home", "${goosefs.work.dir}")], &[], "");
    assert!(said.contains("refers back to itself"), "{said}");
    let said = refusal(&[("goosefs.work.dir", "${goosefs.hoem}/x")], &[], "");
    assert!(said.ends_with("refers to ${goosefs.hoem}, which is no known setting"), "{said}");
}

#[test]
fn secrets_are_hidden_wherever_settings_are_shown() {
    let site =
        "fs.cosn.userinfo.secretKey=hunter2\ngoosefs.master.mount.table.root.option.s3.secret.access.key=hunter2";
    let settings = load(&[], &[], site).expect("good");
    assert_eq!(settings.below("fs.cosn.userinfo.")["secretKey"], "hunter2", "the store gets it");
    let shown = format!("{:?}", settings.shown());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(settings.shown_text("fs.cosn.userinfo.secretKey"), HIDDEN);
}

#[test]
fn options_beat_the_file_and_defaults_of_a_command_do_not() {
    let mut settings = load(&[], &[], "goosefs.work.dir=/site\ngoosefs.master.rpc.port=1").expect("good");
    settings.set_by_option("--dir", "goosefs.work.dir", "/option").expect("good");
    settings.set_default("goosefs.master.rpc.port", "2").expect("good");
    settings.set_default("goosefs.master.web.port", "3").expect("good");
    assert_eq!(settings.word("goosefs.work.dir"), "/option");
    assert_eq!(settings.port("goosefs.master.rpc.port"), 1);
    assert_eq!(settings.port("goosefs.master.web.port"), 3);
    let mut settings = load(&[("goosefs.work.dir", "/flag")], &[], "").expect("good");
    settings.set_by_option("--dir", "goosefs.work.dir", "/option").expect("good");
    assert_eq!(settings.word("goosefs.work.dir"), "/flag");
}

#[test]
fn a_key_of_the_real_product_is_known_and_says_it_does_nothing() {
    let settings = load(&[], &[], "goosefs.zookeeper.enabled=true").expect("good");
    assert!(settings.warnings().is_empty());
    let said = settings.unneeded();
    assert!(said[0].ends_with("has no effect: Not needed: masters elect their leader among themselves."), "{said:?}");
}

#[test]
fn the_manual_is_up_to_date() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    assert!(committed == markdown(), "run: cargo run -p goosefs -- docs settings > docs/settings.md");
}
