//! Loading and attaching of the probe: mandatory and optional programs, and errors that name a remedy.

use std::fs::File;
use std::path::PathBuf;

use aya::maps::{HashMap, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{
    BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, Program, ProgramError,
};
use aya::{Btf, Ebpf, EbpfLoader};
use gaia_monitor_abi::layout::{ABSENT, Layout};

use super::filter::FilterHandle;
use super::names::KernelNames;
use super::offsets::{Kernel, OffsetError};
use super::reader::RingGauge;
use super::{Probe, cgroup, preflight};
use crate::exit::chain;

/// The object that `cargo xtask ebpf` builds. It is part of the repository, so that users need only stable Rust.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/ebpf/gaia-monitor.bpf.o"));

/// Size of the ring in bytes: a power of two. At 144 bytes a record it holds half a second of 200,000 records a second.
const RING_BYTES: u32 = 16 << 20;

/// An optional program that the running kernel does not support.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The program's name.
    pub name: String,
    /// The consequence, in a clause.
    pub impact: String,
    /// The kernel has no such event, or refused the program.
    pub why: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("the monitor {what}; {fix}")]
    Misplaced { what: &'static str, fix: &'static str },
    #[error(
        "the kernel's type information (/sys/kernel/btf/vmlinux) cannot be read: {reason}; use a kernel built with CONFIG_DEBUG_INFO_BTF=y"
    )]
    Btf { reason: String },
    #[error("{0}; this kernel is not supported, please report it with the output of `gaia-monitor doctor`")]
    Offset(#[from] OffsetError),
    #[error("cannot create the probe's maps: {reason}; run it as root, or with CAP_BPF")]
    Object { reason: String },
    #[error("the embedded probe has no {what}: the build is broken, rebuild it with `cargo xtask ebpf`")]
    Broken { what: String },
    #[error("the kernel refused the program {program} for {event}: {reason}; {fix}")]
    Refused { program: &'static str, event: &'static str, reason: String, fix: &'static str },
    #[error(
        "this kernel has no event {event} with the fields that the program {program} needs; use Linux 6.12 or newer"
    )]
    NoEvent { program: &'static str, event: &'static str },
    #[error(
        "the cgroup v2 tree cannot be used for {program}: {reason}; mount it (mount -t cgroup2 none /sys/fs/cgroup/unified)"
    )]
    Cgroup { program: &'static str, reason: String },
}

/// What the monitor does without the event.
#[derive(Clone, Copy)]
enum Need {
    Mandatory,
    /// Continues, with a warning.
    Optional {
        impact: &'static str,
    },
}

struct Tracepoint {
    program: &'static str,
    event: &'static str,
    /// Arguments that the program reads; older kernels pass fewer.
    arguments: usize,
    need: Need,
}

const TRACEPOINTS: [Tracepoint; 16] = [
    Tracepoint { program: "tcp_state", event: "inet_sock_set_state", arguments: 1, need: Need::Mandatory },
    Tracepoint { program: "reset_received", event: "tcp_receive_reset", arguments: 1, need: Need::Mandatory },
    Tracepoint {
        program: "reset_sent",
        event: "tcp_send_reset",
        arguments: 1,
        need: Need::Optional { impact: "the sender and the reason of a reset are not observed" },
    },
    Tracepoint {
        program: "socket_error",
        event: "inet_sk_error_report",
        arguments: 1,
        need: Need::Optional { impact: "the error of a client's socket is inferred from the reset" },
    },
    Tracepoint {
        program: "socket_read",
        event: "tcp_rcv_space_adjust",
        arguments: 1,
        need: Need::Optional { impact: "the process that serves a connection is known only when it closes it" },
    },
    Tracepoint { program: "process_started", event: "sched_process_fork", arguments: 1, need: Need::Mandatory },
    Tracepoint { program: "process_exec", event: "sched_process_exec", arguments: 1, need: Need::Mandatory },
    Tracepoint { program: "process_exited", event: "sched_process_exit", arguments: 1, need: Need::Mandatory },
    Tracepoint { program: "signal", event: "signal_generate", arguments: 1, need: Need::Mandatory },
    Tracepoint {
        program: "oom_victim",
        event: "mark_victim",
        arguments: 1,
        need: Need::Optional { impact: "OOM kills will look like plain SIGKILLs" },
    },
    Tracepoint {
        program: "crash_raised",
        event: "signal_generate",
        arguments: 4,
        need: Need::Optional { impact: "the module and the thread of a crash are not observed" },
    },
    Tracepoint {
        program: "crashed",
        event: "signal_deliver",
        arguments: 3,
        need: Need::Optional { impact: "the module and the thread of a crash are not observed" },
    },
    Tracepoint {
        program: "engine_used",
        event: "sk_data_ready",
        arguments: 1,
        need: Need::Optional { impact: "the process that requested a stop or kill from Docker is not observed" },
    },
    // The reason is the third argument.
    Tracepoint {
        program: "packet_dropped",
        event: "kfree_skb",
        arguments: 3,
        need: Need::Optional { impact: "packets that a filter or the kernel drops will look like silence" },
    },
    Tracepoint {
        program: "icmp_sent",
        event: "icmp_send",
        arguments: 3,
        need: Need::Optional { impact: "the ICMP error that refused a packet is inferred from the client's error" },
    },
    Tracepoint {
        program: "retransmitted",
        event: "tcp_retransmit_skb",
        arguments: 1,
        need: Need::Optional { impact: "retransmissions are not observed" },
    },
];

struct CgroupProgram {
    program: &'static str,
    attach: CgroupSkbAttachType,
}

/// Programs that run for every packet of the v2 tree.
const CGROUP_PROGRAMS: &[CgroupProgram] = &[
    CgroupProgram { program: "http_egress", attach: CgroupSkbAttachType::Egress },
    CgroupProgram { program: "http_ingress", attach: CgroupSkbAttachType::Ingress },
    CgroupProgram { program: "dns_egress", attach: CgroupSkbAttachType::Egress },
    CgroupProgram { program: "dns_ingress", attach: CgroupSkbAttachType::Ingress },
];

/// The program that runs at the release of every socket of the v2 tree.
const SOCKET_RELEASE: &str = "dns_socket_closed";
const RELEASE_IMPACT: &str = "an abandoned DNS lookup counts as unanswered only after five seconds";

/// Whether the running kernel has the fields that only this program reads.
fn has_fields(program: &str, layout: &Layout) -> bool {
    let fields: &[u32] = match program {
        "crash_raised" | "crashed" => &[
            layout.vma_start,
            layout.vma_end,
            layout.vma_pgoff,
            layout.vma_file,
            layout.file_dentry,
            layout.dentry_name,
            layout.regs_ip,
            layout.si_addr,
            layout.sigaction_handler,
        ],
        "engine_used" => &[layout.unix_dentry, layout.dentry_inode, layout.inode_ino, layout.inode_sb, layout.sb_dev],
        _ => &[],
    };
    !fields.contains(&ABSENT)
}

pub(super) fn load() -> Result<Probe, ProbeError> {
    preflight::placement()?;
    let kernel = Kernel::open().map_err(|error| ProbeError::Btf { reason: error.to_string() })?;
    let layout = kernel.layout(preflight::host_netns()?)?;
    let names = KernelNames::read(&kernel);
    let has_event = |tracepoint: &Tracepoint| {
        has_fields(tracepoint.program, &layout) && kernel.event_arguments(tracepoint.event) >= tracepoint.arguments
    };
    let btf = Btf::from_sys_fs().map_err(|error| ProbeError::Btf { reason: error.to_string() })?;

    let mut programs = EbpfLoader::new()
        .btf(Some(&btf))
        .override_global("LAYOUT", &layout, true)
        .override_global("OWN_TGID", &std::process::id(), true)
        .map_max_entries("EVENTS", RING_BYTES)
        .load(OBJECT)
        .map_err(|error| ProbeError::Object { reason: chain(&error) })?;

    let ring: RingBuf<MapData> = map(&mut programs, "EVENTS")?;
    let lost: PerCpuArray<MapData, u64> = map(&mut programs, "LOST")?;
    let filter = FilterHandle::new(&mut programs)?;
    want_drops(&mut programs, &names)?;

    let mut attached = Vec::new();
    let mut missing = Vec::new();
    for tracepoint in &TRACEPOINTS {
        let result = if has_event(tracepoint) {
            attach_tracepoint(&mut programs, tracepoint, &btf)
        } else {
            Err(ProbeError::NoEvent { program: tracepoint.program, event: tracepoint.event })
        };
        match (result, tracepoint.need) {
            (Ok(()), Need::Mandatory | Need::Optional { .. }) => attached.push(tracepoint.program.to_owned()),
            (Err(error), Need::Mandatory) => return Err(error),
            (Err(error @ ProbeError::Broken { .. }), Need::Optional { .. }) => return Err(error),
            (Err(error), Need::Optional { impact }) => {
                missing.push(Missing {
                    name: tracepoint.program.to_owned(),
                    impact: impact.to_owned(),
                    why: error.to_string(),
                });
            }
        }
    }
    for program in CGROUP_PROGRAMS {
        attach_cgroup(&mut programs, program)?;
        attached.push(program.program.to_owned());
    }
    match attach_release(&mut programs) {
        Ok(()) => attached.push(SOCKET_RELEASE.to_owned()),
        Err(error @ ProbeError::Broken { .. }) => return Err(error),
        Err(error) => missing.push(Missing {
            name: SOCKET_RELEASE.to_owned(),
            impact: RELEASE_IMPACT.to_owned(),
            why: error.to_string(),
        }),
    }
    let absent = details_absent(&layout, &names);
    Ok(Probe { absent, programs, ring, lost, filter, names, gauge: RingGauge::new(RING_BYTES), attached, missing })
}

/// Selects the drop reasons that are recorded, before a program runs.
fn want_drops(programs: &mut Ebpf, names: &KernelNames) -> Result<(), ProbeError> {
    let missing = || ProbeError::Broken { what: "map WANTED_REASONS".to_owned() };
    // Borrowed: the programs are loaded later, and need the open map.
    let found = programs.map_mut("WANTED_REASONS").ok_or_else(missing)?;
    let mut wanted: HashMap<&mut MapData, u32, u8> = found.try_into().map_err(|_: MapError| missing())?;
    for reason in names.wanted_drops() {
        wanted.insert(reason, 1, 0).map_err(|error| ProbeError::Object { reason: chain(&error) })?;
    }
    Ok(())
}

/// What the kernel reports less of than newer ones, in clauses; no program is missing for it.
fn details_absent(layout: &Layout, names: &KernelNames) -> Vec<String> {
    let mut absent = Vec::new();
    if layout.reset_has_reason == 0 {
        absent.push("no reason of a reset".to_owned());
        absent.push("no reset of a closed port".to_owned());
    }
    let (all, known) = names.drops_known();
    if known < all {
        absent.push(format!("{known} of {all} reasons of dropped packets"));
    }
    absent
}

fn attach_tracepoint(programs: &mut Ebpf, tracepoint: &Tracepoint, btf: &Btf) -> Result<(), ProbeError> {
    let Tracepoint { program: name, event, arguments: _, need: _ } = *tracepoint;
    let program: &mut BtfTracePoint = program(programs, name)?;
    program.load(event, btf).and_then(|()| program.attach()).map(drop).map_err(|error| refused(name, event, &error))
}

fn attach_cgroup(programs: &mut Ebpf, entry: &CgroupProgram) -> Result<(), ProbeError> {
    let CgroupProgram { program: name, attach } = *entry;
    let root = root_cgroup(name)?;
    let program: &mut CgroupSkb = program(programs, name)?;
    // A link is always "multi" and coexists with other programs. `AllowMultiple` would be refused with EINVAL.
    program
        .load()
        .and_then(|()| program.attach(root, attach, CgroupAttachMode::Single))
        .map(drop)
        .map_err(|error| refused(name, "cgroup_skb", &error))
}

fn attach_release(programs: &mut Ebpf) -> Result<(), ProbeError> {
    let root = root_cgroup(SOCKET_RELEASE)?;
    let program: &mut CgroupSock = program(programs, SOCKET_RELEASE)?;
    program
        .load()
        .and_then(|()| program.attach(root, CgroupAttachMode::Single))
        .map(drop)
        .map_err(|error| refused(SOCKET_RELEASE, "sock_release", &error))
}

fn root_cgroup(program: &'static str) -> Result<File, ProbeError> {
    let failed = |reason: String| ProbeError::Cgroup { program, reason };
    let root: PathBuf = cgroup::v2_root().map_err(|error| failed(error.to_string()))?;
    File::open(&root).map_err(|error| failed(format!("{}: {error}", root.display())))
}

fn program<'a, P>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut P, ProbeError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let missing = || ProbeError::Broken { what: format!("program {name}") };
    let found = programs.program_mut(name).ok_or_else(missing)?;
    found.try_into().map_err(|_| missing())
}

pub(super) fn map<M>(programs: &mut Ebpf, name: &str) -> Result<M, ProbeError>
where
    M: TryFrom<aya::maps::Map, Error = MapError>,
{
    let missing = || ProbeError::Broken { what: format!("map {name}") };
    M::try_from(programs.take_map(name).ok_or_else(missing)?).map_err(|_| missing())
}

/// Lines that the verifier adds after its message (`print_verification_stats()` in kernel/bpf/verifier.c).
const VERIFIER_STATISTICS: [&str; 3] = ["processed ", "stack depth ", "verification time "];

/// The error for a refused program, with the last message of the verifier's log.
fn refused(program: &'static str, event: &'static str, error: &ProgramError) -> ProbeError {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let is_message = |line: &&str| {
            !line.trim().is_empty() && !VERIFIER_STATISTICS.iter().any(|statistic| line.starts_with(statistic))
        };
        let last = log.lines().rev().find(is_message);
        let reason = match last {
            Some(last) => format!("{io_error} ({last})"),
            None => io_error.to_string(),
        };
        let fix = match io_error.raw_os_error() {
            Some(number) if number == nix::errno::Errno::EPERM as i32 => {
                "run it as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
            }
            Some(_) | None if preflight::lockdown_is_confidential() => {
                "this kernel is locked down (confidentiality), which keeps programs from reading kernel memory"
            }
            Some(_) | None if preflight::kernel_is_old() => "use Linux 6.12 or newer",
            Some(_) | None => "please report it with the output of `gaia-monitor doctor`",
        };
        return ProbeError::Refused { program, event, reason, fix };
    }
    ProbeError::Refused { program, event, reason: chain(error), fix: "run it as root, or see `gaia-monitor doctor`" }
}
