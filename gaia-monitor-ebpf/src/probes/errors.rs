//! `sock:inet_sk_error_report(sk)`: the kernel set an error on a socket. 5.14 and newer; without it the error of a
//! client is inferred from the reset that it received.

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
    // The event also fires without an error, for example for the timestamp of a sent packet.
    if errno == 0 {
        return None;
    }
    let record = sock.observe()?;
    // An abort by the owning process (SO_LINGER 0) reports the error to that process only, after the kernel cleared the
    // peer address. It is not a failure.
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
