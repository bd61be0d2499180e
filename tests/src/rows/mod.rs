//! Every row, in the order of the table. A file is a group; it must never hold how a verdict is reached, only stories.

mod answers;
mod backlog;
mod clients;
mod comebacks;
mod deaths;
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
mod reuse;
mod silence;
mod starting;
mod stops;
mod traffic;
mod workers;

use crate::row::Row;

/// Rows of a kind.
struct Group {
    name: &'static str,
    rows: fn() -> Vec<Row>,
}

/// In the order of the table.
const GROUPS: &[Group] = &[
    Group { name: "deaths", rows: deaths::rows },
    Group { name: "stops", rows: stops::rows },
    Group { name: "workers", rows: workers::rows },
    Group { name: "comebacks", rows: comebacks::rows },
    Group { name: "living", rows: living::rows },
    Group { name: "garbage", rows: garbage::rows },
    Group { name: "reuse", rows: reuse::rows },
    Group { name: "pauses", rows: pauses::rows },
    Group { name: "starting", rows: starting::rows },
    Group { name: "clients", rows: clients::rows },
    Group { name: "names", rows: names::rows },
    Group { name: "links", rows: links::rows },
    Group { name: "filters", rows: filters::rows },
    Group { name: "backlog", rows: backlog::rows },
    Group { name: "networks", rows: networks::rows },
    Group { name: "placements", rows: placements::rows },
    Group { name: "opaque", rows: opaque::rows },
    Group { name: "published", rows: published::rows },
    Group { name: "outside", rows: outside::rows },
    Group { name: "answers", rows: answers::rows },
    Group { name: "logs", rows: logs::rows },
    Group { name: "silence", rows: silence::rows },
    Group { name: "traffic", rows: traffic::rows },
];

/// The third of the rows that continuous integration plays, always the same one; the others are played by hand.
const PLAYED: &[&str] = &[
    "docker-kill-before-answer",
    "kill-while-uploading",
    "oom-by-memory-limit",
    "segmentation-fault-under-init",
    "exit-with-code-3",
    "client-by-requests",
    "stop-grace-exceeded",
    "stop-blocked-loop",
    "restart",
    "stop-grace-exceeded-idle",
    "worker-killed-by-exec",
    "worker-oom",
    "idle-worker-killed",
    "refused-after-comeback",
    "kill-and-comeback",
    "docker-kill-defeats-the-policy",
    "exception-in-chunked-answer-by-h11",
    "aborted-without-answer",
    "only-continue",
    "closed-over-unread-upload",
    "tls-to-plain-http",
    "bad-chunk",
    "keepalive-race",
    "reuse-near-the-close",
    "paused",
    "asked-while-paused",
    "sigstop",
    "refused-while-starting",
    "refused-in-lifespan",
    "client-cancels",
    "server-slow",
    "name-nxdomain",
    "name-silent",
    "own-look-up-hang-up",
    "own-look-up-linger",
    "own-look-up-503",
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
pub fn all() -> Vec<Row> {
    let rows = GROUPS.iter().flat_map(|group| (group.rows)().into_iter().map(|row| row.of(group.name)));
    rows.map(|row| if PLAYED.contains(&row.id) { row } else { row.by_hand() }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use crate::recordings;

    #[test]
    fn what_continuous_integration_plays_is_there() {
        let rows = super::all();
        assert_eq!(rows.iter().filter(|row| row.in_ci).count(), super::PLAYED.len());
    }

    #[test]
    fn every_row_has_a_recording() {
        // Minutes of traffic make no golden that a person could read.
        let rows = super::all().into_iter().filter(|row| row.group != "traffic");
        let names = rows.map(|row| recordings::name_of(row.id).unwrap());
        let without: Vec<_> = names.filter(|name| !recordings::recording(name).is_file()).collect();
        assert!(
            without.is_empty(),
            "no golden of {without:?}: cargo xtask matrix ROW --record-goldens tests/recordings"
        );
    }

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let rows = super::all();
        let names: BTreeSet<&str> = rows.iter().map(|row| row.id).collect();
        assert_eq!(names.len(), rows.len());
    }

    #[test]
    fn every_row_is_told_offline_too() {
        let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let map = recordings::map().unwrap();
        for (row, paths) in &map {
            assert!(!paths.is_empty(), "{row}: no scenario");
            for path in paths {
                // What is not played with the others is not tested.
                assert!(path.ends_with(".txt") && scenarios.join(path).is_file(), "{row}: no scenario {path}");
            }
        }
        let mapped: BTreeSet<&str> = map.keys().map(String::as_str).collect();
        let rows = super::all();
        let names: BTreeSet<&str> = rows.iter().map(|row| row.id).collect();
        let differ: Vec<_> = names.symmetric_difference(&mapped).collect();
        assert!(differ.is_empty(), "rows without a scenario, or scenarios of no row: {differ:?}");
    }
}
