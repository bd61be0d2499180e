//! Look-ups of containers' names that fail.
//!
//! Opens when: every question of a look-up was refused, or it was given up without an answer, and a container of this
//! host has or had the name, or the name stands in an `*_ENDPOINT` of any container. Closes when: the name is answered
//! again (see `draft::condition`). Stays silent when: nobody on this host has to do with the name; the asker entered its
//! container through exec or a health check; an answer may have been among events that were lost.

use crate::engine::failures::table::Symptom;
use crate::engine::world::World;
use crate::engine::world::dns::lookups::{Inquiry, InquiryId, Progress};
use crate::model::ids::ContainerId;

/// A look-up that broke for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostName {
    pub inquiry: InquiryId,
    pub client: ContainerId,
    pub name: String,
    /// The container that last had the name.
    pub holder: Option<ContainerId>,
    pub symptom: Symptom,
}

#[must_use]
pub fn look(world: &World, id: InquiryId) -> Option<LostName> {
    let inquiry = world.look_ups.get(id)?;
    let symptom = match inquiry.progress {
        Progress::Refused => Symptom::NameRefused,
        Progress::Unanswered if inquiry.doubtful => return None,
        Progress::Unanswered => Symptom::NameUnanswered,
        Progress::Open | Progress::Given | Progress::Abandoned => return None,
    };
    if world.processes.get(inquiry.task.pid).is_some_and(|process| process.entered) {
        return None;
    }
    let client = world.containers.of_socket(&inquiry.socket, inquiry.begun)?;
    let name = wanted(world, inquiry)?;
    let holder = world.last_holder(&name, &client, inquiry.decided);
    Some(LostName { inquiry: id, client, name, holder, symptom })
}

/// Of the names that were tried, the shortest that means something here.
fn wanted(world: &World, inquiry: &Inquiry) -> Option<String> {
    let known = inquiry.questions.iter().map(|question| &question.name).filter(|name| world.is_name_of_interest(name));
    known.min_by_key(|name| name.len()).cloned()
}
