//! The output of a service for whose streams sampand is not in between: from its log, line by line.
use super::clients::Clients;
use axum::body::Bytes;
use sampan_api::attach::Stream;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::sync::watch;

/// A part of a line that is longer is shown as it is.
const LINE_BYTES_MAX: usize = 1 << 20;
const CHUNK_BYTES: usize = 64 << 10;
/// Once the service has ended and its log is complete, the last line of it comes within this time.
const SILENCE: Duration = Duration::from_millis(200);

/// Shows lines until all clients are gone, or until the life is over and nothing more comes.
pub async fn follow(log: OwnedFd, clients: &Clients, mut ending: watch::Receiver<bool>) -> io::Result<()> {
    rustix::io::ioctl_fionbio(&log, true)?;
    let log = crate::fence::readable(log)?;
    let mut lines = Lines::default();
    loop {
        let is_over = *ending.borrow();
        let mut ready = tokio::select! {
            ready = log.readable() => ready?,
            () = clients.gone() => return Ok(()),
            _ = ending.changed(), if !is_over => continue,
            () = tokio::time::sleep(SILENCE), if is_over => return Ok(()),
        };
        let mut buffer = vec![0; CHUNK_BYTES];
        match ready.try_io(|fd| Ok(rustix::io::read(&**fd.get_ref(), &mut buffer[..])?)) {
            Err(_) => {}
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(count)) => {
                lines.add(buffer.get(..count).unwrap_or_default(), |stream, bytes| {
                    clients.show(stream, bytes)
                });
            }
            Ok(Err(error)) => return Err(error),
        }
    }
}

/// Lines `SERVICE TIME STREAM F|P TEXT`, put together from pieces.
#[derive(Debug, Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn add(&mut self, bytes: &[u8], mut show: impl FnMut(Stream, Bytes)) {
        self.rest.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(line) = self.rest.get(from..).and_then(|rest| rest.split(|byte| *byte == b'\n').next())
            && from + line.len() < self.rest.len()
        {
            from += line.len() + 1;
            let mut fields = line.splitn(5, |byte| *byte == b' ');
            let (Some(stream), Some(tag)) = (fields.nth(2), fields.next()) else { continue };
            let mut text = fields.next().unwrap_or_default().to_vec();
            if tag != b"P" {
                text.push(b'\n');
            }
            let stream = if stream == b"stderr" { Stream::Stderr } else { Stream::Stdout };
            show(stream, text.into());
        }
        self.rest.drain(..from);
        if self.rest.len() > LINE_BYTES_MAX {
            self.rest.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_as_they_went_in_however_they_are_cut() {
        let log = b"web T stdout F one  two\nweb T stderr P par\nweb T stderr F t\nweb T stdout F \nweb T stdout F la";
        for step in 1..log.len() {
            let (mut lines, mut out, mut err) = (Lines::default(), Vec::new(), Vec::new());
            for piece in log.chunks(step) {
                lines.add(piece, |stream, bytes| match stream {
                    Stream::Stdout => out.extend_from_slice(&bytes),
                    Stream::Stderr => err.extend_from_slice(&bytes),
                });
            }
            assert_eq!((&out[..], &err[..]), (&b"one  two\n\n"[..], &b"part\n"[..]), "{step}");
        }
    }
}
