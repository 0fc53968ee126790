//! Starts the real servers, each on free ports in a folder of its own, and ends them for certain.
//!
//! # Layout, from the bottom up
//!
//! | module | what |
//! |---|---|
//! | [`programs`] | where the programs are, and what to run if they are not |
//! | [`ports`] | free ports, and a second try when another process was faster |
//! | [`process`] | a child process: its log, its end |
//! | [`usage`] | the processor time and the memory that it has used |
//! | [`deadline`] | waiting for something to become true |
//! | [`tally`] | what an instance counts of itself |
//! | [`instance`] | an instance of a service: a small real HTTP server |
//! | [`redis`], [`rabbit`], [`companion`], [`envoy`] | one server each |
//! | [`report`] | what a filter tells a companion, by hand |
//! | [`certificates`] | an authority, for servers that speak TLS |
//! | [`unit_group`] | three units and their brokers, and what each Redis holds |
//! | [`proxy`] | a link between two of them that can be slow, silent or cut |
//! | [`config`] | the shipped `envoy/*.yaml`, moved to other ports, and variants of it |
//! | [`site`] | all of them together |
//! | [`traffic`], [`upgraded`], [`writers`], [`rivals`], [`raw`] | clients: a steady load, a stream that stays open, writes that are remembered, changes of the same records everywhere, any bytes |
//! | [`seed`] | the seed of a random test |
//!
//! Nothing is skipped: what is missing is an error that names the command that gets it.

pub mod certificates;
pub mod companion;
pub mod config;
pub mod deadline;
pub mod envoy;
pub mod instance;
pub mod ports;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod rabbit;
pub mod raw;
pub mod redis;
pub mod report;
pub mod rivals;
pub mod seed;
pub mod site;
pub mod tally;
pub mod traffic;
pub mod unit_group;
pub mod upgraded;
pub mod usage;
pub mod writers;
