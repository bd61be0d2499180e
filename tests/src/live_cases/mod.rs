//! All live cases, in the order of the accuracy table. A file is a group. It holds stories only, never how a verdict is
//! reached.

mod backlog;
mod clients;
mod deaths;
mod details;
mod filters;
mod garbage;
mod links;
mod living;
mod logs;
mod names;
mod networks;
mod opaque;
mod outside;
mod pauses;
mod placements;
mod published;
mod responses;
mod restarts;
mod reuse;
mod silence;
mod starting;
mod stops;
mod traffic;
mod workers;

use crate::live_case::LiveCase;

/// Live cases of a kind.
struct Group {
    name: &'static str,
    cases: fn() -> Vec<LiveCase>,
}

/// In the order of the table.
const GROUPS: &[Group] = &[
    Group { name: "deaths", cases: deaths::live_cases },
    Group { name: "details", cases: details::live_cases },
    Group { name: "stops", cases: stops::live_cases },
    Group { name: "workers", cases: workers::live_cases },
    Group { name: "restarts", cases: restarts::live_cases },
    Group { name: "living", cases: living::live_cases },
    Group { name: "garbage", cases: garbage::live_cases },
    Group { name: "reuse", cases: reuse::live_cases },
    Group { name: "pauses", cases: pauses::live_cases },
    Group { name: "starting", cases: starting::live_cases },
    Group { name: "clients", cases: clients::live_cases },
    Group { name: "names", cases: names::live_cases },
    Group { name: "links", cases: links::live_cases },
    Group { name: "filters", cases: filters::live_cases },
    Group { name: "backlog", cases: backlog::live_cases },
    Group { name: "networks", cases: networks::live_cases },
    Group { name: "placements", cases: placements::live_cases },
    Group { name: "opaque", cases: opaque::live_cases },
    Group { name: "published", cases: published::live_cases },
    Group { name: "outside", cases: outside::live_cases },
    Group { name: "responses", cases: responses::live_cases },
    Group { name: "logs", cases: logs::live_cases },
    Group { name: "silence", cases: silence::live_cases },
    Group { name: "traffic", cases: traffic::live_cases },
];

/// The third of the live cases that continuous integration plays, always the same one; the others are played by hand.
const PLAYED: &[&str] = &[
    "docker-kill-before-response",
    "kill-while-uploading",
    "oom-by-memory-limit",
    "segmentation-fault-under-init",
    "exit-with-code-3",
    "crash-in-native-module",
    "cpu-limit",
    "file-size-limit",
    "client-by-requests",
    "stop-grace-exceeded",
    "stop-blocked-loop",
    "restart",
    "stop-grace-exceeded-idle",
    "worker-killed-by-exec",
    "worker-oom",
    "idle-worker-killed",
    "refused-after-restart",
    "kill-and-restart",
    "docker-kill-defeats-the-policy",
    "exception-in-chunked-response-by-h11",
    "aborted-without-response",
    "only-continue",
    "closed-over-unread-upload",
    "tls-to-plain-http",
    "bad-chunk",
    "keepalive-race",
    "reuse-near-the-close",
    "paused",
    "request-while-paused",
    "sigstop",
    "refused-while-starting",
    "refused-in-lifespan",
    "client-cancels",
    "server-slow",
    "name-nxdomain",
    "name-silent",
    "own-lookup-hang-up",
    "own-lookup-linger",
    "own-lookup-503",
    "disconnect-mid-request",
    "veth-down",
    "interface-down",
    "icmp-before-connect",
    "drop-mid-stream",
    "reset-mid-stream",
    "docker-user-mid-stream",
    "backlog-full",
    "ipv6",
    "chain",
    "kill-under-shell",
    "killed-by-neighbour",
    "host-network",
    "tls-killed",
    "published-port-killed",
    "published-port-dead-backend-by-httpx",
    "published-port-reset",
    "translated-port-killed",
    "outside-killed",
    "outside-served",
    "handler-raises",
    "head",
    "faulthandler",
    "client-names-read-error",
    "clean-traffic",
    "health-and-exec",
    "busy-traffic",
];

/// All of them.
#[must_use]
pub fn all() -> Vec<LiveCase> {
    let live_cases =
        GROUPS.iter().flat_map(|group| (group.cases)().into_iter().map(|live_case| live_case.of(group.name)));
    live_cases.map(|live_case| if PLAYED.contains(&live_case.id) { live_case } else { live_case.by_hand() }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use crate::recordings;

    #[test]
    fn what_continuous_integration_plays_is_there() {
        let live_cases = super::all();
        assert_eq!(live_cases.iter().filter(|live_case| live_case.in_ci).count(), super::PLAYED.len());
    }

    #[test]
    fn every_live_case_has_a_recording() {
        // Minutes of traffic make no golden that a person could read.
        let live_cases = super::all().into_iter().filter(|live_case| live_case.group != "traffic");
        let names = live_cases.map(|live_case| recordings::name_of(live_case.id).unwrap());
        let without: Vec<_> = names.filter(|name| !recordings::recording(name).is_file()).collect();
        assert!(
            without.is_empty(),
            "no golden of {without:?}: cargo xtask matrix CASE --record-goldens tests/recordings"
        );
    }

    #[test]
    fn every_live_case_has_its_own_name() {
        let live_cases = super::all();
        let names: BTreeSet<&str> = live_cases.iter().map(|live_case| live_case.id).collect();
        assert_eq!(names.len(), live_cases.len());
    }

    #[test]
    fn every_live_case_has_a_scenario() {
        let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let map = recordings::map().unwrap();
        for (live_case, paths) in &map {
            assert!(!paths.is_empty(), "{live_case}: no scenario");
            for path in paths {
                // What is not played with the others is not tested.
                assert!(path.ends_with(".txt") && scenarios.join(path).is_file(), "{live_case}: no scenario {path}");
            }
        }
        let mapped: BTreeSet<&str> = map.keys().map(String::as_str).collect();
        let live_cases = super::all();
        let names: BTreeSet<&str> = live_cases.iter().map(|live_case| live_case.id).collect();
        let differ: Vec<_> = names.symmetric_difference(&mapped).collect();
        assert!(differ.is_empty(), "live cases without a scenario, or scenarios of no live case: {differ:?}");
    }
}
