//! OCI hooks: programs that the runtime runs at six points of a container's life.
//!
//! Here is what a hook is, what each kind means (one table: [`Kind::on_failure`] and its neighbours), and what can go wrong.
//!
//! ```text
//!   create:  prestart -> createRuntime -> createContainer        runtime, runtime, container namespaces
//!   start:   startContainer -> (exec) -> poststart               container, runtime
//!   delete:  poststop                                            runtime
//! ```
//!
//! Deliberately absent: running them. createContainer and startContainer run *inside* the container, so they are steps of the
//! child (`core/child`); the others are processes of the host that a launch or a delete starts (`core/runtime/src/launch/hooks.rs`).

#![forbid(unsafe_code)]

pub mod hook;
pub mod error;

pub use error::{Cause, Error};
pub use hook::{Hook, Hooks, Kind, OnFailure, Place};
