//! Loopback addresses that nobody else uses: every node and datastore gets an address of 127/8 of its own, so that ports need not be guessed.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// One address of 127/8, held by one node or datastore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host(pub Ipv4Addr);

pub const CLIENT_PORT: u16 = 18102;
pub const PEER_PORT: u16 = 18101;
pub const STATS_PORT: u16 = 18222;
pub const DATASTORE_PORT: u16 = 16379;

impl Host {
    /// An address where none of the ports above is taken.
    pub fn fresh() -> Host {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // 14 bits of the process, 9 bits within it; 127.0 and 127.1 are left to people.
        let process = std::process::id() & 0x3fff;
        for _ in 0..512 {
            let number = 0x2_0000 + (process << 9 | NEXT.fetch_add(1, Ordering::Relaxed) & 0x1ff);
            let host = Host(Ipv4Addr::from(0x7f00_0000 | number & 0xff_ffff));
            if [CLIENT_PORT, PEER_PORT, STATS_PORT, DATASTORE_PORT].iter().all(|port| host.is_free(*port)) {
                return host;
            }
        }
        panic!("no loopback address is free");
    }

    pub fn port(self, port: u16) -> SocketAddr {
        SocketAddr::from((self.0, port))
    }

    fn is_free(self, port: u16) -> bool {
        TcpListener::bind(self.port(port)).is_ok()
    }
}
