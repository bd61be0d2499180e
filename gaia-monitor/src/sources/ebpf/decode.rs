//! Decoder for records of the ring. Pure; a record that is too short or of an unknown kind is `None`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gaia_monitor_abi::{
    AF_INET, DNS_QUERY, DNS_RESPONSE, DNS_SOCKET_CLOSED, DnsMessageRecord, EngineUsedRecord, Header, Kind, LIMIT_CPU,
    LIMIT_FILE_SIZE, OomVictimRecord, ProcessExecRecord, ProcessExitedRecord, ProcessRecord, ProcessStartedRecord,
    Record, ResetReceivedRecord, ResetSentRecord, SignalRecord, SocketErrorRecord, SocketReadRecord, SocketRecord,
    TaskRecord, TcpStateRecord,
};

use super::names::{self, KernelNames};
use super::{crash, drops, http};
use crate::model::event::{
    DnsContent, DnsMessage, DnsSocketClosed, EngineUsed, ExitStatus, Fact, Observation, Process, ProcessExec,
    ProcessExited, ProcessStarted, ResetReceived, ResetSent, ResourceLimit, Signal, SignalSender, Socket, SocketError,
    SocketRead, Task, TcpStateChange,
};
use crate::model::ids::{CgroupId, Cookie, NetnsId, Pid};
use crate::model::time::Stamp;
use crate::pipeline::clock::Clock;
use crate::wire::dns;

/// Parts of a wait status: the signal that ended the process, and whether it dumped core (wait(2)).
const STATUS_SIGNAL: u32 = 0x7f;
const STATUS_CORE: u32 = 0x80;

/// Appends the facts of a record, in order.
pub(super) fn decode(
    bytes: &[u8],
    names: &KernelNames,
    clock: &Clock,
    observations: &mut Vec<Observation>,
) -> Option<()> {
    let header: Header = read(bytes)?;
    let at = clock.stamp_of_boot(header.boot_ns);
    let fact = match Kind::of(header.kind)? {
        Kind::TcpState => tcp_state(&record(bytes)?, names, clock),
        Kind::ResetReceived => reset_received(&record(bytes)?, names),
        Kind::ResetSent => reset_sent(&record(bytes)?, names),
        Kind::SocketError => socket_error(&record(bytes)?, names),
        Kind::SocketRead => reading(&record(bytes)?),
        Kind::ProcessStarted => process_started(&record(bytes)?),
        Kind::ProcessExec => process_exec(&record(bytes)?),
        Kind::ProcessExited => process_exited(&record(bytes)?),
        Kind::Signal => signal(&record(bytes)?, names),
        Kind::OomVictim => oom_victim(&record(bytes)?),
        Kind::CrashSite => crash::site(&record(bytes)?),
        Kind::EngineUsed => engine_used(&record(bytes)?),
        Kind::PacketDropped => drops::dropped(&record(bytes)?, names),
        Kind::IcmpSent => drops::icmp_sent(&record(bytes)?),
        Kind::Retransmitted => drops::retransmitted(&record(bytes)?, names),
        Kind::AcceptQueueFull => drops::queue_full(&record(bytes)?),
        Kind::Http => {
            let facts = http::facts(record(bytes)?);
            observations.extend(facts.map(|fact| Observation { at, fact: Fact::Http(fact) }));
            return Some(());
        }
        Kind::DnsMessage => {
            // A message that no verdict needs is neither a fact nor a loss.
            observations.extend(dns_message(&record(bytes)?)?.map(|fact| Observation { at, fact }));
            return Some(());
        }
    };
    observations.push(Observation { at, fact });
    Some(())
}

fn tcp_state(record: &TcpStateRecord, names: &KernelNames, clock: &Clock) -> Fact {
    Fact::TcpState(TcpStateChange {
        socket: socket(&record.socket),
        old: names.state(record.old),
        new: names.state(record.new),
        task: task(&record.task),
        errno: names::errno(record.errno),
        unread: record.unread,
        half: record.half != 0,
        unacknowledged: record.unacknowledged,
        last_sent: moment(record.last_sent_ns, clock),
        last_received: moment(record.last_received_ns, clock),
        last_read: moment(record.last_read_ns, clock),
    })
}

fn reset_received(record: &ResetReceivedRecord, names: &KernelNames) -> Fact {
    Fact::ResetReceived(ResetReceived { socket: socket(&record.socket), state: names.state(record.state) })
}

fn reset_sent(record: &ResetSentRecord, names: &KernelNames) -> Fact {
    Fact::ResetSent(ResetSent {
        socket: socket(&record.socket),
        reason: names.reset_reason(record.reason),
        active: record.active != 0,
    })
}

fn socket_error(record: &SocketErrorRecord, names: &KernelNames) -> Fact {
    Fact::SocketError(SocketError {
        socket: socket(&record.socket),
        state: names.state(record.state),
        errno: names::errno(record.errno).unwrap_or_default(),
    })
}

fn reading(record: &SocketReadRecord) -> Fact {
    Fact::SocketRead(SocketRead { socket: socket(&record.socket), task: task(&record.task) })
}

fn process_started(record: &ProcessStartedRecord) -> Fact {
    Fact::ProcessStarted(ProcessStarted {
        process: process(&record.process),
        parent: Pid(record.parent),
        parent_outside: record.parent_outside != 0,
    })
}

fn process_exec(record: &ProcessExecRecord) -> Fact {
    Fact::ProcessExec(ProcessExec { process: process(&record.process) })
}

fn process_exited(record: &ProcessExitedRecord) -> Fact {
    Fact::ProcessExited(ProcessExited {
        process: process(&record.process),
        parent: Pid(record.parent),
        parent_outside: record.parent_outside != 0,
        status: status(record.status),
        listens: record.listens != 0,
    })
}

fn signal(record: &SignalRecord, names: &KernelNames) -> Fact {
    Fact::Signal(Signal {
        signal: names::signal(record.signal),
        target: process(&record.target),
        sender: if record.from_kernel != 0 {
            SignalSender::Kernel
        } else {
            SignalSender::Process(process(&record.sender))
        },
        delivered: names.is_delivered(record.result),
        limit: match record.limit {
            LIMIT_CPU => Some(ResourceLimit::Cpu),
            LIMIT_FILE_SIZE => Some(ResourceLimit::FileSize),
            _none => None,
        },
    })
}

fn engine_used(record: &EngineUsedRecord) -> Fact {
    Fact::EngineUsed(EngineUsed { process: process(&record.process) })
}

fn oom_victim(record: &OomVictimRecord) -> Fact {
    Fact::OomVictim { pid: Pid(record.pid) }
}

/// `None`: an invalid record; `Some(None)`: a message that no verdict needs.
fn dns_message(record: &DnsMessageRecord) -> Option<Option<Fact>> {
    let client = Some(task(&record.task));
    let task = match record.what {
        DNS_SOCKET_CLOSED => {
            let closed = DnsSocketClosed { cookie: Cookie(record.socket.cookie), task: client? };
            return Some(Some(Fact::DnsSocketClosed(closed)));
        }
        DNS_QUERY => client,
        DNS_RESPONSE => None,
        _unknown => return None,
    };
    let bytes = record.message.get(..usize::try_from(record.len).ok()?)?;
    let Some(message) = dns::message(bytes) else { return Some(None) };
    Some(Some(Fact::DnsMessage(Box::new(DnsMessage {
        socket: socket(&record.socket),
        task,
        id: message.id,
        name: message.name,
        qtype: message.qtype,
        what: message.answer.map_or(DnsContent::Query, DnsContent::Response),
    }))))
}

fn status(status: u32) -> ExitStatus {
    match status & STATUS_SIGNAL {
        0 => ExitStatus::Code { code: (status >> 8 & 0xff) as u8 },
        number => ExitStatus::Signal { signal: names::signal(number), core: status & STATUS_CORE != 0 },
    }
}

pub(super) fn socket(record: &SocketRecord) -> Socket {
    Socket {
        cookie: Cookie(record.cookie),
        netns: NetnsId(u64::from(record.netns)),
        cgroup: CgroupId(record.cgroup),
        local: address(record.family, record.local, record.local_port),
        remote: address(record.family, record.remote, record.remote_port),
    }
}

fn address(family: u32, bytes: [u8; 16], port: u16) -> SocketAddr {
    let address = if family == AF_INET {
        let [a, b, c, d, ..] = bytes;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
    };
    SocketAddr::new(address, port)
}

fn task(record: &TaskRecord) -> Task {
    Task { pid: Pid(record.tgid), comm: comm(&record.comm), exiting: record.exiting != 0 }
}

pub(super) fn process(record: &ProcessRecord) -> Process {
    Process {
        pid: Pid(record.pid),
        ns_pid: record.ns_pid,
        ns_level: record.ns_level,
        cgroup: CgroupId(record.cgroup),
        netns: NetnsId(u64::from(record.netns)),
        comm: comm(&record.comm),
    }
}

/// Text up to the first NUL.
pub(super) fn comm(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn moment(boot_ns: u64, clock: &Clock) -> Option<Stamp> {
    (boot_ns != 0).then(|| clock.stamp_of_boot(boot_ns))
}

/// The record of the kind that the header names.
fn record<R: Record + aya::Pod>(bytes: &[u8]) -> Option<R> {
    read(bytes)
}

fn read<T: aya::Pod>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: the slice is long enough, and for `Pod` every bit pattern is a valid value.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use gaia_monitor_abi::{AF_INET6, Record, SignalRecord};

    use super::*;
    use crate::model::event::{DnsResponse, TcpState};
    use crate::sources::ebpf::names::fixture;

    /// The only fact of a record.
    fn decode(bytes: &[u8], names: &KernelNames, clock: &Clock) -> Option<Observation> {
        let mut observations = Vec::new();
        super::decode(bytes, names, clock, &mut observations)?;
        assert_eq!(observations.len(), 1);
        observations.pop()
    }

    fn header<R: Record>() -> Header {
        Header { kind: R::KIND as u32, len: size_of::<R>() as u32, cpu: 0, reserved: 0, boot_ns: 5 }
    }

    fn bytes<R: Record>(record: &R) -> Vec<u8> {
        // SAFETY: a `Record` is plain data without padding.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(record).cast::<u8>(), size_of::<R>()) }.to_vec()
    }

    const SOCKET: SocketRecord = SocketRecord {
        cookie: 7,
        cgroup: 9,
        netns: 11,
        family: AF_INET,
        local_port: 8080,
        remote_port: 40_000,
        reserved: 0,
        local: [172, 17, 0, 2, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        remote: [172, 17, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    const PROCESS: ProcessRecord =
        ProcessRecord { pid: 4_000, ns_pid: 1, ns_level: 1, netns: 11, cgroup: 9, comm: *b"uvicorn\0junk\0\0\0\0" };

    #[test]
    fn decodes_a_state_change_with_its_task() {
        let record = TcpStateRecord {
            header: header::<TcpStateRecord>(),
            socket: SOCKET,
            task: TaskRecord { tgid: 1, exiting: 1, comm: [b'a'; 16] },
            old: 1,
            new: 8,
            errno: 0,
            unread: 3,
            last_sent_ns: 0,
            last_received_ns: 4,
            last_read_ns: 2,
            half: 0,
            unacknowledged: 6,
        };
        let clock = Clock::new();
        let observation = decode(&bytes(&record), &fixture(), &clock).unwrap();
        let Fact::TcpState(change) = observation.fact else { panic!("{observation:?}") };
        assert_eq!(observation.at, clock.stamp_of_boot(5));
        assert_eq!(change.socket.local, "172.17.0.2:8080".parse().unwrap());
        assert_eq!(change.socket.remote, "172.17.0.3:40000".parse().unwrap());
        assert_eq!((change.old, change.new), (TcpState::Established, TcpState::CloseWait));
        assert_eq!((change.errno, change.unread), (None, 3));
        assert_eq!((change.last_sent, change.last_received), (None, Some(clock.stamp_of_boot(4))));
        assert_eq!(change.last_read, Some(clock.stamp_of_boot(2)));
        assert_eq!(change.task, Task { pid: Pid(1), comm: "a".repeat(16), exiting: true });
    }

    #[test]
    fn converts_mapped_addresses_to_ipv4() {
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
        assert_eq!(address(AF_INET6, mapped, 1), "10.0.0.1:1".parse().unwrap());
        assert_eq!(address(AF_INET6, Ipv6Addr::LOCALHOST.octets(), 2), "[::1]:2".parse().unwrap());
    }

    #[test]
    fn decodes_exit_statuses_as_in_wait() {
        assert_eq!(status(3 << 8), ExitStatus::Code { code: 3 });
        assert_eq!(status(9), ExitStatus::Signal { signal: "SIGKILL".into(), core: false });
        assert_eq!(status(11 | 0x80), ExitStatus::Signal { signal: "SIGSEGV".into(), core: true });
    }

    #[test]
    fn has_no_sender_when_the_kernel_sent_the_signal() {
        let record = SignalRecord {
            header: header::<SignalRecord>(),
            target: PROCESS,
            sender: PROCESS,
            signal: 9,
            from_kernel: 1,
            result: 1,
            limit: 0,
        };
        let observation = decode(&bytes(&record), &fixture(), &Clock::new()).unwrap();
        let Fact::Signal(signal) = observation.fact else { panic!("{observation:?}") };
        assert_eq!((signal.sender, signal.delivered), (SignalSender::Kernel, false));
        assert_eq!((signal.target.comm.as_str(), signal.target.ns_pid), ("uvicorn", 1));
        let sent = SignalRecord { from_kernel: 0, result: 0, ..record };
        let Fact::Signal(signal) = decode(&bytes(&sent), &fixture(), &Clock::new()).unwrap().fact else {
            panic!("no signal")
        };
        assert!(matches!(signal.sender, SignalSender::Process(sender) if sender.pid == Pid(4_000)));
        assert!(signal.delivered);
        assert_eq!(signal.limit, None);
        let limited = SignalRecord { limit: LIMIT_CPU, ..record };
        let Fact::Signal(signal) = decode(&bytes(&limited), &fixture(), &Clock::new()).unwrap().fact else {
            panic!("no signal")
        };
        assert_eq!((signal.sender, signal.limit), (SignalSender::Kernel, Some(ResourceLimit::Cpu)));
    }

    fn dns(what: u32, message: &[u8]) -> DnsMessageRecord {
        let task = TaskRecord { tgid: 4_000, exiting: 0, comm: *b"python\0\0\0\0\0\0\0\0\0\0" };
        let mut record = DnsMessageRecord {
            header: header::<DnsMessageRecord>(),
            socket: SOCKET,
            task,
            what,
            len: 0,
            message: [0xff; 512],
        };
        record.message[..message.len()].copy_from_slice(message);
        record.len = u32::try_from(message.len()).unwrap();
        record
    }

    #[test]
    fn decodes_dns_queries_with_a_task_and_responses_without() {
        // Id 5, one question: core, A, IN. The response code is NXDOMAIN.
        let query = b"\0\x05\x01\0\0\x01\0\0\0\0\0\0\x04core\0\0\x01\0\x01";
        let response = b"\0\x05\x81\x83\0\x01\0\0\0\0\0\0\x04core\0\0\x01\0\x01";
        let fact = |what, message: &[u8]| decode(&bytes(&dns(what, message)), &fixture(), &Clock::new()).unwrap().fact;
        let Fact::DnsMessage(asked) = fact(DNS_QUERY, query) else { panic!("not a DNS message") };
        assert_eq!((asked.id, asked.name.as_str(), asked.qtype.as_str()), (5, "core", "A"));
        assert_eq!((asked.task.map(|task| task.pid), asked.what), (Some(Pid(4_000)), DnsContent::Query));
        let Fact::DnsMessage(answered) = fact(DNS_RESPONSE, response) else { panic!("not a DNS message") };
        assert_eq!((answered.task, answered.what), (None, DnsContent::Response(DnsResponse::NoName)));
        let Fact::DnsSocketClosed(closed) = fact(DNS_SOCKET_CLOSED, &[]) else { panic!("not closed") };
        assert_eq!((closed.cookie, closed.task.pid), (Cookie(7), Pid(4_000)));
    }

    #[test]
    fn ignores_invalid_dns_messages() {
        let mut observations = Vec::new();
        let record = bytes(&dns(DNS_RESPONSE, b"junk"));
        assert_eq!(super::decode(&record, &fixture(), &Clock::new(), &mut observations), Some(()));
        assert!(observations.is_empty());
        let unknown = bytes(&dns(9, &[]));
        assert_eq!(super::decode(&unknown, &fixture(), &Clock::new(), &mut observations), None);
    }

    #[test]
    fn rejects_short_and_unknown_records() {
        let record = OomVictimRecord { header: header::<OomVictimRecord>(), pid: 5, reserved: 0 };
        let whole = bytes(&record);
        let clock = Clock::new();
        assert_eq!(decode(&whole, &fixture(), &clock).unwrap().fact, Fact::OomVictim { pid: Pid(5) });
        for len in 0..whole.len() {
            assert_eq!(decode(&whole[..len], &fixture(), &clock), None);
        }
        let unknown = OomVictimRecord { header: Header { kind: 999, ..record.header }, ..record };
        assert_eq!(decode(&bytes(&unknown), &fixture(), &clock), None);
    }
}
