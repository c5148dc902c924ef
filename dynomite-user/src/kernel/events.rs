//! Records of the kernel → the worker whose flow they are about; and slots that rest.
//! Owns: two threads that end with their `FastPath`. Knows nothing of: what a worker does with an event.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use dynomite_common::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::{FastPath, Used};

/// Where a worker finds the slots of its flows that something happened to.
pub struct Mailbox {
    slots: Mutex<Vec<u32>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Mailbox {
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Mailbox {
        Mailbox { slots: Mutex::default(), wake }
    }

    pub fn put(&self, slot: u32) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.push(slot);
        let is_first = slots.len() == 1;
        drop(slots);
        if is_first {
            (self.wake)();
        }
    }

    /// Something else is to be looked at.
    pub fn wake(&self) {
        (self.wake)();
    }

    /// Empties it into `slots`.
    pub fn take(&self, slots: &mut Vec<u32>) {
        slots.append(&mut self.slots.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

const RECORDS: Token = Token(0);
const END: Token = Token(1);

/// Starts the thread that hands records out. The waker ends it once `path` is gone.
pub fn listen(path: &Arc<FastPath>, mut records: RingBuf<MapData>) -> io::Result<Waker> {
    let mut poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&records.as_raw_fd()), RECORDS, Interest::READABLE)?;
    let waker = Waker::new(poll.registry(), END)?;
    let path = Arc::downgrade(path);
    let run = move || {
        let mut events = Events::with_capacity(4);
        loop {
            if let Err(error) = poll.poll(&mut events, None)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "no more events from the kernel");
                return;
            }
            let Some(path) = path.upgrade() else { return };
            while let Some(record) = records.next() {
                if let Some(event) = Event::read(&record) {
                    path.deliver(event);
                }
            }
        }
    };
    thread::Builder::new().name("kernel-events".into()).spawn(run)?;
    Ok(waker)
}

/// How long a slot rests. Programs run for microseconds; but a virtual machine's processor may stand still in between.
/// (A grace period of the kernel's would be a proof. But nothing ends the wait for it, on a busy machine it takes seconds,
/// and a daemon that is killed meanwhile goes on answering clients until it is over.)
const REST: Duration = Duration::from_millis(250);

/// Starts the thread that gives used slots back when no program has them in hand any more.
pub fn rest(path: &Arc<FastPath>, used: Receiver<Used>) -> io::Result<()> {
    let path: Weak<FastPath> = Arc::downgrade(path);
    let run = move || {
        while let Ok(first) = used.recv() {
            let slots: Vec<Used> = std::iter::once(first).chain(used.try_iter()).collect();
            thread::sleep(REST);
            let Some(path) = path.upgrade() else { return };
            path.rested(slots);
        }
    };
    thread::Builder::new().name("kernel-slots".into()).spawn(run)?;
    Ok(())
}
