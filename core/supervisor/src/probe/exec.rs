//! A command in the container. How it gets there (a plan, the keel) is the executor's; here is what a check needs of it.

use super::helper::{Helper, Turn};
use super::{Answer, OUTPUT_BYTES_MAX, Target};
use async_trait::async_trait;

/// Runs a command inside the container of `target`, as its user, in its cgroup.
#[async_trait]
pub trait Exec: Send + Sync {
    /// At the check's deadline the future is dropped: then the command and what it started must be killed.
    /// A thread that starts it holds `turn`: a start that hangs in the kernel outlives the deadline.
    async fn run(
        &self,
        target: &Target,
        argv: &[String],
        output_bytes_max: usize,
        turn: Turn,
    ) -> std::io::Result<Ran>;
}

/// How it ended; output is stdout and stderr as they came, cut at `output_bytes_max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// As a shell shows it: 128 + n for a signal.
    pub code: i32,
    pub output: Vec<u8>,
}

pub async fn run(target: &Target, helper: &Helper, argv: &[String]) -> Answer {
    let name = argv.first().map_or("", String::as_str);
    let failed = |e| format!("run {name}: {e}");
    let turn = helper.turn().map_err(failed)?;
    let ran = target.exec.run(target, argv, OUTPUT_BYTES_MAX, turn).await.map_err(failed)?;
    let output = match (ran.code, ran.output.is_empty()) {
        (0, false) => ran.output,
        (code, true) => format!("exit {code}").into_bytes(),
        (code, false) => [format!("exit {code}: ").as_bytes(), &ran.output].concat(),
    };
    Ok((ran.code == 0, output))
}
