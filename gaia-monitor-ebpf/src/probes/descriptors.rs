//! What a process still holds when it ends: a worker that inherited its parent's listening socket makes no change of that
//! socket's state, and may never have accepted anything (bpf_loop is 5.17's). No program of its own.
//!
//! The table of descriptors is read as it stands at the exit of the last thread, which closes it only afterwards
//! (`do_exit()` in kernel/exit.c; seen so on 6.12, 6.16, 6.18 and 7.3). Where it is gone by then, nothing is found.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::generated::bpf_loop;
use gaia_monitor_abi::{AF_INET, AF_INET6};

use crate::{
    kernel::{Raw, Typed, layout},
    socket::state,
};

/// Descriptors that are looked at. Listening sockets are made early, so their numbers are low.
const DESCRIPTORS: u32 = 1_024;
/// File types in `i_mode` (include/uapi/linux/stat.h).
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// What the loop carries.
struct Search {
    /// Address of the array of `struct file *`.
    table: u64,
    found: bool,
}

/// Is one of the process's sockets a listening one of TCP?
#[inline(always)]
pub fn hold_a_listener(task: Typed) -> bool {
    search(task).unwrap_or(false)
}

#[inline(always)]
fn search(task: Typed) -> Option<bool> {
    let files: u64 = Raw(task.0).read(layout!(task_files))?;
    let table: u64 = Raw(files).read(layout!(files_fdt))?;
    let count: u32 = Raw(table).read(layout!(fdt_max_fds))?;
    let mut search = Search { table: Raw(table).read(layout!(fdt_fd))?, found: false };
    // A mask besides the bound: the kernel compares all 64 bits of this number where it writes the loop out.
    let count = if count > DESCRIPTORS { DESCRIPTORS } else { count } & (2 * DESCRIPTORS - 1);
    // SAFETY: the callback gets this structure, and it outlives the loop.
    unsafe {
        bpf_loop(count, step as *mut c_void, ptr::from_mut(&mut search).cast(), 0);
    }
    Some(search.found)
}

/// One descriptor; 1 ends the loop.
unsafe extern "C" fn step(number: u64, search: *mut c_void) -> i64 {
    // SAFETY: `search` hands it over.
    let search = unsafe { &mut *search.cast::<Search>() };
    search.found = is_listener(Raw(search.table).at((number as u32) << 3)).unwrap_or(false);
    search.found as i64
}

#[inline(always)]
fn is_listener(place: Raw) -> Option<bool> {
    let file: u64 = place.read(0)?;
    if file == 0 {
        return None;
    }
    let inode: u64 = Raw(file).read(layout!(file_inode))?;
    let mode: u16 = Raw(inode).read(layout!(inode_mode))?;
    if mode & S_IFMT != S_IFSOCK {
        return None;
    }
    let socket: u64 = Raw(file).read(layout!(file_private_data))?;
    let sock: u64 = Raw(socket).read(layout!(socket_sk))?;
    let family = u32::from(Raw(sock).read::<u16>(layout!(skc_family))?);
    let now: u8 = Raw(sock).read(layout!(skc_state))?;
    // Sockets of other families have the same number for it.
    Some((family == AF_INET || family == AF_INET6) && now == state::LISTEN)
}
