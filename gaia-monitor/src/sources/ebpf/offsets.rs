//! Offsets of the running kernel's fields, read from its type information (BTF).
//!
//! The loader cannot relocate Rust programs as it does C programs, so the probe receives a table of offsets. A missing
//! field is an error at the start that names it; a guess would report garbage as facts.

use btf_rs::{Btf, BtfType, Enum, Type};
use gaia_monitor_abi::layout::{ABSENT, Layout};
use nix::unistd::{SysconfVar, sysconf};

/// Types of the kernel itself: TCP and the scheduler are never modules.
const BTF: &str = "/sys/kernel/btf/vmlinux";

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OffsetError {
    #[error("the kernel's type information has no field `{field}` in `struct {owner}`")]
    Field { owner: &'static str, field: &'static str },
    #[error("the kernel's type information has no `struct {owner}`")]
    Struct { owner: &'static str },
    #[error("the kernel's type information has no enumerator `{name}`")]
    Enumerator { name: &'static str },
}

/// The type information of the running kernel.
pub(super) struct Kernel {
    btf: Btf,
}

impl Kernel {
    pub(super) fn open() -> Result<Self, btf_rs::Error> {
        Ok(Self { btf: Btf::from_file(BTF)? })
    }

    /// Number of arguments of a tracepoint; 0 if the kernel does not have it.
    pub(super) fn event_arguments(&self, event: &str) -> usize {
        self.arguments(event).len()
    }

    /// For each argument of a tracepoint, whether it is a pointer; empty if the kernel does not have the tracepoint.
    fn arguments(&self, event: &str) -> Vec<bool> {
        let Ok(found) = self.btf.resolve_types_by_name(&format!("btf_trace_{event}")) else {
            return Vec::new();
        };
        let prototype = found.into_iter().find_map(|found| match found {
            Type::Typedef(typedef) => {
                let Ok(Type::Ptr(pointer)) = self.btf.resolve_chained_type(&typedef) else { return None };
                let Ok(Type::FuncProto(prototype)) = self.btf.resolve_chained_type(&pointer) else { return None };
                Some(prototype)
            }
            // The function behind the tracepoint may have the same name.
            _other => None,
        });
        let Some(prototype) = prototype else { return Vec::new() };
        // The first parameter is the tracepoint's own data.
        let parameters = prototype.parameters.iter().skip(1);
        parameters.map(|parameter| matches!(self.btf.resolve_chained_type(parameter), Ok(Type::Ptr(_)))).collect()
    }

    /// Fills the probe's table.
    #[rustfmt::skip]
    pub(super) fn layout(&self, host_netns: u32) -> Result<Layout, OffsetError> {
        let at = |owner, field| self.offset(owner, field);
        // Details that no cause depends on: their programs are optional.
        let optional = |owner, field| self.offset(owner, field).unwrap_or(ABSENT);
        Ok(Layout {
            skc_family: at("sock_common", "skc_family")?,
            skc_state: at("sock_common", "skc_state")?,
            skc_dport: at("sock_common", "skc_dport")?,
            skc_num: at("sock_common", "skc_num")?,
            skc_daddr: at("sock_common", "skc_daddr")?,
            skc_rcv_saddr: at("sock_common", "skc_rcv_saddr")?,
            skc_v6_daddr: at("sock_common", "skc_v6_daddr")?,
            skc_v6_rcv_saddr: at("sock_common", "skc_v6_rcv_saddr")?,
            skc_net: at("sock_common", "skc_net.net")?,
            skc_flags: at("sock_common", "skc_flags")?,
            sk_err: at("sock", "sk_err")?,
            sk_shutdown: at("sock", "sk_shutdown")?,
            sk_protocol: at("sock", "sk_protocol")?,
            // A field of its own since 5.15; before, the pointer shares its word with other data, and the probe would need
            // bpf_sk_cgroup_id().
            sk_cgroup: at("sock", "sk_cgrp_data.cgroup")?,
            sk_ack_backlog: at("sock", "sk_ack_backlog")?,
            sk_max_ack_backlog: at("sock", "sk_max_ack_backlog")?,
            inet_sport: at("inet_sock", "inet_sport")?,
            rcv_nxt: at("tcp_sock", "rcv_nxt")?,
            copied_seq: at("tcp_sock", "copied_seq")?,
            snd_una: at("tcp_sock", "snd_una")?,
            snd_nxt: at("tcp_sock", "snd_nxt")?,
            bytes_received: at("tcp_sock", "bytes_received")?,
            bytes_sent: at("tcp_sock", "bytes_sent")?,
            bytes_retrans: at("tcp_sock", "bytes_retrans")?,
            net_inum: at("net", "ns.inum")?,
            skb_head: at("sk_buff", "head")?,
            skb_network_header: at("sk_buff", "network_header")?,
            skb_dev: at("sk_buff", "dev")?,
            skb_sk: at("sk_buff", "sk")?,
            skb_dst: at("sk_buff", "_skb_refdst")?,
            dst_dev: at("dst_entry", "dev")?,
            dev_net: at("net_device", "nd_net.net")?,
            dev_flags: at("net_device", "flags")?,
            cgroup_kn: at("cgroup", "kn")?,
            kn_id: at("kernfs_node", "id")?,
            task_pid: at("task_struct", "pid")?,
            task_tgid: at("task_struct", "tgid")?,
            task_flags: at("task_struct", "flags")?,
            task_comm: at("task_struct", "comm")?,
            task_group_leader: at("task_struct", "group_leader")?,
            task_real_parent: at("task_struct", "real_parent")?,
            task_exit_code: at("task_struct", "exit_code")?,
            task_signal: at("task_struct", "signal")?,
            task_thread_pid: at("task_struct", "thread_pid")?,
            task_cgroups: at("task_struct", "cgroups")?,
            task_nsproxy: at("task_struct", "nsproxy")?,
            task_start_time: at("task_struct", "start_time")?,
            task_files: at("task_struct", "files")?,
            files_fdt: at("files_struct", "fdt")?,
            fdt_fd: at("fdtable", "fd")?,
            fdt_max_fds: at("fdtable", "max_fds")?,
            file_inode: at("file", "f_inode")?,
            file_private_data: at("file", "private_data")?,
            inode_mode: at("inode", "i_mode")?,
            socket_sk: at("socket", "sk")?,
            signal_live: at("signal_struct", "live")?,
            signal_flags: at("signal_struct", "flags")?,
            signal_group_exit_code: at("signal_struct", "group_exit_code")?,
            signal_rlim: optional("signal_struct", "rlim"),
            signal_cpu_utime: optional("signal_struct", "cputimer.cputime_atomic.utime"),
            signal_cpu_stime: optional("signal_struct", "cputimer.cputime_atomic.stime"),
            vma_start: optional("vm_area_struct", "vm_start"),
            vma_end: optional("vm_area_struct", "vm_end"),
            vma_pgoff: optional("vm_area_struct", "vm_pgoff"),
            vma_file: optional("vm_area_struct", "vm_file"),
            file_dentry: optional("file", "f_path.dentry"),
            dentry_name: optional("dentry", "d_name.name"),
            dentry_inode: optional("dentry", "d_inode"),
            inode_ino: optional("inode", "i_ino"),
            inode_sb: optional("inode", "i_sb"),
            sb_dev: optional("super_block", "s_dev"),
            unix_dentry: optional("unix_sock", "path.dentry"),
            // The names of x86 and of arm64.
            regs_ip: at("pt_regs", "ip").or_else(|_| at("pt_regs", "pc")).unwrap_or(ABSENT),
            sigaction_handler: optional("k_sigaction", "sa.sa_handler"),
            pid_level: at("pid", "level")?,
            pid_numbers: at("pid", "numbers")?,
            upid_nr: at("upid", "nr")?,
            upid_ns: at("upid", "ns")?,
            upid_size: self.size("upid")?,
            css_set_dfl_cgrp: at("css_set", "dfl_cgrp")?,
            nsproxy_net_ns: at("nsproxy", "net_ns")?,
            si_code: at("kernel_siginfo", "si_code")?,
            si_addr: optional("kernel_siginfo", "_sifields._sigfault._addr"),
            page_size: page_size(),
            sock_done_bit: self.enumerator("sock_flags", "SOCK_DONE")?,
            host_netns,
            reset_has_reason: u32::from(self.arguments("tcp_send_reset").len() > 2),
            exit_has_group_dead: u32::from(self.arguments("sched_process_exit").len() > 1),
            victim_is_task: u32::from(self.arguments("mark_victim").first() == Some(&true)),
        })
    }

    /// Byte offset of a field by its path, including fields of unnamed structures and unions.
    fn offset(&self, owner: &'static str, field: &'static str) -> Result<u32, OffsetError> {
        let candidates = self.structs(owner);
        if candidates.is_empty() {
            return Err(OffsetError::Struct { owner });
        }
        candidates
            .into_iter()
            .find_map(|candidate| self.path_offset(candidate, field))
            .ok_or(OffsetError::Field { owner, field })
    }

    fn size(&self, owner: &'static str) -> Result<u32, OffsetError> {
        let sizes = self.structs(owner).into_iter().find_map(|found| match found {
            Type::Struct(found) => u32::try_from(found.size()).ok(),
            _other => None,
        });
        sizes.ok_or(OffsetError::Struct { owner })
    }

    fn structs(&self, name: &str) -> Vec<Type> {
        let found = self.btf.resolve_types_by_name(name).unwrap_or_default();
        found.into_iter().filter(|found| matches!(found, Type::Struct(_))).collect()
    }

    fn path_offset(&self, owner: Type, path: &str) -> Option<u32> {
        let (first, rest) = match path.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        let (bits, member) = self.member(owner, first)?;
        // A bit field has no address.
        let bytes = (bits % 8 == 0).then_some(bits / 8)?;
        match rest {
            Some(rest) => Some(bytes + self.path_offset(member, rest)?),
            None => Some(bytes),
        }
    }

    /// Offset in bits and type of a member.
    fn member(&self, owner: Type, name: &str) -> Option<(u32, Type)> {
        let (Type::Struct(owner) | Type::Union(owner)) = owner else { return None };
        owner.members.iter().find_map(|member| {
            let own_name = self.btf.resolve_name(member).unwrap_or_default();
            if own_name == name {
                return (member.bitfield_size().unwrap_or(0) == 0)
                    .then_some((member.bit_offset(), self.plain(member)?));
            }
            if !own_name.is_empty() {
                return None;
            }
            let (inner, found) = self.member(self.plain(member)?, name)?;
            Some((member.bit_offset() + inner, found))
        })
    }

    /// The type behind a member, without names and qualifiers.
    fn plain(&self, of: &dyn BtfType) -> Option<Type> {
        let mut found = self.btf.resolve_type_by_id(of.get_type_id()?).ok()?;
        loop {
            found = match &found {
                Type::Typedef(inner) => self.btf.resolve_chained_type(inner).ok()?,
                Type::Const(inner) => self.btf.resolve_chained_type(inner).ok()?,
                Type::Volatile(inner) => self.btf.resolve_chained_type(inner).ok()?,
                Type::TypeTag(inner) => self.btf.resolve_chained_type(inner).ok()?,
                _other => return Some(found),
            };
        }
    }

    fn enumerator(&self, owner: &str, name: &'static str) -> Result<u32, OffsetError> {
        let found = self.enumerators(owner).into_iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value).ok_or(OffsetError::Enumerator { name })
    }

    /// KernelNames and values of an enum; for an empty name, those of all unnamed enums.
    pub(super) fn enumerators(&self, owner: &str) -> Vec<(String, u32)> {
        let found = self.btf.resolve_types_by_name(owner).unwrap_or_default();
        let enums = found.into_iter().filter_map(|found| match found {
            Type::Enum(found) => Some(found),
            _other => None,
        });
        enums
            .flat_map(|found: Enum| {
                found
                    .members
                    .iter()
                    .filter_map(|member| Some((self.btf.resolve_name(member).ok()?, member.val())))
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

/// 4 KiB on x86, and up to 64 KiB elsewhere.
fn page_size() -> u32 {
    let found = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    found.and_then(|bytes| u32::try_from(bytes).ok()).unwrap_or(4_096)
}

#[cfg(test)]
mod tests {
    use super::{ABSENT, Kernel, OffsetError};

    #[test]
    fn finds_every_offset_of_the_running_kernel() {
        let kernel = Kernel::open().unwrap();
        let layout = kernel.layout(1).unwrap();
        // skc_addrpair is the first member of sock_common on every kernel; its halves are adjacent.
        assert_eq!((layout.skc_daddr, layout.skc_rcv_saddr), (0, 4));
        assert_eq!(layout.skc_v6_rcv_saddr, layout.skc_v6_daddr + 16);
        assert_eq!(layout.upid_size, 16);
        assert_eq!(layout.host_netns, 1);
        let optional =
            [layout.vma_file, layout.dentry_name, layout.unix_dentry, layout.regs_ip, layout.signal_cpu_utime];
        assert!(!optional.contains(&ABSENT), "{layout:?}");
    }

    #[test]
    fn names_a_missing_field() {
        let kernel = Kernel::open().unwrap();
        let error = kernel.offset("sock", "sk_no_such_field").unwrap_err();
        assert_eq!(error, OffsetError::Field { owner: "sock", field: "sk_no_such_field" });
        assert!(error.to_string().contains("sk_no_such_field"), "{error}");
        assert_eq!(kernel.offset("no_such_struct", "x").unwrap_err(), OffsetError::Struct { owner: "no_such_struct" });
    }
}
