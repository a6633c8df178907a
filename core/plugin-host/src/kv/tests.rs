//! The store under `kill -9`, failing syncs and strange files.
use super::*;
use proptest::prelude::*;

struct Dir(PathBuf);
impl Dir {
    fn new() -> Dir {
        static N: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = N.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Dir(std::env::temp_dir().join(format!("sampan-kv-{}-{n}", std::process::id())))
    }
}
impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Puts and waits for the disk.
fn put(kv: &Kv, writer: &Writer, container: &str, key: &str, value: Option<&[u8]>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let done: Done = Box::new(move |result| sender.send(result).unwrap());
    assert_eq!(kv.put(writer, container, key, value, done), abi::OK);
    receiver.recv().unwrap().unwrap();
}

fn text(kv: &Kv, container: &str, key: &str) -> Option<String> {
    kv.get(container, key).map(|value| String::from_utf8_lossy(&value).into_owned())
}

#[test]
fn what_was_durable_is_there_again() {
    let (dir, writer) = (Dir::new(), Writer::default());
    let kv = Kv::open(&dir.0).unwrap();
    put(&kv, &writer, "", "a", Some(b"1"));
    put(&kv, &writer, "", "a", Some(b"2"));
    put(&kv, &writer, "web", "b", Some(b"\xff\x00"));
    put(&kv, &writer, "web", "gone", Some(b""));
    put(&kv, &writer, "web", "gone", None);
    let again = Kv::open(&dir.0).unwrap();
    assert_eq!(text(&again, "", "a").as_deref(), Some("2"));
    assert_eq!(again.get("web", "b").as_deref(), Some(&b"\xff\x00"[..]));
    assert_eq!(again.keys("web", ""), ["b"]);
}

/// Runs `f` while this process may open one more file, and no second one.
fn with_one_file_to_open<T>(f: impl FnOnce() -> T) -> T {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let free = std::os::fd::AsRawFd::as_raw_fd(&File::open("/dev/null").unwrap()) as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(free + 1), maximum: before.maximum }).unwrap();
    let result = f();
    setrlimit(Resource::Nofile, before).unwrap();
    result
}

#[test]
fn what_is_said_to_be_durable_after_a_failed_sync_of_the_folder_is_there_again() {
    let (dir, writer) = (Dir::new(), Writer::default());
    let kv = Kv::open(&dir.0).unwrap();
    put(&kv, &writer, "", "k", Some(b"0"));
    let (sender, receiver) = std::sync::mpsc::channel();
    // Until the file is written anew beside itself, and the folder cannot be opened to sync the new name.
    let mut values = (b'a'..b'k').map(|byte| vec![byte; 60 << 10]);
    let failed = values.any(|value| {
        let sender = sender.clone();
        let done: Done = Box::new(move |result| sender.send(result).unwrap());
        let result = with_one_file_to_open(|| {
            assert_eq!(kv.put(&writer, "", "k", Some(&value), done), abi::OK);
            receiver.recv().unwrap()
        });
        result.is_err()
    });
    assert!(failed);
    // So much that there is no reason to write the file anew.
    put(&kv, &writer, "", "after", Some(&[b'x'; 60 << 10]));
    assert!(Kv::open(&dir.0).unwrap().get("", "after").is_some());
}

#[test]
fn what_is_there_already_is_not_written_again() {
    let (dir, writer) = (Dir::new(), Writer::default());
    let kv = Kv::open(&dir.0).unwrap();
    let size = || fs::metadata(dir.0.join("records")).unwrap().len();
    put(&kv, &writer, "web", "a", Some(b"1"));
    let once = size();
    put(&kv, &writer, "web", "a", Some(b"1"));
    put(&kv, &writer, "web", "never", None);
    assert_eq!(size(), once);
    put(&kv, &writer, "web", "a", Some(b"2"));
    put(&kv, &writer, "web", "a", Some(b"1"));
    assert_eq!(size(), 3 * once);
    put(&kv, &writer, "web", "a", None);
    put(&kv, &writer, "web", "a", Some(b"1"));
    assert_eq!(text(&Kv::open(&dir.0).unwrap(), "web", "a").as_deref(), Some("1"));
}

#[test]
fn the_keys_of_a_container_go_with_it() {
    let (dir, writer) = (Dir::new(), Writer::default());
    let kv = Kv::open(&dir.0).unwrap();
    put(&kv, &writer, "web", "a", Some(b"1"));
    put(&kv, &writer, "", "a", Some(b"1"));
    kv.forget(&writer, "web");
    put(&kv, &writer, "", "b", Some(b"1"));
    let again = Kv::open(&dir.0).unwrap();
    assert_eq!((again.keys("web", ""), again.keys("", "")), (vec![], vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn limits_are_refused_by_name() {
    let (dir, writer) = (Dir::new(), Writer::default());
    let kv = Kv::open(&dir.0).unwrap();
    let big = vec![b'x'; abi::KV_VALUE_BYTES_MAX];
    let put = |key: &str, value: &[u8]| kv.put(&writer, "", key, Some(value), Box::new(|_| {}));
    assert_eq!(put("", b""), abi::E_INVAL);
    assert_eq!(put(&"k".repeat(257), b""), abi::E_TOOBIG);
    assert_eq!(put("k", &vec![0; abi::KV_VALUE_BYTES_MAX + 1]), abi::E_TOOBIG);
    let fitted = (0..300).take_while(|n| put(&format!("k{n}"), &big) == abi::OK).count();
    assert_eq!(fitted, 255);
    assert_eq!(put("k0", &big), abi::OK);
}

#[test]
fn a_file_of_old_values_is_written_anew() {
    let (dir, writer) = (Dir::new(), Writer::default());
    let kv = Kv::open(&dir.0).unwrap();
    let value = vec![b'x'; 60 << 10];
    (0..20).for_each(|_| put(&kv, &writer, "", "k", Some(&value)));
    let bytes = fs::metadata(dir.0.join("records")).unwrap().len();
    assert!(bytes < 5 * (60 << 10), "{bytes}");
    assert_eq!(Kv::open(&dir.0).unwrap().get("", "k").map(|value| value.len()), Some(60 << 10));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// `kill -9` at any byte: what is left is a prefix of the changes.
    #[test]
    fn a_torn_end_costs_no_whole_record(cut in 0usize..400) {
        let (dir, writer) = (Dir::new(), Writer::default());
        let kv = Kv::open(&dir.0).unwrap();
        (0..8).for_each(|n: u8| put(&kv, &writer, "", "n", Some(&[b'0' + n])));
        let path = dir.0.join("records");
        let bytes = fs::read(&path).unwrap();
        let cut = cut.min(bytes.len());
        fs::write(&path, &bytes[..cut]).unwrap();
        let whole = bytes[..cut].iter().filter(|byte| **byte == b'\n').count();
        let again = Kv::open(&dir.0).unwrap();
        let expected = whole.checked_sub(1).map(|last| last.to_string());
        prop_assert_eq!(text(&again, "", "n"), expected);
        put(&again, &writer, "", "n", Some(b"after"));
        let last = Kv::open(&dir.0).unwrap();
        prop_assert_eq!(text(&last, "", "n"), Some("after".to_owned()));
    }

    #[test]
    fn no_file_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let dir = Dir::new();
        fs::create_dir_all(&dir.0).unwrap();
        fs::write(dir.0.join("records"), &bytes).unwrap();
        Kv::open(&dir.0).unwrap();
    }
}
