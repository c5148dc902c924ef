//! The embedded datastore: Redis and memcached in memory, for trying out, for tests and for simulations.
//!
//! Pure, and the same for the same calls: time comes in, randomness has a seed, and where an order can be seen it is one
//! that the contents alone decide. `redis::Hub` is a Redis with its connections, `redis::Store` one without them;
//! `memcache::Store` is a memcached.

pub mod dict;
pub mod memcache;
pub mod number;
pub mod redis;
