//! docs/losing-a-master.md, tried as it is written: hosts named `m1` to `m4`, standard ports, every command in the words of
//! the page, and every sentence that it quotes said by somebody.

use crate::support::PATIENCE;
use client::{ClientConfig, FileSystem, MakeDirectory, WriteOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use testkit::process::{Builder, Process};
use testkit::{eventually, mounts};
use types::{GfsPath, Mode, WriteType};

const PAGE: &str = include_str!("../../../../docs/losing-a-master.md");
const HOSTS: [(&str, &str); 5] =
    [("m1", "127.0.1.1"), ("m2", "127.0.1.2"), ("m3", "127.0.1.3"), ("m4", "127.0.1.4"), ("w1", "127.0.1.9")];
/// From where commands are given that can be given anywhere, and where the worker runs.
const ANYWHERE: &str = "w1";
const ADDRESSES: &str = "goosefs.master.embedded.journal.addresses";
/// The log is cut early, and its files are small: a master is soon too far behind, and a small disk soon full.
const SMALL: &str = "goosefs.master.journal.checkpoint.period.entries=50\n\
                     goosefs.master.embedded.journal.retained.entries=50\n\
                     goosefs.master.journal.log.size.bytes.max=64KB\n";
/// The disks of `m2`: the journal's, and the metadata's.
const DISKS_MIB: [(&str, u64); 2] = [("journal", 4), ("metastore", 64)];
/// More entries than the log keeps for a master that is away.
const MANY: usize = 600;

/// A fenced block of the page: commands with what they print, or lines of a log.
struct Block {
    section: String,
    lines: Vec<String>,
}

impl Block {
    /// Each command with the lines below it.
    fn commands(&self) -> Vec<(&str, &[String])> {
        let starts: Vec<usize> = (0..self.lines.len()).filter(|n| self.lines[*n].starts_with("$ ")).collect();
        let ends = starts.iter().skip(1).copied().chain([self.lines.len()]);
        starts.iter().zip(ends).map(|(&at, end)| (&self.lines[at][2..], &self.lines[at + 1..end])).collect()
    }
}

/// The blocks that have not been tried yet, in order.
struct Page(Vec<Block>);

impl Page {
    fn parse(text: &str) -> Page {
        let (mut blocks, mut section, mut within) = (Vec::<Block>::new(), String::new(), false);
        for line in text.lines() {
            if let Some(fence) = line.trim().strip_prefix("```") {
                within = !within;
                if within {
                    assert_eq!(fence, "text", "what a block of {section:?} holds");
                    blocks.push(Block { section: section.clone(), lines: Vec::new() });
                }
            } else if within {
                let block = blocks.last_mut().expect("it was begun");
                block.lines.push(line.trim().to_owned());
            } else if let Some(title) = line.strip_prefix("## ") {
                title.clone_into(&mut section);
            }
        }
        Page(blocks)
    }

    /// The next block, which must stand below this heading.
    fn next(&mut self, section: &str) -> Block {
        let block = self.0.remove(0);
        assert_eq!(block.section, section, "the page has another order than this test: {:?}", block.lines);
        block
    }
}

/// What the page quotes in running text: `like this`.
fn quoted(text: &str) -> Vec<String> {
    let mut fenced = false;
    let running = text.lines().filter(|line| {
        let fence = line.trim().starts_with("```");
        fenced ^= fence;
        !fence && !fenced
    });
    let running = running.collect::<Vec<_>>().join(" ");
    running.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A line with its numbers made equal.
fn shape(line: &str) -> String {
    let word = |word: &str| {
        let number = word.trim_end_matches([',', ':']);
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if digits { word.replace(number, "N") } else { word.to_owned() }
    };
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// Whether `output` holds these lines in this order, numbers aside.
fn shows(output: &str, lines: &[String]) -> bool {
    let mut output = output.lines();
    lines.iter().all(|line| output.any(|found| shape(found).contains(&shape(line))))
}

/// The machines.
struct Site {
    dir: PathBuf,
    servers: BTreeMap<String, Process>,
    /// Everything that commands and ended servers said.
    said: String,
    commands: usize,
}

impl Site {
    fn new(dir: &Path, addresses: &str) -> Site {
        let names = HOSTS.map(|(name, address)| format!("{address} {name}\n")).concat();
        mounts::over(Path::new("/etc/hosts"), dir, &format!("127.0.0.1 localhost\n{names}"));
        std::fs::create_dir_all(dir.join("ufs")).expect("made");
        let site = Site { dir: dir.to_owned(), servers: BTreeMap::new(), said: String::new(), commands: 0 };
        HOSTS.iter().for_each(|(host, _)| site.set(host, addresses));
        site
    }

    fn home(&self, host: &str) -> PathBuf {
        self.dir.join(host)
    }

    /// Writes a machine's settings.
    fn set(&self, host: &str, addresses: &str) {
        let conf = self.home(host).join("conf");
        std::fs::create_dir_all(&conf).expect("made");
        let role = if host == ANYWHERE { "worker" } else { "master" };
        let own =
            ["hostname", "bind.host", "web.bind.host"].map(|key| format!("goosefs.{role}.{key}={host}\n")).concat();
        let ufs = self.dir.join("ufs");
        let text =
            format!("{ADDRESSES}={addresses}\n{own}{SMALL}goosefs.master.mount.table.root.ufs={}\n", ufs.display());
        std::fs::write(conf.join("goosefs-site.properties"), text).expect("written");
    }

    fn key_file_in_place(&self, from: &str, to: &str) {
        let key = |host| self.home(host).join("secret.key");
        std::fs::copy(key(from), key(to)).expect("copied");
    }

    fn spawn(&self, host: &str, command: &str, log: &str) -> Process {
        let mut words = command.split_whitespace();
        assert_eq!(words.next(), Some("goosefs"), "{command}");
        let builder = Builder::new(env!("CARGO_BIN_EXE_goosefs"), &self.dir).args(words);
        let builder = builder.env("GOOSEFS_HOME", self.home(host)).env_remove("GOOSEFS_CONF_DIR");
        builder.dir(&self.home(host)).log(&self.dir.join(log)).spawn().expect("it starts")
    }

    /// Runs a command of a machine: a server is left running, another one must end with `code`. What it printed.
    fn run_to(&mut self, code: i32, host: &str, command: &str) -> String {
        self.commands += 1;
        let process = self.spawn(host, command, &format!("{}-{host}.log", self.commands));
        if ["goosefs master", "goosefs worker"].iter().any(|server| command.starts_with(server)) {
            assert!(self.servers.insert(host.to_owned(), process).is_none(), "{host} runs already");
            return String::new();
        }
        let status = process.wait_exit(PATIENCE).expect("it ends");
        let output = process.output();
        assert_eq!(status.code(), Some(code), "{command} on {host}: {output}");
        self.said.push_str(&output);
        output
    }

    fn run(&mut self, host: &str, command: &str) -> String {
        self.run_to(0, host, command)
    }

    /// Waits until a command ends with `code`.
    fn ends_with(&mut self, code: i32, command: &str) {
        eventually(PATIENCE, || {
            self.commands += 1;
            let process = self.spawn(ANYWHERE, command, &format!("{}-{ANYWHERE}.log", self.commands));
            let status = process.wait_exit(PATIENCE).expect("it ends");
            if status.code() == Some(code) { Ok(()) } else { Err(process.output()) }
        });
    }

    /// Carries out what a block says, on one machine; each command shows what the block shows.
    fn follow(&mut self, host: &str, block: &Block) {
        self.follow_to(0, host, block);
    }

    fn follow_to(&mut self, code: i32, host: &str, block: &Block) {
        let commands = block.commands();
        assert!(!commands.is_empty(), "no command in {:?}", block.lines);
        for (command, lines) in commands {
            let output = self.run_to(code, host, command);
            assert!(shows(&output, lines), "{command} does not show {lines:?}: {output}");
        }
    }

    fn log(&self, host: &str) -> String {
        self.servers[host].output()
    }

    fn wait_for(&self, host: &str, words: &str) {
        self.servers[host].wait_for_line(words, PATIENCE).expect("it says so");
    }

    fn kill(&mut self, host: &str) {
        let server = self.servers.remove(host).expect("it runs");
        server.kill9().expect("killed");
        self.said.push_str(&server.output());
    }

    /// Stops a server with SIGTERM.
    fn stop(&mut self, host: &str) {
        let server = self.servers.remove(host).expect("it runs");
        let status = server.terminate(PATIENCE).expect("it ends");
        assert!(status.success(), "{host} ended with {status}");
        self.said.push_str(&server.output());
    }

    fn lose_disk(&self, host: &str) {
        for place in ["journal", "metastore", "master"] {
            let Ok(entries) = std::fs::read_dir(self.home(host).join(place)) else { continue };
            for entry in entries.flatten() {
                let (path, kind) = (entry.path(), entry.file_type().expect("its kind"));
                let gone = if kind.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
                gone.expect("removed");
            }
        }
    }

    /// Waits until a member is shown like this.
    fn is_shown(&mut self, what: &str) {
        eventually(PATIENCE, || {
            let shown = self.run(ANYWHERE, "goosefs fsadmin journal quorum info");
            if shows(&shown, &[what.to_owned()]) { Ok(()) } else { Err(shown) }
        });
    }

    /// Waits until a member has all that is committed.
    fn caught_up(&mut self, host: &str) {
        eventually(PATIENCE, || {
            let shown = self.run(ANYWHERE, "goosefs fsadmin journal quorum info");
            let last = |start: &str| {
                let line = shown.lines().find(|line| line.trim().starts_with(start))?;
                line.split_whitespace().rev().find_map(|word| word.parse::<u64>().ok())
            };
            let (committed, there) = (last("Journal quorum"), last(&format!("{host}:9202")));
            if committed.is_some() && there >= committed { Ok(()) } else { Err(shown) }
        });
    }

    fn lead(&mut self, host: &str) {
        let address = format!("{host}:9202");
        self.run(ANYWHERE, &format!("goosefs fsadmin journal quorum elect -address {address}"));
    }
}

/// Somebody who uses the cluster meanwhile.
struct User {
    runtime: tokio::runtime::Runtime,
    fs: FileSystem,
    made: usize,
}

impl User {
    fn new() -> User {
        let masters = HOSTS.iter().map(|(name, _)| ((*name).to_owned(), 9200)).filter(|(name, _)| name != ANYWHERE);
        let config = ClientConfig {
            masters: masters.collect(),
            user: "root".to_owned(),
            replicas: 1,
            replicas_min: 1,
            rpc_timeout: PATIENCE,
            polling_timeout: PATIENCE,
            ..ClientConfig::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let fs = runtime.block_on(FileSystem::connect(config)).expect("a master leads");
        User { runtime, fs, made: 0 }
    }

    fn make(&mut self, count: usize) {
        let how = MakeDirectory { recursive: false, allow_exists: false, mode: Mode::new(0o755) };
        for n in self.made..self.made + count {
            let path = GfsPath::parse(&format!("/made{n}")).expect("a path");
            self.runtime.block_on(self.fs.make_directory(&path, how)).expect("the group serves");
        }
        self.made += count;
    }

    fn cache(&mut self, name: &str) {
        let options = WriteOptions { write_type: Some(WriteType::MustCache), ..WriteOptions::default() };
        self.runtime.block_on(async {
            let path = GfsPath::parse(name).expect("a path");
            let mut writer = self.fs.create(&path, options).await.expect("created");
            writer.write(b"words").await.expect("written");
            writer.close().await.expect("closed");
        });
    }

    /// Everything that was acknowledged is there.
    fn finds_all(&self) {
        let root = GfsPath::parse("/").expect("a path");
        let listed = self.runtime.block_on(self.fs.list_all(&root)).expect("listed");
        let made = listed.iter().filter(|entry| entry.path.as_str().starts_with("/made")).count();
        assert_eq!(made, self.made);
    }
}

fn is_down_with_a_good_disk(page: &mut Page, site: &mut Site, user: &mut User) {
    let down = "A master is down, its disk is well";
    user.make(MANY);
    site.run(ANYWHERE, "goosefs fsadmin journal checkpoint");
    site.follow("m2", &page.next(down));
    site.caught_up("m2");
    let log = page.next(down);
    assert!(shows(&site.log("m2"), &log.lines), "{:?} in {}", log.lines, site.log("m2"));
}

fn has_a_full_disk(page: &mut Page, site: &mut Site, user: &mut User) {
    let filler = site.home("m2").join("metastore/somebody-elses");
    mounts::fill(&filler);
    site.wait_for("m2", "the disk of the metadata is nearly full");
    std::fs::remove_file(&filler).expect("removed");
    site.wait_for("m2", "the disk of the metadata has room again");
    let filler = site.home("m2").join("journal/somebody-elses");
    mounts::fill(&filler);
    eventually(PATIENCE, || {
        user.make(20);
        site.servers["m2"].exit_status().expect("known").is_some()
    });
    site.kill("m2");
    site.follow(ANYWHERE, &page.next("A master's disk is full or refuses"));
    std::fs::remove_file(&filler).expect("removed");
    site.run("m2", "goosefs master");
    site.caught_up("m2");
}

fn has_lost_its_disk(page: &mut Page, site: &mut Site, user: &mut User) {
    let lost = "A master has lost its disk";
    site.kill("m2");
    site.lose_disk("m2");
    site.run("m2", "goosefs formatMaster --force");
    site.run("m2", "goosefs master");
    site.wait_for("m2", "comes with another disk than before");
    site.kill("m2");
    site.follow("m2", &page.next(lost));
    site.wait_for("m2", "this master waits to be taken into a group");
    site.follow(ANYWHERE, &page.next(lost));
    user.make(10);
    site.caught_up("m2");
}

fn is_gone_for_another(page: &mut Page, site: &mut Site, user: &mut User) {
    let gone = "A machine is gone, another one takes its place";
    site.kill("m2");
    site.set("m4", "m1:9202,m2:9202,m3:9202,m4:9202");
    site.key_file_in_place("m1", "m4");
    site.follow("m4", &page.next(gone));
    site.follow(ANYWHERE, &page.next(gone));
    user.make(10);
    site.lead("m1");
    let refused = site.run_to(1, ANYWHERE, "goosefs fsadmin journal quorum remove -address m1:9202");
    assert!(refused.contains("hand the lead over first"), "{refused}");
    site.follow(ANYWHERE, &page.next(gone));
    site.is_shown("m3:9202  LEADER  AVAILABLE");
    site.stop("m1");
    site.run("m1", "goosefs master");
    site.caught_up("m1");
    site.wait_for("m1", "the group knows better");
    HOSTS.iter().filter(|(host, _)| *host != "m2").for_each(|(host, _)| site.set(host, "m1:9202,m3:9202,m4:9202"));
    for host in ["m1", "m3", "m4"] {
        site.stop(host);
        site.run(host, "goosefs master");
        site.caught_up(host);
        user.make(10);
        assert!(!site.log(host).contains("the group knows better"), "{}", site.log(host));
    }
    // By its old list it would not find a leader on the new machine.
    site.stop("w1");
    site.run("w1", "goosefs worker");
    site.wait_for("w1", "worker ready");
}

fn is_the_only_one_left(page: &mut Page, site: &mut Site, user: &mut User) {
    let most = "Most masters are lost for good";
    site.caught_up("m1");
    // What the survivor has not heard of.
    site.kill("m1");
    user.cache("/lost");
    for host in ["m3", "m4"] {
        site.kill(host);
        site.lose_disk(host);
    }
    site.follow("m1", &page.next(most));
    site.wait_for("m1", "master ready");
    user.make(10);
    user.finds_all();
    let quarantine = page.next(most);
    for (command, _) in quarantine.commands() {
        site.ends_with(1, command);
    }
    site.follow_to(1, ANYWHERE, &quarantine);
    site.stop("w1");
    let empty = page.next(most);
    site.follow("w1", &empty);
    site.wait_for("w1", "worker ready");
    for (command, _) in quarantine.commands() {
        site.ends_with(0, command);
    }
    site.follow("m3", &page.next(most));
    site.follow(ANYWHERE, &page.next(most));
    site.run("m4", "goosefs formatMaster --force --join");
    site.run("m4", "goosefs master");
    site.run(ANYWHERE, "goosefs fsadmin journal quorum add -address m4:9202 --no-wait");
    site.is_shown("m4:9202  FOLLOWER  AVAILABLE");
    site.caught_up("m4");
    site.stop("m1");
    site.run("m1", "goosefs master");
    site.caught_up("m1");
    user.make(10);
    user.finds_all();
}

fn follow_the_page(dir: &Path) {
    let mut page = Page::parse(PAGE);
    let quotes = quoted(PAGE);
    let setting = quotes.iter().find_map(|quote| quote.strip_prefix(ADDRESSES)?.strip_prefix('='));
    let mut site = Site::new(dir, setting.expect("the page names the setting"));
    DISKS_MIB.iter().for_each(|(name, mib)| mounts::in_memory(&site.home("m2").join(name), *mib));
    site.run("m1", "goosefs formatMaster");
    ["m2", "m3", "w1"].iter().for_each(|host| site.key_file_in_place("m1", host));
    ["m2", "m3"].iter().for_each(|host| drop(site.run(host, "goosefs formatMaster")));
    site.run("w1", "goosefs formatWorker");
    ["m1", "m2", "m3"].iter().for_each(|host| drop(site.run(host, "goosefs master")));
    site.run("w1", "goosefs worker");
    site.wait_for("w1", "worker ready");
    let mut user = User::new();
    ["m1", "m2", "m3"].iter().for_each(|host| site.caught_up(host));
    site.lead("m1");
    site.kill("m2");
    user.make(10);
    site.is_shown("m2:9202  FOLLOWER  UNAVAILABLE");
    site.follow(ANYWHERE, &page.next(""));

    is_down_with_a_good_disk(&mut page, &mut site, &mut user);
    has_a_full_disk(&mut page, &mut site, &mut user);
    has_lost_its_disk(&mut page, &mut site, &mut user);
    is_gone_for_another(&mut page, &mut site, &mut user);
    // Maintenance: the leading master hands over, and is back before the next one goes.
    site.lead("m3");
    site.stop("m3");
    assert!(site.said.contains("the lead was handed over"), "{}", site.said);
    user.make(10);
    site.run("m3", "goosefs master");
    site.is_shown("m3:9202  FOLLOWER  AVAILABLE");
    site.caught_up("m3");
    is_the_only_one_left(&mut page, &mut site, &mut user);

    assert!(page.0.is_empty(), "not tried: {:?}", page.0.iter().map(|block| &block.lines).collect::<Vec<_>>());
    for quote in quotes.iter().filter(|quote| quote.contains(' ')) {
        let is_command = ["goosefs ", "fsadmin ", "format"].iter().any(|word| quote.starts_with(word));
        assert!(!is_command, "a command stands in a block, where it is tried: {quote}");
        let somebody =
            site.said.contains(&**quote) || site.servers.values().any(|server| server.output().contains(&**quote));
        assert!(somebody, "nobody says {quote:?}");
    }
}

#[test]
fn the_page_about_losing_a_master_is_followed_word_by_word() {
    mounts::own("page::the_page_about_losing_a_master_is_followed_word_by_word", || {
        let dir = tempfile::tempdir().expect("a directory");
        follow_the_page(dir.path());
    });
}

#[test]
fn the_page_is_read_by_blocks_commands_and_quotes() {
    let text = "Say `a b` and\n```text\n$ goosefs x -address m1:1\nterm 3, on\n$ goosefs y\n```\n## Next\n1. So\n   ```text\n   a line\n   ```\n";
    let mut page = Page::parse(text);
    let first = page.next("");
    let lines = ["term 3, on".to_owned()];
    assert_eq!(first.commands(), [("goosefs x -address m1:1", &lines[..]), ("goosefs y", &[][..])]);
    assert_eq!(page.next("Next").lines, ["a line"]);
    assert_eq!(quoted(text), ["a b"]);
    assert!(shows("WARN else\n  term 17, on\n", &lines) && !shows("term x, on", &lines));
}
