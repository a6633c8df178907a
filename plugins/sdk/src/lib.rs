//! Plugins for sampand: implement [`Plugin`], write `declare_plugin!(Yours)`, build a cdylib.
//!
//! ```text
//!  sampand's worker                    | the plugin's library
//!  plugin-host/call   --- sp_request --> | export/: trampolines, panics caught, own tokio runtime --> impl Plugin
//!                   <-- complete ----- |
//!  the host's table <-- host.rs ------ | Host: put, get, keep_fd, log, metrics, ask
//! ```
//! Below the trait is a C ABI (`abi.rs`, `include/sampan_plugin.h`), so plugins may be written in any language and built by
//! any compiler. docs/plugins.md tells the whole story; `testing::Rig` drives a plugin through the C table in a unit test.
//! Absent on purpose: any access to the supervisor's memory, runtime or types besides the table.
pub mod abi;

mod error;

pub mod adjust;

pub mod merge;

pub mod types;

pub mod netns;

pub mod host;

mod logs;

mod panics;

pub mod plugin;

pub mod export;

pub mod testing;

pub use adjust::Adjust;
pub use async_trait::async_trait;
pub use error::{Context, Error, Result};
pub use host::{Host, Whom, Wish};
pub use plugin::{Cx, Plugin};
pub use sampan_lock as lock;

/// `use sampan_plugin::prelude::*;`
pub mod prelude {
    pub use crate::adjust::Adjust;
    pub use crate::declare_plugin;
    pub use crate::error::{Context, Error, Result};
    pub use crate::host::{About, Counter, Gauge, Histogram, Host};
    pub use crate::netns::in_netns;
    pub use crate::plugin::{Cx, Plugin};
    pub use crate::types::*;
    pub use async_trait::async_trait;
    pub use schemars::{self, JsonSchema};
    pub use serde::{self, Deserialize, Serialize};
    pub use serde_json::{self, Value, json};
    pub use tokio_util::sync::CancellationToken;
}
