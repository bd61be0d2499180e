//! Which queries are sent, when, and how often, without a network.

use std::time::{Duration, Instant};

use super::{IN_FLIGHT, PER_SECOND, Plan, PlannedQuery, QUERIES, STEADY, STEADY_GONE};
use crate::model::event::{
    ContainerInfo, DeclaredEndpoint, DnsResponse, DockerAction, DockerEvent, Fact, NetworkAddress,
};
use crate::model::ids::NetnsId;
use crate::model::settings::Scope;
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
        plan.on_fact(&Fact::ContainerSeen(Box::new(info)), now);
    }
    plan.update_queries(now);
    plan
}

fn queries(plan: &Plan) -> Vec<String> {
    plan.queries.keys().map(|query| format!("{} {}", query.observer.0.trim_start_matches('0'), query.name)).collect()
}

fn docker_event(plan: &mut Plan, number: u32, action: DockerAction, now: Instant) {
    plan.on_fact(&Fact::Docker(DockerEvent { container: id(number), name: String::new(), action }), now);
}

/// Sends and completes queries until `until`. Returns when `name` was queried, in milliseconds after `from`.
fn run(plan: &mut Plan, name: &str, from: Instant, until: Duration, answer: impl Fn(u128) -> DnsResponse) -> Vec<u128> {
    let mut sent = Vec::new();
    while let Some(due) = plan.next().filter(|due| *due < from + until) {
        let due = due.max(from);
        for (query, _) in plan.take_due(due) {
            let after = due.duration_since(from).as_millis();
            if query.name == name {
                sent.push(after);
            }
            plan.complete(&query, Some(answer(after)), due);
        }
    }
    sent
}

fn resolved() -> DnsResponse {
    DnsResponse::Addresses(vec!["172.28.0.3".parse().unwrap()])
}

#[test]
fn queries_endpoints_from_their_container_and_other_names_once_per_network() {
    let all = vec![
        container(1, "web", "gaia", Some("core")),
        container(2, "core", "gaia", None),
        container(3, "mcp", "gaia", None),
    ];
    // 1 queries 2 and 3; another container must query 1.
    assert_eq!(queries(&plan(Scope::default(), all, Instant::now())), ["1 core", "1 mcp", "2 web"]);
}

#[test]
fn skips_networks_without_a_dns_server() {
    let host = ContainerInfo { host_network: true, ..container(3, "c", "host", Some("core")) };
    let all = vec![container(1, "a", "bridge", Some("core")), container(2, "b", "bridge", None), host];
    assert!(queries(&plan(Scope::default(), all, Instant::now())).is_empty());
}

#[test]
fn skips_addresses() {
    let all = vec![container(1, "web", "gaia", Some("172.28.0.9")), container(2, "core", "gaia", Some("localhost"))];
    assert_eq!(queries(&plan(Scope::default(), all, Instant::now())), ["1 core", "2 web"]);
}

#[test]
fn skips_special_use_names() {
    let mut api = container(2, "api.localhost", "gaia", None);
    api.networks[0].aliases = ["api", "db.invalid", "hidden.onion", "1.0.0.127.in-addr.arpa"].map(String::from).into();
    let all = vec![container(1, "web", "gaia", Some("files.localhost.")), api];
    assert_eq!(queries(&plan(Scope::default(), all, Instant::now())), ["1 api", "2 web"]);
}

#[test]
fn ignores_containers_out_of_scope() {
    let scope = Scope { containers: vec!["core".into()], ..Scope::default() };
    let all = vec![
        container(1, "web", "gaia", Some("api.example")),
        container(2, "core", "gaia", None),
        container(3, "mcp", "gaia", None),
    ];
    // No container in scope depends on the endpoint of web.
    assert_eq!(queries(&plan(scope, all, Instant::now())), ["1 core", "2 mcp", "2 web"]);
}

#[test]
fn queries_every_20_ms_after_a_death_until_the_name_changes() {
    let now = Instant::now();
    let mut plan =
        plan(Scope::default(), vec![container(1, "web", "gaia", None), container(2, "core", "gaia", None)], now);
    run(&mut plan, "core", now, Duration::from_millis(1), |_| resolved());
    let died = now + Duration::from_secs(1);
    docker_event(&mut plan, 2, DockerAction::Die { exit_code: Some(137) }, died);
    let response = |after| if after < 70 { resolved() } else { DnsResponse::NoName };
    assert_eq!(run(&mut plan, "core", died, Duration::from_secs(9), response), [0, 20, 40, 60, 80]);
}

#[test]
fn slows_down_when_the_name_does_not_change() {
    let now = Instant::now();
    let mut plan =
        plan(Scope::default(), vec![container(1, "web", "gaia", None), container(2, "core", "gaia", None)], now);
    run(&mut plan, "core", now, Duration::from_millis(1), |_| resolved());
    let at = now + Duration::from_secs(1);
    docker_event(&mut plan, 2, DockerAction::Kill { signal: "SIGUSR1".into() }, at);
    let sent = run(&mut plan, "core", at, Duration::from_secs(30), |_| resolved());
    assert_eq!(sent.iter().filter(|after| **after <= 2_000).count(), super::BURST.len());
    let steady: Vec<_> = sent.into_iter().filter(|after| *after > 2_000).collect();
    assert_eq!(steady, [12_000, 22_000]);
    assert!(STEADY < STEADY_GONE, "queries for removed names are forwarded upstream");
}

#[test]
fn sends_one_query_at_a_time_when_events_repeat() {
    let now = Instant::now();
    let mut plan =
        plan(Scope::default(), vec![container(1, "web", "gaia", None), container(2, "core", "gaia", None)], now);
    let first = plan.take_due(now);
    assert_eq!(first.len(), 2);
    for _ in 0..3 {
        docker_event(&mut plan, 2, DockerAction::Stop, now);
        assert!(plan.take_due(now + Duration::from_millis(500)).is_empty());
    }
}

#[test]
fn reports_only_changed_responses() {
    let now = Instant::now();
    let mut plan =
        plan(Scope::default(), vec![container(1, "web", "gaia", None), container(2, "core", "gaia", None)], now);
    let query = PlannedQuery { observer: id(1), name: "core".into() };
    assert_eq!(plan.complete(&query, Some(resolved()), now), Some(resolved()));
    assert_eq!(plan.complete(&query, Some(resolved()), now), None);
    assert_eq!(plan.complete(&query, None, now), None);
    assert_eq!(plan.complete(&query, Some(DnsResponse::Silent), now), Some(DnsResponse::Silent));
}

#[test]
fn replaces_an_observer_that_died() {
    let now = Instant::now();
    let all = vec![container(1, "a", "gaia", None), container(2, "b", "gaia", None), container(3, "c", "gaia", None)];
    let mut plan = plan(Scope::default(), all, now);
    assert_eq!(queries(&plan), ["1 b", "1 c", "2 a"]);
    docker_event(&mut plan, 1, DockerAction::Die { exit_code: Some(0) }, now);
    // The name of the dead container is still queried: its removal and return are what matters.
    assert_eq!(queries(&plan), ["2 a", "2 c", "3 b"]);
    docker_event(&mut plan, 1, DockerAction::Destroy, now);
    assert_eq!(queries(&plan), ["2 c", "3 b"]);
}

#[test]
fn keeps_every_bound_on_a_crowded_host() {
    let now = Instant::now();
    let crowd: Vec<_> = (1..1_000).map(|number| container(number, &format!("c{number}"), "gaia", None)).collect();
    let mut plan = plan(Scope::default(), crowd, now);
    assert_eq!(plan.queries.len(), QUERIES);
    assert_eq!(plan.take_due(now).len(), IN_FLIGHT);
    assert!(plan.next().is_none());
    let mut plan = Plan { window: None, ..plan };
    let in_flight: Vec<PlannedQuery> =
        plan.queries.iter().filter(|(_, schedule)| schedule.in_flight).map(|(query, _)| query.clone()).collect();
    for query in in_flight {
        plan.complete(&query, Some(resolved()), now);
    }
    let sent = run(&mut plan, "", now, Duration::from_millis(1), |_| resolved());
    assert!(sent.is_empty());
    let (_, count) = plan.window.unwrap();
    assert_eq!(count, PER_SECOND);
}
