//! What the timeline says of names: gone, still answered after the death, answered again.

use crate::engine::incidents::case::Case;
use crate::engine::world::containers::Container;
use crate::engine::world::dns::names::{Asker, Stretch};
use crate::model::incident::TimelineSource;
use crate::model::time::Stamp;

use crate::engine::report::incident::Sheet;
use crate::engine::report::timeline::Line;
use crate::engine::report::verdict::Verdict;

/// Lines about the names of the case's container, and of those that were looked up in vain.
pub fn lines(sheet: &Sheet, case: &Case, verdict: &Verdict, from: Stamp, lines: &mut Vec<Line>) {
    let container = verdict.container.as_ref().filter(|_| case.key.names_an_event());
    let mut names = sheet.names_of(case);
    names.extend(container.into_iter().flat_map(|id| sheet.world.names.of(id)));
    for name in names {
        let concerns =
            |asker: &Asker| container.is_none_or(|holder| sheet.world.names.can_mean(&asker.container, name, holder));
        for (asker, stretches) in sheet.world.names.said(name).filter(|(asker, _)| concerns(asker)) {
            let to = teller(sheet, asker);
            let before = std::iter::once(None).chain(stretches.iter().map(Some));
            for (stretch, before) in stretches.iter().zip(before) {
                if stretch.first >= from {
                    turn(name, &to, stretch, before, lines);
                }
                let fallen = container.and_then(|id| sheet.world.containers.get(id));
                if let Some(text) = fallen.and_then(|fallen| stale(sheet, case, fallen, stretch)) {
                    lines.push((
                        stretch.last,
                        TimelineSource::Dns,
                        format!("{name} was still answered to {to}: {text}"),
                    ));
                }
            }
        }
    }
}

fn teller(sheet: &Sheet, asker: &Asker) -> String {
    let container = sheet.world.containers.get(&asker.container);
    let name = container.map_or(asker.container.short(), |container| container.info.name.as_str());
    if asker.monitor { format!("the monitor inside {name}") } else { name.to_owned() }
}

fn turn(name: &str, to: &str, stretch: &Stretch, before: Option<&Stretch>, lines: &mut Vec<Line>) {
    let refused_before = before.is_some_and(|before| before.address.is_none());
    let text = match (stretch.address, refused_before) {
        (None, _) => format!("{name} is not answered to {to}: {}", stretch.said),
        (Some(address), true) => format!("{name} is answered to {to} again: {address}"),
        (Some(_), false) => return,
    };
    lines.push((stretch.first, TimelineSource::Dns, text));
}

/// An address of a container that was down by then, and had not been started again.
fn stale(sheet: &Sheet, case: &Case, fallen: &Container, stretch: &Stretch) -> Option<String> {
    let address = stretch.address?;
    let demises = case.demises.iter().filter_map(|id| sheet.world.demises.get(*id));
    let down = demises.filter_map(|demise| demise.down()).filter(|down| *down < stretch.last).max()?;
    let started = fallen.starts.iter().find(|start| **start > down);
    if started.is_some_and(|start| *start <= stretch.last) {
        return None;
    }
    let holder = sheet.world.containers.of_address(address, stretch.last)?;
    let millis = stretch.last.since(down).0 / 1_000_000;
    (holder == fallen.info.id).then(|| format!("{address}, where nobody was any more for {millis} ms"))
}
