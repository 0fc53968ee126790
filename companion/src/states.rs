//! The states that answers show. Each is an enum with one text, which the part that writes an answer shares with those
//! that read it again: `status`, `doctor`, `top`. Pure.
//!
//! Invariant: a text of another version is a fault with that text, so that no state is taken for a good one.

mod check;
mod instance;
mod link;
mod server;
mod unit_role;

pub(crate) use check::Check;
pub(crate) use instance::InstanceState;
pub(crate) use link::LinkState;
pub(crate) use server::{Persisted, ServerRole};
pub(crate) use unit_role::UnitRole;
