//! The label of a service: how metrics, policies and summaries name a container.
//!
//! One rule for all of them, so that a name from one can be looked up in another.

use super::event::ContainerInfo;
use super::incident::{Party, Subject};

/// The label of an incident without a container.
pub const NO_CONTAINER: &str = "none";

/// The Compose service, without one the container's name.
#[must_use]
pub fn service_label<'a>(service: Option<&'a str>, container: Option<&'a str>) -> Option<&'a str> {
    service.or(container)
}

impl Subject {
    #[must_use]
    pub fn service_label(&self) -> Option<&str> {
        service_label(self.service.as_deref(), self.container.as_deref())
    }
}

impl Party {
    #[must_use]
    pub fn service_label(&self) -> Option<&str> {
        service_label(self.service.as_deref(), self.container.as_deref())
    }
}

impl ContainerInfo {
    #[must_use]
    pub fn service_label(&self) -> &str {
        self.service.as_deref().unwrap_or(&self.name)
    }
}
