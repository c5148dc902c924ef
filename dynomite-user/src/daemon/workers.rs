//! The worker threads: what each is given of the configuration, their start and their end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::Parts;
use crate::config::{Address, Config, ReadFailover};
use crate::control::Change;
use crate::coordinator;
use crate::coordinator::route::RouteSettings;
use crate::moment::Clock;
use crate::net::embedded;
use crate::net::listener::{Listener, SocketFile};
use crate::net::presence::Board;
use crate::net::{link, peer, perform, stream, worker};
use crate::protocol::Protocol;
use crate::protocol::request::Limits;
use crate::protocol::resp::repair::Script;
use crate::stats::Stat;

pub struct Workers {
    handles: Vec<worker::Handle>,
    /// Where clients find us, if that is a unix socket.
    pub socket_file: Option<SocketFile>,
}

/// The first pause before a lost datastore is dialled again; it doubles up to a second, or to what the file says.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Clients with a datastore connection of their own, on each worker: the datastore has a limit, too.
const PRIVATE_MAX: usize = 4096;
/// The same for a peer: half of the cluster may be dialling it.
const PEER_PAUSE_FIRST: Duration = Duration::from_millis(100);
const PEER_PAUSE_MAX: Duration = Duration::from_secs(2);
/// A handshake to the other side of the world, and one lost packet.
const PEER_CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Connections of peers to each worker; each of theirs has a few.
const PEERS_IN_MAX: usize = 16 << 10;

impl Workers {
    /// Binds the listeners for clients and peers and starts a thread a worker.
    pub fn start(parts: &Parts, clock: Clock, board: Arc<Board>) -> anyhow::Result<Workers> {
        let config = &parts.config;
        let backlog = config.backlog.max(1).unsigned_abs();
        let address = resolve(&config.listen).with_context(|| format!("listen: cannot resolve {}", config.listen))?;
        let listeners = Listener::bind(&address, backlog, parts.workers)
            .with_context(|| format!("listen: cannot listen at {}", config.listen))?;
        let socket_file = SocketFile::of(&address);
        let address =
            config.dyn_listen.resolve().with_context(|| format!("dyn_listen: cannot resolve {}", config.dyn_listen))?;
        let peer_listeners = Listener::bind(&stream::Address::Tcp(address), backlog, parts.workers)
            .with_context(|| format!("dyn_listen: cannot listen at {}", config.dyn_listen))?;
        let datastore = match parts.options.embedded_datastore {
            true => {
                stream::Address::Tcp(embedded::start(config.protocol).context("the embedded datastore cannot listen")?)
            }
            false => resolve(&config.datastore.address)
                .with_context(|| format!("servers: cannot resolve {}", config.datastore.address))?,
        };
        let settings = settings(parts, datastore);
        let topology = Arc::new(parts.topology.clone());
        parts.registry.control().set(Stat::topology_epoch, topology.epoch());
        let secured = topology.nodes().filter(|(_, node)| node.secured).count();
        if secured > 0 {
            tracing::error!("{secured} peers want encrypted links, which are not served yet: they are not connected");
        }
        let shared = worker::Shared {
            clock,
            control: parts.control.clone(),
            topology,
            board,
            notices: Arc::default(),
            kernel: parts.kernel.as_ref().and_then(|kernel| kernel.path()),
        };
        let handles = listeners.into_iter().zip(peer_listeners).enumerate().map(|(number, (clients, peers))| {
            let stats = parts.registry.worker(number);
            let listeners = worker::Listeners { clients: vec![clients], peers: vec![peers] };
            worker::spawn(number, settings.clone(), listeners, shared.clone(), stats)
                .with_context(|| format!("cannot start worker {number}"))
        });
        let handles = handles.collect::<anyhow::Result<Vec<worker::Handle>>>()?;
        let mailboxes: Vec<worker::Mailbox> = handles.iter().map(|handle| handle.mailbox.clone()).collect();
        if let Some(kernel) = &parts.kernel {
            kernel.tell(mailboxes.clone());
        }
        parts.control.listen(move |change| {
            mailboxes.iter().for_each(|mailbox| match change {
                Change::State(_) => mailbox.order(worker::Order::State),
                Change::Peer { verb, name } => mailbox.order(worker::Order::Peer { verb: *verb, name: name.clone() }),
                // Levels are read where they are used; draining comes with its patience, from `drain`.
                Change::Levels | Change::Drain => {}
            });
        });
        Ok(Workers { handles, socket_file })
    }

    /// Takes no more clients, lets what is asked be answered, and joins the threads: within `patience`.
    pub fn drain(self, patience: Duration) {
        for handle in &self.handles {
            handle.mailbox.order(worker::Order::Drain(patience));
        }
        for handle in self.handles {
            // A worker that panicked has said so; the others are still to be waited for.
            let _ = handle.join();
        }
    }
}

fn settings(parts: &Parts, datastore: stream::Address) -> worker::Settings {
    let (config, workers) = (&parts.config, parts.workers);
    // So that pipelined requests never find one of them known and the one before it not.
    let offers = match config.protocol {
        Protocol::Resp if config.read_repairs_enabled => Script::ALL.map(Script::load).to_vec(),
        _ => Vec::new(),
    };
    worker::Settings {
        protocol: config.protocol,
        io: perform::Settings {
            protocol: config.protocol,
            datastore: link::Settings {
                address: Some(datastore),
                pause_first: PAUSE_FIRST.min(config.server_retry_timeout),
                pause_max: PAUSE_MAX.min(config.server_retry_timeout),
                eject_after: config.auto_eject_hosts.then_some(config.server_failure_limit.max(1)),
                pause_ejected: config.server_retry_timeout,
                connect_timeout: config.timeout,
            },
            datastore_connections: config.datastore_connections,
            greeting: greeting(config),
            offers,
            private_max: PRIVATE_MAX,
            client_output_max: config.client_output_bytes_max,
            datastore_queue_max: config.datastore_queue_bytes_max,
            peers: peer::Settings {
                dials: parts.options.admin_operation == 0,
                near_connections: config.local_peer_connections,
                far_connections: config.remote_peer_connections,
                link: link::Settings {
                    address: None,
                    pause_first: PEER_PAUSE_FIRST,
                    pause_max: PEER_PAUSE_MAX,
                    eject_after: None,
                    pause_ejected: PEER_PAUSE_MAX,
                    connect_timeout: config.timeout.max(PEER_CONNECT_PATIENCE),
                },
                queue_max: config.peer_queue_bytes_max,
                far_messages_per_second: config.conn_msg_rate,
                timeout: config.timeout,
            },
        },
        coordinator: coordinator::Settings {
            protocol: config.protocol,
            hash: config.hash,
            hash_tag: config.hash_tag,
            timeout: config.timeout,
            requirepass: config.requirepass.clone(),
            outstanding_max: config.max_msgs.div_ceil(workers),
            route: RouteSettings {
                reads_stay: config.read_failover == ReadFailover::Off,
                remote_reads: config.read_failover == ReadFailover::Datacenters,
                deletes_own_keys: parts.options.admin_operation == 1,
            },
        },
        limits: Limits {
            request_bytes_max: config.request_bytes_max,
            arguments_max: config.request_arguments_max,
            ..Limits::default()
        },
        reply_bytes_max: config.reply_bytes_max,
        clients_max: config.client_connections,
        client_outstanding_max: config.client_outstanding_max,
        peers_in_max: PEERS_IN_MAX,
        preconnect: config.preconnect,
        timeout: config.timeout,
    }
}

/// What every connection to the datastore begins with.
pub fn greeting(config: &Config) -> Vec<Vec<u8>> {
    match &config.requirepass {
        None => Vec::new(),
        Some(password) => {
            vec![format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{password}\r\n", password.len()).into_bytes()]
        }
    }
}

fn resolve(address: &Address) -> std::io::Result<stream::Address> {
    Ok(match address {
        Address::Tcp(host_port) => stream::Address::Tcp(host_port.resolve()?),
        Address::Unix(path) => stream::Address::Unix(path.clone()),
    })
}
