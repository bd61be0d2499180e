//! What is asked, when, and how often, without a network.

use std::time::{Duration, Instant};

use super::{A_SECOND, PAIRS, Pair, Plan, STEADY, STEADY_GONE, UNDER_WAY};
use crate::model::settings::Scope;
use crate::model::event::{ContainerInfo, DeclaredEndpoint, DockerAction, DockerEvent, Fact, NameAnswer, NetworkAddress};
use crate::model::ids::NetnsId;
use crate::sources::test_fixtures::{self, id};

fn container(number: u32, name: &str, network: &str, endpoint: Option<&str>) -> ContainerInfo {
    let endpoint =
        endpoint.map(|host| DeclaredEndpoint { prefix: "X".into(), fallback: false, host: host.into(), port: None });
    ContainerInfo {
        name: name.into(),
        netns: Some(NetnsId(u64::from(number))),
        networks: vec![NetworkAddress { network: network.into(), addresses: Vec::new(), aliases: Vec::new() }],
        endpoints: endpoint.into_iter().collect(),
        ..test_fixtures::container(id(number), number)
    }
}

fn plan(scope: Scope, containers: Vec<ContainerInfo>, now: Instant) -> Plan {
    let mut plan = Plan::new(scope);
    for info in containers {
        plan.heed(&Fact::ContainerSeen(Box::new(info)), now);
    }
    plan.pair_up(now);
    plan
}

fn pairs(plan: &Plan) -> Vec<String> {
    plan.pairs.keys().map(|pair| format!("{} {}", pair.observer.0.trim_start_matches('0'), pair.name)).collect()
}

fn happened(plan: &mut Plan, number: u32, action: DockerAction, now: Instant) {
    plan.heed(&Fact::Docker(DockerEvent { container: id(number), name: String::new(), action }), now);
}

/// Asks and answers until `until`; when each question for `name` was asked, in milliseconds after `from`.
fn play(plan: &mut Plan, name: &str, from: Instant, until: Duration, answer: impl Fn(u128) -> NameAnswer) -> Vec<u128> {
    let mut asked = Vec::new();
    while let Some(due) = plan.next().filter(|due| *due < from + until) {
        let due = due.max(from);
        for (pair, _) in plan.take(due) {
            let after = due.duration_since(from).as_millis();
            if pair.name == name {
                asked.push(after);
            }
            plan.done(&pair, Some(answer(after)), due);
        }
    }
    asked
}

fn here() -> NameAnswer {
    NameAnswer::Addresses(vec!["172.28.0.3".parse().unwrap()])
}

#[test]
fn endpoints_are_asked_for_by_whoever_has_them_and_peers_by_one_for_all() {
    let all = vec![
        container(1, "web", "gaia", Some("core")),
        container(2, "core", "gaia", None),
        container(3, "mcp", "gaia", None),
    ];
    // 1 asks for 2 and 3; somebody else must ask for 1.
    assert_eq!(pairs(&plan(Scope::default(), all, Instant::now())), ["1 core", "1 mcp", "2 web"]);
}

#[test]
fn the_default_bridge_and_the_hosts_network_have_no_name_server() {
    let host = ContainerInfo { host_network: true, ..container(3, "c", "host", Some("core")) };
    let all = vec![container(1, "a", "bridge", Some("core")), container(2, "b", "bridge", None), host];
    assert!(pairs(&plan(Scope::default(), all, Instant::now())).is_empty());
}

#[test]
fn an_address_needs_no_question() {
    let all = vec![container(1, "web", "gaia", Some("172.28.0.9")), container(2, "core", "gaia", Some("localhost"))];
    assert_eq!(pairs(&plan(Scope::default(), all, Instant::now())), ["1 core", "2 web"]);
}

#[test]
fn a_name_that_the_resolver_would_answer_by_itself_is_not_asked_for() {
    let mut api = container(2, "api.localhost", "gaia", None);
    api.networks[0].aliases = ["api", "db.invalid", "hidden.onion", "1.0.0.127.in-addr.arpa"].map(String::from).into();
    let all = vec![container(1, "web", "gaia", Some("files.localhost.")), api];
    assert_eq!(pairs(&plan(Scope::default(), all, Instant::now())), ["1 api", "2 web"]);
}

#[test]
fn what_has_no_end_in_scope_is_not_asked_for() {
    let scope = Scope { containers: vec!["core".into()], ..Scope::default() };
    let all = vec![
        container(1, "web", "gaia", Some("api.example")),
        container(2, "core", "gaia", None),
        container(3, "mcp", "gaia", None),
    ];
    // Nobody in scope depends on what web has in its environment.
    assert_eq!(pairs(&plan(scope, all, Instant::now())), ["1 core", "2 mcp", "2 web"]);
}

#[test]
fn a_death_makes_the_name_be_asked_for_every_twenty_milliseconds_until_it_changes() {
    let now = Instant::now();
    let mut plan =
        plan(Scope::default(), vec![container(1, "web", "gaia", None), container(2, "core", "gaia", None)], now);
    play(&mut plan, "core", now, Duration::from_millis(1), |_| here());
    let died = now + Duration::from_secs(1);
    happened(&mut plan, 2, DockerAction::Die { exit_code: Some(137) }, died);
    let gone = |after| if after < 70 { here() } else { NameAnswer::NoName };
    assert_eq!(play(&mut plan, "core", died, Duration::from_secs(9), gone), [0, 20, 40, 60, 80]);
}

#[test]
fn a_name_that_does_not_change_is_asked_for_less_and_less_and_then_slowly() {
    let now = Instant::now();
    let mut plan =
        plan(Scope::default(), vec![container(1, "web", "gaia", None), container(2, "core", "gaia", None)], now);
    play(&mut plan, "core", now, Duration::from_millis(1), |_| here());
    let at = now + Duration::from_secs(1);
    happened(&mut plan, 2, DockerAction::Kill { signal: "SIGUSR1".into() }, at);
    let asked = play(&mut plan, "core", at, Duration::from_secs(30), |_| here());
    assert_eq!(asked.iter().filter(|after| **after <= 2_000).count(), super::BURST.len());
    let steady: Vec<_> = asked.into_iter().filter(|after| *after > 2_000).collect();
    assert_eq!(steady, [12_000, 22_000]);
    assert!(STEADY < STEADY_GONE, "what is gone is forwarded upstream");
}

#[test]
fn one_question_for_a_pair_at_a_time_however_often_something_happens() {
    let now = Instant::now();
    let mut plan =
        plan(Scope::default(), vec![container(1, "web", "gaia", None), container(2, "core", "gaia", None)], now);
    let first = plan.take(now);
    assert_eq!(first.len(), 2);
    for _ in 0..3 {
        happened(&mut plan, 2, DockerAction::Stop, now);
        assert!(plan.take(now + Duration::from_millis(500)).is_empty());
    }
}

#[test]
fn only_news_is_told() {
    let now = Instant::now();
    let mut plan =
        plan(Scope::default(), vec![container(1, "web", "gaia", None), container(2, "core", "gaia", None)], now);
    let pair = Pair { observer: id(1), name: "core".into() };
    assert_eq!(plan.done(&pair, Some(here()), now), Some(here()));
    assert_eq!(plan.done(&pair, Some(here()), now), None);
    assert_eq!(plan.done(&pair, None, now), None);
    assert_eq!(plan.done(&pair, Some(NameAnswer::Silent), now), Some(NameAnswer::Silent));
}

#[test]
fn an_observer_that_died_asks_no_more_and_another_takes_its_place() {
    let now = Instant::now();
    let all = vec![container(1, "a", "gaia", None), container(2, "b", "gaia", None), container(3, "c", "gaia", None)];
    let mut plan = plan(Scope::default(), all, now);
    assert_eq!(pairs(&plan), ["1 b", "1 c", "2 a"]);
    happened(&mut plan, 1, DockerAction::Die { exit_code: Some(0) }, now);
    // The dead one's own name is still asked for: that it goes, and comes back, is what is wanted.
    assert_eq!(pairs(&plan), ["2 a", "2 c", "3 b"]);
    happened(&mut plan, 1, DockerAction::Destroy, now);
    assert_eq!(pairs(&plan), ["2 c", "3 b"]);
}

#[test]
fn every_bound_holds_on_a_crowded_host() {
    let now = Instant::now();
    let crowd: Vec<_> = (1..1_000).map(|number| container(number, &format!("c{number}"), "gaia", None)).collect();
    let mut plan = plan(Scope::default(), crowd, now);
    assert_eq!(plan.pairs.len(), PAIRS);
    assert_eq!(plan.take(now).len(), UNDER_WAY);
    assert!(plan.next().is_none());
    let mut plan = Plan { second: None, ..plan };
    let under_way: Vec<Pair> =
        plan.pairs.iter().filter(|(_, check)| check.under_way).map(|(pair, _)| pair.clone()).collect();
    for pair in under_way {
        plan.done(&pair, Some(here()), now);
    }
    let asked = play(&mut plan, "", now, Duration::from_millis(1), |_| here());
    assert!(asked.is_empty());
    let (_, count) = plan.second.unwrap();
    assert_eq!(count, A_SECOND);
}
