//! GAIA's naming convention for failover pairs: the candidate of `NAME` is `NAME-candidate`.

const SUFFIX: &str = "-candidate";

/// The primary that a candidate's name implies.
#[must_use]
pub fn primary_of(candidate: &str) -> Option<&str> {
    candidate.strip_suffix(SUFFIX).filter(|primary| !primary.is_empty())
}

/// The name that a primary's candidate has by convention.
#[must_use]
pub fn candidate_of(primary: &str) -> String {
    format!("{primary}{SUFFIX}")
}
