//! What the keel holds, and the answers to what the worker asks about it: children, descriptors, the watchdog's
//! timer, the program of the next worker. No signals, no waiting, nothing of the life of workers: that is `run`.

use crate::orders::{Ending, Orders};
use crate::sys;
use crate::table::Table;
use crate::wire::{self, Fds, Message, ORPHAN, Op};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Resource, Signal, WaitId, WaitIdOptions, WaitIdStatus};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use sampan_child::image::Image;
use sampan_child::step::Step;
use sampan_child::sys::Fault;
use sampan_journal::crash::keel_point as point;
use sampan_runtime::kernel::pidfd;
use std::time::Duration;

/// Kept descriptors live at and above this number (`lowest_kept`), everything that comes and goes below: the clone of a child
/// that unshares its table copies the low part alone, and what is kept never takes the room that a request needs.
const HIGH: i32 = 1024;
const IMAGE_MAX: usize = 8 << 20;
/// How long a killed process may take to be gone.
const KILLED_MAX: Duration = Duration::from_secs(1);

pub struct Hold {
    pub table: Table,
    pub watchdog: OwnedFd,
    pub program: OwnedFd,
    /// Those of the worker's processes.
    pub connections: Connections,
    pub orders: Orders,
    /// How many workers were started, and how the last one that ended did.
    pub workers: u32,
    pub fate: (i32, i32),
    /// Where images are read to. A copy cannot be changed after the check, and reading 20 KiB costs less than
    /// mapping it.
    image: Vec<u8>,
}

impl Hold {
    pub fn new() -> Result<Hold, (&'static str, Errno)> {
        // The file itself, not its path: a worker that replaces a crashed one is the same program even if a
        // new version has been installed meanwhile. `Op::Program` changes it.
        use rustix::fs::{CWD, Mode, OFlags};
        let program =
            rustix::fs::openat(CWD, "/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| ("open /proc/self/exe (is /proc mounted?)", e))?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let watchdog = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)
            .map_err(|e| ("make a timerfd", e))?;
        Ok(Hold {
            table: Table::new().map_err(|e| ("make the table of what is held", e))?,
            watchdog,
            program: high(program).map_err(|e| ("keep a descriptor", e))?,
            connections: Connections::default(),
            orders: Orders::new().map_err(|e| ("make a pipe", e))?,
            workers: 0,
            fate: (wire::FATE_NONE, 0),
            image: vec![0; IMAGE_MAX],
        })
    }

    pub fn disarm(&self) {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let never = Itimerspec { it_interval: zero, it_value: zero };
        let _ = rustix::time::timerfd_settime(&self.watchdog, TimerfdTimerFlags::empty(), &never);
    }

    /// No child, nor one of a keel before us, that is not let go.
    pub fn holds_no_process(&self) -> bool {
        let mut cursor = 0;
        while let Some((key, next)) = self.table.next_kept(cursor) {
            if key.as_bytes().starts_with(ORPHAN) {
                return false;
            }
            cursor = next;
        }
        self.table.children.len() == 0
    }

    /// Does what is asked. `Ready` and what is about the holder are not for us.
    pub fn handle(
        &mut self,
        request: &Message,
        fds: &mut Fds,
    ) -> Result<(Message, Option<OwnedFd>), Refusal> {
        fds.complete()?;
        let word = request.words[0];
        let mut answer = Message::answer(request, [0; 4]);
        let mut fd = None;
        match Op::from_word(request.kind).ok_or(Errno::NOSYS)? {
            Op::Hello => {
                let (kind, number) = self.fate;
                answer.words = [wire::VERSION, self.workers.saturating_sub(1) as i32, kind, number];
                fd = Some(duplicate(self.watchdog.as_fd())?);
            }
            Op::Ready | Op::Hold | Op::Holder | Op::Release => {}
            Op::Launch => {
                let (pid, pidfd) = self.launch(request, fds)?;
                answer.words[0] = pid;
                fd = Some(pidfd);
            }
            Op::Peek => {
                let status = self.child(word).and_then(|pid| wait_for(pid, WaitIdOptions::NOWAIT))?;
                let (kind, number) = status.as_ref().map_or((wire::FATE_NONE, 0), fate);
                answer.words = [kind, number, 0, 0];
            }
            Op::Reap => {
                let status = self.child(word).and_then(|pid| wait_for(pid, WaitIdOptions::empty()))?;
                let (kind, number) = fate(status.as_ref().ok_or(Errno::BUSY)?);
                point("reaped");
                self.table.remove_child(word);
                answer.words = [kind, number, 0, 0];
            }
            Op::Keep => match fds.take(0) {
                Some(fd) => self.table.keep(&request.name, high(fd)?).map_err(|_| Errno::NOSPC)?,
                None => self.table.drop_kept(&request.name),
            },
            Op::Fetch => fd = Some(duplicate(self.table.kept(&request.name).ok_or(Errno::NOENT)?)?),
            Op::NextChild => {
                let (pid, pidfd, tag, next) = self.table.next_child(cursor(word)?).ok_or(Errno::NOENT)?;
                answer.words = [pid, next as i32, 0, 0];
                answer.name = tag;
                fd = Some(duplicate(pidfd)?);
            }
            Op::NextKept => {
                let (key, next) = self.table.next_kept(cursor(word)?).ok_or(Errno::NOENT)?;
                answer.words = [0, next as i32, 0, 0];
                answer.name = key;
            }
            Op::Program => self.program = high(fds.take(0).ok_or(Errno::BADF)?)?,
            Op::Orders => {
                answer.words[0] = self.orders.ending as i32;
                fd = Some(self.orders.begin()?);
            }
            Op::Ending => self.orders.note(Ending::from_word(word)),
            Op::Connect => fd = Some(self.connections.add(Asker::from_word(word))?),
        }
        Ok((answer, fd))
    }

    fn launch(&mut self, request: &Message, fds: &Fds) -> Result<(i32, OwnedFd), Refusal> {
        if self.table.children.is_full() {
            return Err(Errno::NOSPC.into());
        }
        let image = read_image(&mut self.image, fds.get(0).ok_or(Errno::BADF)?)?;
        let image = Image::check(image).map_err(|_| Errno::INVAL)?;
        let mut slots = [-1; wire::SLOTS_MAX];
        let mut raised = [const { None::<OwnedFd> }; wire::SLOTS_MAX];
        let count = fds.len().checked_sub(1).ok_or(Errno::BADF)?;
        let free = above_what_is_given(&image);
        for (at, (slot, raised)) in slots.iter_mut().zip(&mut raised).take(count).enumerate() {
            let fd = fds.get(at + 1).ok_or(Errno::BADF)?;
            *slot = fd.as_raw_fd();
            if *slot < free {
                *slot = raised.insert(rustix::io::fcntl_dupfd_cloexec(fd, free)?).as_raw_fd();
            }
        }
        let slots = slots.get(..count).ok_or(Errno::TOOMANYREFS)?;
        self.table.announce(&request.name);
        let spawned = sys::spawn(&image, slots);
        point("cloned");
        let (pid, pidfd) = spawned.inspect_err(|_| self.table.not_cloned())?;
        let added = duplicate_high(pidfd.as_fd())
            .and_then(|kept| self.table.add_child(pid, kept, &request.name).map_err(|_| Errno::NOSPC));
        match added {
            Ok(()) => Ok((pid, pidfd)),
            Err(errno) => {
                // The worker hears of a failure alone, so there may be no child that nobody knows.
                let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
                // One that hangs in the kernel, on a dead mount as a rule, is waited for no longer: it cannot go on.
                let _ = pidfd::wait(pidfd.as_fd(), Some(KILLED_MAX));
                let _ = wait_for(pid, WaitIdOptions::empty());
                self.table.not_cloned();
                Err(errno.into())
            }
        }
    }

    /// The worker may ask about its own children alone.
    fn child(&self, pid: i32) -> Result<i32, Errno> {
        if self.table.is_child(pid) { Ok(pid) } else { Err(Errno::SRCH) }
    }
}

fn cursor(word: i32) -> Result<usize, Errno> {
    usize::try_from(word).map_err(|_| Errno::INVAL)
}

/// Who asks through a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The worker itself: its first connection, and its loop's own.
    Worker,
    /// A process of the worker's.
    Process,
}

impl Asker {
    fn from_word(word: i32) -> Asker {
        if word == wire::CONNECT_LOOP { Asker::Worker } else { Asker::Process }
    }
}

/// Connections beside the worker's first, our ends of them.
pub struct Connections {
    sockets: [Option<(OwnedFd, Asker)>; wire::CONNECTIONS_MAX],
}

impl Default for Connections {
    fn default() -> Connections {
        Connections { sockets: [const { None }; wire::CONNECTIONS_MAX] }
    }
}

impl Connections {
    /// The other end of a new one.
    fn add(&mut self, asker: Asker) -> Result<OwnedFd, Errno> {
        let free = self.sockets.iter_mut().find(|socket| socket.is_none()).ok_or(Errno::NOSPC)?;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        *free = Some((high(ours)?, asker));
        Ok(theirs)
    }

    pub fn open(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().flatten().map(|(socket, _)| socket.as_fd())
    }

    pub fn get(&self, at: usize) -> Option<(BorrowedFd<'_>, Asker)> {
        self.sockets.get(at)?.as_ref().map(|(socket, asker)| (socket.as_fd(), *asker))
    }

    pub fn close(&mut self, at: usize) {
        drop(self.take(at));
    }

    pub fn take(&mut self, at: usize) -> Option<OwnedFd> {
        self.sockets.get_mut(at)?.take().map(|(socket, _)| socket)
    }

    /// Who asks through one of them asks for a worker that is no more.
    pub fn close_all(&mut self) {
        self.sockets.fill_with(|| None);
    }
}

/// Why a request is not done, as the worker gets it.
pub struct Refusal {
    errno: Errno,
    /// Of a clone: `sampan_child`'s call (0: none) and detail.
    call: i32,
    detail: i32,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal { errno, call: 0, detail: 0 }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        let errno = Errno::from_raw_os_error(fault.errno.into());
        Refusal { errno, call: i32::from(fault.call as u16), detail: fault.detail as i32 }
    }
}

impl Refusal {
    pub fn message(&self, request: &Message) -> Message {
        Message { words: [self.call, self.detail, 0, 0], ..Message::refuse(request, self.errno) }
    }
}

fn read_image<'a>(buffer: &'a mut [u8], memfd: BorrowedFd<'_>) -> Result<&'a [u8], Errno> {
    let size = usize::try_from(rustix::fs::fstat(memfd)?.st_size).map_err(|_| Errno::FBIG)?;
    let image = buffer.get_mut(..size).ok_or(Errno::FBIG)?;
    let mut done = 0;
    while let Some(rest @ [_, ..]) = image.get_mut(done..) {
        match rustix::io::retry_on_intr(|| rustix::io::pread(memfd, &mut *rest, done as u64))? {
            0 => return Err(Errno::NODATA),
            got => done += got,
        }
    }
    Ok(image)
}

/// None: it runs. ECHILD: it is no child of ours.
pub fn wait_for(pid: i32, options: WaitIdOptions) -> Result<Option<WaitIdStatus>, Errno> {
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    // __WALL: whatever exit signal it was cloned with.
    let all = WaitIdOptions::from_bits_retain(libc::__WALL as u32);
    let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOHANG | all;
    rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(pid), options))
}

pub fn fate(status: &WaitIdStatus) -> (i32, i32) {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => (wire::FATE_CODE, code),
        (None, Some(signal)) if status.dumped() => (wire::FATE_CORE, signal),
        (None, Some(signal)) => (wire::FATE_SIGNAL, signal),
        (None, None) => (wire::FATE_NONE, 0),
    }
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}

/// Moves a descriptor up, out of the part of the table that clones copy.
pub fn high(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    duplicate_high(fd.as_fd())
}

/// The child puts what it is given at fixed numbers: whatever else it needs must be above these when it does so.
fn above_what_is_given(image: &Image<'_>) -> i32 {
    let given = (0..).map_while(|index| image.step(index)).filter_map(|step| match step {
        Step::Stdio { to, .. } if to > 2 => i32::try_from(to).ok()?.checked_add(1),
        _ => None,
    });
    given.max().unwrap_or(0)
}

fn duplicate_high(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, lowest_kept(rustix::process::getrlimit(Resource::Nofile).current))
}

/// Of a limit on open files that is low, half.
fn lowest_kept(limit: Option<u64>) -> i32 {
    let half = limit.map_or(HIGH, |limit| i32::try_from(limit / 2).unwrap_or(HIGH));
    half.clamp(sys::WORKER_SOCKET + 1, HIGH)
}

/// Sends the answer to a request. One whose descriptor cannot be sent becomes a refusal without it: whoever asked goes on.
pub fn reply(
    socket: BorrowedFd<'_>,
    request: &Message,
    handled: Result<(Message, Option<OwnedFd>), Refusal>,
) -> Result<(), Errno> {
    let (answer, fd) = handled.unwrap_or_else(|refusal| (refusal.message(request), None));
    let borrowed = fd.as_ref().map(AsFd::as_fd);
    match wire::send(socket, &answer, borrowed.as_slice(), SendFlags::DONTWAIT) {
        Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::TOOMANYREFS | Errno::NOMEM | Errno::NOBUFS)) => {
            if Op::from_word(request.kind) == Some(Op::Launch)
                && let Some(pidfd) = borrowed
            {
                // Nobody hears of it. It stays in the table for the next worker, as one that has ended.
                let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
            }
            wire::send(socket, &Message::refuse(request, errno), &[], SendFlags::DONTWAIT)
        }
        sent => sent,
    }
}
