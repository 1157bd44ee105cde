//! Network namespaces: a loopback of one's own, where the standard ports are free whatever else the machine runs.

mod lan;

pub use lan::Lan;

use std::ffi::c_short;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// Whether this process may make a network namespace (it needs CAP_SYS_ADMIN). Cost: one short-lived thread.
pub fn available() -> bool {
    isolated(|| ()).is_ok()
}

/// Runs `body` on a thread of its own, in a new network namespace whose loopback is up. Sockets made there, and
/// processes started there through [`crate::process`], live inside. Threads that `body` starts inherit the namespace;
/// an async runtime must be built within `body`. A panic of `body` goes on in the caller.
///
/// - Errors: the kernel refuses the namespace (no privilege), before `body` has run.
pub fn isolated<T: Send>(body: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter_new()?;
            Ok(body())
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves the calling thread into a new network namespace and brings its loopback up.
fn enter_new() -> io::Result<()> {
    // SAFETY: unshare takes flags only; CLONE_NEWNET changes this thread's view of the network and nothing else.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    loopback_up()
}

fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: ifreq is plain data for which zero bytes are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = c_short::try_from(libc::IFF_UP).expect("the flag is 1");
    // SAFETY: the descriptor is open, and SIOCSIFFLAGS reads one ifreq, which outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
}

/// The network namespace of the calling thread.
pub(crate) fn current() -> io::Result<File> {
    // Not /proc/self: that is the main thread's.
    File::open("/proc/thread-self/ns/net")
}

/// Whether two handles of [`current`] are the same namespace.
pub(crate) fn same(a: &File, b: &File) -> io::Result<bool> {
    Ok(a.metadata()?.ino() == b.metadata()?.ino())
}

/// Moves the calling thread into `namespace`. Async-signal-safe: one system call.
pub(crate) fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call; setns changes this thread's namespace only.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    #[test]
    fn the_same_port_is_free_in_each_namespace() {
        if !available() {
            return; // without privilege there is nothing to test
        }
        let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = outside.local_addr().unwrap();
        isolated(|| {
            let inside = TcpListener::bind(addr).expect("free in here");
            TcpStream::connect(addr).expect("the loopback is up");
            inside.accept().expect("it came to us, not to the one outside");
        })
        .unwrap();
        outside.set_nonblocking(true).unwrap();
        assert_eq!(outside.accept().expect_err("nobody called").kind(), io::ErrorKind::WouldBlock);
    }
}
