//! `X_ENDPOINT` and `X_FALLBACK_ENDPOINT` of a container's environment: the servers that it depends on, and their
//! fallbacks.
//!
//! Only the prefix of the name and the URL's host and port leave this file: user information, path, query and fragment of
//! a URL may be secrets. A value whose host cannot be a host's name is left out whole: connection strings
//! (`AccountName=…;AccountKey=…`) and tokens would pass as one.

use url::{Host, Url};

use crate::model::event::DeclaredEndpoint;

/// Endpoints of one container that are kept; a service has a handful.
const ENDPOINTS: usize = 64;
/// Bytes of a prefix, which becomes part of the candidate's key.
const PREFIX: usize = 256;
/// Bytes of a name and of its labels (RFC 1035, section 2.3.4).
const NAME: usize = 253;
const LABEL: usize = 63;

/// Parses `NAME=VALUE` lines. Values without a host are left out.
#[must_use]
pub fn endpoints(environment: &[String]) -> Vec<DeclaredEndpoint> {
    environment.iter().filter_map(|line| endpoint(line)).take(ENDPOINTS).collect()
}

fn endpoint(line: &str) -> Option<DeclaredEndpoint> {
    let (name, value) = line.split_once('=')?;
    let before = name.strip_suffix("_ENDPOINT")?;
    let (prefix, fallback) = match before.strip_suffix("_FALLBACK") {
        Some(prefix) => (prefix, true),
        None => (before, false),
    };
    // A bare `FALLBACK_ENDPOINT` has no primary.
    if prefix.is_empty() || prefix == "FALLBACK" || prefix.len() > PREFIX {
        return None;
    }
    let url = url(value.trim())?;
    let host = match url.host()? {
        Host::Domain(name) if is_name(name) => name.to_owned(),
        Host::Domain(_) => return None,
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    Some(DeclaredEndpoint { prefix: prefix.to_owned(), fallback, host, port: url.port_or_known_default() })
}

/// What DNS and Docker accept as a name; Docker also accepts underscores.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    host.len() <= NAME && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
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
    fn keeps_nothing_but_host_and_port_of_a_value() {
        for value in [
            "http://user:secret@gaia-core:6415",
            "user:secret@gaia-core:6415",
            "http://secret@gaia-core:6415/secret?token=secret#secret",
            "gaia-core:6415/?api-key=secret",
            "redis://:secret@gaia-core:6415/0",
            "//secret:secret@gaia-core:6415",
            "https://user:se%2Fcret@secret@gaia-core:6415/",
        ] {
            assert_eq!(read(&format!("A_ENDPOINT={value}")).unwrap(), "A primary gaia-core 6415", "{value}");
        }
    }

    #[test]
    fn keeps_nothing_of_connection_strings_and_tokens() {
        let token = "eyJhbGciOiJIUzI1NiJ9".repeat(10);
        let (long, many) = ("a.".repeat(200), "P".repeat(300));
        for line in [
            "A_ENDPOINT=DefaultEndpointsProtocol=https;AccountName=gaia;AccountKey=secret==",
            "A_ENDPOINT=Endpoint=sb://gaia.example/;SharedAccessKeyName=root;SharedAccessKey=secret",
            "A_ENDPOINT=user:secret/more@gaia-core",
            "A_ENDPOINT=host=gaia-core password=secret",
            "A_ENDPOINT={\"token\":\"secret\"}",
            "A_ENDPOINT=foo://sec;ret/",
            &format!("A_ENDPOINT={token}"),
            &format!("A_ENDPOINT=http://{long}"),
            &format!("{many}_ENDPOINT=http://gaia-core"),
        ] {
            assert_eq!(read(line), None, "{line}");
        }
        let many: Vec<_> = (0..1_000).map(|number| format!("A{number}_ENDPOINT=http://gaia-core")).collect();
        assert_eq!(endpoints(&many).len(), super::ENDPOINTS);
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
