//! Free ports on the loopback address. Prefer port 0; these are for programs that must be told a number beforehand.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// A port nobody listened on a moment ago.
///
/// The kernel hands out ephemeral ports in a random order, so a second taker is unlikely, not impossible: a program
/// that reports the port in use deserves one more try with another.
pub fn free_port() -> io::Result<u16> {
    Ok(free_ports(1)?[0])
}

/// `count` different free ports.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    // All are held until all are known, else one could be handed out twice.
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<_>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
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
        let ports = free_ports(20).unwrap();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 20);
        TcpListener::bind((Ipv4Addr::LOCALHOST, ports[0])).unwrap();
    }
}
