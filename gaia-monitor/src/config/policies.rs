//! Retry policies in the configuration: a profile by name, a list of classes, or a table that changes a profile.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::Age;
use crate::model::incident::HttpxClass;
use crate::model::policy::{Policy, Profile, RetryPolicy};
use crate::model::time::Nanos;

/// `[policy]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    pub default: PolicyEntry,
    /// Replaces the waits of `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<Vec<Age>>,
    /// By service of the client, or by `CLIENT>SERVER`.
    pub services: BTreeMap<String, PolicyEntry>,
    /// Replaces the waits of a client.
    pub service_waits: BTreeMap<String, Vec<Age>>,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            default: PolicyEntry::Profile(Profile::PostWithRetry),
            waits: None,
            services: BTreeMap::new(),
            service_waits: BTreeMap::new(),
        }
    }
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum PolicyEntry {
    Profile(Profile),
    /// As the default's, with other classes.
    Classes(Vec<HttpxClass>),
    Table(PolicyTable),
}

/// A profile with changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "some_classes")]
    pub classes: Option<Vec<HttpxClass>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statuses: Option<Vec<u16>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<Vec<Age>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_on_status: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raises_primary: Option<bool>,
}

impl PolicyConfig {
    #[must_use]
    pub fn into_policy(self) -> Policy {
        let mut default = self.default.over(&RetryPolicy::default());
        if let Some(waits) = self.waits {
            default.waits = spans(waits);
        }
        let own = self.services.into_iter().map(|(name, entry)| (name, entry.over(&default)));
        let mut clients: BTreeMap<String, RetryPolicy> = own.collect();
        for (name, waits) in self.service_waits {
            clients.entry(name).or_insert_with(|| default.clone()).waits = spans(waits);
        }
        Policy { default, clients }
    }
}

impl PolicyEntry {
    /// The policy, where the entry leaves something open that of `default`.
    fn over(self, default: &RetryPolicy) -> RetryPolicy {
        match self {
            PolicyEntry::Profile(profile) => profile.policy(),
            PolicyEntry::Classes(classes) => RetryPolicy { classes, ..default.clone() },
            PolicyEntry::Table(table) => {
                let base = table.profile.map_or_else(|| default.clone(), Profile::policy);
                RetryPolicy {
                    classes: table.classes.unwrap_or(base.classes),
                    statuses: table.statuses.unwrap_or(base.statuses),
                    waits: table.waits.map_or(base.waits, spans),
                    fallback: table.fallback.unwrap_or(base.fallback),
                    fallback_on_status: table.fallback_on_status.unwrap_or(base.fallback_on_status),
                    truncated: table.truncated.unwrap_or(base.truncated),
                    raises_primary: table.raises_primary.unwrap_or(base.raises_primary),
                }
            }
        }
    }
}

fn spans(waits: Vec<Age>) -> Vec<Nanos> {
    waits.into_iter().map(|wait| wait.0).collect()
}

/// A class that a policy may list.
#[derive(Deserialize)]
#[serde(transparent)]
struct Retryable(#[serde(deserialize_with = "retryable")] HttpxClass);

fn retryable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HttpxClass, D::Error> {
    match HttpxClass::deserialize(deserializer)? {
        HttpxClass::None => Err(serde::de::Error::custom("`none` is not an error, so a policy cannot retry it")),
        class => Ok(class),
    }
}

fn some_classes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<HttpxClass>>, D::Error> {
    Ok(Some(Vec::<Retryable>::deserialize(deserializer)?.into_iter().map(|class| class.0).collect()))
}

impl<'de> Deserialize<'de> for PolicyEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

/// Not `untagged`: its errors name neither the wrong class nor the unknown key.
struct EntryVisitor;

impl<'de> serde::de::Visitor<'de> for EntryVisitor {
    type Value = PolicyEntry;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "a profile (\"post_with_retry\", \"service_client\", \"mcp_client\"), a list of classes, or a table",
        )
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<PolicyEntry, E> {
        Profile::deserialize(serde::de::value::StrDeserializer::new(name)).map(PolicyEntry::Profile)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<PolicyEntry, A::Error> {
        let mut classes = Vec::new();
        while let Some(Retryable(class)) = list.next_element()? {
            classes.push(class);
        }
        Ok(PolicyEntry::Classes(classes))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<PolicyEntry, A::Error> {
        PolicyTable::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(PolicyEntry::Table)
    }
}
