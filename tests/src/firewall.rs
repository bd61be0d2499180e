//! Rules of a packet filter, set for a case and always removed.
//!
//! A rule is in a container's own network namespace, or on the host in Docker's chain for users. It matches addresses of
//! the case alone and carries the run's name; nothing else of the host's rules is touched.

use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{OnInterrupt, run};
use crate::stack::Stack;

/// The place of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The host, in the chain `DOCKER-USER`.
    Host,
    /// The network namespace of a container, by its first process.
    Container(u32),
}

/// An active rule. It is removed on drop.
#[derive(Debug)]
#[must_use = "the rule is taken back when this is dropped"]
pub struct Rule {
    place: Place,
    undo: Vec<String>,
    gone: bool,
}

impl Rule {
    /// `iptables -I CHAIN MATCHES…`, in this place.
    ///
    /// # Errors
    /// When iptables refuses.
    pub fn iptables(stack: &Stack, place: Place, chain: &str, matches: &[&str]) -> Result<Self> {
        let name = ["-m", "comment", "--comment", stack.project()];
        let rule: Vec<String> = matches.iter().chain(&name).map(|word| (*word).to_owned()).collect();
        let line = |verb: &str| {
            let head = ["iptables", "-w", verb, chain].map(str::to_owned);
            head.into_iter().chain(rule.iter().cloned()).collect::<Vec<_>>()
        };
        at(place, &line("-I"), OnInterrupt::End)?;
        Ok(Self { place, undo: line("-D"), gone: false })
    }

    /// A table of nftables of its own, with one base chain and one rule in it.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn nft(stack: &Stack, place: Place, hook: &str, rule: &str) -> Result<Self> {
        let table = stack.project().replace('-', "_");
        let text = format!("table inet {table} {{ chain own {{ type filter hook {hook} priority 0; {rule}; }}; }};");
        at(place, &["nft".to_owned(), text], OnInterrupt::End)?;
        let undo = ["nft", "delete", "table", "inet", &table].map(str::to_owned).to_vec();
        Ok(Self { place, undo, gone: false })
    }

    /// Takes it back now.
    ///
    /// # Errors
    /// When the filter refuses.
    pub fn lift(mut self) -> Result<()> {
        self.gone = true;
        at(self.place, &self.undo, OnInterrupt::Finish)
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        if let Err(error) = at(self.place, &self.undo, OnInterrupt::Finish)
            && self.place == Place::Host
        {
            // A container's rules go with its namespace; the host's would stay.
            eprintln!("a rule of the packet filter is left: {error:#}");
        }
    }
}

/// The arguments that match one address pair, as iptables takes them.
#[must_use]
pub fn between(source: IpAddr, destination: IpAddr) -> [String; 6] {
    ["-p", "tcp", "-s", &source.to_string(), "-d", &destination.to_string()].map(str::to_owned)
}

fn at(place: Place, line: &[String], on_interrupt: OnInterrupt) -> Result<()> {
    let mut command = match place {
        Place::Host => Command::new("env"),
        Place::Container(pid) => {
            let mut command = Command::new("nsenter");
            command.args(["-t", &pid.to_string(), "-n"]);
            command
        }
    };
    run(command.args(line), on_interrupt).map(drop).with_context(|| format!("setting a packet filter {place:?}"))
}
