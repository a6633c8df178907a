//! Requests to the keel in any order against a model of what it must hold: a list of children, a map of keys.

use crate::image::{image, null};
use proptest::prelude::*;
use rustix::fd::AsFd;
use rustix::io::Errno;
use sampan_keel::{Child, Error, Exit, Keel, NAME_MAX};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Request {
    /// Of one that ends with this code, or of one that runs until it is killed.
    Launch(Option<u8>),
    Kill(prop::sample::Index),
    Wait(prop::sample::Index),
    Reap(prop::sample::Index),
    /// One that was reaped before.
    PeekGone(prop::sample::Index),
    Keep(u8, u32),
    Drop(u8),
    Fetch(u8),
    List,
}

fn request() -> impl Strategy<Value = Request> {
    use Request::*;
    prop_oneof![
        3 => proptest::option::weighted(0.7, any::<u8>()).prop_map(Launch),
        2 => any::<prop::sample::Index>().prop_map(Kill),
        2 => any::<prop::sample::Index>().prop_map(Wait),
        3 => any::<prop::sample::Index>().prop_map(Reap),
        1 => any::<prop::sample::Index>().prop_map(PeekGone),
        3 => (0..5u8, any::<u32>()).prop_map(|(key, text)| Keep(key, text)),
        2 => (0..5u8).prop_map(Drop),
        2 => (0..5u8).prop_map(Fetch),
        1 => Just(List),
    ]
}

#[derive(Debug)]
struct Model {
    keel: Keel,
    /// With what they end; None: they run until they are killed.
    children: Vec<(Child, Option<Exit>)>,
    gone: Vec<i32>,
    keys: BTreeMap<String, String>,
    launched: u32,
}

impl Drop for Model {
    fn drop(&mut self) {
        for (child, _) in &self.children {
            kill(child);
            wait(child);
            let _ = self.keel.reap(child.pid);
        }
    }
}

fn kill(child: &Child) {
    let _ = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL);
}

fn wait(child: &Child) {
    let mut fds = [rustix::event::PollFd::new(&child.pidfd, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut fds, None).unwrap();
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> Errno {
    match result {
        Err(Error::Refused { errno, .. }) => errno,
        other => panic!("{other:?}"),
    }
}

impl Model {
    fn check(&mut self, request: &Request) {
        match request {
            Request::Launch(code) => {
                let command = code.map_or("exec sleep 60".to_owned(), |code| format!("exit {code}"));
                self.launched += 1;
                let tag = format!("child {}", self.launched);
                let child =
                    self.keel.launch(&image(&command, false), &[null().unwrap().as_fd()], &tag).unwrap();
                self.children.push((child, code.map(|code| Exit::Code(code.into()))));
            }
            Request::Kill(_) | Request::Wait(_) | Request::Reap(_) if self.children.is_empty() => {}
            Request::Kill(index) => {
                let (child, end) = index.get_mut(&mut self.children);
                if end.is_none() {
                    assert_eq!(self.keel.peek(child.pid).unwrap(), None);
                    kill(child);
                    *end = Some(Exit::Signal { number: 9, core: false });
                }
            }
            Request::Wait(index) => {
                let (child, end) = index.get(&self.children);
                if end.is_some() {
                    wait(child);
                    assert_eq!(self.keel.peek(child.pid).unwrap(), *end);
                }
            }
            Request::Reap(index) => {
                let at = index.index(self.children.len());
                let (child, end) = &self.children[at];
                let Some(end) = end else {
                    assert_eq!(refused(self.keel.reap(child.pid)), Errno::BUSY);
                    return;
                };
                wait(child);
                assert_eq!(self.keel.reap(child.pid).unwrap(), *end);
                self.gone.push(self.children.remove(at).0.pid);
            }
            Request::PeekGone(index) if !self.gone.is_empty() => {
                let pid = *index.get(&self.gone);
                // Unless the pid has been used again meanwhile, for one of ours.
                if self.children.iter().all(|(child, _)| child.pid != pid) {
                    assert_eq!(refused(self.keel.peek(pid)), Errno::SRCH);
                }
            }
            Request::PeekGone(_) => {}
            Request::Keep(key, text) => {
                let (key, text) = (format!("key {key}"), text.to_string());
                let memfd = rustix::fs::memfd_create("kept", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
                rustix::io::write(&memfd, text.as_bytes()).unwrap();
                self.keel.keep(&key, Some(memfd.as_fd())).unwrap();
                self.keys.insert(key, text);
            }
            Request::Drop(key) => {
                self.keel.keep(&format!("key {key}"), None).unwrap();
                self.keys.remove(&format!("key {key}"));
            }
            Request::Fetch(key) => {
                let key = format!("key {key}");
                let found = self.keel.fetch(&key).unwrap().map(|fd| {
                    let mut text = [0; 16];
                    let got = rustix::io::pread(&fd, &mut text, 0).unwrap();
                    String::from_utf8(text[..got].to_vec()).unwrap()
                });
                assert_eq!(found.as_ref(), self.keys.get(&key));
            }
            Request::List => self.check_list(),
        }
    }

    fn check_list(&self) {
        let list = self.keel.list().unwrap();
        let mut listed: Vec<(&str, i32)> = list.children.iter().map(|c| (c.tag.as_str(), c.pid)).collect();
        let mut known: Vec<(&str, i32)> =
            self.children.iter().map(|(c, _)| (c.tag.as_str(), c.pid)).collect();
        listed.sort();
        known.sort();
        assert_eq!(listed, known);
        let mut keys = list.keys.clone();
        keys.sort();
        assert_eq!(keys, self.keys.keys().cloned().collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_in_any_order(requests in proptest::collection::vec(request(), 1..40)) {
        let keel = Keel::in_process().unwrap();
        let (children, gone) = (Vec::new(), Vec::new());
        let mut model = Model { keel, children, gone, keys: BTreeMap::new(), launched: 0 };
        for request in &requests {
            model.check(request);
        }
        model.check_list();
    }
}

#[test]
fn names_have_a_limit() {
    let keel = Keel::in_process().unwrap();
    let stdin = std::io::stdin();
    keel.keep(&"k".repeat(NAME_MAX), Some(stdin.as_fd())).unwrap();
    assert!(matches!(keel.keep(&"k".repeat(NAME_MAX + 1), Some(stdin.as_fd())), Err(Error::Name { .. })));
}

#[test]
fn an_image_that_is_none_is_refused() {
    let keel = Keel::in_process().unwrap();
    let mut bytes = image("exit 0", false);
    assert_eq!(refused(keel.launch(&bytes[..20], &[], "short")), Errno::INVAL);
    assert_eq!(refused(keel.launch(&[], &[], "empty")), Errno::INVAL);
    // It wants one slot.
    assert_eq!(refused(keel.launch(&bytes, &[], "no slots")), Errno::BADF);
    bytes[0] ^= 1;
    assert_eq!(refused(keel.launch(&bytes, &[], "no magic")), Errno::INVAL);
    assert_eq!(keel.list().unwrap().children.len(), 0);
}

#[test]
fn eight_threads_share_one_connection() {
    let keel = Keel::in_process().unwrap();
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let keel = keel.clone();
            std::thread::spawn(move || {
                for n in 0..20 {
                    let code = thread * 20 + n;
                    let image = image(&format!("exit {code}"), false);
                    let child =
                        keel.launch(&image, &[null().unwrap().as_fd()], &format!("{thread}.{n}")).unwrap();
                    wait(&child);
                    assert_eq!(keel.peek(child.pid).unwrap(), Some(Exit::Code(code)));
                    assert_eq!(keel.reap(child.pid).unwrap(), Exit::Code(code));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(keel.list().unwrap().children.len(), 0);
}
