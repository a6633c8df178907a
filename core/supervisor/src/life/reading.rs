//! config.toml as a launching process reads it: a look at what it names may hang for ever on a dead mount. Then that process is
//! killed, and what it hung in is the error.
use super::launcher::{Launchers, UnderWay};
use super::talk::{Order, Said};
use crate::source::Files;
use sampan_config::Loaded;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

/// How long one look may take.
pub const LOOK_MAX: Duration = Duration::from_secs(5);

/// The look at what a key of config.toml names, in words for whoever waits for it.
pub fn look_at(path: &Path, key: &str) -> String {
    let of = if key.is_empty() { String::new() } else { format!(" of {key}") };
    format!("the look at {}{of}", path.display())
}

/// Why nobody waits for it any longer, with a hint.
pub fn took_too_long(look: &str) -> (String, &'static str) {
    (format!("{look} took longer than {} s", LOOK_MAX.as_secs()), "is its mount dead?")
}

/// The config, or all its errors as `--check` prints them. Warnings are added to those given.
pub async fn load(
    launchers: &Launchers,
    files: &Files,
    warnings: &mut Vec<String>,
) -> Result<Loaded, String> {
    let Said::Read(read) = ask(launchers, files, Order::Read(files.clone())).await? else {
        return Err(files.unread("the process that reads the config answers out of turn", ""));
    };
    let (inputs, more) = (*read)?;
    warnings.extend(more);
    files.made_of(&inputs)
}

/// Where the run folder is, as far as that can be read.
pub async fn run_dir(launchers: &Launchers, files: &Files) -> PathBuf {
    match ask(launchers, files, Order::RunDir(files.clone())).await {
        Ok(Said::RunDir(run_dir)) => run_dir,
        _ => files.usual_run_dir(),
    }
}

/// Of a process that does nothing else after it: it has read what may be secret, and has our folder.
async fn ask(launchers: &Launchers, files: &Files, order: Order) -> Result<Said, String> {
    let under_way = UnderWay::new("config.toml".into());
    let failed = |problem| files.unread(&format!("cannot read the config: {problem}"), "");
    let launcher = launchers.take(&under_way).await.map_err(failed)?;
    under_way.now("the look at it");
    launcher.send(&order, "").map_err(failed)?;
    let mut answer = pin!(launcher.next(&under_way));
    loop {
        let left = LOOK_MAX.saturating_sub(under_way.doing_for());
        if left.is_zero() {
            let (why, hint) = took_too_long(&under_way.doing());
            return Err(files.unread(&why, hint));
        }
        if let Ok(said) = tokio::time::timeout(left, &mut answer).await {
            return said.map(|(said, _)| said).map_err(failed);
        }
    }
}
