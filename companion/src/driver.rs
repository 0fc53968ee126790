//! Carries the inputs and effects of [`crate::unit`]: store and link on one side, the pure state
//! machine on the other. It decides nothing.

mod handle;

pub use handle::{Handle, Status};
