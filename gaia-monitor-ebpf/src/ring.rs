//! The BPF ring buffer, the only channel to user space. Records that do not fit are counted per kind, so that every
//! loss is reported.

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
};
use gaia_monitor_abi::{Header, Kind, Record};

/// The loader may change the size.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// Number of dropped records per [`Kind`].
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(Kind::ALL.len() as u32, 0);

/// Wake-ups in the current interval.
#[map]
static WAKE_UPS: Array<WakeUps> = Array::with_max_entries(1, 0);

#[derive(Clone, Copy)]
struct WakeUps {
    /// Boot time at which the interval began, in nanoseconds.
    since_ns: u64,
    count: u64,
}

/// Length of an interval.
const INTERVAL_NS: u64 = 20_000_000;
/// Maximum number of wake-ups per interval. A process exit and its first broken connections, some milliseconds later,
/// wake the reader. A flood of resets does not, because one wake-up per record would slow the host down. Beyond the
/// limit, records wait for the next poll, every 2 ms while the reader is not idle.
const WAKE_UPS_MAX: u64 = 8;

/// When the reader must see a record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Immediately: the record may decide a verdict.
    Now,
    /// At the next poll, within a few milliseconds. A wake-up for every record would be too expensive.
    Later,
}

/// CLOCK_BOOTTIME in nanoseconds, the clock of all records.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Reserves a record, writes its header, calls `fill` for the other fields, and submits it. Returns `false` if the ring
/// is full.
///
/// `fill` must write every field: reserved memory contains bytes of older records.
#[inline(always)]
pub fn emit<R: Record>(wake: Wake, fill: impl FnOnce(&mut R)) -> bool {
    let Some(mut entry) = EVENTS.reserve::<R>(0) else {
        if let Some(count) = LOST.get_ptr_mut(R::KIND as u32) {
            // SAFETY: the slot belongs to this CPU. A tracepoint that interrupts this one may lose a count.
            unsafe { *count += 1 };
        }
        return false;
    };
    let record = entry.as_mut_ptr();
    let now = now();
    // SAFETY: a `Record` begins with a header, and all bit patterns are valid. Ring memory contains older records or
    // zeros, so the reference is to initialised integers.
    unsafe {
        *record.cast::<Header>() = Header {
            kind: R::KIND as u32,
            len: size_of::<R>() as u32,
            cpu: bpf_get_smp_processor_id(),
            reserved: 0,
            boot_ns: now,
        };
        fill(&mut *record);
    }
    let wakes = match wake {
        Wake::Now => may_wake(now),
        Wake::Later => false,
    };
    entry.submit(if wakes { BPF_RB_FORCE_WAKEUP as u64 } else { BPF_RB_NO_WAKEUP as u64 });
    true
}

/// Not atomic: two processors may both wake the reader, which is harmless.
#[inline(always)]
fn may_wake(now: u64) -> bool {
    let Some(current) = WAKE_UPS.get_ptr_mut(0) else { return true };
    // SAFETY: the map contains one aligned value that lives as long as the program.
    unsafe {
        if now.wrapping_sub((*current).since_ns) >= INTERVAL_NS {
            *current = WakeUps { since_ns: now, count: 0 };
        }
        (*current).count += 1;
        (*current).count <= WAKE_UPS_MAX
    }
}
