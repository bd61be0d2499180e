//! Cgroups of containers, recorded when the runtime creates them.
//!
//! A container that dies immediately ends before its first process can be read, and the kernel's facts about it carry
//! only the cgroup. The cgroup's directory is named after the container, so inotify on the parent directories yields both.
//! Without inotify, containers that run for more than some milliseconds are still known by their process.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::unix::AsyncFd;

use crate::model::ids::{CgroupId, ContainerId};
use crate::pipeline::fd::Raw;
use crate::sources::procfs::CgroupTree;

/// Parent directories of the cgroupfs and the systemd driver; others are added when a container is found in them.
const DEFAULT_PARENTS: [&str; 2] = ["docker", "system.slice"];

/// Watched directories. Containers in further ones are known by their process only.
const PARENTS: usize = 64;

/// Known containers, so that missed removals do not accumulate. The smallest ids are evicted first.
const KNOWN: usize = 4_096;

#[derive(Debug)]
pub struct Cgroups {
    tree: CgroupTree,
    inotify: AsyncFd<Raw<Inotify>>,
    parents: BTreeMap<PathBuf, WatchDescriptor>,
    known: BTreeMap<ContainerId, CgroupId>,
}

impl Cgroups {
    /// Starts to watch. `None` if the system provides no inotify.
    #[must_use]
    pub fn watch(tree: &CgroupTree) -> Option<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
        // SAFETY: the inotify owns its descriptor, which is closed only together with the registration.
        let inotify = unsafe { AsyncFd::register(Raw(inotify)) }.ok()?;
        let mut cgroups = Self { tree: tree.clone(), inotify, parents: BTreeMap::new(), known: BTreeMap::new() };
        // The root, because a parent may be created later (for the first container since the boot).
        cgroups.watch_parent(Path::new("/"));
        for parent in DEFAULT_PARENTS {
            cgroups.watch_parent(&Path::new("/").join(parent));
        }
        Some(cgroups)
    }

    /// Watches a directory in which a container's cgroup was found.
    pub fn watch_parent(&mut self, path: &Path) {
        if self.parents.contains_key(path) || self.parents.len() >= PARENTS {
            return;
        }
        let Some(directory) = self.tree.directory(path) else { return };
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ONLYDIR;
        let Ok(watch) = self.inotify.get_ref().0.add_watch(&directory, flags) else { return };
        self.parents.insert(path.to_owned(), watch);
        // Directories that are older than the watch.
        let names: BTreeSet<_> = std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        for name in names {
            self.created(path, &name);
        }
    }

    #[must_use]
    pub fn of(&self, container: &ContainerId) -> Option<CgroupId> {
        self.known.get(container).copied()
    }

    pub fn forget(&mut self, container: &ContainerId) {
        self.known.remove(container);
    }

    /// Waits for new directories and records them. Cancel safe.
    ///
    /// # Errors
    /// When inotify itself fails, which is permanent.
    pub async fn update(&mut self) -> io::Result<()> {
        let mut ready = self.inotify.readable().await?;
        let events = ready.try_io(|inotify| Ok(inotify.get_ref().0.read_events()?));
        drop(ready);
        let Ok(events) = events else { return Ok(()) };
        for event in events? {
            if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                // The directory was removed, and its watch with it. Created again, it needs a new watch.
                self.parents.retain(|_, watch| *watch != event.wd);
                continue;
            }
            let parent = self.parents.iter().find(|(_, watch)| **watch == event.wd).map(|(path, _)| path.clone());
            if let (Some(parent), Some(name)) = (parent, event.name.and_then(|name| name.into_string().ok())) {
                self.created(&parent, &name);
            }
        }
        Ok(())
    }

    fn created(&mut self, parent: &Path, name: &str) {
        let path = parent.join(name);
        if let Some(container) = named_after(name) {
            if let Some(cgroup) = self.tree.id(&path) {
                if self.known.len() >= KNOWN {
                    self.known.pop_first();
                }
                self.known.insert(container, cgroup);
            }
        } else if parent == Path::new("/") && DEFAULT_PARENTS.contains(&name) {
            self.watch_parent(&path);
        }
    }
}

/// `<id>` (cgroupfs driver) or `docker-<id>.scope` (systemd driver).
fn named_after(name: &str) -> Option<ContainerId> {
    let bare = name.strip_suffix(".scope").unwrap_or(name);
    let id = bare.rsplit_once('-').map_or(bare, |(_, id)| id);
    (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| ContainerId(id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::named_after;

    #[test]
    fn reads_container_ids_from_directories_of_both_drivers() {
        let id = "c0efd83067483ed7e4dd107e6a75c15bdaa7ff7473cb5407ad2bedb0f2171dc5";
        assert_eq!(named_after(id).unwrap().0, id);
        assert_eq!(named_after(&format!("docker-{id}.scope")).unwrap().0, id);
        for name in ["docker", "cron.service", "init.scope", &id[1..], "", &format!("{id}0")] {
            assert_eq!(named_after(name), None, "{name}");
        }
    }
}
