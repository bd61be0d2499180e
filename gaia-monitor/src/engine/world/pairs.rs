//! Primaries and candidates: declared by `X_ENDPOINT` and `X_FALLBACK_ENDPOINT` in any container's environment, else
//! by the habit of calling the candidate `NAME-candidate`.

use crate::model::event::Endpoint;
use crate::model::incident::Role;

use super::containers::{Container, Containers};

const SUFFIX: &str = "-candidate";

/// The role of a container.
#[must_use]
pub fn role_of(containers: &Containers, container: &Container) -> Role {
    let names = names_of(container);
    let endpoints = || containers.all().flat_map(|other| declared(&other.info.endpoints));
    if endpoints().any(|(_, fallback)| names.iter().any(|name| name == fallback)) {
        return Role::Candidate;
    }
    if endpoints().any(|(primary, _)| names.iter().any(|name| name == primary)) {
        return Role::Primary;
    }
    if names.iter().any(|name| name.ends_with(SUFFIX)) {
        return Role::Candidate;
    }
    let has_candidate = |name: &String| {
        let candidate = format!("{name}{SUFFIX}");
        containers.all().any(|other| names_of(other).contains(&candidate))
    };
    if names.iter().any(has_candidate) { Role::Primary } else { Role::None }
}

/// Is `primary` the primary that `candidate` stands by for?
#[must_use]
pub fn is_pair(containers: &Containers, primary: &Container, candidate: &Container) -> bool {
    let (first, second) = (names_of(primary), names_of(candidate));
    let by_declaration = containers
        .all()
        .flat_map(|other| declared(&other.info.endpoints))
        .any(|(main, fallback)| first.iter().any(|n| n == main) && second.iter().any(|n| n == fallback));
    by_declaration || first.iter().any(|name| second.contains(&format!("{name}{SUFFIX}")))
}

/// Pairs of hosts (primary, fallback) that one environment declares.
fn declared(endpoints: &[Endpoint]) -> impl Iterator<Item = (&String, &String)> {
    endpoints.iter().filter(|endpoint| endpoint.fallback).filter_map(|fallback| {
        let primary = endpoints.iter().find(|other| !other.fallback && other.prefix == fallback.prefix)?;
        Some((&primary.host, &fallback.host))
    })
}

fn names_of(container: &Container) -> Vec<String> {
    let aliases = container.info.networks.iter().flat_map(|network| network.aliases.iter().cloned());
    let own = [Some(container.info.name.clone()), container.info.service.clone()];
    own.into_iter().flatten().chain(aliases).collect()
}
