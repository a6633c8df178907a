//! `sampand --check`: beyond config.toml, what a launch would find. A start of sampand does not look for it: a service that
//! cannot run keeps no other from running, and what is missing may come before its turn.
use sampan_config::{Diagnostic, Loaded};

/// What cannot work as things are now.
pub fn of_launches(loaded: &Loaded) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut wrong = |key: String, message: String, hint: &str| {
        found.push(match loaded.origins.spot(&key) {
            Some(at) => Diagnostic::error(&key, at, message, hint),
            None => Diagnostic::nowhere(&key, message, hint),
        });
    };
    for (name, service) in &loaded.config.services {
        match sampan_bundle::check(service) {
            Ok(()) => {}
            // A warning of its own.
            Err(error) if error.key == "rootfs" => {}
            Err(error) => wrong(format!("services.{name}.{}", error.key), error.sentence(), &error.hint),
        }
    }
    for (name, plugin) in loaded.config.plugins.iter().filter(|(_, plugin)| plugin.enabled) {
        if !plugin.path.exists() {
            let message = format!("no plugin at {}", plugin.path.display());
            let hint = "name its file with path = \"..\", put it into supervisor.plugin_dir, or write enabled = false";
            wrong(format!("plugins.{name}"), message, hint);
        }
    }
    found
}
