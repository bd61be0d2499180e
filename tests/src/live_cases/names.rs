//! Names of removed containers, with every kind of DNS server upstream of Docker's own: the failed lookup, what removed
//! the name, and what a server's own failed lookup broke.

use crate::client::{Client, Request};
use crate::docker::docker;
use crate::expect::{
    Break, Expected, Killer, Moment, NAME_UNKNOWN, NAME_UNSURE, NO_DATA, NO_RESPONSE, RESET, RESOLVING, Until, broken,
    own_look_up,
};
use crate::live_case::{LiveCase, live_case};
use crate::stage::{Says, Server, Stage};
use crate::witness::ExitStatus;
use anyhow::{Context, Result};

pub fn live_cases() -> Vec<LiveCase> {
    vec![
        live_case(
            "name-nxdomain",
            "a lookup of a stopped container's name belongs to the stop",
            stopped(Says::NxDomain, NAME_UNKNOWN),
        ),
        live_case(
            "name-servfail",
            "a failing DNS server upstream of Docker's own makes it a temporary error",
            stopped(Says::ServFail, NAME_UNSURE),
        ),
        live_case(
            "name-refused",
            "a DNS server that refuses makes it a temporary error",
            stopped(Says::Refused, NAME_UNSURE),
        ),
        live_case("name-silent", "a lookup without any response is unanswered when its resolver gives up", name_silent),
        live_case("name-rm-force", "a lookup of a removed container's name belongs to the removal", name_rm_force),
        live_case(
            "own-lookup-hang-up",
            "a server that closes on its own failed lookup is the end of a chain",
            own(Says::NxDomain, "hang-up", NAME_UNKNOWN, NO_RESPONSE, "awaiting_response"),
        ),
        live_case(
            "own-lookup-linger",
            "a server that aborts on its own failed lookup is the end of a chain",
            own(Says::ServFail, "linger", NAME_UNSURE, RESET, "awaiting_response"),
        ),
        live_case(
            "own-lookup-hang",
            "a server that hangs after its own failed lookup is the end of a chain",
            own(Says::Refused, "hang", NAME_UNSURE, NO_DATA, "awaiting_response"),
        ),
        live_case(
            "own-lookup-500",
            "a server that responds with 500 after its own failed lookup broke nothing else",
            answered("500", 500),
        ),
        live_case(
            "own-lookup-503",
            "a server that responds with 503 after its own failed lookup broke nothing else",
            answered("503", 503),
        ),
        live_case("own-lookup-exit", "a server that dies on its own failed lookup is a death", dies_on_its_look_up),
        live_case(
            "name-gone-alone",
            "a name that disappears without any event is an incident of its own",
            name_gone_alone,
        ),
        live_case("name-stranger", "a lookup of an unknown name is silent", name_stranger),
    ]
}

/// A primary, its client, and a standby that needs the primary's name; a DNS server with the same response for every name.
struct Scene {
    core: Server,
    web: Client,
    standby: Server,
}

fn scene(stage: &Stage, says: Says) -> Result<Scene> {
    let names = stage.name_server(says)?.to_string();
    let recipe = |service: &str| stage.recipe(service).option("--dns", &names);
    let core = stage.uvicorn("core")?;
    let standby = stage.server(recipe("standby"), "standby", &["http"])?;
    let web = stage.client_of(recipe("web"), "web")?;
    web.ask_well(Request::get(&core.url("/ok")))?;
    web.ask_well(Request::get(&standby.url("/look-up?name=core")))?;
    Ok(Scene { core, web, standby })
}

impl Scene {
    /// Stops the primary cleanly, and waits until its name is removed. A lookup by a process that entered the client's
    /// container is no incident: the wait proves this as well.
    fn stop(&self, stage: &Stage, says: Says) -> Result<Expected> {
        self.core.container.stop(Some(10))?;
        if says != Says::Nothing {
            stage.name_gone(&self.web.container, "core")?;
        }
        let stopped = Expected::death("container_stopped", &self.core.container, self.core.pid, ExitStatus::Code(0));
        Ok(stopped.by(Killer::Docker("docker stop")))
    }

    /// The failure that the standby's own failed lookup caused.
    fn gone(&self, how: Break, outcomes: Vec<crate::client::Outcome>, phase: &'static str) -> Result<Expected> {
        let own = self.standby.looked_up()?;
        let moment = Moment::Between { fact: "dns_failed", from: own.started, to: own.at };
        let gone = Expected::living("dns_gone", &self.standby.container, Some(self.standby.pid), moment);
        let broken = broken(&self.web, &self.standby.container, outcomes, how, phase)?;
        Ok(gone.likely().breaking(broken).under("name_gone", Until::Lasting).caused_by("container_stopped"))
    }
}

fn stopped(says: Says, how: Break) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let scene = scene(stage, says)?;
        let stopped = scene.stop(stage, says)?;
        let core = &scene.core;
        let mut outcomes = scene.web.ask(Request::get(&core.url("/ok")).times(2))?;
        outcomes.extend(scene.web.ask(Request::get(&core.url("/ok")))?);
        Ok(vec![stopped.breaking(broken(&scene.web, &core.container, outcomes, how, RESOLVING)?)])
    }
}

fn name_silent(stage: &Stage) -> Result<Vec<Expected>> {
    let scene = scene(stage, Says::Nothing)?;
    let stopped = scene.stop(stage, Says::Nothing)?;
    let request = Request::get(&scene.core.url("/ok"));
    // glibc asks twice, for five seconds each.
    let timeout = serde_json::json!({ "connect": 30.0 });
    let outcomes = scene.web.ask(request.with("timeout", timeout))?;
    let all = broken(&scene.web, &scene.core.container, outcomes, NAME_UNSURE, RESOLVING)?;
    Ok(vec![stopped.breaking(all)])
}

fn name_rm_force(stage: &Stage) -> Result<Vec<Expected>> {
    let scene = scene(stage, Says::NxDomain)?;
    docker(["rm", "--force", scene.core.container.name()])?;
    stage.name_gone(&scene.web.container, "core")?;
    let outcomes = scene.web.ask(Request::get(&scene.core.url("/ok")).by_requests())?;
    let outcomes = outcomes.into_iter().map(|outcome| crate::client::Outcome {
        // requests has one class for every connect that fails.
        class: outcome.class.replace("ConnectionError", "ConnectError"),
        ..outcome
    });
    let all = broken(&scene.web, &scene.core.container, outcomes.collect(), NAME_UNKNOWN, RESOLVING)?;
    let killed = Expected::death("container_killed", &scene.core.container, scene.core.pid, ExitStatus::SIGKILL);
    Ok(vec![killed.by(Killer::Docker("docker kill")).breaking(all)])
}

fn own(
    says: Says,
    then: &str,
    own: Break,
    how: Break,
    phase: &'static str,
) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let scene = scene(stage, says)?;
        let stopped = scene.stop(stage, says)?;
        let url = scene.standby.url(&format!("/look-up?name=core&then={then}"));
        let outcomes = scene.web.ask(Request::get(&url).read_timeout(1.5))?;
        let look_up = own_look_up(&scene.standby.container, &scene.core.container, scene.standby.looked_up()?, own);
        let gone = scene.gone(how, outcomes, phase)?;
        Ok(vec![stopped.breaking(vec![look_up]), gone])
    }
}

fn dies_on_its_look_up(stage: &Stage) -> Result<Vec<Expected>> {
    let scene = scene(stage, Says::NxDomain)?;
    let stopped = scene.stop(stage, Says::NxDomain)?;
    let standby = &scene.standby;
    let outcomes = scene.web.ask(Request::get(&standby.url("/look-up?name=core&then=exit")))?;
    let look_up = own_look_up(&standby.container, &scene.core.container, standby.looked_up()?, NAME_UNKNOWN);
    let broken = broken(&scene.web, &standby.container, outcomes, NO_RESPONSE, "awaiting_response")?;
    let exited = Expected::death("process_exited", &standby.container, standby.pid, ExitStatus::Code(7));
    Ok(vec![stopped.breaking(vec![look_up]), exited.caused_by("container_stopped").breaking(broken)])
}

fn answered(then: &str, status: u16) -> impl Fn(&Stage) -> Result<Vec<Expected>> {
    move |stage| {
        let scene = scene(stage, Says::NxDomain)?;
        let stopped = scene.stop(stage, Says::NxDomain)?;
        let url = scene.standby.url(&format!("/look-up?name=core&then={then}"));
        let outcomes = scene.web.ask_well(Request::get(&url))?;
        anyhow::ensure!(outcomes.iter().all(|outcome| outcome.status == Some(status)), "{outcomes:?}");
        let own = scene.standby.looked_up()?;
        let look_up = own_look_up(&scene.standby.container, &scene.core.container, own, NAME_UNKNOWN);
        Ok(vec![stopped.breaking(vec![look_up])])
    }
}

fn name_gone_alone(stage: &Stage) -> Result<Vec<Expected>> {
    let names = stage.name_server(Says::NxDomain)?;
    let core = stage.uvicorn("core")?;
    // Queries another DNS server than Docker's, which does not know the container.
    let file = stage.stack.folder().join("resolv.conf");
    std::fs::write(&file, format!("nameserver {names}\noptions ndots:0\n")).context("writing a resolv.conf")?;
    let web = stage.client_of(stage.recipe("web").mount(&file, "/etc/resolv.conf"), "web")?;
    let outcomes = web.ask(Request::get(&core.url("/ok")))?;
    let outcome = outcomes.first().context("an outcome")?;
    let moment = Moment::Between { fact: "dns_failed", from: outcome.started, to: outcome.at };
    let gone = Expected::living("dns_gone", &core.container, None, moment).under("name_gone", Until::Lasting);
    Ok(vec![gone.breaking(broken(&web, &core.container, outcomes, NAME_UNKNOWN, RESOLVING)?)])
}

fn name_stranger(stage: &Stage) -> Result<Vec<Expected>> {
    let scene = scene(stage, Says::NxDomain)?;
    let outcomes = scene.web.ask(Request::get(&format!("http://no-such-name:{}/ok", stage.port)))?;
    anyhow::ensure!(outcomes.iter().all(|outcome| outcome.class == "ConnectError"), "{outcomes:?}");
    Ok(vec![])
}
