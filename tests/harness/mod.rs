//! What the end-to-end tests and benches share: nodes, datastores, clients, network namespaces.
//! Everything started here listens on loopback addresses of its own and ends with its value, or with the test process.

pub mod address;
pub mod client;
pub mod cluster;
pub mod datastore;
pub mod exposition;
pub mod fake;
pub mod memcache;
pub mod need;
pub mod netns;
pub mod node;
pub mod order;
pub mod peer;
pub mod process;
pub mod random;
pub mod resp;
pub mod samples;
pub mod until;

pub use address::Host;
pub use client::Client;
pub use cluster::{Cluster, Shape};
pub use datastore::{Datastore, Kind};
pub use fake::{Answer, Fake};
pub use need::need;
pub use netns::{Lan, Netns};
pub use node::{Node, Settings};
pub use random::Random;
pub use resp::Value;
pub use until::{TIMEOUT, until};
