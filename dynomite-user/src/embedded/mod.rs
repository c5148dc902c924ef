//! The embedded datastore: Redis and memcached in memory, for trying out, for tests and for simulations.
