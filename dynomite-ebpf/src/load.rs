//! Loads: of the segment, and of the few kernel fields that no context shows. The latter's places come from the
//! running kernel's type information and are set when the object is loaded.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::programs::{SkBuffContext, SockOpsContext};
use dynomite_common::abi::FlowKey;
use dynomite_common::limits::HEAD_BYTES;
use dynomite_common::verifier::within;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])*
        #[unsafe(no_mangle)]
        static $name: u32 = 0;)*
    };
}

offsets! {
    /// `cb` in `struct sk_buff`; TCP keeps the segment's first sequence number at its beginning.
    SKB_CB;
    /// `sk` in `struct sk_buff`.
    SKB_SK;
    /// `sk_wmem_queued` in `struct sock`: bytes in the send queue as the kernel accounts for them.
    SOCK_WMEM_QUEUED;
    /// `sk_sndbuf` in `struct sock`: up to how many the socket takes more.
    SOCK_SNDBUF;
}

#[inline(always)]
fn field<T>(base: *const u8, offset: &u32) -> Option<T> {
    // SAFETY: volatile, or the compiler would take the zero of the source for the value; the helper checks the address.
    unsafe {
        let offset = ptr::read_volatile(offset);
        bpf_probe_read_kernel(base.add(offset as usize).cast::<T>()).ok()
    }
}

/// The TCP sequence number of the segment's first byte.
#[inline(always)]
pub fn sequence(ctx: &SkBuffContext) -> Option<u32> {
    field(ctx.as_ptr().cast(), &SKB_CB)
}

/// The receiving socket's send buffer: its size, and how much of it is taken.
#[inline(always)]
pub fn send_buffer(ctx: &SkBuffContext) -> Option<(i32, i32)> {
    let socket: *const u8 = field(ctx.as_ptr().cast(), &SKB_SK)?;
    Some((field(socket, &SOCK_SNDBUF)?, field(socket, &SOCK_WMEM_QUEUED)?))
}

// A context may only be read at constant places from its beginning ("dereference of modified ctx ptr", all kernels).
// Volatile loads in a straight line stay what they are written as; in branches LLVM merges them into one load from either
// of two places.
macro_rules! word {
    ($context:expr, $($field:tt)*) => {
        // SAFETY: a field of the context, which outlives the program.
        unsafe { (&raw const (*$context).$($field)*).read_volatile() }
    };
}

macro_rules! address {
    ($context:expr, $six:ident) => {
        [word!($context, $six[0]), word!($context, $six[1]), word!($context, $six[2]), word!($context, $six[3])]
    };
}

/// The receiving socket's two ends.
#[inline(always)]
pub fn key(ctx: &SkBuffContext) -> FlowKey {
    let skb = ctx.skb.skb;
    let (remote_ip4, local_ip4) = (word!(skb, remote_ip4), word!(skb, local_ip4));
    let (remote_ip6, local_ip6) = (address!(skb, remote_ip6), address!(skb, local_ip6));
    let is_four = word!(skb, family) == AF_INET;
    FlowKey {
        remote_ip: if is_four { FlowKey::mapped(remote_ip4) } else { remote_ip6 },
        local_ip: if is_four { FlowKey::mapped(local_ip4) } else { local_ip6 },
        remote_port: u32::from_be(word!(skb, remote_port)),
        local_port: word!(skb, local_port),
    }
}

/// The other end's address.
#[inline(always)]
pub fn remote_ip(ctx: &SockOpsContext) -> [u32; 4] {
    let (four, six) = (word!(ctx.ops, remote_ip4), address!(ctx.ops, remote_ip6));
    if word!(ctx.ops, family) == AF_INET { FlowKey::mapped(four) } else { six }
}

const AF_INET: u32 = 2;

/// Copies the segment's head. `len` is the segment's length, at least one.
#[inline(always)]
pub fn head(ctx: &SkBuffContext, len: u32, head: &mut [u8; HEAD_BYTES]) -> Option<()> {
    let take = if len < HEAD_BYTES as u32 { len } else { HEAD_BYTES as u32 };
    // From one to all: no verifier takes a length that it believes could be zero ("R3 min value is outside of the
    // allowed memory range", "R4 invalid zero-sized read"), and what is compared is copied to another register first.
    let take = within::<HEAD_BYTES>(take.wrapping_sub(1)) as u32 + 1;
    bytes(ctx, 0, head.as_mut_ptr().cast(), take)
}

/// The last two bytes of a segment of `len`.
#[inline(always)]
pub fn tail(ctx: &SkBuffContext, len: u32) -> Option<[u8; 2]> {
    let mut tail = [0; 2];
    bytes(ctx, len - 2, tail.as_mut_ptr().cast(), 2)?;
    Some(tail)
}

#[inline(always)]
fn bytes(ctx: &SkBuffContext, at: u32, to: *mut c_void, len: u32) -> Option<()> {
    // SAFETY: both callers give room for `len` bytes, and the verifier checks that they do.
    let failed = unsafe { bpf_skb_load_bytes(ctx.as_ptr(), at, to, len) };
    if failed == 0 { Some(()) } else { None }
}
