//! A small GAIA: a primary, its candidate, a DNS server without any name, and a client that retries and then uses the
//! candidate, as gaia-web does.
//! The first attempt must fail as the live case wants; the outcome of the others is taken from httpx's own account.

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow, ensure};

use crate::client::{Client, Outcome, Pending, Request};
use crate::container::{Container, Recipe};
use crate::expect::{Break, Broken, Expected, Moment, entry, seen};
use crate::stage::{Says, Server, Stage};
use crate::witness::WallNanos;

/// Causes that belong to connections make one incident while the gaps are below this.
const ONE_INCIDENT: WallNanos = 1_000_000_000;

pub struct Gaia {
    pub core: Server,
    pub candidate: Server,
    pub web: Client,
}

/// The client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// As gaia-web: three attempts, then the candidate, which responds.
    Retries,
    /// The same, and the policy does not retry.
    Loses,
    /// One request, no pair.
    Plain,
}

/// What a retried request came to.
pub struct Fate {
    /// An entry for each attempt that broke, in order.
    pub broken: Vec<Broken>,
    pub attempts: Vec<Outcome>,
    /// What its caller saw.
    pub last: Outcome,
}

impl Gaia {
    /// uvicorn as the primary; `program` are its arguments, `recipe` changes its container.
    pub fn begin(stage: &Stage, recipe: impl FnOnce(Recipe) -> Recipe + Send, program: &[&str]) -> Result<Self> {
        // Side by side: each of the three takes a second to be up.
        let (core, around) = std::thread::scope(|scope| {
            let core = scope.spawn(|| stage.server(recipe(stage.recipe("core")), "core", program));
            let around = scope.spawn(|| around(stage));
            (core.join(), around.join())
        });
        let core = core.map_err(|_| anyhow!("starting the primary panicked"))??;
        let (candidate, web) = around.map_err(|_| anyhow!("starting the others panicked"))??;
        Ok(Self { core, candidate, web })
    }

    /// The request with GAIA's retries, and the candidate as its fallback.
    #[must_use]
    pub fn retried(&self, request: Request) -> Request {
        request.retried(Some(&self.candidate.url("/ok")))
    }

    /// Sends it, and waits until the primary's handler has the first attempt.
    pub fn holds(&self, path: &str, request: Request) -> Result<Pending> {
        self.core.holds(&self.web, path, self.retried(request))
    }

    /// Waits for its end. The first attempt broke in this way.
    pub fn ended(&self, request: &Pending, how: Break, phase: &'static str) -> Result<Fate> {
        fate(&self.web, &self.core.container, request, how, phase)
    }
}

/// All but the primary.
pub fn around(stage: &Stage) -> Result<(Server, Client)> {
    let [core, candidate] = ["core", "core-candidate"].map(|name| format!("http://{name}:{}", stage.port));
    // Upstream of Docker's own: the result for a missing name must not depend on where the suite runs.
    let names = stage.name_server(Says::NxDomain)?.to_string();
    let web = stage
        .recipe("web")
        .option("--dns", &names)
        .env("CORE_ENDPOINT", &core)
        .env("CORE_FALLBACK_ENDPOINT", &candidate);
    let (candidate, web) = std::thread::scope(|scope| {
        let candidate = scope.spawn(|| stage.server(stage.recipe("core-candidate"), "core-candidate", &["raw"]));
        let web = scope.spawn(|| stage.client_of(web, "web"));
        (candidate.join(), web.join())
    });
    let panicked = |_| anyhow!("starting a container panicked");
    Ok((candidate.map_err(panicked)??, web.map_err(panicked)??))
}

/// The fate of a retried request of `client` to `server` whose first attempt failed in this way.
pub fn fate(client: &Client, server: &Container, request: &Pending, how: Break, phase: &'static str) -> Result<Fate> {
    let (attempts, last) = client.attempts(request)?;
    let names = (client.name().map(str::to_owned), Some(server.name().to_owned()));
    let mut broken = Vec::new();
    for (number, outcome) in attempts.iter().enumerate() {
        let found = match number {
            0 => Some((how, phase)),
            _ => seen(outcome, false)?,
        };
        if let Some((how, phase)) = found {
            broken.push(entry(names.clone(), None, outcome.clone(), how, phase)?);
        }
    }
    Ok(Fate { broken, attempts, last })
}

impl Fate {
    /// The candidate responded in the end.
    pub fn by_the_candidate(self) -> Result<Vec<Broken>> {
        let requests = self.attempts.iter().map(|attempt| attempt.index).collect::<BTreeSet<_>>().len();
        ensure!(self.attempts.len() == 4 * requests, "three attempts and the fallback: {:?}", self.attempts);
        ensure!(self.last.status == Some(200), "the caller saw {:?}", self.last);
        Ok(self.broken)
    }

    /// The request was served in the end, by the primary or the candidate: this depends on how long the primary was down.
    pub fn served(self) -> Result<Vec<Broken>> {
        ensure!(self.last.status == Some(200), "the caller saw {:?}", self.last);
        Ok(self.broken)
    }

    /// The primary responded before the attempts were over.
    pub fn by_the_primary(self) -> Result<Vec<Broken>> {
        ensure!((2..=3).contains(&self.attempts.len()), "{:?}", self.attempts);
        ensure!(self.last.status == Some(200), "the caller saw {:?}", self.last);
        Ok(self.broken)
    }

    /// Its caller received the first attempt's error immediately: the policy does not retry it.
    pub fn lost(self) -> Result<Vec<Broken>> {
        let [attempt] = self.attempts.as_slice() else { return Err(anyhow!("one attempt: {:?}", self.attempts)) };
        ensure!(self.last.class == attempt.class, "the caller saw {:?}", self.last);
        Ok(self.broken)
    }

    /// Every attempt failed, and there was no fallback.
    pub fn failed(self) -> Result<Vec<Broken>> {
        ensure!(self.attempts.len() == 3, "three attempts: {:?}", self.attempts);
        ensure!(self.last.class != "none", "the caller saw {:?}", self.last);
        Ok(self.broken)
    }
}

/// Incidents of a cause that belongs to connections: one for all that broke with less than a second between.
pub fn by_gaps(broken: Vec<Broken>, incident: impl Fn(&Broken) -> Result<Expected>) -> Result<Vec<Expected>> {
    let mut all: Vec<Expected> = Vec::new();
    let mut before: Option<WallNanos> = None;
    for one in broken {
        let near = before.is_some_and(|before| one.outcome.at - before < ONE_INCIDENT);
        before = Some(one.outcome.at);
        if !near {
            all.push(incident(&one)?);
        }
        let last = all.pop().context("an incident")?;
        all.push(last.breaking(vec![one]));
    }
    Ok(all)
}

/// The moment that the server's own close of this connection gives.
pub fn server_close(broken: &Broken) -> Result<Moment> {
    let (_, port) = broken.outcome.local.context("the client's port")?;
    Ok(Moment::ServerClose(port))
}
