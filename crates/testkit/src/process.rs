//! Child processes under a test's control.
//!
//! Is:     one real process with its output in a file, killed, stopped and waited for by its own handle only.
//! Owns:   the process: a dropped handle has killed and reaped it; one whose owner dies is killed by the kernel.
//! Never:  signals a process it did not start, or looks one up by name.

use crate::{TimedOut, netns, try_eventually};
use parking_lot::Mutex;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// How much of a child's output a failure shows.
const SHOWN_LINES: usize = 200;
/// How long one look at an HTTP endpoint may take.
const HTTP_LOOK: Duration = Duration::from_secs(2);
/// Bytes of an HTTP answer that are read; enough for a health endpoint.
const HTTP_ANSWER_BYTES: u64 = 64 << 10;

/// What can go wrong with a child process.
#[derive(thiserror::Error, Debug)]
pub enum ProcessError {
    #[error("start {program}")]
    Start { program: String, source: io::Error },
    #[error("send {signal} to {program} (pid {pid})")]
    Signal { program: String, pid: u32, signal: &'static str, source: io::Error },
    #[error("wait for {program} (pid {pid})")]
    Wait { program: String, pid: u32, source: io::Error },
    #[error("{program} exited with {status} while we waited for {awaited}; its output:\n{output}")]
    Exited { program: String, status: ExitStatus, awaited: String, output: String },
    #[error("{program} did not show {awaited}: {timed_out}; its output:\n{output}")]
    TimedOut { program: String, awaited: String, timed_out: TimedOut, output: String },
}

/// A process to be started.
pub struct Builder {
    program: OsString,
    args: Vec<OsString>,
    envs: Vec<(OsString, Option<OsString>)>,
    dir: Option<PathBuf>,
    log: PathBuf,
}

/// A running (or ended) child process.
pub struct Process {
    program: String,
    child: Mutex<Child>,
    pid: u32,
    log: PathBuf,
    /// Where in its log this process begins; what stands before is an earlier one's.
    log_start: usize,
}

impl Builder {
    /// `log_dir` receives the child's output, both streams in one file named after the program.
    pub fn new(program: impl AsRef<OsStr>, log_dir: &Path) -> Builder {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let program = program.as_ref().to_owned();
        let name = Path::new(&program).file_name().unwrap_or(&program).to_string_lossy().into_owned();
        let log = log_dir.join(format!("{name}-{}.log", COUNT.fetch_add(1, Ordering::Relaxed)));
        Builder { program, args: Vec::new(), envs: Vec::new(), dir: None, log }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Builder {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Builder {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Builder {
        self.envs.push((key.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// The child does not see this variable of ours.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Builder {
        self.envs.push((key.as_ref().to_owned(), None));
        self
    }

    pub fn dir(mut self, dir: &Path) -> Builder {
        self.dir = Some(dir.to_owned());
        self
    }

    /// Output goes to this file (appended) instead of a new one in the log directory.
    pub fn log(mut self, file: &Path) -> Builder {
        self.log = file.to_owned();
        self
    }

    /// Starts the process, without standard input, in the network namespace of the calling thread.
    pub fn spawn(self) -> Result<Process, ProcessError> {
        let program = self.program.to_string_lossy().into_owned();
        let log = self.log.clone();
        let log_start = fs::metadata(&log).map_or(0, |log| usize::try_from(log.len()).expect("a log fits into memory"));
        let child = self.start().map_err(|source| ProcessError::Start { program: program.clone(), source })?;
        Ok(Process { program, pid: child.id(), child: Mutex::new(child), log, log_start })
    }

    fn start(self) -> io::Result<Child> {
        let output = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        for (key, value) in &self.envs {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        let namespace = netns::current()?;
        // SAFETY: runs in the child between fork and exec: two system calls, no allocation, no lock.
        unsafe { command.pre_exec(move || prepare(&namespace)) };
        spawn_on_the_lasting_thread(command)
    }
}

/// In the child, before it becomes the program.
fn prepare(namespace: &File) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if netns::same(namespace, &netns::current()?)? { Ok(()) } else { netns::enter(namespace) }
}

/// Starts `command` on a thread that lives as long as the process: the kernel kills a child with such a wish when the
/// *thread* that started it ends, and a test's thread ends before what it hands on.
fn spawn_on_the_lasting_thread(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static ORDERS: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        let serve = move || {
            for (mut command, answer) in inbox {
                drop(answer.send(command.spawn()));
            }
        };
        std::thread::Builder::new().name("spawner".into()).spawn(serve).expect("a thread can be started");
        orders
    });
    let (answer, started) = mpsc::channel();
    orders.send((command, answer)).expect("the spawner lives as long as the process");
    started.recv().expect("the spawner answers every order")
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file with everything the process has printed, behind what earlier ones with the same log have.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Everything this process has printed so far; bytes that are not UTF-8 are replaced.
    pub fn output(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(self.log_start..).unwrap_or_default()).into_owned()
    }

    /// How the process ended, if it has.
    pub fn exit_status(&self) -> Result<Option<ExitStatus>, ProcessError> {
        self.child.lock().try_wait().map_err(|source| self.cannot_wait(source))
    }

    /// Waits for a complete line of output that contains `text`, and returns it.
    pub fn wait_for_line(&self, text: &str, deadline: Duration) -> Result<String, ProcessError> {
        self.wait_for(&format!("a line with {text:?}"), deadline, |process| {
            let output = process.output();
            let complete = output.rfind('\n').map_or("", |end| &output[..end]);
            complete.lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }

    /// Waits until `GET path` at `addr` answers 200, and returns the answer's body.
    pub fn wait_for_http(&self, addr: SocketAddr, path: &str, deadline: Duration) -> Result<String, ProcessError> {
        self.wait_for(&format!("200 at http://{addr}{path}"), deadline, |_| match http_get(addr, path) {
            Ok((200, body)) => Ok(body),
            Ok((status, body)) => Err(format!("{status} {body}")),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Waits until `condition` holds. Fails at once, with the output, when the process ends first.
    pub fn wait_for<V: crate::Verdict>(
        &self,
        awaited: &str,
        deadline: Duration,
        mut condition: impl FnMut(&Process) -> V,
    ) -> Result<V::Value, ProcessError> {
        let answer = try_eventually(deadline, || {
            // The status first: what the process did before it ended is then seen by the condition.
            let ended = self.exit_status();
            match (condition(self).settle(), ended) {
                (Ok(value), _) => Ok(Ok(value)),
                (Err(_), Err(error)) => Ok(Err(error)),
                (Err(_), Ok(Some(status))) => Ok(Err(self.exited(status, awaited))),
                (Err(why), Ok(None)) => Err(why),
            }
        });
        answer.unwrap_or_else(|timed_out| Err(self.timed_out(awaited, timed_out)))
    }

    /// Waits for the end of the process. Leaves it running when `deadline` has passed.
    pub fn wait_exit(&self, deadline: Duration) -> Result<ExitStatus, ProcessError> {
        let answer = try_eventually(deadline, || self.exit_status().transpose());
        answer.unwrap_or_else(|timed_out| Err(self.timed_out("its end", timed_out)))
    }

    /// SIGKILL, and waits until the kernel has taken everything back. Fine on a process that has ended.
    pub fn kill9(&self) -> Result<ExitStatus, ProcessError> {
        let mut child = self.child.lock();
        child.kill().map_err(|source| self.cannot_signal("SIGKILL", source))?;
        child.wait().map_err(|source| self.cannot_wait(source))
    }

    /// SIGTERM, then [`Process::wait_exit`].
    pub fn terminate(&self, deadline: Duration) -> Result<ExitStatus, ProcessError> {
        self.signal(libc::SIGTERM, "SIGTERM")?;
        self.wait_exit(deadline)
    }

    /// SIGINT, as Ctrl-C sends it.
    pub fn interrupt(&self) -> Result<(), ProcessError> {
        self.signal(libc::SIGINT, "SIGINT")
    }

    /// SIGSTOP: the process keeps its memory and sockets and does nothing until [`Process::resume`].
    pub fn pause(&self) -> Result<(), ProcessError> {
        self.signal(libc::SIGSTOP, "SIGSTOP")
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<(), ProcessError> {
        self.signal(libc::SIGCONT, "SIGCONT")
    }

    fn signal(&self, number: i32, name: &'static str) -> Result<(), ProcessError> {
        // The lock keeps a concurrent wait from reaping the child, so the number cannot be another process's yet.
        let mut child = self.child.lock();
        if child.try_wait().map_err(|source| self.cannot_wait(source))?.is_some() {
            return Err(self.cannot_signal(name, io::Error::from_raw_os_error(libc::ESRCH)));
        }
        let pid = i32::try_from(self.pid).expect("process ids fit pid_t");
        // SAFETY: kill takes two numbers; the process is ours and not reaped, so the id is its own.
        match unsafe { libc::kill(pid, number) } {
            0 => Ok(()),
            _ => Err(self.cannot_signal(name, io::Error::last_os_error())),
        }
    }

    fn cannot_signal(&self, signal: &'static str, source: io::Error) -> ProcessError {
        ProcessError::Signal { program: self.program.clone(), pid: self.pid, signal, source }
    }

    fn cannot_wait(&self, source: io::Error) -> ProcessError {
        ProcessError::Wait { program: self.program.clone(), pid: self.pid, source }
    }

    fn exited(&self, status: ExitStatus, awaited: &str) -> ProcessError {
        let (program, awaited) = (self.program.clone(), awaited.to_owned());
        ProcessError::Exited { program, status, awaited, output: last_lines(&self.output()) }
    }

    fn timed_out(&self, awaited: &str, timed_out: TimedOut) -> ProcessError {
        let (program, awaited) = (self.program.clone(), awaited.to_owned());
        ProcessError::TimedOut { program, awaited, timed_out, output: last_lines(&self.output()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.exit_status().ok().flatten();
        if ended.is_none() {
            drop(self.kill9());
        }
        if std::thread::panicking() {
            let how = ended.map_or("was running".to_owned(), |status| match status.signal() {
                Some(signal) => format!("had died of signal {signal}"),
                None => format!("had ended with {status}"),
            });
            eprintln!("--- {} (pid {}) {how}; its output:", self.program, self.pid);
            eprintln!("{}--- end of output", last_lines(&self.output()));
        }
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].iter().flat_map(|line| [line, "\n"]).collect()
}

/// One GET over a fresh connection. Returns the status and the body.
pub fn http_get(addr: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&addr, HTTP_LOOK)?;
    stream.set_read_timeout(Some(HTTP_LOOK))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(HTTP_ANSWER_BYTES).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let no_http = || io::Error::new(io::ErrorKind::InvalidData, format!("{addr} does not speak HTTP"));
    Ok((status.ok_or_else(no_http)?, body.to_owned()))
}
