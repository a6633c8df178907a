#![forbid(unsafe_code)]
//! createContainer and startContainer hooks: they run inside the container's namespaces, so the child runs them.
//!
//! Each is a process group of its own with a deadline on its pidfd; the state comes on stdin from a memfd, so
//! a hook that never reads it blocks nobody; the output goes to the parent's slot, never to the container's.

use crate::context::Context;
use crate::step::{Environment, List, Slot, Text};
use crate::sys::{self, Call, Fault, Fd, Result, uapi};

pub(crate) fn run(
    c: &Context<'_>,
    argv: List,
    env: Environment,
    state: Text,
    timeout_s: u32,
    output: Slot,
) -> Result<()> {
    let stdin = sys::memfd(b"state\0")?;
    write_state(c, stdin, state)?;
    let output = c.slots.get(output.0 as usize).copied();
    let (pid, pidfd) = sys::clone(0, None, || become_hook(c, argv, env, stdin, output))?;
    sys::close(stdin);
    let timeout_ms = if timeout_s == 0 { -1 } else { i64::from(timeout_s).wrapping_mul(1_000) };
    let in_time = sys::readable(pidfd, timeout_ms)?;
    // A failed hook leaves nothing behind. Until it is reaped no other group has its number.
    if !in_time || sys::await_end(pidfd)? != 0 {
        sys::kill_group(pid);
        // It may have gone to another one.
        sys::kill(pidfd);
    }
    let status = sys::reap(pidfd)?;
    sys::close(pidfd);
    match (in_time, status) {
        (true, 0) => Ok(()),
        (true, status) => Err(Fault { call: Call::waitid, errno: 0, detail: status }),
        (false, _) => Err(Fault { call: Call::waitid, errno: uapi::ETIMEDOUT, detail: timeout_s }),
    }
}

/// The state is two strings with the pid between them, as this namespace counts.
fn write_state(c: &Context<'_>, to: Fd, state: Text) -> Result<()> {
    let mut digits = [0u8; 10];
    let mut parts = c.image.list(List { first: state, count: 2 });
    for part in [parts.next(), None, parts.next()] {
        let bytes = match part {
            Some(s) => s.get(..s.len().saturating_sub(1)).unwrap_or(s),
            None => decimal(sys::getpid(), &mut digits),
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = sys::write(to, rest)?;
            rest = rest.get(n..).unwrap_or(&[]);
        }
    }
    sys::rewind(to)
}

fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut start = digits.len();
    for place in digits.iter_mut().rev() {
        *place = b'0'.wrapping_add((number % 10) as u8);
        start = start.wrapping_sub(1);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or(&[])
}

/// A process of its own group with nothing open but its stdio, and what it executes under the container's filter.
fn become_hook(c: &Context<'_>, argv: List, env: Environment, stdin: Fd, output: Option<Fd>) -> ! {
    let _ = sys::own_group();
    let _ = execute(c, argv, env, stdin, output);
    // As a shell: 127 is "no such program".
    sys::exit(127)
}

fn execute(c: &Context<'_>, argv: List, env: Environment, stdin: Fd, output: Option<Fd>) -> Result<()> {
    sys::dup_to(stdin, 0)?;
    if let Some(output) = output {
        sys::dup_to(output, 1)?;
        sys::dup_to(output, 2)?;
    }
    if let Some(root) = c.root {
        // Where runc starts them too.
        sys::fchdir(root)?;
    }
    sys::close_between(3, u32::MAX)?;
    let mut strings = c.image.list(argv);
    let path = strings.next().unwrap_or(&[]);
    let home = match env {
        Environment::OfProcess(_) => c.home.variable(),
        Environment::Own(_) => None,
    };
    let program = sys::Program::new(path, strings, c.image.list(env.list()).chain(home))?;
    if let Some(filter) = c.hook_filter {
        c.load(filter)?;
    }
    Err(program.execute())
}
