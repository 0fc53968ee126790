//! The promises of the project, tested on the real Envoy, Redis and RabbitMQ.
//!
//! | module | promise |
//! |---|---|
//! | [`servers`] | the harness itself: servers keep acknowledged writes, and no process outlives a test |
//! | [`instances`] | the harness's instances count their own load |
//! | [`traffic`] | the harness's load is as steady as configured |
//! | [`placement`] | a key has the instance that Envoy's RING_HASH gives it |
//! | [`differential`] | the same for any hosts, settings and requests, and for MAGLEV |
//! | [`older`] | the same with the oldest supported Envoy, whose retries follow the ring, too |
//! | [`compatibility`] | with any feature of a cluster or route, Envoy serves as without the filter |
//! | [`topology`] | the same for any cluster in any state, while it changes |
//! | [`failover`] | clients do not notice that an instance is gone |
//! | [`keys`] | a request with any key, or none, is served |
//! | [`verdicts`] | ejections: a failure counts where it ran |
//! | [`wiring`] | a mistake that Envoy accepts silently is found and reported |
//! | [`sharing`] | filters with different settings share counts, and nothing else |
//! | [`settings`] | bad settings are refused with path, value and rule |
//! | [`garbage`] | no input makes the filter or the companion panic; a million malformed ones do not |
//! | [`calls`] | by default the filter does not read answers, and asks Envoy no more than it must |
//! | [`explain`] | the filter returns the allocation to the caller |
//! | [`access_log`] | Envoy's access log can show why a request went where it went |
//! | [`capture`] | an update that an answer announces is stored before the caller has the answer |
//! | [`load`] | the count of requests in flight returns to zero |
//! | [`fleet`] | the fleet's load is that of its living Envoys |
//! | [`adversary`] | whatever a companion invents, an Envoy serves its fair part of the cap and no more |
//! | [`capacity`] | no instance passes its capacity while another candidate has room |
//! | [`health`] | a failing instance gets no keys, comes back on trial, and warms up |
//! | [`retries`] | each attempt is counted where it ran |
//! | [`attempts`] | calls, failures and load are Envoy's own of each host, whatever happens to a request |
//! | [`names`] | a service has the name of its Envoy cluster, whatever its characters |
//! | [`services`] | several services in one filter do not disturb each other |
//! | [`reload`] | a VM that dies leaves no count behind |
//! | [`reports`] | one report per Envoy process and interval |
//! | [`metrics`] | what Prometheus reads has the names and labels of its contract |
//! | [`alerts`] | the shipped alerts fire under their faults and clear, and every expression of the dashboards evaluates |
//! | [`findings`] | the wiring mistakes that filters find are shown until they are fixed |
//! | [`absence`] | no request fails because the companion or Redis is away |
//! | [`registry`] | a registered instance gets its keys |
//! | [`chaos`] | whatever happens, clients get no error that Envoy alone would not have given |
//! | [`churn`] | however many instances come and go, stats and memory stay bounded |
//! | [`drain`] | a draining instance gets no new keys and finishes its requests |
//! | [`group`] | the servers of a unit become its group, and foreign servers are not touched |
//! | [`data`] | a write is made only if its condition holds |
//! | [`updates`] | an update that an instance announced is stored once, and in the order of its Envoy |
//! | [`records`] | datasets are listed, expire, and are watched without a gap |
//! | [`primaries`] | no acknowledged write is lost with a primary; the loss without WAIT is measured |
//! | [`companions`] | of several companions of a unit only the leader does the leader's work |
//! | [`failures`] | a store that is full, broken, foreign or too new is reported, and nothing is lost |
//! | [`layout`] | the companion's data in Redis are as the docs say, for any client |
//! | [`store`] | Redis passes the contract suite of all stores |
//! | [`sync`] | a record written in one unit is read in the other, whatever was killed in between |
//! | [`group_life`] | a unit starts empty, is away, leaves, returns; loads, events, fixed data, conflicts |
//! | [`hostile`] | input that no store can keep and no unit may trust affects nothing but itself |
//! | [`messages`] | an entry of a message that cannot be read, or is too much, condemns nothing else |
//! | [`clocks`] | a clock that is a year ahead frees nothing that expires later |
//! | [`foreign`] | what another client wrote in Redis stops its own bucket at most, and is named with the way out |
//! | [`logins`] | passwords that change are read again while the companion runs |
//! | [`full`] | a full Redis and companions that differ do no harm and are reported |
//! | [`limits`] | too large messages, a queue that another companion reads, a store that went back |
//! | [`links`] | TLS, strangers, poison messages, a full queue, a broker that accepts nothing |
//! | [`bounds`] | everything that can grow has a named bound, and reaching it is counted |
//! | [`units`] | three units hold the same after all servers and links between them failed, by `redis-cli` |
//! | [`door`] | strangers, pages of other sites and floods keep no client from the companion, and roles are enforced |
//! | [`console`] | the console shows what the API says, to readers with the role, and runs nothing of a name |
//! | [`tcp`] | a TCP connection is placed, counted and bounded as a request is, and loses no byte |
//! | [`native`] | what the native module does otherwise than the filter is what its page says |
//! | [`traces`] | the spans of a request and of a write, from unit to unit, reach a collector |
//! | [`logs`] | each line of the log is JSON where that is asked for, those of a request share its id |
//! | [`pages`] | what the pages show is what their commands print |
//! | [`demo`] | the commands that `unitring demo` prints work as printed |
//! | [`event_log`] | what many Envoys see is one entry of the event log, which keeps a day |
//! | [`commands`] | a command reports an error once, with the way out, and its exit code |

#![allow(clippy::disallowed_methods, reason = "tests wait and measure")]

#[cfg(test)]
mod absence;
#[cfg(test)]
mod access_log;
#[cfg(test)]
mod adversary;
#[cfg(test)]
mod alerts;
#[cfg(test)]
mod attempts;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod capacity;
#[cfg(test)]
mod capture;
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod churn;
#[cfg(test)]
mod clocks;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod companions;
#[cfg(test)]
mod compatibility;
#[cfg(test)]
mod console;
#[cfg(test)]
mod data;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod door;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod event_log;
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
mod foreign;
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
mod logins;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod names;
#[cfg(test)]
mod native;
#[cfg(test)]
mod older;
#[cfg(test)]
mod pages;
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
mod tcp;
#[cfg(test)]
mod topology;
#[cfg(test)]
mod traces;
mod traffic;
#[cfg(test)]
mod units;
#[cfg(test)]
mod updates;
#[cfg(test)]
mod verdicts;
#[cfg(test)]
mod wiring;
