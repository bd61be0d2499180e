//! The labels of a container that a run keeps: those of Compose, and those that the scope names.
//!
//! Every fact is recorded, and other labels hold tokens, basic-auth users and documents of megabytes: they leave this file
//! neither whole nor in part.

use std::collections::{BTreeMap, HashMap};

pub const PROJECT: &str = "com.docker.compose.project";
pub const SERVICE: &str = "com.docker.compose.service";

/// What Compose writes begins with this. Anyone may write more of it, therefore the bounds.
const COMPOSE: &str = "com.docker.compose.";

/// Labels of Compose that are kept; Compose itself sets about a dozen.
const COMPOSE_LABELS: usize = 32;

/// Bytes of a name, and of a value. A longer value is cut, a label with a longer name is omitted. The longest that Compose
/// writes are paths and a digest.
const LENGTH: usize = 1_024;

/// `scope`: the labels that `--label` lists, `KEY=VALUE` or `KEY`.
#[must_use]
pub fn kept(labels: HashMap<String, String>, scope: &[String]) -> BTreeMap<String, String> {
    let (named, mut compose): (Vec<_>, Vec<_>) = labels
        .into_iter()
        .filter(|(key, value)| is_named(scope, key, value) || key.starts_with(COMPOSE) && key.len() <= LENGTH)
        .partition(|(key, value)| is_named(scope, key, value));
    // The two that identify a container never give way to others.
    compose.sort_by_key(|(key, _)| (![PROJECT, SERVICE].contains(&key.as_str()), key.clone()));
    compose.truncate(COMPOSE_LABELS);
    let bounded = compose.into_iter().map(|(key, value)| (key, cut(value, LENGTH)));
    // A value that the scope contains has its length already; that of a bare key is the container's.
    let named = named.into_iter().map(|(key, value)| {
        let listed = scope.iter().any(|label| label.split_once('=') == Some((key.as_str(), value.as_str())));
        (key, if listed { value } else { cut(value, LENGTH) })
    });
    bounded.chain(named).collect()
}

/// Another value than the one that the scope lists is not named by it, and decides the same when it is missing.
fn is_named(scope: &[String], key: &str, value: &str) -> bool {
    scope.iter().any(|label| match label.split_once('=') {
        Some(listed) => listed == (key, value),
        None => label == key,
    })
}

fn cut(mut value: String, length: usize) -> String {
    value.truncate(value.floor_char_boundary(length));
    value
}

#[cfg(test)]
mod tests {
    use super::{COMPOSE_LABELS, LENGTH, PROJECT, SERVICE, kept};

    fn keys(labels: &[(&str, &str)], scope: &[&str]) -> Vec<String> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let scope: Vec<_> = scope.iter().map(|label| (*label).to_owned()).collect();
        kept(labels, &scope).into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn keeps_labels_of_compose_and_of_the_scope() {
        let labels = [
            (PROJECT, "gaia"),
            (SERVICE, "core"),
            ("tier", "backend"),
            ("team", "a"),
            ("traefik.http.middlewares.auth.basicauth.users", "admin:$apr1$secret"),
            ("com.docker.composed", "no"),
        ];
        let compose = ["com.docker.compose.project=gaia", "com.docker.compose.service=core"];
        assert_eq!(keys(&labels, &[]), compose);
        assert_eq!(keys(&labels, &["tier=backend"]), [&compose[..], &["tier=backend"]].concat());
        assert_eq!(keys(&labels, &["tier"]), [&compose[..], &["tier=backend"]].concat());
        assert_eq!(keys(&labels, &["tier=frontend", "TIER", "tie"]), compose);
    }

    #[test]
    fn bounds_what_a_container_can_make_it_keep() {
        let long = "ä".repeat(1 << 20);
        let named = format!("com.docker.compose.{long}");
        let many: Vec<_> = (0..1_000).map(|number| format!("com.docker.compose.a{number:04}")).collect();
        let mut labels = vec![(SERVICE, long.as_str()), (PROJECT, "gaia"), ("tier", &long), (&named, "x")];
        labels.extend(many.iter().map(|key| (key.as_str(), "x")));
        let kept = keys(&labels, &["tier"]);
        assert_eq!(kept.len(), COMPOSE_LABELS + 1);
        assert!(kept.contains(&"com.docker.compose.project=gaia".to_owned()));
        assert!(kept.iter().any(|label| label.starts_with(SERVICE)));
        assert!(kept.iter().all(|label| label.len() <= LENGTH + SERVICE.len() + 1));
        let scope = format!("tier={long}");
        assert!(keys(&labels, &[&scope]).contains(&scope), "a value that the scope lists stays whole");
    }
}
