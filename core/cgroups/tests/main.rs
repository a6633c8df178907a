#![allow(clippy::unwrap_used, clippy::expect_used)]

mod conversions;
mod devices;
mod limits;
mod live;
mod paths;
