//! config.toml: from files to a resolved [`Config`].
pub mod schema;
pub mod units;

pub use schema::Config;
