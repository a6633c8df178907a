//! What services say of themselves, as sd_notify(3) has it: a datagram socket for each life of each service that may notify. One
//! that says so by a newline on a descriptor (`notify.fd`) has one end of a pair, and we hear the other in the same way.
//!
//! ```text
//!   service ── READY=1 ──> run_dir/notify/X/notify ── look ─► parse ─► the loop ─► journal ─► take
//!                          (the keel holds it too)
//! ```
//! A message is looked at, done, and only then taken from the queue: a worker that dies in between leaves it to the next one.
//! Doing it twice does no harm.
//!
//! Any process of the container may send any bytes. The socket is in no other container, and besides, the kernel says who has
//! sent: a process outside of the service's control group is not heard. One that has ended by then (a shell's `systemd-notify`)
//! cannot be asked where it was, and is believed: it had the socket.
pub mod message;
pub mod socket;
pub mod watchdog;

use crate::fence;
use crate::task::Task;
use message::{Assignment, BYTES_MAX, Dropped};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sampan_api as api;
use sampan_cgroups::Members;
use sampan_config::schema::SaysOn;
use sampan_runtime::kernel::pidfd;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use watchdog::Watchdog;

/// Of a status in a table.
const STATUS_CHARS_MAX: usize = 60;

/// One service's socket, to be heard: NOTIFY_SOCKET, or our end of its descriptor.
#[derive(Debug, Clone)]
pub struct Socket {
    fd: Arc<OwnedFd>,
    is_for: SaysOn,
}

/// A message that is still in the queue.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    /// As the kernel translates it; none where the sender has no number here.
    pub pid: Option<Pid>,
    pub said: Vec<Assignment>,
    /// Descriptors came with it.
    pub carries: bool,
    pub dropped: Option<Dropped>,
}

impl Socket {
    pub fn new(fd: OwnedFd, is_for: SaysOn) -> Socket {
        Socket { fd: Arc::new(fd), is_for }
    }

    pub fn shared(&self) -> Arc<OwnedFd> {
        self.fd.clone()
    }

    /// The next message; it stays where it is.
    pub fn look(&self) -> io::Result<Option<Heard>> {
        let mut bytes = [0; BYTES_MAX];
        let peeked = match fence::peek(&*self.fd, &mut bytes) {
            Ok(peeked) => peeked,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let message = bytes.get(..peeked.bytes).unwrap_or_default();
        let (said, dropped) = match (self.is_for, peeked.is_cut) {
            (SaysOn::Descriptor, _) if message.contains(&b'\n') => (vec![Assignment::Ready], None),
            (_, true) => (Vec::new(), Some(Dropped::TooLong)),
            // What comes before the newline means nothing.
            (SaysOn::Descriptor, false) => (Vec::new(), None),
            (SaysOn::Socket, false) => message::parse(message),
        };
        Ok(Some(Heard { pid: Pid::from_raw(peeked.pid), said, carries: peeked.carries, dropped }))
    }

    /// Takes it from the queue. Not on the loop where it carries something: the kernel closes the descriptors that came with it,
    /// for which there is no room. Whoever waits for that (BARRIER=1) knows that all that was sent before is done.
    pub fn take(&self) -> io::Result<()> {
        socket::take(&self.fd)
    }
}

/// For what comes next. Dropped, nobody listens.
#[derive(Debug)]
pub enum Wait {
    Message(Task),
    /// Until the message that has been heard is taken, with the descriptors that it carries.
    Taking(Task),
}

/// What one life of a service has sent by sd_notify, and the socket that it sends to.
#[derive(Debug)]
pub struct Notifications {
    pub socket: Socket,
    pub members: Members<'static>,
    pub wait: Wait,
    /// None: it may say nothing for ever, or is not ready yet.
    pub watchdog: Option<Watchdog>,
    /// WATCHDOG_USEC: in the place of the config's, said before it is ready or after.
    pub silent_max: Option<Duration>,
    reported: watch::Sender<Reported>,
    status: Option<String>,
    dropped: [u64; Dropped::COUNT],
}

/// Its state by its own messages, for those who wait for it: a reload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reported {
    pub last: Option<Phase>,
    /// How often it has said that it is ready after it had said that it reloads.
    pub reloads: u64,
}

/// Which state its last message of that kind has named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Ready,
    Reloading,
    Stopping,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Ready => "ready",
            Phase::Reloading => "reloading",
            Phase::Stopping => "stopping",
        }
    }
}

impl Notifications {
    pub fn new(socket: Socket, members: Members<'static>, wait: Wait) -> Notifications {
        let (reported, watchdog, silent_max) = (watch::Sender::default(), None, None);
        let dropped = [0; Dropped::COUNT];
        Notifications { socket, members, wait, watchdog, silent_max, reported, status: None, dropped }
    }

    pub fn is(&mut self, phase: Phase) {
        self.reported.send_modify(|reported| {
            let reloaded = reported.last == Some(Phase::Reloading) && phase == Phase::Ready;
            reported.reloads = reported.reloads.saturating_add(reloaded.into());
            reported.last = Some(phase);
        });
        // It is on its way out, and says no more that it is well.
        if phase == Phase::Stopping {
            self.watchdog = None;
        }
    }

    /// Its state from now on. None: whoever has a descriptor says that it is ready, and never that it reloads.
    pub fn reported(&self) -> Option<watch::Receiver<Reported>> {
        match self.socket.is_for {
            SaysOn::Socket => Some(self.reported.subscribe()),
            SaysOn::Descriptor => None,
        }
    }

    pub fn last(&self) -> Option<Phase> {
        self.reported.borrow().last
    }

    pub fn has_status(&mut self, status: String) {
        self.status = Some(status).filter(|status| !status.is_empty());
    }

    /// True: for this reason it is the first.
    pub fn count(&mut self, dropped: Dropped) -> bool {
        let Some(count) = self.dropped.get_mut(dropped.index()) else { return false };
        *count = count.saturating_add(1);
        *count == 1
    }

    /// Behind its state: ` (reloading: reads 3 files)`.
    pub fn aside(&self) -> String {
        let phase = self.last().filter(|phase| *phase != Phase::Ready).map(Phase::name);
        let brief: Option<String> =
            self.status.as_ref().map(|status| status.chars().take(STATUS_CHARS_MAX).collect());
        match (phase, brief) {
            (None, None) => String::new(),
            (Some(phase), None) => format!(" ({phase})"),
            (None, Some(status)) => format!(" ({status})"),
            (Some(phase), Some(status)) => format!(" ({phase}: {status})"),
        }
    }

    pub fn as_api(&self) -> api::Notified {
        api::Notified {
            says: self.last().map(|phase| phase.name().to_owned()),
            status: self.status.clone(),
            dropped: self.dropped.iter().fold(0, |sum, count| sum.saturating_add(*count)),
        }
    }
}

/// Whether a message may be one of the service's. A number can be another process's by now, which is then asked in the sender's
/// place: a pidfd says whether the one that was asked still lives.
pub fn is_of(members: &Members<'_>, pid: Option<Pid>) -> bool {
    // None: of a namespace of processes that is neither ours nor below it.
    let Some(pid) = pid else { return false };
    let process = pidfd_open(pid, PidfdFlags::empty());
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()));
    may_be(process, groups.is_ok_and(|groups| members.has(&groups)))
}

/// Who has ended is believed. That we could not look, as with too many open files, says nothing of that.
fn may_be(process: rustix::io::Result<OwnedFd>, is_member: bool) -> bool {
    match process {
        _ if is_member => true,
        Ok(process) => has_ended(&process),
        Err(errno) => errno == Errno::SRCH,
    }
}

fn has_ended(process: &OwnedFd) -> bool {
    pidfd::wait(process.as_fd(), Some(Duration::ZERO)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
        sendmsg, socketpair,
    };
    use std::io::{IoSlice, Read};
    use std::mem::MaybeUninit;

    #[test]
    fn a_process_that_cannot_be_looked_at_is_not_taken_for_one_that_has_ended() {
        let own = || pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
        for (process, is_member, believed) in [
            (own(), true, true),
            (own(), false, false),
            (Err(Errno::SRCH), false, true),
            (Err(Errno::MFILE), false, false),
            (Err(Errno::NFILE), false, false),
            (Err(Errno::MFILE), true, true),
        ] {
            let text = format!("{process:?} {is_member}");
            assert_eq!(may_be(process, is_member), believed, "{text}");
        }
    }

    /// The kernel sends no more with one message.
    const FDS_MAX: usize = 253;

    fn pair(is_for: SaysOn) -> (Socket, OwnedFd) {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::sockopt::set_socket_passcred(&ours, true).unwrap();
        (Socket::new(ours, is_for), theirs)
    }

    fn send(socket: &OwnedFd, text: &[u8], fds: &[rustix::fd::BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::DONTWAIT).unwrap();
    }

    #[test]
    fn a_message_stays_until_it_is_taken() {
        let (socket, sender) = pair(SaysOn::Socket);
        send(&sender, b"READY=1", &[]);
        for _ in 0..2 {
            let heard = socket.look().unwrap().unwrap();
            assert_eq!((heard.said, heard.dropped), (vec![Assignment::Ready], None));
            assert_eq!(heard.pid, Some(rustix::process::getpid()));
        }
        socket.take().unwrap();
        assert_eq!(socket.look().unwrap(), None);
    }

    #[test]
    fn what_is_too_long_is_counted_and_taken() {
        let (socket, sender) = pair(SaysOn::Socket);
        send(&sender, &[b'x'; BYTES_MAX + 1], &[]);
        assert_eq!(socket.look().unwrap().unwrap().dropped, Some(Dropped::TooLong));
        socket.take().unwrap();
        assert_eq!(socket.look().unwrap(), None);
    }

    #[test]
    fn on_a_descriptor_a_newline_is_all_that_counts() {
        let (socket, sender) = pair(SaysOn::Descriptor);
        let long = [b'x'; BYTES_MAX + 1];
        let late = [&long[..], b"\n"].concat();
        for (bytes, said, dropped) in [
            (&b"\n"[..], vec![Assignment::Ready], None),
            (b"ready\n", vec![Assignment::Ready], None),
            (b"READY=1", vec![], None),
            (b"", vec![], None),
            (b"STOPPING=1\nNONSENSE", vec![Assignment::Ready], None),
            (&late, vec![], Some(Dropped::TooLong)),
        ] {
            send(&sender, bytes, &[]);
            let heard = socket.look().unwrap().unwrap();
            assert_eq!((heard.said, heard.dropped), (said, dropped), "{bytes:?}");
            socket.take().unwrap();
            assert_eq!(socket.look().unwrap(), None);
        }
        // Its end at the service is closed.
        drop(sender);
        assert_eq!(socket.look().unwrap(), None);
    }

    #[test]
    fn what_lingers_holds_up_nobody() {
        let (socket, sender) = pair(SaysOn::Socket);
        let many: Vec<_> = (0..5).map(|_| crate::release::lingering()).collect();
        for (lingers, _) in &many {
            send(&sender, b"READY=1", &[lingers.as_fd()]);
        }
        let _others: Vec<_> = many.into_iter().map(|(_, other)| other).collect();
        let began = std::time::Instant::now();
        while let Some(heard) = socket.look().unwrap() {
            assert!(heard.carries);
            socket.take().unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        send(&sender, b"READY=1", &[]);
        assert!(!socket.look().unwrap().unwrap().carries);
    }

    /// Whoever has the other end of a pipe notices; looking at the message takes none of them.
    #[test]
    fn descriptors_are_closed_however_many_came() {
        let (socket, sender) = pair(SaysOn::Socket);
        for count in [1, 10, 253] {
            let (mut reader, writer) = std::io::pipe().unwrap();
            send(&sender, b"BARRIER=1", &vec![writer.as_fd(); count]);
            drop(writer);
            assert_eq!(socket.look().unwrap().unwrap().said, [Assignment::Barrier]);
            socket.take().unwrap();
            assert_eq!(reader.read(&mut [0]).unwrap(), 0, "{count}: one is still open");
        }
    }
}
