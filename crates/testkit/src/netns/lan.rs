//! Several network namespaces on one bridge: machines whose cables can be pulled.

use super::{current, enter, enter_new};
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::Command;

/// What a test's own network namespace is taken for; nodes follow.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Nodes with one network card each, reachable from the namespace in which it was made and from one another.
pub struct Lan {
    host: File,
    nodes: Vec<File>,
}

impl Lan {
    /// Whether this machine has what a network is made with: `ip` of iproute2.
    pub fn available() -> bool {
        Command::new("ip").arg("-V").output().is_ok_and(|output| output.status.success())
    }

    /// Call it in a namespace of one's own ([`super::isolated`]), where it becomes the bridge. Errors: `ip` of iproute2 is
    /// missing or refused.
    pub fn new(nodes: u8) -> io::Result<Lan> {
        let mut lan = Lan { host: current()?, nodes: Vec::new() };
        ip(&["link", "add", "bridge0", "type", "bridge"])?;
        ip(&["addr", "add", &format!("{HOST}/24"), "dev", "bridge0"])?;
        ip(&["link", "set", "bridge0", "up"])?;
        for n in 0..nodes {
            let node = on_a_thread(|| {
                enter_new()?;
                current()
            })?;
            let (cable, place) = (cable(n), format!("/proc/{}/fd/{}", std::process::id(), node.as_raw_fd()));
            ip(&["link", "add", &cable, "type", "veth", "peer", "name", "card0", "netns", &place])?;
            ip(&["link", "set", &cable, "master", "bridge0", "up"])?;
            lan.nodes.push(node);
            lan.within(n, || {
                ip(&["addr", "add", &format!("{}/24", Lan::address(n)), "dev", "card0"])?;
                ip(&["link", "set", "card0", "up"])
            })?;
        }
        Ok(lan)
    }

    /// Where a node is reached.
    pub fn address(node: u8) -> Ipv4Addr {
        Ipv4Addr::from_bits(HOST.to_bits() + 1 + u32::from(node))
    }

    /// Runs `body` on a thread of its own within a node: processes started there are the node's.
    pub fn within<T: Send>(&self, node: u8, body: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let namespace = &self.nodes[usize::from(node)];
        on_a_thread(|| {
            enter(namespace)?;
            body()
        })
    }

    /// Pulls the cable of a node: what is under way is lost, and connections do not hear of it.
    pub fn cut(&self, node: u8) -> io::Result<()> {
        self.plug(node, "down")
    }

    pub fn mend(&self, node: u8) -> io::Result<()> {
        self.plug(node, "up")
    }

    fn plug(&self, node: u8, how: &str) -> io::Result<()> {
        on_a_thread(|| {
            enter(&self.host)?;
            ip(&["link", "set", &cable(node), how])
        })
    }
}

fn cable(node: u8) -> String {
    format!("cable{node}")
}

fn on_a_thread<T: Send>(body: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(body);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `ip` in the namespace of the calling thread.
fn ip(args: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(args).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {}: {}", args.join(" "), said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::{available, isolated};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    #[test]
    fn nodes_reach_each_other_until_a_cable_is_pulled() {
        if !available() {
            return; // without privilege there is nothing to test
        }
        isolated(|| {
            let lan = Lan::new(2).expect("a bridge and two nodes");
            let at = |node| SocketAddr::from((Lan::address(node), 700));
            let server = lan.within(0, || TcpListener::bind(at(0))).expect("its own address");
            let reach = || TcpStream::connect_timeout(&at(0), Duration::from_millis(200));
            reach().expect("from where the bridge is");
            lan.within(1, reach).expect("from the other node");
            lan.cut(1).expect("cut");
            lan.within(1, reach).expect_err("nothing gets through");
            reach().expect("the others are as before");
            lan.mend(1).expect("mended");
            crate::eventually(Duration::from_secs(20), || lan.within(1, reach));
            drop(server);
        })
        .expect("a namespace");
    }
}
