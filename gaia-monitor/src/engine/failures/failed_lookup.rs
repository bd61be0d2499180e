//! Look-ups of containers' names that fail.
//!
//! Opens when: every query of a look-up was refused, or it was given up without an answer, and a container of this
//! host has or had the name, or the name stands in an `*_ENDPOINT` of any container. Closes when: the name is answered
//! again (see `draft::condition`). Stays silent when: nobody on this host has to do with the name; the observer entered its
//! container through exec or a health check; an answer may have been among events that were lost.

use crate::engine::failures::table::Symptom;
use crate::engine::world::World;
use crate::engine::world::dns::lookups::{Lookup, LookupId, LookupState};
use crate::model::ids::ContainerId;

/// A look-up that broke for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostName {
    pub lookup: LookupId,
    pub client: ContainerId,
    pub name: String,
    /// The container that last had the name.
    pub holder: Option<ContainerId>,
    pub symptom: Symptom,
}

#[must_use]
pub fn look(world: &World, id: LookupId) -> Option<LostName> {
    let lookup = world.lookups.get(id)?;
    let symptom = match lookup.state {
        LookupState::Refused => Symptom::NameRefused,
        LookupState::Unanswered if lookup.doubtful => return None,
        LookupState::Unanswered => Symptom::NameUnanswered,
        LookupState::Open | LookupState::Given | LookupState::Abandoned => return None,
    };
    if world.processes.get(lookup.task.pid).is_some_and(|process| process.entered) {
        return None;
    }
    let client = world.containers.of_socket(&lookup.socket, lookup.begun)?;
    let name = wanted(world, lookup)?;
    let holder = world.last_holder(&name, &client, lookup.decided);
    Some(LostName { lookup: id, client, name, holder, symptom })
}

/// Of the names that were tried, the shortest that means something here.
fn wanted(world: &World, lookup: &Lookup) -> Option<String> {
    let known = lookup.queries.iter().map(|query| &query.name).filter(|name| world.is_name_of_interest(name));
    known.min_by_key(|name| name.len()).cloned()
}
