//! The last reference of what a stranger sent, let go of. A TCP socket with SO_LINGER keeps whoever closes it for as long as the
//! stranger chose, also where the kernel closes it: with the message that it came with, or with the queue of a socket.
//!
//! ```text
//!   drop, recv ─► tcp_close waits for what the other end does not read ─► a signal for this thread ends the wait
//! ```
use nix::sys::signal::{SigEvent, SigSet, SigevNotify, Signal};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A close that is not done by then is of somebody who wants to hold us up.
const PATIENCE: Duration = Duration::from_millis(50);
/// For each one after that.
const EVERY: Duration = Duration::from_millis(5);
/// Nothing else here uses it.
const ENDS_WAITS: Signal = Signal::SIGALRM;

/// Does something that may close such descriptors; from `PATIENCE` on no wait of this thread lasts.
/// Never on the loop where it can be avoided: the rest of a close is the kernel's.
pub fn hurried<T>(work: impl FnOnce() -> T) -> T {
    let timer = timer();
    if let Err(errno) = &timer {
        tracing::warn!("what strangers sent is closed without a deadline: timer_create: {}", errno.desc());
    }
    let done = work();
    drop(timer);
    done
}

fn timer() -> nix::Result<Timer> {
    static HANDLER: OnceLock<bool> = OnceLock::new();
    // A signal that is ignored ends no wait, and one without a handler ends us.
    let handled = *HANDLER.get_or_init(|| {
        signal_hook::flag::register(ENDS_WAITS as i32, Arc::new(AtomicBool::new(false))).is_ok()
    });
    if !handled {
        return Err(nix::errno::Errno::EINVAL);
    }
    SigSet::from(ENDS_WAITS).thread_unblock()?;
    let this_thread = SigevNotify::SigevThreadId {
        signal: ENDS_WAITS,
        thread_id: rustix::thread::gettid().as_raw_nonzero().get(),
        si_value: 0,
    };
    let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(this_thread))?;
    let again = Expiration::IntervalDelayed(PATIENCE.into(), EVERY.into());
    timer.set(again, TimerSetTimeFlags::empty())?;
    Ok(timer)
}

/// Whose close takes 20 seconds: the other end reads nothing.
#[cfg(test)]
pub fn lingering() -> (std::net::TcpStream, std::net::TcpStream) {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    while stream.write(&[0; 65536]).is_ok() {}
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::from_secs(20))).unwrap();
    (stream, other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn nobody_lingers_for_longer_than_we_have_patience() {
        let many: Vec<_> = (0..5).map(|_| lingering()).collect();
        let (ours, _others): (Vec<_>, Vec<_>) = many.into_iter().unzip();
        let began = Instant::now();
        hurried(|| drop(ours));
        assert!(began.elapsed() >= PATIENCE, "this test closes nothing that lingers");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
