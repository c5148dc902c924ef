//! Listening sockets. TCP: one for every worker on the same port, and the kernel spreads the connections.
//! Unix: one socket that the workers share.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use mio::event::Source;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::stream::{Address, Stream};

#[derive(Debug)]
pub enum Listener {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

impl Listener {
    /// One listener for each of `workers`.
    pub fn bind(address: &Address, backlog: u32, workers: usize) -> io::Result<Vec<Listener>> {
        match address {
            Address::Tcp(address) => bind_tcp(*address, backlog, workers),
            Address::Unix(path) => bind_unix(path, workers),
        }
    }

    /// `Ok(None)`: nobody is waiting.
    pub fn accept(&self) -> io::Result<Option<Stream>> {
        let accepted = match self {
            Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Listener::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        };
        match accepted {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // The caller went away before it was accepted: the next one may still be there.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => self.accept(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.accept(),
            Err(error) => Err(error),
        }
    }

    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Listener::Tcp(listener) => listener.register(registry, token, Interest::READABLE),
            Listener::Unix(listener) => listener.register(registry, token, Interest::READABLE),
        }
    }
}

/// The file of a unix socket that we listen at: removed with this value, unless somebody else has put another in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    /// Of an address that was just bound.
    pub fn of(address: &Address) -> Option<SocketFile> {
        let Address::Unix(path) = address else { return None };
        let inode = std::fs::metadata(path).ok()?.ino();
        Some(SocketFile { path: path.clone(), inode })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // Left behind, it is replaced at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn bind_tcp(address: SocketAddr, backlog: u32, workers: usize) -> io::Result<Vec<Listener>> {
    let mut address = address;
    let mut listeners = Vec::with_capacity(workers);
    for worker in 0..workers {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // The first one binds alone: a port that another process shares out is not ours to join.
        if worker == 0 && workers > 1 {
            refuse_shared(address)?;
        }
        socket.set_reuse_port(workers > 1)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        if let Some(bound) = socket.local_addr()?.as_socket() {
            address = bound;
        }
        listeners.push(Listener::Tcp(mio::net::TcpListener::from_std(socket.into())));
    }
    Ok(listeners)
}

fn refuse_shared(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let probe = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    probe.set_reuse_address(true)?;
    probe.bind(&address.into())
}

fn bind_unix(path: &Path, workers: usize) -> io::Result<Vec<Listener>> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let first = UnixListener::bind(path)?;
    first.set_nonblocking(true)?;
    (0..workers).map(|_| Ok(Listener::Unix(mio::net::UnixListener::from_std(first.try_clone()?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_file_goes_with_its_node_and_not_with_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let address = Address::Unix(directory.path().join("socket"));
        let Address::Unix(path) = &address else { unreachable!() };
        let bind = || (Listener::bind(&address, 1, 2).expect("bound"), SocketFile::of(&address));
        let (listeners, file) = bind();
        let (_others, other_file) = bind();
        drop((listeners, file));
        assert!(path.exists(), "it is another node's now");
        drop(other_file);
        assert!(!path.exists());
    }
}
