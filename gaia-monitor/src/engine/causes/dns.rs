//! `dns_gone`: a name that does not resolve, or a server whose own failed lookup broke its outstanding response.
//!
//! Opens when: a lookup fails and neither a termination nor an outage of the container that has the name explains it; a
//! live server breaks a response after its own lookup failed between the request's first byte and the close.
//! Closes when: the name resolves again for a client that had been refused.
//! Stays silent when: the name means nothing on this host (see `failures/failed_lookup`).
//! Moment: the first failed lookup affected, or the server's own.
//! Distinguished from: `app_closed` by the failed lookup; from terminations and outages by the container, which runs and
//! is attached.

use crate::engine::context::Context;
use crate::engine::failures::table::Failure;
use crate::engine::incidents::case::Case;
use crate::engine::types::cause::{Attribution, CaseKey, LookupTarget};
use crate::engine::types::evidence::Evidence;
use crate::engine::types::verdict::{Judgement, Verdict};
use crate::engine::world::World;
use crate::model::event::ContainerInfo;
use crate::model::ids::ContainerId;
use crate::model::incident::{Alternative, CauseKind, Condition, ConditionKind, Confidence, MomentFact};
use crate::model::time::Stamp;

use super::{
    Cause, LOSS_SHADOW, Requirements, Situation, Step, against, application, awaited, base_verdict, lasting, outage,
    pid_text, termination,
};

/// No container event explains the failed lookup.
pub const STEP: Step = Step { name: "`dns_gone`", attribute };

pub struct DnsCause;

fn attribute(_ctx: Context, situation: &Situation) -> Option<Attribution> {
    let failure = situation.failure;
    let name = failure.name.as_deref().unwrap_or_default();
    let (target, reason) = match &failure.route.container {
        Some(id) => {
            let reason = format!("the name {name} did not resolve, and no container event explains it");
            (LookupTarget::Container(id.clone()), reason)
        }
        None => {
            let reason = format!("no container of this host ever had the name {name}, which an environment contains");
            (LookupTarget::Name(name.to_owned()), reason)
        }
    };
    Some(Attribution::to(CaseKey::Name { target, server: None }, Evidence::None, reason))
}

/// The response that a server broke after its own lookup had failed. The lookup itself belongs to the event that removed
/// the name, if there was one; without one both are one case.
pub(super) fn of_own_lookup(ctx: Context, lookup: &Failure) -> Attribution {
    let name = lookup.name.clone().unwrap_or_default();
    let behind = lookup.case.and_then(|case| ctx.cases.get(case)).map(|case| &case.key);
    let key = match behind {
        Some(key @ CaseKey::Name { server: None, .. }) => key.clone(),
        Some(_) | None => {
            let holder = lookup.route.container.clone();
            let target = holder.map_or_else(|| LookupTarget::Name(name.clone()), LookupTarget::Container);
            CaseKey::Name { target, server: lookup.client_container.clone() }
        }
    };
    let reason = format!("the server's own lookup of {name} had failed before");
    Attribution::to(key, Evidence::OwnLookup { failure: lookup.id }, reason)
}

fn parts(key: &CaseKey) -> Option<(&LookupTarget, Option<&ContainerId>)> {
    if let CaseKey::Name { target, server } = key { Some((target, server.as_ref())) } else { None }
}

fn holder(key: &CaseKey) -> Option<&ContainerId> {
    match parts(key)?.0 {
        LookupTarget::Container(id) => Some(id),
        LookupTarget::Name(_) => None,
    }
}

/// A case about lookups of a name of this container, or by it: a container that is off its network resolves no name.
#[must_use]
pub fn concerns(ctx: Context, case: &Case, container: &ContainerId) -> bool {
    parts(&case.key).is_some()
        && (holder(&case.key) == Some(container)
            || ctx.failures_of(case).any(|failure| failure.client_container.as_ref() == Some(container)))
}

impl Cause for DnsCause {
    fn kinds(&self) -> &'static [CauseKind] {
        &[CauseKind::DnsGone]
    }

    fn subject<'a>(&self, _world: &'a World, key: &'a CaseKey) -> Option<&'a ContainerId> {
        parts(key)?.1.or(holder(key))
    }

    /// The summary names the name itself.
    fn subject_without_container(&self) -> &'static str {
        ""
    }

    fn verdict(&self, ctx: Context, case: &Case) -> Verdict {
        let own = ctx.earlier_failures_of(case).next();
        let server = parts(&case.key).and_then(|(_, server)| server);
        let server = server.or(own.and_then(|own| own.client_container.as_ref()));
        let base = base_verdict(ctx, case, CauseKind::DnsGone, server.or(holder(&case.key)));
        let lookups = ctx.failures_of(case).filter(|failure| failure.is_lookup()).chain(ctx.earlier_failures_of(case));
        let at = lookups.map(Failure::at).min().unwrap_or(base.at);
        let pid = own.map_or(base.pid, |own| own.client_pid);
        // That the lookup broke the response is inferred from their order.
        let confidence = if own.is_some() { Confidence::Likely } else { Confidence::Certain };
        let comm = pid.and_then(|pid| ctx.comm(pid));
        Verdict { at, fact: MomentFact::DnsFailed, pid, comm, confidence, ..base }
    }

    fn summary(&self, ctx: Context, case: &Case, verdict: &Verdict) -> String {
        let names = ctx.names_of(case).into_iter().collect::<Vec<_>>().join(", ");
        if let Some(client) = apart(ctx, case) {
            return format!(
                "{names} does not resolve for {client}: the two share no network, and Docker resolves per network"
            );
        }
        match (ctx.earlier_failures_of(case).next(), &verdict.container) {
            (Some(own), Some(_)) => {
                let errno = own.entry.client_error.errno.as_deref().unwrap_or("no response");
                format!("its own lookup of {names} failed ({errno}), and its outstanding response broke")
            }
            (_, Some(_)) => format!("{names} does not resolve, and no event explains why"),
            (_, None) => {
                format!("{names}: no container of this host has this name, and it does not resolve")
            }
        }
    }

    fn alternatives(&self, ctx: Context, case: &Case, verdict: &Verdict) -> Vec<Alternative> {
        let Some(own) = ctx.earlier_failures_of(case).next() else {
            return vec![
                against(
                    termination::STOPPED,
                    "no container with this name was going down, or was down, at the time of the lookup",
                ),
                against(outage::DISCONNECTED, "Docker had detached neither of the two containers from a network"),
            ];
        };
        let name = own.name.as_deref().unwrap_or("another container");
        let pid = pid_text(verdict);
        let sentence = format!("a lookup of {name} by {pid} failed between the request and the close");
        vec![against(application::APP_CLOSED, sentence)]
    }

    fn condition(&self, ctx: Context, case: &Case, verdict: &Verdict) -> Option<Condition> {
        let names = ctx.names_of(case).into_iter();
        let until = names.filter_map(|name| ctx.world.names.back(name, verdict.at)).min();
        lasting(ConditionKind::NameGone, verdict.at, until)
    }

    fn is_awaited(&self, ctx: Context, case: &Case, _judgement: &Judgement) -> bool {
        parts(&case.key).is_some_and(|(target, _)| awaited::resolves(ctx, target))
    }

    /// No event that removed the name was observed: it may have been lost at any time since the name last resolved.
    fn evidence_since(&self, ctx: Context, key: &CaseKey, opened: Stamp, begun: Stamp) -> Stamp {
        let Some((target, None)) = parts(key) else { return begun.min(opened).minus(LOSS_SHADOW) };
        let resolved = |name: &str| ctx.world.names.last_given(name, opened);
        let last = match target {
            LookupTarget::Container(id) => ctx.world.names.of(id).filter_map(resolved).max(),
            LookupTarget::Name(name) => resolved(name),
        };
        last.unwrap_or_default().minus(LOSS_SHADOW)
    }

    fn requirements(&self) -> Requirements {
        Requirements { connection_events: true, ..Requirements::default() }
    }
}

/// The client of the first failed lookup with its networks, if the container that has the name is on none of them.
fn apart(ctx: Context, case: &Case) -> Option<String> {
    let first = ctx.failures_of(case).find(|failure| failure.is_lookup())?;
    let (client, holder) = (first.client_container.as_ref()?, holder(&case.key)?);
    let [client, holder_info] =
        [client, holder].map(|id| ctx.world.containers.get(id).map(|container| &container.info));
    let (client_info, holder_info) = (client?, holder_info?);
    let networks =
        |info: &ContainerInfo| info.networks.iter().map(|it| it.network.clone()).collect::<Vec<_>>().join(", ");
    let (own, other) = (networks(client_info), networks(holder_info));
    let shared = ctx.world.names.shared_network(&client_info.id, holder);
    (!shared && !own.is_empty() && !other.is_empty())
        .then(|| format!("{}: it is on {own}, the container with the name on {other}", client_info.name))
}
