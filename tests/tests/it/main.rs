//! The promises, each kept or broken by the real Envoy, Redis and RabbitMQ.
//!
//! | module | promise |
//! |---|---|
//! | [`servers`] | the harness itself: servers keep what they acknowledged, nothing outlives a test |
//! | [`instances`] | the harness's instances know their own load |
//! | [`traffic`] | the harness's load is as steady as it says |
//! | [`placement`] | a key has the instance that Envoy's RING_HASH gives it |
//! | [`differential`] | so it has with any hosts, settings and request, and with MAGLEV |
//! | [`older`] | so it has with the oldest Envoy that we support, whose retries follow the ring, too |
//! | [`compatibility`] | whatever else a cluster and a route have, Envoy serves as without the filter |
//! | [`topology`] | and in any cluster that Envoy can be given, in whatever state, while it changes |
//! | [`failover`] | clients do not notice that an instance is gone |
//! | [`keys`] | any key, and none, is served |
//! | [`verdicts`] | who is ejected for what: a failure counts where it ran |
//! | [`wiring`] | a mistake that Envoy takes without a word is found and told |
//! | [`sharing`] | filters with different settings share what is counted, and nothing else |
//! | [`settings`] | bad settings are refused with path, value and rule |
//! | [`garbage`] | no input makes the filter or the companion panic, a million broken ones do not |
//! | [`explain`] | the allocation is returned to the caller |
//! | [`load`] | what is counted as in flight has ended when it ends |
//! | [`fleet`] | the fleet's load is that of its living Envoys |
//! | [`capacity`] | no instance passes its capacity while another candidate has room |
//! | [`health`] | an instance that fails gets no keys, comes back by a trial, and warms up |
//! | [`retries`] | each attempt is counted where it ran |
//! | [`names`] | a service has the name that its Envoy cluster has, whatever that is |
//! | [`services`] | several services in one filter do not disturb each other |
//! | [`reload`] | a VM that dies leaves no count behind |
//! | [`reports`] | one report per Envoy process and interval |
//! | [`findings`] | what filters find wrong in their wiring is shown until it is mended |
//! | [`absence`] | no request fails because the companion or Redis is away |
//! | [`registry`] | a registered instance takes its keys |
//! | [`chaos`] | whatever happens, clients get no error that Envoy alone would not have given |
//! | [`churn`] | however many instances come and go, stats and memory have a bound |
//! | [`drain`] | an instance that drains gets no new keys and finishes what it has |
//! | [`group`] | the servers of a unit become its group, and what is not ours is not touched |
//! | [`data`] | a write is made only where its condition holds |
//! | [`records`] | datasets are listed, expire, and are watched without a gap |
//! | [`primaries`] | no acknowledged write is lost with a primary; what is lost without WAIT is measured |
//! | [`companions`] | of several companions of a unit one does what only one shall do |
//! | [`failures`] | a store that is full, broken, foreign or too new is said, and nothing is lost |
//! | [`layout`] | what the companion keeps in Redis is as the docs say, for any client |
//! | [`store`] | Redis passes the suite that every store passes |
//! | [`sync`] | a record written in one unit is read in the other, whatever was killed in between |
//! | [`group_life`] | a unit comes empty, is away for too long, leaves, comes back; loads, events, fixed data, conflicts |
//! | [`hostile`] | what no store can keep and no unit may believe condemns nothing but itself |
//! | [`full`] | a Redis that is full, and companions that differ, do no harm and say so |
//! | [`limits`] | what a broker does not take, a queue that another reads, a store that went back |
//! | [`links`] | TLS, strangers, poison, a full queue, a broker that takes nothing |
//! | [`bounds`] | whatever can grow has a bound with a name, and what happens there is counted |
//! | [`units`] | three units hold the same after everything between them broke, by `redis-cli` |
//! | [`demo`] | what `unitring demo` prints works as printed |
//! | [`commands`] | what a command says of an error, once and with the way out, and how it ends |

#[cfg(test)]
mod absence;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod capacity;
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod churn;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod companions;
#[cfg(test)]
mod compatibility;
#[cfg(test)]
mod data;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod findings;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod full;
#[cfg(test)]
mod garbage;
#[cfg(test)]
mod group;
#[cfg(test)]
mod group_life;
#[cfg(test)]
mod health;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod instances;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod layout;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod links;
#[cfg(test)]
mod load;
#[cfg(test)]
mod names;
#[cfg(test)]
mod older;
#[cfg(test)]
mod placement;
#[cfg(test)]
mod primaries;
#[cfg(test)]
mod records;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod servers;
#[cfg(test)]
mod services;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod store;
#[cfg(test)]
mod sync;
#[cfg(test)]
mod topology;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod units;
#[cfg(test)]
mod verdicts;
#[cfg(test)]
mod wiring;
