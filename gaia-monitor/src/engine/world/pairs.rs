//! Primaries and candidates: declared by `X_ENDPOINT` and `X_FALLBACK_ENDPOINT` in any container's environment, else
//! by the habit of calling the candidate `NAME-candidate`.

use std::collections::BTreeSet;

use crate::model::event::Endpoint;
use crate::model::incident::Role;

use super::containers::{Container, Containers};

const SUFFIX: &str = "-candidate";

/// The role of a container.
#[must_use]
pub fn role_of(containers: &Containers, container: &Container) -> Role {
    let names: Vec<&str> = names_of(container).collect();
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
    let has_candidate = |name: &&str| {
        let candidate = format!("{name}{SUFFIX}");
        containers.all().any(|other| names_of(other).any(|name| name == candidate))
    };
    if names.iter().any(has_candidate) { Role::Primary } else { Role::None }
}

/// Is `primary` the primary that `candidate` stands by for?
#[must_use]
pub fn is_pair(containers: &Containers, primary: &Container, candidate: &Container) -> bool {
    let (first, second): (Vec<&str>, Vec<&str>) = (names_of(primary).collect(), names_of(candidate).collect());
    let by_declaration = containers
        .all()
        .flat_map(|other| declared(&other.info.endpoints))
        .any(|(main, fallback)| first.iter().any(|n| n == main) && second.iter().any(|n| n == fallback));
    by_declaration || second.iter().any(|name| name.strip_suffix(SUFFIX).is_some_and(|name| first.contains(&name)))
}

/// Pairs of hosts (primary, fallback) that one environment declares.
fn declared(endpoints: &[Endpoint]) -> impl Iterator<Item = (&String, &String)> {
    endpoints.iter().filter(|endpoint| endpoint.fallback).filter_map(|fallback| {
        let primary = endpoints.iter().find(|other| !other.fallback && other.prefix == fallback.prefix)?;
        Some((&primary.host, &fallback.host))
    })
}

/// The names by which others find a container.
pub fn names_of(container: &Container) -> impl Iterator<Item = &str> {
    let aliases = container.info.networks.iter().flat_map(|network| &network.aliases);
    let own = [Some(&container.info.name), container.info.service.as_ref()];
    own.into_iter().flatten().chain(aliases).map(String::as_str)
}

/// All pairs among some containers, for who asks about each of them.
#[derive(Debug)]
pub struct Pairs<'a> {
    names: BTreeSet<&'a str>,
    /// Who declares it, the primary's name and the candidate's.
    declared: Vec<(&'a Container, &'a str, &'a str)>,
    primaries: BTreeSet<&'a str>,
    candidates: BTreeSet<&'a str>,
}

impl<'a> Pairs<'a> {
    #[must_use]
    pub fn of(containers: &[&'a Container]) -> Self {
        let declared: Vec<_> = containers
            .iter()
            .flat_map(|container| declared(&container.info.endpoints).map(|(main, other)| (*container, main, other)))
            .map(|(container, main, other)| (container, main.as_str(), other.as_str()))
            .collect();
        Self {
            names: containers.iter().flat_map(|container| names_of(container)).collect(),
            primaries: declared.iter().map(|(_, primary, _)| *primary).collect(),
            candidates: declared.iter().map(|(_, _, candidate)| *candidate).collect(),
            declared,
        }
    }

    pub fn declared(&self) -> impl Iterator<Item = (&'a Container, &'a str, &'a str)> {
        self.declared.iter().copied()
    }

    /// `NAME` and `NAME-candidate`, where both are there.
    pub fn by_habit(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pair = |candidate: &&'a str| {
            let primary = candidate.strip_suffix(SUFFIX)?;
            Some((*self.names.get(primary)?, *candidate))
        };
        self.names.iter().filter_map(pair)
    }

    /// As [`role_of`] among these containers.
    #[must_use]
    pub fn role_of(&self, container: &Container) -> Role {
        let any = |is: &dyn Fn(&str) -> bool| names_of(container).any(is);
        if any(&|name| self.candidates.contains(name)) {
            return Role::Candidate;
        }
        if any(&|name| self.primaries.contains(name)) {
            return Role::Primary;
        }
        if any(&|name| name.ends_with(SUFFIX)) {
            return Role::Candidate;
        }
        let has_candidate = |name: &str| self.names.contains(format!("{name}{SUFFIX}").as_str());
        if any(&has_candidate) { Role::Primary } else { Role::None }
    }
}
