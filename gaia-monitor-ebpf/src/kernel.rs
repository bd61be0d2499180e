//! Reads of kernel memory, at offsets that user space takes from the BTF of the running kernel.
//!
//! If the verifier knows the type of a pointer ([`Typed`]), a read is one instruction. The verifier knows the offsets
//! as well, because the map that contains them is frozen, and checks them against the types of the kernel. Any other
//! pointer ([`Raw`]) is read by `bpf_probe_read_kernel`. An invalid pointer reads as 0 or `None` and never faults.

use aya_ebpf::helpers::{bpf_probe_read_kernel, generated};
use gaia_monitor_abi::layout::Layout;

/// Filled by the loader before the programs are verified. Its map is frozen, so the verifier knows the values.
#[unsafe(no_mangle)]
pub static LAYOUT: Layout = Layout::UNKNOWN;

/// One entry of [`LAYOUT`]. Volatile, because the compiler must not fold the zeros in the object.
macro_rules! layout {
    ($field:ident) => {
        // SAFETY: a reference to an initialised static.
        unsafe { core::ptr::read_volatile(&raw const $crate::kernel::LAYOUT.$field) }
    };
}
pub(crate) use layout;

/// A pointer to a kernel structure: an argument of a BTF tracepoint, or read from another such structure. Reading
/// through NULL returns 0.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Typed(pub u64);

impl Typed {
    /// Reads a field. Volatile, so that the access keeps the width of the field.
    #[inline(always)]
    pub fn load<T: Number>(self, offset: u32) -> T {
        // SAFETY: the verifier rejects the program unless this is a field of a known structure, and the kernel turns a
        // fault into 0.
        unsafe { core::ptr::read_volatile((self.0 + offset as u64) as *const T) }
    }

    /// Follows a pointer to another structure.
    #[inline(always)]
    pub fn follow(self, offset: u32) -> Typed {
        Typed(self.load(offset))
    }

    /// Reads 16 bytes, such as an IPv6 address or a task name.
    #[inline(always)]
    pub fn load_16(self, offset: u32) -> [u8; 16] {
        let halves: [u64; 2] = [self.load(offset), self.load(offset + 8)];
        // SAFETY: equal sizes, and all bit patterns are valid.
        unsafe { core::mem::transmute(halves) }
    }

    #[inline(always)]
    pub fn is_null(self) -> bool {
        self.0 == 0
    }
}

/// An integer that one instruction can load.
///
/// # Safety
/// Only for integers of at most eight bytes.
pub unsafe trait Number: Copy {}
// SAFETY: see above.
unsafe impl Number for u8 {}
// SAFETY: see above.
unsafe impl Number for u16 {}
// SAFETY: see above.
unsafe impl Number for u32 {}
// SAFETY: see above.
unsafe impl Number for i32 {}
// SAFETY: see above.
unsafe impl Number for u64 {}

/// An untyped address of kernel memory, which the verifier does not check.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Raw(pub u64);

impl Raw {
    #[inline(always)]
    pub fn at(self, offset: u32) -> Raw {
        Raw(self.0.wrapping_add(offset as u64))
    }

    /// Reads an integer at `offset`.
    #[inline(always)]
    pub fn read<T: Number>(self, offset: u32) -> Option<T> {
        // SAFETY: the helper checks the address, and all bit patterns of an integer are valid.
        unsafe { bpf_probe_read_kernel(self.at(offset).0 as *const T).ok() }
    }

    /// Copies `N` bytes at `offset` to `target`. On failure the helper zeroes `target`.
    #[inline(always)]
    pub fn copy<const N: usize>(self, offset: u32, target: &mut [u8; N]) -> Option<()> {
        // SAFETY: `target` is `N` bytes owned by this program, and the helper checks the source.
        let result = unsafe {
            generated::bpf_probe_read_kernel(target.as_mut_ptr().cast(), N as u32, self.at(offset).0 as *const _)
        };
        (result == 0).then_some(())
    }
}

/// Id of a cgroup in the v2 tree, which is the inode number of its directory; 0 if it cannot be read.
#[inline(always)]
pub fn cgroup_id(cgroup: Typed) -> u64 {
    cgroup.follow(layout!(cgroup_kn)).load(layout!(kn_id))
}

/// Inode number of a `struct net`; 0 if it cannot be read.
#[inline(always)]
pub fn netns_of(net: Typed) -> u32 {
    net.load(layout!(net_inum))
}
