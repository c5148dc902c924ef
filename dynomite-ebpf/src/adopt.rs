//! sock_ops: catches the datastore's own end of connections that the daemon has announced, at the moment they are
//! established, before a byte can have passed.

use aya_ebpf::bindings::{BPF_NOEXIST, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB};
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use aya_log_ebpf::warn;
use dynomite_common::abi::Port;
use dynomite_common::pair::End;
use dynomite_common::reason::Reason;

use crate::count::bump;
use crate::load;
use crate::maps::{CONFIG, DATASTORES, PAIRS, PORTS, SHORTCUTS, SLOTS};

#[sock_ops]
pub fn adopt(ctx: SockOpsContext) -> u32 {
    if ctx.op() == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB
        && let Some(reason) = catch(&ctx)
    {
        bump(reason, 0);
    }
    1
}

/// None: nothing to do with our datastore.
#[inline(always)]
fn catch(ctx: &SockOpsContext) -> Option<Reason> {
    let table = &CONFIG.get(0)?.table;
    if ctx.local_port() != table.datastore_port {
        return None;
    }
    let port = u32::from_be(ctx.remote_port()) & 0xffff;
    let Some(port) = PORTS.get(port).and_then(|&port| Port::unpack(port)) else {
        return Some(Reason::AdoptStranger);
    };
    let remote_ip = load::remote_ip(ctx);
    if remote_ip != table.daemon_ip {
        return Some(Reason::AdoptStranger);
    }
    match port {
        Port::Flow { slot: index } => {
            let slot = SLOTS.get(index)?;
            // SAFETY: the context is the kernel's own.
            let taken = unsafe { DATASTORES.update(index, ctx.ops, BPF_NOEXIST.into()) };
            slot.adopted.datastore.set(if taken.is_ok() { 1 } else { 2 });
            if let Err(error) = taken {
                warn!(ctx, "a connection of the datastore was not adopted: error {}", error);
                return Some(Reason::AdoptRefused);
            }
            Some(Reason::Adopted)
        }
        Port::Shortcut { pair: index } => {
            let pair = PAIRS.get(index)?;
            // SAFETY: the context is the kernel's own.
            let taken = unsafe { SHORTCUTS.update(End::Datastore.place(index), ctx.ops, BPF_NOEXIST.into()) };
            pair.adopted.datastore.set(if taken.is_ok() { 1 } else { 2 });
            Some(if taken.is_ok() { Reason::Adopted } else { Reason::AdoptRefused })
        }
    }
}
