//! The first process of a container with `init = true` or `sampan run --init`: it starts the program, passes signals on to it, reaps what
//! others leave, and ends as the program does. It is a program of its own, without libc, of a few kilobytes: nothing of
//! sampand's memory is in the container.
#![forbid(unsafe_code)]

/// An executable file (`program.rs`). Its arguments are the program to start and that one's arguments.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// Where it is in a container, below its own /dev: no root needs a place for it.
pub const PATH: &str = "/dev/sampan-init";

/// A file of the host's is often on a mount from which nothing is executed.
pub const MOUNT_OPTIONS: [&str; 6] = ["bind", "rprivate", "ro", "nosuid", "nodev", "exec"];
