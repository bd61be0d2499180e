//! Values with a unit and keywords: one parser for files, variables and flags.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::de::{Error, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::incident::{CauseKind, name_of};
use crate::model::time::Nanos;

/// A number of bytes above zero: `64 MiB`, `1GB`, or a bare number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<bytesize::ByteSize>() {
            Ok(size) if size.as_u64() > 0 => Ok(Self(size.as_u64())),
            Ok(_) | Err(_) => Err(format!("{text:?} is not a size: write 64 MiB, 1 GB, or a number of bytes above 0")),
        }
    }
}

impl fmt::Display for Size {
    /// Exact: in the largest unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match units.into_iter().find(|(_, bits)| self.0.trailing_zeros() >= *bits) {
            Some((unit, bits)) => write!(f, "{} {unit}", self.0 >> bits),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// A duration above zero: `90 days`, `12h`, `1h 30m`. A day has 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age(pub Nanos);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let span: Span = text.parse().ok()?;
            let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
            i64::try_from(length.as_nanos()).ok().filter(|nanos| *nanos > 0)
        };
        read().map(|nanos| Self(Nanos(nanos))).ok_or_else(|| format!("{text:?} is not a duration: write 90 days, 12h"))
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: i64 = 24 * 60 * 60 * 1_000_000_000;
        match self.0.0 {
            nanos if nanos % DAY == 0 => write!(f, "{} days", nanos / DAY),
            nanos => write!(f, "{:#}", SignedDuration::from_nanos(nanos)),
        }
    }
}

/// A value of `--fail-on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOn {
    Any,
    Kind(CauseKind),
}

impl FailOn {
    #[must_use]
    pub fn includes(self, kind: CauseKind) -> bool {
        match self {
            FailOn::Any => true,
            FailOn::Kind(own) => own == kind,
        }
    }
}

impl FromStr for FailOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "any" {
            return Ok(FailOn::Any);
        }
        let name: StrDeserializer<'_, ValueError> = text.into_deserializer();
        CauseKind::deserialize(name).map(FailOn::Kind).map_err(|error| format!("{error}, or `any`"))
    }
}

impl fmt::Display for FailOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailOn::Any => f.write_str("any"),
            FailOn::Kind(kind) => f.write_str(&name_of(kind)),
        }
    }
}

/// The length of a run, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seconds(f64);

impl Seconds {
    #[must_use]
    pub fn length(self) -> std::time::Duration {
        // Checked by the parser.
        std::time::Duration::try_from_secs_f64(self.0).unwrap_or(std::time::Duration::MAX)
    }
}

impl TryFrom<f64> for Seconds {
    type Error = String;

    fn try_from(seconds: f64) -> Result<Self, String> {
        std::time::Duration::try_from_secs_f64(seconds)
            .map(|_| Self(seconds))
            .map_err(|_| format!("{seconds} is not a duration in seconds"))
    }
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
        Self::try_from(seconds)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

macro_rules! written_as_text {
    ($($kind:ty),*) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

written_as_text!(Size, Age, FailOn);

/// Reads text by `FromStr`, and numbers where the value allows them.
struct Reader<T> {
    expected: &'static str,
    number: fn(f64) -> Result<T, String>,
}

impl<T: FromStr<Err = String>> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        // Realistic sizes and seconds are far below 2^53.
        (self.number)(number as f64).map_err(E::custom)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        (self.number)(number).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = |number: f64| format!("{number:.0}").parse();
        deserializer.deserialize_any(Reader { expected: "a size such as \"64 MiB\"", number })
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = |number| Err(format!("{number} has no unit: write \"90 days\" or \"12h\""));
        deserializer.deserialize_any(Reader { expected: "a duration such as \"90 days\"", number })
    }
}

impl<'de> Deserialize<'de> for FailOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = |number| Err(format!("{number} is not a kind of incident"));
        deserializer.deserialize_any(Reader { expected: "a kind of incident, or \"any\"", number })
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader { expected: "a number of seconds", number: Self::try_from })
    }
}

#[cfg(test)]
mod tests {
    use super::{Age, FailOn, Size};
    use crate::model::incident::CauseKind;
    use crate::model::time::Nanos;

    #[test]
    fn reads_sizes_with_units_and_writes_them_exactly() {
        for (text, bytes, written) in [
            ("64 MiB", 64 << 20, "64 MiB"),
            ("1GB", 1_000_000_000, "1000000000 B"),
            ("1536KiB", 1536 << 10, "1536 KiB"),
            ("4096", 4096, "4 KiB"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, written), "{text}");
            assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
        }
        for text in ["", "0", "much", "-1 MiB", "MiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn reads_ages_with_units() {
        for (text, seconds) in [("90 days", 7_776_000), ("1 day", 86_400), ("12h", 43_200), ("1h 30m", 5_400)] {
            let age: Age = text.parse().unwrap();
            assert_eq!(age.0, Nanos::from_secs(seconds), "{text}");
            assert_eq!(age.to_string().parse::<Age>().unwrap(), age);
        }
        for text in ["", "90", "0 days", "-1 day", "2 months", "soon"] {
            assert!(text.parse::<Age>().is_err(), "{text}");
        }
    }

    #[test]
    fn any_includes_every_kind_and_a_kind_only_itself() {
        assert!("any".parse::<FailOn>().unwrap().includes(CauseKind::AppClosed));
        let oom: FailOn = "oom_killed".parse().unwrap();
        assert!(oom.includes(CauseKind::OomKilled) && !oom.includes(CauseKind::AppClosed));
        assert_eq!(oom.to_string(), "oom_killed");
        assert!("death".parse::<FailOn>().unwrap_err().contains("or `any`"));
    }
}
