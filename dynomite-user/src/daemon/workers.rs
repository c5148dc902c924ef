//! The worker threads: what each is given of the configuration, their start and their end.

use std::time::Duration;

use anyhow::Context as _;

use super::Parts;
use crate::config::Address;
use crate::coordinator;
use crate::coordinator::route::RouteSettings;
use crate::moment::Clock;
use crate::net::listener::Listener;
use crate::net::{link, perform, stream, worker};
use crate::protocol::request::Limits;

pub struct Workers {
    handles: Vec<worker::Handle>,
}

/// The first pause before a lost datastore is dialled again; it doubles up to a second, or to what the file says.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Clients with a datastore connection of their own, on each worker: the datastore has a limit, too.
const PRIVATE_MAX: usize = 4096;

impl Workers {
    /// Binds the client listeners and starts a thread a worker.
    pub fn start(parts: &Parts, clock: Clock) -> anyhow::Result<Workers> {
        let config = &parts.config;
        let address = resolve(&config.listen).with_context(|| format!("listen: cannot resolve {}", config.listen))?;
        let listeners = Listener::bind(&address, config.backlog.max(1).unsigned_abs(), parts.workers)
            .with_context(|| format!("listen: cannot listen at {}", config.listen))?;
        let datastore = resolve(&config.datastore.address)
            .with_context(|| format!("servers: cannot resolve {}", config.datastore.address))?;
        let settings = settings(parts, datastore);
        let shared = worker::Shared { clock, control: parts.control.clone(), topology: parts.topology.clone().into() };
        let handles = listeners.into_iter().enumerate().map(|(number, listener)| {
            let stats = parts.registry.worker(number);
            worker::spawn(number, settings.clone(), vec![listener], shared.clone(), stats)
                .with_context(|| format!("cannot start worker {number}"))
        });
        Ok(Workers { handles: handles.collect::<anyhow::Result<_>>()? })
    }

    /// Takes no more clients, lets what is asked be answered, and joins the threads: within `patience`.
    pub fn drain(self, patience: Duration) {
        for handle in &self.handles {
            handle.order(worker::Order::Drain(patience));
        }
        for handle in self.handles {
            // A worker that panicked has said so; the others are still to be waited for.
            let _ = handle.join();
        }
    }
}

fn settings(parts: &Parts, datastore: stream::Address) -> worker::Settings {
    let (config, workers) = (&parts.config, parts.workers);
    let greeting = match &config.requirepass {
        None => Vec::new(),
        Some(password) => {
            vec![format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{password}\r\n", password.len()).into_bytes()]
        }
    };
    worker::Settings {
        protocol: config.protocol,
        io: perform::Settings {
            protocol: config.protocol,
            datastore: link::Settings {
                address: datastore,
                pause_first: PAUSE_FIRST.min(config.server_retry_timeout),
                pause_max: PAUSE_MAX.min(config.server_retry_timeout),
                eject_after: config.auto_eject_hosts.then_some(config.server_failure_limit.max(1)),
                pause_ejected: config.server_retry_timeout,
                connect_timeout: config.timeout,
            },
            datastore_connections: config.datastore_connections,
            greeting,
            private_max: PRIVATE_MAX,
            client_output_max: config.client_output_bytes_max,
            datastore_queue_max: config.datastore_queue_bytes_max,
        },
        coordinator: coordinator::Settings {
            protocol: config.protocol,
            hash: config.hash,
            hash_tag: config.hash_tag,
            timeout: config.timeout,
            requirepass: config.requirepass.clone(),
            outstanding_max: config.max_msgs.div_ceil(workers),
            route: RouteSettings {
                remote_reads: config.read_failover == crate::config::ReadFailover::Datacenters,
                deletes_own_keys: parts.options.admin_operation == 1,
            },
        },
        limits: Limits { request_bytes_max: config.request_bytes_max, ..Limits::default() },
        reply_bytes_max: config.reply_bytes_max,
        clients_max: config.client_connections.div_ceil(workers),
        client_outstanding_max: config.client_outstanding_max,
        preconnect: config.preconnect,
        timeout: config.timeout,
    }
}

fn resolve(address: &Address) -> std::io::Result<stream::Address> {
    Ok(match address {
        Address::Tcp(host_port) => stream::Address::Tcp(host_port.resolve()?),
        Address::Unix(path) => stream::Address::Unix(path.clone()),
    })
}
