//! The kernel probe: programs on tracepoints and cgroup hooks that write fixed-size records to one ring buffer.
//!
//! It only decides which events are recorded (`filter`), never blocks, and never changes the behaviour of the kernel.
//! On the host this binary is empty, so that plain `cargo clippy --workspace` works; `cargo xtask ebpf` builds the BPF
//! object.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod filter;
#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod packet;
#[cfg(target_arch = "bpf")]
mod probes;
#[cfg(target_arch = "bpf")]
mod ring;
#[cfg(target_arch = "bpf")]
mod socket;
#[cfg(target_arch = "bpf")]
mod task;

/// Some helpers require a GPL-compatible licence. This crate is `MIT OR Apache-2.0`.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
