//! The one way to user space. What finds no room is counted by kind, so that the loss is told and never silent.

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_boot_ns},
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
};
use gaia_monitor_abi::{Header, Kind, Record};

/// The loader may give it another size.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(16 << 20, 0);

/// Records that found no room, by [`Kind`].
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(Kind::ALL.len() as u32, 0);

/// Wake-ups of the current span.
#[map]
static WOKEN: Array<Woken> = Array::with_max_entries(1, 0);

#[derive(Clone, Copy)]
struct Woken {
    /// Boot time at which the span began, in nanoseconds.
    since_ns: u64,
    count: u64,
}

/// How long a span is.
const SPAN_NS: u64 = 20_000_000;
/// Wake-ups of one span: a death and each of its first broken connections, which come some milliseconds later, wake the
/// reader; a flood of resets, to which one interrupt a record would be felt, does not. What finds the span used up waits
/// for the look that a reader which is not idle takes every 2 ms.
const WAKES: u64 = 8;

/// Whether the reader must see the record at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// It decides a verdict.
    Now,
    /// The reader's next look, a few milliseconds from now, is early enough: waking it for each record would cost the
    /// host more than the record is worth.
    Later,
}

/// Reserves a record, lets `fill` write everything but the header, and submits it. `false`: there was no room.
///
/// `fill` must write every field: what it leaves out holds bytes of older records.
#[inline(always)]
pub fn emit<R: Record>(wake: Wake, fill: impl FnOnce(&mut R)) -> bool {
    let Some(mut entry) = EVENTS.reserve::<R>(0) else {
        if let Some(count) = LOST.get_ptr_mut(R::KIND as u32) {
            // SAFETY: the slot belongs to this CPU; a tracepoint that interrupts this one may at worst lose a count.
            unsafe { *count += 1 };
        }
        return false;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // SAFETY: `Record` promises that it opens with a header and that all bit patterns are values; ring memory is mapped
    // and holds older records or zeros, so the reference is to initialised integers.
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

/// Two processors that ask at once may both wake: harmless, so no atomics.
#[inline(always)]
fn may_wake(now: u64) -> bool {
    let Some(woken) = WOKEN.get_ptr_mut(0) else { return true };
    // SAFETY: the map holds one aligned value that lives as long as the program.
    unsafe {
        if now.wrapping_sub((*woken).since_ns) >= SPAN_NS {
            *woken = Woken { since_ns: now, count: 0 };
        }
        (*woken).count += 1;
        (*woken).count <= WAKES
    }
}
