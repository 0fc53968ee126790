//! Several units with their brokers and the links between them, and the contents of each unit's Redis.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::companion::{Companion, Settings};
use crate::deadline::{PATIENCE, within};
use crate::proxy::Proxy;
use crate::rabbit::Rabbit;
use crate::redis::Redis;

/// A ready unit with one peer and a store of its own. It compares digests twice a second.
///
/// # Errors
/// A server does not come up.
pub async fn unit(name: &str, peer: &str, rabbit: &Rabbit) -> Result<(Redis, Companion)> {
    let redis = Redis::start().await?;
    let settings = Settings::unit(name, &[peer], &redis, rabbit)
        .variable("UNITRING_SYNC_DIGEST_INTERVAL", "500ms");
    let companion = settings.start().await?;
    companion.is_ready().await?;
    Ok((redis, companion))
}

/// Where the queues of the units are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brokers {
    /// All queues are at one broker.
    One,
    /// The queues are at a cluster with as many nodes as units; each unit connects to its own node.
    Cluster,
    /// Each queue is at its unit's own broker.
    PerUnit,
}

/// One unit of the group.
#[derive(Debug)]
pub struct Member {
    /// The name of the unit.
    pub name: String,
    pub companion: Companion,
    /// Its store.
    pub redis: Redis,
    /// Its links to brokers, in the order of the brokers that it connects to: its own broker comes first.
    pub links: Vec<Proxy>,
}

#[derive(Debug)]
pub struct UnitGroup {
    pub members: Vec<Member>,
    /// The brokers.
    pub rabbits: Vec<Rabbit>,
}

/// The names of the units, by index.
const NAMES: [&str; 3] = ["east", "north", "west"];

impl UnitGroup {
    /// Starts this many units; `change` may change the settings of each.
    ///
    /// # Errors
    /// A server does not come up.
    pub async fn start(
        count: usize,
        brokers: Brokers,
        change: impl Fn(Settings) -> Settings,
    ) -> Result<Self> {
        let rabbits = match brokers {
            Brokers::One => vec![Rabbit::start().await?],
            Brokers::Cluster => Rabbit::cluster(count).await?,
            Brokers::PerUnit => {
                let start = (0..count).map(|_| Rabbit::start());
                futures_util::future::try_join_all(start).await?
            }
        };
        let names = NAMES.get(..count).context("too many units")?;
        let mut members = Vec::with_capacity(count);
        for (place, name) in names.iter().enumerate() {
            let of = |place: usize| rabbits.get(place).or(rabbits.first()).context("no broker");
            let own = Proxy::to(of(place)?.port()).await?;
            let mut links = vec![own];
            let mut others = Vec::new();
            for (other, peer) in names.iter().enumerate().filter(|(_, peer)| peer != &name) {
                if brokers == Brokers::PerUnit {
                    let link = Proxy::to(of(other)?.port()).await?;
                    others.push(format!("{peer}={}", url(&link)));
                    links.push(link);
                }
            }
            let peers: Vec<&str> = names.iter().filter(|peer| peer != &name).copied().collect();
            let redis = Redis::start().await?;
            let first = links.first().context("no link")?;
            let settings = Settings::unit(name, &peers, &redis, of(place)?)
                .variable("UNITRING_SYNC_AMQP_URL", &url(first))
                .variable("UNITRING_SYNC_BROKERS", &others.join(","))
                .variable("UNITRING_SYNC_DIGEST_INTERVAL", "500ms");
            let companion = change(settings).start().await?;
            members.push(Member {
                name: (*name).to_owned(),
                companion,
                redis,
                links,
            });
        }
        for member in &members {
            member.companion.is_ready().await?;
        }
        Ok(Self { members, rabbits })
    }

    /// Waits until all units hold the same, read by `redis-cli`; returns what they hold.
    ///
    /// # Errors
    /// The units never do.
    pub async fn agree(&self) -> Result<BTreeMap<String, String>> {
        // After a flood of changes and with a broker that was away, more than one step is awaited.
        within(3 * PATIENCE, "all units to hold the same", async || {
            let mut first: Option<(&str, BTreeMap<String, String>)> = None;
            for member in &self.members {
                let held = held(&member.redis)?;
                let Some((name, before)) = &first else {
                    first = Some((&member.name, held));
                    continue;
                };
                let mut keys = before.keys().chain(held.keys());
                let differs = keys.find(|key| before.get(*key) != held.get(*key));
                if let Some(key) = differs {
                    let (one, other) = (before.get(key), held.get(key));
                    anyhow::bail!(
                        "{key} is {one:?} in {name} and {other:?} in {}",
                        member.name
                    );
                }
            }
            Ok(first.context("no units")?.1)
        })
        .await
    }

    /// The ports of all companions.
    pub fn ports(&self) -> Vec<u16> {
        let ports = self.members.iter().map(|member| member.companion.port);
        ports.collect()
    }

    /// The unit of this name.
    ///
    /// # Errors
    /// There is no such unit.
    pub fn member(&self, name: &str) -> Result<&Member> {
        let mut members = self.members.iter();
        members
            .find(|member| member.name == name)
            .context("no such unit")
    }
}

fn url(link: &Proxy) -> String {
    format!("amqp://guest:guest@127.0.0.1:{}/%2f", link.port)
}

/// All records of a unit's Redis that are not deleted: version, tab and value by record, as `redis-cli`
/// reads them.
///
/// # Errors
/// The server does not answer.
pub fn held(redis: &Redis) -> Result<BTreeMap<String, String>> {
    let script = "local out = {} \
        for _, key in ipairs(redis.call('KEYS', 'unitring:{*:*}:versions')) do \
          local bucket = string.sub(key, 1, -9) \
          local marks = redis.call('HGETALL', key) \
          for at = 1, #marks, 2 do \
            local value = redis.call('GET', bucket .. 'r:' .. marks[at]) \
            if string.sub(marks[at + 1], -1) ~= '!' then \
              out[#out + 1] = marks[at] .. '\\t' .. marks[at + 1] .. '\\t' .. (value or 'LOST') \
            elseif value then \
              out[#out + 1] = marks[at] .. '\\t' .. marks[at + 1] .. '\\tLEFT BEHIND' \
            end \
          end \
        end return out";
    let mut held = BTreeMap::new();
    for line in redis.cli(&["EVAL", script, "0"])?.lines() {
        if let Some((key, rest)) = line.split_once('\t') {
            ensure!(!rest.ends_with("LOST"), "{key} has a version and no value");
            // The last line of an output has lost its end, which an empty value consists of.
            let end = if rest.contains('\t') { "" } else { "\t" };
            held.insert(key.to_owned(), format!("{rest}{end}"));
        }
    }
    Ok(held)
}

/// The number of tombstones in a unit's Redis.
///
/// # Errors
/// The server does not answer.
pub fn tombstones(redis: &Redis) -> Result<usize> {
    let script = "local count = 0 \
        for _, key in ipairs(redis.call('KEYS', 'unitring:{*:*}:versions')) do \
          for _, mark in ipairs(redis.call('HVALS', key)) do \
            if string.sub(mark, -1) == '!' then count = count + 1 end \
          end \
        end return count";
    Ok(redis.cli(&["EVAL", script, "0"])?.parse()?)
}
