//! xdp: packets to our ports, counted by class and ruling; what should not come in is dropped where that is wished for.
//! Everything else passes untouched.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::warn;
use dynomite_common::frame::{self, Frame, Seen, Segment};
use dynomite_common::guard::{Cell, Class, Mode, Ruling, count_in_second};
use dynomite_common::verifier::within;

use crate::maps::{GUARDED, MEMBERS, RULES, SAID, SOURCES};

#[xdp]
pub fn guard(ctx: XdpContext) -> u32 {
    let Some(rules) = RULES.get(0) else { return xdp_action::XDP_PASS };
    if rules.mode == Mode::Off as u32 {
        return xdp_action::XDP_PASS;
    }
    let seen = frame::look(&Packet(&ctx));
    let Some((class, ruling)) = rules.judge(&seen, is_member, is_within) else { return xdp_action::XDP_PASS };
    count(&ctx, class, ruling);
    if !ruling.rejects() {
        return xdp_action::XDP_PASS;
    }
    if let Seen::Tcp(segment) | Seen::Unread(_, segment) = &seen {
        say(&ctx, &segment.source, ruling);
    }
    if rules.mode == Mode::Enforce as u32 { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}

#[inline(always)]
fn is_member(segment: &Segment) -> bool {
    // SAFETY: only whether it is there is looked at.
    unsafe { MEMBERS.get(&segment.source) }.is_some()
}

#[inline(always)]
fn is_within(segment: &Segment, rate: u32) -> bool {
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    match SOURCES.get_ptr_mut(&segment.source) {
        // SAFETY: an element of the map, read and written as one word.
        Some(entry) => unsafe {
            let (next, within) = count_in_second(entry.read_volatile(), now, rate);
            entry.write_volatile(next);
            within
        },
        None => {
            let (first, within) = count_in_second(0, now, rate);
            // Without room nobody is kept out.
            let _ = SOURCES.insert(&segment.source, &first, 0);
            within
        }
    }
}

/// Cells are there for the interfaces that the daemon has attached to.
#[inline(always)]
fn count(ctx: &XdpContext, class: Class, ruling: Ruling) {
    // SAFETY: a field of the context, which outlives the program.
    let interface = unsafe { (*ctx.ctx).ingress_ifindex };
    let cell = Cell { interface, class: class as u32, ruling: ruling as u32 };
    if let Some(tally) = GUARDED.get_ptr_mut(&cell) {
        // SAFETY: this processor's own element.
        unsafe {
            (*tally).times += 1;
            (*tally).bytes += (ctx.data_end() - ctx.data()) as u64;
        }
    }
}

/// A sample: of each ruling, one packet a second. All of them are counted.
#[inline(always)]
fn say(ctx: &XdpContext, source: &[u32; 4], ruling: Ruling) {
    const SECOND: u64 = 1_000_000_000;
    let Some(last) = SAID.get_ptr_mut(ruling as u32) else { return };
    // SAFETY: a helper without arguments; an element of the map, read and written as one word.
    unsafe {
        let now = bpf_ktime_get_ns();
        if now - last.read_volatile() < SECOND {
            return;
        }
        last.write_volatile(now);
    }
    // SAFETY: the same sixteen bytes.
    let source: [u8; 16] = unsafe { core::mem::transmute(*source) };
    match ruling {
        Ruling::Stranger => warn!(ctx, "guard: {:i} is no member, and connects to the peer port", source),
        Ruling::BadFlags => warn!(ctx, "guard: {:i} sends flags that TCP does not know", source),
        Ruling::Tiny => warn!(ctx, "guard: {:i} sends fragments that hide TCP's flags", source),
        Ruling::TooDeep => warn!(ctx, "guard: {:i} sends more tags or headers than are followed", source),
        _ => warn!(ctx, "guard: {:i} opens too many connections in a second", source),
    }
}

struct Packet<'a>(&'a XdpContext);

impl Frame for Packet<'_> {
    #[inline(always)]
    fn bytes<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        // `look` goes no further than this; a verifier has to be shown.
        let at = self.0.data() + within::<1024>(at);
        if at + N > self.0.data_end() {
            return None;
        }
        // SAFETY: checked just now against the packet's end; bytes may stand anywhere.
        Some(unsafe { *(at as *const [u8; N]) })
    }
}
