//! Many nodes over real sockets.

mod c_peers;
mod counts;
mod failures;
mod links;
mod load;
mod order;
mod partitions;
mod peer_port;
mod repair;
mod replicas;
mod states;
mod whole;
