//! An Envoy without the filter, with many random clusters, and the server behind them.

mod files;
mod start;
mod updates;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::try_join_all;
use tempfile::TempDir;
use unitring_tests::deadline::until;
use unitring_tests::envoy::Envoy;
use unitring_tests::raw::{Raw, get};
use unitring_tests::shell::Shell;
use unitring_tests::traffic::keys::Numbers;

use super::address::Addresses;
use super::change::change;
use super::cluster::{Cluster, Host};
use super::filter::Filter;
use super::pages::{self, Pages, State};
use super::random::{self, Draws};
use super::responder::{Request, Responder};
use super::shell;
use files::{Files, clusters_file, endpoints_file, files, write};
use start::{answering, folder, front};
use updates::Updates;

const CLUSTERS: usize = 40;
const CONNECTIONS: usize = 20;
/// Envoy's workers get a change after the main thread, whose page this reads.
const CALM: Duration = Duration::from_millis(300);

pub(super) struct World {
    pub(super) clusters: Vec<Cluster>,
    draws: Vec<Draws>,
    addresses: Addresses,
    responder: Responder,
    /// The content that each file was last written with.
    written: Files,
    /// The longest time for which Envoy may hold a change back from its workers.
    window: Duration,
    envoy: Envoy,
    folder: TempDir,
}

impl World {
    pub(super) async fn start(seed: u64, shell: Shell, numbers: &mut Numbers) -> Result<Self> {
        let folder = folder(shell::name(shell), seed)?;
        let (addresses, responder) = answering(numbers, folder.path())?;
        // Most worlds need not wait for the merge window; one in four has Envoy's default.
        let windows: &[f64] = numbers.pick(&[&[0.0], &[0.0, 0.0, 0.2], &[0.0, 0.5], &[]]);
        let longest = windows.iter().copied().fold(0.0, f64::max);
        let longest = if windows.is_empty() { 1.0 } else { longest };
        let draw = |number| random::cluster(number, shell, windows, numbers, &addresses);
        let (clusters, draws): (Vec<_>, Vec<_>) = (0..CLUSTERS).map(draw).unzip();
        tell(&responder, &clusters);
        let mut written = Files::new();
        write(&mut written, files(&clusters, folder.path()))?;
        let runtime_percent = random::runtime_percent(shell, numbers);
        let front = front(&clusters, runtime_percent, folder.path(), numbers);
        let envoy = front.start().await?;
        Ok(Self {
            clusters,
            draws,
            addresses,
            responder,
            written,
            window: Duration::from_secs_f64(longest),
            envoy,
            folder,
        })
    }

    /// Changes the clusters, and waits until Envoy has the changes.
    pub(super) async fn change(&mut self, numbers: &mut Numbers) -> Result<()> {
        for (cluster, draws) in self.clusters.iter_mut().zip(&mut self.draws) {
            change(cluster, draws, numbers, &self.addresses);
        }
        tell(&self.responder, &self.clusters);
        let folder = self.folder.path();
        let files = files(&self.clusters, folder);
        let changed = files.iter();
        let changed = changed.filter(|(path, value)| self.written.get(*path) != Some(value));
        let changed: Vec<PathBuf> = changed.map(|(path, _)| path.clone()).collect();
        let is_changed = |path: PathBuf| changed.contains(&path);
        let before = Updates::of(&self.envoy).await?;
        write(&mut self.written, files)?;
        until("Envoy to have read the changes", async || {
            let now = Updates::of(&self.envoy).await?;
            for Cluster { number, name, .. } in &self.clusters {
                let is_read = now.endpoints(name) != before.endpoints(name);
                let is_due = is_changed(endpoints_file(folder, *number));
                ensure!(is_read || !is_due, "{name}: {:?}", before.endpoints(name));
            }
            let is_read = now.cds != before.cds;
            ensure!(is_read || !is_changed(clusters_file(folder)), "no clusters");
            ensure!(now.warming == 0, "{} clusters are warming", now.warming);
            Ok(())
        })
        .await?;
        let rejected = Updates::of(&self.envoy).await?.rejected;
        ensure!(rejected == 0, "{rejected} rejected:\n{}", self.envoy.log());
        Ok(())
    }

    /// Waits until the state of Envoy's hosts no longer changes: each was checked since, and no change
    /// occurs for as long as the workers need to get the last one.
    pub(super) async fn settle(&self) -> Result<()> {
        self.responder.count_anew();
        let mut last = (State::new(), Instant::now());
        until("the hosts to be as they will be", async || {
            let now = self.state().await?;
            if now != last.0 {
                last = (now, Instant::now());
            }
            for cluster in &self.clusters {
                self.are_checked(cluster)?;
            }
            let calm = last.1.elapsed();
            ensure!(calm >= CALM + self.window, "calm for {calm:?}");
            Ok(())
        })
        .await
    }

    fn are_checked(&self, cluster: &Cluster) -> Result<()> {
        let Some(checks) = &cluster.checks else {
            return Ok(());
        };
        let mut times: BTreeMap<String, u64> = BTreeMap::new();
        for host in cluster.hosts() {
            let address = host.address.to_string();
            let is_answered = self.addresses.answering.contains(&host.address)
                && self
                    .responder
                    .answers_checks(&(cluster.number, address.clone()));
            let is_checked = is_answered && !host.unchecked;
            let times = times.entry(address);
            // EDS may repeat a host; Envoy keeps only the first.
            if !cluster.is_eds() || matches!(times, Entry::Vacant(_)) {
                *times.or_default() += u64::from(is_checked);
            }
        }
        let each = 1 + u64::from(checks.unhealthy_threshold.max(checks.healthy_threshold));
        for (address, times) in times {
            let answered = self.responder.answered(&(cluster.number, address.clone()));
            ensure!(
                answered >= each * times,
                "{address} of {} was checked {answered} times",
                cluster.name
            );
        }
        Ok(())
    }

    /// Lets outlier detection eject the hosts that are to fail, as far as these keys reach them.
    pub(super) async fn eject(&self, keys: &[String]) -> Result<()> {
        let all = self.clusters.iter();
        let ejecting = all.filter(|cluster| cluster.outliers.is_some());
        let tell = |how: fn(&Host) -> Request| {
            for (cluster, host) in ejecting.clone().flat_map(Cluster::places) {
                let place = (cluster, host.address.to_string());
                self.responder.tell_request(place, how(host));
            }
        };
        tell(|host| host.request);
        let numbers: Vec<usize> = ejecting.clone().map(|cluster| cluster.number).collect();
        self.owners(&numbers, keys).await?;
        tell(|_| Request::Served);
        Ok(())
    }

    /// The host that Envoy chooses for each key in each of these clusters; `None` if Envoy answers
    /// itself.
    pub(super) async fn owners(
        &self,
        clusters: &[usize],
        keys: &[String],
    ) -> Result<Vec<Vec<Option<String>>>> {
        if clusters.is_empty() {
            return Ok(Vec::new());
        }
        let ask = async |clusters: &[usize]| -> Result<Vec<Vec<Option<String>>>> {
            let mut connection = Raw::connect_from(Ipv4Addr::LOCALHOST, self.envoy.port).await?;
            let mut owners = Vec::new();
            for cluster in clusters
                .iter()
                .filter_map(|number| self.clusters.get(*number))
            {
                owners.push(ask(&mut connection, cluster, keys).await?);
            }
            Ok(owners)
        };
        let parts = clusters
            .chunks(clusters.len().div_ceil(CONNECTIONS))
            .map(ask);
        Ok(try_join_all(parts).await?.concat())
    }

    /// A cluster in Envoy's admin interface.
    pub(super) async fn pages(&self, cluster: &Cluster) -> Result<Pages> {
        Pages::of(&self.envoy, cluster).await
    }

    /// Lets each filter read its cluster.
    pub(super) async fn look(&self, filters: &mut [Option<Filter>]) -> Result<()> {
        for filter in filters.iter_mut().flatten() {
            filter.look(&self.envoy).await?;
        }
        Ok(())
    }

    /// How many hosts each cluster excludes from its health, by Envoy's count.
    pub(super) async fn excluded(&self) -> Result<Vec<u64>> {
        let stats = self.envoy.stats("cluster.").await?;
        let stat = |cluster: &Cluster| {
            let name = cluster.name.replace(':', "_");
            let stat = stats.get(&format!("cluster.{name}.membership_excluded"));
            stat.copied()
                .with_context(|| format!("{name} has no such stat"))
        };
        self.clusters.iter().map(stat).collect()
    }

    /// All hosts, without counts that requests change.
    pub(super) async fn state(&self) -> Result<State> {
        let names = self.clusters.iter().map(|cluster| cluster.name.as_str());
        let names: Vec<&str> = names.collect();
        Ok(pages::state(&names, &self.envoy.admin("/clusters").await?))
    }
}

/// The host that Envoy chooses for each key in a cluster.
async fn ask(
    connection: &mut Raw,
    cluster: &Cluster,
    keys: &[String],
) -> Result<Vec<Option<String>>> {
    let case = cluster.number.to_string();
    let mut owners = Vec::new();
    for key in keys {
        let headers: [(&str, &[u8]); 4] = [
            ("host", b"unitring"),
            ("x-cluster", cluster.name.as_bytes()),
            ("x-case", case.as_bytes()),
            ("x-user-id", key.as_bytes()),
        ];
        // One request at a time: Envoy closes a connection on which it gives several answers of its own.
        let answers = connection.ask(&[get(b"/", &headers)]).await?;
        let answer = answers.first().context("no answer")?;
        owners.push(match (answer.status, answer.header("x-chosen")) {
            (503, None | Some("-")) => None,
            (_, Some(chosen)) => Some(chosen.to_owned()),
            _ => bail!("{}: {answer:?}", cluster.name),
        });
    }
    Ok(owners)
}

fn tell(responder: &Responder, clusters: &[Cluster]) {
    for (cluster, host) in clusters.iter().flat_map(Cluster::places) {
        responder.tell_check((cluster, host.address.to_string()), host.check);
    }
}
