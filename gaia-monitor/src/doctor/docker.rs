//! Check of the connection to Docker, and of its version.

use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::exit::chain;
use crate::sources::docker::connect;
use crate::sources::ebpf::Finding;

/// A daemon that takes longer cannot be observed reliably.
const TIMEOUT: Duration = Duration::from_secs(10);

pub fn reachable(host: Option<&str>) -> Finding {
    const NAME: &str = "docker";
    const FIX: &str = "start Docker (systemctl start docker), or name its address with --docker-host or DOCKER_HOST";
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Finding::failed(NAME, format!("cannot connect: {error}"), FIX),
    };
    let version = runtime.block_on(async {
        timeout(TIMEOUT, async {
            let docker = connect(host).await.map_err(|error| chain(&error))?;
            docker.version().await.map_err(|error| format!("cannot read its version: {error}"))
        })
        .await
    });
    match version {
        Ok(Ok(version)) => {
            let part = |part: Option<String>| part.unwrap_or_else(|| "?".to_owned());
            let detail = format!("Engine {}, API {}", part(version.version), part(version.api_version));
            Finding::ok(NAME, detail)
        }
        Ok(Err(error)) => Finding::failed(NAME, error, FIX),
        Err(_) => Finding::failed(NAME, format!("no response within {} s", TIMEOUT.as_secs()), FIX),
    }
}
