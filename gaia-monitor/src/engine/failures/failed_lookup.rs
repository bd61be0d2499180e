//! Failed lookups of containers' names.
//!
//! Opens when: every query of a lookup was refused, or the lookup was abandoned without a response, and a container of
//! this host has or had the name, or an `*_ENDPOINT` variable of any container contains it. Closes nothing (see
//! `causes/dns` for the condition). Stays silent when: the name means nothing on this host; the client entered its
//! container through exec or a health check; a response may have been among lost events.

use crate::engine::failures::table::Symptom;
use crate::engine::world::World;
use crate::engine::world::dns::lookups::{Lookup, LookupId, LookupState};
use crate::model::ids::ContainerId;

/// A lookup that failed for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedLookup {
    pub lookup: LookupId,
    pub client: ContainerId,
    pub name: String,
    /// The container that last had the name.
    pub holder: Option<ContainerId>,
    pub symptom: Symptom,
}

#[must_use]
pub fn detect(world: &World, id: LookupId) -> Option<FailedLookup> {
    let lookup = world.lookups.get(id)?;
    let symptom = match lookup.state {
        LookupState::Refused => Symptom::NameRefused,
        LookupState::Unanswered if lookup.doubtful => return None,
        LookupState::Unanswered => Symptom::NameUnanswered,
        LookupState::Open | LookupState::Resolved | LookupState::Abandoned => return None,
    };
    let entered = world.processes.get(lookup.task.pid).is_some_and(|process| process.entered);
    if entered || world.is_outsider(&lookup.socket, Some(&lookup.task), lookup.begun) {
        return None;
    }
    let client = world.containers.of_socket(&lookup.socket, lookup.begun)?;
    let name = name_of_interest(world, lookup)?;
    let holder = world.last_holder(&name, &client, lookup.decided);
    Some(FailedLookup { lookup: id, client, name, holder, symptom })
}

/// Of the names that were tried, the shortest that means something on this host.
fn name_of_interest(world: &World, lookup: &Lookup) -> Option<String> {
    let known = lookup.queries.iter().map(|query| &query.name).filter(|name| world.is_name_of_interest(name));
    known.min_by_key(|name| name.len()).cloned()
}
