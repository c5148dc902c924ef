//! Temporary: one node, for measuring.
use dynomite_user::net::{link, listener::Listener, perform, stream::Address, worker};
use std::time::Duration;
fn main() {
    let mut args = std::env::args().skip(1);
    let listen: std::net::SocketAddr = args.next().unwrap().parse().unwrap();
    let store: std::net::SocketAddr = args.next().unwrap().parse().unwrap();
    let workers: usize = args.next().unwrap().parse().unwrap();
    let protocol = dynomite_user::protocol::Protocol::Resp;
    let registry = dynomite_user::stats::Registry::new(workers);
    let timeout = Duration::from_secs(5);
    let settings = worker::Settings {
        protocol,
        io: perform::Settings {
            protocol,
            datastore: link::Settings { address: Address::Tcp(store), pause_first: Duration::from_millis(100), pause_max: Duration::from_secs(1), eject_after: None, pause_ejected: Duration::from_secs(10), connect_timeout: timeout },
            datastore_connections: 1, greeting: vec![], private_max: 100, client_output_max: 1 << 30, reply_bytes_max: 1 << 30,
        },
        coordinator: dynomite_user::coordinator::Settings { protocol, timeout, outstanding_max: 1 << 20 },
        limits: Default::default(), clients_max: 0, client_outstanding_max: 4096, preconnect: true, timeout,
    };
    let clock = dynomite_user::moment::Clock::start();
    let handles: Vec<_> = Listener::bind(&Address::Tcp(listen), 512, workers).unwrap().into_iter().enumerate()
        .map(|(n, l)| worker::spawn(n, settings.clone(), vec![l], clock, registry.worker(n)).unwrap()).collect();
    for h in handles { h.join().unwrap(); }
}
