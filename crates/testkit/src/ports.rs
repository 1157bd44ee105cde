//! Free ports on the loopback address. Prefer port 0; these are for programs that must be told a number beforehand, and for
//! listeners that close and open again.
//!
//! Is:     numbers below those that the kernel gives to connections, so that no connection takes one between two listeners.
//! Owns:   runs of numbers, for as long as the process lives: no other process that asks here gets the same. A run is claimed
//!         by a socket without a file (unix(7), abstract), which ends with the process and is the network namespace's own.
//! Never:  hands a number out twice; cleans up after a process that was killed, since there is nothing to clean.

use crate::netns;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{LazyLock, Mutex};

/// Linux gives connections numbers from 32768 on (`net.ipv4.ip_local_port_range`).
const PORTS: Range<u16> = 10_240..32_768;
/// Numbers claimed at once. `tests/python/conftest.py` claims the same runs in the same way.
const RUN: u16 = 32;

/// Of each network namespace: what is left of the last run, and the claims of all.
static CLAIMED: LazyLock<Mutex<HashMap<u64, Claims>>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Claims {
    left: Range<u16>,
    /// Where the next run is looked for.
    next: u16,
    held: Vec<UnixDatagram>,
}

/// A port that nobody has and nobody else is given.
pub fn free_port() -> io::Result<u16> {
    Ok(free_ports(1)?[0])
}

/// `count` different free ports. Errors: all numbers are claimed.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let namespace = netns::current()?.metadata()?.ino();
    let mut all = CLAIMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let claims = all.entry(namespace).or_default();
    let mut ports = Vec::with_capacity(count);
    while ports.len() < count {
        match claims.left.next() {
            // Somebody who does not ask here may have it.
            Some(port) if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() => ports.push(port),
            Some(_) => {}
            None => claims.claim()?,
        }
    }
    Ok(ports)
}

impl Claims {
    fn claim(&mut self) -> io::Result<()> {
        let runs = (PORTS.end - PORTS.start) / RUN;
        while self.next < runs {
            let first = PORTS.start + self.next * RUN;
            self.next += 1;
            let name = SocketAddr::from_abstract_name(format!("goosefs-testkit-ports-{first}"))?;
            match UnixDatagram::bind_addr(&name) {
                Ok(claim) => {
                    self.held.push(claim);
                    self.left = first..first + RUN;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("all ports for tests are claimed by this process and others"))
    }
}

/// The options that give a `goosefs` these ports: the master's for clients, web and workers, then the worker's for clients
/// and web.
pub fn options(ports: &[u16]) -> impl Iterator<Item = String> {
    let keys = ["master.rpc.port", "master.web.port", "master.internal.rpc.port", "worker.rpc.port", "worker.web.port"];
    keys.into_iter().zip(ports).map(|(key, port)| format!("-Dgoosefs.{key}={port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ports_are_different_and_can_be_bound() {
        let ports = [free_ports(20).unwrap(), free_ports(40).unwrap()].concat();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 60);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
        TcpListener::bind((Ipv4Addr::LOCALHOST, ports[0])).unwrap();
    }

    #[test]
    fn what_another_process_has_claimed_is_left_to_it() {
        let (mut here, mut there) = (Claims::default(), Claims::default());
        here.claim().unwrap();
        there.claim().unwrap();
        assert_ne!(here.left, there.left);
        let mut after = Claims { next: 0, ..Claims::default() };
        let gone = there.left.clone();
        drop(there);
        while after.left != gone {
            after.claim().unwrap();
        }
    }
}
