//! The flags of `run` that change the default config, for a container without a bundle.

use super::args::Given;
use crate::ops::asked::Asked;
use crate::ops::{self, Error};

/// All of them.
const FLAGS: [&str; 11] = [
    "volume",
    "env",
    "workdir",
    "user",
    "memory",
    "network",
    "hostname",
    "read-only",
    "cap-add",
    "cap-drop",
    "init",
];

/// For `--rootfs` or `--image`.
pub fn asked(given: &Given) -> ops::Result<Asked> {
    let all = |flag: &'static str| -> ops::Result<Vec<String>> {
        let not_utf8 = || Error::new(format!("--{flag}: not UTF-8"));
        given.all(flag).map(|value| value.to_str().map(str::to_owned).ok_or_else(not_utf8)).collect()
    };
    let one = |flag| -> ops::Result<Option<String>> { Ok(given.text(flag)?.map(str::to_owned)) };
    if given.has("read-only") && given.has("scratch") {
        return Err(Error::new("run: either --read-only or --scratch"));
    }
    Ok(Asked {
        volumes: all("volume")?,
        env: all("env")?,
        workdir: one("workdir")?,
        user: one("user")?,
        memory: one("memory")?,
        network: one("network")?,
        hostname: one("hostname")?,
        read_only: given.has("read-only"),
        cap_add: all("cap-add")?,
        cap_drop: all("cap-drop")?,
        init: given.has("init"),
    })
}

/// A bundle says all of it itself.
pub fn refuse(given: &Given) -> ops::Result<()> {
    match FLAGS.iter().find(|flag| given.has(flag)) {
        None => Ok(()),
        Some(flag) => Err(Error::new(format!(
            "run --{flag}: needs --rootfs or --image; a bundle has config.json for it"
        ))),
    }
}
