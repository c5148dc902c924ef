//! The shortcut's trials: each a thing that daemon and datastore do to a connection.
//! Owns: both ends of every connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use dynomite_common::limits::SHORTCUT_BYTES_MAX;
use dynomite_common::pair::End;
use socket2::SockRef;

use super::super::{FastPath, Shortcut};
use super::{Fault, Outcome, PATIENCE, SIGHT, UNSEEN, hold, until, until_within, wait_readable};

pub type Try = (&'static str, fn(&Rig) -> Outcome);

pub const TRIALS: &[Try] = &[
    ("shortcut: to and fro", echo),
    ("shortcut: 1 MB both ways at once", large),
    ("shortcut: a daemon that does not read", stalled),
    ("shortcut: switched off and on under way", switched),
    ("shortcut: each end has said all", half_closed),
    ("shortcut: each end resets", reset),
    ("shortcut: 1 000 frames in order", mixed),
];

pub struct Rig {
    path: Arc<FastPath>,
    store: TcpListener,
    /// What frames are cut from. It repeats after a prime number of bytes, so that hardly anything misplaced is like what
    /// should be there.
    bytes: Vec<u8>,
}

/// More than may be unread; the rest fits into the sockets.
const FLOOD: usize = SHORTCUT_BYTES_MAX as usize + (2 << 20);

impl Rig {
    pub fn new(path: Arc<FastPath>, store: TcpListener) -> Rig {
        const PERIOD: usize = 65_521;
        let mut state = 1_u32;
        let period = (0..PERIOD).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        Rig { path, store, bytes: period.collect::<Vec<u8>>().repeat(FLOOD.div_ceil(PERIOD)) }
    }

    fn line(&self) -> Result<Line, Fault> {
        let to = self.store.local_addr()?;
        let (socket, mut shortcut) = Shortcut::announce(&self.path, to).ok_or("not announced")?;
        match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error.into()),
            _ => {}
        }
        let (store, _) = self.store.accept()?;
        let own = TcpStream::from(socket);
        until("connected", || Ok(own.peer_addr().is_ok()))?;
        until_within(SIGHT, UNSEEN, || Ok(shortcut.is_adopted()))?;
        shortcut.join(own.as_fd());
        shortcut.settle(false);
        hold!(shortcut.is_straight(), "no shortcut although both ends are there");
        for end in [&own, &store] {
            end.set_nonblocking(false)?;
            end.set_nodelay(true)?;
            end.set_read_timeout(Some(PATIENCE))?;
            end.set_write_timeout(Some(PATIENCE))?;
        }
        Ok(Line { own, shortcut, store })
    }
}

/// The daemon's end of a shared connection, its shortcut, and the datastore's end.
struct Line {
    own: TcpStream,
    shortcut: Shortcut,
    store: TcpStream,
}

impl Line {
    fn asks(&mut self, bytes: &[u8]) -> Outcome {
        self.own.write_all(bytes)?;
        hears(&mut self.store, bytes)
    }

    fn answers(&mut self, asked: usize, bytes: &[u8]) -> Outcome {
        self.store.write_all(bytes)?;
        wait_readable(&self.own)?;
        hears(&mut self.own, bytes)?;
        self.shortcut.on_read(bytes.len());
        self.shortcut.on_answered(asked as u64);
        Ok(())
    }

    /// Bytes that went straight, from each end.
    fn straight(&self) -> (u64, u64) {
        (self.shortcut.given(End::Daemon), self.shortcut.given(End::Datastore))
    }
}

fn hears(end: &mut TcpStream, bytes: &[u8]) -> Outcome {
    let mut got = vec![0; bytes.len()];
    end.read_exact(&mut got)?;
    same(&got, bytes)
}

fn same(got: &[u8], bytes: &[u8]) -> Outcome {
    if got == bytes {
        return Ok(());
    }
    let first = got.iter().zip(bytes).position(|(got, byte)| got != byte);
    Err(Fault::from(format!("byte {} of {} is another one", first.unwrap_or(0), bytes.len())))
}

fn echo(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    for round in 0..200 {
        line.asks(&rig.bytes[round..round + 100])?;
        line.answers(100, &rig.bytes[round..round + 33])?;
        line.shortcut.settle(false);
    }
    hold!(line.straight() == (20_000, 6_600), "{:?} bytes went straight", line.straight());
    Ok(())
}

fn large(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    let (up, down) = (&rig.bytes[1..1 << 20], &rig.bytes[2..1 << 20]);
    let ends = (line.own.try_clone()?, line.store.try_clone()?);
    std::thread::scope(|scope| -> Outcome {
        let (mut own, mut store) = ends;
        let threads = [
            scope.spawn(move || Ok(own.write_all(up)?)),
            scope.spawn(move || {
                hears(&mut store, up)?;
                Ok(store.write_all(down)?)
            }),
        ];
        hears(&mut line.own, down)?;
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread died")?)
    })?;
    let all = (up.len() as u64, down.len() as u64);
    hold!(line.straight() == all, "{:?} bytes went straight", line.straight());
    line.shortcut.on_read(down.len());
    line.shortcut.on_answered(all.0);
    line.shortcut.settle(false);
    line.asks(b"and")?;
    line.answers(3, b"on")
}

/// Replies that nobody reads are parked up to a limit, and what comes behind them over TCP is read behind them.
fn stalled(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    line.store.set_nonblocking(true)?;
    let mut taken = 0;
    while taken < FLOOD {
        match line.store.write(&rig.bytes[taken..FLOOD.min(taken + 100_000)]) {
            Ok(count) => taken += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    let (_, parked) = line.straight();
    hold!(parked <= SHORTCUT_BYTES_MAX && parked > SHORTCUT_BYTES_MAX / 2, "{parked} bytes went straight");
    // As the worker reads: once an event, unless it is told that there may be more.
    wait_readable(&line.own)?;
    line.own.set_nonblocking(true)?;
    let (mut space, mut read) = (vec![0; 128 << 10], 0);
    until("all is read", || match line.own.read(&mut space) {
        Ok(0) => Err(Fault::from("the connection ended")),
        Ok(count) => {
            same(&space[..count], &rig.bytes[read..read + count])?;
            read += count;
            let is_told = line.shortcut.on_read(count) || count == space.len();
            hold!(is_told || read == taken, "nobody would read on after {read} bytes");
            Ok(read == taken)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error.into()),
    })?;
    for end in [&line.own, &line.store] {
        end.set_nonblocking(false)?;
    }
    // Whoever was refused writes the rest: until then the kernel passes what comes without asking the program.
    line.answers(0, b"over TCP")?;
    hold!(line.straight().1 == parked, "straight before all was read");
    line.shortcut.settle(false);
    line.asks(b"straight again")?;
    line.answers(14, b"yes")?;
    hold!(line.straight().1 == parked + 3, "not straight again");
    Ok(())
}

/// Held while anything is unanswered; over TCP from then on; and back.
fn switched(rig: &Rig) -> Outcome {
    let mut line = rig.line()?;
    for round in 0..20 {
        let before = line.straight();
        line.own.write_all(&rig.bytes[round..5_000])?;
        line.store.write_all(&rig.bytes[round..3_000])?;
        rig.path.switch_shortcut(false);
        line.shortcut.look();
        hold!(line.shortcut.is_turning(), "it turns with bytes unread");
        hears(&mut line.own, &rig.bytes[round..3_000])?;
        hears(&mut line.store, &rig.bytes[round..5_000])?;
        line.shortcut.on_read(3_000 - round);
        line.shortcut.on_answered(5_000 - round as u64);
        line.shortcut.settle(false);
        let after = line.straight();
        line.asks(b"over TCP")?;
        line.answers(8, b"so")?;
        hold!(line.straight() == after && after.0 > before.0, "straight though it is switched off");
        rig.path.switch_shortcut(true);
        line.shortcut.settle(false);
        line.asks(b"straight")?;
        line.answers(8, b"again")?;
        hold!(line.straight() == (after.0 + 8, after.1 + 5), "not straight again");
    }
    Ok(())
}

fn half_closed(rig: &Rig) -> Outcome {
    for from_store in [false, true] {
        let Line { own, shortcut: _shortcut, store } = rig.line()?;
        let (mut speaker, mut hearer) = if from_store { (store, own) } else { (own, store) };
        speaker.write_all(b"the last words")?;
        speaker.shutdown(Shutdown::Write)?;
        wait_readable(&hearer)?;
        hears(&mut hearer, b"the last words")?;
        hold!(hearer.read(&mut [0])? == 0, "no end");
        hearer.write_all(b"an answer")?;
        hears(&mut speaker, b"an answer")?;
        drop(hearer);
        hold!(speaker.read(&mut [0])? == 0, "no end of the other direction");
    }
    Ok(())
}

fn reset(rig: &Rig) -> Outcome {
    for from_store in [false, true] {
        for parked in [false, true] {
            let Line { own, shortcut: _shortcut, store } = rig.line()?;
            let (mut gone, mut left) = if from_store { (store, own) } else { (own, store) };
            if parked {
                gone.write_all(b"nobody has read this")?;
            }
            SockRef::from(&gone).set_linger(Some(Duration::ZERO))?;
            drop(gone);
            wait_readable(&left)?;
            left.set_nonblocking(true)?;
            until("the reset is seen", || match left.read(&mut [0; 64]) {
                Ok(0) => Ok(true),
                Ok(_) => Ok(false),
                // It may say "nothing yet" for ever: its state tells.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    Ok(left.take_error()?.is_some() || left.peer_addr().is_err())
                }
                Err(_) => Ok(true),
            })?;
            until("writing fails", || Ok(left.write(b"x").is_err()))?;
        }
    }
    Ok(())
}

/// Frames of all lengths, several asked before the first is answered, the switch moved now and then.
fn mixed(rig: &Rig) -> Outcome {
    const ROUNDS: usize = 100;
    const FRAMES: usize = 10;
    const LENS: [usize; 7] = [1, 100, 16_384, 3, 40_000, 1_500, 20_000];
    let Line { mut own, mut shortcut, mut store } = rig.line()?;
    let asked = |at: usize| &rig.bytes[at..at + LENS[at % 7]];
    let answered = |at: usize| &rig.bytes[2 * at..2 * at + LENS[at % 5]];
    std::thread::scope(|scope| -> Outcome {
        let datastore = scope.spawn(move || -> Outcome {
            for at in 0..ROUNDS * FRAMES {
                hears(&mut store, asked(at))?;
                store.write_all(answered(at))?;
            }
            Ok(())
        });
        for round in 0..ROUNDS {
            let frames = round * FRAMES..(round + 1) * FRAMES;
            frames.clone().try_for_each(|at| own.write_all(asked(at)))?;
            if round % 10 == 9 {
                rig.path.switch_shortcut(round % 20 == 19);
                shortcut.look();
            }
            for at in frames {
                hears(&mut own, answered(at))?;
                shortcut.on_read(answered(at).len());
                shortcut.on_answered(asked(at).len() as u64);
            }
            shortcut.settle(false);
        }
        datastore.join().map_err(|_| "the datastore's thread died")?
    })
}
