//! The records that the probe sends to user space, and the table of kernel offsets that it gets from there.
//!
//! Both sides compile this file, so it is `no_std` and holds plain data only: every record is `repr(C)`, of fixed size,
//! without implicit padding (asserted below), and opens with a [`Header`]. A record says what the kernel showed and is
//! never interpreted here.
#![cfg_attr(not(test), no_std)]

pub mod framing;
#[path = "abi/layout.rs"]
pub mod layout;

/// Length of `task_struct.comm` (include/linux/sched.h, `TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// Address families of records (include/linux/socket.h, part of the system call interface).
pub const AF_INET: u32 = 2;
pub const AF_INET6: u32 = 10;

/// Which record it is. Also the index of its counter in the map `LOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    TcpState = 0,
    ResetReceived = 1,
    ResetSent = 2,
    SocketError = 3,
    Reading = 4,
    ProcessStarted = 5,
    ProcessExec = 6,
    ProcessExited = 7,
    Signal = 8,
    OomVictim = 9,
    Http = 10,
    LookUp = 11,
    Dropped = 12,
    IcmpSent = 13,
    Retransmitted = 14,
    QueueFull = 15,
}

impl Kind {
    pub const ALL: [Kind; 16] = [
        Kind::TcpState,
        Kind::ResetReceived,
        Kind::ResetSent,
        Kind::SocketError,
        Kind::Reading,
        Kind::ProcessStarted,
        Kind::ProcessExec,
        Kind::ProcessExited,
        Kind::Signal,
        Kind::OomVictim,
        Kind::Http,
        Kind::LookUp,
        Kind::Dropped,
        Kind::IcmpSent,
        Kind::Retransmitted,
        Kind::QueueFull,
    ];

    /// The stage under which records of this kind that found no room in the ring are reported as lost.
    #[must_use]
    pub const fn stage(self) -> &'static str {
        match self {
            Kind::TcpState => "ring.tcp_state",
            Kind::ResetReceived => "ring.reset_received",
            Kind::ResetSent => "ring.reset_sent",
            Kind::SocketError => "ring.socket_error",
            Kind::Reading => "ring.reading",
            Kind::ProcessStarted => "ring.process_started",
            Kind::ProcessExec => "ring.process_exec",
            Kind::ProcessExited => "ring.process_exit",
            Kind::Signal => "ring.signal",
            Kind::OomVictim => "ring.oom_victim",
            Kind::Http => "ring.http",
            Kind::LookUp => "ring.look_up",
            Kind::Dropped => "ring.packet_dropped",
            Kind::IcmpSent => "ring.icmp_sent",
            Kind::Retransmitted => "ring.retransmitted",
            Kind::QueueFull => "ring.queue_full",
        }
    }

    #[must_use]
    pub fn of(number: u32) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// Opens every record.
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

/// The connection end that a record belongs to; `local` is the socket's own side.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SocketRecord {
    /// 0 where no full socket stood behind the event.
    pub cookie: u64,
    /// Id of the socket's cgroup in the v2 tree; 0 where unknown.
    pub cgroup: u64,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// [`AF_INET`]: the first four bytes of each address count; [`AF_INET6`]: all, IPv4-mapped ones among them.
    pub family: u32,
    /// In host order; 0 before the kernel has chosen one.
    pub local_port: u16,
    pub remote_port: u16,
    pub reserved: u32,
    /// In network order.
    pub local: [u8; 16],
    pub remote: [u8; 16],
}

/// The task in whose context an event ran.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TaskRecord {
    /// In the initial pid namespace.
    pub tgid: u32,
    /// 1: past `exit_signals()`.
    pub exiting: u32,
    /// The group leader's.
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
    /// Inode number of its network namespace; 0 where it has none any more.
    pub netns: u32,
    /// Id of its cgroup in the v2 tree; 0 where unknown.
    pub cgroup: u64,
    /// The group leader's.
    pub comm: [u8; COMM_LEN],
}

/// A record that goes through the ring.
///
/// # Safety
/// The type is `repr(C)`, opens with a [`Header`], has no padding, and every bit pattern is a value of it.
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

        // SAFETY: integers and arrays of them only; the sum of the fields' sizes below rules padding out.
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
        /// Bytes that arrived and that no process has read.
        unread: u32,
        /// Boot time at which the socket last sent payload, last got some; 0: never seen.
        last_sent_ns: u64,
        last_received_ns: u64,
        /// Boot time at which the current process last read from the socket; 0: never seen.
        last_read_ns: u64,
        /// 1: only the sending side is shut (`shutdown(2)` with SHUT_WR); the process still reads.
        half: u32,
        /// Bytes that were sent and that the other end has not acknowledged.
        unacknowledged: u32,
    }
}

record! {
    /// `tcp:tcp_receive_reset`.
    ResetReceivedRecord = Kind::ResetReceived, 96 bytes {
        socket: SocketRecord,
        /// The socket's state when the RST came.
        state: u32,
        reserved: u32,
    }
}

record! {
    /// `tcp:tcp_send_reset`.
    ResetSentRecord = Kind::ResetSent, 96 bytes {
        socket: SocketRecord,
        /// `enum sk_rst_reason` of the running kernel, [`NO_REASON`] where it tells none.
        reason: u32,
        /// 1: sent by the socket's own close; 0: an answer to a packet.
        active: u32,
    }
}

/// The kernel (before 6.10) does not tell why it sends a reset.
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
    /// `tcp:tcp_rcv_space_adjust`: the current task read from this socket for the first time; later reads show in
    /// [`TcpStateRecord::last_read_ns`].
    ReadingRecord = Kind::Reading, 112 bytes {
        socket: SocketRecord,
        task: TaskRecord,
    }
}

record! {
    /// `sched:sched_process_fork` of a new thread group.
    ProcessStartedRecord = Kind::ProcessStarted, 72 bytes {
        process: ProcessRecord,
        parent: u32,
        /// 1: the parent stands outside the child's pid namespace.
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
        /// As `wait(2)` tells it: code in bits 8 to 15, signal in the low 7, core dumped in bit 7.
        status: u32,
        /// 1: it held a listening TCP socket. 0 also where the kernel tells the exit after the files are closed.
        listens: u32,
    }
}

record! {
    /// `signal:signal_generate`.
    SignalRecord = Kind::Signal, 120 bytes {
        target: ProcessRecord,
        /// Meaningful only if `from_kernel` is 0.
        sender: ProcessRecord,
        signal: u32,
        from_kernel: u32,
        /// `TRACE_SIGNAL_*` of the running kernel.
        result: u32,
        reserved: u32,
    }
}

record! {
    /// `oom:mark_victim`.
    OomVictimRecord = Kind::OomVictim, 32 bytes {
        pid: u32,
        reserved: u32,
    }
}

/// How many of the kernel's drop reasons (`enum skb_drop_reason`) the probe can be asked for: the core's own, which are
/// 128 on 6.18; those of modules stand above 65,536.
pub const DROP_REASONS: usize = 256;

record! {
    /// `skb:kfree_skb` of a TCP packet, for one of the wanted reasons. `packet.local` is its source, `remote` its
    /// destination; it has no cookie.
    DroppedRecord = Kind::Dropped, 112 bytes {
        packet: SocketRecord,
        /// `enum skb_drop_reason` of the running kernel.
        reason: u32,
        /// `HOOK_…`.
        hook: u32,
        seq: u32,
        /// The flags as they stand in the header (RFC 9293): FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
        flags: u32,
        /// Bytes of payload.
        payload: u32,
        reserved: u32,
    }
}

/// Where on its way a packet was: what netfilter would call that place. Read off the packet, since the event does not say.
pub const HOOK_PREROUTING: u32 = 0;
pub const HOOK_INPUT: u32 = 1;
pub const HOOK_FORWARD: u32 = 2;
pub const HOOK_OUTPUT: u32 = 3;
pub const HOOK_POSTROUTING: u32 = 4;

record! {
    /// `icmp:icmp_send`: this host answers a TCP packet with "destination unreachable". `packet` as above.
    IcmpSentRecord = Kind::IcmpSent, 96 bytes {
        packet: SocketRecord,
        /// By RFC 792 and 1812.
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
    /// A packet of a handshake came to a listener whose queue of accepted connections is full. `socket.local` is the
    /// address that was asked, `remote` the client's.
    QueueFullRecord = Kind::QueueFull, 96 bytes {
        socket: SocketRecord,
        queued: u32,
        limit: u32,
    }
}

record! {
    /// What one packet showed of one HTTP message, where its sender sent it. No byte of it is in here.
    HttpRecord = Kind::Http, 48 bytes {
        /// The sender's socket; with [`HTTP_RECEIVED`] the receiver's.
        cookie: u64,
        /// `Content-Length`, where that is what ends the body.
        length: u64,
        /// [`framing::Facts`], all of this instant, in their order.
        facts: u32,
        /// Of the answer; means something with `HEAD` and `INFORMATIONAL`.
        status: u16,
        /// [`framing::Body`] by its number; means something with `HEAD`, as [`HTTP_CLOSE`] does.
        body: u8,
        /// `HTTP_…`.
        flags: u8,
    }
}

/// The message is an answer.
pub const HTTP_ANSWER: u8 = 1;
/// The answer's sender closes the connection after it.
pub const HTTP_CLOSE: u8 = 1 << 1;
/// Told where it arrived: its sender is on another host, and the record's socket is the receiver's.
pub const HTTP_RECEIVED: u8 = 1 << 2;

/// Bytes of a DNS message that are told: all of one without EDNS (RFC 1035, 2.3.4).
pub const DNS_LEN: usize = 512;

record! {
    /// A question to a name server, its answer, or the close of a socket with a question open, at the asking socket.
    DnsRecord = Kind::LookUp, 632 bytes {
        /// Without addresses for [`DNS_CLOSED`].
        socket: SocketRecord,
        /// Of a question and of a close; an answer arrives in anybody's context.
        task: TaskRecord,
        /// `DNS_…`.
        what: u32,
        /// How much of `message` is one.
        len: u32,
        message: [u8; DNS_LEN],
    }
}

pub const DNS_QUESTION: u32 = 0;
pub const DNS_ANSWER: u32 = 1;
pub const DNS_CLOSED: u32 = 2;
