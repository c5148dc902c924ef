//! The system calls that no crate wraps, and memory shared with the kernel: the only unsafe code of the daemon.
//! Owns: nothing but mappings. Knows nothing of: flows, what the numbers mean.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};

use dynomite_common::abi::{Config, Table};

/// A memory-mapped array map. Its elements hold atomics only (or are written through `Mapping<Config>::write`), so a
/// shared reference is all that anybody needs.
pub struct Mapping<T> {
    at: NonNull<T>,
    len: usize,
}

// SAFETY: the memory is shared with the kernel and other threads by design; `T` is made of atomics where anybody but
// the one owner of a field looks.
unsafe impl<T: Sync> Send for Mapping<T> {}
unsafe impl<T: Sync> Sync for Mapping<T> {}

impl<T> Mapping<T> {
    /// `len` elements of a map created with BPF_F_MMAPABLE whose value is a `T`.
    pub fn new(map: BorrowedFd<'_>, len: usize) -> io::Result<Mapping<T>> {
        // Elements of an array map stand at multiples of eight bytes.
        assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() <= 4096);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let at = unsafe {
            libc::mmap(ptr::null_mut(), size_of::<T>() * len, protection, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { at: NonNull::new(at.cast()).ok_or_else(io::Error::last_os_error)?, len })
    }
}

impl<T> Deref for Mapping<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: mapped for as long as `self` lives; maps begin as zeros, and every bit pattern is a `T`.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: what `new` mapped; no reference into it outlives `self`.
        unsafe { libc::munmap(self.at.as_ptr().cast(), size_of::<T>() * self.len) };
    }
}

impl Mapping<Config> {
    /// The caller has seen to it that no program reads the table now (odd generation, everybody out).
    pub fn write(&self, table: Table) {
        // SAFETY: within the mapping; one thread of the daemon writes, and the kernel is not looking.
        unsafe { (&raw mut (*self.at.as_ptr()).table).write_volatile(table) };
    }
}

/// The sequence number of the next byte that `socket` expects from its peer. Needs CAP_NET_ADMIN.
pub fn receive_sequence(socket: BorrowedFd<'_>) -> io::Result<u32> {
    const REPAIR_ON: i32 = 1;
    // Without the window probe that plain "off" sends.
    const REPAIR_OFF: i32 = -1;
    const RECEIVE_QUEUE: i32 = 1;
    let fd = socket.as_raw_fd();
    let reuse: i32 = get_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, &REPAIR_ON)?;
    let number = set_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, &RECEIVE_QUEUE)
        .and_then(|()| get_option::<u32>(fd, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ));
    // A socket left in repair mode would not close properly.
    set_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, &REPAIR_OFF)?;
    // Leaving repair mode takes this away, and a node that is started again could not bind its port for as long as an
    // old client of it lingers.
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, &reuse)?;
    number
}

/// Bytes that were ever put into the socket, counted from some place of its own: only differences mean something.
pub fn written(socket: BorrowedFd<'_>) -> io::Result<u64> {
    loop {
        let acked = traffic(socket)?.acked;
        let mut queued: libc::c_int = 0;
        // SAFETY: TIOCOUTQ writes one int: what is written and not acknowledged.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) })?;
        // Acknowledgements only go up: the same before and after, so the same in between.
        if traffic(socket)?.acked == acked {
            return Ok(acked + queued as u64);
        }
    }
}

/// Bytes that were put into the socket and not sent for a first time yet.
pub fn unsent(socket: BorrowedFd<'_>) -> io::Result<u64> {
    const SIOCOUTQNSD: libc::Ioctl = 0x894b;
    let mut bytes: libc::c_int = 0;
    // SAFETY: it writes one int.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCOUTQNSD, &raw mut bytes) })?;
    Ok(bytes as u64)
}

/// What TCP has counted for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that came in order, read or not.
    pub received: u64,
    /// Bytes of ours that the peer has acknowledged.
    pub acked: u64,
    /// A `TCP_…` state; 1 is established.
    pub state: u8,
}

pub fn traffic(socket: BorrowedFd<'_>) -> io::Result<Traffic> {
    // The beginning of `struct tcp_info`, as the kernel promises it: eight bytes, 24 words, then 64-bit counters.
    let info: [u64; 17] = get_option(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO)?;
    Ok(Traffic { state: info[0] as u8, acked: info[15], received: info[16] })
}

/// Sets the send buffer beyond the system's limit. Needs CAP_NET_ADMIN. `bytes` as the kernel will account for them.
pub fn force_send_buffer(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    // The kernel doubles what it is given.
    set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &((bytes / 2) as i32))
}

/// The same for what it receives.
pub fn force_receive_buffer(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &((bytes / 2) as i32))
}

/// While this lives, segments with bytes in them are dropped before the socket sees them, and the peer sends them again.
/// The few microseconds of an adoption or a release need that nothing comes in between.
pub struct Hush<'a>(BorrowedFd<'a>);

impl<'a> Hush<'a> {
    pub fn new(socket: BorrowedFd<'a>) -> io::Result<Hush<'a>> {
        // accept if the segment is as long as its TCP header, whose length in words is the upper half of byte 12
        let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        let program = [
            op(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 12),
            op(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0xf0),
            op(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 0, 0, 2),
            op(libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0),
            op(libc::BPF_LD | libc::BPF_W | libc::BPF_LEN, 0, 0, 0),
            op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_X, 0, 1, 0),
            op(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
            op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        ];
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        Ok(Hush(socket))
    }
}

impl Drop for Hush<'_> {
    fn drop(&mut self) {
        // Fails only if somebody else took the filter away.
        let _ = set_option(self.0.as_raw_fd(), libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0i32);
    }
}

/// Attaches an XDP program to an interface for as long as the link lives, in the driver or in the network stack. aya's own
/// way falls back to one that replaces whatever program is there, and that stays when we are gone.
pub fn attach_xdp(program: BorrowedFd<'_>, interface: u32, native: bool) -> io::Result<OwnedFd> {
    const LINK_CREATE: libc::c_int = 28;
    /// The beginning of the command's own part of `union bpf_attr`; the kernel takes what is missing for zeros.
    #[repr(C)]
    struct LinkCreate {
        program: u32,
        interface: u32,
        attach_type: u32,
        flags: u32,
    }
    const XDP: u32 = 37;
    let (in_stack, in_driver) = (1 << 1, 1 << 2);
    let link = LinkCreate {
        program: program.as_raw_fd() as u32,
        interface,
        attach_type: XDP,
        flags: if native { in_driver } else { in_stack },
    };
    // SAFETY: the kernel reads as many bytes as it is told.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, LINK_CREATE, &raw const link, size_of::<LinkCreate>()) as libc::c_int;
        check(fd)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The interface that an XDP link is attached to; 0 when that is gone, or somebody has detached the link.
pub fn interface_of_link(link: BorrowedFd<'_>) -> io::Result<u32> {
    const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
    /// The beginning of `struct bpf_link_info` with the part of XDP; the kernel fills in as much as there is room for.
    #[repr(C)]
    #[derive(Default)]
    struct LinkInfo {
        kind: u32,
        id: u32,
        program: u32,
        zero: u32,
        interface: u32,
        more: u32,
    }
    #[repr(C)]
    struct Ask {
        fd: u32,
        len: u32,
        to: u64,
    }
    let mut info = LinkInfo::default();
    let len = size_of::<LinkInfo>() as u32;
    let ask = Ask { fd: link.as_raw_fd() as u32, len, to: (&raw mut info) as u64 };
    // SAFETY: the kernel reads as many bytes as it is told, and writes as many as `ask` says there are.
    check(unsafe {
        libc::syscall(libc::SYS_bpf, OBJ_GET_INFO_BY_FD, &raw const ask, size_of::<Ask>()) as libc::c_int
    })?;
    Ok(info.interface)
}

fn set_option<T>(fd: RawFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes.
    check(unsafe { libc::setsockopt(fd, level, name, ptr::from_ref(value).cast(), size_of::<T>() as u32) })
}

/// `T` is integers; options shorter than it leave zeros.
fn get_option<T>(fd: RawFd, level: i32, name: i32) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as u32;
    // SAFETY: the kernel writes at most `len` bytes; zeros and whatever it writes are integers.
    unsafe {
        check(libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &raw mut len))?;
        Ok(value.assume_init())
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn tcp_counts_what_came() {
        let (mut client, mut node) = pair();
        client.write_all(b"0123456789").unwrap();
        node.read_exact(&mut [0; 4]).unwrap();
        while traffic(node.as_fd()).unwrap().received < 10 {}
        assert_eq!(traffic(node.as_fd()).unwrap().state, 1);
        assert_eq!(traffic(client.as_fd()).unwrap().acked, 11, "TCP counts the SYN too");
    }

    #[test]
    fn what_is_written_is_counted_acknowledged_or_not() {
        let (mut client, mut node) = pair();
        let before = written(client.as_fd()).unwrap();
        for round in 1..50 {
            client.write_all(b"0123456789").unwrap();
            assert_eq!(written(client.as_fd()).unwrap() - before, 10 * round);
        }
        node.read_exact(&mut [0; 490]).unwrap();
        assert_eq!(written(client.as_fd()).unwrap() - before, 490);
    }

    #[test]
    fn a_hushed_socket_gets_its_bytes_later() {
        let (mut client, mut node) = pair();
        {
            let _hush = Hush::new(node.as_fd()).unwrap();
            client.write_all(b"x").unwrap();
            client.flush().unwrap();
            assert_eq!(traffic(node.as_fd()).unwrap().received, 0);
        }
        let mut byte = [0];
        node.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
    }
}
