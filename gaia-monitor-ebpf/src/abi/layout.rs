//! Offset table of the kernel structures that the probe reads.
//!
//! User space fills this table from the kernel's BTF at start and passes it as the global `LAYOUT`. No offset and no
//! enum value that differs between kernels is compiled in. All numbers are byte offsets in the named structure, unless
//! a field is documented otherwise.

/// Offset of a field that the running kernel does not have. Only optional programs, and optional parts of others, read
/// such a field.
pub const ABSENT: u32 = u32::MAX;

/// The table. Every field is a `u32`, so there is no padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Layout {
    // struct sock_common, shared by full, TIME_WAIT and request sockets
    pub skc_family: u32,
    pub skc_state: u32,
    pub skc_dport: u32,
    pub skc_num: u32,
    pub skc_daddr: u32,
    pub skc_rcv_saddr: u32,
    pub skc_v6_daddr: u32,
    pub skc_v6_rcv_saddr: u32,
    pub skc_net: u32,
    pub skc_flags: u32,
    // struct sock
    pub sk_err: u32,
    pub sk_shutdown: u32,
    pub sk_protocol: u32,
    pub sk_cgroup: u32,
    pub sk_ack_backlog: u32,
    pub sk_max_ack_backlog: u32,
    // struct inet_sock
    pub inet_sport: u32,
    // struct tcp_sock
    pub rcv_nxt: u32,
    pub copied_seq: u32,
    pub snd_una: u32,
    pub snd_nxt: u32,
    pub bytes_received: u32,
    pub bytes_sent: u32,
    pub bytes_retrans: u32,
    // struct net
    pub net_inum: u32,
    // struct sk_buff, dst_entry, net_device
    pub skb_head: u32,
    pub skb_network_header: u32,
    pub skb_dev: u32,
    pub skb_sk: u32,
    pub skb_dst: u32,
    pub dst_dev: u32,
    pub dev_net: u32,
    pub dev_flags: u32,
    // struct cgroup, kernfs_node
    pub cgroup_kn: u32,
    pub kn_id: u32,
    // struct task_struct
    pub task_pid: u32,
    pub task_tgid: u32,
    pub task_flags: u32,
    pub task_comm: u32,
    pub task_group_leader: u32,
    pub task_real_parent: u32,
    pub task_exit_code: u32,
    pub task_signal: u32,
    pub task_thread_pid: u32,
    pub task_cgroups: u32,
    pub task_nsproxy: u32,
    pub task_start_time: u32,
    pub task_files: u32,
    // struct files_struct, fdtable, file, inode, socket
    pub files_fdt: u32,
    pub fdt_fd: u32,
    pub fdt_max_fds: u32,
    pub file_inode: u32,
    pub file_private_data: u32,
    pub inode_mode: u32,
    pub socket_sk: u32,
    // struct signal_struct
    pub signal_live: u32,
    pub signal_flags: u32,
    pub signal_group_exit_code: u32,
    pub signal_rlim: u32,
    /// Sums of the process, which the kernel compares with its CPU limit.
    pub signal_cpu_utime: u32,
    pub signal_cpu_stime: u32,
    // struct vm_area_struct, file, dentry
    pub vma_start: u32,
    pub vma_end: u32,
    pub vma_pgoff: u32,
    pub vma_file: u32,
    pub file_dentry: u32,
    pub dentry_name: u32,
    pub dentry_inode: u32,
    // struct inode, super_block, unix_sock
    pub inode_ino: u32,
    pub inode_sb: u32,
    pub sb_dev: u32,
    pub unix_dentry: u32,
    // struct pt_regs, k_sigaction
    pub regs_ip: u32,
    pub sigaction_handler: u32,
    // struct pid, upid
    pub pid_level: u32,
    pub pid_numbers: u32,
    pub upid_nr: u32,
    pub upid_ns: u32,
    /// Size of `struct upid` in bytes.
    pub upid_size: u32,
    // struct css_set, nsproxy
    pub css_set_dfl_cgrp: u32,
    pub nsproxy_net_ns: u32,
    // struct kernel_siginfo
    pub si_code: u32,
    pub si_addr: u32,
    /// Size of a page in bytes.
    pub page_size: u32,
    /// Bit number of `SOCK_DONE` (a FIN was received) in `sk_flags`.
    pub sock_done_bit: u32,
    /// Inode number of the host's network namespace.
    pub host_netns: u32,
    /// 1: `tcp_send_reset` has a reason as its third argument (6.10 and newer).
    pub reset_has_reason: u32,
    /// 1: `sched_process_exit` has `group_dead` as its second argument (6.16 and newer).
    pub exit_has_group_dead: u32,
    /// 1: the argument of `mark_victim` is the task; 0: only its pid.
    pub victim_is_task: u32,
}

impl Layout {
    /// Contents of the object before it is loaded.
    pub const UNKNOWN: Layout = {
        // SAFETY: integers only.
        unsafe { core::mem::zeroed() }
    };
}

const _: () = assert!(size_of::<Layout>() == 89 * 4);

#[cfg(feature = "user")]
// SAFETY: `u32` fields only, no padding.
unsafe impl aya::Pod for Layout {}
