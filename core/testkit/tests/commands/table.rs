//! What the pages cannot say of their commands: what runs in a terminal of its own, what is not run here and why.

pub enum How {
    /// In the second terminal, until the next such command, or `sampand`, or the end of the page.
    Terminal,
    /// For this reason, which is printed.
    NotRun(&'static str),
}

use How::{NotRun, Terminal};

/// Page, command as it stands (without the shell's comment), how.
pub const TABLE: &[(&str, &str, How)] = &[
    ("README.md", "make run", Terminal),
    ("README.md", "make test", NotRun(ITSELF)),
    ("docs/tour.md", "make run", Terminal),
    ("docs/metrics.md", "make run", Terminal),
    ("docs/api.md", "make run", Terminal),
    ("docs/performance.md", "make bench", NotRun(BENCH)),
    ("docs/performance.md", "make bench ROUNDS=20 ONLY=run,growth", NotRun(BENCH)),
    (
        "docs/performance.md",
        ".ci/bench/figures draw",
        NotRun("writes into the workspace; documents.rs runs it with --check"),
    ),
    ("docs/images.md", "sampan-image pull nginx:1.27", NotRun(HUB)),
    (
        "docs/images.md",
        "docker save app:1 | sampan-image import -",
        NotRun("needs a dockerd; core/supervisor/tests/e2e/images.rs imports what docker writes"),
    ),
    ("docs/systemd.md", "systemctl daemon-reload", NotRun(SYSTEMD)),
    ("docs/systemd.md", "systemctl enable --now sampand", NotRun(SYSTEMD)),
    ("docs/testing.md", "make test", NotRun(ITSELF)),
    ("docs/testing.md", "make root-test", NotRun(ITSELF)),
    ("docs/testing.md", "make root-test-static", NotRun(ITSELF)),
    ("docs/testing.md", "make fence", NotRun(CI)),
    ("docs/testing.md", "make attack", NotRun(LONG)),
    ("docs/testing.md", "make test-vm", NotRun(LONG)),
    ("docs/testing.md", "make chaos", NotRun(LONG)),
    ("docs/testing.md", "make app", NotRun(LONG)),
    ("docs/testing.md", "make fuzz", NotRun(LONG)),
    ("docs/testing.md", "make test-all", NotRun(LONG)),
    ("docs/testing.md", "make smoke", NotRun(CI)),
    ("docs/testing.md", ".ci/run", NotRun(CI)),
    ("docs/testing.md", "cargo nextest run -p sampan-plan", NotRun(ITSELF)),
];

const ITSELF: &str = "is what runs this test, or a part of it";
const CI: &str = "is a step of .ci/run, which runs this test too";
const LONG: &str = "takes minutes, and is run by `make test-all`";
const BENCH: &str = "measures for minutes, and means nothing on a machine that runs tests";
const SYSTEMD: &str = "needs systemd as init: `make test-vm` does it";
const HUB: &str = "docker.io is not reached from here; core/image/tests pull from a registry of their own";

/// Whoever looks twice sees more: where the first answer is not as shown, these are asked again for a while, and nothing else is.
pub const ONLY_LOOK: &[&str] = &[
    "sampanctl ps",
    "sampanctl why",
    "sampanctl logs",
    "sampanctl version",
    "sampan ns",
    "sampan exec",
    "sampan enter",
    "curl ",
    "ps ",
];
