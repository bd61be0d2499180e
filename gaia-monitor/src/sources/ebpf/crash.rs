//! Decoder of the record of a crash.

use gaia_monitor_abi::{CRASH_ADDRESS, CRASH_RAISED, CrashSiteRecord};

use super::decode::{comm, process};
use super::names;
use crate::model::event::{CrashSite, Fact, ModuleOffset};

pub(super) fn site(record: &CrashSiteRecord) -> Fact {
    Fact::CrashSite(Box::new(CrashSite {
        process: process(&record.process),
        signal: names::signal(record.signal),
        thread: comm(&record.thread_comm),
        raised: record.flags & CRASH_RAISED != 0,
        module: place(&record.module, record.module_offset),
        caller: place(&record.caller, record.caller_offset),
        address: (record.flags & CRASH_ADDRESS != 0).then_some(record.address),
    }))
}

/// `None`: the address is in no file.
fn place(file: &[u8], offset: u64) -> Option<ModuleOffset> {
    let file = comm(file);
    (!file.is_empty()).then_some(ModuleOffset { file, offset })
}

#[cfg(test)]
mod tests {
    use gaia_monitor_abi::{CrashSiteRecord, Header, Kind, MODULE_LEN, ProcessRecord};

    use super::*;

    fn name(text: &str) -> [u8; MODULE_LEN] {
        let mut bytes = [0; MODULE_LEN];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes
    }

    fn record() -> CrashSiteRecord {
        CrashSiteRecord {
            header: Header { kind: Kind::CrashSite as u32, len: 256, cpu: 0, reserved: 0, boot_ns: 5 },
            process: ProcessRecord {
                pid: 7,
                ns_pid: 1,
                ns_level: 1,
                netns: 2,
                cgroup: 3,
                comm: *b"python3\0\0\0\0\0\0\0\0\0",
            },
            signal: 11,
            thread: 9,
            thread_comm: *b"embed\0\0\0\0\0\0\0\0\0\0\0",
            instruction: 0x7f00_0000_1234,
            address: 1,
            flags: CRASH_ADDRESS,
            reserved: 0,
            module_offset: 0x1234,
            caller_offset: 0,
            module: name("libz.so.1.2.13"),
            caller: [0; MODULE_LEN],
        }
    }

    fn decoded(record: &CrashSiteRecord) -> CrashSite {
        let Fact::CrashSite(site) = site(record) else { panic!("not a crash") };
        *site
    }

    #[test]
    fn decodes_a_fault_with_its_thread_and_module() {
        let site = decoded(&record());
        assert_eq!((site.signal.as_str(), site.thread.as_str(), site.raised), ("SIGSEGV", "embed", false));
        assert_eq!(site.module, Some(ModuleOffset { file: "libz.so.1.2.13".into(), offset: 0x1234 }));
        assert_eq!((site.caller, site.address), (None, Some(1)));
    }

    #[test]
    fn has_neither_module_nor_address_when_the_probe_found_none() {
        let raised = CrashSiteRecord { flags: CRASH_RAISED, module: [0; MODULE_LEN], ..record() };
        let site = decoded(&raised);
        assert_eq!((site.raised, site.module, site.address), (true, None, None));
    }
}
