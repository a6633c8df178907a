//! OCI hooks: programs that the runtime runs at six points of a container's life.
//!
//! A hook gets the container's state as JSON on stdin, runs in a process group of its own, and has until its deadline;
//! then the whole group is killed. What it prints goes to the error (its tail) or to a descriptor of the caller, never
//! to the container's stdio. Which failure stops what is one table: [`Kind::on_failure`].
//!
//! ```text
//!   create:  prestart -> createRuntime -> createContainer        runtime, runtime, container namespaces
//!   start:   startContainer -> (exec) -> poststart               container, runtime
//!   delete:  poststop                                            runtime
//! ```
//!
//! Deliberately absent: createContainer and startContainer run *inside* the container, so they are steps of the child
//! (core/child); here is only their data and policy. Whoever starts processes some other way (the supervisor's keel)
//! uses [`Hook::argv`], [`Hook::envp`], [`run::stdin`] and [`run::judge`] instead of [`run::run`].

#![forbid(unsafe_code)]

pub mod error;
pub mod hook;
pub mod run;

pub use error::{Cause, Error};
pub use hook::{Hook, Hooks, Kind, OnFailure, Place};
pub use run::{Ended, Output, Run, run_all};
