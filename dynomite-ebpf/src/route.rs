//! sk_skb: one request of an adopted client → straight into the datastore's own socket, or up to the daemon.
//! Owns: `Route` of the flow's slot. Next on the walk: the datastore, then `reply`.

use aya_ebpf::bindings::{BPF_F_INGRESS, sk_action};
use aya_ebpf::macros::stream_verdict;
use aya_ebpf::programs::SkBuffContext;
use dynomite_common::abi::{KernelHash, Name, Table};
use dynomite_common::flow::{Armed, Slot};
use dynomite_common::gate::{self, Gate};
use dynomite_common::limits::{HEAD_BYTES, RANGES_MAX};
use dynomite_common::peek::{Head, Peek};
use dynomite_common::reason::Reason;
use dynomite_common::token::{self, Token, Window};

use crate::count::{self, bump};
use crate::load;
use crate::maps::{COMMANDS, CONFIG, DATASTORES, FLOWS, SCRATCH, SLOTS, Scratch};
use crate::tell::tell;

#[stream_verdict]
pub fn route(ctx: SkBuffContext) -> u32 {
    let len = ctx.len();
    if len == 0 {
        bump(Reason::Empty, 0);
        return sk_action::SK_PASS;
    }
    let Some((index, slot)) = flow(&ctx) else {
        bump(Reason::NoFlow, u64::from(len));
        return sk_action::SK_PASS;
    };
    // Entered before `armed` is read and left after everything is written: the daemon closes the gate and then waits
    // until both are equal, and knows that nothing moves any more.
    slot.route.entered.add(1);
    let reason = match decide(&ctx, slot, index, len) {
        Ok(()) => Reason::Routed,
        Err(reason) => {
            // Counted first, looked second: the daemon says that its poll does not tell it, and then looks at the count.
            slot.route.passed.add(u64::from(len));
            if slot.daemon.polls.get() == 0 {
                tell(slot, index);
            }
            reason
        }
    };
    slot.route.left.add(1);
    bump(reason, u64::from(len));
    sk_action::SK_PASS
}

/// Ok: redirected. Err: to be passed.
#[inline(always)]
fn decide(ctx: &SkBuffContext, slot: &Slot, index: u32, len: u32) -> Result<(), Reason> {
    let gate = Gate::read(slot);
    if gate.armed == Armed::Off as u64 {
        return Err(Reason::Unarmed);
    }
    in_sequence(ctx, slot)?;
    gate.open()?;
    let config = CONFIG.get(0).ok_or(Reason::Unreadable)?;
    if config.generation.get() & 1 == 1 {
        return Err(Reason::Paused);
    }
    let (size, queued) = load::send_buffer(ctx).ok_or(Reason::Unreadable)?;
    if !gate::has_room(size, queued) {
        return Err(Reason::NoRoom);
    }
    let scratch = SCRATCH.get_ptr_mut(0).ok_or(Reason::Unreadable)?;
    // SAFETY: this CPU's own memory, and nothing interrupts this program that would use it.
    let scratch = unsafe { &mut *scratch };
    let table = &config.table;
    let name = look(ctx, table, scratch, len)?;
    let number = eligible(name, scratch)?;
    owned(table, scratch)?;
    slot.route.ask(number, scratch.look.key_len.get());
    // SAFETY: the context is the kernel's own.
    let verdict = unsafe { DATASTORES.redirect_skb(ctx, index, BPF_F_INGRESS.into()) };
    if verdict != i64::from(sk_action::SK_PASS) {
        return Err(Reason::DatastoreAway);
    }
    slot.route.routed.add(u64::from(len));
    slot.route.sent.add(1);
    count::asked(number, u64::from(len));
    Ok(())
}

#[inline(always)]
fn flow(ctx: &SkBuffContext) -> Option<(u32, &'static Slot)> {
    let key = load::key(ctx);
    // SAFETY: the value is one word; nobody frees it under a running program.
    let index = *unsafe { FLOWS.get(&key) }?;
    Some((index, SLOTS.get(index)?))
}

/// The kernel hands over whole segments, even if the head of one was delivered before (a retransmission that overlaps).
/// Then what is read above is not what the client wrote: the flow is marked, and nothing of it is ever routed again.
#[inline(always)]
fn in_sequence(ctx: &SkBuffContext, slot: &Slot) -> Result<(), Reason> {
    if slot.route.broken.get() != 0 {
        return Err(Reason::Overlap);
    }
    let seq = load::sequence(ctx).ok_or(Reason::Unreadable)?;
    if seq != slot.route.next_seq(slot.daemon.base_seq.get()) {
        slot.route.broken_at.set(slot.route.passed.get());
        slot.route.broken.set(1);
        return Err(Reason::Overlap);
    }
    Ok(())
}

#[inline(always)]
fn look(ctx: &SkBuffContext, table: &Table, scratch: &mut Scratch, len: u32) -> Result<Name, Reason> {
    load::head(ctx, len, &mut scratch.head).ok_or(Reason::Unreadable)?;
    let tail = if len > HEAD_BYTES as u32 { load::tail(ctx, len).ok_or(Reason::Unreadable)? } else { [0; 2] };
    let head = Head::new(&scratch.head, len, tail, &scratch.look);
    match if table.protocol == 0 { head.resp() } else { head.memcache() } {
        Peek::Sure(name) => Ok(name),
        Peek::Incomplete => Err(Reason::Incomplete),
        Peek::Unsure(reason) => Err(reason),
    }
}

#[inline(always)]
fn eligible(name: Name, scratch: &Scratch) -> Result<u32, Reason> {
    // SAFETY: rows change only while the generation is odd, and they are three words.
    let row = unsafe { COMMANDS.get(&name) }.ok_or(Reason::NotEligible)?;
    let args = scratch.look.args.get();
    if args < row.args_min || args > row.args_max { Err(Reason::Arguments) } else { Ok(row.number) }
}

#[inline(always)]
fn owned(table: &Table, scratch: &Scratch) -> Result<(), Reason> {
    if table.hash == 0 {
        return Ok(());
    }
    let Scratch { head, look, place, token, .. } = scratch;
    let mut key = Window::new(head, look.key_at.get(), look.key_len.get(), place).ok_or(Reason::TooLong)?;
    if table.tag_open != 0 {
        let (at, len) = token::tagged(key, table.tag_open as u8, table.tag_close as u8);
        key = key.part(at, len);
    }
    let Token(hashed) = hash(table.hash, key).ok_or(Reason::NotEligible)?;
    let token = token.through(hashed);
    for index in 0..RANGES_MAX {
        if index >= table.ranges as usize {
            break;
        }
        let range = &table.range[index];
        if range.first <= token && token <= range.last {
            return Ok(());
        }
    }
    Err(Reason::NotOwner)
}

#[inline(always)]
fn hash(number: u32, key: Window<'_, HEAD_BYTES>) -> Option<Token> {
    const MURMUR: u32 = KernelHash::Murmur as u32;
    const MURMUR3: u32 = KernelHash::Murmur3 as u32;
    const FNV1_32: u32 = KernelHash::Fnv132 as u32;
    const FNV1A_32: u32 = KernelHash::Fnv1a32 as u32;
    const FNV1_64: u32 = KernelHash::Fnv164 as u32;
    const FNV1A_64: u32 = KernelHash::Fnv1a64 as u32;
    const CRC32: u32 = KernelHash::Crc32 as u32;
    const CRC32A: u32 = KernelHash::Crc32a as u32;
    const JENKINS: u32 = KernelHash::Jenkins as u32;
    Some(match number {
        MURMUR => token::murmur(key),
        MURMUR3 => token::murmur3(key),
        FNV1_32 => token::fnv1_32(key),
        FNV1A_32 => token::fnv1a_32(key),
        FNV1_64 => token::fnv1_64(key),
        FNV1A_64 => token::fnv1a_64(key),
        CRC32 => token::crc32(key),
        CRC32A => token::crc32a(key),
        JENKINS => token::jenkins(key),
        _ => return None,
    })
}
