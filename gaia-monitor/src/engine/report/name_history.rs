//! Timeline entries about names: no longer resolved, still resolved after a termination, resolved again.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::engine::failures::happy_eyeballs;
use crate::engine::incidents::case::Case;
use crate::engine::world::containers::Container;
use crate::engine::world::dns::names::{Observer, ResponseSpan};
use crate::model::incident::{HOST, TimelineSource};
use crate::model::time::Stamp;

use crate::engine::causes;
use crate::engine::context::Context;
use crate::engine::report::timeline::TimelineLine;
use crate::engine::types::verdict::Verdict;

/// Failures whose lookups are searched, the first ones.
const SHARED: usize = 20;

/// Entries about the names of the case's container, and about names of failed lookups.
pub fn lines(ctx: Context, case: &Case, verdict: &Verdict, from: Stamp, lines: &mut Vec<TimelineLine>) {
    let container = verdict.container.as_ref().filter(|_| causes::of(&case.key).is_event());
    let mut names = ctx.names_of(case);
    names.extend(container.into_iter().flat_map(|id| ctx.world.names.of(id)));
    for name in names {
        let concerns = |observer: &Observer| {
            container.is_none_or(|holder| ctx.world.names.can_mean(&observer.container, name, holder))
        };
        for (observer, spans) in ctx.world.names.said(name).filter(|(observer, _)| concerns(observer)) {
            let observer = observer_name(ctx, observer);
            let before = std::iter::once(None).chain(spans.iter().map(Some));
            for (span, before) in spans.iter().zip(before) {
                if span.first >= from {
                    push_change(name, &observer, span, before, lines);
                }
                let terminated = container.and_then(|id| ctx.world.containers.get(id));
                if let Some(place) = terminated.and_then(|terminated| stale(ctx, case, terminated, span)) {
                    let text = format!("{name} still resolved for {observer}: {place}");
                    lines.push(TimelineLine::new(span.last, TimelineSource::Dns, text));
                }
            }
        }
    }
}

/// Names that lead to several containers, of which one failed: a client that takes another address meets another server.
pub fn shared(ctx: Context, case: &Case, lines: &mut Vec<TimelineLine>) {
    let mut known = BTreeSet::new();
    for failure in ctx.failures_of(case).take(SHARED).filter(|failure| happy_eyeballs::is_attempt(failure)) {
        let Some(pid) = failure.client_pid else { continue };
        let requested = happy_eyeballs::requested(ctx.world, failure).ip();
        let Some(lookup) = ctx.world.lookups.that_gave(pid, requested, failure.at()) else { continue };
        let holder = |ip: IpAddr| {
            let container = ctx.world.containers.get(&ctx.world.containers.of_address(ip, lookup.decided)?)?;
            Some(format!("{} ({ip})", container.info.name))
        };
        let holders: BTreeSet<String> = lookup.addresses().filter_map(holder).collect();
        if holders.len() < 2 {
            continue;
        }
        let client = failure.entry.client.container.as_deref().unwrap_or(HOST);
        let all = holders.into_iter().collect::<Vec<_>>().join(", ");
        let text = format!("{} has several addresses for {client}: {all}", lookup.name());
        if known.insert(text.clone()) {
            lines.push(TimelineLine::new(lookup.decided, TimelineSource::Dns, text));
        }
    }
}

fn observer_name(ctx: Context, observer: &Observer) -> String {
    let container = ctx.world.containers.get(&observer.container);
    let name = container.map_or(observer.container.short(), |container| container.info.name.as_str());
    if observer.monitor { format!("the monitor inside {name}") } else { name.to_owned() }
}

fn push_change(
    name: &str,
    observer: &str,
    span: &ResponseSpan,
    before: Option<&ResponseSpan>,
    lines: &mut Vec<TimelineLine>,
) {
    let refused_before = before.is_some_and(|before| before.address.is_none());
    let text = match (span.address, refused_before) {
        (None, _) => format!("{name} does not resolve for {observer}: {}", span.said),
        (Some(address), true) => format!("{name} resolves for {observer} again: {address}"),
        (Some(_), false) => return,
    };
    lines.push(TimelineLine::new(span.first, TimelineSource::Dns, text));
}

/// The text about a response that contains the address of a terminated container which had not been restarted.
fn stale(ctx: Context, case: &Case, terminated: &Container, span: &ResponseSpan) -> Option<String> {
    let address = span.address?;
    let terminations = case.terminations.iter().filter_map(|id| ctx.world.terminations.get(*id));
    let down = terminations.filter_map(|termination| termination.down()).filter(|down| *down < span.last).max()?;
    let started = terminated.starts.iter().find(|start| **start > down);
    if started.is_some_and(|start| *start <= span.last) {
        return None;
    }
    let holder = ctx.world.containers.of_address(address, span.last)?;
    let millis = span.last.since(down).0 / 1_000_000;
    (holder == terminated.info.id).then(|| format!("{address}, {millis} ms after its container had ended"))
}
