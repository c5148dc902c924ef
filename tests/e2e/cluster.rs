//! Many nodes over real sockets.

mod c_peers;
mod failures;
mod links;
mod order;
mod peer_port;
mod repair;
mod replicas;
mod states;
