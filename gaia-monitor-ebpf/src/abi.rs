//! ABI between the probe and user space: the records of the ring buffer, and the table of kernel offsets.
//!
//! Both sides compile this file, so it is `no_std` and contains plain data only. Every record is `repr(C)`, of fixed
//! size, without implicit padding (asserted below), and begins with a [`Header`]. Records contain raw kernel values;
//! user space interprets them.
#![cfg_attr(not(test), no_std)]

pub mod framing;
#[path = "abi/layout.rs"]
pub mod layout;

/// Length of `task_struct.comm` (include/linux/sched.h, `TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// Address families (include/linux/socket.h, part of the system call interface).
pub const AF_INET: u32 = 2;
pub const AF_INET6: u32 = 10;

/// Kind of a record. Also the index of its counter in the map `LOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    TcpState = 0,
    ResetReceived = 1,
    ResetSent = 2,
    SocketError = 3,
    SocketRead = 4,
    ProcessStarted = 5,
    ProcessExec = 6,
    ProcessExited = 7,
    Signal = 8,
    OomVictim = 9,
    Http = 10,
    DnsMessage = 11,
    PacketDropped = 12,
    IcmpSent = 13,
    Retransmitted = 14,
    AcceptQueueFull = 15,
    CrashSite = 16,
    EngineUsed = 17,
}

impl Kind {
    pub const ALL: [Kind; 18] = [
        Kind::TcpState,
        Kind::ResetReceived,
        Kind::ResetSent,
        Kind::SocketError,
        Kind::SocketRead,
        Kind::ProcessStarted,
        Kind::ProcessExec,
        Kind::ProcessExited,
        Kind::Signal,
        Kind::OomVictim,
        Kind::Http,
        Kind::DnsMessage,
        Kind::PacketDropped,
        Kind::IcmpSent,
        Kind::Retransmitted,
        Kind::AcceptQueueFull,
        Kind::CrashSite,
        Kind::EngineUsed,
    ];

    /// Stage name under which dropped records of this kind are reported as lost.
    #[must_use]
    pub const fn stage(self) -> &'static str {
        match self {
            Kind::TcpState => "ring.tcp_state",
            Kind::ResetReceived => "ring.reset_received",
            Kind::ResetSent => "ring.reset_sent",
            Kind::SocketError => "ring.socket_error",
            Kind::SocketRead => "ring.socket_read",
            Kind::ProcessStarted => "ring.process_started",
            Kind::ProcessExec => "ring.process_exec",
            Kind::ProcessExited => "ring.process_exit",
            Kind::Signal => "ring.signal",
            Kind::OomVictim => "ring.oom_victim",
            Kind::Http => "ring.http",
            Kind::DnsMessage => "ring.dns_message",
            Kind::PacketDropped => "ring.packet_dropped",
            Kind::IcmpSent => "ring.icmp_sent",
            Kind::Retransmitted => "ring.retransmitted",
            Kind::AcceptQueueFull => "ring.accept_queue_full",
            Kind::CrashSite => "ring.crash_site",
            Kind::EngineUsed => "ring.engine_used",
        }
    }

    #[must_use]
    pub fn of(number: u32) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// First field of every record.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Header {
    /// A [`Kind`].
    pub kind: u32,
    /// Size of the whole record in bytes.
    pub len: u32,
    pub cpu: u32,
    pub reserved: u32,
    /// CLOCK_BOOTTIME in nanoseconds (`bpf_ktime_get_boot_ns`).
    pub boot_ns: u64,
}

#[cfg(feature = "user")]
// SAFETY: `u32` and `u64` fields that leave no padding (asserted below).
unsafe impl aya::Pod for Header {}

/// The socket that a record belongs to; `local` is its own address.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SocketRecord {
    /// 0 if the event has no full socket.
    pub cookie: u64,
    /// Id of the socket's cgroup in the v2 tree; 0 if unknown.
    pub cgroup: u64,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// [`AF_INET`]: the first four bytes of each address are used. [`AF_INET6`]: all bytes; the address may be
    /// IPv4-mapped.
    pub family: u32,
    /// In host order; 0 before the kernel has assigned a port.
    pub local_port: u16,
    pub remote_port: u16,
    pub reserved: u32,
    /// In network order.
    pub local: [u8; 16],
    pub remote: [u8; 16],
}

/// The current task of an event.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TaskRecord {
    /// In the initial pid namespace.
    pub tgid: u32,
    /// 1: the task is past `exit_signals()`.
    pub exiting: u32,
    /// Name of the group leader.
    pub comm: [u8; COMM_LEN],
}

/// A process (thread group).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ProcessRecord {
    /// In the initial pid namespace.
    pub pid: u32,
    /// In its own pid namespace.
    pub ns_pid: u32,
    /// Depth of its pid namespace; 0 is the initial one.
    pub ns_level: u32,
    /// Inode number of its network namespace; 0 after the process has released it.
    pub netns: u32,
    /// Id of its cgroup in the v2 tree; 0 if unknown.
    pub cgroup: u64,
    /// Name of the group leader.
    pub comm: [u8; COMM_LEN],
}

/// A record of the ring buffer.
///
/// # Safety
/// The type is `repr(C)`, begins with a [`Header`], has no padding, and every bit pattern is valid.
pub unsafe trait Record: Copy + 'static {
    const KIND: Kind;
}

macro_rules! record {
    ($(#[$doc:meta])* $name:ident = $kind:expr, $size:literal bytes { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        pub struct $name {
            pub header: Header,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        // SAFETY: integers and arrays of integers only. The sum of the field sizes below excludes padding.
        unsafe impl Record for $name {
            const KIND: Kind = $kind;
        }

        const _: () = assert!(size_of::<$name>() == $size);
        const _: () = assert!(size_of::<Header>() $(+ size_of::<$type>())* == $size);

        #[cfg(feature = "user")]
        // SAFETY: see `Record`.
        unsafe impl aya::Pod for $name {}
    };
}

const _: () = assert!(size_of::<Header>() == 24);
const _: () = assert!(size_of::<SocketRecord>() == 64);
const _: () = assert!(size_of::<TaskRecord>() == 24);
const _: () = assert!(size_of::<ProcessRecord>() == 40);

record! {
    /// `sock:inet_sock_set_state`.
    TcpStateRecord = Kind::TcpState, 160 bytes {
        socket: SocketRecord,
        task: TaskRecord,
        old: u32,
        new: u32,
        /// `sk_err`.
        errno: u32,
        /// Number of received bytes that no process has read.
        unread: u32,
        /// Boot times at which the socket last sent and last received payload; 0: not seen.
        last_sent_ns: u64,
        last_received_ns: u64,
        /// Boot time at which the current process last read from the socket; 0: not seen.
        last_read_ns: u64,
        /// 1: only the sending side is shut down (`shutdown(2)` with SHUT_WR); the process may still read.
        half: u32,
        /// Number of bytes sent that the peer has not acknowledged.
        unacknowledged: u32,
    }
}

record! {
    /// `tcp:tcp_receive_reset`.
    ResetReceivedRecord = Kind::ResetReceived, 96 bytes {
        socket: SocketRecord,
        /// State of the socket when the RST arrived.
        state: u32,
        reserved: u32,
    }
}

record! {
    /// `tcp:tcp_send_reset`.
    ResetSentRecord = Kind::ResetSent, 96 bytes {
        socket: SocketRecord,
        /// `enum sk_rst_reason` of the running kernel; [`NO_REASON`] if it has none.
        reason: u32,
        /// 1: sent by the close of the socket; 0: in response to a packet.
        active: u32,
    }
}

/// The kernel (before 6.10) reports no reason for a reset.
pub const NO_REASON: u32 = u32::MAX;

record! {
    /// `sock:inet_sk_error_report`.
    SocketErrorRecord = Kind::SocketError, 96 bytes {
        socket: SocketRecord,
        state: u32,
        errno: u32,
    }
}

record! {
    /// `tcp:tcp_rcv_space_adjust`: the first read of the current task from this socket. Later reads are visible in
    /// [`TcpStateRecord::last_read_ns`] only.
    SocketReadRecord = Kind::SocketRead, 112 bytes {
        socket: SocketRecord,
        task: TaskRecord,
    }
}

record! {
    /// `sched:sched_process_fork` of a new thread group.
    ProcessStartedRecord = Kind::ProcessStarted, 72 bytes {
        process: ProcessRecord,
        parent: u32,
        /// 1: the parent is outside the child's pid namespace.
        parent_outside: u32,
    }
}

record! {
    /// `sched:sched_process_exec`.
    ProcessExecRecord = Kind::ProcessExec, 64 bytes {
        process: ProcessRecord,
    }
}

record! {
    /// `sched:sched_process_exit` of the last thread.
    ProcessExitedRecord = Kind::ProcessExited, 80 bytes {
        process: ProcessRecord,
        parent: u32,
        parent_outside: u32,
        /// As returned by `wait(2)`: code in bits 8 to 15, signal in the low 7, core dumped in bit 7.
        status: u32,
        /// 1: it held a listening TCP socket. Also 0 if the kernel reports the exit after the files are closed.
        listens: u32,
    }
}

record! {
    /// `signal:signal_generate`.
    SignalRecord = Kind::Signal, 120 bytes {
        target: ProcessRecord,
        /// Valid only if `from_kernel` is 0.
        sender: ProcessRecord,
        signal: u32,
        from_kernel: u32,
        /// `TRACE_SIGNAL_*` of the running kernel.
        result: u32,
        /// The resource limit that the kernel enforced with this signal: `LIMIT_…`.
        limit: u32,
    }
}

/// The kernel enforced no limit with the signal.
pub const LIMIT_NONE: u32 = 0;
/// RLIMIT_CPU, or RLIMIT_RTTIME of a real-time process.
pub const LIMIT_CPU: u32 = 1;
/// RLIMIT_FSIZE.
pub const LIMIT_FILE_SIZE: u32 = 2;

/// Maximum length of a module's name, NUL included. The kernel allows 256; longer ones are cut.
pub const MODULE_LEN: usize = 64;

record! {
    /// `signal:signal_deliver` of a fatal signal that the process raised itself or that the kernel raised for its fault:
    /// the thread, and the file mapping of its instruction. Both mappings are files; an empty name means that the
    /// address is in none, or that the mapping could not be read.
    CrashSiteRecord = Kind::CrashSite, 256 bytes {
        process: ProcessRecord,
        signal: u32,
        /// In the initial pid namespace.
        thread: u32,
        thread_comm: [u8; COMM_LEN],
        /// Address of the instruction.
        instruction: u64,
        /// `si_addr`; valid with [`CRASH_ADDRESS`].
        address: u64,
        /// `CRASH_…`.
        flags: u32,
        reserved: u32,
        /// Offsets in the files.
        module_offset: u64,
        /// Of the first frame outside the module of the instruction; valid with [`CRASH_RAISED`] and a name.
        caller_offset: u64,
        module: [u8; MODULE_LEN],
        caller: [u8; MODULE_LEN],
    }
}

/// The process sent the signal to itself by a system call: the instruction is that call.
pub const CRASH_RAISED: u32 = 1;
/// The kernel reported the memory address of the fault.
pub const CRASH_ADDRESS: u32 = 1 << 1;

record! {
    /// `sock:sk_data_ready` of a socket of the Docker engine: the current process connected to it or sent to it. At most
    /// one record of a process in [`ENGINE_USE_NS`].
    EngineUsedRecord = Kind::EngineUsed, 64 bytes {
        process: ProcessRecord,
    }
}

/// Interval between two records of one process, in nanoseconds.
pub const ENGINE_USE_NS: u64 = 20_000_000;

record! {
    /// `oom:mark_victim`.
    OomVictimRecord = Kind::OomVictim, 32 bytes {
        pid: u32,
        reserved: u32,
    }
}

record! {
    /// `skb:kfree_skb` of a TCP packet, for one of the selected reasons. `packet.local` is the source of the packet,
    /// `remote` its destination; `cookie` is 0.
    PacketDroppedRecord = Kind::PacketDropped, 112 bytes {
        packet: SocketRecord,
        /// `enum skb_drop_reason` of the running kernel.
        reason: u32,
        /// `HOOK_…`.
        hook: u32,
        seq: u32,
        /// TCP flags as in the header (RFC 9293): FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
        flags: u32,
        /// Payload length in bytes.
        payload: u32,
        reserved: u32,
    }
}

/// Netfilter hook of a packet. Derived from the packet, because the event does not contain it.
pub const HOOK_PREROUTING: u32 = 0;
pub const HOOK_INPUT: u32 = 1;
pub const HOOK_FORWARD: u32 = 2;
pub const HOOK_OUTPUT: u32 = 3;
pub const HOOK_POSTROUTING: u32 = 4;

record! {
    /// `icmp:icmp_send`: this host responds to a TCP packet with "destination unreachable". `packet` is as in
    /// [`PacketDroppedRecord`].
    IcmpSentRecord = Kind::IcmpSent, 96 bytes {
        packet: SocketRecord,
        /// ICMP code (RFC 792 and 1812).
        code: u32,
        reserved: u32,
    }
}

record! {
    /// `tcp:tcp_retransmit_skb`.
    RetransmittedRecord = Kind::Retransmitted, 96 bytes {
        socket: SocketRecord,
        state: u32,
        reserved: u32,
    }
}

record! {
    /// A handshake packet reached a listener with a full accept queue. `socket.local` is the destination of the packet,
    /// `remote` the client.
    AcceptQueueFullRecord = Kind::AcceptQueueFull, 96 bytes {
        socket: SocketRecord,
        queued: u32,
        limit: u32,
    }
}

record! {
    /// HTTP framing facts of one packet about one message. Contains no byte of the message.
    HttpRecord = Kind::Http, 48 bytes {
        /// Socket of the sender; of the receiver with [`HTTP_RECEIVED`].
        cookie: u64,
        /// `Content-Length`, if it determines the end of the body.
        length: u64,
        /// [`framing::Facts`].
        facts: u32,
        /// Status of the response; valid with `HEADERS` and `INFORMATIONAL`.
        status: u16,
        /// Number of the [`framing::Body`]; valid with `HEADERS`, as is [`HTTP_CLOSE`].
        body: u8,
        /// `HTTP_…`.
        flags: u8,
    }
}

/// The message is a response.
pub const HTTP_RESPONSE: u8 = 1;
/// The sender of the response closes the connection after it.
pub const HTTP_CLOSE: u8 = 1 << 1;
/// Reported at the receiver, because the sender is on another host.
pub const HTTP_RECEIVED: u8 = 1 << 2;

/// Maximum number of recorded bytes of a DNS message: the maximum size without EDNS (RFC 1035, 2.3.4).
pub const DNS_LEN: usize = 512;

record! {
    /// A DNS query or response at the client socket, or the close of a client socket with an outstanding query.
    DnsMessageRecord = Kind::DnsMessage, 632 bytes {
        /// Without addresses for [`DNS_SOCKET_CLOSED`].
        socket: SocketRecord,
        /// The current task for a query and a close; zero for a response, which arrives in an arbitrary context.
        task: TaskRecord,
        /// `DNS_…`.
        what: u32,
        /// Number of valid bytes in `message`.
        len: u32,
        message: [u8; DNS_LEN],
    }
}

pub const DNS_QUERY: u32 = 0;
pub const DNS_RESPONSE: u32 = 1;
pub const DNS_SOCKET_CLOSED: u32 = 2;
