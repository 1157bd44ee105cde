//! From settings to what each role is told.
//!
//! Is:     one function per role, total over the table's keys for it.
//! Owns:   which key feeds which field.
//! Never:  has a default of its own.

use super::{Error, Settings, Source};
use client::{Auth, ClientConfig};
use master::{CacheConfig, Eviction, ExpiryConfig, GroupConfig, MasterConfig, Metastore, WalkConfig};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;
use tier::{Allocator, Medium, Permille, Volatile, Watermarks};
use types::{ChecksumKind, LoadMetadata, Ordinal, Secret, WriteType};
use worker::{DirectoryConfig, WorkerConfig};

const MASTERS: &str = "goosefs.master.rpc.addresses";
const GROUP: &str = "goosefs.master.embedded.journal.addresses";
const ELECTION: &str = "goosefs.master.embedded.journal.election.timeout";
const HEARTBEAT: &str = "goosefs.master.embedded.journal.heartbeat.interval";
const AUTH: &str = "goosefs.security.authentication.type";
const REPLICAS_MIN: &str = "goosefs.user.file.replication.durable.min";
const LOGIN: &str = "goosefs.security.login.username";
/// Whom servers take unauthenticated callers for, unless told.
const NOBODY: &str = "nobody";

/// What a client is told.
pub fn client(settings: &Settings) -> Result<ClientConfig, Error> {
    let write_type = settings.word_if_set("goosefs.user.file.writetype.default");
    let load = match settings.word("goosefs.user.file.metadata.load.type").as_str() {
        "NEVER" => LoadMetadata::Never,
        "ALWAYS" => LoadMetadata::Always,
        _ => LoadMetadata::Once,
    };
    let checksum = match settings.word("goosefs.user.streaming.writer.checksum.type").as_str() {
        "NULL" => ChecksumKind::Null,
        "CRC32" => return Err(unusable(settings, "goosefs.user.streaming.writer.checksum.type", "set CRC32C or NULL")),
        _ => ChecksumKind::Crc32c,
    };
    let (replicas, replicas_min) =
        (size(settings, "goosefs.user.file.replication.durable"), size(settings, REPLICAS_MIN));
    if replicas_min > replicas {
        let why = "it is above goosefs.user.file.replication.durable; lower it, or raise that one";
        return Err(unusable(settings, REPLICAS_MIN, why));
    }
    Ok(ClientConfig {
        masters: masters(settings, "goosefs.master.rpc.port"),
        user: user(settings)?,
        auth: if is_nosasl(settings)? { Auth::Nosasl } else { Auth::Simple },
        connect_timeout: settings.duration("goosefs.user.network.rpc.connect.timeout")?,
        rpc_timeout: settings.duration("goosefs.user.network.rpc.timeout")?,
        polling_timeout: settings.duration("goosefs.user.master.polling.timeout")?,
        data_timeout: settings.duration("goosefs.user.streaming.data.timeout")?,
        write_chunk_bytes: chunk(settings, "goosefs.user.network.data.transfer.chunk.size")?,
        read_chunk_bytes: chunk(settings, "goosefs.user.streaming.reader.chunk.size.bytes")?,
        prefetch_window: small(settings, "goosefs.user.streaming.reader.max.prefetch.window"),
        block_bytes: settings.bytes("goosefs.user.block.size.bytes.default"),
        write_type: write_type.map(|name| WriteType::from_name(&name).expect("the table lists the write types")),
        checksum,
        read_caches: settings.word("goosefs.user.file.readtype.default") == "CACHE",
        load,
        sync_interval: settings.duration_or_off("goosefs.user.file.metadata.sync.interval"),
        replicas,
        replicas_min,
        persist_wait: settings.duration_or_off("goosefs.user.file.persistence.initial.wait.time"),
        persist_on_rename: settings.switch("goosefs.user.file.persist.on.rename"),
        read_workers: size(settings, "goosefs.user.file.read.max.node.retry"),
        check_replicas: size(settings, "goosefs.user.file.check.block.replicas"),
        worker_remain_bytes: settings.bytes("goosefs.user.block.worker.available.min.remain.bytes"),
        worker_remain_ratio: settings.ratio("goosefs.user.block.worker.available.min.remain.ratio"),
    })
}

/// What a master is told. `superuser` runs it.
pub fn master(settings: &Settings) -> Result<MasterConfig, Error> {
    settings.check_for_server()?;
    refuse(settings, "goosefs.master.journal.type", "UFS", "only EMBEDDED is served; it needs no shared store")?;
    let metastore_dirs = settings.list("goosefs.master.metastore.dir");
    if metastore_dirs.len() > 1 {
        tracing::warn!(used = %metastore_dirs[0], "goosefs.master.metastore.dir names several directories, the first is used");
    }
    let metastore_dir = metastore_dirs.into_iter().next().ok_or_else(|| missing("goosefs.master.metastore.dir"))?;
    let root_ufs = settings.word("goosefs.master.mount.table.root.ufs");
    let (root_properties, root_secrets) = root_properties(settings, &root_ufs);
    refuse(
        settings,
        "goosefs.master.mount.table.root.readonly",
        "true",
        "a read-only root is not served; make a read-only namespace",
    )?;
    let rpc_addr = listen(settings, "goosefs.master.bind.host", "goosefs.master.rpc.port")?;
    let web_addr = listen(settings, "goosefs.master.web.bind.host", "goosefs.master.web.port")?;
    let internal_addr = listen(settings, "goosefs.master.bind.host", "goosefs.master.internal.rpc.port")?;
    let group = group(settings)?;
    let mut ports = vec![
        ("goosefs.master.rpc.port", rpc_addr),
        ("goosefs.master.web.port", web_addr),
        ("goosefs.master.internal.rpc.port", internal_addr),
    ];
    ports.extend(group.as_ref().map(|group| ("goosefs.master.embedded.journal.port", group.listen)));
    distinct(settings, &ports)?;
    let heartbeat_interval = settings.duration("goosefs.master.worker.heartbeat.interval")?;
    let worker_timeout = settings.duration("goosefs.master.worker.timeout")?;
    if worker_timeout <= heartbeat_interval {
        let why = "it must be longer than goosefs.master.worker.heartbeat.interval, or no worker stays";
        return Err(unusable(settings, "goosefs.master.worker.timeout", why));
    }
    let walk = walk(settings)?;
    Ok(MasterConfig {
        hostname: settings.word("goosefs.master.hostname"),
        rpc_addr,
        web_addr,
        internal_addr,
        group,
        journal_dir: settings.path("goosefs.master.journal.folder"),
        metastore_dir: metastore_dir.into(),
        metastore: if settings.word("goosefs.master.metastore") == "HEAP" { Metastore::Heap } else { Metastore::Rocks },
        work_dir: settings.path("goosefs.work.dir").join("master"),
        backup_dir: settings.word("goosefs.master.backup.directory"),
        key_file: settings.path("goosefs.security.secret.key.file"),
        root_ufs,
        root_properties,
        root_secrets,
        root_mode: 0o755,
        superuser: process_user(),
        supergroup: settings.word("goosefs.security.authorization.permission.supergroup"),
        permission_enabled: settings.switch("goosefs.security.authorization.permission.enabled"),
        nosasl: is_nosasl(settings)?,
        nosasl_user: settings.word_if_set(LOGIN).unwrap_or_else(|| NOBODY.into()),
        strict_channel: settings.switch("goosefs.security.authentication.strict.channel"),
        ready_with_worker: false,
        rpc_threads: threads(settings, "goosefs.master.rpc.executor.core.pool.size"),
        segment_bytes: settings.bytes("goosefs.master.journal.log.size.bytes.max"),
        checkpoint_entries: settings.count("goosefs.master.journal.checkpoint.period.entries"),
        cache: metadata_cache(settings),
        memory_budget_bytes: settings.bytes("goosefs.master.process.memory.budget"),
        late: settings.duration_or_off("goosefs.master.overload.wait").unwrap_or(Duration::ZERO),
        request_timeout: settings.duration("goosefs.master.request.timeout")?,
        intent_wait: settings.duration("goosefs.master.store.operation.wait")?,
        operation_retention: settings.duration("goosefs.master.operation.id.retention")?,
        incomplete_expiry: settings.duration("goosefs.master.incomplete.file.timeout")?,
        walk,
        expiry: expiry(settings, walk.is_some())?,
        persist_delay: settings.duration("goosefs.master.persistence.initial.wait.time")?,
        persist_concurrency: size(settings, "goosefs.master.persistence.max.concurrent"),
        negative_cache: settings
            .duration_or_off("goosefs.master.metadata.negative.cache.lifetime")
            .unwrap_or(Duration::ZERO),
        right_valid: settings.duration("goosefs.master.right.lifetime")?,
        heartbeat_interval,
        worker_timeout,
        virtual_nodes: small(settings, "goosefs.master.consistent.hash.virtual.node.num.per.worker"),
    })
}

/// The walk through all inodes; None: there is none.
fn walk(settings: &Settings) -> Result<Option<WalkConfig>, Error> {
    let per_second = settings.count("goosefs.master.metadata.walk.rate");
    let every = settings.duration("goosefs.master.metadata.walk.interval")?;
    Ok((per_second > 0).then_some(WalkConfig { per_second, every }))
}

/// What becomes of metadata that nobody uses; None: they stay.
fn expiry(settings: &Settings, walks: bool) -> Result<Option<ExpiryConfig>, Error> {
    const UNUSED: &str = "goosefs.master.metadata.expiry.unused.time";
    let Some(unused) = settings.duration_or_off(UNUSED) else { return Ok(None) };
    if unused < Duration::from_secs(1) {
        return Err(unusable(settings, UNUSED, "it is at least 1s; -1 switches it off"));
    }
    if !walks {
        let why = "unused metadata are found by walks, and goosefs.master.metadata.walk.rate is 0; raise that, or set this to -1";
        return Err(unusable(settings, UNUSED, why));
    }
    Ok(Some(ExpiryConfig { unused, per_second: settings.count("goosefs.master.metadata.expiry.rate") }))
}

/// What a master keeps in memory of its database.
fn metadata_cache(settings: &Settings) -> CacheConfig {
    let bytes = settings.bytes("goosefs.master.metastore.cache.bytes");
    let name = settings.word("goosefs.master.metastore.cache.type");
    CacheConfig {
        entries: size(settings, "goosefs.master.metastore.inode.cache.max.size"),
        bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        eviction: Eviction::named(&name).expect("the table lists the policies there are"),
    }
}

/// The group a master is one of; None: it is alone.
fn group(settings: &Settings) -> Result<Option<GroupConfig>, Error> {
    let members: Vec<String> = settings.addresses(GROUP).iter().map(|(host, port)| join(host, *port)).collect();
    if members.len() < 2 {
        return Ok(None);
    }
    let own = join(&settings.word("goosefs.master.hostname"), settings.port("goosefs.master.embedded.journal.port"));
    match members.iter().filter(|member| **member == own).count() {
        0 => {
            let why = format!(
                "this master, {own}, is not among them; set goosefs.master.hostname and \
                 goosefs.master.embedded.journal.port to its own entry, spelled alike"
            );
            return Err(unusable(settings, GROUP, why));
        }
        1 => {}
        count => {
            return Err(unusable(settings, GROUP, format!("{own} stands there {count} times; name each master once")));
        }
    }
    if members.len().is_multiple_of(2) {
        tracing::warn!(
            masters = members.len(),
            "{GROUP} names an even number of masters: one fewer survives as many failures"
        );
    }
    let (election_timeout, heartbeat) = (settings.duration(ELECTION)?, settings.duration(HEARTBEAT)?);
    if heartbeat < Duration::from_millis(10) {
        return Err(unusable(settings, HEARTBEAT, "it is at least 10ms"));
    }
    if election_timeout < heartbeat * 3 || election_timeout > Duration::from_secs(300) {
        let why =
            format!("it is at least three times {HEARTBEAT} ({} ms), and at most 5 minutes", heartbeat.as_millis());
        return Err(unusable(settings, ELECTION, why));
    }
    let listen = listen(settings, "goosefs.master.embedded.journal.bind.host", "goosefs.master.embedded.journal.port")?;
    Ok(Some(GroupConfig {
        members,
        own,
        listen,
        election_timeout,
        heartbeat,
        retained_entries: settings.count("goosefs.master.embedded.journal.retained.entries"),
        snapshot_bandwidth: Some(settings.bytes("goosefs.master.embedded.journal.snapshot.bandwidth"))
            .filter(|bytes| *bytes > 0),
        priority: u32::try_from(settings.count("goosefs.master.embedded.journal.leader.priority")).unwrap_or(u32::MAX),
        recover: false,
    }))
}

/// What a worker is told.
pub fn worker(settings: &Settings) -> Result<WorkerConfig, Error> {
    settings.check_for_server()?;
    let volatile = settings.switch("goosefs.worker.tieredstore.unpersisted.volatile.allowed");
    let internal = settings.port("goosefs.master.internal.rpc.port");
    let mut internals = settings.addresses("goosefs.master.internal.rpc.addresses");
    if internals.is_empty() {
        let masters = masters(settings, "goosefs.master.internal.rpc.port");
        internals = masters.into_iter().map(|(host, _)| (host, internal)).collect();
    }
    let rpc_addr = listen(settings, "goosefs.worker.bind.host", "goosefs.worker.rpc.port")?;
    let web_addr = listen(settings, "goosefs.worker.web.bind.host", "goosefs.worker.web.port")?;
    distinct(settings, &[("goosefs.worker.rpc.port", rpc_addr), ("goosefs.worker.web.port", web_addr)])?;
    Ok(WorkerConfig {
        hostname: worker_hostname(settings)?,
        rpc_addr,
        web_addr,
        masters: internals.into_iter().map(|(host, port)| join(&host, port)).collect(),
        directories: directories(settings)?,
        read_share_min: permille(settings.ratio("goosefs.worker.read.cache.min.ratio")),
        free_ahead_bytes: settings.bytes("goosefs.worker.tieredstore.free.ahead.bytes"),
        volatile: if volatile { Volatile::Allow } else { Volatile::Refuse },
        allocator: match settings.word("goosefs.worker.allocator.class").as_str() {
            "RoundRobinAllocator" => Allocator::RoundRobin,
            "GreedyAllocator" => Allocator::Greedy,
            _ => Allocator::MaxFree,
        },
        eviction: match settings.word("goosefs.worker.block.annotator.class").as_str() {
            "LRFUAnnotator" => tier::Eviction::Lrfu {
                step: settings.ratio("goosefs.worker.block.annotator.lrfu.step.factor"),
                attenuation: settings.ratio("goosefs.worker.block.annotator.lrfu.attenuation.factor"),
            },
            "S3FIFOAnnotator" => tier::Eviction::S3Fifo,
            "EpochAnnotator" => tier::Eviction::Epoch,
            _ => tier::Eviction::Lru,
        },
        work_dir: settings.path("goosefs.work.dir").join("worker"),
        key_file: settings.path("goosefs.security.secret.key.file"),
        nosasl: is_nosasl(settings)?,
        nosasl_user: settings.word_if_set(LOGIN).unwrap_or_else(|| NOBODY.into()),
        strict_channel: settings.switch("goosefs.security.authentication.strict.channel"),
        rpc_threads: threads(settings, "goosefs.worker.rpc.threads"),
        memory_budget_bytes: settings.bytes("goosefs.worker.process.memory.budget"),
        fetches_per_store: size(settings, "goosefs.worker.ufs.read.concurrency"),
        persist_concurrency: size(settings, "goosefs.worker.persist.concurrency"),
        master_timeout: settings.duration("goosefs.worker.master.timeout")?,
    })
}

/// Mode bits taken from new files and directories.
pub fn umask(settings: &Settings) -> Result<u16, Error> {
    const KEY: &str = "goosefs.security.authorization.permission.umask";
    let bits = u16::from_str_radix(&settings.word(KEY), 8).ok().filter(|bits| *bits <= 0o777);
    bits.ok_or_else(|| unusable(settings, KEY, "it is an octal number from 000 to 777"))
}

fn missing(key: &str) -> Error {
    Error::Missing { key: key.to_owned(), hint: "give it a value" }
}

fn unusable(settings: &Settings, key: &str, why: impl Into<String>) -> Error {
    let (key, value, from) = (key.to_owned(), settings.shown_text(key), settings.source(key));
    Error::Unusable { key, value, from, why: why.into() }
}

/// Stops at a value the table knows and this release does not serve.
fn refuse(settings: &Settings, key: &str, value: &str, why: &str) -> Result<(), Error> {
    let there = settings.shown_text(key);
    if there.trim().eq_ignore_ascii_case(value) { Err(unusable(settings, key, why)) } else { Ok(()) }
}

fn size(settings: &Settings, key: &str) -> usize {
    usize::try_from(settings.count(key)).unwrap_or(usize::MAX)
}

fn small(settings: &Settings, key: &str) -> u32 {
    u32::try_from(settings.count(key)).unwrap_or(u32::MAX)
}

fn threads(settings: &Settings, key: &str) -> usize {
    match size(settings, key) {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

/// A chunk travels in one message, and the official servers refuse messages of 4 MiB.
fn chunk(settings: &Settings, key: &str) -> Result<usize, Error> {
    const LARGEST: u64 = (4 << 20) - (64 << 10);
    match settings.bytes(key) {
        0 => Err(unusable(settings, key, "a chunk has at least one byte")),
        bytes if bytes > LARGEST => Err(unusable(settings, key, format!("a chunk has at most {LARGEST} bytes"))),
        bytes => Ok(usize::try_from(bytes).expect("bounded just above")),
    }
}

/// The masters; without a list those of the journal's, else the one host. `port_key` is for the cases without a list.
fn masters(settings: &Settings, port_key: &str) -> Vec<(String, u16)> {
    let listed = settings.addresses(MASTERS);
    let group = settings.addresses(GROUP);
    if listed.is_empty() && !group.is_empty() {
        let port = settings.port(port_key);
        return group.into_iter().map(|(host, _)| (host, port)).collect();
    }
    if listed.is_empty() {
        return vec![(settings.word("goosefs.master.hostname"), settings.port(port_key))];
    }
    listed
}

fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The address to listen on: a literal one, or what the name resolves to.
fn listen(settings: &Settings, host_key: &str, port_key: &str) -> Result<SocketAddr, Error> {
    let (host, port) = (settings.word(host_key), settings.port(port_key));
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let found = (host.as_str(), port).to_socket_addrs().ok().and_then(|mut all| all.next());
    found.ok_or_else(|| unusable(settings, host_key, "it is no address, and no name that resolves to one"))
}

/// Two ports of one process at one address: the second would find it in use, by the process itself.
fn distinct(settings: &Settings, ports: &[(&str, SocketAddr)]) -> Result<(), Error> {
    for (n, (key, address)) in ports.iter().enumerate() {
        let same = ports[..n].iter().find(|(_, earlier)| earlier == address && address.port() != 0);
        if let Some((earlier, _)) = same {
            return Err(unusable(settings, key, format!("{earlier} is the same; give each a port of its own")));
        }
    }
    Ok(())
}

fn is_nosasl(settings: &Settings) -> Result<bool, Error> {
    match settings.word(AUTH).as_str() {
        "NOSASL" => Ok(true),
        "SIMPLE" => Ok(false),
        _ => Err(unusable(settings, AUTH, "this release serves SIMPLE and NOSASL")),
    }
}

/// Whom a client acts as.
fn user(settings: &Settings) -> Result<String, Error> {
    let user = settings.word_if_set(LOGIN).unwrap_or_else(process_user);
    if user.contains('\0') {
        return Err(unusable(settings, LOGIN, "a user name has no NUL"));
    }
    Ok(user)
}

/// The user this process runs as: by its number, then by $USER, then the number itself.
pub fn process_user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let named = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let by_number = named.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    by_number.or_else(|| std::env::var("USER").ok().filter(|user| !user.is_empty())).unwrap_or_else(|| uid.to_string())
}

/// The name by which a worker is reached: told, or this machine's name, or the address it has towards the master.
fn worker_hostname(settings: &Settings) -> Result<String, Error> {
    const KEY: &str = "goosefs.worker.hostname";
    if let Some(told) = settings.word_if_set(KEY) {
        return Ok(told);
    }
    if settings.switch("goosefs.network.ip.address.used") {
        let (host, port) = masters(settings, "goosefs.master.rpc.port").swap_remove(0);
        let socket = std::net::UdpSocket::bind("0.0.0.0:0");
        // Connecting a datagram socket sends nothing; it only picks the route, and so the address.
        let local = socket.and_then(|s| s.connect((host.as_str(), port)).and_then(|()| s.local_addr()));
        return local.map(|address| address.ip().to_string()).map_err(|e| {
            unusable(settings, KEY, format!("no route to the master was found ({e}); set the worker's own host"))
        });
    }
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(if name.is_empty() { "localhost".into() } else { name })
}

/// Properties for the root store: those meant for its kind, then those given for it alone, which win.
fn root_properties(settings: &Settings, uri: &str) -> (BTreeMap<String, String>, BTreeMap<String, Secret>) {
    let scheme = uri.split_once("://").map_or("file", |(scheme, _)| scheme);
    let prefixes: &[&str] = match scheme {
        "s3" | "s3a" => &["goosefs.underfs.s3.", "s3a.", "aws."],
        "cosn" | "cos" => &["fs.cosn."],
        _ => &[],
    };
    let known = ufs::known_properties();
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for prefix in prefixes {
        // Site files of the real product carry tuning keys of its connector too; those mean nothing to a store here.
        let named = settings.below(prefix).into_iter().map(|(rest, value)| (format!("{prefix}{rest}"), value));
        all.extend(named.filter(|(name, _)| known.iter().any(|property| property.name == name)));
    }
    all.extend(settings.below("goosefs.master.mount.table.root.option."));
    let (secret, plain): (BTreeMap<_, _>, BTreeMap<_, _>) = all.into_iter().partition(|(name, _)| ufs::is_secret(name));
    (plain, secret.into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
}

fn permille(ratio: f64) -> Permille {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the table bounds ratios to 0..=1
    let thousandths = (ratio * 1000.0).round() as u16;
    Permille::new(thousandths).expect("the table bounds ratios to 0..=1")
}

/// Every storage directory of every tier.
fn directories(settings: &Settings) -> Result<Vec<DirectoryConfig>, Error> {
    let mut found = Vec::new();
    for level in 0..settings.count("goosefs.worker.tieredstore.levels") {
        let key = |what: &str| format!("goosefs.worker.tieredstore.level{level}.{what}");
        let (paths_key, quota_key, media_key) = (key("dirs.path"), key("dirs.quota"), key("dirs.mediumtype"));
        // Two tiers in the same default directory would be one.
        if level > 0 && settings.source(&paths_key) == Source::Default {
            return Err(Error::Missing { key: paths_key, hint: "name a directory for this tier, or set fewer levels" });
        }
        let alias = settings.word(&key("alias"));
        let paths = settings.list(&paths_key);
        let media = per_directory(settings, &media_key, &paths, || vec![alias.clone()])?;
        let ramdisk = settings.bytes_if_set("goosefs.worker.ramdisk.size");
        let quota_told = settings.source(&quota_key) != Source::Default;
        let quotas = match ramdisk {
            Some(bytes) if level == 0 && alias == "MEM" && !quota_told => vec![bytes.to_string(); paths.len()],
            Some(_) | None => per_directory(settings, &quota_key, &paths, Vec::new)?,
        };
        let watermarks = Watermarks {
            high: permille(settings.ratio(&key("watermark.high.ratio"))),
            low: permille(settings.ratio(&key("watermark.low.ratio"))),
        };
        if watermarks.low >= watermarks.high {
            return Err(unusable(settings, &key("watermark.low.ratio"), "it must be below watermark.high.ratio"));
        }
        for ((path, medium), quota) in paths.into_iter().zip(media).zip(quotas) {
            found.push(DirectoryConfig {
                path: PathBuf::from(path),
                tier: Ordinal(u8::try_from(level).expect("the table bounds levels")),
                medium: Medium::from_name(&medium.to_ascii_uppercase())
                    .ok_or_else(|| unusable(settings, &media_key, "a medium is MEM, SSD or HDD"))?,
                quota_bytes: super::value::bytes(&quota)
                    .filter(|bytes| *bytes > 0)
                    .ok_or_else(|| unusable(settings, &quota_key, "each quota is a size such as 10GB"))?,
                watermarks,
            });
        }
    }
    if found.is_empty() {
        return Err(missing("goosefs.worker.tieredstore.level0.dirs.path"));
    }
    Ok(found)
}

/// One value per path: as many as paths, or one for all.
fn per_directory(
    settings: &Settings,
    key: &str,
    paths: &[String],
    default: impl Fn() -> Vec<String>,
) -> Result<Vec<String>, Error> {
    let mut values = settings.list(key);
    if values.is_empty() {
        values = default();
    }
    match values.len() {
        1 => Ok(vec![values[0].clone(); paths.len()]),
        count if count == paths.len() => Ok(values),
        count => Err(unusable(
            settings,
            key,
            format!("it has {count} values for {} directories; give one each, or one for all", paths.len()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Inputs;

    fn settings(flags: &[(&str, &str)]) -> Settings {
        let flags = flags.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Settings::load(&Inputs { flags, ..Inputs::default() }).expect("good settings")
    }

    #[test]
    fn defaults_suffice_for_every_role() {
        let settings = settings(&[("goosefs.work.dir", "/w")]);
        let master = master(&settings).expect("a master");
        assert_eq!(master.journal_dir, PathBuf::from("/w/journal"));
        assert_eq!((master.rpc_addr.port(), master.web_addr.port(), master.internal_addr.port()), (9200, 9201, 9212));
        assert_eq!(master.operation_retention, Duration::from_secs(900));
        let worker = worker(&settings).expect("a worker");
        assert_eq!(worker.masters, ["localhost:9212"]);
        assert_eq!(worker.directories[0].path, PathBuf::from("/w/cache"));
        assert_eq!(worker.directories[0].quota_bytes, 10 << 30);
        assert!(!worker.hostname.is_empty());
        let client = client(&settings).expect("a client");
        assert_eq!(client.masters, [("localhost".to_owned(), 9200)]);
        assert_eq!(client.write_type, None);
        assert!(!client.user.is_empty());
    }

    #[test]
    fn defaults_of_client_and_table_agree() {
        let mut told = client(&settings(&[])).expect("a client");
        let own = ClientConfig::default();
        told.user = own.user.clone();
        assert_eq!(format!("{told:?}"), format!("{own:?}"));
    }

    #[test]
    fn tiers_take_one_value_for_all_directories_or_one_each() {
        const L0: &str = "goosefs.worker.tieredstore.level0.";
        let tier = |what: &str, value: &str| (format!("{L0}{what}"), value.to_owned());
        let run = |list: &[(String, String)]| {
            let flags = list.to_vec();
            let settings = Settings::load(&Inputs { flags, ..Inputs::default() }).expect("good settings");
            directories(&settings).map_err(|e| e.to_string())
        };
        let found =
            run(&[tier("dirs.path", "/a,/b"), tier("dirs.quota", "1GB,2GB"), tier("alias", "hdd")]).expect("two");
        assert_eq!(found.iter().map(|d| d.quota_bytes).collect::<Vec<_>>(), [1 << 30, 2 << 30]);
        assert!(found.iter().all(|d| d.medium == Medium::Hdd));
        let why = run(&[tier("dirs.path", "/a,/b,/c"), tier("dirs.quota", "1GB,2GB")]).expect_err("refused");
        assert!(why.contains("it has 2 values for 3 directories"), "{why}");
        let why = run(&[tier("dirs.quota", "lots")]).expect_err("refused");
        assert!(why.contains("each quota is a size"), "{why}");
        let why = run(&[("goosefs.worker.tieredstore.levels".into(), "2".into())]).expect_err("refused");
        assert!(why.starts_with("setting goosefs.worker.tieredstore.level1.dirs.path is needed"), "{why}");
        let mem = run(&[tier("alias", "MEM"), ("goosefs.worker.memory.size".into(), "3GB".into())]).expect("one");
        assert_eq!(mem[0].quota_bytes, 3 << 30);
        let why = run(&[tier("watermark.low.ratio", "0.99")]).expect_err("refused");
        assert!(why.contains("it must be below watermark.high.ratio"), "{why}");
    }

    #[test]
    fn the_root_store_gets_the_properties_of_its_kind_and_secrets_apart() {
        let settings = settings(&[
            ("goosefs.underfs.s3.endpoint", "http://e"),
            ("s3a.secretKey", "hunter2"),
            ("fs.cosn.userinfo.secretId", "other"),
            ("fs.cosn.upload.part.size", "8MB"),
            ("goosefs.master.mount.table.root.option.goosefs.underfs.s3.region", "r"),
        ]);
        let (plain, secrets) = root_properties(&settings, "s3://b/");
        assert_eq!(plain.keys().collect::<Vec<_>>(), ["goosefs.underfs.s3.endpoint", "goosefs.underfs.s3.region"]);
        assert_eq!(secrets["s3a.secretKey"].expose_str(), Some("hunter2"));
        let (_, secrets) = root_properties(&settings, "cosn://b/");
        assert_eq!(secrets.keys().collect::<Vec<_>>(), ["fs.cosn.userinfo.secretId"]);
        assert!(root_properties(&settings, "/data").1.is_empty());
    }

    #[test]
    fn what_this_release_does_not_serve_is_refused_by_name() {
        let why = |key: &str, value: &str| {
            let settings = settings(&[(key, value)]);
            master(&settings).map(drop).or(Err(())).expect_err("refused");
            master(&settings).expect_err("refused").to_string()
        };
        assert!(why("goosefs.master.journal.type", "UFS").contains("only EMBEDDED is served"));
        assert!(why("goosefs.security.authentication.type", "KERBEROS").contains("serves SIMPLE and NOSASL"));
        assert!(why("goosefs.master.bind.host", "no such host").contains("no name that resolves"));
    }

    #[test]
    fn a_master_finds_itself_among_several_or_says_what_is_wrong() {
        let run = |flags: &[(&str, &str)]| {
            let host = ("goosefs.master.hostname", "b");
            group(&settings(&[&[host], flags].concat())).map_err(|error| error.to_string())
        };
        assert_eq!(run(&[]), Ok(None));
        assert_eq!(run(&[(GROUP, "anything:1")]), Ok(None), "one is alone");
        let group = run(&[(GROUP, "a:9202,b:9202,c:9202")]).expect("good").expect("a group");
        assert_eq!((group.own.as_str(), group.members.len()), ("b:9202", 3));
        assert_eq!((group.election_timeout, group.heartbeat), (Duration::from_millis(500), Duration::from_millis(100)));
        let why = |flags: &[(&str, &str)]| run(flags).expect_err("refused");
        assert!(why(&[(GROUP, "a:9202,c:9202")]).contains("this master, b:9202, is not among them"));
        assert!(why(&[(GROUP, "b:9202,a:9202,b:9202")]).contains("stands there 2 times"));
        assert!(why(&[(GROUP, "a:9202,b:9202"), (ELECTION, "200ms")]).contains("at least three times"));
    }

    #[test]
    fn masters_of_a_group_are_the_masters_of_clients_and_workers() {
        let told = settings(&[(GROUP, "a:9202,b:9202,c:9202")]);
        let hosts =
            |masters: Vec<(String, u16)>| masters.into_iter().map(|(host, port)| join(&host, port)).collect::<Vec<_>>();
        assert_eq!(hosts(client(&told).expect("a client").masters), ["a:9200", "b:9200", "c:9200"]);
        assert_eq!(worker(&told).expect("a worker").masters, ["a:9212", "b:9212", "c:9212"]);
        let told = settings(&[("goosefs.master.internal.rpc.addresses", "x:1,y:2")]);
        assert_eq!(worker(&told).expect("a worker").masters, ["x:1", "y:2"]);
    }
}
