//! Failover pairs of a primary and a candidate: declared by `X_ENDPOINT` and `X_FALLBACK_ENDPOINT` in any container's
//! environment, else derived from the naming convention `NAME-candidate`.
//!
//! Several stacks on one host may use the same names. A name refers to a container in the Compose project of its user,
//! or on a network with it. Only if no such container has the name, it refers to any container that does, except one of
//! another project.

use crate::model::candidate;
use crate::model::event::DeclaredEndpoint;
use crate::model::ids::ContainerId;
use crate::model::incident::Role;

use crate::engine::world::World;
use crate::engine::world::containers::Container;
use crate::engine::world::dns::names::Names;

/// The containers among which pairs are searched.
#[derive(Clone, Copy, Debug)]
pub struct FailoverPairs<'a> {
    all: &'a [&'a Container],
    names: &'a Names,
}

impl World {
    /// The role of a container among all containers.
    #[must_use]
    pub fn role_of(&self, container: &Container) -> Role {
        FailoverPairs::among(&self.containers.all().collect::<Vec<_>>(), &self.names).role_of(container)
    }

    /// The failover candidate of a container: as its client declares it, as any container does, or by the naming convention.
    #[must_use]
    pub fn candidate_of(&self, primary: &Container, client: Option<&ContainerId>) -> Option<ContainerId> {
        let all = self.containers.all().collect::<Vec<_>>();
        let pairs = FailoverPairs::among(&all, &self.names);
        let found = pairs.candidates_of(primary).max_by_key(|(by, candidate)| {
            let declared_by_client = by.is_some_and(|by| client == Some(&by.info.id));
            (declared_by_client, by.is_some(), candidate.down.is_none())
        });
        found.map(|(_, candidate)| candidate.info.id.clone())
    }

    /// Whether `candidate` is the failover candidate of `primary`.
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
        if self.declared().any(|(by, _, fallback)| self.refers_to(by, fallback, container)) {
            return Role::Candidate;
        }
        if self.declared().any(|(by, primary, _)| self.refers_to(by, primary, container)) {
            return Role::Primary;
        }
        if names_of(container).any(|name| candidate::primary_of(name).is_some()) {
            return Role::Candidate;
        }
        if self.all.iter().any(|other| self.by_naming(container, other)) { Role::Primary } else { Role::None }
    }

    /// Whether `candidate` is the failover candidate of `primary`.
    #[must_use]
    pub fn is_pair(self, primary: &Container, candidate: &Container) -> bool {
        let declared = |(by, main, other): (_, &str, &str)| {
            self.refers_to(by, main, primary) && self.refers_to(by, other, candidate)
        };
        self.declared().any(declared) || self.by_naming(primary, candidate)
    }

    /// The candidates of a container, each with the container that declares it.
    fn candidates_of(self, primary: &'a Container) -> impl Iterator<Item = (Option<&'a Container>, &'a Container)> {
        let declared = self.declared().filter(move |(by, main, _)| self.refers_to(by, main, primary));
        let declared =
            declared.flat_map(move |(by, _, other)| self.matching(by, other).map(move |found| (Some(by), found)));
        let named = names_of(primary).map(candidate::candidate_of).collect::<Vec<_>>();
        let is_named =
            move |other: &&Container| named.iter().any(|name| has_name(other, name)) && self.by_naming(primary, other);
        declared.chain(self.all.iter().copied().filter(is_named).map(|found| (None, found)))
    }

    /// Declared pairs: the declaring container, and the names of primary and candidate.
    pub fn declared(self) -> impl Iterator<Item = (&'a Container, &'a str, &'a str)> {
        self.all.iter().flat_map(|by| declared(&by.info.endpoints).map(|(main, other)| (*by, main, other)))
    }

    /// The containers that `by` refers to by a name.
    pub fn matching(self, by: &'a Container, name: &'a str) -> impl Iterator<Item = &'a Container> {
        let named = self.all.iter().copied().filter(move |other| has_name(other, name));
        named.filter(move |other| self.refers_to(by, name, other))
    }

    /// Pairs by the naming convention: a container with the candidate's name, and the names of primary and candidate.
    pub fn habitual(self) -> impl Iterator<Item = (&'a Container, &'a str, &'a str)> {
        self.all.iter().flat_map(|by| names_of(by).filter_map(|name| Some((*by, candidate::primary_of(name)?, name))))
    }

    fn refers_to(self, by: &Container, name: &str, container: &Container) -> bool {
        if !has_name(container, name) {
            return false;
        }
        // Never a container of another project, even while the own project is still starting.
        let foreign = by.info.project.is_some() && container.info.project.is_some();
        let is_near = |other: &Container| has_name(other, name) && self.is_near(by, other);
        self.is_near(by, container) || (!foreign && !self.all.iter().any(|other| is_near(other)))
    }

    /// `NAME` and `NAME-candidate`.
    fn by_naming(self, primary: &Container, candidate: &Container) -> bool {
        let mut bases = names_of(candidate).filter_map(candidate::primary_of);
        bases.any(|base| self.refers_to(candidate, base, primary))
    }

    /// Whether two containers are of one stack: in one Compose project, or on one network.
    #[must_use]
    pub fn is_near(self, one: &Container, other: &Container) -> bool {
        let together = one.info.project.is_some() && one.info.project == other.info.project;
        together || self.names.shared_network(&one.info.id, &other.info.id)
    }
}

fn has_name(container: &Container, name: &str) -> bool {
    names_of(container).any(|own| own == name)
}

/// The host names (primary, fallback) declared by one environment.
fn declared(endpoints: &[DeclaredEndpoint]) -> impl Iterator<Item = (&str, &str)> {
    endpoints.iter().filter(|endpoint| endpoint.fallback).filter_map(|fallback| {
        let primary = endpoints.iter().find(|other| !other.fallback && other.prefix == fallback.prefix)?;
        Some((primary.host.as_str(), fallback.host.as_str()))
    })
}

/// The names by which other containers reach a container: its Compose service, and what Docker's DNS server resolves.
pub fn names_of(container: &Container) -> impl Iterator<Item = &str> {
    container.info.service.as_deref().into_iter().chain(container.info.dns_names())
}
