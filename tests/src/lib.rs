//! Starts the real servers, each on free ports in its own folder, and guarantees that they end.
//!
//! # Layout, from the bottom up
//!
//! | module | what |
//! |---|---|
//! | [`programs`] | where the programs are, and the command that fetches a missing one |
//! | [`ports`] | free ports, and another try when another process took one |
//! | [`process`] | a child process: its log, its end |
//! | [`usage`] | the processor time and memory of a process |
//! | [`terminal`] | a program on a terminal: keys go in, and the screen is what it drew |
//! | [`deadline`] | waiting for a condition |
//! | [`tally`] | an instance's count of its own load |
//! | [`instance`] | an instance of a service: a small real HTTP server |
//! | [`redis`], [`rabbit`], [`companion`], [`envoy`], [`prometheus`] | one server each |
//! | [`collector`] | a collector of spans |
//! | [`gauges`] | what the filter counts in flight |
//! | [`host_counts`] | what Envoy counts of each host, and whether the filter counts the same |
//! | [`report`] | hand-made reports of a filter to a companion |
//! | [`scrape`] | pages of metrics, and what `promtool` says of them |
//! | [`certificates`] | a certificate authority, for servers with TLS |
//! | [`unit_group`] | three units and their brokers, and the contents of each Redis |
//! | [`proxy`] | a network link between two servers that can be slow, silent or cut |
//! | [`config`], [`page_part`] | the shipped `envoy/*.yaml`, moved to other ports, and variants of it, some of which a page shows |
//! | [`site`] | Envoy, companion and instances together |
//! | [`tcp`], [`ftp`] | the same for a TCP service, and for FTP servers |
//! | [`sessions`] | the shipped session service in two units |
//! | [`traffic`], [`upgraded`], [`writers`], [`rivals`], [`raw`] | clients: a steady load, a stream that stays open, writers that remember their acknowledged writes, concurrent changes of the same records, raw bytes |
//! | [`browser`] | a real browser, driven by its own protocol |
//! | [`seed`] | the seed of a random test |
//!
//! No test is skipped: a missing program is an error that names the command that fetches it.

#![allow(clippy::disallowed_methods, reason = "tests wait and measure")]

pub mod browser;
pub mod certificates;
pub mod collector;
pub mod companion;
pub mod config;
pub mod deadline;
pub mod envoy;
pub mod ftp;
pub mod gauges;
pub mod host_counts;
pub mod instance;
pub mod page_part;
pub mod ports;
pub mod process;
pub mod programs;
pub mod prometheus;
pub mod proxy;
pub mod rabbit;
pub mod raw;
pub mod redis;
pub mod report;
pub mod rivals;
pub mod scrape;
pub mod seed;
pub mod sessions;
pub mod shell;
pub mod site;
pub mod statistics;
pub mod tally;
pub mod tcp;
pub mod terminal;
pub mod traffic;
pub mod two_listeners;
pub mod unit_group;
pub mod upgraded;
pub mod usage;
pub mod writers;
