//! The response to each path. Plain functions of shared state: no clock, no waiting, no access to the driver.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode, Uri};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use url::form_urlencoded;

use super::recent::{IncidentQuery, KEPT, Recent};
use crate::daemon::health::Health;
use crate::model::ids::IncidentId;
use crate::model::incident::CauseKind;
use crate::text::{harmless, harmless_name};

/// Incidents on a page without `limit`.
const PAGE: usize = 50;

const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

const OVERVIEW: &str = "gaia-monitor\n\n/metrics    Prometheus metrics\n/incidents  the latest, newest first: \
?cause= &service= &limit= &after=\n/healthz    liveness\n/readyz     readiness\n";

/// The state that is served.
#[derive(Clone)]
pub struct Pages {
    pub metrics: PrometheusHandle,
    pub health: Arc<Health>,
    pub recent: Recent,
}

impl Pages {
    #[must_use]
    pub fn respond(&self, method: &Method, uri: &Uri) -> Response<Full<Bytes>> {
        let page: fn(&Self, &str) -> Response<Full<Bytes>> = match uri.path() {
            "/" => |_, _| response(StatusCode::OK, TEXT, OVERVIEW.to_owned()),
            "/metrics" => |pages, _| response(StatusCode::OK, PROMETHEUS, pages.metrics.render()),
            "/healthz" => |_, _| response(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => |pages, _| pages.ready(),
            "/incidents" => |pages, query| pages.incidents(query),
            other => {
                return response(
                    StatusCode::NOT_FOUND,
                    TEXT,
                    format!("no page {}; / lists the pages\n", harmless_name(other)),
                );
            }
        };
        if *method != Method::GET && *method != Method::HEAD {
            let mut refused = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "read-only: use GET or HEAD\n".to_owned());
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        page(self, uri.query().unwrap_or_default())
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        match self.health.unready() {
            None => response(StatusCode::OK, TEXT, "ready\n".to_owned()),
            Some(unready) => {
                response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {}\n", unready.reason()))
            }
        }
    }

    fn incidents(&self, query: &str) -> Response<Full<Bytes>> {
        let filter = match parse(query) {
            Ok(filter) => filter,
            Err(problem) => return problem_of(StatusCode::BAD_REQUEST, &problem),
        };
        let Some(page) = self.recent.page(&filter) else {
            return problem_of(
                StatusCode::GONE,
                "the incident in `after` has been evicted or never existed: start without it",
            );
        };
        let next = page.next.map(|id| next_page(&filter, &id));
        let next = serde_json::to_string(&next).unwrap_or_else(|_| "null".to_owned());
        // The lines are JSON already.
        let mut text = String::from("{\"incidents\":[");
        for (index, line) in page.lines.iter().enumerate() {
            text.push_str(if index == 0 { "\n" } else { ",\n" });
            text.push_str(line);
        }
        text.push_str("\n],\"next\":");
        text.push_str(&next);
        text.push_str("}\n");
        response(StatusCode::OK, JSON, text)
    }
}

pub(crate) fn parse(query: &str) -> Result<IncidentQuery, String> {
    let mut filter = IncidentQuery { limit: PAGE, ..IncidentQuery::default() };
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "cause" => {
                let name: StrDeserializer<'_, ValueError> = value.as_ref().into_deserializer();
                filter.cause = Some(CauseKind::deserialize(name).map_err(|error| format!("`cause`: {error}"))?);
            }
            "service" => filter.service = Some(harmless_name(&value).into_owned()),
            "limit" => match value.parse() {
                Ok(limit) if (1..=KEPT).contains(&limit) => filter.limit = limit,
                Ok(_) | Err(_) => return Err(format!("`limit`: {value:?} is not a number from 1 to {KEPT}")),
            },
            "after" => filter.after = Some(IncidentId(value.into_owned())),
            other => return Err(format!("unknown parameter {other:?}: cause, service, limit and after are known")),
        }
    }
    Ok(filter)
}

fn next_page(filter: &IncidentQuery, after: &IncidentId) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(cause) = filter.cause {
        query.append_pair("cause", &crate::model::incident::name_of(&cause));
    }
    if let Some(service) = &filter.service {
        query.append_pair("service", service);
    }
    query.append_pair("limit", &filter.limit.to_string()).append_pair("after", &after.0);
    format!("/incidents?{}", query.finish())
}

fn problem_of(status: StatusCode, problem: &str) -> Response<Full<Bytes>> {
    response(status, JSON, format!("{}\n", serde_json::json!({ "error": harmless(problem) })))
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::{PAGE, parse};
    use crate::model::ids::IncidentId;
    use crate::model::incident::CauseKind;
    use crate::serve::recent::IncidentQuery;

    #[test]
    fn names_what_is_wrong_with_a_query() {
        assert_eq!(parse(""), Ok(IncidentQuery { limit: PAGE, ..IncidentQuery::default() }));
        let parsed = parse("cause=oom_killed&service=gaia%2Dcore&limit=7&after=inc-1").unwrap();
        let wanted = IncidentQuery {
            cause: Some(CauseKind::OomKilled),
            service: Some("gaia-core".into()),
            limit: 7,
            after: Some(IncidentId("inc-1".into())),
        };
        assert_eq!(parsed, wanted);
        assert_eq!(
            parse(super::next_page(&wanted, &IncidentId("inc-1".into())).split_once('?').unwrap().1),
            Ok(wanted)
        );
        assert!(parse("cause=oom").unwrap_err().contains("unknown variant `oom`, expected"));
        assert!(parse("limit=0").unwrap_err().contains("from 1 to 1000"));
        assert!(parse("page=2").unwrap_err().contains("unknown parameter \"page\""));
    }
}
