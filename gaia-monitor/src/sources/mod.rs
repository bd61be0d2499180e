//! Sources of facts. Types of aya, bollard, hickory and netlink stay inside; what leaves is an `Observation`.

pub mod dns;
pub mod docker;
pub mod ebpf;
pub mod inventory;
pub mod logs;
pub mod maintenance;
pub mod netlink;
pub mod netns;
pub mod netstat;
pub mod postmortem;
pub mod procfs;
pub mod sockdiag;
#[cfg(test)]
pub mod test_fixtures;
pub mod worker;
