//! Primaries and candidates: declared by `X_ENDPOINT` and `X_FALLBACK_ENDPOINT` in any container's environment, else
//! by the habit of calling the candidate `NAME-candidate`.
//!
//! Several stacks of one host may use the same names. Whoever names a container means one that is near, in its Compose
//! project or on a network with it; only where nobody near has the name, anybody who has it and is of no other project.

use crate::model::event::DeclaredEndpoint;
use crate::model::incident::Role;

use crate::engine::world::World;
use crate::engine::world::containers::Container;
use crate::engine::world::dns::names::Names;

const SUFFIX: &str = "-candidate";

/// Containers that can be meant.
#[derive(Clone, Copy, Debug)]
pub struct FailoverPairs<'a> {
    all: &'a [&'a Container],
    names: &'a Names,
}

impl World {
    /// The role of a container among all that are known.
    #[must_use]
    pub fn role_of(&self, container: &Container) -> Role {
        FailoverPairs::among(&self.containers.all().collect::<Vec<_>>(), &self.names).role_of(container)
    }

    /// Is `primary` the primary that `candidate` stands by for?
    #[must_use]
    pub fn is_pair(&self, primary: &Container, candidate: &Container) -> bool {
        FailoverPairs::among(&self.containers.all().collect::<Vec<_>>(), &self.names).is_pair(primary, candidate)
    }
}

impl<'a> FailoverPairs<'a> {
    #[must_use]
    pub fn among(all: &'a [&'a Container], names: &'a Names) -> Self {
        Self { all, names }
    }

    /// The role of a container.
    #[must_use]
    pub fn role_of(self, container: &Container) -> Role {
        if self.declared().any(|(by, _, fallback)| self.means(by, fallback, container)) {
            return Role::Candidate;
        }
        if self.declared().any(|(by, primary, _)| self.means(by, primary, container)) {
            return Role::Primary;
        }
        if names_of(container).any(|name| name.ends_with(SUFFIX)) {
            return Role::Candidate;
        }
        if self.all.iter().any(|other| self.by_habit(container, other)) { Role::Primary } else { Role::None }
    }

    /// Is `primary` the primary that `candidate` stands by for?
    #[must_use]
    pub fn is_pair(self, primary: &Container, candidate: &Container) -> bool {
        let declared =
            |(by, main, other): (_, &str, &str)| self.means(by, main, primary) && self.means(by, other, candidate);
        self.declared().any(declared) || self.by_habit(primary, candidate)
    }

    /// Who declares a pair, and the names of its primary and its candidate.
    pub fn declared(self) -> impl Iterator<Item = (&'a Container, &'a str, &'a str)> {
        self.all.iter().flat_map(|by| declared(&by.info.endpoints).map(|(main, other)| (*by, main, other)))
    }

    /// Those whom a container means by a name.
    pub fn meant(self, by: &'a Container, name: &'a str) -> impl Iterator<Item = &'a Container> {
        let has = self.all.iter().copied().filter(move |other| has(other, name));
        has.filter(move |other| self.means(by, name, other))
    }

    fn means(self, by: &Container, name: &str, container: &Container) -> bool {
        if !has(container, name) {
            return false;
        }
        // Of another project nobody is meant, also while the own one is still being started.
        let foreign = by.info.project.is_some() && container.info.project.is_some();
        let near = |other: &Container| has(other, name) && self.near(by, other);
        self.near(by, container) || (!foreign && !self.all.iter().any(|other| near(other)))
    }

    /// `NAME` and `NAME-candidate`.
    fn by_habit(self, primary: &Container, candidate: &Container) -> bool {
        let mut bases = names_of(candidate).filter_map(|name| name.strip_suffix(SUFFIX));
        bases.any(|base| self.means(candidate, base, primary))
    }

    fn near(self, one: &Container, other: &Container) -> bool {
        let together = one.info.project.is_some() && one.info.project == other.info.project;
        together || self.names.shared_network(&one.info.id, &other.info.id)
    }
}

fn has(container: &Container, name: &str) -> bool {
    names_of(container).any(|own| own == name)
}

/// FailoverPairs of hosts (primary, fallback) that one environment declares.
fn declared(endpoints: &[DeclaredEndpoint]) -> impl Iterator<Item = (&str, &str)> {
    endpoints.iter().filter(|endpoint| endpoint.fallback).filter_map(|fallback| {
        let primary = endpoints.iter().find(|other| !other.fallback && other.prefix == fallback.prefix)?;
        Some((primary.host.as_str(), fallback.host.as_str()))
    })
}

/// The names by which others find a container.
pub fn names_of(container: &Container) -> impl Iterator<Item = &str> {
    let aliases = container.info.networks.iter().flat_map(|network| &network.aliases);
    let own = [Some(&container.info.name), container.info.service.as_ref()];
    own.into_iter().flatten().chain(aliases).map(String::as_str)
}

/// FailoverPairs by the habit: the names of primary and candidate, where both are there.
#[must_use]
pub fn habitual<'a>(containers: &[&'a Container]) -> Vec<(&'a str, &'a str)> {
    let names: std::collections::BTreeSet<&str> = containers.iter().copied().flat_map(names_of).collect();
    let pair = |candidate: &&'a str| Some((*names.get(candidate.strip_suffix(SUFFIX)?)?, *candidate));
    names.iter().filter_map(pair).collect()
}
