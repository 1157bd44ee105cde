//! Copies files and trees between GooseFS and local directories.
//!
//! Is:     a plan of directories and files, then the files, several at once.
//! Owns:   what a destination means: an existing directory takes the source inside it, but for a copy that can go on
//!         where it was interrupted, of which a directory's content goes into the directory named.
//! Never:  overwrites; leaves a half-copied file under its final name.

mod record;
mod resume;

use super::cp::Pace;
use super::walk;
use crate::cmd::{Context, PathArg};
use crate::progress;
use crate::settings::roles;
use anyhow::{Context as _, bail};
use client::{FileSystem, MakeDirectory, WriteOptions};
use futures::TryStreamExt;
use futures::stream::{self, StreamExt};
use indicatif::ProgressBar;
use resume::{Resume, Standing};
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use types::{ErrorKind, GfsPath, Mode, Name};

/// Where something is copied from or to.
#[derive(Clone, Debug)]
pub enum Place {
    Goose(PathArg),
    Local(PathBuf),
}

impl std::str::FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Place, String> {
        match text.strip_prefix("file://") {
            Some(path) if path.starts_with('/') => Ok(Place::Local(path.into())),
            Some(_) => Err("a local place is absolute: file:///dir/file".into()),
            None => text.parse().map(Place::Goose),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Goose(path) => write!(f, "{}", path.path),
            Place::Local(path) => write!(f, "file://{}", path.display()),
        }
    }
}

/// One file to copy.
struct Job {
    from: Place,
    /// Names below the destination; empty: the destination itself.
    below: Vec<Name>,
    bytes: u64,
}

/// Directories, parents first, and files, all relative to the destination.
struct Plan {
    directories: Vec<Vec<Name>>,
    jobs: Vec<Job>,
}

/// How a copy is made.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Directories too.
    pub recursive: bool,
    /// Files that are there already are skipped, what an interrupted run left half-written is written again. For copies
    /// from local files.
    pub resumes: bool,
    pub pace: Pace,
}

/// What a copy did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    pub copied: u64,
    pub copied_bytes: u64,
    /// There already.
    pub skipped: u64,
    pub skipped_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Copied {
    Now,
    Before,
}

impl Tally {
    fn add(&mut self, copied: Copied, bytes: u64) {
        let (files, total) = match copied {
            Copied::Now => (&mut self.copied, &mut self.copied_bytes),
            Copied::Before => (&mut self.skipped, &mut self.skipped_bytes),
        };
        *files += 1;
        *total += bytes;
    }
}

/// Copies `from` to `to`. The first failure ends it; what was copied whole stays.
pub async fn run(from: Place, to: Place, how: How, context: &Context) -> anyhow::Result<Tally> {
    let named: Vec<&PathArg> = [&from, &to]
        .into_iter()
        .filter_map(|place| match place {
            Place::Goose(path) => Some(path),
            Place::Local(_) => None,
        })
        .collect();
    if named.is_empty() {
        bail!("both {from} and {to} are local; copy them with cp");
    }
    let fs = context.connect_at(&named).await?;
    let umask = roles::umask(&context.settings)?;
    let plan = plan(&fs, &from, how.recursive).await?;
    let is_tree = !plan.directories.is_empty();
    let root = if how.resumes && is_tree { to } else { destination(&fs, &from, to).await? };
    if let (Place::Goose(from), Place::Goose(root)) = (&from, &root)
        && root.path.is_within(&from.path)
    {
        bail!("cannot copy {} into itself", from.path);
    }
    make_directories(&fs, &root, &plan.directories, umask).await?;
    let resume = match how.resumes {
        true => Some(Resume::open(&context.settings.path("goosefs.home"), &identity(&fs, &from, &root))?),
        false => None,
    };
    let bar = progress::bytes(plan.jobs.iter().map(|job| job.bytes).sum(), "copy");
    let copier = Copier { fs, umask, buffer_bytes: usize::try_from(how.pace.buffer_bytes)?, bar, resume };
    let outcome = copier.copy_all(plan.jobs, &root, how.pace.threads).await;
    copier.bar.finish_and_clear();
    let closed = copier.resume.map_or(Ok(()), Resume::close);
    let tally = outcome?;
    closed?;
    Ok(tally)
}

/// What tells one copy from all others on this machine.
fn identity(fs: &FileSystem, from: &Place, to: &Place) -> String {
    let config = fs.config();
    format!("{:?} {} {from} {to}", config.masters, config.user)
}

async fn plan(fs: &FileSystem, from: &Place, recursive: bool) -> anyhow::Result<Plan> {
    let plan = match from {
        Place::Goose(path) => plan_goose(fs, &path.path).await?,
        Place::Local(path) => {
            let path = path.clone();
            tokio::task::spawn_blocking(move || plan_local(&path)).await??
        }
    };
    if !plan.directories.is_empty() && !recursive {
        bail!("{from} is a directory; copy it with -R");
    }
    Ok(plan)
}

async fn plan_goose(fs: &FileSystem, root: &GfsPath) -> anyhow::Result<Plan> {
    let status = fs.status(root).await?;
    let mut plan = Plan { directories: Vec::new(), jobs: Vec::new() };
    if status.folder {
        plan.directories.push(Vec::new());
    }
    let bar = progress::counter("planned");
    let mut entries = pin!(walk::below(fs, root.clone()));
    while let Some(status) = entries.try_next().await? {
        let below = status.path.below(root).context("a listing named something outside its directory")?;
        let below: Vec<Name> = below.split('/').filter(|n| !n.is_empty()).map(Name::new).collect::<Result<_, _>>()?;
        if status.folder {
            plan.directories.push(below);
        } else {
            let from = Place::Goose(PathArg { masters: Vec::new(), path: status.path });
            plan.jobs.push(Job { from, below, bytes: status.length });
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(plan)
}

/// Symbolic links are followed; what is neither file nor directory is refused.
fn plan_local(root: &Path) -> anyhow::Result<Plan> {
    let mut plan = Plan { directories: Vec::new(), jobs: Vec::new() };
    let mut open = vec![(root.to_owned(), Vec::new())];
    while let Some((path, below)) = open.pop() {
        let meta = std::fs::metadata(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if meta.is_file() {
            plan.jobs.push(Job { from: Place::Local(path), below, bytes: meta.len() });
            continue;
        }
        if !meta.is_dir() {
            bail!("cannot copy {}: it is neither a file nor a directory", path.display());
        }
        if below.len() > types::MAX_DEPTH {
            bail!("cannot copy {}: it lies more than {} levels deep", path.display(), types::MAX_DEPTH);
        }
        let entries = std::fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", path.display()))?;
            let name = entry.file_name();
            let name = name
                .to_str()
                .with_context(|| format!("cannot copy {}: its name is not UTF-8", entry.path().display()))?;
            open.push((entry.path(), below.iter().cloned().chain([Name::new(name)?]).collect()));
        }
        plan.directories.push(below);
    }
    // The stack met children after their parents, but in no order among siblings.
    plan.directories.sort();
    Ok(plan)
}

/// `to` itself, or the source's name inside it if it is a directory that exists.
async fn destination(fs: &FileSystem, from: &Place, to: Place) -> anyhow::Result<Place> {
    let name = match from {
        Place::Goose(path) => path.path.file_name().to_owned(),
        Place::Local(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let is_directory = match &to {
        Place::Goose(path) => fs.find(&path.path).await?.is_some_and(|status| status.folder),
        Place::Local(path) => path.is_dir(),
    };
    if !is_directory || name.is_empty() {
        return Ok(to);
    }
    Ok(at(&to, &[Name::new(&name)?])?)
}

fn at(root: &Place, below: &[Name]) -> Result<Place, types::PathError> {
    Ok(match root {
        Place::Goose(path) => {
            let path = below.iter().try_fold(path.path.clone(), |path, name| path.join(name))?;
            Place::Goose(PathArg { masters: Vec::new(), path })
        }
        Place::Local(path) => Place::Local(below.iter().fold(path.clone(), |path, name| path.join(name.as_str()))),
    })
}

/// Makes `directories` below `root`, parents first. The first that cannot be made ends it.
async fn make_directories(fs: &FileSystem, root: &Place, directories: &[Vec<Name>], umask: u16) -> anyhow::Result<()> {
    let mut in_goose = Vec::new();
    for directory in directories {
        match at(root, directory)? {
            Place::Goose(path) => in_goose.push(path.path),
            Place::Local(path) => {
                let made = tokio::fs::create_dir_all(&path).await;
                made.with_context(|| format!("cannot make directory {}", path.display()))?;
            }
        }
    }
    let how = MakeDirectory { recursive: true, allow_exists: true, mode: Mode::new(0o777 & !umask) };
    let mut made = pin!(fs.make_directories(stream::iter(in_goose), how));
    while let Some((_, made)) = made.next().await {
        made?;
    }
    Ok(())
}

struct Copier {
    fs: FileSystem,
    umask: u16,
    buffer_bytes: usize,
    bar: ProgressBar,
    /// For uploads.
    resume: Option<Resume>,
}

impl Copier {
    async fn copy_all(&self, jobs: Vec<Job>, root: &Place, threads: u16) -> anyhow::Result<Tally> {
        let copies = stream::iter(jobs).map(|job| async move {
            let copied = self.copy(&job, &at(root, &job.below)?).await?;
            Ok::<_, anyhow::Error>((copied, job.bytes))
        });
        let mut copies = pin!(copies.buffer_unordered(usize::from(threads)));
        let mut tally = Tally::default();
        while let Some((copied, bytes)) = copies.try_next().await? {
            tally.add(copied, bytes);
            if copied == Copied::Before {
                self.bar.inc(bytes);
                self.bar.set_message(format!("copy, {} there already", tally.skipped));
            }
        }
        Ok(tally)
    }

    async fn copy(&self, job: &Job, to: &Place) -> anyhow::Result<Copied> {
        match (&job.from, to) {
            (Place::Local(from), Place::Goose(to)) => return self.upload(from, &to.path).await,
            (Place::Goose(from), Place::Local(to)) => self.download(&from.path, to).await?,
            (Place::Goose(from), Place::Goose(to)) => self.duplicate(&from.path, &to.path).await?,
            (Place::Local(_), Place::Local(_)) => bail!("both {} and {to} are local", job.from),
        }
        Ok(Copied::Now)
    }

    fn options(&self) -> WriteOptions {
        WriteOptions { mode: Mode::new(0o666 & !self.umask), ..WriteOptions::default() }
    }

    async fn upload(&self, from: &Path, to: &GfsPath) -> anyhow::Result<Copied> {
        let open = || format!("cannot read {}", from.display());
        let file = tokio::fs::File::open(from).await.with_context(open)?;
        let Some(resume) = &self.resume else {
            let writer = self.fs.create(to, self.options()).await?;
            self.fill(from, file, writer).await?;
            return Ok(Copied::Now);
        };
        if resume.look(&self.fs, from, to).await? == Standing::Same {
            return Ok(Copied::Before);
        }
        resume.begin(to, None)?;
        let writer = match self.fs.create(to, self.options()).await {
            Ok(writer) => writer,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                resume.look_again(&self.fs, from, to, error).await?;
                return Ok(Copied::Before);
            }
            Err(error) => {
                if !error.kind().is_transient() {
                    resume.end(to)?;
                }
                return Err(error.into());
            }
        };
        resume.begin(to, Some(writer.file()))?;
        self.fill(from, file, writer).await?;
        resume.end(to)?;
        Ok(Copied::Now)
    }

    async fn fill(&self, from: &Path, mut file: tokio::fs::File, mut writer: client::Writer) -> anyhow::Result<()> {
        let mut buffer = vec![0; self.buffer_bytes];
        loop {
            let outcome = match file.read(&mut buffer).await {
                Ok(0) => break,
                Ok(length) => {
                    self.bar.inc(u64::try_from(length)?);
                    writer.write(&buffer[..length]).await.map_err(anyhow::Error::from)
                }
                Err(error) => Err(error).with_context(|| format!("cannot read {}", from.display())),
            };
            if let Err(error) = outcome {
                return Err(give_up(writer, error).await);
            }
        }
        Ok(writer.close().await?)
    }

    /// Through a name beside the final one, so that a failure leaves nothing that looks whole.
    async fn download(&self, from: &GfsPath, to: &Path) -> anyhow::Result<()> {
        if tokio::fs::try_exists(to).await.unwrap_or(false) {
            bail!("cannot copy {from}: {} exists already; remove it or choose another name", to.display());
        }
        let mut partial = to.as_os_str().to_owned();
        partial.push(".goosefs-part");
        let partial = PathBuf::from(partial);
        let outcome = self.download_to(from, &partial).await;
        if outcome.is_err() {
            // The error below says what matters; a leftover part is overwritten by the next try.
            let _ = tokio::fs::remove_file(&partial).await;
            return outcome;
        }
        tokio::fs::rename(&partial, to).await.with_context(|| format!("cannot write {}", to.display()))
    }

    async fn download_to(&self, from: &GfsPath, partial: &Path) -> anyhow::Result<()> {
        let write = || format!("cannot write {}", partial.display());
        let mut reader = self.fs.open(from).await?;
        let mut file = tokio::fs::File::create(partial).await.with_context(write)?;
        while let Some(chunk) = reader.next_chunk().await? {
            file.write_all(&chunk).await.with_context(write)?;
            self.bar.inc(u64::try_from(chunk.len())?);
        }
        file.flush().await.with_context(write)
    }

    async fn duplicate(&self, from: &GfsPath, to: &GfsPath) -> anyhow::Result<()> {
        let mut reader = self.fs.open(from).await?;
        let mut writer = self.fs.create(to, self.options()).await?;
        loop {
            let outcome = match reader.next_chunk().await {
                Ok(None) => break,
                Ok(Some(chunk)) => {
                    self.bar.inc(u64::try_from(chunk.len())?);
                    writer.write(&chunk).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                return Err(give_up(writer, error.into()).await);
            }
        }
        Ok(writer.close().await?)
    }
}

/// Takes a half-written file back and returns why it was given up.
async fn give_up(writer: client::Writer, error: anyhow::Error) -> anyhow::Error {
    match writer.cancel().await {
        Ok(()) => error,
        Err(second) => error.context(format!("the half-written file could not be removed either ({second})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_local_only_with_a_scheme() {
        assert!(matches!("file:///tmp/x".parse(), Ok(Place::Local(path)) if path == Path::new("/tmp/x")));
        assert!(matches!("/tmp/x".parse(), Ok(Place::Goose(_))));
        assert!("file://tmp".parse::<Place>().is_err());
    }

    #[test]
    fn a_local_tree_is_planned_parents_first() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir_all(dir.path().join("a/b")).expect("made");
        std::fs::write(dir.path().join("a/b/f"), b"12345").expect("written");
        std::fs::write(dir.path().join("g"), b"1").expect("written");
        let plan = plan_local(dir.path()).expect("a plan");
        let names = |below: &[Name]| below.iter().map(Name::as_str).collect::<Vec<_>>().join("/");
        assert_eq!(plan.directories.iter().map(|d| names(d)).collect::<Vec<_>>(), ["", "a", "a/b"]);
        let mut jobs: Vec<_> = plan.jobs.iter().map(|job| (names(&job.below), job.bytes)).collect();
        jobs.sort();
        assert_eq!(jobs, [("a/b/f".to_owned(), 5), ("g".to_owned(), 1)]);
        let root = "/x".parse::<Place>().expect("a place");
        assert_eq!(at(&root, &plan.directories[2]).expect("a path").to_string(), "/x/a/b");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let why = plan_local(Path::new("/dev/null")).err().expect("refused").to_string();
        assert_eq!(why, "cannot copy /dev/null: it is neither a file nor a directory");
        let why = plan_local(Path::new("/no/such")).err().expect("refused").to_string();
        assert_eq!(why, "cannot read /no/such");
    }
}
