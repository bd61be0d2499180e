//! Which containers a run is about: projects, name globs and labels, all of which must match.

use crate::model::event::ContainerInfo;
use crate::model::settings::Scope;

/// Empty lists limit nothing.
#[must_use]
pub fn is_limited(scope: &Scope) -> bool {
    !(scope.projects.is_empty() && scope.containers.is_empty() && scope.labels.is_empty())
}

#[must_use]
pub fn contains(scope: &Scope, info: &ContainerInfo) -> bool {
    let project = info.project.as_ref();
    let by_project = scope.projects.is_empty() || project.is_some_and(|project| scope.projects.contains(project));
    let by_name = scope.containers.is_empty() || scope.containers.iter().any(|glob| matches(glob, &info.name));
    let by_label = scope.labels.is_empty() || scope.labels.iter().any(|label| has_label(info, label));
    by_project && by_name && by_label
}

fn has_label(info: &ContainerInfo, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => info.labels.get(key).is_some_and(|found| found == value),
        None => info.labels.contains_key(wanted),
    }
}

/// `*` stands for any text, `?` for one character.
fn matches(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    // One row of the usual table: which prefixes of the name the glob so far can match.
    let mut reach = vec![false; name.len() + 1];
    if let Some(first) = reach.first_mut() {
        *first = true;
    }
    for wanted in glob {
        let mut next = vec![false; name.len() + 1];
        for (at, slot) in next.iter_mut().enumerate() {
            let before = at > 0 && reach.get(at - 1).copied().unwrap_or(false);
            *slot = match wanted {
                '*' => reach.iter().take(at + 1).any(|reached| *reached),
                '?' => before,
                exact => before && name.get(at - 1) == Some(&exact),
            };
        }
        reach = next;
    }
    reach.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_glob_matches_whole_names() {
        for (glob, name) in
            [("gaia-*", "gaia-core"), ("*", ""), ("gaia-?ore", "gaia-core"), ("*-candidate", "a-candidate")]
        {
            assert!(matches(glob, name), "{glob} {name}");
        }
        for (glob, name) in [("gaia-*", "my-gaia-core"), ("gaia-?", "gaia-"), ("core", "gaia-core"), ("", "x")] {
            assert!(!matches(glob, name), "{glob} {name}");
        }
    }
}
