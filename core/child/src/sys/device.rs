//! Terminals, the loopback device, and a descriptor sent over a socket.

use super::fs::close;
use super::raw::{Call, Fd, Result, fd, numbers, syscall};
use super::uapi::*;

/// SIOCSIFFLAGS of `lo` to up.
pub fn loopback_up() -> Result<()> {
    // AF_INET, SOCK_DGRAM | SOCK_CLOEXEC.
    let socket = numbers(Call::socket, [2, (2 | O_CLOEXEC) as usize, 0, 0, 0, 0]).map(fd)?;
    // struct ifreq: a name of 16 bytes, then the flags; 1 is IFF_UP.
    let mut request = [0u64; 5];
    let [name, _, flags, ..] = &mut request;
    *name = u64::from_le_bytes(*b"lo\0\0\0\0\0\0");
    *flags = 1;
    // SAFETY: `request` has the 40 bytes of struct ifreq.  0x8914 is SIOCSIFFLAGS.
    let up = unsafe { syscall(Call::ioctl, [socket as usize, 0x8914, request.as_ptr() as usize, 0, 0, 0]) };
    close(socket);
    up.map(drop)
}

/// Unlocks a pty and opens its peer without any path: TIOCSPTLCK, TIOCGPTPEER.
pub fn pty_peer(master: Fd) -> Result<Fd> {
    let unlock = 0i32;
    // SAFETY: TIOCSPTLCK reads the int `unlock`.
    unsafe { syscall(Call::ioctl, [master as usize, 0x4004_5431, &raw const unlock as usize, 0, 0, 0]) }?;
    let flags = O_RDWR | O_NOCTTY | O_CLOEXEC;
    numbers(Call::ioctl, [master as usize, 0x5441, flags as usize, 0, 0, 0]).map(fd)
}

/// Rows in the low half of `size`, columns in the high one.
pub fn set_window(tty: Fd, size: u32) -> Result<()> {
    let window = [size as u16, (size >> 16) as u16, 0, 0];
    // SAFETY: TIOCSWINSZ reads four shorts.
    unsafe { syscall(Call::ioctl, [tty as usize, 0x5414, window.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

/// Clears ONLCR of a terminal.
pub fn plain_newlines(tty: Fd) -> Result<()> {
    // The kernel's struct termios of 36 bytes: the flags of input, output, control and local modes, then characters.
    let mut modes = [0u32; 9];
    // SAFETY: TCGETS writes the 36 bytes of `modes`.
    unsafe { syscall(Call::ioctl, [tty as usize, 0x5401, modes.as_mut_ptr() as usize, 0, 0, 0]) }?;
    let [_, output, ..] = &mut modes;
    *output &= !0x4;
    // SAFETY: TCSETS reads the 36 bytes of `modes`.
    unsafe { syscall(Call::ioctl, [tty as usize, 0x5402, modes.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

pub fn controlling_tty(tty: Fd) -> Result<()> {
    numbers(Call::ioctl, [tty as usize, 0x540e, 0, 0, 0, 0]).map(drop)
}

/// Sends one descriptor over a Unix socket, with one byte.
pub fn send_fd(socket: Fd, what: Fd) -> Result<()> {
    let byte = [b'x'];
    let iov = [byte.as_ptr() as usize, 1usize];
    // struct cmsghdr: length 20, SOL_SOCKET, SCM_RIGHTS, then the descriptor, padded to 24.
    let control = [20u64, 1 | 1 << 32, u64::from(what as u32)];
    // struct msghdr: name, namelen, iov, iovlen, control, controllen, flags.
    let message = [0usize, 0, iov.as_ptr() as usize, 1, control.as_ptr() as usize, 24, 0];
    // SAFETY: every pointer in `message` is to a live local of the size that stands beside it.
    unsafe { syscall(Call::sendmsg, [socket as usize, message.as_ptr() as usize, 0x4000, 0, 0, 0]) }.map(drop)
}
