//! Alert rules and dashboard against the metrics catalogue: every name and label, and the targets of links and commands.
//!
//! The labels of a result are derived through each expression, so that an annotation, a legend or a link that uses another
//! one fails. The live suite checks against a Prometheus that there is data.

use std::collections::{BTreeMap, BTreeSet};

use clap::Parser;
use promql_parser::parser::token::T_LOR;
use promql_parser::parser::{BinaryExpr, Expr, LabelModifier, VectorMatchCardinality, VectorSelector, parse};
use serde::Deserialize;
use serde_json::Value;

use crate::assets::Asset;
use crate::cli::Cli;
use crate::model::incident::CauseKind;
use crate::output::metrics::catalogue::{ALL, Kind};
use crate::serve::pages;

type Labels = BTreeSet<String>;

/// Labels that a scrape adds to every series.
const TARGET: [&str; 2] = ["job", "instance"];
/// Variables that Grafana replaces; their values do not matter here.
const SPANS: [&str; 3] = ["$__rate_interval", "$__interval", "$__range"];

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    record: Option<String>,
    alert: Option<String>,
    expr: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn rules() -> Vec<Rule> {
    let rules: Rules = serde_saphyr::from_str(&Asset::PrometheusRules.content()).unwrap();
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
}

/// Every series by name, with its possible labels.
struct Known(BTreeMap<String, Labels>);

impl Known {
    fn catalogue() -> Self {
        let mut known = BTreeMap::new();
        for metric in &ALL {
            let labels = || metric.labels.iter().chain(&TARGET).map(|label| (*label).to_owned());
            if metric.kind == Kind::Histogram {
                known.insert(format!("{}_bucket", metric.name), labels().chain(["le".to_owned()]).collect());
                known.insert(format!("{}_sum", metric.name), labels().collect());
                known.insert(format!("{}_count", metric.name), labels().collect());
            } else {
                known.insert(metric.name.to_owned(), labels().collect());
            }
        }
        known.insert("up".to_owned(), TARGET.map(str::to_owned).into());
        Self(known)
    }

    /// The possible labels of the result, or the unknown name in the expression.
    fn check(&self, text: &str) -> Result<Labels, String> {
        let text = SPANS.iter().fold(text.to_owned(), |text, span| text.replace(span, "5m"));
        parse(&text).and_then(|expr| self.labels(&expr)).map_err(|problem| format!("{problem}, in {text}"))
    }

    fn labels(&self, expr: &Expr) -> Result<Labels, String> {
        match expr {
            Expr::VectorSelector(selector) => self.selected(selector),
            Expr::MatrixSelector(selector) => self.selected(&selector.vs),
            Expr::Paren(inner) => self.labels(&inner.expr),
            Expr::Unary(inner) => self.labels(&inner.expr),
            Expr::Subquery(inner) => self.labels(&inner.expr),
            Expr::Aggregate(aggregate) => {
                let inner = self.labels(&aggregate.expr)?;
                match &aggregate.modifier {
                    None => Ok(Labels::new()),
                    Some(LabelModifier::Include(by)) => among(&by.labels, &inner),
                    Some(LabelModifier::Exclude(without)) => Ok(&inner - &among(&without.labels, &inner)?),
                }
            }
            Expr::Binary(binary) => self.joined(binary),
            Expr::Call(call) => {
                let args = call.args.args.iter().map(|arg| self.labels(arg)).collect::<Result<Vec<_>, _>>()?;
                // An absent series has no labels.
                Ok(if call.func.name == "absent" { Labels::new() } else { args.into_iter().flatten().collect() })
            }
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(Labels::new()),
            Expr::Extension(_) => Err("an extension of the parser".to_owned()),
        }
    }

    fn selected(&self, selector: &VectorSelector) -> Result<Labels, String> {
        let name = selector.name.as_deref().unwrap_or_default();
        let labels = self.0.get(name).ok_or_else(|| format!("there is no series {name:?}"))?;
        for matcher in &selector.matchers.matchers {
            among([&matcher.name], labels)?;
            for cause in matcher.value.split('|').filter(|_| matcher.name == "cause") {
                serde_json::from_value::<CauseKind>(cause.into()).map_err(|error| error.to_string())?;
            }
        }
        Ok(labels.clone())
    }

    fn joined(&self, binary: &BinaryExpr) -> Result<Labels, String> {
        let (left, right) = (self.labels(&binary.lhs)?, self.labels(&binary.rhs)?);
        let modifier = binary.modifier.as_ref();
        let on = match modifier.and_then(|modifier| modifier.matching.as_ref()) {
            Some(LabelModifier::Include(on)) => {
                among(&on.labels, &left)?;
                Some(among(&on.labels, &right)?)
            }
            Some(LabelModifier::Exclude(_)) | None => None,
        };
        let one_to_one = modifier.is_some_and(|modifier| modifier.card == VectorMatchCardinality::OneToOne);
        Ok(match on {
            _ if binary.op.id() == T_LOR => &left | &right,
            Some(on) if one_to_one && !binary.op.is_set_operator() => on,
            // A number has none.
            Some(_) | None => {
                if left.is_empty() {
                    right
                } else {
                    left
                }
            }
        })
    }
}

fn among<'a>(wanted: impl IntoIterator<Item = &'a String>, there: &Labels) -> Result<Labels, String> {
    wanted
        .into_iter()
        .map(|label| there.get(label).cloned().ok_or_else(|| format!("no label {label:?} among {there:?}")))
        .collect()
}

/// The words behind each `opening` in a text.
fn named<'a>(text: &'a str, opening: &'a str) -> impl Iterator<Item = String> + 'a {
    let is_word = |byte: char| byte.is_ascii_alphanumeric() || byte == '_';
    text.split(opening).skip(1).map(move |rest| rest.chars().take_while(|byte| is_word(*byte)).collect())
}

#[test]
fn alert_rules_use_only_the_catalogue() {
    let mut known = Known::catalogue();
    let mut alerts = 0;
    for rule in rules() {
        let labels = known.check(&rule.expr).unwrap();
        for text in rule.annotations.values() {
            let named: Vec<String> = named(text, "$labels.").collect();
            among(&named, &labels).unwrap_or_else(|problem| panic!("{problem}, in {text}"));
        }
        alerts += usize::from(rule.alert.is_some());
        known.0.extend(rule.record.map(|name| (name, labels)));
    }
    assert!(alerts > 8);
}

#[test]
fn the_dashboard_uses_only_the_catalogue() {
    let known = Known::catalogue();
    let dashboard: Value = serde_json::from_str(&Asset::GrafanaDashboard.content()).unwrap();
    let mut ids = BTreeSet::new();
    let mut queries = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries += 1;
            assert_eq!(target["datasource"]["uid"], "${datasource}");
            let labels = known.check(target["expr"].as_str().unwrap()).unwrap();
            let legend = named(target["legendFormat"].as_str().unwrap(), "{{").collect::<Vec<_>>();
            let links = panel["fieldConfig"]["defaults"]["links"].to_string();
            let linked = named(&links, "${__field.labels.").collect::<Vec<_>>();
            among(legend.iter().chain(&linked), &labels).unwrap_or_else(|problem| panic!("{problem}, in {panel}"));
        }
        for link in panel["fieldConfig"]["defaults"]["links"].as_array().into_iter().flatten() {
            let url = link["url"].as_str().unwrap().replace("${__field.labels.cause}", "process_crashed");
            leads_to_incidents(&url.replace("${__field.labels.", "").replace('}', ""));
        }
    }
    assert!(queries > 30);
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    for asked in variables.iter().filter_map(|variable| variable["definition"].as_str()) {
        let (series, label) =
            asked.strip_prefix("label_values(").unwrap().trim_end_matches(')').split_once(", ").unwrap();
        among([&label.to_owned()], &known.check(series).unwrap()).unwrap();
    }
}

fn leads_to_incidents(url: &str) {
    let (page, query) = url.split_once('?').unwrap();
    assert!(page.ends_with("/incidents"), "{url}");
    pages::parse(query).unwrap_or_else(|problem| panic!("{problem}, in {url}"));
}

#[test]
fn every_alert_links_to_an_existing_page_and_command() {
    for rule in rules().into_iter().filter(|rule| rule.alert.is_some()) {
        let of = |name: &str| {
            let text = rule.annotations.get(name)?;
            let text = text.replace("{{ $labels.cause }}", "process_crashed");
            Some(text.replace("{{ $labels.httpx }}", "ReadError").replace("{{ $labels.", "").replace(" }}", ""))
        };
        let alert = rule.alert.as_deref().unwrap();
        assert!(of("summary").is_some() && of("description").is_some(), "{alert}");
        let command = of("command").unwrap();
        Cli::try_parse_from(command.split(' ')).unwrap_or_else(|error| panic!("{alert}: {error}"));
        match of("incidents") {
            Some(url) => leads_to_incidents(&url),
            None => assert!(alert.starts_with("GaiaMonitor"), "{alert} leads to no incident"),
        }
    }
}

#[test]
fn every_alert_is_documented() {
    let page = include_str!("../../../docs/metrics.md");
    for alert in rules().into_iter().filter_map(|rule| rule.alert) {
        assert!(page.contains(&format!("`{alert}`")), "docs/metrics.md does not know {alert}");
    }
}

#[test]
fn the_absence_alert_uses_the_job_of_the_scrape_snippet() {
    let jobs: Vec<BTreeMap<String, Value>> = serde_saphyr::from_str(&Asset::PrometheusScrape.content()).unwrap();
    let job = jobs[0]["job_name"].as_str().unwrap();
    let absent = rules().into_iter().find(|rule| rule.alert.as_deref() == Some("GaiaMonitorAbsent")).unwrap();
    assert!(absent.expr.contains(&format!("up{{job={job:?}}}")), "{}", absent.expr);
}

#[test]
fn finds_an_unknown_name_anywhere_in_an_expression() {
    let known = Known::catalogue();
    for (expr, wanted) in [
        ("gaia_monitor_incident_total", "no series \"gaia_monitor_incident_total\""),
        ("gaia_monitor_incidents_total{container=\"x\"}", "no label \"container\""),
        ("gaia_monitor_incidents_total{cause=~\"oom_killed|oom\"}", "unknown variant `oom`"),
        ("sum by (pid) (rate(gaia_monitor_incidents_total[5m]))", "no label \"pid\""),
        ("sum by (service) (sum by (cause) (gaia_monitor_incidents_total))", "no label \"service\""),
        ("up and on (service) gaia_monitor_incidents_total", "no label \"service\""),
        ("gaia_monitor_first_verdict_seconds", "no series"),
        ("sum(gaia_monitor_incidents_total", ""),
    ] {
        let problem = known.check(expr).unwrap_err();
        assert!(problem.contains(wanted), "{problem}");
    }
    let by_target = known.check("up < on (job, instance) gaia_monitor_start_time_seconds").unwrap();
    assert_eq!(by_target, TARGET.map(str::to_owned).into());
}
