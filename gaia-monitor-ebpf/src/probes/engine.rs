//! `sock:sk_data_ready(sk)`: a process connects to the Docker engine's socket, or sends to it. The probe for "who asked
//! Docker". Optional; kernels before 6.3 do not have the event.
//!
//! `unix_stream_connect()` wakes the listener, and `unix_stream_sendmsg()` the accepted socket, in the task of the client
//! (net/unix/af_unix.c). An accepted socket shares the path of its listener, so both are recognised by the inode of the
//! socket file: a socket of the same name in another mount namespace is another engine's. Answers wake the client's
//! socket, which has no path.

use aya_ebpf::{
    bindings::BPF_ANY,
    macros::{btf_tracepoint, map},
    maps::{HashMap, LruHashMap},
    programs::BtfTracePointContext,
};
use gaia_monitor_abi::{ENGINE_USE_NS, EngineUsedRecord};

use crate::{
    kernel::{Raw, Typed, layout},
    ring::{Wake, emit, now},
    task,
};

/// Part of the system call interface (include/linux/socket.h).
const AF_UNIX: u16 = 1;

/// Inode numbers of the engine's socket files, with the device of their file system as the kernel encodes it.
#[map]
static ENGINE_SOCKETS: HashMap<u64, u32> = HashMap::with_max_entries(16, 0);

/// When a process was last recorded: an image build sends ten thousands of packets a second.
#[map]
static LAST_USES: LruHashMap<u32, u64> = LruHashMap::with_max_entries(1_024, 0);

#[btf_tracepoint(function = "sk_data_ready")]
pub fn engine_used(ctx: BtfTracePointContext) -> i32 {
    let sk = Typed(ctx.arg(0));
    // Most events are those of TCP sockets.
    if sk.load::<u16>(layout!(skc_family)) == AF_UNIX {
        let _ = observe(Raw(sk.0));
    }
    0
}

#[inline(always)]
fn observe(sk: Raw) -> Option<()> {
    let dentry: u64 = sk.read(layout!(unix_dentry))?;
    if dentry == 0 {
        return None;
    }
    let inode = Raw(Raw(dentry).read(layout!(dentry_inode))?);
    let number: u64 = inode.read(layout!(inode_ino))?;
    // SAFETY: the value is read immediately and not kept.
    let wanted = *unsafe { ENGINE_SOCKETS.get(number) }?;
    let device: u32 = Raw(inode.read(layout!(inode_sb))?).read(layout!(sb_dev))?;
    let process = task::process(task::current());
    if device != wanted || task::is_own(process.pid) {
        return None;
    }
    let now = now();
    // SAFETY: as above.
    if let Some(last) = unsafe { LAST_USES.get(process.pid) }
        && now.wrapping_sub(*last) < ENGINE_USE_NS
    {
        return None;
    }
    let _ = LAST_USES.insert(process.pid, now, BPF_ANY as u64);
    emit::<EngineUsedRecord>(Wake::Later, |event| event.process = process);
    Some(())
}
