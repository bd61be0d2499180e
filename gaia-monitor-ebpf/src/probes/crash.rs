//! `signal:signal_generate(sig, info, task, group, result)` and `signal:signal_deliver(sig, info, ka)`: where a process
//! crashed. Both optional; bpf_find_vma and bpf_task_pt_regs need 5.17.
//!
//! At its generation, a signal that a process raises itself, or that the kernel raises for its fault, runs in the task
//! that crashes: its user registers are those of the fault. The signal is fatal if it is delivered without a handler;
//! only then a record is emitted. A handler that prints a traceback and raises the same signal again (faulthandler,
//! breakpad) is not the place of the crash: the first one counts.
//!
//! Both events hold a lock with interrupts disabled, where bpf_find_vma releases the memory map later and can be called
//! once (`bpf_mmap_unlock_get_irq_work()` in kernel/bpf/mmap_unlock_work.h). Of a fault, the mapping is therefore looked
//! up at the delivery. Of a raised signal, the first lookup finds the module that contains the system call, usually libc,
//! and the second the caller of that module. The caller is known only if the module keeps frame pointers itself, which is
//! visible in the second frame: without them, a walk would skip the caller and name another one.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_ANY, BPF_F_USER_STACK},
    helpers::generated::{bpf_find_vma, bpf_get_stack, bpf_probe_read_kernel_str, bpf_task_pt_regs},
    macros::{btf_tracepoint, map},
    maps::LruHashMap,
    programs::BtfTracePointContext,
};
use gaia_monitor_abi::{COMM_LEN, CRASH_ADDRESS, CRASH_RAISED, CrashSiteRecord, MODULE_LEN};

use super::signals;
use crate::{
    kernel::{Raw, Typed, layout},
    ring::{Wake, emit, now},
    task,
};

// Signals of native failures, equal on all supported architectures (include/uapi/asm-generic/signal.h).
const SIGILL: u32 = 4;
const SIGTRAP: u32 = 5;
const SIGABRT: u32 = 6;
const SIGBUS: u32 = 7;
const SIGFPE: u32 = 8;
const SIGSEGV: u32 = 11;
const SIGSYS: u32 = 31;

/// `si_code` of a fault without an address (include/uapi/asm-generic/siginfo.h).
const SI_KERNEL: i32 = 0x80;
const SIG_DFL: u64 = 0;

/// How long the first signal stands for one of the same kind that its handler raises: handlers write a traceback first.
const HANDLED_NS: u64 = 10_000_000_000;
/// Frames of a raised signal: the system call, raise, abort, and the caller.
const FRAMES: usize = 6;

/// A signal that may turn out to be fatal.
#[derive(Clone, Copy)]
#[repr(C)]
struct Fault {
    at_ns: u64,
    instruction: u64,
    address: u64,
    /// The first frame outside the module of the instruction; 0 if it is not known.
    caller: u64,
    signal: u32,
    /// `CRASH_…`.
    flags: u32,
    thread: u32,
    reserved: u32,
    thread_comm: [u8; COMM_LEN],
    /// Of the instruction; empty before the lookup.
    mapping: Mapping,
}

/// A file mapping.
#[derive(Clone, Copy)]
#[repr(C)]
struct Mapping {
    address: u64,
    start: u64,
    end: u64,
    /// Of `address` in the file.
    offset: u64,
    file: [u8; MODULE_LEN],
}

/// By the thread that receives the signal; for a signal to the whole process, by the process.
#[map]
static FAULTS: LruHashMap<u32, Fault> = LruHashMap::with_max_entries(1_024, 0);

#[inline(always)]
fn is_crash(signal: u32) -> bool {
    signal == SIGSEGV
        || signal == SIGABRT
        || signal == SIGBUS
        || signal == SIGILL
        || signal == SIGFPE
        || signal == SIGTRAP
        || signal == SIGSYS
}

#[btf_tracepoint(function = "signal_generate")]
pub fn crash_raised(ctx: BtfTracePointContext) -> i32 {
    if is_crash(ctx.arg(0)) {
        raised(&ctx);
    }
    0
}

#[inline(always)]
fn raised(ctx: &BtfTracePointContext) {
    let signal: u32 = ctx.arg(0);
    let target = Typed(ctx.arg(2));
    let current = task::current();
    if task::tgid(target) != task::tgid(current) || !task::is_contained(&task::process(current)) {
        return;
    }
    let to_process = ctx.arg::<u32>(3) != 0;
    let key = if to_process { task::tgid(target) } else { target.load(layout!(task_pid)) };
    let info: u64 = ctx.arg(1);
    let by_kernel = signals::is_from_kernel(info);
    let now = now();
    if !by_kernel && is_known(key, signal, now) {
        return;
    }
    // SAFETY: the verifier accepts only a task here.
    let registers = Typed(unsafe { bpf_task_pt_regs(current.0 as *mut _) } as u64);
    let mut fault = Fault {
        at_ns: now,
        instruction: registers.load(layout!(regs_ip)),
        address: 0,
        caller: 0,
        signal,
        flags: 0,
        thread: current.load(layout!(task_pid)),
        reserved: 0,
        thread_comm: current.load_16(layout!(task_comm)),
        mapping: NO_MAPPING,
    };
    if by_kernel {
        if let Some(address) = address_of(signal, info) {
            fault.address = address;
            fault.flags = CRASH_ADDRESS;
        }
    } else {
        fault.flags = CRASH_RAISED;
        find(current, fault.instruction, &mut fault.mapping);
        fault.caller = caller(ctx, &fault.mapping);
    }
    let _ = FAULTS.insert(key, fault, BPF_ANY as u64);
}

/// An earlier signal of this kind stands for it.
#[inline(always)]
fn is_known(key: u32, signal: u32, now: u64) -> bool {
    // SAFETY: the value is read immediately and not kept.
    match unsafe { FAULTS.get(key) } {
        Some(fault) => fault.signal == signal && now.wrapping_sub(fault.at_ns) < HANDLED_NS,
        None => false,
    }
}

/// The memory address of a fault. Other signals report that of their instruction, or none.
#[inline(always)]
fn address_of(signal: u32, info: u64) -> Option<u64> {
    if signal != SIGSEGV && signal != SIGBUS {
        return None;
    }
    // The special values in place of a pointer cannot be read.
    let code: i32 = Raw(info).read(layout!(si_code))?;
    // A general protection fault has no address.
    if code == SI_KERNEL { None } else { Raw(info).read(layout!(si_addr)) }
}

/// The first frame outside this mapping; 0 if frame pointers do not lead there.
#[inline(always)]
fn caller(ctx: &BtfTracePointContext, module: &Mapping) -> u64 {
    let mut frames = [0_u64; FRAMES];
    // SAFETY: the buffer is as large as stated.
    let read = unsafe {
        bpf_get_stack(ctx.as_ptr(), frames.as_mut_ptr().cast(), (FRAMES * 8) as u32, u64::from(BPF_F_USER_STACK))
    };
    if read < 24 || !module.contains(frames[1]) {
        return 0;
    }
    let mut index = 2;
    while index < FRAMES {
        if frames[index] != 0 && !module.contains(frames[index]) {
            return frames[index];
        }
        index += 1;
    }
    0
}

#[btf_tracepoint(function = "signal_deliver")]
pub fn crashed(ctx: BtfTracePointContext) -> i32 {
    if is_crash(ctx.arg(0)) {
        let _ = delivered(&ctx);
    }
    0
}

#[inline(always)]
fn delivered(ctx: &BtfTracePointContext) -> Option<()> {
    let signal: u32 = ctx.arg(0);
    if Typed(ctx.arg(2)).load::<u64>(layout!(sigaction_handler)) != SIG_DFL {
        return None;
    }
    let current = task::current();
    let now = now();
    let thread: u32 = current.load(layout!(task_pid));
    // A signal from elsewhere, which is no crash, has no entry.
    let key = if is_known(thread, signal, now) { thread } else { task::tgid(current) };
    if !is_known(key, signal, now) {
        return None;
    }
    let fault = FAULTS.get_ptr(key)?;
    // SAFETY: a value of the map is valid until the program ends; another thread of the process can replace it, which
    // would be a second crash at the same time.
    let fault = unsafe { &*fault };
    let process = task::process(current);
    let wanted = if fault.flags & CRASH_RAISED != 0 { fault.caller } else { fault.instruction };
    let mut found = NO_MAPPING;
    if wanted != 0 {
        find(current, wanted, &mut found);
    }
    emit::<CrashSiteRecord>(Wake::Now, |event| {
        event.process = process;
        event.signal = signal;
        event.thread = fault.thread;
        event.thread_comm = fault.thread_comm;
        event.instruction = fault.instruction;
        event.address = fault.address;
        event.flags = fault.flags;
        event.reserved = 0;
        if fault.flags & CRASH_RAISED != 0 {
            event.module_offset = fault.mapping.offset;
            event.module = fault.mapping.file;
            event.caller_offset = found.offset;
            event.caller = found.file;
        } else {
            event.module_offset = found.offset;
            event.module = found.file;
            event.caller_offset = 0;
            event.caller = [0; MODULE_LEN];
        }
    });
    let _ = FAULTS.remove(key);
    Some(())
}

const NO_MAPPING: Mapping = Mapping { address: 0, start: 0, end: 0, offset: 0, file: [0; MODULE_LEN] };

impl Mapping {
    #[inline(always)]
    fn contains(&self, address: u64) -> bool {
        address >= self.start && address < self.end
    }
}

/// Looks up the file mapping that contains an address of the task's memory. It stays empty for anonymous memory, and if
/// the memory map is locked at this instant.
#[inline(always)]
fn find(task: Typed, address: u64, mapping: &mut Mapping) {
    mapping.address = address;
    // SAFETY: the callback receives this mapping, which outlives the call.
    unsafe {
        bpf_find_vma(task.0 as *mut _, address, visit as *mut c_void, ptr::from_mut(mapping).cast(), 0);
    }
}

/// Reads a `struct vm_area_struct`.
unsafe extern "C" fn visit(_task: *mut c_void, area: *mut c_void, mapping: *mut c_void) -> i64 {
    // SAFETY: `find` passes this structure.
    let mapping = unsafe { &mut *mapping.cast::<Mapping>() };
    let _ = read_area(Raw(area as u64), mapping);
    0
}

#[inline(always)]
fn read_area(area: Raw, mapping: &mut Mapping) -> Option<()> {
    let start: u64 = area.read(layout!(vma_start))?;
    let page: u64 = area.read(layout!(vma_pgoff))?;
    let file: u64 = area.read(layout!(vma_file))?;
    mapping.start = start;
    mapping.end = area.read(layout!(vma_end))?;
    if file == 0 {
        return None;
    }
    mapping.offset = mapping.address.wrapping_sub(start).wrapping_add(page.wrapping_mul(layout!(page_size) as u64));
    let dentry: u64 = Raw(file).read(layout!(file_dentry))?;
    let name: u64 = Raw(dentry).read(layout!(dentry_name))?;
    // SAFETY: the buffer is as large as stated, and the helper checks the source and ends the text with NUL.
    unsafe {
        bpf_probe_read_kernel_str(mapping.file.as_mut_ptr().cast(), MODULE_LEN as u32, name as *const c_void);
    }
    Some(())
}
