//! sk_msg: what daemon and datastore write to each other on a shared connection → straight to the other end, past TCP.
//! Owns: the `Lane`s of the pair's slot.

use aya_ebpf::bindings::{BPF_F_INGRESS, sk_action};
use aya_ebpf::macros::sk_msg;
use aya_ebpf::programs::SkMsgContext;
use dynomite_common::abi::Port;
use dynomite_common::pair::{End, Pair};
use dynomite_common::reason::Reason;

use crate::count::bump;
use crate::maps::{CONFIG, PAIRS, PORTS, SHORTCUTS};

#[sk_msg]
pub fn shortcut(ctx: SkMsgContext) -> u32 {
    let size = u64::from(ctx.size());
    let reason = match pair(&ctx) {
        Some((index, pair, end)) => carry(&ctx, index, pair, end, size),
        None => Reason::ShortNoPair,
    };
    bump(reason, size);
    sk_action::SK_PASS
}

/// Whose connection it is, and which end of it writes.
#[inline(always)]
fn pair(ctx: &SkMsgContext) -> Option<(u32, &'static Pair, End)> {
    // SAFETY: the context is the kernel's own.
    let (local, remote) = unsafe { ((*ctx.msg).local_port, u32::from_be((*ctx.msg).remote_port)) };
    let end = if local == CONFIG.get(0)?.table.datastore_port { End::Datastore } else { End::Daemon };
    let port = if end == End::Daemon { local } else { remote };
    match Port::unpack(*PORTS.get(port & 0xffff)?)? {
        Port::Shortcut { pair } => Some((pair, PAIRS.get(pair)?, end)),
        Port::Flow { .. } => None,
    }
}

#[inline(always)]
fn carry(ctx: &SkMsgContext, index: u32, pair: &Pair, end: End, size: u64) -> Reason {
    let term = pair.daemon.term.get();
    let (lane, taken) = pair.lane(end);
    if let Err(reason) = lane.admit(term, taken, size) {
        return reason;
    }
    // SAFETY: the context is the kernel's own.
    let verdict = unsafe { SHORTCUTS.redirect_msg(ctx, end.other().place(index), BPF_F_INGRESS.into()) };
    if verdict != i64::from(sk_action::SK_PASS) {
        lane.fell_in.set(term);
        return Reason::ShortAway;
    }
    lane.given.add(size);
    if end == End::Daemon { Reason::ShortToDatastore } else { Reason::ShortToDaemon }
}
