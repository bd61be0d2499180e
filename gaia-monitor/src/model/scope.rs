//! Scope of a run: whether a container is selected by the given Compose projects, name globs and labels.

use wildmatch::WildMatch;

use crate::model::event::ContainerInfo;
use crate::model::settings::Scope;

/// Whether the scope excludes anything; a scope of empty lists selects every container.
#[must_use]
pub fn is_limited(scope: &Scope) -> bool {
    !(scope.projects.is_empty() && scope.containers.is_empty() && scope.labels.is_empty())
}

/// Whether each non-empty list of the scope has a match for the container.
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

/// Matches the whole name: `*` is any text, `?` one character, and no other character is special.
fn matches(glob: &str, name: &str) -> bool {
    WildMatch::new(glob).matches(name)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn matches_whole_names() {
        for (glob, name) in
            [("gaia-*", "gaia-core"), ("*", ""), ("gaia-?ore", "gaia-core"), ("*-candidate", "a-candidate")]
        {
            assert!(matches(glob, name), "{glob} {name}");
        }
        for (glob, name) in [("gaia-*", "my-gaia-core"), ("gaia-?", "gaia-"), ("core", "gaia-core"), ("", "x")] {
            assert!(!matches(glob, name), "{glob} {name}");
        }
    }

    #[test]
    fn treats_no_character_but_the_two_wildcards_as_special() {
        for (glob, name) in
            [("a/*", "a/b/c"), ("a?c", "aäc"), ("[a]", "[a]"), ("{a,b}", "{a,b}"), (r"\*", r"\x"), ("", "")]
        {
            assert!(matches(glob, name), "{glob} {name}");
        }
        for (glob, name) in [("[a]", "a"), ("{a,b}", "a"), (r"\*", "*"), ("A*", "abc")] {
            assert!(!matches(glob, name), "{glob} {name}");
        }
    }
}
