//! The service's other configurations in this process: which of them reports, and the instances that
//! only they know.
//!
//! Two listeners may list different instances of one service. The report has those of its own
//! configuration as its table places them; the others follow with weight 0, so that their load is
//! counted in the fleet and no table contains them.

use std::sync::Arc;

use unitring_balancer::configurations::Configurations;
use unitring_balancer::directory::reader::Reader;
use unitring_balancer::directory::{Directory, Entry};
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
    pub(super) fn tick(&mut self, now_ms: u64) {
        if now_ms.abs_diff(self.looked_ms) < LOOK_MS {
            return;
        }
        self.looked_ms = now_ms;
        let newest = shared::read::<u64>(&self.connection).map_or(0, |(newest, _)| newest);
        let all = key("configurations", None, &self.service);
        shared::change::<Configurations>(&all, |all| {
            all.name(self.configuration, newest, now_ms);
            self.all.clone_from(all);
            true
        });
    }

    /// Whether this configuration is in force in place of the one that reports.
    pub(super) fn are_replaced(&self, reporting: u64, now_ms: u64) -> bool {
        reporting != self.configuration && self.all.replaces(self.configuration, reporting, now_ms)
    }

    /// The instances that only others know, whatever they call them.
    #[inline(never)]
    pub(super) fn instances(&mut self, own: &Directory) -> Vec<Arc<Entry>> {
        self.follow();
        let others = self.directories.iter();
        let others: Vec<&Directory> = others.filter_map(|other| other.read.as_ref()).collect();
        let mut known = vec![Known::of(own)];
        let mut found = Vec::new();
        for other in others {
            let entries = other.entries().iter();
            let unknown = entries.filter(|entry| !known.iter().any(|known| known.has(entry)));
            found.extend(unknown.cloned());
            known.push(Known::of(other));
        }
        found
    }

    fn follow(&mut self) {
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

/// What the instances of a directory are called.
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
