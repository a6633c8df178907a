//! Names: the server at each network's gateway that tells services where the others are, and asks the host's servers for the rest.
//!
//! ```text
//!   message (bytes) -> zone (who is called what) -> answer (what to do with a question) -> resolv_conf -> sockets -> forward -> server
//! ```
//! Names follow the records: a name is there from `prepare` on, before anything of its service runs, and until its service is released.

pub mod message;

pub mod zone;

pub mod answer;

pub mod resolv_conf;

pub mod sockets;

pub mod forward;

pub mod server;
