//! The states that answers show. Each is an enum with one text, which the part that writes an answer shares with those
//! that read it again: `status`, `doctor`, `top`. Pure.
//!
//! Invariant: a text of another version is a fault with that text, so that no state is taken for a good one.

mod check;
mod instance;
mod link;
mod server;
mod unit_role;

pub use check::Check;
pub use instance::InstanceState;
pub use link::LinkState;
pub use server::{Persisted, ServerRole};
pub use unit_role::UnitRole;
