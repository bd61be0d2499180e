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
use crate::engine::world::terminations::{Termination, TerminationId};
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

/// A container's termination began, or went on.
#[must_use]
pub fn of_container(world: &World, cases: &Cases, id: TerminationId) -> Death {
    let Some(termination) = world.terminations.get(id) else { return Death::Silent };
    let key = CaseKey::Termination(id);
    if let Some(case) = case_of_termination(world, cases, termination) {
        return Death::Joins(case, key);
    }
    // Its incident is closed: only what it breaks later is another one.
    let told = cases.was_closed(&key);
    if !told && exit::of_termination(world, termination).stands_alone() { Death::Opens(key) } else { Death::Silent }
}

/// The case that a termination belongs to already.
#[must_use]
pub fn case_of_termination(world: &World, cases: &Cases, termination: &Termination) -> Option<CaseId> {
    if let Some(case) = cases.of_key(&CaseKey::Termination(termination.id)) {
        return Some(case);
    }
    if let Some(root) = termination.root
        && let Some(case) = cases.open().find(|case| case.workers.contains(&root))
    {
        return Some(case.id);
    }
    termination.down()?;
    let own = exit::of_termination(world, termination);
    // The whole loop: deaths for other reasons may lie between.
    let before = |termination: &Termination| termination.previous.and_then(|id| world.terminations.get(id));
    let mut earlier = std::iter::successors(before(termination), |termination| before(termination));
    let same = earlier.find(|earlier| same_way(&exit::of_termination(world, earlier), &own))?;
    cases.of_key(&CaseKey::Termination(same.id))
}

fn same_way(one: &Account, two: &Account) -> bool {
    one.kind == two.kind && one.signal == two.signal && one.exit_code == two.exit_code
}

/// A process died that served and was not its container's first.
#[must_use]
pub fn of_worker(world: &World, pid: Pid) -> Death {
    let Some(account) = exit::of_worker(world, pid) else { return Death::Silent };
    let going_down = world.container_of(pid).and_then(|id| world.terminations.current(&id, account.at).map(|d| d.id));
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
