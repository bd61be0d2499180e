//! Names of containers that are gone, with every kind of name server behind Docker's own: whose look-up failed, what
//! removed the name, and what a server's own failed look-up broke.

use anyhow::{Context, Result};
use gaia_monitor_tests::case::{Case, Says, Server};
use gaia_monitor_tests::client::{Client, Request};
use gaia_monitor_tests::docker::docker;
use gaia_monitor_tests::expect::{
    Break, Expected, Killer, Moment, NAME_UNANSWERED, NAME_UNKNOWN, NAME_UNSURE, NO_DATA, NO_RESPONSE, RESET,
    RESOLVING, Until, broken, own_look_up,
};
use gaia_monitor_tests::instrument::ExitStatus;
use gaia_monitor_tests::play::live;

/// A primary, its client, and a standby that needs the primary's name; a name server that says the same of every name.
struct Scene {
    core: Server,
    web: Client,
    standby: Server,
}

fn scene(case: &Case, says: Says) -> Result<Scene> {
    let names = case.name_server(says)?.to_string();
    let recipe = |service: &str| case.recipe(service).option("--dns", &names);
    let core = case.uvicorn("core")?;
    let standby = case.server(recipe("standby"), "standby", &["http"])?;
    let web = case.client_of(recipe("web"), "web")?;
    web.ask_well(Request::get(&core.url("/ok")))?;
    web.ask_well(Request::get(&standby.url("/look-up?name=core")))?;
    Ok(Scene { core, web, standby })
}

impl Scene {
    /// Stops the primary in order, and waits until its name is gone. What a process looks up that entered the client's
    /// container is nobody's incident: the wait proves that, too.
    fn stop(&self, case: &Case, says: Says) -> Result<Expected> {
        self.core.container.stop(Some(10))?;
        if says != Says::Nothing {
            case.name_gone(&self.web.container, "core")?;
        }
        let stopped = Expected::death("container_stopped", &self.core.container, self.core.pid, ExitStatus::Code(0));
        Ok(stopped.by(Killer::Docker("docker stop")))
    }

    /// What the standby's own failed look-up broke.
    fn gone(
        &self,
        how: Break,
        outcomes: Vec<gaia_monitor_tests::client::Outcome>,
        phase: &'static str,
    ) -> Result<Expected> {
        let own = self.standby.looked_up()?;
        let moment = Moment::Between { fact: "dns_failed", from: own.started, to: own.at };
        let gone = Expected::living("dns_gone", &self.standby.container, Some(self.standby.pid), moment);
        let broken = broken(&self.web, &self.standby.container, outcomes, how, phase)?;
        Ok(gone.likely().breaking(broken).under("name_gone", Until::Lasting).because("container_stopped"))
    }
}

fn stopped(name: &str, says: Says, how: Break) {
    live(name, &[], |case| {
        let scene = scene(case, says)?;
        let stopped = scene.stop(case, says)?;
        let core = &scene.core;
        let mut outcomes = scene.web.ask(Request::get(&core.url("/ok")).times(2))?;
        outcomes.extend(scene.web.ask(Request::get(&core.url("/ok")))?);
        Ok(vec![stopped.breaking(broken(&scene.web, &core.container, outcomes, how, RESOLVING)?)])
    });
}

#[test]
fn a_look_up_of_a_stopped_containers_name_belongs_to_the_stop() {
    stopped("name-nxdomain", Says::NxDomain, NAME_UNKNOWN);
}

#[test]
fn a_name_server_that_fails_behind_dockers_own_makes_it_a_temporary_error() {
    stopped("name-servfail", Says::ServFail, NAME_UNSURE);
}

#[test]
fn a_name_server_that_refuses_makes_it_a_temporary_error() {
    stopped("name-refused", Says::Refused, NAME_UNSURE);
}

#[test]
fn a_look_up_without_any_answer_is_unanswered_after_five_seconds() {
    live("name-silent", &[], |case| {
        let scene = scene(case, Says::Nothing)?;
        let stopped = scene.stop(case, Says::Nothing)?;
        let request = Request::get(&scene.core.url("/ok"));
        let timeout = serde_json::json!({ "connect": 5.0 });
        let outcomes = scene.web.ask(request.with("timeout", timeout))?;
        let all = broken(&scene.web, &scene.core.container, outcomes, NAME_UNANSWERED, RESOLVING)?;
        Ok(vec![stopped.breaking(all)])
    });
}

#[test]
fn a_look_up_of_a_removed_containers_name_belongs_to_the_removal() {
    live("name-rm-force", &[], |case| {
        let scene = scene(case, Says::NxDomain)?;
        docker(["rm", "--force", scene.core.container.name()])?;
        case.name_gone(&scene.web.container, "core")?;
        let outcomes = scene.web.ask(Request::get(&scene.core.url("/ok")).by_requests())?;
        let outcomes = outcomes.into_iter().map(|outcome| gaia_monitor_tests::client::Outcome {
            // requests has one class for every connect that fails.
            class: outcome.class.replace("ConnectionError", "ConnectError"),
            ..outcome
        });
        let all = broken(&scene.web, &scene.core.container, outcomes.collect(), NAME_UNKNOWN, RESOLVING)?;
        let killed = Expected::death("container_killed", &scene.core.container, scene.core.pid, ExitStatus::Signal(9));
        Ok(vec![killed.by(Killer::Docker("docker kill")).breaking(all)])
    });
}

fn own(name: &str, says: Says, then: &str, own: Break, how: Break, phase: &'static str) {
    live(name, &[], |case| {
        let scene = scene(case, says)?;
        let stopped = scene.stop(case, says)?;
        let url = scene.standby.url(&format!("/look-up?name=core&then={then}"));
        let outcomes = scene.web.ask(Request::get(&url).read_timeout(1.5))?;
        let look_up = own_look_up(&scene.standby.container, &scene.core.container, scene.standby.looked_up()?, own);
        let gone = scene.gone(how, outcomes, phase)?;
        Ok(vec![stopped.breaking(vec![look_up]), gone])
    });
}

#[test]
fn a_server_that_hangs_up_on_its_own_failed_look_up_is_the_end_of_a_chain() {
    own("own-look-up-hang-up", Says::NxDomain, "hang-up", NAME_UNKNOWN, NO_RESPONSE, "awaiting_response");
}

#[test]
fn a_server_that_aborts_on_its_own_failed_look_up_is_the_end_of_a_chain() {
    own("own-look-up-linger", Says::ServFail, "linger", NAME_UNSURE, RESET, "awaiting_response");
}

#[test]
fn a_server_that_hangs_after_its_own_failed_look_up_is_the_end_of_a_chain() {
    own("own-look-up-hang", Says::Refused, "hang", NAME_UNSURE, NO_DATA, "awaiting_response");
}

fn answered(name: &str, then: &str, status: u16) {
    live(name, &[], |case| {
        let scene = scene(case, Says::NxDomain)?;
        let stopped = scene.stop(case, Says::NxDomain)?;
        let url = scene.standby.url(&format!("/look-up?name=core&then={then}"));
        let outcomes = scene.web.ask_well(Request::get(&url))?;
        anyhow::ensure!(outcomes.iter().all(|outcome| outcome.status == Some(status)), "{outcomes:?}");
        let own = scene.standby.looked_up()?;
        let look_up = own_look_up(&scene.standby.container, &scene.core.container, own, NAME_UNKNOWN);
        Ok(vec![stopped.breaking(vec![look_up])])
    });
}

#[test]
fn a_server_that_answers_500_after_its_own_failed_look_up_broke_nothing_else() {
    answered("own-look-up-500", "500", 500);
}

#[test]
fn a_server_that_answers_503_after_its_own_failed_look_up_broke_nothing_else() {
    answered("own-look-up-503", "503", 503);
}

#[test]
fn a_name_that_goes_without_any_event_is_told_by_itself() {
    live("name-gone-alone", &[], |case| {
        let names = case.name_server(Says::NxDomain)?;
        let core = case.uvicorn("core")?;
        // Asks another name server than Docker's, which never heard of the container.
        let file = case.stack.folder().join("resolv.conf");
        std::fs::write(&file, format!("nameserver {names}\noptions ndots:0\n")).context("writing a resolv.conf")?;
        let web = case.client_of(case.recipe("web").mount(&file, "/etc/resolv.conf"), "web")?;
        let outcomes = web.ask(Request::get(&core.url("/ok")))?;
        let outcome = outcomes.first().context("an outcome")?;
        let moment = Moment::Between { fact: "dns_failed", from: outcome.started, to: outcome.at };
        let gone = Expected::living("dns_gone", &core.container, None, moment).under("name_gone", Until::Lasting);
        Ok(vec![gone.breaking(broken(&web, &core.container, outcomes, NAME_UNKNOWN, RESOLVING)?)])
    });
}

#[test]
fn a_look_up_of_a_strangers_name_is_silent() {
    live("name-stranger", &[], |case| {
        let scene = scene(case, Says::NxDomain)?;
        let outcomes = scene.web.ask(Request::get(&format!("http://no-such-name:{}/ok", case.port)))?;
        anyhow::ensure!(outcomes.iter().all(|outcome| outcome.class == "ConnectError"), "{outcomes:?}");
        Ok(vec![])
    });
}
