//! config.toml as a launching process reads it, and the paths of volumes as it finds them: a look at what users name may hang for
//! ever on a dead mount. Then that process is killed, and what it hung in is the error.
use super::launcher::{Launcher, Launchers, UnderWay};
use super::talk::{Order, Said};
use crate::source::Files;
use sampan_config::Loaded;
use sampan_service::Problem;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
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
    let order = Order::Read(files.clone());
    let unread = |unanswered| match unanswered {
        Unanswered::Failed(problem) => files.unread(&format!("cannot read the config: {problem}"), ""),
        Unanswered::TooLong(look) => {
            let (why, hint) = took_too_long(&look);
            files.unread(&why, hint)
        }
    };
    let Said::Read(read) = ask(launchers, &of_config(), order).await.map_err(unread)? else {
        return Err(files.unread("the process that reads the config answers out of turn", ""));
    };
    let (inputs, more) = (*read)?;
    warnings.extend(more);
    files.made_of(&inputs)
}

/// Where the run folder is, as far as that can be read.
pub async fn run_dir(launchers: &Launchers, files: &Files) -> PathBuf {
    match ask(launchers, &of_config(), Order::RunDir(files.clone())).await {
        Ok(Said::RunDir(run_dir)) => run_dir,
        _ => files.usual_run_dir(),
    }
}

/// Where these paths lead, in their order, whatever links are on the way. While an earlier look hangs in the kernel there is no
/// other: each would leave one more process there.
pub async fn real(launchers: &Launchers, paths: Vec<PathBuf>) -> Result<Vec<PathBuf>, String> {
    if let Some(how) = launchers.hang(VOLUMES) {
        return Err(format!("an earlier look {how}"));
    }
    let under_way = UnderWay::new(VOLUMES.into());
    match ask(launchers, &under_way, Order::Real(paths)).await {
        Ok(Said::Real(real)) => Ok(real),
        Ok(_) => Err("the process that looks at the paths of volumes answers out of turn".into()),
        Err(Unanswered::Failed(problem)) => Err(problem.to_string()),
        Err(Unanswered::TooLong(look)) => {
            launchers.ended(&under_way).await;
            let (why, hint) = took_too_long(&look);
            Err(format!("{why}; {hint}"))
        }
    }
}

/// What a launching process does for `real`. What is not there is where it is written.
pub fn real_path(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// No service has this name.
const VOLUMES: &str = "[volumes]";

fn of_config() -> Rc<UnderWay> {
    UnderWay::new("config.toml".into())
}

pub enum Unanswered {
    Failed(Problem),
    /// This look, after which its process was killed.
    TooLong(String),
}

/// Of a process that does nothing else after it: it has read what may be secret, and has our folder.
async fn ask(launchers: &Launchers, under_way: &UnderWay, order: Order) -> Result<Said, Unanswered> {
    ask_with(launchers, under_way, order, &[]).await.map(|(said, _)| said)
}

/// With descriptors; and the process, for whoever has more to do for it.
pub async fn ask_with(
    launchers: &Launchers,
    under_way: &UnderWay,
    order: Order,
    fds: &[BorrowedFd<'_>],
) -> Result<(Said, Launcher), Unanswered> {
    let launcher = launchers.take(under_way).await.map_err(Unanswered::Failed)?;
    under_way.now("the look at it");
    launcher.send_with(&order, "", fds).map_err(Unanswered::Failed)?;
    let said = answer(&launcher, under_way).await?;
    Ok((said, launcher))
}

async fn answer(launcher: &Launcher, under_way: &UnderWay) -> Result<Said, Unanswered> {
    let mut answer = pin!(launcher.next(under_way));
    loop {
        let left = LOOK_MAX.saturating_sub(under_way.doing_for());
        if left.is_zero() {
            return Err(Unanswered::TooLong(under_way.doing()));
        }
        if let Ok(said) = tokio::time::timeout(left, &mut answer).await {
            return said.map(|(said, ..)| said).map_err(Unanswered::Failed);
        }
    }
}
