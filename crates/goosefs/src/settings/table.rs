//! The one table of settings: parsing, checks, `getConf` and `docs/settings.md` all come from it.
//!
//! Is:     a list of keys with kind, default, reader and meaning.
//! Owns:   every key we know, those of the real product we do not need among them.
//! Never:  holds a value somebody set.

use super::value::{COUNT, Kind, PORT};

/// Who reads a setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Master,
    Worker,
    /// Master and worker.
    Servers,
    /// Commands and whatever else reads and writes files.
    Client,
    All,
    /// Known because the real product has it; nothing here needs it, and its sentence says why.
    Nobody,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Worker => "worker",
            Role::Servers => "master, worker",
            Role::Client => "client",
            Role::All => "all",
            Role::Nobody => "nobody",
        }
    }
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The key. `{x}` stands for digits, `{name}` for one word, and `{rest}` at the end for anything.
    pub key: &'static str,
    /// Other spellings that mean the same.
    pub aliases: &'static [&'static str],
    pub kind: Kind,
    /// As a user would write it; empty: unset. May name other keys as `${key}`.
    pub default: &'static str,
    pub role: Role,
    /// Never shown, never logged.
    pub secret: bool,
    /// One sentence.
    pub about: &'static str,
}

impl Setting {
    const fn new(key: &'static str, kind: Kind, default: &'static str, role: Role, about: &'static str) -> Setting {
        Setting { key, aliases: &[], kind, default, role, secret: false, about }
    }
    const fn alias(self, aliases: &'static [&'static str]) -> Setting {
        Setting { aliases, ..self }
    }
    const fn secret(self) -> Setting {
        Setting { secret: true, ..self }
    }

    /// Whether the row stands for many keys.
    pub fn is_pattern(&self) -> bool {
        self.key.contains('{')
    }

    /// Whether `key` is this row's key, one of its aliases, or an instance of its pattern.
    pub fn matches(&self, key: &str) -> bool {
        self.key == key || self.aliases.contains(&key) || (self.is_pattern() && matches_pattern(self.key, key))
    }
}

fn matches_pattern(pattern: &str, key: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('{') else { return pattern == key };
    let Some(key) = key.strip_prefix(before) else { return false };
    let (name, after) = rest.split_once('}').expect("every { of the table is closed; a test checks it");
    if name == "rest" {
        return !key.is_empty();
    }
    let end = key.find(|c: char| if name == "x" { !c.is_ascii_digit() } else { c == '.' }).unwrap_or(key.len());
    end > 0 && matches_pattern(after, &key[end..])
}

/// The row for `key`, exact keys before patterns.
pub fn find(key: &str) -> Option<&'static Setting> {
    let exact = |row: &&Setting| row.key == key || row.aliases.contains(&key);
    TABLE.iter().find(exact).or_else(|| TABLE.iter().find(|row| row.matches(key)))
}

/// Whether the value of `key` must not be shown: marked so, or a free-form store property whose name says so.
pub fn is_secret(key: &str) -> bool {
    const WORDS: [&str; 7] = ["secret", "password", "token", "accesskey", "access_key", "credential", "keytab"];
    match find(key) {
        Some(row) => row.secret || (row.key.ends_with("{rest}") && contains_any(key, &WORDS)),
        None => contains_any(key, &WORDS),
    }
}

fn contains_any(key: &str, words: &[&str]) -> bool {
    let key = key.to_ascii_lowercase();
    words.iter().any(|word| key.contains(word))
}

use Kind::{Addresses, Bool, Bytes, Choice, Duration, List, Path, Ratio, Text};
use Role::{All, Client, Master, Nobody, Servers, Worker};

const WRITE_TYPES: Kind = Choice(&["MUST_CACHE", "TRY_CACHE", "CACHE_THROUGH", "THROUGH", "ASYNC_THROUGH", "NONE"]);

const fn row(key: &'static str, kind: Kind, default: &'static str, role: Role, about: &'static str) -> Setting {
    Setting::new(key, kind, default, role, about)
}

/// A key of the real product that nothing here reads.
const fn unneeded(key: &'static str, why: &'static str) -> Setting {
    Setting::new(key, Text, "", Nobody, why)
}

const ONE_DATABASE: &str =
    "Not needed: inodes live in one database and block locations in memory, whatever is set here.";
const JOBS: &str = "Not needed: there is no job service yet.";
const FUSE: &str = "Not needed: there is no FUSE mount yet.";
const HADOOP: &str = "Not needed: there is no Hadoop client yet.";
const PAGE_CACHE: &str = "Not needed: this client keeps no pages on its own disk; the worker's cache is the cache.";
const NO_TTL: &str = "Not needed: there is no time to live yet.";
const KERBEROS: &str = "Not needed: there is no Kerberos yet.";
const METADATA_CACHE: &str = "Not needed: this client asks the master every time.";
const PUSHGATEWAY: &str = "Not needed: metrics are scraped from /metrics/prometheus/ of master and worker.";

/// Every key, in the order of the manual.
#[rustfmt::skip] // one row, one line
pub const TABLE: &[Setting] = &[
    // places
    row("goosefs.home", Path, "~/.goosefs", All, "Directory below which everything lies that has no place of its own; GOOSEFS_HOME sets it too."),
    row("goosefs.work.dir", Path, "${goosefs.home}", Servers, "Directory of journal, metadata and cache."),
    row("goosefs.conf.dir", Path, "${goosefs.home}/conf", All, "Directory searched for goosefs-site.properties; GOOSEFS_CONF_DIR sets it too."),
    row("goosefs.logs.dir", Path, "", Servers, "Directory for master.log and worker.log; unset: log to standard error only."),
    row("goosefs.site.conf.dir", List, "", Nobody, "Not needed: the search order is fixed; set GOOSEFS_CONF_DIR."),
    // master: addresses
    row("goosefs.master.hostname", Text, "localhost", All, "Host by which clients and workers reach the master."),
    row("goosefs.master.bind.host", Text, "0.0.0.0", Master, "Address the master's RPC ports listen on."),
    row("goosefs.master.rpc.port", PORT, "9200", All, "Port for clients."),
    row("goosefs.master.rpc.addresses", Addresses, "", All, "Every master as host:port, for clients and workers; unset: the hosts of goosefs.master.embedded.journal.addresses, else goosefs.master.hostname, and goosefs.master.rpc.port."),
    row("goosefs.master.web.bind.host", Text, "0.0.0.0", Master, "Address the master's web port listens on."),
    row("goosefs.master.web.port", PORT, "9201", Master, "Port for health and metrics."),
    row("goosefs.master.web.hostname", Text, "", Nobody, "Not needed: the web port is named by goosefs.master.hostname."),
    row("goosefs.master.internal.rpc.port", PORT, "9212", Servers, "Port of the master for workers."),
    row("goosefs.master.internal.rpc.addresses", Addresses, "", Worker, "Every master as host:port, for workers; unset: the hosts of goosefs.master.rpc.addresses and goosefs.master.internal.rpc.port."),
    // master: one of several
    row("goosefs.master.embedded.journal.addresses", Addresses, "", All, "Every master of the group as host:port, the same on all of them in any order; unset or one: this master is alone. What it says when the journals are formatted founds the group; later `fsadmin journal quorum` changes it."),
    row("goosefs.master.embedded.journal.port", PORT, "9202", Master, "Port for other masters; with goosefs.master.hostname it says which of the addresses is this master."),
    row("goosefs.master.embedded.journal.bind.host", Text, "${goosefs.master.bind.host}", Master, "Address the port for other masters listens on."),
    row("goosefs.master.embedded.journal.election.timeout", Duration, "500ms", Master, "Silence of the leading master after which another one stands for election; the same on all masters."),
    row("goosefs.master.embedded.journal.retained.entries", COUNT, "500000", Master, "Applied journal entries kept for masters that are away or behind; one that lacks more is sent a snapshot."),
    row("goosefs.master.embedded.journal.snapshot.bandwidth", Bytes, "100MB", Master, "Bytes of snapshots that this master sends in a second, to all others together; 0: no limit."),
    row("goosefs.master.embedded.journal.leader.priority", Kind::Int { min: 0, max: 1000 }, "0", Master, "Of the masters that have caught up, one with the highest priority is to lead: any other one hands the lead over to it before long. Set per master."),
    row("goosefs.master.embedded.journal.heartbeat.interval", Duration, "100ms", Master, "Rest between two heartbeats of the leading master; the same on all masters, and at most a third of the election timeout."),
    // master: journal and metadata
    row("goosefs.master.journal.type", Choice(&["EMBEDDED", "UFS"]), "EMBEDDED", Master, "How the journal is kept; only EMBEDDED is served."),
    row("goosefs.master.journal.folder", Path, "${goosefs.work.dir}/journal", Master, "Directory of the journal; a fast local disk."),
    row("goosefs.master.journal.log.size.bytes.max", Bytes, "64MB", Master, "Size of one journal segment, allocated ahead."),
    row("goosefs.master.journal.checkpoint.period.entries", COUNT, "2000000", Master, "Journal entries between two checkpoints."),
    row("goosefs.master.metastore", Choice(&["ROCKS", "HEAP"]), "ROCKS", Master, "Where metadata live: on disk, or in memory for small trees and tests."),
    row("goosefs.master.metastore.dir", List, "${goosefs.work.dir}/metastore", Master, "Directory of the metadata database; the first is used when several are given."),
    row("goosefs.master.metastore.cache.type", Choice(&["LRU", "RANDOM", "S3FIFO"]), "LRU", Master, "Which entries leave the metadata cache first: the least recently used, any (slow: it walks the cache), or what was used once."),
    row("goosefs.master.metastore.cache.bytes", Bytes, "256MB", Master, "Memory for hot metadata in front of the database; 0 switches the cache off."),
    row("goosefs.master.metastore.inode.cache.max.size", COUNT, "10000000", Master, "Entries of the metadata cache at most: inodes, edges, and entries of listings; its bytes are bounded, too, by goosefs.master.metastore.cache.bytes. 0 switches it off."),
    unneeded("goosefs.master.metastore.inode", ONE_DATABASE),
    unneeded("goosefs.master.metastore.block", ONE_DATABASE),
    unneeded("goosefs.master.metastore.block.location", ONE_DATABASE),
    unneeded("goosefs.master.metastore.block.location.{rest}", ONE_DATABASE),
    row("goosefs.master.backup.directory", Text, "/goosefs_backups", Master, "Where fsadmin backup writes if it is not told: a path in the root under store."),
    row("goosefs.master.process.memory.budget", Bytes, "2GB", Master, "Memory the master may hold for caches, locations and requests together."),
    row("goosefs.master.operation.id.retention", Duration, "15min", Master, "How long the outcome of an operation is kept for a client that asks again."),
    row("goosefs.master.overload.wait", Duration, "1s", Master, "The longest that calls wait for their turn and it is nothing unusual; where that lasts for twice as long, the master begins what it can and tells the others Busy at once. -1: it refuses nothing."),
    row("goosefs.master.request.timeout", Duration, "60s", Master, "How long a change may wait for its outcome before the client is told to ask again."),
    row("goosefs.master.store.operation.wait", Duration, "30s", Master, "How long a request waits for a change of the store that covers its path before it is told Busy."),
    row("goosefs.master.right.lifetime", Duration, "30s", Master, "How long a worker may keep a right the master confirmed."),
    row("goosefs.master.incomplete.file.timeout", Duration, "24h", Master, "Age at which a file that was never completed and has no writer goes away."),
    row("goosefs.master.metadata.walk.rate", Kind::Int { min: 0, max: 1_000_000 }, "5000", Master, "Inodes that the leading master looks at in a second on its walks through all of them, which give the figures of `fsadmin report metadata`; 0: no walks."),
    row("goosefs.master.metadata.walk.interval", Duration, "1h", Master, "Rest between the end of one walk through all inodes and the next."),
    row("goosefs.master.metadata.expiry.unused.time", Duration, "-1", Master, "Time after which the leading master forgets files and empty directories that nobody used, if their store can give them again just as they are; their cached blocks go, too. -1: never. Clients that load no metadata (NEVER) do not see them until somebody else asks."),
    row("goosefs.master.metadata.expiry.rate", Kind::Int { min: 1, max: 100_000 }, "1000", Master, "Inodes that are forgotten in a second, at most, when they expire."),
    // master: under stores and metadata from them
    row("goosefs.master.mount.table.root.ufs", Path, "${goosefs.work.dir}/underFSStorage", Master, "Store behind /: a directory or a URI such as cosn://bucket/ or s3://bucket/."),
    row("goosefs.master.mount.table.root.readonly", Bool, "false", Master, "Refuse every change of the root store; true is not served yet."),
    row("goosefs.master.mount.table.root.option.{rest}", Text, "", Master, "A property of the root store, such as an endpoint or a credential."),
    row("goosefs.master.metadata.negative.cache.lifetime", Duration, "0ms", Master, "How long a name the store did not have is taken as missing without asking again."),
    unneeded("goosefs.master.metadata.sync.concurrency.level", "Not needed: the layer of each store bounds its requests."),
    unneeded("goosefs.master.metadata.sync.executor.pool.size", "Not needed: metadata loads are tasks, not threads."),
    unneeded("goosefs.master.metadata.sync.ufs.prefetch.pool.size", "Not needed: metadata loads are tasks, not threads."),
    row("goosefs.master.persistence.initial.wait.time", Duration, "1s", Master, "Rest between the completion of an ASYNC_THROUGH file and its first upload."),
    row("goosefs.master.persistence.max.concurrent", COUNT, "64", Master, "Uploads under way at once in the cluster."),
    // master: workers
    row("goosefs.master.worker.heartbeat.interval", Duration, "1s", Master, "Rest between two heartbeats of a worker."),
    row("goosefs.master.worker.timeout", Duration, "60s", Master, "Silence after which a worker is lost."),
    row("goosefs.master.consistent.hash.virtual.node.num.per.worker", Kind::Int { min: 1, max: 10_000 }, "1000", Master, "Points of one worker on the ring that places blocks."),
    unneeded("goosefs.master.startup.block.integrity.check.enabled", "Not needed: blocks without a file are found when workers report them."),
    unneeded("goosefs.master.periodic.block.integrity.check.interval", "Not needed: blocks without a file are found when workers report them."),
    unneeded("goosefs.master.replication.check.interval", "Not needed: there are no replication bounds yet."),
    unneeded("goosefs.master.ttl.checker.interval", NO_TTL).alias(&["goosefs.master.ttl.checker.interval.ms"]),
    unneeded("goosefs.master.audit.logging.enabled", "Not needed: there is no audit log yet."),
    row("goosefs.master.rpc.executor.core.pool.size", Kind::Int { min: 0, max: 1024 }, "0", Master, "Threads that serve connections; 0: one per core."),
    unneeded("goosefs.master.rpc.executor.max.pool.size", "Not needed: threads are as many as goosefs.master.rpc.executor.core.pool.size says."),
    unneeded("goosefs.master.security.impersonation.{name}.users", "Not needed: there is no impersonation yet."),
    unneeded("goosefs.master.security.impersonation.{name}.groups", "Not needed: there is no impersonation yet."),
    // worker: addresses
    row("goosefs.worker.hostname", Text, "", Worker, "Host by which clients reach the worker; unset: this machine's name, or its address with goosefs.network.ip.address.used."),
    row("goosefs.worker.bind.host", Text, "0.0.0.0", Worker, "Address the worker's RPC port listens on."),
    row("goosefs.worker.rpc.port", PORT, "9203", Worker, "Port for clients and other workers."),
    row("goosefs.worker.web.bind.host", Text, "0.0.0.0", Worker, "Address the worker's web port listens on."),
    row("goosefs.worker.web.port", PORT, "9204", Worker, "Port for health and metrics."),
    // worker: cache
    row("goosefs.worker.tieredstore.levels", Kind::Int { min: 1, max: 3 }, "1", Worker, "Number of tiers."),
    row("goosefs.worker.tieredstore.level{x}.alias", Choice(&["MEM", "SSD", "HDD"]), "SSD", Worker, "Medium of the tier."),
    row("goosefs.worker.tieredstore.level{x}.dirs.path", List, "${goosefs.work.dir}/cache", Worker, "Directories of the tier; only the first tier has a default."),
    row("goosefs.worker.tieredstore.level{x}.dirs.mediumtype", List, "", Worker, "Medium of each directory; unset: the tier's alias."),
    row("goosefs.worker.tieredstore.level{x}.dirs.quota", List, "10GB", Worker, "Room in each directory; one value serves all."),
    row("goosefs.worker.tieredstore.level{x}.watermark.high.ratio", Ratio, "0.95", Worker, "Fill at which eviction begins."),
    row("goosefs.worker.tieredstore.level{x}.watermark.low.ratio", Ratio, "0.7", Worker, "Fill at which eviction ends."),
    row("goosefs.worker.tieredstore.free.ahead.bytes", Bytes, "0", Worker, "Room kept free in each directory so that writers need not wait for eviction."),
    row("goosefs.worker.ramdisk.size", Bytes, "", Worker, "Room of a first tier of medium MEM whose quota is not set.").alias(&["goosefs.worker.memory.size"]),
    row("goosefs.worker.read.cache.min.ratio", Ratio, "0.1", Worker, "Share of each tier that writes waiting for their upload may not take."),
    row("goosefs.worker.block.annotator.class", Kind::Class(&["LRUAnnotator", "LRFUAnnotator", "S3FIFOAnnotator", "EpochAnnotator"]), "LRUAnnotator", Worker, "Which blocks leave a directory first: the least recently used; the least recently and frequently used; what was used once, which a scan does not push out the rest by; or what came last, for data that are read in turns and do not fit (set the watermarks to 1 with it)."),
    row("goosefs.worker.block.annotator.lrfu.step.factor", Ratio, "0.25", Worker, "LRFUAnnotator: how fast uses lose weight; 0: never, so that frequency alone counts."),
    row("goosefs.worker.block.annotator.lrfu.attenuation.factor", Kind::Factor, "2.0", Worker, "LRFUAnnotator: a use weighs this to the power of −step × uses of other blocks since."),
    row("goosefs.worker.allocator.class", Kind::Class(&["MaxFreeAllocator", "RoundRobinAllocator", "GreedyAllocator"]), "MaxFreeAllocator", Worker, "Which directory of a tier takes a new block: the one with most room, the next in turn, or the first with room."),
    row("goosefs.worker.tieredstore.unpersisted.volatile.allowed", Bool, "false", Worker, "Let blocks that exist nowhere else rest on MEM directories, where a restart of the machine loses them."),
    row("goosefs.worker.block.store.type", Choice(&["FILE", "PAGE"]), "FILE", Worker, "Both are one store here: whole blocks and single pieces of them live side by side."),
    unneeded("goosefs.worker.page.store.{rest}", "Not needed: pieces of 64 KiB are cached in the tiers; set goosefs.worker.tieredstore.level0.dirs.*."),
    unneeded("goosefs.worker.file.store.dirs.path", "Not needed: set goosefs.worker.tieredstore.level0.dirs.path."),
    row("goosefs.worker.process.memory.budget", Bytes, "1GB", Worker, "Memory the worker may hold beyond its tiers, streams to slow readers among it."),
    // worker: talking to masters and stores
    row("goosefs.worker.block.heartbeat.interval.ms", Duration, "", Nobody, "Not needed: the master tells workers; set goosefs.master.worker.heartbeat.interval.").alias(&["goosefs.worker.block.heartbeat.interval"]),
    unneeded("goosefs.worker.registry.get.timeout.ms", "Not needed: registration streams in chunks and has no single deadline."),
    row("goosefs.worker.ufs.read.concurrency", Kind::Int { min: 1, max: 4096 }, "64", Worker, "Reads from one store under way at once."),
    row("goosefs.worker.persist.concurrency", Kind::Int { min: 1, max: 1024 }, "4", Worker, "Files one worker uploads at once."),
    row("goosefs.worker.master.timeout", Duration, "10s", Worker, "How long one call to a master may take."),
    row("goosefs.worker.rpc.threads", Kind::Int { min: 0, max: 1024 }, "0", Worker, "Threads that serve connections; 0: one per core."),
    unneeded("goosefs.worker.ufs.instream.cache.enabled", "Not needed: connections to stores are always kept."),
    unneeded("goosefs.worker.network.reader.buffer.size", "Not needed: buffers follow goosefs.worker.process.memory.budget."),
    unneeded("goosefs.worker.network.block.reader.threads.max", "Not needed: reads are tasks; set goosefs.worker.process.memory.budget."),
    unneeded("goosefs.worker.data.server.domain.socket.address", "Not needed: there is no domain socket yet."),
    unneeded("goosefs.worker.data.server.domain.socket.as.uuid", "Not needed: there is no domain socket yet."),
    unneeded("goosefs.worker.fuse.{rest}", FUSE),
    // security
    row("goosefs.security.authentication.type", Choice(&["SIMPLE", "NOSASL", "CUSTOM", "KERBEROS"]), "SIMPLE", All, "How users prove who they are; SIMPLE and NOSASL are served."),
    row("goosefs.security.authentication.strict.channel", Bool, "false", Servers, "Refuse calls on connections that a restarted server does not know instead of taking them as the login user's."),
    row("goosefs.security.login.username", Text, "", All, "User to act as; unset: the user of the process. On servers: whom unauthenticated calls act as, unset: nobody."),
    unneeded("goosefs.security.login.impersonation.username", "Not needed: there is no impersonation yet."),
    row("goosefs.security.authorization.permission.enabled", Bool, "true", Master, "Check mode, owner and group."),
    row("goosefs.security.authorization.permission.supergroup", Text, "supergroup", Master, "Group whose members may do everything."),
    row("goosefs.security.authorization.permission.umask", Text, "022", All, "Octal mode bits taken from new files and directories."),
    row("goosefs.security.secret.key.file", Path, "${goosefs.work.dir}/secret.key", Servers, "Key that seals credentials and proves a worker to its master; made by format, the same on every machine."),
    unneeded("goosefs.security.authorization.permission.type", "Not needed: permissions are those of POSIX; there is no Ranger yet."),
    unneeded("goosefs.security.authorization.custom.provider.class", "Not needed: permissions are those of POSIX; there is no Ranger yet."),
    unneeded("goosefs.security.authorization.capability.enabled", "Not needed: workers ask the master about rights themselves."),
    unneeded("goosefs.security.group.mapping.class", "Not needed: groups come from the system's group database."),
    unneeded("goosefs.security.stale.channel.purge.interval", "Not needed: a server keeps its last 100,000 connections and forgets the oldest."),
    unneeded("goosefs.security.auth_to_local", KERBEROS),
    unneeded("goosefs.security.kerberos.{rest}", KERBEROS),
    // client
    row("goosefs.user.master.polling.timeout", Duration, "30s", Client, "How long one master may take to say whether it leads."),
    row("goosefs.user.network.rpc.connect.timeout", Duration, "30s", Client, "How long a connection may take to open."),
    row("goosefs.user.network.rpc.timeout", Duration, "5min", Client, "How long one call to the master may take, retries included."),
    row("goosefs.user.streaming.data.timeout", Duration, "1h", Client, "How long a worker may be silent in the middle of a stream."),
    row("goosefs.user.block.size.bytes.default", Bytes, "64MB", Client, "Block size of new files."),
    row("goosefs.user.network.data.transfer.chunk.size", Bytes, "1MB", Client, "Bytes sent to a worker in one message."),
    row("goosefs.user.streaming.reader.chunk.size.bytes", Bytes, "1MB", Client, "Bytes asked of a worker in one message."),
    row("goosefs.user.streaming.reader.max.prefetch.window", Kind::Int { min: 0, max: 1024 }, "8", Client, "Messages a worker may send ahead of a sequential reader."),
    row("goosefs.user.file.writetype.default", WRITE_TYPES, "", Client, "Where new files go; unset: as the namespace's write policy says."),
    row("goosefs.user.file.readtype.default", Choice(&["CACHE", "NO_CACHE"]), "CACHE", Client, "Whether reads leave what they fetched in the cache."),
    row("goosefs.user.file.metadata.load.type", Choice(&["NEVER", "ONCE", "ALWAYS"]), "ONCE", Client, "Whether the store is asked: never, for names not known yet, or at every call."),
    row("goosefs.user.file.metadata.sync.interval", Duration, "-1", Client, "Age at which known metadata are compared with the store; 0: every time, -1: never."),
    row("goosefs.user.file.replication.durable", Kind::Int { min: 1, max: 16 }, "2", Client, "Workers an ASYNC_THROUGH file is written to."),
    row("goosefs.user.file.replication.durable.min", Kind::Int { min: 1, max: 16 }, "1", Client, "Fewest workers an ASYNC_THROUGH file may be written to before the write fails."),
    row("goosefs.user.file.persistence.initial.wait.time", Duration, "0", Client, "Rest before an ASYNC_THROUGH file is uploaded; -1: not until it is asked for."),
    row("goosefs.user.file.persist.on.rename", Bool, "false", Client, "Upload a cached file when it is renamed."),
    row("goosefs.user.file.delete.unchecked", Bool, "true", Client, "Delete directories without looking for entries of the store unknown here."),
    row("goosefs.user.file.check.block.replicas", Kind::Int { min: 0, max: 16 }, "0", Client, "Workers asked what they hold before a read; 0: the master's word is taken."),
    row("goosefs.user.file.read.max.node.retry", Kind::Int { min: 1, max: 16 }, "3", Client, "Workers tried for one block."),
    row("goosefs.user.block.worker.available.min.remain.bytes", Bytes, "128MB", Client, "Room a worker must have left to take part in ASYNC_THROUGH."),
    row("goosefs.user.block.worker.available.min.remain.ratio", Ratio, "0.015", Client, "Share of its capacity a worker must have left to take part in ASYNC_THROUGH."),
    row("goosefs.user.streaming.writer.checksum.type", Choice(&["CRC32C", "NULL", "CRC32"]), "CRC32C", Client, "Checksum stored with a file; CRC32C and NULL are served."),
    unneeded("goosefs.user.file.replication.number", "Not needed: other write types keep one copy."),
    unneeded("goosefs.user.file.write.max.node.retry", "Not needed: a block goes to the workers the ring names, failed ones left out."),
    unneeded("goosefs.user.file.async.persist.flush.enabled", "Not needed: workers make unpersisted blocks durable before they answer."),
    unneeded("goosefs.user.file.passive.cache.enabled", "Not needed: a block is cached where the ring places it."),
    unneeded("goosefs.user.file.create.ttl", NO_TTL),
    unneeded("goosefs.user.file.create.ttl.action", NO_TTL),
    unneeded("goosefs.user.block.worker.client.pool.max", "Not needed: one connection to each worker carries all streams."),
    unneeded("goosefs.user.worker.connection.pool.size", "Not needed: one connection to each worker carries all streams."),
    unneeded("goosefs.user.master.connection.pool.size", "Not needed: one connection to the master carries all calls."),
    unneeded("goosefs.user.master.pool.schedule", "Not needed: one connection to the master carries all calls."),
    unneeded("goosefs.user.block.write.location.policy.class", "Not needed: blocks are placed by consistent hashing."),
    unneeded("goosefs.user.block.read.location.policy", "Not needed: blocks are found by their reported location, then by consistent hashing."),
    unneeded("goosefs.user.local.reader.chunk.size.bytes", "Not needed: all reads take one path; set goosefs.user.streaming.reader.chunk.size.bytes."),
    unneeded("goosefs.user.local.ufs.client.ignore.block.stream.unknown.status", "Not needed: the client never writes to a store itself."),
    unneeded("goosefs.user.local.write.ufs.client.enabled", "Not needed: the client never writes to a store itself."),
    unneeded("goosefs.user.streaming.reader.buffer.size.messages", "Not needed: the transport's window bounds what is in flight."),
    unneeded("goosefs.user.streaming.reader.close.timeout", "Not needed: closing a reader does not wait."),
    unneeded("goosefs.user.network.vpc.mapping.enabled", "Not needed: workers are reached by the address they report."),
    unneeded("goosefs.user.metadata.cache.{rest}", METADATA_CACHE),
    unneeded("goosefs.user.client.cache.{rest}", PAGE_CACHE),
    unneeded("goosefs.user.client.transparent_acceleration.{rest}", HADOOP),
    unneeded("goosefs.user.client.namespace.refresh.interval", HADOOP),
    unneeded("goosefs.user.app.id", "Not needed: clients here are not told apart by application."),
    unneeded("goosefs.user.logging.threshold", "Not needed: set RUST_LOG to see slow calls."),
    unneeded("goosefs.user.metrics.collection.enabled", "Not needed: commands report no metrics of their own."),
    unneeded("goosefs.user.metrics.heartbeat.interval", "Not needed: commands report no metrics of their own."),
    // elsewhere
    row("goosefs.network.ip.address.used", Bool, "false", Worker, "Report this machine by address instead of by name."),
    unneeded("goosefs.metrics.conf.file", PUSHGATEWAY),
    unneeded("goosefs.metrics.pushgateway.{rest}", PUSHGATEWAY),
    unneeded("goosefs.zookeeper.enabled", "Not needed: masters elect their leader among themselves."),
    unneeded("goosefs.zookeeper.address", "Not needed: masters elect their leader among themselves."),
    unneeded("goosefs.config.manager.rpc.addresses", "Not needed: there is no configuration manager."),
    unneeded("goosefs.config.rpc.port", "Not needed: there is no configuration manager."),
    unneeded("goosefs.proxy.web.port", "Not needed: there is no S3 gateway yet."),
    unneeded("goosefs.job.master.finished.job.retention.time", JOBS),
    unneeded("goosefs.job.worker.max.active.task.num", JOBS),
    unneeded("goosefs.job.worker.threadpool.size", JOBS),
    unneeded("goosefs.job.master.hostname", JOBS),
    unneeded("goosefs.job.master.{name}.port", JOBS),
    unneeded("goosefs.job.worker.{name}.port", JOBS),
    unneeded("goosefs.job.master.rpc.addresses", JOBS),
    unneeded("goosefs.job.master.embedded.journal.addresses", JOBS),
    unneeded("goosefs.job.master.embedded.journal.port", JOBS),
    unneeded("goosefs.fuse.cached.paths.max", FUSE),
    unneeded("goosefs.fuse.debug.enabled", FUSE),
    unneeded("goosefs.fuse.fs.name", FUSE),
    unneeded("goosefs.fuse.jnifuse.enabled", FUSE),
    unneeded("goosefs.fuse.shared.caching.reader.enabled", FUSE),
    unneeded("goosefs.fuse.logging.threshold", FUSE),
    unneeded("goosefs.fuse.maxwrite.bytes", FUSE),
    unneeded("goosefs.fuse.user.group.translation.enabled", FUSE),
    unneeded("goosefs.fuse.web.enabled", FUSE),
    unneeded("goosefs.fuse.web.port", FUSE),
    unneeded("goosefs.fuse.list.entries.cache.{rest}", FUSE),
    unneeded("goosefs.fuse.async.release.wait_time.max.ms", FUSE),
    unneeded("goosefs.fuse.umount.timeout", FUSE),
    // under stores
    row("goosefs.underfs.s3.{rest}", Text, "", Master, "A property of S3 stores, for the root store."),
    row("fs.cosn.userinfo.secretId", Text, "", Master, "Credential for COS, for the root store.").secret(),
    row("fs.cosn.userinfo.secretKey", Text, "", Master, "Credential for COS, for the root store.").secret(),
    row("fs.cosn.userinfo.sessionToken", Text, "", Master, "Temporary credential for COS, for the root store.").secret(),
    row("s3a.{rest}", Text, "", Master, "A credential for S3, for the root store."),
    row("aws.{rest}", Text, "", Master, "A credential for S3, for the root store."),
    unneeded("fs.cosn.impl", HADOOP),
    unneeded("fs.gfs.impl", HADOOP),
    unneeded("fs.ofs.impl", HADOOP),
    unneeded("fs.AbstractFileSystem.{name}.impl", HADOOP),
    unneeded("fs.cosn.block.size", "Not needed: read-ahead follows what a reader does."),
    unneeded("fs.cosn.upload_thread_pool", "Not needed: uploads are tasks, not threads."),
    unneeded("fs.cosn.read.ahead.block.size", "Not needed: read-ahead follows what a reader does."),
    unneeded("fs.cosn.read.ahead.queue.size", "Not needed: read-ahead follows what a reader does."),
    unneeded("fs.cosn.upload.part.size", "Not needed: the part size follows the file's length."),
    row("fs.cosn.{rest}", Text, "", Master, "A property of COS stores, for the root store."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_sound() {
        for (at, row) in TABLE.iter().enumerate() {
            assert!(row.about.ends_with('.'), "{}: {}", row.key, row.about);
            assert_eq!(row.key.matches('{').count(), row.key.matches('}').count(), "{}", row.key);
            if !row.default.is_empty() && !row.default.contains("${") {
                row.kind.parse(row.default).unwrap_or_else(|why| panic!("{}: default is not {why}", row.key));
            }
            let mut later = TABLE[at + 1..].iter();
            assert!(later.all(|other| other.key != row.key), "{} stands twice", row.key);
            if row.role == Role::Nobody {
                assert!(row.about.starts_with("Not needed: "), "{}: {}", row.key, row.about);
            }
        }
    }

    #[test]
    fn patterns_stand_for_their_keys_only() {
        let key = |key| find(key).map(|row| row.key);
        assert_eq!(key("goosefs.worker.tieredstore.level12.alias"), Some("goosefs.worker.tieredstore.level{x}.alias"));
        assert_eq!(key("goosefs.worker.tieredstore.levelx.alias"), None);
        assert_eq!(key("goosefs.worker.tieredstore.level0.aliases"), None);
        assert!(key("goosefs.master.security.impersonation.hive.users").is_some());
        assert_eq!(key("goosefs.master.security.impersonation.a.b.users"), None);
        assert_eq!(key("fs.cosn.impl"), Some("fs.cosn.impl"), "exact before pattern");
        assert_eq!(key("fs.cosn.bucket.region"), Some("fs.cosn.{rest}"));
        assert_eq!(key("goosefs.master.ttl.checker.interval.ms"), Some("goosefs.master.ttl.checker.interval"));
    }

    #[test]
    fn what_smells_like_a_credential_is_secret() {
        for key in [
            "fs.cosn.userinfo.secretKey",
            "fs.cosn.userinfo.sessionToken",
            "goosefs.underfs.s3.secret.key",
            "goosefs.master.mount.table.root.option.s3a.accessKeyId",
            "something.unknown.password",
        ] {
            assert!(is_secret(key), "{key}");
        }
        assert!(!is_secret("goosefs.security.secret.key.file"), "a place is no secret");
        assert!(!is_secret("fs.cosn.bucket.region"));
    }
}
