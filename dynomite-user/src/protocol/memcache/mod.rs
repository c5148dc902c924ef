//! memcached text, classic and meta commands.
