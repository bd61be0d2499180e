//! How soon threads get a processor on a loaded host. Nothing here gives any of them a larger share of it.

use std::io;

use nix::errno::Errno;
use nix::libc::{
    PRIO_PROCESS, SCHED_OTHER, SCHED_RESET_ON_FORK, SCHED_RR, SYS_sched_setattr, getpriority, sched_attr, sched_param,
    sched_setscheduler, syscall,
};

/// How long a thread asks to run at a time, in nanoseconds: the least that the kernel takes. Its own default is 3 ms.
const SLICE: u64 = 100_000;
/// The least real-time priority: above all ordinary threads, below everything that asks for more.
const PRIORITY: i32 = 1;

/// Asks for short turns for the calling thread and those that it starts. Who asks for shorter turns than the running
/// thread gets them at once (`PREEMPT_SHORT` in kernel/sched/fair.c); the share of the processor stays the same. Linux
/// before 6.12 takes no such wish from ordinary threads, and nothing depends on it.
pub fn take_short_turns() {
    // SAFETY: plain integers, for which zero is a value.
    let mut wish: sched_attr = unsafe { std::mem::zeroed() };
    wish.size = size_of::<sched_attr>() as u32;
    wish.sched_policy = SCHED_OTHER.unsigned_abs();
    wish.sched_runtime = SLICE;
    // SAFETY: 0 is the calling thread, which has a nice value; the kernel reads `size` bytes of the structure.
    unsafe {
        wish.sched_nice = getpriority(PRIO_PROCESS, 0);
        syscall(SYS_sched_setattr, 0, &raw const wish, 0);
    }
}

/// Puts the calling thread before all ordinary ones; what it starts is ordinary again (sched_setscheduler(2)). For the
/// one thread whose delay is the error of an instant: what rtnetlink(7) tells is stamped when it is read. It reads a few
/// messages and sleeps again; nothing that can be busy may ever get this priority.
///
/// # Errors
/// Without CAP_SYS_NICE, where RLIMIT_RTPRIO allows none.
pub fn come_first() -> io::Result<()> {
    let priority = sched_param { sched_priority: PRIORITY };
    // SAFETY: 0 is the calling thread, and the kernel only reads the structure.
    let result = unsafe { sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &raw const priority) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::libc::{SCHED_OTHER, SCHED_RESET_ON_FORK, SCHED_RR, sched_getscheduler};

    use super::{SLICE, come_first, take_short_turns};

    /// Nice value and slice of the calling thread, as the kernel has them.
    fn turns() -> (i32, u64) {
        // SAFETY: zero is a value; 0 is the calling thread, and the kernel writes `size` bytes at most.
        unsafe {
            let mut found: nix::libc::sched_attr = std::mem::zeroed();
            let size = size_of_val(&found);
            assert_eq!(nix::libc::syscall(nix::libc::SYS_sched_getattr, 0, &raw mut found, size, 0), 0);
            (found.sched_nice, found.sched_runtime)
        }
    }

    #[test]
    fn short_turns_are_inherited_and_leave_the_nice_value_alone() {
        let (nice, default) = turns();
        let found = thread::spawn(|| {
            take_short_turns();
            (turns(), thread::spawn(turns).join().unwrap())
        });
        let (own, started) = found.join().unwrap();
        assert_eq!(own, started);
        assert_eq!(own.0, nice);
        // Before 6.12 the kernel tells no slice.
        assert!(own.1 == SLICE || default == 0, "{own:?}");
    }

    /// SAFETY of the call: 0 is the calling thread.
    fn policy() -> i32 {
        unsafe { sched_getscheduler(0) }
    }

    #[test]
    fn the_thread_comes_first_where_it_may_and_what_it_starts_does_not() {
        let found = thread::spawn(|| {
            let may = come_first().is_ok();
            (may, policy(), thread::spawn(policy).join().unwrap())
        });
        let (may, own, started) = found.join().unwrap();
        assert_eq!(own, if may { SCHED_RR | SCHED_RESET_ON_FORK } else { SCHED_OTHER });
        assert_eq!(started, SCHED_OTHER);
    }
}
