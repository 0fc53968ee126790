//! The native module: the balancer as a load balancing policy inside Envoy, without a virtual machine.
//!
//! It is the balancer (`unitring_balancer`) in a shell of Envoy's interface for dynamic modules. The filter
//! (`plugin/`) is the other shell. Both place a key on the same instance.
//!
//! # Layout, in the order of the flow
//!
//! | module | arrow |
//! |---|---|
//! | `binding` | Envoy's C interface ↔ safe calls; the only unsafe code |
//! | `policy` | a cluster's configuration → what all threads share for it |
//! | `members` | Envoy's hosts → members, on the main thread |
//! | `localities` | Envoy's order of localities, by which it tells their weights |
//! | `placed` | members → the balancer in force, published to the workers |
//! | `seats` | the hosts of the balancer → their places among those of this worker |
//! | `worker` | a request → its host |
//! | `pick` | a request, by one table → its host |
//! | `loads` | Envoy's counts, and picks that wait for a connection → in flight |
//! | `attempts` | a connection that is tried again → which try it is |
//! | `clock` | the clocks of the process |
//! | `reports` | the timer → reports to the companion; its answers → the fleet |
//!
//! Envoy calls the module on its workers and on its main thread. The main thread reads the hosts, builds the
//! rings and publishes them. A worker keeps a reference to what was published last, so that a choice takes no lock.
//!
//! Public items know nothing of Envoy's interface: the guard of instructions (`tests/guard`) counts them.

pub mod attempts;
// Envoy has the other half, so that a program of tests cannot be linked with it.
#[cfg(not(test))]
#[allow(unsafe_code, reason = "Envoy's C interface")]
mod binding;
#[cfg(not(test))]
mod clock;
pub mod loads;
mod localities;
#[cfg(not(test))]
mod members;
pub mod pick;
pub mod placed;
#[cfg(not(test))]
mod policy;
#[cfg(not(test))]
mod reports;
pub mod seats;
#[cfg(not(test))]
mod worker;
