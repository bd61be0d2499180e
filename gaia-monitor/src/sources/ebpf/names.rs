//! KernelNames of the kernel's numbers, read from the running kernel where they differ between kernels.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::offsets::Kernel;
use crate::model::event::TcpState;

/// The running kernel's names.
#[derive(Debug, Default)]
pub(super) struct KernelNames {
    /// `enum sk_rst_reason`, without its prefix.
    reset_reasons: BTreeMap<u32, String>,
    /// `enum skb_drop_reason`, and the reasons of other subsystems, without their prefixes.
    drop_reasons: BTreeMap<u32, String>,
    states: BTreeMap<u32, TcpState>,
    /// `TRACE_SIGNAL_*` values that mean that the target receives the signal.
    delivered: Vec<u32>,
}

/// The states are part of the system call interface under this prefix (include/uapi/linux/bpf.h).
const STATE_PREFIX: &str = "BPF_TCP_";
const REASON_PREFIX: &str = "SK_RST_REASON_";
const DROP_PREFIX: &str = "SKB_DROP_REASON_";
/// The reasons of queueing disciplines moved from `skb_drop_reason` into an enum of their own after 7.2; they keep their
/// earlier names here.
const QDISC_PREFIX: &str = "QDISC_DROP_";
const QDISC_GENERIC: &str = "GENERIC";

/// Reasons that keep a packet from its socket although the connection is intact: a filter of any kind, a missing route or
/// neighbour, a full buffer. Routine reasons at the socket itself (TCP_OLD_DATA, NO_SOCKET, TCP_FLAGS …) are excluded, and
/// so is NOT_SPECIFIED, which is everything else. KernelNames that a kernel does not have are ignored.
const WANTED_DROPS: [&str; 36] = [
    "NETFILTER_DROP",
    "SOCKET_FILTER",
    "BPF_CGROUP_EGRESS",
    "TC_EGRESS",
    "TC_INGRESS",
    "XDP",
    "SECURITY_HOOK",
    "XFRM_POLICY",
    "IP_RPFILTER",
    "IP_OUTNOROUTES",
    "IP_INNOROUTES",
    "IP_INADDRERRORS",
    "IP_LOCAL_SOURCE",
    "IP_INVALID_SOURCE",
    "IP_LOCALNET",
    "IP_INVALID_DEST",
    "IP_CSUM",
    "IP_INHDR",
    "TCP_CSUM",
    "TCP_MINTTL",
    "TCP_LISTEN_OVERFLOW",
    "PKT_TOO_BIG",
    "PROTO_MEM",
    "SOCKET_BACKLOG",
    "CPU_BACKLOG",
    "NEIGH_CREATEFAIL",
    "NEIGH_FAILED",
    "NEIGH_QUEUEFULL",
    "NEIGH_DEAD",
    "QDISC_DROP",
    "QDISC_OVERLIMIT",
    "QDISC_CONGESTED",
    "DEV_READY",
    "FULL_RING",
    "NOMEM",
    "BRIDGE_INGRESS_STP_STATE",
];

impl KernelNames {
    pub(super) fn read(kernel: &Kernel) -> Self {
        let mut names = Self::default();
        for (name, value) in kernel.enumerators("sk_rst_reason") {
            if let Some(reason) = name.strip_prefix(REASON_PREFIX) {
                names.reset_reasons.insert(value, reason.to_owned());
            }
        }
        for (name, value) in kernel.enumerators("skb_drop_reason") {
            if let Some(reason) = name.strip_prefix(DROP_PREFIX) {
                names.drop_reasons.insert(value, reason.to_owned());
            }
        }
        for (name, value) in kernel.enumerators("qdisc_drop_reason") {
            if let Some(reason) = name.strip_prefix(QDISC_PREFIX) {
                let name = if reason == QDISC_GENERIC { "QDISC_DROP".to_owned() } else { format!("QDISC_{reason}") };
                names.drop_reasons.insert(value, name);
            }
        }
        for (name, value) in kernel.enumerators("") {
            if let Some(state) = name.strip_prefix(STATE_PREFIX).and_then(state_named) {
                names.states.insert(value, state);
            }
            // LOSE_INFO: queued without its `siginfo`.
            if name == "TRACE_SIGNAL_DELIVERED" || name == "TRACE_SIGNAL_LOSE_INFO" {
                names.delivered.push(value);
            }
        }
        names
    }

    pub(super) fn state(&self, number: u32) -> TcpState {
        self.states.get(&number).copied().unwrap_or(TcpState::Unknown)
    }

    /// `UNKNOWN` if the kernel reported none, or one without a name.
    pub(super) fn reset_reason(&self, number: u32) -> String {
        self.reset_reasons.get(&number).cloned().unwrap_or_else(|| "UNKNOWN".to_owned())
    }

    /// `UNKNOWN` if the running kernel has no name for it.
    pub(super) fn drop_reason(&self, number: u32) -> String {
        self.drop_reasons.get(&number).cloned().unwrap_or_else(|| "UNKNOWN".to_owned())
    }

    /// The numbers of the reasons to record.
    pub(super) fn wanted_drops(&self) -> impl Iterator<Item = u32> {
        self.drop_reasons.iter().filter(|(_, name)| WANTED_DROPS.contains(&name.as_str())).map(|(number, _)| *number)
    }

    /// How many reasons are recorded if the kernel has them, and how many of them it has.
    pub(super) fn drops_known(&self) -> (usize, usize) {
        (WANTED_DROPS.len(), self.wanted_drops().count())
    }

    pub(super) fn is_delivered(&self, result: u32) -> bool {
        self.delivered.contains(&result)
    }
}

/// The name of an error number, such as ECONNRESET; `None` for 0.
pub(super) fn errno(number: u32) -> Option<String> {
    if number == 0 {
        return None;
    }
    let raw = i32::try_from(number).unwrap_or(i32::MAX);
    Some(match Errno::from_raw(raw) {
        Errno::UnknownErrno => format!("E{number}"),
        known => format!("{known:?}"),
    })
}

/// The name of a signal, such as SIGKILL.
pub(super) fn signal(number: u32) -> String {
    let known = i32::try_from(number).ok().and_then(|number| Signal::try_from(number).ok());
    known.map_or_else(|| format!("SIG{number}"), |signal| signal.as_str().to_owned())
}

fn state_named(name: &str) -> Option<TcpState> {
    Some(match name {
        "ESTABLISHED" => TcpState::Established,
        "SYN_SENT" => TcpState::SynSent,
        "SYN_RECV" => TcpState::SynRecv,
        "FIN_WAIT1" => TcpState::FinWait1,
        "FIN_WAIT2" => TcpState::FinWait2,
        "TIME_WAIT" => TcpState::TimeWait,
        "CLOSE" => TcpState::Close,
        "CLOSE_WAIT" => TcpState::CloseWait,
        "LAST_ACK" => TcpState::LastAck,
        "LISTEN" => TcpState::Listen,
        "CLOSING" => TcpState::Closing,
        "NEW_SYN_RECV" => TcpState::NewSynRecv,
        "BOUND_INACTIVE" => TcpState::BoundInactive,
        // BPF_TCP_MAX_STATES, and additions of later kernels.
        _other => return None,
    })
}

#[cfg(test)]
pub(super) fn fixture() -> KernelNames {
    KernelNames {
        reset_reasons: BTreeMap::from([(1, "NO_SOCKET".to_owned())]),
        drop_reasons: BTreeMap::from([(12, "NETFILTER_DROP".to_owned()), (33, "TCP_OLD_DATA".to_owned())]),
        states: BTreeMap::from([(1, TcpState::Established), (7, TcpState::Close), (8, TcpState::CloseWait)]),
        delivered: vec![0, 4],
    }
}

#[cfg(test)]
mod tests {
    use super::{KernelNames, errno, signal};
    use crate::model::event::TcpState;
    use crate::sources::ebpf::offsets::Kernel;

    #[test]
    fn names_errors_and_signals() {
        assert_eq!(errno(0), None);
        assert_eq!(errno(104).as_deref(), Some("ECONNRESET"));
        assert_eq!(errno(4095).as_deref(), Some("E4095"));
        assert_eq!(signal(9), "SIGKILL");
        assert_eq!(signal(64), "SIG64");
    }

    #[test]
    fn excludes_routine_drop_reasons() {
        let names = super::fixture();
        assert_eq!(names.wanted_drops().collect::<Vec<u32>>(), [12]);
        let real = KernelNames::read(&Kernel::open().unwrap());
        let recorded: Vec<u32> = real.wanted_drops().collect();
        assert!(recorded.iter().any(|number| real.drop_reason(*number) == "NETFILTER_DROP"), "{recorded:?}");
        assert!(recorded.iter().any(|number| real.drop_reason(*number) == "QDISC_DROP"), "{recorded:?}");
        assert!(!recorded.contains(&0));
    }

    #[test]
    fn reads_names_from_the_running_kernel() {
        let names = KernelNames::read(&Kernel::open().unwrap());
        assert_eq!(names.state(1), TcpState::Established);
        assert_eq!(names.state(10), TcpState::Listen);
        assert_eq!(names.state(99), TcpState::Unknown);
        assert!(names.is_delivered(0) && !names.is_delivered(1));
        assert_eq!(names.reset_reason(u32::MAX), "UNKNOWN");
    }
}
