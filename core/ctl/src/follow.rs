//! `-f` outlives a worker of sampand as the containers do: the stream breaks off in the middle, is asked for again when the next
//! worker answers, and goes on where it was. Logs are known by stream and time, with the number of lines of that time.
use crate::client::Error;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// The next worker comes at once, or, after some that died young, in seconds.
const PATIENCE: Duration = Duration::from_secs(15);
const GONE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(50);

/// Runs `stream` to its end, again and again if it breaks off because the worker died. `again`: not for the first time.
pub fn over_deaths(mut stream: impl FnMut(bool) -> Result<(), Error>) -> Result<(), Error> {
    let mut again = false;
    let mut broken: Option<(Error, Instant)> = None;
    loop {
        match (stream(again), broken.take()) {
            (Err(error @ Error::Broken(_)), _) if died(&error) => broken = Some((error, Instant::now())),
            // Not there yet, or not any more: then the first error says it.
            (Err(Error::NoSupervisor { error: absent, .. }), Some((error, since))) => {
                // Only a sampand that ends in order takes its socket with it; a new worker makes it anew at once.
                if absent.kind() == ErrorKind::NotFound && since.elapsed() > GONE {
                    return Ok(());
                }
                if since.elapsed() > PATIENCE {
                    return Err(error);
                }
                broken = Some((error, since));
            }
            (ended, _) => return ended,
        }
        again = true;
        std::thread::sleep(PAUSE);
    }
}

fn died(error: &Error) -> bool {
    let Error::Broken(error) = error else { return false };
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset)
}

/// Service and stream.
type Key = (Vec<u8>, Vec<u8>);

#[derive(Clone, Debug, Default)]
struct Place {
    time: Vec<u8>,
    lines: usize,
}

/// How far each stream of logs has been shown.
#[derive(Debug, Default)]
pub struct Shown {
    last: BTreeMap<Key, Place>,
    /// What a stream that began anew has still to come to.
    behind: BTreeMap<Key, Place>,
    /// The last time of each service then: what is older and of a stream not seen yet was not asked for (`--tail`).
    until: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Shown {
    /// The stream begins anew, from the start of the logs.
    pub fn begin_anew(&mut self) {
        self.behind = self.last.clone();
        for ((service, _), place) in &self.last {
            let until = self.until.entry(service.clone()).or_default();
            if *until < place.time {
                until.clone_from(&place.time);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// Whether a line, with its time in RFC 3339, has not been shown before; then it now has.
    pub fn is_new(&mut self, service: &[u8], stream: &[u8], time: &[u8]) -> bool {
        let key = (service.to_vec(), stream.to_vec());
        if !self.last.contains_key(&key)
            && self.until.get(service).is_some_and(|until| time <= until.as_slice())
        {
            return false;
        }
        if let Some(place) = self.behind.get_mut(&key) {
            if time < place.time.as_slice() {
                return false;
            }
            if time == place.time && place.lines > 0 {
                place.lines -= 1;
                return false;
            }
            self.behind.remove(&key);
        }
        let place = self.last.entry(key).or_default();
        if place.time != time {
            *place = Place { time: time.to_vec(), lines: 0 };
        }
        place.lines += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Shown;

    #[test]
    fn a_stream_that_begins_anew_goes_on_where_it_was() {
        let mut shown = Shown::default();
        let take = |shown: &mut Shown, times: &[&str]| -> Vec<bool> {
            times.iter().map(|time| shown.is_new(b"web", b"stdout", time.as_bytes())).collect()
        };
        assert_eq!(take(&mut shown, &["1", "2", "2"]), [true, true, true]);
        shown.begin_anew();
        assert_eq!(take(&mut shown, &["1", "2", "2", "2", "3"]), [false, false, false, true, true]);
        assert!(shown.is_new(b"web", b"stderr", b"3"), "each stream has its own place");
        shown.begin_anew();
        assert_eq!(take(&mut shown, &["3", "1"]), [false, false]);
        assert_eq!(
            take(&mut shown, &["4", "1"]),
            [true, true],
            "a clock that went back hides nothing for good"
        );
    }
}
