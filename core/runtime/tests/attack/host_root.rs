//! Attacks from a container on the host's own root.

use sampan_testkit::Bundle;
use serde_json::json;

use super::Outcome;
use super::runtime::Runtime;

/// Root inside reads what is the host's root's alone.
pub fn root_reads_the_hosts_secrets(runtime: &Runtime) -> Outcome {
    let mut bundle = Bundle::new("host-root").unwrap();
    bundle.set("/root", json!({"path": "/etc/..", "readonly": true}));
    bundle.script("grep -c ^root: /etc/shadow");
    let ran = runtime.run(&bundle);
    match ran.out.trim() {
        "1" => Outcome::Worked("root's password hash is read".to_owned()),
        _ => Outcome::Repelled(ran.said()),
    }
}
