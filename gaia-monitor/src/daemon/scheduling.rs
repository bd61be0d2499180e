//! Scheduling latency of the threads on a loaded host. CPU shares are unchanged.

use std::io;

use nix::errno::Errno;
use nix::libc::{
    PRIO_PROCESS, SCHED_OTHER, SCHED_RESET_ON_FORK, SCHED_RR, SYS_sched_setattr, getpriority, sched_attr, sched_param,
    sched_setscheduler, syscall,
};

/// Requested time slice in nanoseconds: the minimum that the kernel accepts. Its default is 3 ms.
const SLICE: u64 = 100_000;
/// The lowest real-time priority: above all ordinary threads, below all other real-time threads.
const PRIORITY: i32 = 1;

/// Requests a short time slice for the calling thread and the threads that it starts. A thread with a shorter slice than
/// the running one preempts it immediately (`PREEMPT_SHORT` in kernel/sched/fair.c); its CPU share stays the same. Linux
/// before 6.12 ignores the request for ordinary threads, and nothing depends on it.
pub fn request_short_slice() {
    // SAFETY: plain integers, for which zero is a value.
    let mut request: sched_attr = unsafe { std::mem::zeroed() };
    request.size = size_of::<sched_attr>() as u32;
    request.sched_policy = SCHED_OTHER.unsigned_abs();
    request.sched_runtime = SLICE;
    // SAFETY: 0 is the calling thread, which has a nice value; the kernel reads `size` bytes of the structure.
    unsafe {
        request.sched_nice = getpriority(PRIO_PROCESS, 0);
        syscall(SYS_sched_setattr, 0, &raw const request, 0);
    }
}

/// Gives the calling thread a real-time priority; threads that it starts are ordinary again (sched_setscheduler(2)).
///
/// Only for the reader of rtnetlink(7), where a delay falsifies timestamps: messages are stamped when they are read. It
/// reads a few messages and sleeps again; a thread that can be busy must not get this priority.
///
/// # Errors
/// Without CAP_SYS_NICE, unless RLIMIT_RTPRIO allows the priority.
pub fn use_realtime_priority() -> io::Result<()> {
    let priority = sched_param { sched_priority: PRIORITY };
    // SAFETY: 0 is the calling thread, and the kernel only reads the structure.
    let result = unsafe { sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &raw const priority) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::libc::{SCHED_OTHER, SCHED_RESET_ON_FORK, SCHED_RR, sched_getscheduler};

    use super::{SLICE, request_short_slice, use_realtime_priority};

    /// Nice value and time slice of the calling thread, as the kernel reports them.
    fn slice() -> (i32, u64) {
        // SAFETY: zero is a value; 0 is the calling thread, and the kernel writes `size` bytes at most.
        unsafe {
            let mut found: nix::libc::sched_attr = std::mem::zeroed();
            let size = size_of_val(&found);
            assert_eq!(nix::libc::syscall(nix::libc::SYS_sched_getattr, 0, &raw mut found, size, 0), 0);
            (found.sched_nice, found.sched_runtime)
        }
    }

    #[test]
    fn short_slice_is_inherited_and_keeps_the_nice_value() {
        let (nice, default) = slice();
        let found = thread::spawn(|| {
            request_short_slice();
            (slice(), thread::spawn(slice).join().unwrap())
        });
        let (own, started) = found.join().unwrap();
        assert_eq!(own, started);
        assert_eq!(own.0, nice);
        // Before 6.12 the kernel reports no slice.
        assert!(own.1 == SLICE || default == 0, "{own:?}");
    }

    /// SAFETY of the call: 0 is the calling thread.
    fn policy() -> i32 {
        unsafe { sched_getscheduler(0) }
    }

    #[test]
    fn realtime_priority_is_not_inherited() {
        let found = thread::spawn(|| {
            let allowed = use_realtime_priority().is_ok();
            (allowed, policy(), thread::spawn(policy).join().unwrap())
        });
        let (allowed, own, started) = found.join().unwrap();
        assert_eq!(own, if allowed { SCHED_RR | SCHED_RESET_ON_FORK } else { SCHED_OTHER });
        assert_eq!(started, SCHED_OTHER);
    }
}
