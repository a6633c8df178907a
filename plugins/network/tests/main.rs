//! The network plugin against the real kernel, in network namespaces of its own: the host's stays untouched.

mod links;
mod world;
