//! Random facts about so few containers, processes and connections that they interact all the time.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use gaia_monitor::model::event::{
    AcceptQueueCounts, AcceptQueueFull, BodyFraming, ContainerInfo, CoreDump, CrashSite, DnsContent, DnsMessage,
    DnsProbe, DnsResponse, DnsSocketClosed, DockerAction, DockerEvent, EngineUsed, Event, ExitStatus, Fact, Handshake,
    Hook, HttpFact, HttpWhat, IcmpSent, LogLine, LogStream, MemoryUse, ModuleOffset, NetworkAddress, PacketDropped,
    Process, ProcessExec, ProcessExited, ProcessSeen, ProcessStarted, PublishedPort, RecordedEnd, ResetReceived,
    ResetSent, ResourceLimit, Retransmitted, Signal, SignalSender, Socket, SocketError, SocketRead, SocketSeen, Task,
    TcpState, TcpStateChange, Unreachable,
};
use gaia_monitor::model::ids::{CgroupId, ContainerId, Cookie, NetnsId, Pid};
use gaia_monitor::model::time::{Nanos, Stamp};
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};
use proptest::sample::select;

const BASE: Stamp = Stamp(1_735_689_600_000_000_000);

/// A fact, how long after the one before it is released, and how old it is then.
pub fn fact() -> impl Strategy<Value = (Fact, i64, i64)> {
    let gap = prop_oneof![8 => 0_i64..5_000_000, 2 => 0_i64..3_000_000_000, 1 => 0_i64..20_000_000_000];
    (any_fact(), gap, 0_i64..300_000_000)
}

/// Facts as the pipeline would number and release them, after an inventory.
pub fn events(facts: Vec<(Fact, i64, i64)>) -> Vec<Event> {
    let inventory = (0..3).map(|number| (Fact::ContainerSeen(Box::new(info(number, true))), 0, 0));
    let mut seen = BASE;
    let numbered = (1..).zip(inventory.chain(facts));
    numbered
        .map(|(seq, (fact, gap, age))| {
            seen = seen.plus(Nanos(gap));
            Event { seq, seen, at: seen.minus(Nanos(age)), fact }
        })
        .collect()
}

fn info(number: u32, running: bool) -> ContainerInfo {
    let first = number * 10 + 10;
    ContainerInfo {
        id: ContainerId(format!("{number:0>64x}")),
        name: format!("c{number}"),
        image: "image".into(),
        project: Some("project".into()),
        service: Some(format!("s{number}")),
        labels: Default::default(),
        running,
        paused: false,
        started_at: Some(BASE),
        pid: running.then_some(Pid(first)),
        cgroup: running.then_some(CgroupId(u64::from(number) + 100)),
        netns: running.then_some(NetnsId(u64::from(number) + 1_000)),
        init: number == 1,
        host_network: false,
        stop_signal: "SIGTERM".into(),
        health: None,
        restart_policy: None,
        memory_limit: None,
        networks: vec![NetworkAddress { network: "net".into(), addresses: vec![ip(number)], aliases: Vec::new() }],
        published: vec![PublishedPort { host_ip: ip(9), host_port: 8_000, container_port: 80 }],
        endpoints: Vec::new(),
        exit_code: None,
        ended: (!running).then_some(RecordedEnd { at: BASE, oom_killed: number == 2, restarting: number == 3 }),
    }
}

fn ip(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0xac1c_0002 + number))
}

fn process() -> impl Strategy<Value = Process> {
    (0_u32..4, 0_u32..3).prop_map(|(container, child)| {
        let host = container == 3;
        let comm = match (container, child) {
            (3, _) => "runc",
            (1, 0) => "docker-init",
            (0..=2, 1) => "docker-proxy",
            _ => "python",
        };
        Process {
            pid: Pid(container * 10 + 10 + child),
            ns_pid: child + 1,
            ns_level: u32::from(!host),
            cgroup: CgroupId(u64::from(container) + 100),
            netns: NetnsId(u64::from(container) + 1_000),
            comm: comm.into(),
        }
    })
}

fn task() -> impl Strategy<Value = Task> {
    (process(), any::<bool>()).prop_map(|(process, exiting)| Task { pid: process.pid, comm: process.comm, exiting })
}

/// Three connections, both ends of each: an even cookie is the server's.
fn socket() -> impl Strategy<Value = Socket> {
    (0_u32..3, 0_u32..3, any::<bool>()).prop_map(|(from, to, server)| {
        let cookie = Cookie(u64::from(from * 6 + to * 2 + u32::from(!server)));
        let client = SocketAddr::new(ip(from), 40_000 + u16::try_from(to).unwrap_or(0));
        let service = SocketAddr::new(ip(to), 80);
        let (owner, local, remote) = if server { (to, service, client) } else { (from, client, service) };
        let netns = NetnsId(u64::from(owner) + 1_000);
        Socket { cookie, netns, cgroup: CgroupId(u64::from(owner) + 100), local, remote }
    })
}

fn state() -> impl Strategy<Value = TcpState> {
    select(vec![
        TcpState::Established,
        TcpState::SynSent,
        TcpState::SynRecv,
        TcpState::FinWait1,
        TcpState::FinWait2,
        TcpState::Close,
        TcpState::CloseWait,
        TcpState::LastAck,
        TcpState::Listen,
    ])
}

/// Transitions that the kernel makes, and some that it does not.
fn transition() -> impl Strategy<Value = (TcpState, TcpState)> {
    use TcpState::{Close, CloseWait, Established, FinWait1, LastAck, Listen, SynRecv, SynSent};
    let usual = select(vec![
        (Close, SynSent),
        (SynSent, Established),
        (SynRecv, Established),
        (SynSent, Close),
        (Established, CloseWait),
        (Established, FinWait1),
        (CloseWait, LastAck),
        (Established, Close),
        (CloseWait, Close),
        (Close, Listen),
        (Listen, Close),
    ]);
    prop_oneof![6 => usual, 1 => (state(), state())]
}

fn errno() -> impl Strategy<Value = Option<String>> {
    select(vec![None, None, Some("ECONNRESET"), Some("EPIPE"), Some("ECONNREFUSED"), Some("ETIMEDOUT")])
        .prop_map(|name| name.map(str::to_owned))
}

fn signal() -> impl Strategy<Value = String> {
    select(vec!["SIGKILL", "SIGTERM", "SIGSEGV", "SIGINT", "SIGSTOP", "SIGCONT", "SIGABRT"]).prop_map(str::to_owned)
}

fn status() -> impl Strategy<Value = ExitStatus> {
    prop_oneof![
        select(vec![0_u8, 1, 3, 137, 143]).prop_map(|code| ExitStatus::Code { code }),
        signal().prop_map(|signal| ExitStatus::Signal { signal, core: false }),
    ]
}

fn http() -> impl Strategy<Value = HttpWhat> {
    let body = select(vec![
        BodyFraming::Empty,
        BodyFraming::Chunked,
        BodyFraming::UntilClose,
        BodyFraming::Length { bytes: 5 },
    ]);
    prop_oneof![
        3 => Just(HttpWhat::RequestBegun),
        3 => Just(HttpWhat::RequestComplete),
        2 => Just(HttpWhat::ResponseBegun),
        1 => Just(HttpWhat::Informational { status: 100 }),
        2 => body.prop_map(|body| HttpWhat::ResponseHeaders { status: 200, body, close: false }),
        2 => Just(HttpWhat::ResponseComplete),
        1 => select(vec![HttpWhat::Upgraded, HttpWhat::Malformed, HttpWhat::Opaque]),
    ]
}

fn action() -> impl Strategy<Value = DockerAction> {
    prop_oneof![
        select(vec![0, 137, 143]).prop_map(|code| DockerAction::Die { exit_code: Some(code) }),
        signal().prop_map(|signal| DockerAction::Kill { signal }),
        select(vec![
            DockerAction::Create,
            DockerAction::Start,
            DockerAction::Oom,
            DockerAction::Stop,
            DockerAction::Pause,
            DockerAction::Unpause,
            DockerAction::Restart,
            DockerAction::Destroy,
            DockerAction::Rename { old_name: "old".into() },
            DockerAction::NetworkConnect { network: "net".into() },
            DockerAction::NetworkDisconnect { network: "net".into() },
            DockerAction::HealthStatus { status: "healthy".into() },
        ]),
    ]
}

/// Two sockets of two processes, which query the name of a container, an unknown name, or one of an environment.
fn names() -> impl Strategy<Value = Fact> {
    let name = select(vec!["c0", "c1", "c1.net", "unknown", "unknown.example"]);
    let answer = prop_oneof![
        Just(DnsResponse::Addresses(vec![ip(0)])),
        Just(DnsResponse::NoData),
        Just(DnsResponse::NoName),
        Just(DnsResponse::Failed { rcode: "SERVFAIL".into() }),
    ];
    (name, answer, 0_u16..3, 0_u32..4, 0_u32..12, any::<bool>()).prop_map(|(name, answer, id, port, kind, v6)| {
        let asker = port % 2;
        let pid = Pid(asker * 10 + 10);
        let socket = Socket {
            cookie: Cookie(u64::from(port) + 90),
            netns: NetnsId(u64::from(asker) + 1_000),
            cgroup: CgroupId(u64::from(asker) + 100),
            local: SocketAddr::new(ip(asker), 50_000),
            remote: SocketAddr::new(ip(8), 53),
        };
        let task = Task { pid, comm: "python".into(), exiting: id == 0 };
        let what = match kind {
            0 => return Fact::DnsSocketClosed(DnsSocketClosed { cookie: socket.cookie, task }),
            1 => {
                let observer = ContainerId(format!("{asker:0>64x}"));
                return Fact::DnsProbe(DnsProbe { name: name.into(), observer, response: answer });
            }
            2..=6 => DnsContent::Query,
            _ => DnsContent::Response(answer),
        };
        let task = (what == DnsContent::Query).then_some(task);
        let qtype = if v6 { "AAAA" } else { "A" };
        Fact::DnsMessage(Box::new(DnsMessage { socket, task, id, name: name.into(), qtype: qtype.into(), what }))
    })
}

fn any_fact() -> BoxedStrategy<Fact> {
    let tcp = (socket(), transition(), task(), errno(), 0_u32..2, 0_i64..3).prop_map(
        |(socket, (old, new), task, errno, unread, moved)| {
            let last_sent = (moved > 0).then(|| BASE.plus(Nanos(moved)));
            let last_received = (moved > 1).then(|| BASE.plus(Nanos(1)));
            Fact::TcpState(TcpStateChange {
                socket,
                old,
                new,
                task,
                errno,
                unread,
                half: false,
                unacknowledged: unread,
                last_sent,
                last_read: None,
                last_received,
            })
        },
    );
    let resets = (socket(), state(), any::<bool>()).prop_map(|(socket, state, sent)| {
        if sent {
            Fact::ResetSent(ResetSent { socket, reason: "TCP_STATE".into(), active: true })
        } else {
            Fact::ResetReceived(ResetReceived { socket, state })
        }
    });
    let error = (socket(), state(), errno()).prop_map(|(socket, state, errno)| {
        let errno = errno.unwrap_or_else(|| "ECONNRESET".into());
        Fact::SocketError(SocketError { socket, state, errno })
    });
    let reading = (socket(), task()).prop_map(|(socket, task)| Fact::SocketRead(SocketRead { socket, task }));
    let http = (socket(), any::<bool>(), http())
        .prop_map(|(socket, received, what)| Fact::Http(HttpFact { cookie: socket.cookie, received, what }));
    let births = (process(), process(), any::<bool>(), 0_u32..3).prop_map(|(process, parent, parent_outside, kind)| {
        let parent = parent.pid;
        match kind {
            0 => Fact::ProcessStarted(ProcessStarted { process, parent, parent_outside }),
            1 => Fact::ProcessExec(ProcessExec { process }),
            _ => Fact::ProcessSeen(ProcessSeen { process, parent, parent_outside, serves: true }),
        }
    });
    let exit = (process(), process(), any::<bool>(), status(), any::<bool>()).prop_map(
        |(process, parent, parent_outside, status, listens)| {
            let parent = parent.pid;
            Fact::ProcessExited(ProcessExited { process, parent, parent_outside, status, listens })
        },
    );
    let limit = prop_oneof![Just(None), Just(Some(ResourceLimit::Cpu)), Just(Some(ResourceLimit::FileSize))];
    let signals = (signal(), process(), process(), any::<bool>(), any::<bool>(), limit).prop_map(
        |(signal, target, sender, delivered, kernel, limit)| {
            let sender = if kernel { SignalSender::Kernel } else { SignalSender::Process(sender) };
            Fact::Signal(Signal { signal, target, sender, delivered, limit })
        },
    );
    let place =
        || proptest::option::of(any::<u64>().prop_map(|offset| ModuleOffset { file: "libc.so.6".into(), offset }));
    let crash = (process(), signal(), any::<bool>(), place(), place(), any::<Option<u64>>()).prop_map(
        |(process, signal, raised, module, caller, address)| {
            let thread = "embed".to_owned();
            Fact::CrashSite(Box::new(CrashSite { process, signal, thread, raised, module, caller, address }))
        },
    );
    let used = process().prop_map(|process| Fact::EngineUsed(EngineUsed { process }));
    let details = prop_oneof![crash, used];
    let oom = process().prop_map(|process| Fact::OomVictim { pid: process.pid });
    let seen = (socket(), state(), task()).prop_map(|(socket, state, task)| {
        Fact::SocketSeen(SocketSeen { socket, state, task: Some(task), last_sent: None, last_received: None })
    });
    let inspected =
        (0_u32..3, any::<bool>()).prop_map(|(number, running)| Fact::ContainerSeen(Box::new(info(number, running))));
    let docker = (0_u32..3, action()).prop_map(|(number, action)| {
        let container = ContainerId(format!("{number:0>64x}"));
        Fact::Docker(DockerEvent { container, name: format!("c{number}"), action })
    });
    let line =
        (0_u32..3, select(vec!["GET /", "attempt failed: ReadError", "Fatal Python error: x", "ConnectionError"]));
    let log = line.prop_map(|(number, text)| {
        let container = ContainerId(format!("{number:0>64x}"));
        Fact::Log(Box::new(LogLine { container, stream: LogStream::Stderr, text: text.to_owned() }))
    });
    let traces = (process(), 0_u32..3, any::<bool>()).prop_map(|(process, number, memory)| {
        let container = ContainerId(format!("{number:0>64x}"));
        let (victim, some) = (process.pid, Some(1 << 26));
        if memory {
            Fact::Memory(MemoryUse { container, victim, limit: some, in_use: None, peak: some })
        } else {
            let pattern = "/c/%e.%p".to_owned();
            Fact::CoreDump(Box::new(CoreDump {
                pid: victim,
                pattern,
                uses_pid: false,
                cwd: None,
                executable: None,
                hostname: None,
                uid: None,
                gid: None,
            }))
        }
    });
    let packets = (socket(), select(vec!["NETFILTER_DROP", "NEIGH_FAILED", "TCP_LISTEN_OVERFLOW"]), 0_u32..5).prop_map(
        |(socket, reason, kind)| match kind {
            0 => Fact::IcmpSent(IcmpSent {
                netns: socket.netns,
                source: socket.remote,
                destination: socket.local,
                code: Unreachable::Port,
            }),
            1 => {
                let packet = Handshake { client: socket.remote, server: socket.local, queued: 2, limit: 1 };
                Fact::AcceptQueueFull(AcceptQueueFull { netns: socket.netns, packet })
            }
            2 => Fact::Retransmitted(Retransmitted { socket, state: TcpState::Established }),
            3 => {
                Fact::AcceptQueueCounts(AcceptQueueCounts { netns: socket.netns, since: BASE, overflows: 1, drops: 2 })
            }
            _ => Fact::PacketDropped(PacketDropped {
                netns: socket.netns,
                source: socket.local,
                destination: socket.remote,
                reason: reason.to_owned(),
                hook: Hook::Input,
                seq: 1,
                syn: false,
                payload: 10,
            }),
        },
    );
    let own = prop_oneof![
        3 => Just(Fact::Tick),
        1 => Just(Fact::Lost { stage: "ring.tcp".into(), count: 1 }),
    ];
    prop_oneof![
        6 => names(),
        12 => tcp,
        3 => resets,
        1 => error,
        2 => reading,
        4 => packets,
        8 => http,
        2 => births,
        3 => exit,
        3 => signals,
        1 => oom,
        2 => details,
        1 => seen,
        1 => inspected,
        4 => docker,
        3 => log,
        1 => traces,
        1 => own,
    ]
    .boxed()
}
