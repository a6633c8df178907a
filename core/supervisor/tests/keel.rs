//! The keel.
