//! The choice of a shell beside that of Envoy's policy, and the reasons why they may differ.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use unitring_balancer::balancer::Fallback;
use unitring_balancer::placement::LeftAll;
use unitring_routing::key::header_hash;

use super::cluster::Cluster;
use super::filter::Filter;
use super::model::{Model, Owner};
use super::native::Native;
use super::pages::Pages;
use super::world::World;

/// Attempts for an unchanged state: the requests make Envoy eject hosts, each host once.
const TRIES: usize = 20;

/// The comparisons so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    keys: usize,
    /// Keys that the shell placed as Envoy does.
    placed: usize,
    /// Other outcomes, and how often they occurred.
    sights: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn see(&mut self, sight: &'static str) {
        *self.sights.entry(sight).or_default() += 1;
    }

    pub(super) fn plus(mut self, other: Self) -> Self {
        self.keys += other.keys;
        self.placed += other.placed;
        for (sight, times) in other.sights {
            *self.sights.entry(sight).or_default() += times;
        }
        self
    }

    /// Fails if too little was compared: a filter that leaves everything to Envoy never differs.
    pub(super) fn is_enough(&self) -> Result<()> {
        ensure!(
            self.placed * 10 >= self.keys * 6,
            "only {} of {} keys were placed",
            self.placed,
            self.keys
        );
        Ok(())
    }
}

pub(super) async fn compare(
    world: &World,
    filters: &mut [Option<Filter>],
    keys: &[String],
    tally: &mut Tally,
) -> Result<()> {
    for _ in 0..TRIES {
        world.settle().await?;
        let before = world.state().await?;
        world.look(filters).await?;
        let mut pages = Vec::new();
        for cluster in &world.clusters {
            pages.push(world.pages(cluster).await?);
        }
        let all: Vec<usize> = (0..world.clusters.len()).collect();
        let owners = world.owners(&all, keys).await?;
        let excluded = world.excluded().await?;
        // The requests themselves may eject hosts that refuse; then they met two states.
        if world.state().await? != before {
            continue;
        }
        let states = world.clusters.iter().zip(filters).zip(pages);
        for (((cluster, filter), pages), (owners, excluded)) in
            states.zip(owners.iter().zip(excluded))
        {
            let shell = match filter {
                Some(filter) => Chooser::Filter(filter),
                None => Chooser::Native(Box::new(Native::read(&pages, cluster)?)),
            };
            let state = State {
                cluster,
                shell,
                model: Model::read(&pages, cluster.weighted_priority_health)?,
                pages,
            };
            // A host that already fails, and then announces that it leaves at once, has the flag on the
            // pages before Envoy rebuilds its sets, which it does with the next change in the priority.
            if state.model.excluded != excluded {
                tally.see("left out on the pages only");
                continue;
            }
            state.compare(keys, owners, tally)?;
        }
        return Ok(());
    }
    bail!("the hosts never stay as they are")
}

/// A cluster in one state.
struct State<'a> {
    cluster: &'a Cluster,
    shell: Chooser<'a>,
    model: Model,
    pages: Pages,
}

/// The shell that chose, as far as it is known beside Envoy's answers.
enum Chooser<'a> {
    Filter(&'a Filter),
    Native(Box<Native>),
}

impl State<'_> {
    fn compare(&self, keys: &[String], owners: &[Option<String>], tally: &mut Tally) -> Result<()> {
        tally.see("clusters");
        for sight in self.model.sights().chain(self.pages.sights()) {
            tally.see(sight);
        }
        let mut differing = Vec::new();
        for (key, owner) in keys.iter().zip(owners) {
            let hash = header_hash(&mut [key.as_bytes()]).context("no hash")?;
            tally.keys += 1;
            let owner = owner.as_deref();
            let verdict = match &self.shell {
                Chooser::Filter(filter) => self.verdict(filter, hash, owner),
                Chooser::Native(native) => native.verdict(&self.model, hash, owner),
            };
            match verdict {
                Ok(sight) => {
                    tally.see(sight);
                    tally.placed += usize::from(sight == PLACED);
                }
                Err(why) => differing.push((key, hash % 100 + 1, owner, why)),
            }
        }
        let draws: BTreeSet<u64> = differing.iter().map(|(_, draw, ..)| *draw).collect();
        ensure!(
            differing.is_empty(),
            "{} of {} keys differ, as {:?}; they draw {draws:?} of 100 in\n{}\n{}\n{}\n{}",
            differing.len(),
            keys.len(),
            differing.first(),
            serde_json::to_string(self.cluster)?,
            self.pages.hosts,
            self.pages.endpoints,
            self.pages.settings,
        );
        Ok(())
    }

    /// The outcome for a key with this owner by Envoy; an error if it is not allowed.
    fn verdict(
        &self,
        filter: &Filter,
        hash: u64,
        owner: Option<&str>,
    ) -> Result<&'static str, String> {
        let told = self.model.owner(hash);
        match (&told, owner) {
            (Owner::Host(told), Some(owner)) if told == owner => {}
            (Owner::Nobody, None) | (Owner::Unknown(_), _) => {}
            _ => return Err(format!("the model says {told:?}")),
        }
        let choice = filter.candidates(hash);
        match (&choice, owner) {
            (Ok(candidates), Some(owner))
                if candidates.first().is_some_and(|first| first == owner) =>
            {
                match candidates
                    .iter()
                    .find(|other| !self.model.may_choose(hash, other))
                {
                    Some(other) => Err(format!("{other} is not Envoy's to choose")),
                    None => Ok(PLACED),
                }
            }
            (Ok(candidates), None) if candidates.iter().all(|one| filter.is_degraded(one)) => {
                Ok("a degraded one, where Envoy has nobody")
            }
            // No host, or degraded hosts that the filter cannot name or distinguish.
            (Err(Fallback::NoRing | Fallback::Unnameable | Fallback::Ambiguous), None) => {
                Ok("nobody")
            }
            (Err(Fallback::Unnameable), Some(owner)) if !is_nameable(owner) => {
                Ok("left: no header can name it")
            }
            (Err(Fallback::Left(LeftAll::UnknownWeighting)), _)
                if self.cluster.is_eds() && self.cluster.told_weighted.is_none() =>
            {
                Ok("left: weighted_priority_health of an EDS cluster is not known")
            }
            (Err(Fallback::Ambiguous), Some(_)) if self.model.has_same_names(hash) => {
                Ok("left: hosts have the same name")
            }
            _ => match (&choice, told) {
                (Err(Fallback::NoRing), Owner::Unknown(why)) => Ok(why),
                (_, told) => Err(format!("the filter says {choice:?}, the model {told:?}")),
            },
        }
    }
}

/// The choice of Envoy's own policy.
pub(super) const PLACED: &str = "placed";

fn is_nameable(address: &str) -> bool {
    address.parse::<SocketAddr>().is_ok() && !address.contains('%')
}
