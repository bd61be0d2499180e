//! The text of a story: one or two sentences.

use crate::model::incident::name_of;
use crate::model::settings::Waits;

use super::link_attempts::Chain;
use super::pairs::Pairs;
use super::{Attempt, Ending, SCHEMA, Story, StoryConfidence};

impl Chain {
    pub fn into_story(self, pairs: &Pairs, waits: &Waits) -> Story {
        let allowed = waits.of(&self.client.name).len() + 1;
        let fallback = self.fallback.as_ref().map(|attempt| attempt.server.clone());
        let fallback = fallback.or_else(|| pairs.candidate_of(&self.server));
        let last = self.attempts.last();
        let retried = last.is_some_and(|last| last.broken.retried);
        let ending = match (&self.fallback, retried, self.attempts.len() >= allowed) {
            (Some(_), _, _) => Ending::FallbackFailed,
            (None, false, _) => Ending::NotRetried,
            (None, true, false) => Ending::AskedAgain,
            (None, true, true) if fallback.is_some() => Ending::FallenBack,
            (None, true, true) => Ending::GivenUp,
        };
        let class = last.map(|last| last.class);
        let caller_saw = match ending {
            Ending::NotRetried | Ending::FallbackFailed | Ending::GivenUp => class,
            Ending::FallenBack | Ending::AskedAgain => None,
        };
        let confidence = if self.ambiguous { StoryConfidence::Possible } else { StoryConfidence::Likely };
        let text = self.text(ending, confidence, fallback.as_deref());
        Story {
            schema: SCHEMA,
            client: self.client.name,
            server: self.server,
            fallback,
            confidence,
            ending,
            caller_saw,
            swallowed: self.fallback.as_ref().map(|attempt| attempt.class),
            attempts: self.attempts,
            fallback_attempt: self.fallback,
            text,
        }
    }

    fn text(&self, ending: Ending, confidence: StoryConfidence, fallback: Option<&str>) -> String {
        let (client, server) = (&self.client.name, &self.server);
        let asked = match self.attempts.as_slice() {
            [one] => format!("{client} asked {server}: {}", class(one)),
            several => {
                let classes: Vec<String> = several.iter().map(class).collect();
                format!("{client} asked {server} {} times ({})", several.len(), classes.join(", "))
            }
        };
        let last = self.attempts.last().map(class).unwrap_or_default();
        let end = match (ending, &self.fallback) {
            (Ending::FallbackFailed, Some(attempt)) => {
                let swallowed = class(attempt);
                let name = &attempt.server;
                format!(
                    ", then {name}: {swallowed}. Its caller saw {last} of {server}; {name}'s {swallowed} was swallowed"
                )
            }
            (Ending::NotRetried, _) => {
                let failover = if fallback.is_some() { "no retry, no failover" } else { "no retry" };
                format!(". {last} is not in {client}'s retry list: {failover}; its caller saw {last}")
            }
            (Ending::GivenUp | Ending::FallbackFailed, _) => format!(". Its caller saw {last}"),
            (Ending::FallenBack, _) => {
                let name = fallback.unwrap_or("its fallback");
                format!(", then {name}, where no failure was seen: its caller got that response")
            }
            (Ending::AskedAgain, _) => {
                format!(". {client} retries {last}; no further failure was seen")
            }
        };
        let reservation = match confidence {
            StoryConfidence::Possible => " (possible: its attempts can be linked in another way)",
            StoryConfidence::Likely => "",
        };
        format!("{asked}{end}{reservation}.")
    }
}

fn class(attempt: &Attempt) -> String {
    name_of(&attempt.class)
}
