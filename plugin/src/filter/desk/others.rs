//! The service's other configurations in this process: which of them reports, and the instances that
//! only they know.
//!
//! Two listeners may list different instances of one service. The report has those of its own
//! configuration as its table places them; the others follow with weight 0, so that their load is
//! counted in the fleet and no table contains them.

use std::sync::Arc;

use unitring_balancer::configurations::{Configurations, Usage};
use unitring_balancer::directory::reader::Reader;
use unitring_balancer::directory::{Directory, Entry, Shown};
use unitring_routing::names::Names;

use crate::filter::shared::{self, Shared, key};

/// Time between two looks at the others.
const LOOK_MS: u64 = 1_000;

/// The others, seen from one configuration.
#[derive(Debug)]
pub(super) struct Others {
    /// A hash of this VM's settings.
    configuration: u64,
    service: String,
    /// Where its VMs publish their newest connection.
    connection: String,
    looked_ms: u64,
    all: Configurations,
    directories: Vec<Other>,
}

/// The directory of another configuration.
#[derive(Debug)]
struct Other {
    configuration: u64,
    shared: Shared,
    reader: Reader,
    read: Option<Directory>,
    usage: Usage,
}

impl Others {
    #[inline(never)]
    pub(super) fn new(configuration: u64, service: &str) -> Self {
        Self {
            configuration,
            service: service.to_owned(),
            connection: key("connection", Some(configuration), service),
            looked_ms: 0,
            all: Configurations::default(),
            directories: Vec::new(),
        }
    }

    /// The key of the newest connection.
    pub(super) fn connection(&self) -> &str {
        &self.connection
    }

    /// Names this configuration among the others, for which a VM of it needs its lease.
    #[inline(never)]
    pub(super) fn tick(&mut self, reporting: u64, now_ms: u64) {
        if now_ms.abs_diff(self.looked_ms) < LOOK_MS {
            return;
        }
        self.looked_ms = now_ms;
        let newest = shared::read::<u64>(&self.connection).map_or(0, |(newest, _)| newest);
        let all = key("configurations", None, &self.service);
        shared::change::<Configurations>(&all, |all| {
            all.name(self.configuration, newest, reporting, now_ms);
            self.all.clone_from(all);
            true
        });
    }

    /// Whether this configuration is in force in place of the one that reports.
    pub(super) fn are_replaced(&self, reporting: u64, now_ms: u64) -> bool {
        reporting != self.configuration && self.all.replaces(self.configuration, reporting, now_ms)
    }

    /// Whether there are others.
    pub(super) fn exist(&self) -> bool {
        self.all.others(self.configuration).next().is_some()
    }

    /// The instances that only others know, whatever they call them, and their loads; none of those
    /// that are not in use.
    #[inline(never)]
    pub(super) fn instances(
        &mut self,
        own: &Directory,
        load_of: impl Fn(&Entry) -> Shown,
        now_ms: u64,
    ) -> Vec<(Arc<Entry>, Shown)> {
        self.follow(now_ms);
        let mut found = Vec::new();
        if self.directories.is_empty() {
            return found;
        }
        let mut known = vec![Known::of(own)];
        for other in &mut self.directories {
            let Some(directory) = &other.read else {
                continue;
            };
            let entries = directory.entries().iter();
            let unknown = entries.filter(|entry| !known.iter().any(|known| known.has(entry)));
            let loads: Vec<_> = unknown
                .map(|entry| (Arc::clone(entry), load_of(entry)))
                .collect();
            let shown = || loads.iter().map(|(_, shown)| shown);
            let calls = shown().fold(0u64, |sum, one| sum.wrapping_add(one.totals.calls));
            let in_flight = shown().map(|one| one.in_flight).max().unwrap_or(0);
            if other.usage.look(calls, in_flight, now_ms) {
                found.extend(loads);
                known.push(Known::of(directory));
            }
        }
        found
    }

    fn follow(&mut self, now_ms: u64) {
        let ids: Vec<u64> = self.all.others(self.configuration).collect();
        self.directories
            .retain(|other| ids.contains(&other.configuration));
        for id in ids {
            if !self.directories.iter().any(|o| o.configuration == id) {
                self.directories.push(Other {
                    configuration: id,
                    shared: Shared::new(key("directory", Some(id), &self.service)),
                    reader: Reader::default(),
                    read: None,
                    usage: Usage::new(now_ms),
                });
            }
        }
        for other in &mut self.directories {
            let reader = &mut other.reader;
            let changed = other.shared.changed_by(|bytes| reader.read(bytes));
            other.read = changed.or(other.read.take());
        }
    }
}

/// The ids of a directory's instances.
struct Known<'a> {
    ids: Names<'a>,
    addresses: Names<'a>,
}

impl<'a> Known<'a> {
    fn of(directory: &'a Directory) -> Self {
        let members = || directory.entries().iter().map(|entry| &entry.member);
        Self {
            ids: Names::of(members().map(|member| member.id.as_str())),
            addresses: Names::of(members().map(|member| member.address.as_str())),
        }
    }

    fn has(&self, entry: &Entry) -> bool {
        let member = &entry.member;
        self.ids.has(&member.id) || self.addresses.has(&member.address)
    }
}
