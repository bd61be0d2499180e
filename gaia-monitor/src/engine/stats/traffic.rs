//! Counters of resets and HTTP responses by container. They change with single packets, so one increment costs two map
//! lookups by number and no string.
//!
//! Bound: [`SLOTS`] containers by name; later ones are counted under `other`.

use std::collections::BTreeMap;

use crate::model::event::{ResetReceived, Socket, TcpState};
use crate::model::ids::{CgroupId, Cookie};
use crate::model::time::Stamp;

use crate::engine::stats::{CounterDelta, OTHER};
use crate::engine::world::World;
use crate::model::scope;
use crate::model::settings::Scope;

const SLOTS: usize = 1_024;
/// Cgroups whose container is cached; beyond it the whole cache is cleared.
const CGROUPS: usize = 4_096;
/// Reasons of resets. A running kernel has about 50 (`enum sk_rst_reason`).
const REASONS: usize = 128;

/// The direction of a reset, seen from the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    Sent,
    Received,
}

impl Direction {
    /// The value of the label `direction`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Direction::Sent => "sent",
            Direction::Received => "received",
        }
    }
}

/// The class of the status of a final response; 1xx responses are not final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Success,
    Redirect,
    ClientError,
    ServerError,
    Other,
}

impl Class {
    pub const ALL: [Class; 5] = [Class::Success, Class::Redirect, Class::ClientError, Class::ServerError, Class::Other];

    /// The value of the label `class`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Class::Success => "2xx",
            Class::Redirect => "3xx",
            Class::ClientError => "4xx",
            Class::ServerError => "5xx",
            Class::Other => OTHER,
        }
    }

    fn of(status: u16) -> Self {
        match status {
            200..=299 => Class::Success,
            300..=399 => Class::Redirect,
            400..=499 => Class::ClientError,
            500..=599 => Class::ServerError,
            _ => Class::Other,
        }
    }
}

/// The statuses on which gaia-web retries and never fails over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unavailable {
    BadGateway,
    ServiceUnavailable,
    GatewayTimeout,
}

impl Unavailable {
    pub const ALL: [Unavailable; 3] =
        [Unavailable::BadGateway, Unavailable::ServiceUnavailable, Unavailable::GatewayTimeout];

    /// The value of the label `status`.
    #[must_use]
    pub fn status(self) -> &'static str {
        match self {
            Unavailable::BadGateway => "502",
            Unavailable::ServiceUnavailable => "503",
            Unavailable::GatewayTimeout => "504",
        }
    }

    fn of(status: u16) -> Option<Self> {
        match status {
            502 => Some(Unavailable::BadGateway),
            503 => Some(Unavailable::ServiceUnavailable),
            504 => Some(Unavailable::GatewayTimeout),
            _ => None,
        }
    }
}

/// The counters of one container since they were last read.
#[derive(Clone, Debug)]
struct Slot {
    container: String,
    service: String,
    classes: [u64; Class::ALL.len()],
    unavailable: [u64; Unavailable::ALL.len()],
    /// By direction and index in `Traffic::reasons`.
    resets: BTreeMap<(Direction, usize), u64>,
}

#[derive(Debug, Default)]
pub(super) struct Traffic {
    slots: Vec<Slot>,
    by_name: BTreeMap<(String, String), usize>,
    /// A cache of slots; `None`: the container is out of scope.
    by_cgroup: BTreeMap<CgroupId, Option<usize>>,
    reasons: Vec<String>,
    /// A counter grew since the last reading.
    grown: bool,
}

impl Traffic {
    pub(super) fn reset(
        &mut self,
        world: &World,
        limits: &Scope,
        socket: &Socket,
        at: Stamp,
        direction: Direction,
        reason: &str,
    ) {
        let reason = self.reason(reason);
        if let Some(slot) = self.slot(world, limits, socket, at) {
            *slot.resets.entry((direction, reason)).or_default() += 1;
            self.grown = true;
        }
    }

    /// A received RST has no reason. The state of its socket takes that place, because it decides which error the
    /// process gets.
    pub(super) fn reset_received(&mut self, world: &World, limits: &Scope, reset: &ResetReceived, at: Stamp) {
        self.reset(world, limits, &reset.socket, at, Direction::Received, state_name(reset.state));
    }

    /// Counts a response by the header section that the socket `server` sent.
    pub(super) fn response(&mut self, world: &World, limits: &Scope, server: Cookie, status: u16) {
        let Some(endpoint) = world.sockets.get(server) else { return };
        // A response that docker-proxy forwards has no slot, because docker-proxy is in no container. It is counted at
        // its origin.
        let Some(slot) = self.slot(world, limits, &endpoint.socket, endpoint.opened) else { return };
        if let Some(count) = slot.classes.get_mut(Class::of(status) as usize) {
            *count += 1;
        }
        if let Some(count) = Unavailable::of(status).and_then(|status| slot.unavailable.get_mut(status as usize)) {
            *count += 1;
        }
        self.grown = true;
    }

    /// Clears the cache, because a container has a new name or a cgroup a new container.
    pub(super) fn clear_cache(&mut self) {
        self.by_cgroup.clear();
    }

    /// Passes each counter that grew to `each`, and resets it.
    pub(super) fn drain(&mut self, mut each: impl FnMut(CounterDelta<'_>)) {
        if !std::mem::take(&mut self.grown) {
            return;
        }
        for slot in &mut self.slots {
            let Slot { container, service, classes, unavailable, resets } = slot;
            for (class, count) in Class::ALL.into_iter().zip(classes).filter(|(_, count)| **count > 0) {
                each(CounterDelta::Responses { service, class, count: std::mem::take(count) });
            }
            for (status, count) in Unavailable::ALL.into_iter().zip(unavailable).filter(|(_, count)| **count > 0) {
                each(CounterDelta::Unavailable { service, status, count: std::mem::take(count) });
            }
            for ((direction, reason), count) in std::mem::take(resets) {
                let reason = self.reasons.get(reason).map_or(OTHER, String::as_str);
                each(CounterDelta::Resets { container, service, direction, reason, count });
            }
        }
    }

    /// The slot of the container that owns the socket; `None` if there is none in scope.
    fn slot(&mut self, world: &World, limits: &Scope, socket: &Socket, at: Stamp) -> Option<&mut Slot> {
        let cached = self.by_cgroup.get(&socket.cgroup).copied();
        let index = match cached {
            Some(index) => index,
            None => {
                let by_cgroup = world.containers.of_cgroup(socket.cgroup);
                let is_by_cgroup = by_cgroup.is_some();
                let id = by_cgroup.or_else(|| world.containers.of_netns(socket.netns, at))?;
                let container = world.containers.get(&id)?;
                let in_scope = scope::contains(limits, &container.info);
                let index = in_scope.then(|| self.named(&container.info.name, container.info.service_label()));
                // Network namespace ids are reused, so only cgroups are cached.
                if is_by_cgroup {
                    if self.by_cgroup.len() >= CGROUPS {
                        self.by_cgroup.clear();
                    }
                    self.by_cgroup.insert(socket.cgroup, index);
                }
                index
            }
        };
        self.slots.get_mut(index?)
    }

    fn named(&mut self, container: &str, service: &str) -> usize {
        let mut key = (container.to_owned(), service.to_owned());
        if let Some(known) = self.by_name.get(&key) {
            return *known;
        }
        if self.slots.len() >= SLOTS {
            key = (OTHER.to_owned(), OTHER.to_owned());
            if let Some(known) = self.by_name.get(&key) {
                return *known;
            }
        }
        let (container, service) = key.clone();
        let index = self.slots.len();
        self.slots.push(Slot {
            container,
            service,
            classes: Default::default(),
            unavailable: Default::default(),
            resets: BTreeMap::new(),
        });
        self.by_name.insert(key, index);
        index
    }

    /// The index of a reason, or an invalid index for those beyond [`REASONS`].
    fn reason(&mut self, reason: &str) -> usize {
        if let Some(known) = self.reasons.iter().position(|known| known == reason) {
            return known;
        }
        if self.reasons.len() < REASONS {
            self.reasons.push(reason.to_owned());
            return self.reasons.len() - 1;
        }
        usize::MAX
    }
}

/// The kernel's name of the state (include/net/tcp_states.h).
fn state_name(state: TcpState) -> &'static str {
    match state {
        TcpState::Established => "ESTABLISHED",
        TcpState::SynSent => "SYN_SENT",
        TcpState::SynRecv => "SYN_RECV",
        TcpState::FinWait1 => "FIN_WAIT1",
        TcpState::FinWait2 => "FIN_WAIT2",
        TcpState::TimeWait => "TIME_WAIT",
        TcpState::Close => "CLOSE",
        TcpState::CloseWait => "CLOSE_WAIT",
        TcpState::LastAck => "LAST_ACK",
        TcpState::Listen => "LISTEN",
        TcpState::Closing => "CLOSING",
        TcpState::NewSynRecv => "NEW_SYN_RECV",
        TcpState::BoundInactive => "BOUND_INACTIVE",
        TcpState::Unknown => "UNKNOWN",
    }
}
