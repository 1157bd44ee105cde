//! How long a change of the leader is felt: by a client that writes, and by one that reads what is cached.

use super::group::{MASTERS, Masters, PATIENCE, Port};
use super::{Figure, Ground, median, ms, quantile};
use anyhow::{Context, Result};
use client::{FileSystem, MakeDirectory, WriteOptions};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use testkit::netns::{self, Lan};
use tokio::runtime::Handle;
use types::{GfsPath, Mode, WriteType};

/// Times the lead is handed over, and a leader is stopped or cut off for a while.
const TRANSFERS: usize = 10;
const SILENCES: usize = 10;
/// How long a leader that hangs or is cut off stays so.
const SILENCE: Duration = Duration::from_secs(4);
/// What clients do before and after each change of the leader, so that each finds a settled group.
const BETWEEN: usize = 100;
const SECOND: Duration = Duration::from_secs(1);
/// The file that is read from the cache meanwhile.
const CACHED_BYTES: usize = 1 << 20;

/// Moments, in order.
#[derive(Default)]
struct Moments(Mutex<Vec<Instant>>);

impl Moments {
    fn all(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.0.lock().expect("nobody panics with it in hand")
    }

    fn count(&self) -> usize {
        self.all().len()
    }

    /// The longest time between two of them from `moment` on, from the last one before it.
    fn longest_gap(&self, moment: Instant) -> Duration {
        let all = self.all();
        let from = all.partition_point(|at| *at < moment).saturating_sub(1);
        all[from..].windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

/// A client that does one thing after the other, and when each was done.
struct Prober {
    done: Arc<Moments>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<()>>,
}

impl Prober {
    fn start(mut one: impl AsyncFnMut() -> Result<()> + Send + 'static) -> Prober {
        let (done, stop): (Arc<Moments>, Arc<AtomicBool>) = Default::default();
        let (moments, ends, runtime) = (done.clone(), stop.clone(), Handle::current());
        let again_and_again = async move || {
            while !ends.load(Ordering::Relaxed) {
                one().await?;
                moments.all().push(Instant::now());
            }
            Ok(())
        };
        // A thread of its own: nothing else of this process comes between.
        let task = tokio::task::spawn_blocking(move || runtime.block_on({ again_and_again }()));
        Prober { done, stop, task }
    }

    /// Waits until so many more were done.
    async fn more(&self, count: usize) -> Result<()> {
        let (target, began) = (self.done.count() + count, Instant::now());
        while self.done.count() < target {
            anyhow::ensure!(!self.task.is_finished() && began.elapsed() < PATIENCE, "the client got no further");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

/// Makes one directory after the other.
fn writes(fs: &FileSystem, what: &str, n: usize) -> Prober {
    let (fs, name, mut made) = (fs.clone(), format!("{what}-{n}"), 0_u64);
    let how = MakeDirectory { recursive: true, allow_exists: true, mode: Mode::new(0o755) };
    Prober::start(async move || {
        fs.make_directory(&GfsPath::parse(&format!("/{name}/d{made}"))?, how).await?;
        made += 1;
        Ok(())
    })
}

/// Reads a cached file, again and again.
async fn reads(fs: &FileSystem) -> Result<Prober> {
    let path = GfsPath::parse("/cached")?;
    let options = WriteOptions { write_type: Some(WriteType::MustCache), ..WriteOptions::default() };
    let mut writer = fs.create(&path, options).await?;
    writer.write(&vec![7; CACHED_BYTES]).await?;
    writer.close().await?;
    let (fs, status) = (fs.clone(), fs.status(&path).await?);
    Ok(Prober::start(async move || {
        let mut reader = fs.open_status(status.clone())?;
        let mut bytes = 0;
        while let Some(chunk) = reader.next_chunk().await? {
            bytes += chunk.len();
        }
        anyhow::ensure!(bytes == CACHED_BYTES, "{bytes} bytes of {CACHED_BYTES} are read");
        Ok(())
    }))
}

/// Kills, hangs and hand-overs under a client.
pub async fn of_the_leader(mut masters: Masters, failovers: usize) -> Result<Vec<Figure>> {
    let _worker = masters.start_worker()?;
    let fs = FileSystem::connect(masters.config()).await?;
    let (mut killed, mut handed, mut hung) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..TRANSFERS {
        let prober = writes(&fs, "handed", n);
        prober.more(BETWEEN).await?;
        let to = (masters.leader().await? + 1) % MASTERS;
        let began = Instant::now();
        fs.elect(&masters.at(to, Port::Journal).to_string()).await?;
        prober.more(BETWEEN).await?;
        handed.push(prober.done.longest_gap(began));
        prober.end().await?;
        masters.settled().await?;
    }
    let reader = reads(&fs).await?;
    reader.more(BETWEEN).await?;
    let reading = Instant::now();
    for n in 0..failovers {
        let prober = writes(&fs, "killed", n);
        prober.more(BETWEEN).await?;
        let leader = masters.leader().await?;
        let began = Instant::now();
        masters.processes[leader].take().context("it runs")?.kill9()?;
        prober.more(BETWEEN).await?;
        killed.push(prober.done.longest_gap(began));
        prober.end().await?;
        masters.processes[leader] = Some(masters.spawn("master", leader)?);
        masters.settled().await?;
    }
    let (read, longest_read) = (reader.done.count(), reader.done.longest_gap(reading));
    reader.end().await.context("read what is cached while leaders are killed")?;
    for n in 0..SILENCES {
        let begin = async |masters: &Masters, leader| Ok(masters.process(leader)?.pause()?);
        let end = async |masters: &Masters, leader| Ok(masters.process(leader)?.resume()?);
        hung.push(silence(&masters, writes(&fs, "hung", n), begin, end).await?);
    }
    Ok(vec![
        waits("kill −9 of the leader: a client's longest wait for a write", &mut killed, SECOND, 48)
            .and(|longest| longest <= 3 * SECOND, "48 of 50 ≤ 1 s, none > 3 s"),
        Figure::shown(
            "HA 3.2",
            "the same kills: longest time between two reads of a cached MiB",
            format!("{:.0} ms, of {read} reads; no error", ms(longest_read)),
        ),
        waits("the leader hangs: our client's longest wait for a write", &mut hung, 2 * SECOND, 50)
            .and(|_| true, "≤ 2 s"),
        waits(
            "the lead is handed over: a client's longest wait for a write",
            &mut handed,
            Duration::from_millis(100),
            50,
        )
        .and(|_| true, "≤ 100 ms"),
    ])
}

/// A leader is silent for a while: how long a client's write took at most.
async fn silence(
    masters: &Masters,
    prober: Prober,
    begin: impl AsyncFn(&Masters, usize) -> Result<()>,
    end: impl AsyncFn(&Masters, usize) -> Result<()>,
) -> Result<Duration> {
    prober.more(BETWEEN).await?;
    let leader = masters.leader().await?;
    let began = Instant::now();
    begin(masters, leader).await?;
    let went_on = prober.more(BETWEEN).await;
    tokio::time::sleep(SILENCE.saturating_sub(began.elapsed())).await;
    end(masters, leader).await?;
    went_on?;
    let longest = prober.done.longest_gap(began);
    prober.end().await?;
    masters.settled().await?;
    Ok(longest)
}

/// The network of the leader is cut: masters and clients are machines of their own.
pub async fn by_a_cut(ground: &Ground) -> Result<Figure> {
    let what = "the leader's network is cut: our client's longest wait for a write";
    if !netns::available() || !Lan::available() {
        return Ok(Figure::shown("HA 3.2", what, "not measured: it takes the superuser and iproute2's `ip`"));
    }
    let (binary, dir) = (ground.binary.clone(), ground.directory("cut")?);
    let measured = move || {
        netns::isolated(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(cuts(&binary, &dir))
        })
    };
    let mut times = tokio::task::spawn_blocking(measured).await???;
    Ok(waits(what, &mut times, 2 * SECOND, 50).and(|_| true, "≤ 2 s"))
}

async fn cuts(binary: &Path, dir: &Path) -> Result<Vec<Duration>> {
    let lan = Lan::new(u8::try_from(MASTERS)?)?;
    let masters = Masters::start_on(Some(lan), binary, dir, MASTERS).await?;
    let fs = FileSystem::connect(masters.config()).await?;
    let mut times = Vec::new();
    for n in 0..SILENCES {
        let begin = async |masters: &Masters, leader| masters.cut(leader);
        let end = async |masters: &Masters, leader| masters.mend(leader);
        times.push(silence(&masters, writes(&fs, "cut", n), begin, end).await?);
    }
    Ok(times)
}

/// How long something took, each time.
struct Waits {
    what: &'static str,
    shown: String,
    longest: Duration,
    often_enough: bool,
}

/// - `within`: so many in fifty must not have taken longer than `limit`.
fn waits(what: &'static str, times: &mut [Duration], limit: Duration, within: usize) -> Waits {
    let (p50, p96, longest) = (median(times), quantile(times, 95), quantile(times, 100));
    let good = times.iter().filter(|time| **time <= limit).count();
    let shown = format!(
        "{good} of {} within {:.1} s: p50 {:.0} ms, p96 {:.0} ms, longest {:.0} ms",
        times.len(),
        limit.as_secs_f64(),
        ms(p50),
        ms(p96),
        ms(longest)
    );
    Waits { what, shown, longest, often_enough: good * 50 >= within * times.len() }
}

impl Waits {
    fn and(self, holds: impl Fn(Duration) -> bool, floor: &str) -> Figure {
        let holds = self.often_enough && holds(self.longest);
        Figure::shown("HA 3.2", self.what, self.shown).held(floor, holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_of_fifty_may_be_late_and_none_very_late() {
        let mut times = vec![Duration::from_millis(600); 48];
        times.extend([Duration::from_millis(2_000); 2]);
        let figure =
            |times: &mut [Duration]| waits("kills", times, SECOND, 48).and(|longest| longest <= 3 * SECOND, "48 of 50");
        let held = figure(&mut times);
        assert!(held.measured.starts_with("48 of 50 within 1.0 s: p50 600 ms"), "{}", held.measured);
        assert!(held.floor.is_some_and(|(_, holds)| holds));
        times[0] = Duration::from_millis(1_001);
        assert!(figure(&mut times).floor.is_some_and(|(_, holds)| !holds), "three are late");
        times[0] = SECOND;
        times[1] = Duration::from_millis(3_001);
        assert!(figure(&mut times).floor.is_some_and(|(_, holds)| !holds), "one is very late");
    }
}
