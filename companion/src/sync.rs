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
pub mod driver;
pub mod gossip;
pub mod handle;
pub mod lag;
pub mod links;
pub mod machine;
pub mod members;
mod parts;
mod session;
mod silence;
mod skew_alarm;
mod status;

pub use driver::Driver;
pub use gossip::Gathering;
pub use handle::Handle;
pub use parts::Parts;
pub use status::{LinkStatus, Status};

use parts::seen;
