//! 8.5: 64 blocks streamed at once to readers that hardly read.

use super::probe::BLOCK_BYTES;
use super::servers::Servers;
use super::{Figure, Ground, cpu, float};
use anyhow::{Context, Result};
use goosefs_sdk::client::{MasterClient, WorkerClient};
use goosefs_sdk::context::FileSystemContext;
use goosefs_sdk::io::{GoosefsFileReader, GoosefsFileWriter};
use std::time::{Duration, Instant};
use testkit::data::Data;

const STREAMS: u64 = 64;
const BUDGET_MB: u64 = 256;
/// How long they are watched, and how often.
const WATCHED: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// One message, then a rest this long.
const REST: Duration = Duration::from_secs(2);
const PATH: &str = "/slow";

pub async fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let dir = ground.directory("slow-readers")?;
    let budget = format!("goosefs.worker.process.memory.budget={BUDGET_MB}MB");
    let servers = Servers::start(&ground.binary, &dir, &[&budget], &[])?;
    let context = FileSystemContext::connect(servers.official()).await?;
    let mut writer = GoosefsFileWriter::create_with_context(context.clone(), PATH, None).await?;
    for block in 0..STREAMS {
        writer.write(&Data::new(85).bytes(block * BLOCK_BYTES, usize::try_from(BLOCK_BYTES)?)).await?;
    }
    writer.close().await?;
    // Once through, so that what a worker keeps anyway is there before.
    let mut reader = GoosefsFileReader::open_with_context(context.clone(), PATH).await?;
    while reader.read_next_block().await?.is_some() {}

    let status = MasterClient::connect(&servers.official()).await?.get_status(PATH).await?;
    let pid = servers.worker()?.pid();
    let before = cpu::memory(pid)?;
    let config = servers.official();
    let mut readers = Vec::new();
    for block in &status.file_block_infos {
        let block = block.block_info.as_ref().and_then(|info| info.block_id).context("a block without an id")?;
        let worker = WorkerClient::connect(&servers.worker_address(), &config).await?;
        readers.push(tokio::spawn(async move {
            let length = i64::try_from(BLOCK_BYTES)?;
            let opened = worker.read_block(block, 0, length, 1 << 20, Some(8), None).await;
            let (_acknowledge, mut messages) = opened?;
            while messages.message().await?.is_some() {
                tokio::time::sleep(REST).await;
            }
            anyhow::Ok(())
        }));
    }
    let (began, mut most) = (Instant::now(), 0);
    while began.elapsed() < WATCHED {
        most = most.max(cpu::memory(pid)?);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let streams = readers.iter().filter(|reader| !reader.is_finished()).count();
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    anyhow::ensure!(streams == readers.len(), "{} of {} streams ended early", readers.len() - streams, readers.len());
    let mb = |bytes: u64| float(bytes) / 1024.0 / 1024.0;
    let measured = format!("{:.0} MiB at most, {:.0} MiB before", mb(most), mb(before));
    let what = format!("{STREAMS} blocks streamed to slow readers: the worker's memory, budget {BUDGET_MB} MiB");
    Ok(vec![Figure::shown("8.5", what, measured).held(format!("≤ {BUDGET_MB} MiB"), most <= BUDGET_MB << 20)])
}
