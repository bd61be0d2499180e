//! Values that the unit tests of several sources share.

use std::collections::BTreeMap;

use crate::model::event::ContainerInfo;
use crate::model::ids::{ContainerId, Pid};

/// A running container named `c<pid>`, without networks, ports or endpoints.
pub fn container(id: ContainerId, pid: u32) -> ContainerInfo {
    ContainerInfo {
        id,
        name: format!("c{pid}"),
        image: "image".into(),
        project: None,
        service: None,
        labels: BTreeMap::new(),
        running: true,
        paused: false,
        started_at: None,
        pid: Some(Pid(pid)),
        cgroup: None,
        netns: None,
        init: false,
        host_network: false,
        stop_signal: "SIGTERM".into(),
        health: None,
        restart_policy: None,
        memory_limit: None,
        networks: Vec::new(),
        published: Vec::new(),
        endpoints: Vec::new(),
        exit_code: None,
        ended: None,
    }
}

/// A container id of 64 hexadecimal digits.
pub fn id(number: u32) -> ContainerId {
    ContainerId(format!("{number:0>64x}"))
}
