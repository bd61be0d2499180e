//! `sock:inet_sk_error_report(sk)`: the kernel put an error on a socket. 5.14 and newer; without it a client's error is
//! inferred from the reset that it got.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use gaia_monitor_abi::SocketErrorRecord;

use crate::{
    ring::{Wake, emit},
    socket,
};

#[btf_tracepoint(function = "inet_sk_error_report")]
pub fn socket_error(ctx: BtfTracePointContext) -> i32 {
    let _ = observe(&ctx);
    0
}

#[inline(always)]
fn observe(ctx: &BtfTracePointContext) -> Option<()> {
    let sock = socket::tcp(ctx.arg(0))?;
    let errno = sock.error();
    // Also fires for news that is no error, such as a sent packet's time stamp.
    if errno == 0 {
        return None;
    }
    let record = sock.observe()?;
    // An abort by the socket's own process (SO_LINGER 0) reports the error to that process alone, after the kernel has
    // wiped the peer off the socket: nobody's connection broke by this.
    if record.remote_port == 0 {
        return None;
    }
    let state = sock.state();
    emit::<SocketErrorRecord>(Wake::Now, |event| {
        event.socket = record;
        event.state = state as u32;
        event.errno = errno;
    });
    Some(())
}
