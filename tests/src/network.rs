//! A bridge network on an unused subnet of this host.
//!
//! The operator's own stack may run here, on 172.28.0.0/16: Docker's default pool could take that range while the
//! stack is down. So the subnet comes from 10.213.0.0/16 where that is free, and from Docker's pool only elsewhere.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};

use crate::cleanup::RunId;
use crate::docker;

/// Candidates are 10.213.0.0/24 … 10.213.255.0/24.
const POOL: [u8; 2] = [10, 213];

/// A network of one run; it is removed with the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    name: String,
    subnet: String,
}

impl Network {
    /// Creates it, named after the run.
    ///
    /// # Errors
    /// When Docker refuses.
    pub fn create(run: &RunId, suffix: &str) -> Result<Self> {
        let name = format!("{}-{suffix}", run.as_str());
        let labels = run.labels();
        let base = ["network", "create", "--label", &labels[0], "--label", &labels[1]];
        let routes = std::fs::read_to_string("/proc/net/route").context("cannot read /proc/net/route")?;
        for subnet in free_subnets(&routes, std::process::id()) {
            // Another run may take it between the look and the call: Docker reports it, and the next one is tried.
            match docker::docker(base.iter().chain(&["--subnet", &subnet, name.as_str()])) {
                Ok(_) => return Ok(Self { name, subnet }),
                Err(error) if is_overlap(&format!("{error:#}")) => {}
                Err(error) => return Err(error).context("cannot create a network"),
            }
        }
        docker::docker(base.iter().chain(&[name.as_str()])).context("cannot create a network")?;
        let format = "{{(index .IPAM.Config 0).Subnet}}";
        let subnet = docker::docker(["network", "inspect", "--format", format, name.as_str()])?.trim().to_owned();
        Ok(Self { name, subnet })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `A.B.C.D/LEN`.
    #[must_use]
    pub fn subnet(&self) -> &str {
        &self.subnet
    }
}

fn is_overlap(message: &str) -> bool {
    message.contains("overlap") || message.contains("already in use") || message.contains("conflicts")
}

/// Up to sixteen subnets of the pool that no route of this host overlaps; where to begin depends on `seed`, so that
/// runs side by side seldom meet.
fn free_subnets(routes: &str, seed: u32) -> Vec<String> {
    let taken: Vec<(u32, u32)> = routes.lines().skip(1).filter_map(route).filter(|(_, mask)| *mask != 0).collect();
    let start = u8::try_from(seed % 256).unwrap_or(0);
    (0..=u8::MAX)
        .map(|step| Ipv4Addr::new(POOL[0], POOL[1], start.wrapping_add(step), 0))
        .filter(|subnet| {
            let subnet = u32::from(*subnet);
            // Two ranges overlap when they agree under the shorter of both masks.
            !taken.iter().any(|(address, mask)| (subnet ^ address) & mask & 0xffff_ff00 == 0)
        })
        .take(16)
        .map(|subnet| format!("{subnet}/24"))
        .collect()
}

/// Destination and mask of a line of `/proc/net/route`: hexadecimal, in the host's byte order (little endian here).
fn route(line: &str) -> Option<(u32, u32)> {
    let mut fields = line.split_whitespace();
    let address = u32::from_str_radix(fields.nth(1)?, 16).ok()?;
    let mask = u32::from_str_radix(fields.nth(5)?, 16).ok()?;
    Some((u32::from_be_bytes(address.to_ne_bytes()), u32::from_be_bytes(mask.to_ne_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";

    #[test]
    fn skips_subnets_of_existing_bridges() {
        let routes = format!("{HEAD}br-1\t0007D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n");
        let free = free_subnets(&routes, 7);
        assert_eq!(free.first().map(String::as_str), Some("10.213.8.0/24"));
        assert!(!free.contains(&"10.213.7.0/24".to_owned()));
    }

    #[test]
    fn leaves_the_choice_to_docker_when_the_host_routes_all_of_ten() {
        let routes = format!("{HEAD}tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n");
        assert!(free_subnets(&routes, 0).is_empty());
    }

    #[test]
    fn ignores_the_default_route() {
        let routes = format!("{HEAD}eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
        assert_eq!(free_subnets(&routes, 255).len(), 16);
    }
}
