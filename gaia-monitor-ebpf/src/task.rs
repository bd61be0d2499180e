//! Tasks and processes: conversion of a `struct task_struct` to a [`TaskRecord`] or [`ProcessRecord`].

use core::ptr;

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use gaia_monitor_abi::{ProcessRecord, TaskRecord};

use crate::{
    filter,
    kernel::{Raw, Typed, cgroup_id, layout, netns_of},
};

/// include/linux/sched.h; unchanged since 2.6.
const PF_EXITING: u32 = 0x4;

/// Name of docker-proxy, the only host program with recorded processes.
const DOCKER_PROXY: [u8; 16] = *b"docker-proxy\0\0\0\0";

/// The monitor's pid in the initial pid namespace. What it does itself is ignored.
#[unsafe(no_mangle)]
static OWN_TGID: u32 = 0;

#[inline(always)]
pub fn is_own(pid: u32) -> bool {
    // SAFETY: a reference to an initialised static.
    pid == unsafe { ptr::read_volatile(&raw const OWN_TGID) }
}

#[inline(always)]
pub fn current() -> Typed {
    // SAFETY: no arguments.
    Typed(unsafe { bpf_get_current_task_btf() } as u64)
}

#[inline(always)]
pub fn tgid(task: Typed) -> u32 {
    task.load(layout!(task_tgid))
}

/// Record of the current task. The name is the group leader's, because an exiting process often closes its sockets in
/// another thread.
#[inline(always)]
pub fn current_task() -> TaskRecord {
    let task = current();
    let flags: u32 = task.load(layout!(task_flags));
    TaskRecord {
        tgid: tgid(task),
        exiting: (flags & PF_EXITING != 0) as u32,
        comm: leader(task).load_16(layout!(task_comm)),
    }
}

#[inline(always)]
pub fn leader(task: Typed) -> Typed {
    task.follow(layout!(task_group_leader))
}

/// `struct pid` of a group leader; NULL after it is reaped.
#[inline(always)]
fn pid_of(leader: Typed) -> Typed {
    leader.follow(layout!(task_thread_pid))
}

#[inline(always)]
fn level_of(pid: Typed) -> u32 {
    pid.load(layout!(pid_level))
}

/// `struct upid` of `pid` at depth `level`. Raw, because the verifier does not know the length of the array.
#[inline(always)]
fn number_at(pid: Typed, level: u32) -> Raw {
    // Namespaces are nested at most 32 deep (MAX_PID_NS_LEVEL).
    Raw(pid.0).at(layout!(pid_numbers)).at((level & 63) * layout!(upid_size))
}

/// Record of a process, from any of its threads.
#[inline(always)]
pub fn process(task: Typed) -> ProcessRecord {
    let leader = leader(task);
    let pid = pid_of(leader);
    let ns_level = level_of(pid);
    // The namespaces of the thread: those of an exited leader are already released.
    let net = task.follow(layout!(task_nsproxy)).follow(layout!(nsproxy_net_ns));
    let cgroup = task.follow(layout!(task_cgroups)).follow(layout!(css_set_dfl_cgrp));
    ProcessRecord {
        pid: tgid(task),
        ns_pid: number_at(pid, ns_level).read(layout!(upid_nr)).unwrap_or(0),
        ns_level,
        netns: netns_of(net),
        cgroup: cgroup_id(cgroup),
        comm: leader.load_16(layout!(task_comm)),
    }
}

/// True if the process belongs to a container.
#[inline(always)]
pub fn is_contained(process: &ProcessRecord) -> bool {
    process.ns_level > 0 || filter::cgroup_is_watched(process.cgroup)
}

#[inline(always)]
pub fn is_docker_proxy(process: &ProcessRecord) -> bool {
    let mut index = 0;
    // Includes the NUL, so that longer names do not match.
    while index <= 12 {
        if process.comm[index] != DOCKER_PROXY[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// Pid of the parent, and 1 if the parent is outside the child's pid namespace.
#[inline(always)]
pub fn parent(task: Typed) -> (u32, u32) {
    let child = leader(task);
    let parent = child.follow(layout!(task_real_parent));
    let own = pid_of(child);
    let others = pid_of(leader(parent));
    let level = level_of(own);
    // A parent that is being reaped has no `struct pid` and reads as level 0: outside.
    let outside = level_of(others) < level || namespace_at(others, level) != namespace_at(own, level);
    (tgid(parent), outside as u32)
}

#[inline(always)]
fn namespace_at(pid: Typed, level: u32) -> u64 {
    number_at(pid, level).read(layout!(upid_ns)).unwrap_or(0)
}
