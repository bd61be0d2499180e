//! A real-time priority for the one thread whose delay is the error of an instant.
//!
//! What rtnetlink(7) tells is stamped when it is read: on a loaded host an ordinary thread waits milliseconds for a
//! processor. The thread reads a few messages and sleeps again; nothing that can be busy may ever get this priority.

use std::io;

use nix::errno::Errno;
use nix::libc::{SCHED_RESET_ON_FORK, SCHED_RR, sched_param, sched_setscheduler};

/// The least one: above all ordinary threads, below everything that asks for more.
const PRIORITY: i32 = 1;

/// Puts the calling thread before all ordinary ones; what it starts is ordinary again (sched_setscheduler(2)).
///
/// # Errors
/// Without CAP_SYS_NICE and with RLIMIT_RTPRIO at 0.
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

    use super::come_first;

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
