//! What one unit does so that all units hold the same: outbox → broker → the other units' stores.
//!
//! # Layout, in the order in which a change travels
//!
//! | module | arrow |
//! |---|---|
//! | [`handle`] | a write → may it come in; it did |
//! | [`driver`] | role and membership → a session, or none |
//! | `session` | carries inputs and effects of the machine |
//! | [`machine`] | outbox, deliveries and digests → what to publish, apply and repair (pure) |
//! | [`links`] | messages ⇄ the other units' queues |
//! | [`gossip`] | loads, events and fixed data ⇄ the other units |
//! | [`members`] | records → who has left the group |
//! | [`lag`] | applied changes → how long they took |

pub mod driver;
pub mod gossip;
pub mod handle;
pub mod lag;
pub mod links;
pub mod machine;
pub mod members;
mod parts;
mod session;

pub use driver::Driver;
pub use gossip::Gathering;
pub use handle::{Handle, LinkStatus, Status};
pub use parts::Parts;

use parts::seen;
