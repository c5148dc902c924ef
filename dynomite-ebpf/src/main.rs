//! The kernel half of the fast path: one object, a file per hook. What a request meets, in this order: `adopt` (once per
//! datastore connection), `route`, the datastore, `reply`. `shortcut` and `guard` stand beside that way.
#![no_std]
#![no_main]

mod adopt;
mod count;
mod guard;
mod load;
mod maps;
mod reply;
mod route;
mod shortcut;
mod tell;

/// The kernel asks for it: helpers that read kernel memory are for GPL programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

/// Nothing here panics: what could is masked or checked, and a verifier refuses the rest. The linker wants the symbol.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
