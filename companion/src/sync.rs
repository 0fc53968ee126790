//! One unit's part in keeping the records of all units the same: outbox → broker → the other units'
//! stores.
//!
//! # Layout, in the order in which a change travels
//!
//! | module | arrow |
//! |---|---|
//! | [`handle`] | a write → whether sync admits it, and that it was stored |
//! | `status` | the state of each link → the answer of `/v1/units` |
//! | [`driver`] | role and membership → a session, or none |
//! | `session` | performs the machine's effects and feeds it inputs |
//! | [`machine`] | outbox, deliveries and digests → what to publish, apply and repair (pure) |
//! | [`links`] | messages ⇄ the other units' queues |
//! | [`gossip`] | loads, events and fixed data ⇄ the other units |
//! | [`members`] | records → which units left the group |
//! | `admission`, `silence`, `skew_alarm` | the outbox, messages and clocks → what is refused and told (pure) |
//! | [`lag`] | applied changes → their replication lag |

mod admission;
pub(crate) mod driver;
pub(crate) mod gossip;
pub(crate) mod handle;
pub(crate) mod lag;
pub(crate) mod links;
pub(crate) mod machine;
pub(crate) mod members;
mod parts;
mod session;
mod silence;
mod skew_alarm;
mod status;

pub(crate) use driver::Driver;
pub(crate) use gossip::Gathering;
pub(crate) use handle::Handle;
pub(crate) use parts::Parts;
pub(crate) use status::Status;

use parts::seen;
