//! A machine that is thrown away (.ci/throwaway), a shell on it as a person has it, and a second terminal.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use sampan_testkit::Folder;

/// Nothing here waits so long unless something is wrong.
const LONG: Duration = Duration::from_secs(60);
/// Ends what one command has written.
const END: &str = "\u{1e}end";
/// Takes commands with a zero byte after each. What it starts has no input. `make` is told that `build` is done: cargo has built
/// the programs that the test has laid out.
const SHELL: &str = r#"exec 3<&0 </dev/null; set -m; unset CARGO_TARGET_DIR
make() { command make -s -o build "$@"; }; export -f make
while IFS= read -r -d '' -u 3 command; do eval "$command" 2>&1; printf '\n\036end %s\n' $?; done"#;

pub struct Session {
    folder: Folder,
    shell: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    in_background: u32,
    /// The leader of what runs in the second terminal.
    terminal: Option<String>,
}

impl Session {
    /// In a folder that looks as the workspace after `make build`; `programs` is where cargo has put them.
    pub fn new(workspace: &Path, programs: &Path) -> Session {
        let folder = Folder::new();
        for entry in
            fs::read_dir(workspace).unwrap().map(Result::unwrap).filter(|e| e.file_name() != "target")
        {
            symlink(entry.path(), folder.path("").join(entry.file_name())).unwrap();
        }
        lay_out(workspace, programs, &folder.path("target/dist"));
        let mut shell = Command::new(workspace.join(".ci/throwaway"))
            .args(["bash", "--norc", "-c", SHELL])
            .current_dir(folder.path(""))
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        Session { folder, shell, input, lines, in_background: 0, terminal: None }
    }

    /// What a command writes until it ends, and its exit code.
    pub fn run(&mut self, command: &str) -> (Vec<String>, i32) {
        self.input.write_all(format!("{command}\0").as_bytes()).unwrap();
        let (mut said, end) = (Vec::new(), Instant::now() + LONG);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .recv_timeout(left)
                .unwrap_or_else(|why| panic!("{command}: {why}; it said {said:#?}"));
            if let Some(code) = line.strip_prefix(END) {
                // Ours, before the end.
                said.pop_if(|last: &mut String| last.is_empty());
                return (said, code.trim().parse().unwrap());
            }
            said.push(line);
        }
    }

    /// What goes on beside the commands that follow writes into a file, as its output would stand between theirs, and so would the
    /// shell's word of its end.
    pub fn in_background(&mut self, command: &str) -> (Vec<String>, i32) {
        self.in_background += 1;
        let command = command.strip_suffix('&').unwrap_or(command);
        let file = self.folder.path(&format!("background.{}", self.in_background));
        self.run(&format!("{command} > {} 2>&1 & disown", file.display()))
    }

    /// All that background commands have written.
    pub fn background_said(&self) -> String {
        let files = (1..=self.in_background).map(|n| self.folder.path(&format!("background.{n}")));
        files.map(|file| fs::read_to_string(file).unwrap()).collect()
    }

    /// Starts it in the second terminal.
    pub fn in_terminal(&mut self, command: &str) {
        self.interrupt();
        let path = |name: &str| self.folder.path(name).display().to_string();
        let (pid, said) = (path("terminal.pid"), path("terminal"));
        let started = self.run(&format!(
            "(setsid env --default-signal=INT bash -c 'echo $$ > {pid}; {command}' > {said} 2>&1 &)"
        ));
        assert_eq!(started, (Vec::new(), 0), "{command}");
        let pid = self.until("the second terminal has a shell", || {
            fs::read_to_string(&pid).ok().filter(|p| !p.is_empty())
        });
        self.terminal = Some(pid.trim().to_owned());
    }

    /// Ctrl-C in the second terminal: what runs there ends by itself.
    pub fn interrupt(&mut self) {
        let Some(leader) = self.terminal.take() else { return };
        assert_eq!(self.run(&format!("kill -INT -{leader}")), (Vec::new(), 0));
        let alive = format!("kill -0 -{leader} 2>/dev/null");
        let (_, code) =
            self.run(&format!("for n in $(seq 300); do {alive} || break; sleep 0.1; done; ! {alive}"));
        assert_eq!(code, 0, "it does not end; it said:\n{}", self.terminal_said());
    }

    /// The last lines of it.
    pub fn terminal_said(&self) -> String {
        let said = fs::read_to_string(self.folder.path("terminal")).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn until<T>(&self, what: &str, mut is: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + LONG;
        loop {
            match is() {
                Some(found) => return found,
                None => assert!(Instant::now() < end, "not so: {what}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SIGTERM: .ci/throwaway ends all that is in it, and removes what it has made.
        let pid = nix::unistd::Pid::from_raw(self.shell.id().try_into().unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.shell.wait();
    }
}

/// `target/dist`, of what cargo has built for tests.
fn lay_out(workspace: &Path, programs: &Path, dist: &Path) {
    let put = |name: &str, to: PathBuf| {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(programs.join(name), to).unwrap_or_else(|why| panic!("{name}: {why}"));
    };
    for name in ["sampan", "sampand", "sampanctl", "sampan-image"] {
        put(name, dist.join("bin").join(name));
    }
    for name in ["network", "logging", "cgroups"] {
        put(&format!("lib{name}.so"), dist.join(format!("lib/sampan/plugins/lib{name}.so")));
    }
    let examples = Command::new(workspace.join(".ci/examples"))
        .arg(programs.join("web"))
        .arg(dist.join("share/sampan/examples"))
        .status();
    assert!(examples.unwrap().success());
}
