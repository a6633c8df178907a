//! Unit tests of the pure parts, and the plugin through the C table.
mod lifecycle;
mod world;
