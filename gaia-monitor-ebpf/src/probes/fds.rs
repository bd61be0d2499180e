//! File descriptors of an exiting process: whether it holds a listening socket. Part of the `process_exited` program. A
//! worker that inherited its parent's listening socket does not change the state of that socket, and may not have
//! accepted a connection. bpf_loop needs 5.17.
//!
//! The fd table is read at the exit of the last thread, which closes the table later (`do_exit()` in kernel/exit.c;
//! observed on 6.12, 6.16, 6.18 and 7.3). If the table is already closed, no listener is found.

use core::{ffi::c_void, ptr};

use aya_ebpf::helpers::generated::bpf_loop;
use gaia_monitor_abi::{AF_INET, AF_INET6};

use crate::{
    kernel::{Raw, Typed, layout},
    socket::state,
};

/// Number of descriptors that are read. Listening sockets are created early, so their numbers are low.
const FDS_MAX: u32 = 1_024;
/// File types in `i_mode` (include/uapi/linux/stat.h).
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// State of the loop.
struct Search {
    /// Address of the array of `struct file *`.
    table: u64,
    found: bool,
}

/// True if the process holds a listening TCP socket.
#[inline(always)]
pub fn has_listener(task: Typed) -> bool {
    search(task).unwrap_or(false)
}

#[inline(always)]
fn search(task: Typed) -> Option<bool> {
    let files: u64 = Raw(task.0).read(layout!(task_files))?;
    let table: u64 = Raw(files).read(layout!(files_fdt))?;
    let count: u32 = Raw(table).read(layout!(fdt_max_fds))?;
    let mut search = Search { table: Raw(table).read(layout!(fdt_fd))?, found: false };
    // The mask clears the upper bits: if the kernel inlines the loop, it compares all 64 bits of this number.
    let count = if count > FDS_MAX { FDS_MAX } else { count } & (2 * FDS_MAX - 1);
    // SAFETY: the callback receives this structure, which outlives the loop.
    unsafe {
        bpf_loop(count, step as *mut c_void, ptr::from_mut(&mut search).cast(), 0);
    }
    Some(search.found)
}

/// Reads one descriptor; 1 ends the loop.
unsafe extern "C" fn step(number: u64, search: *mut c_void) -> i64 {
    // SAFETY: `search` passes this structure.
    let search = unsafe { &mut *search.cast::<Search>() };
    search.found = is_listener(Raw(search.table).at((number as u32) << 3)).unwrap_or(false);
    search.found as i64
}

#[inline(always)]
fn is_listener(slot: Raw) -> Option<bool> {
    let file: u64 = slot.read(0)?;
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
    let state: u8 = Raw(sock).read(layout!(skc_state))?;
    // Other families use the same number for other states.
    Some((family == AF_INET || family == AF_INET6) && state == state::LISTEN)
}
