//! The probe. On the host this binary is empty, so that plain `cargo clippy --workspace` works.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}
