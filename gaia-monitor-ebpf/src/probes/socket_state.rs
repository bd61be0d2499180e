//! What the probe keeps of a TCP socket: HTTP framing and the processes that read from it. Stored with the socket
//! (`BPF_MAP_TYPE_SK_STORAGE`, in tracing programs since 5.11), so that it ends with it and needs no limit of its own.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::BPF_SK_STORAGE_GET_F_CREATE, btf_maps::SkStorage, helpers::generated::bpf_sk_storage_get, macros::btf_map,
};
use gaia_monitor_abi::framing::Flow;

/// Number of processes that are remembered as readers of one socket. A server passes a connection on once at most; with
/// more readers than this, each is emitted again when its turn comes.
const READERS: usize = 4;

/// A process that read from the socket.
#[derive(Clone, Copy)]
#[repr(C)]
struct Reader {
    /// 0: none.
    tgid: u64,
    /// Boot time of its last read.
    last_ns: u64,
}

/// Zero when new.
#[repr(C)]
pub struct SocketState {
    /// The socket's cookie; 0 while no payload was seen, so that `flow` is not valid.
    pub cookie: u64,
    pub flow: Flow,
    readers: [Reader; READERS],
    /// The entry of `readers` that is replaced next.
    oldest: u64,
}

#[btf_map]
static SOCKETS: SkStorage<SocketState> = SkStorage::new();

/// State of a socket, which is the one of a packet's context or the argument of a tracepoint; `None` if nothing was kept.
#[inline(always)]
pub fn find(socket: *const c_void) -> Option<*mut SocketState> {
    get(socket, 0)
}

/// As [`find`], but begins it. `None` if the kernel has no memory for it.
#[inline(always)]
pub fn find_or_begin(socket: *const c_void) -> Option<*mut SocketState> {
    get(socket, u64::from(BPF_SK_STORAGE_GET_F_CREATE))
}

#[inline(always)]
fn get(socket: *const c_void, flags: u64) -> Option<*mut SocketState> {
    let map = (&raw const SOCKETS).cast_mut().cast();
    // SAFETY: the verifier accepts only a socket here.
    let state = unsafe { bpf_sk_storage_get(map, socket.cast_mut(), ptr::null_mut(), flags) };
    (!state.is_null()).then_some(state.cast())
}

impl SocketState {
    /// Boot times of the last payload sent and received; 0: not seen.
    #[inline(always)]
    pub fn last_payload(&self) -> (u64, u64) {
        if self.cookie == 0 { (0, 0) } else { (self.flow.last_sent_ns, self.flow.last_received_ns) }
    }

    /// Boot time of the last read of a process; 0: not seen.
    #[inline(always)]
    pub fn last_read(&self, tgid: u64) -> u64 {
        let mut index = 0;
        while index < READERS {
            if self.readers[index].tgid == tgid {
                return self.readers[index].last_ns;
            }
            index += 1;
        }
        0
    }

    /// Notes a read of a known reader. False if the process is not one.
    #[inline(always)]
    pub fn note_read(&mut self, tgid: u64, now: u64) -> bool {
        let mut index = 0;
        while index < READERS {
            if self.readers[index].tgid == tgid {
                self.readers[index].last_ns = now;
                return true;
            }
            index += 1;
        }
        false
    }

    #[inline(always)]
    pub fn add_reader(&mut self, tgid: u64, now: u64) {
        let index = self.oldest as usize & (READERS - 1);
        self.oldest = self.oldest.wrapping_add(1);
        self.readers[index] = Reader { tgid, last_ns: now };
    }

    /// Forgets the framing of a closed connection: the socket may connect again.
    #[inline(always)]
    pub fn end_connection(&mut self) {
        self.cookie = 0;
    }
}
