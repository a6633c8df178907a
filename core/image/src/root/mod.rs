//! The root that layers are together: what is in it, where mounts find their targets, and how it is mounted by hand.
//!
//! A container's is mounted by `sampan` (plan/layers.rs), from the paths that [`crate::Store::layers`] gives.

mod copy;
mod mount;
mod points;
mod user;
mod view;

pub use copy::{Amount, copy, measure};
pub use mount::{Mode, mount, unmount};
pub use points::{Target, mount_points};
pub use user::Ids;
pub use view::{View, Whereabouts};
