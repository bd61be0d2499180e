//! Outage: a period in which a container could not be reached because its interface or bridge was down or removed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::model::ids::{ContainerId, NetnsId};
use crate::model::time::{Nanos, Stamp};

use crate::engine::world::containers::Container;
use crate::engine::world::network::interfaces::Fault;

/// TCP doubles its retransmission timeout: data sent during an outage is retransmitted, after its end, within the
/// length of the outage plus this slack.
const RETRANSMIT_SLACK: Nanos = Nanos::from_secs(1);
/// How long data still arrives after the path broke.
const IN_FLIGHT: Nanos = Nanos::from_millis(10);

/// An interface: its namespace and index.
pub type Place = (NetnsId, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutageId(pub u64);

#[derive(Clone, Debug)]
pub struct Outage {
    pub id: OutageId,
    /// `None`: the outage of a bridge, which cuts off every container behind it.
    pub container: Option<ContainerId>,
    /// The container's interface, or the bridge; `None` while only Docker has reported the outage.
    pub place: Option<Place>,
    /// The interface that went down, or the network that Docker named.
    pub name: String,
    pub fault: Fault,
    /// Addresses that cannot be reached.
    pub addresses: BTreeSet<IpAddr>,
    /// Docker's name of the network.
    pub network: Option<String>,
    /// When the kernel reported the fault.
    pub down: Option<Stamp>,
    /// When the interface was removed.
    pub removed: Option<Stamp>,
    /// When Docker reported `disconnect`.
    pub docker: Option<Stamp>,
    /// When the kernel reported the path healthy again.
    pub(super) recovered_at: Option<Stamp>,
    /// When Docker reported `connect`.
    pub(super) connected_at: Option<Stamp>,
    /// When the container itself went down.
    pub(super) terminated_at: Option<Stamp>,
    /// Found by a reading of the interfaces; its start is unknown.
    pub found: bool,
}

impl Outage {
    #[must_use]
    pub fn since(&self) -> Stamp {
        self.down.or(self.removed).or(self.docker).unwrap_or_default()
    }

    /// When the path was healthy again; `None` also if the container went down first.
    #[must_use]
    pub fn restored(&self) -> Option<Stamp> {
        self.recovered_at.or(self.connected_at)
    }

    /// Its end, for any reason.
    #[must_use]
    pub fn until(&self) -> Option<Stamp> {
        self.restored().or(self.terminated_at)
    }

    /// Whether it cuts off a container at one of its addresses.
    #[must_use]
    pub fn cuts_off(&self, container: &Container, ip: IpAddr) -> bool {
        let info = &container.info;
        let shares_namespace = self.place.is_some_and(|(netns, _)| info.netns == Some(netns));
        if self.container.as_ref() != Some(&info.id) && !shares_namespace {
            return false;
        }
        if !self.addresses.is_empty() {
            return self.addresses.contains(&ip);
        }
        let other_networks = info.networks.iter().filter(|network| Some(&network.network) != self.network.as_ref());
        !other_networks.flat_map(|network| &network.addresses).any(|other| *other == ip)
    }

    /// Whether it explains that an exchange begun at `begun` had received no response by `at`. `received`: time of the
    /// last bytes.
    #[must_use]
    pub fn explains(&self, begun: Stamp, at: Stamp, received: Option<Stamp>) -> bool {
        let since = self.since();
        let arrived_during_outage =
            |received: Stamp| received > since.plus(IN_FLIGHT) && self.until().is_none_or(|end| received < end);
        if since > at || received.is_some_and(arrived_during_outage) {
            return false;
        }
        self.until().is_none_or(|end| end > begun && at <= end.plus(end.since(since)).plus(RETRANSMIT_SLACK))
    }
}
