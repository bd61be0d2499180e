//! Instants and spans in nanoseconds. Only `pipeline/clock.rs` reads clocks; nothing here does.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An instant: nanoseconds since the Unix epoch, UTC. An integer in recordings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamp(pub i64);

/// A span of time in nanoseconds; negative if it points backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Nanos(pub i64);

impl Nanos {
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis * 1_000_000)
    }

    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs * 1_000_000_000)
    }
}

impl Stamp {
    #[must_use]
    pub fn plus(self, span: Nanos) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    #[must_use]
    pub fn minus(self, span: Nanos) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// The time from `earlier` to this instant; negative if this instant is the earlier one.
    #[must_use]
    pub fn since(self, earlier: Stamp) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Stamp {
    /// RFC 3339 in UTC with nine fractional digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(instant) => write!(f, "{instant:.9}"),
            // Outside jiff's range of years: no clock returns such an instant, but a recording may contain one.
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

impl std::str::FromStr for Stamp {
    type Err = jiff::Error;

    /// Parses RFC 3339 with any offset; digits below the nanosecond are an error.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let instant: jiff::Timestamp = text.parse()?;
        let nanos = i64::try_from(instant.as_nanosecond()).unwrap_or(i64::MAX);
        Ok(Self(nanos))
    }
}

/// A [`Stamp`] in an incident: RFC 3339 in UTC with nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Utc(pub Stamp);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Utc {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Utc {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Utc {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Utc".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "An instant: RFC 3339 in UTC with nanoseconds.",
            "type": "string",
            "format": "date-time",
            "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{9}Z$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Stamp, Utc};

    #[test]
    fn formats_instants_with_nine_digits_and_parses_them_back() {
        let stamp = Stamp(1_700_000_000_000_000_001);
        assert_eq!(stamp.to_string(), "2023-11-14T22:13:20.000000001Z");
        assert_eq!("2023-11-14T23:13:20.000000001+01:00".parse::<Stamp>().unwrap(), stamp);
        let json = serde_json::to_string(&Utc(Stamp(0))).unwrap();
        assert_eq!(json, "\"1970-01-01T00:00:00.000000000Z\"");
        assert_eq!(serde_json::from_str::<Utc>(&json).unwrap(), Utc(Stamp(0)));
    }
}
