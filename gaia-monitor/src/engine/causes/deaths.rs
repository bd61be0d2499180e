//! Deaths of containers and of their workers.
//!
//! Opens when: the process that stands for a container, or one that serves, ended and was not asked to by Docker, nor
//! in order. Joins when: a worker's death took its container along; a container that had not listened again died in
//! the same way. Stays silent when: Docker asked, or the end was orderly (such an end opens a case only through the
//! connections that it broke). Closes nothing.

use crate::engine::causes::exit::{self, Account};
use crate::engine::incidents::case::{CaseId, Cases};
use crate::engine::types::cause::CaseKey;
use crate::engine::world::World;
use crate::engine::world::terminations::{Demise, DemiseId};
use crate::model::ids::Pid;
use crate::model::incident::name_of;

/// What a death asks the engine to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Death {
    /// It belongs to this case, under this key.
    Joins(CaseId, CaseKey),
    Opens(CaseKey),
    /// Nothing to tell unless it breaks something.
    Silent,
}

/// A container's demise began, or went on.
#[must_use]
pub fn of_container(world: &World, cases: &Cases, id: DemiseId) -> Death {
    let Some(demise) = world.demises.get(id) else { return Death::Silent };
    let key = CaseKey::Demise(id);
    if let Some(case) = case_of_demise(world, cases, demise) {
        return Death::Joins(case, key);
    }
    // Its incident is closed: only what it breaks later is another one.
    let told = cases.was_closed(&key);
    if !told && exit::of_demise(world, demise).stands_alone() { Death::Opens(key) } else { Death::Silent }
}

/// The case that a demise belongs to already.
#[must_use]
pub fn case_of_demise(world: &World, cases: &Cases, demise: &Demise) -> Option<CaseId> {
    if let Some(case) = cases.of_key(&CaseKey::Demise(demise.id)) {
        return Some(case);
    }
    if let Some(root) = demise.root
        && let Some(case) = cases.open().find(|case| case.workers.contains(&root))
    {
        return Some(case.id);
    }
    demise.down()?;
    let own = exit::of_demise(world, demise);
    // The whole loop: deaths for other reasons may lie between.
    let before = |demise: &Demise| demise.after.and_then(|id| world.demises.get(id));
    let mut earlier = std::iter::successors(before(demise), |demise| before(demise));
    let same = earlier.find(|earlier| same_way(&exit::of_demise(world, earlier), &own))?;
    cases.of_key(&CaseKey::Demise(same.id))
}

fn same_way(one: &Account, two: &Account) -> bool {
    one.kind == two.kind && one.signal == two.signal && one.exit_code == two.exit_code
}

/// A process died that served and was not its container's first.
#[must_use]
pub fn of_worker(world: &World, pid: Pid) -> Death {
    let Some(account) = exit::of_worker(world, pid) else { return Death::Silent };
    let going_down = world.container_of(pid).and_then(|id| world.demises.current(&id, account.at).map(|d| d.id));
    if going_down.is_some() || !account.stands_alone() {
        return Death::Silent;
    }
    Death::Opens(worker_key(world, pid, &account))
}

#[must_use]
pub fn worker_key(world: &World, pid: Pid, account: &Account) -> CaseKey {
    let status = match (&account.signal, account.exit_code) {
        (Some(signal), _) => signal.clone(),
        (None, code) => format!("code {}", code.unwrap_or_default()),
    };
    CaseKey::Workers(world.container_of(pid), format!("{} {status}", name_of(&account.how)))
}
