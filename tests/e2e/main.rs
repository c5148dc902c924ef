//! One node between real clients and real datastores, over real sockets.

mod bad_input;
mod clients;
mod cluster;
mod differential;
mod failures;
mod limits;
mod order;
mod private;
mod session;
mod stats;
