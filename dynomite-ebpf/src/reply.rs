//! sk_msg: what the datastore writes to a flow's connection → straight out of the client's socket, or to the daemon.
//! Owns: `Reply` of the flow's slot.

use aya_ebpf::bindings::sk_action;
use aya_ebpf::macros::sk_msg;
use aya_ebpf::programs::SkMsgContext;
use dynomite_common::abi::Port;
use dynomite_common::flow::Slot;
use dynomite_common::gate::{Carry, Gate, ReplyHead, carry};
use dynomite_common::peek;
use dynomite_common::reason::Reason;
use dynomite_common::verifier::within;

use crate::count::{answered, bump};
use crate::maps::{CLIENTS, CONFIG, PORTS, SLOTS};
use crate::tell::tell;

#[sk_msg]
pub fn reply(ctx: SkMsgContext) -> u32 {
    let size = u64::from(ctx.size());
    let Some((index, slot)) = flow(&ctx) else {
        bump(Reason::ReplyNoFlow, size);
        return sk_action::SK_PASS;
    };
    slot.reply.entered.add(1);
    let reason = deliver(&ctx, slot, index, size);
    slot.reply.left.add(1);
    bump(reason, size);
    sk_action::SK_PASS
}

#[inline(always)]
fn flow(ctx: &SkMsgContext) -> Option<(u32, &'static Slot)> {
    // SAFETY: the context is the kernel's own.
    let port = u32::from_be(unsafe { (*ctx.msg).remote_port }) & 0xffff;
    match Port::unpack(*PORTS.get(port)?)? {
        Port::Flow { slot } => Some((slot, SLOTS.get(slot)?)),
        Port::Shortcut { .. } => None,
    }
}

#[inline(always)]
fn deliver(ctx: &SkMsgContext, slot: &Slot, index: u32, size: u64) -> Reason {
    let gate = Gate::read(slot);
    match carry(&gate, slot.reply.rest.get(), size, || head(ctx, slot, size as u32)) {
        Carry::Redirect { rest } => {
            // SAFETY: the context is the kernel's own.
            let verdict = unsafe { CLIENTS.redirect_msg(ctx, index, 0) };
            if verdict != i64::from(sk_action::SK_PASS) {
                return Reason::ClientAway;
            }
            slot.reply.out.add(size);
            slot.reply.rest.set(rest);
            answered(slot.route.number(), u64::from(rest == 0), size);
            if rest > 0 {
                return Reason::ReplyPart;
            }
            complete(slot, index);
            Reason::Replied
        }
        Carry::RelayStart => {
            slot.reply.relayed.add(1);
            answered(slot.route.number(), 1, 0);
            tell(slot, index);
            Reason::Relayed
        }
        Carry::RelayPart => Reason::RelayPart,
        Carry::Unasked => Reason::Unasked,
        Carry::Overrun => {
            slot.reply.spoiled.set(1);
            tell(slot, index);
            Reason::Overrun
        }
    }
}

/// Counted first, looked second: the daemon adds to what it waits for in the other order, so one of the two sees the other.
#[inline(always)]
fn complete(slot: &Slot, index: u32) {
    slot.reply.done.add(1);
    if Gate::read(slot).open().is_err() {
        tell(slot, index);
    }
}

#[inline(always)]
fn head(ctx: &SkMsgContext, slot: &Slot, size: u32) -> ReplyHead {
    let byte = |at: u32| {
        let (data, end) = (ctx.data(), ctx.data_end());
        // The place must be small enough for a verifier to follow; heads are within it.
        let at = within::<1024>(at);
        if data + at + 1 > end {
            return None;
        }
        // SAFETY: checked just now against the message's end.
        Some(unsafe { *((data + at) as *const u8) })
    };
    match CONFIG.get(0) {
        Some(config) if config.table.protocol == 0 => peek::resp_reply(size, byte),
        Some(_) => peek::memcache_reply(size, slot.route.key_len() & 0xff, byte),
        None => ReplyHead::Unknown,
    }
}
