//! The first process of a container with `init = true`: it starts the service's program, passes signals on to it, reaps what
//! others leave, and ends as the program does. It is a program of its own, without libc, of a few kilobytes: nothing of
//! sampand's memory is in the container.
#![forbid(unsafe_code)]

/// An executable file (`program.rs`). Its arguments are the program to start and that one's arguments.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));
