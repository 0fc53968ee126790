//! The filter's own code, fed with the pages that it requests: the content of its header.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use unitring_balancer::balancer::{Balancer, Fallback};
use unitring_balancer::directory::Directory;
use unitring_balancer::discovery::look::{Ask, Look, Reply};
use unitring_balancer::placement::Placing;
use unitring_balancer::settings::{Services, Settings};
use unitring_routing::bounded::Loads;
use unitring_routing::membership::{Member, State};
use unitring_tests::envoy::Envoy;
use unitring_tests::shell::Shell;

use super::cluster::Cluster;

/// The filter for one cluster.
#[derive(Debug)]
pub(super) struct Filter {
    settings: Settings,
    balancer: Balancer,
    members: Vec<Member>,
}

impl Filter {
    /// The filter beside the cluster's own policy; `None` if that is the native module.
    pub(super) fn beside(cluster: &Cluster) -> Result<Option<Self>> {
        let is_native = cluster.shell == Shell::Native;
        (!is_native).then(|| Self::new(cluster)).transpose()
    }

    fn new(cluster: &Cluster) -> Result<Self> {
        let mut settings = json!({"service": cluster.name, "companion": {"cluster": ""}});
        if let Some(weighted) = cluster.told_weighted {
            settings["health"] = json!({"weighted_priority_health": weighted});
        }
        let services = Services::parse(settings.to_string().as_bytes())?;
        let settings = services.all.into_iter().next().context("no service")?;
        Ok(Self {
            balancer: Balancer::new(&settings),
            settings,
            members: Vec::new(),
        })
    }

    /// Reads Envoy's pages, and chooses by them from now on. Rings are made from the previous ones.
    pub(super) async fn look(&mut self, envoy: &Envoy) -> Result<()> {
        let service = self.settings.service.to_string();
        let mut look = Look::default();
        let page = envoy.admin(&look.path(&service, Ask::Page)).await?;
        let next = look.on_page(&service, page.as_bytes(), 0)?;
        ensure!(next == Some(Ask::Endpoints), "{next:?}");
        for (ask, expected) in [
            (Ask::Endpoints, Some(Ask::Cluster)),
            (Ask::Cluster, Some(Ask::Runtime)),
            (Ask::Runtime, None),
        ] {
            let page = envoy.admin(&look.path(&service, ask)).await?;
            let next = look.take(&service, ask, Reply::Body(page.as_bytes()), (0, 0))?;
            ensure!(next == expected, "{next:?}");
        }
        let found = look.found(self.settings.ring.identity);
        let placing = Placing::of(&self.settings, &found, &found.members);
        self.balancer
            .install(Directory::first(&found.members, placing))?;
        self.members = found.members;
        Ok(())
    }

    /// The candidates of a key, as Envoy reads them.
    pub(super) fn candidates(&self, hash: u64) -> Result<Vec<String>, Fallback> {
        let choice = self.balancer.decide(Some(hash), &Idle)?;
        let mut header = String::new();
        self.balancer.write_candidates(&choice, &mut header);
        Ok(header.split(',').map(str::to_owned).collect())
    }

    /// Whether an instance is used only because no instance is healthy.
    pub(super) fn is_degraded(&self, address: &str) -> bool {
        let mut members = self.members.iter();
        members.any(|member| member.address == address && member.state == State::Degraded)
    }
}

/// No request is in flight.
struct Idle;

impl Loads for Idle {
    fn take(&self, _: usize) {}
    fn give_back(&self, _: usize) {}
    fn in_flight(&self, _: usize) -> u64 {
        0
    }
    fn estimate(&self, _: usize) -> u64 {
        0
    }
    fn total(&self) -> u64 {
        0
    }
}
