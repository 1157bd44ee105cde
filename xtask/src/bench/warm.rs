//! 8.3: a warm sequential read by the official Rust client, against a bare tonic server.

use super::probe::{self, BLOCK_BYTES};
use super::servers::Servers;
use super::{Figure, Ground, cpu, float, median};
use anyhow::{Result, ensure};
use goosefs_sdk::client::WorkerClient;
use goosefs_sdk::context::FileSystemContext;
use goosefs_sdk::fs::options::OpenFileOptions;
use goosefs_sdk::io::reader::ReadTuning;
use goosefs_sdk::io::{GoosefsFileInStream, GoosefsFileReader, GoosefsFileWriter, GrpcBlockReader};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::data::Data;

const FILE_BYTES: u64 = 1 << 30;
/// Reads of each kind; the middle one counts.
const ROUNDS: usize = 5;
/// What the application reads into; no smaller than a chunk.
const BUFFER_BYTES: usize = 1 << 20;
const PATH: &str = "/warm";

/// What one read took: time, and CPU of both ends.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    both: Duration,
}

pub async fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let dir = ground.directory("warm")?;
    let data = Data::new(83);
    let file = dir.join("source");
    {
        use std::io::Write as _;
        let mut source = std::fs::File::create(&file)?;
        for block in 0..FILE_BYTES / BLOCK_BYTES {
            source.write_all(&data.bytes(block * BLOCK_BYTES, usize::try_from(BLOCK_BYTES)?))?;
        }
    }
    let (bare, bare_address) = probe::start(&file, &dir)?;
    let servers = Servers::start(&ground.binary, &dir, &[], &[])?;
    let context = FileSystemContext::connect(servers.official()).await?;
    let mut writer = GoosefsFileWriter::create_with_context(context.clone(), PATH, None).await?;
    for block in 0..FILE_BYTES / BLOCK_BYTES {
        writer.write(&data.bytes(block * BLOCK_BYTES, usize::try_from(BLOCK_BYTES)?)).await?;
    }
    writer.close().await?;

    let mut reader = GoosefsFileReader::open_with_context(context.clone(), PATH).await?;
    let mut position = 0;
    while let Some(block) = reader.read_next_block().await? {
        data.verify(position, &block).map_err(|mismatch| anyhow::anyhow!("{mismatch}"))?;
        position += u64::try_from(block.len())?;
    }
    ensure!(position == FILE_BYTES, "{position} of {FILE_BYTES} bytes came");

    let (bare_pid, worker_pid) = (bare.pid(), servers.worker()?.pid());
    let (mut ours, mut probes) = (Vec::new(), Vec::new());
    // In turns, so that whatever else the machine does falls on both.
    for _ in 0..ROUNDS {
        probes.push(cost(bare_pid, read_bare(&bare_address, &servers)).await?);
        ours.push(cost(worker_pid, read_ours(&context)).await?);
    }
    let (ours, probes) = (Costs::of(&ours), Costs::of(&probes));
    let share = probes.wall.as_secs_f64() / ours.wall.as_secs_f64();
    let gigabytes = float(FILE_BYTES) / 1e9;
    let (rate, bare_rate) = (gigabytes / ours.both.as_secs_f64(), gigabytes / probes.both.as_secs_f64());
    Ok(vec![
        Figure::shown(
            "8.3",
            "warm sequential read of 1 GiB, official Rust client, against a bare tonic server",
            format!(
                "{:.0} %: {:.2} against {:.2} GB/s",
                share * 100.0,
                gigabytes / ours.wall.as_secs_f64(),
                gigabytes / probes.wall.as_secs_f64()
            ),
        )
        .held("≥ 90 %", share >= 0.9),
        Figure::shown("8.3", "the same per CPU-second of both ends", format!("{rate:.2} GB (bare: {bare_rate:.2} GB)"))
            .held("≥ 0.6 GB", rate >= 0.6),
    ])
}

struct Costs {
    wall: Duration,
    both: Duration,
}

impl Costs {
    fn of(all: &[Cost]) -> Costs {
        let mut walls: Vec<_> = all.iter().map(|cost| cost.wall).collect();
        let mut both: Vec<_> = all.iter().map(|cost| cost.both).collect();
        Costs { wall: median(&mut walls), both: median(&mut both) }
    }
}

async fn cost(server: u32, read: impl Future<Output = Result<u64>>) -> Result<Cost> {
    let (before, server_before, began) = (cpu::own(), cpu::of(server)?, Instant::now());
    let bytes = read.await?;
    ensure!(bytes == FILE_BYTES, "{bytes} of {FILE_BYTES} bytes came");
    let wall = began.elapsed();
    Ok(Cost { wall, both: (cpu::own() - before) + cpu::of(server)?.saturating_sub(server_before) })
}

/// As an application does that streams: the official client's file stream, into one buffer.
async fn read_ours(context: &Arc<FileSystemContext>) -> Result<u64> {
    let mut stream = GoosefsFileInStream::open_with_context(context.clone(), PATH, OpenFileOptions::default()).await?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(bytes);
        }
        bytes += u64::try_from(count)?;
    }
}

/// What that stream does once it knows the worker: the same calls, block after block.
async fn read_bare(address: &str, servers: &Servers) -> Result<u64> {
    let config = servers.official();
    let worker = WorkerClient::connect_simple(address, Duration::from_secs(10)).await?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    for block in 0..FILE_BYTES / BLOCK_BYTES {
        let (block, length) = (i64::try_from(block)?, i64::try_from(BLOCK_BYTES)?);
        let (chunk, tuning) = (i64::try_from(config.chunk_size)?, ReadTuning::from_config(&config));
        let mut reader = GrpcBlockReader::open_sequential(&worker, block, 0, length, chunk, None, tuning).await?;
        while let Some(chunk) = reader.read_chunk().await? {
            buffer[..chunk.len()].copy_from_slice(&chunk);
            bytes += u64::try_from(chunk.len())?;
        }
    }
    Ok(bytes)
}
