//! Names for the kernel's numbers: taken from the running kernel where they differ between kernels.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::offsets::Kernel;
use crate::model::event::TcpState;

/// The running kernel's names.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// `enum sk_rst_reason`, without its prefix.
    reset_reasons: BTreeMap<u32, String>,
    states: BTreeMap<u32, TcpState>,
    /// `TRACE_SIGNAL_*` that mean: the target will see it.
    delivered: Vec<u32>,
}

/// The states are part of the system call interface under this prefix (include/uapi/linux/bpf.h).
const STATE_PREFIX: &str = "BPF_TCP_";
const REASON_PREFIX: &str = "SK_RST_REASON_";

impl Names {
    pub(super) fn read(kernel: &Kernel) -> Self {
        let mut names = Self::default();
        for (name, value) in kernel.enumerators("sk_rst_reason") {
            if let Some(reason) = name.strip_prefix(REASON_PREFIX) {
                names.reset_reasons.insert(value, reason.to_owned());
            }
        }
        for (name, value) in kernel.enumerators("") {
            if let Some(state) = name.strip_prefix(STATE_PREFIX).and_then(state_named) {
                names.states.insert(value, state);
            }
            // LOSE_INFO: queued, but for its `siginfo`.
            if name == "TRACE_SIGNAL_DELIVERED" || name == "TRACE_SIGNAL_LOSE_INFO" {
                names.delivered.push(value);
            }
        }
        names
    }

    pub(super) fn state(&self, number: u32) -> TcpState {
        self.states.get(&number).copied().unwrap_or(TcpState::Unknown)
    }

    /// `UNKNOWN` where the kernel told none, or one without a name.
    pub(super) fn reset_reason(&self, number: u32) -> String {
        self.reset_reasons.get(&number).cloned().unwrap_or_else(|| "UNKNOWN".to_owned())
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
        // BPF_TCP_MAX_STATES, and what later kernels add.
        _other => return None,
    })
}

#[cfg(test)]
pub(super) fn fixture() -> Names {
    Names {
        reset_reasons: BTreeMap::from([(1, "NO_SOCKET".to_owned())]),
        states: BTreeMap::from([(1, TcpState::Established), (7, TcpState::Close), (8, TcpState::CloseWait)]),
        delivered: vec![0, 4],
    }
}

#[cfg(test)]
mod tests {
    use super::{Names, errno, signal};
    use crate::model::event::TcpState;
    use crate::sources::ebpf::offsets::Kernel;

    #[test]
    fn errors_and_signals_have_their_usual_names() {
        assert_eq!(errno(0), None);
        assert_eq!(errno(104).as_deref(), Some("ECONNRESET"));
        assert_eq!(errno(4095).as_deref(), Some("E4095"));
        assert_eq!(signal(9), "SIGKILL");
        assert_eq!(signal(64), "SIG64");
    }

    #[test]
    fn the_running_kernel_names_its_states() {
        let names = Names::read(&Kernel::open().unwrap());
        assert_eq!(names.state(1), TcpState::Established);
        assert_eq!(names.state(10), TcpState::Listen);
        assert_eq!(names.state(99), TcpState::Unknown);
        assert!(names.is_delivered(0) && !names.is_delivered(1));
        assert_eq!(names.reset_reason(u32::MAX), "UNKNOWN");
    }
}
