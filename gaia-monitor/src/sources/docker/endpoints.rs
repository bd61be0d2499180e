//! `X_ENDPOINT` and `X_FALLBACK_ENDPOINT` of a container's environment: the servers that it depends on, and their
//! fallbacks.
//!
//! Only the prefix of the name and the URL's host and port leave this file: the rest of a URL may be a secret.

use url::{Host, Url};

use crate::model::event::DeclaredEndpoint;

/// Parses `NAME=VALUE` lines. Values without a host are left out.
#[must_use]
pub fn endpoints(environment: &[String]) -> Vec<DeclaredEndpoint> {
    environment.iter().filter_map(|line| endpoint(line)).collect()
}

fn endpoint(line: &str) -> Option<DeclaredEndpoint> {
    let (name, value) = line.split_once('=')?;
    let before = name.strip_suffix("_ENDPOINT")?;
    let (prefix, fallback) = match before.strip_suffix("_FALLBACK") {
        Some(prefix) => (prefix, true),
        None => (before, false),
    };
    // A bare `FALLBACK_ENDPOINT` has no primary.
    if prefix.is_empty() || prefix == "FALLBACK" {
        return None;
    }
    let url = url(value.trim())?;
    let host = match url.host()? {
        Host::Domain(name) => name.to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    Some(DeclaredEndpoint { prefix: prefix.to_owned(), fallback, host, port: url.port_or_known_default() })
}

/// Adds a missing scheme: in `gaia-core:6415`, a URL parser takes the host for the scheme.
fn url(value: &str) -> Option<Url> {
    if value.contains("://") { Url::parse(value).ok() } else { Url::parse(&format!("http://{value}")).ok() }
}

#[cfg(test)]
mod tests {
    use super::endpoints;

    fn read(line: &str) -> Option<String> {
        let found = endpoints(&[line.to_owned()]).pop()?;
        let port = found.port.map_or("-".to_owned(), |port| port.to_string());
        Some(format!("{} {} {} {port}", found.prefix, if found.fallback { "fallback" } else { "primary" }, found.host))
    }

    #[test]
    fn pairs_two_variables_of_one_prefix() {
        assert_eq!(read("CORE_ENDPOINT=http://gaia-core:6415").unwrap(), "CORE primary gaia-core 6415");
        assert_eq!(
            read("CORE_FALLBACK_ENDPOINT=http://gaia-core-candidate:6415").unwrap(),
            "CORE fallback gaia-core-candidate 6415"
        );
        assert_eq!(read("MCP_ENDPOINT=http://gaia-mcp:8765/jsonrpc").unwrap(), "MCP primary gaia-mcp 8765");
    }

    #[test]
    fn takes_the_port_from_the_scheme_when_missing() {
        assert_eq!(read("A_ENDPOINT=https://api.example/v1?key=secret").unwrap(), "A primary api.example 443");
        assert_eq!(read("A_ENDPOINT=gaia-core:6415").unwrap(), "A primary gaia-core 6415");
        assert_eq!(read("A_ENDPOINT=gaia-core").unwrap(), "A primary gaia-core 80");
        assert_eq!(read("A_ENDPOINT=redis://cache").unwrap(), "A primary cache -");
        assert_eq!(read("A_B_ENDPOINT=http://[fd00::2]:80/").unwrap(), "A_B primary fd00::2 80");
        assert_eq!(read("A_ENDPOINT= HTTP://GAIA-Core:1/ ").unwrap(), "A primary gaia-core 1");
    }

    #[test]
    fn ignores_values_without_a_host() {
        for line in [
            "A_ENDPOINT=",
            "A_ENDPOINT",
            "_ENDPOINT=http://x",
            "FALLBACK_ENDPOINT=http://x",
            "A_ENDPOINTS=http://x",
            "A_FALLBACK=http://x",
            "_FALLBACK_ENDPOINT=http://x",
            "A_ENDPOINT=unix:///run/x.sock",
            "A_ENDPOINT=:80",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
