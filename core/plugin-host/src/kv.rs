//! What plugins remember: a map per plugin, in memory, and behind it a file of records in `state_dir/kv/PLUGIN/`.
//!
//! `put` changes the map at once and queues a record; one thread for all plugins appends, syncs a batch, and only then says
//! that each is durable. A record carries its checksum, so a torn end is cut off when the file is read. A file that has grown
//! to four times what lives is written anew beside itself and renamed. Absent: transactions over several keys.
use crate::queue::{Receiver, Sender, bounded};
use sampan_journal::crc32;
use sampan_plugin::abi;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::TrySendError;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Changes that wait for the disk, over all plugins. Then `put` says busy.
const PENDING_MAX: usize = 4096;
/// Files smaller than this are not worth compacting.
const COMPACT_BYTES_MIN: u64 = 256 << 10;

/// Container ID (empty: host-wide) and key.
pub type Key = (String, String);
type Map = BTreeMap<Key, Arc<[u8]>>;
/// Called once the change is on disk, or cannot be: on the writer's thread, or at once if nothing changes.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// One plugin's store.
pub struct Kv {
    map: Mutex<Contents>,
    file: Arc<Mutex<Log>>,
}

#[derive(Clone, Default)]
struct Contents {
    map: Map,
    /// Of keys and values.
    bytes: usize,
}

/// The thread that writes for everybody; it starts with the first change.
#[derive(Default)]
pub struct Writer {
    queue: OnceLock<Option<Sender<Change>>>,
}

struct Change {
    log: Arc<Mutex<Log>>,
    record: Record,
    done: Done,
}

#[derive(Serialize, Deserialize)]
struct Record {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    c: String,
    /// No key: the whole container is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<String>,
    /// Text, or `h`: hexadecimal. Neither: deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    v: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    h: Option<String>,
}

impl Kv {
    /// Reads what is stored in `dir`, which is made. A torn end is cut off; what lies behind a broken record is set aside.
    pub fn open(dir: &Path) -> io::Result<Kv> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let path = dir.join("records");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut contents = Contents::default();
        let mut good = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(record) = parse(line) else { break };
            contents.apply(&record);
            good += line.len();
        }
        if good < bytes.len() {
            if bytes.get(good..).is_some_and(|rest| rest.iter().filter(|byte| **byte == b'\n').count() > 1) {
                tracing::warn!(file = %path.display(), at = good, "a broken record: what follows it is in records.broken");
                fs::write(dir.join("records.broken"), &bytes)?;
            }
            OpenOptions::new().write(true).open(&path)?.set_len(good as u64)?;
        }
        let (live, bytes) = (contents.clone(), good as u64);
        let log = Log { path, file: None, bytes, live, content: Content::New, name: Name::New };
        Ok(Kv { map: Mutex::new(contents), file: Arc::new(Mutex::new(log)) })
    }

    pub fn get(&self, container: &str, key: &str) -> Option<Arc<[u8]>> {
        self.lock().map.get(&(container.to_owned(), key.to_owned())).cloned()
    }

    pub fn keys(&self, container: &str, prefix: &str) -> Vec<String> {
        let from = (container.to_owned(), prefix.to_owned());
        let contents = self.lock();
        let range = contents.map.range(from..).map(|(key, _)| key);
        range.take_while(|(c, k)| c == container && k.starts_with(prefix)).map(|(_, k)| k.clone()).collect()
    }

    /// Sets or deletes a key, in memory now, on disk soon. A status of the ABI.
    pub fn put(&self, writer: &Writer, container: &str, key: &str, value: Option<&[u8]>, done: Done) -> i32 {
        if key.is_empty() {
            return abi::E_INVAL;
        }
        if key.len() > abi::KV_KEY_BYTES_MAX || value.is_some_and(|v| v.len() > abi::KV_VALUE_BYTES_MAX) {
            return abi::E_TOOBIG;
        }
        let mut record = Record { c: container.to_owned(), k: Some(key.to_owned()), v: None, h: None };
        match value.map(|value| (value, std::str::from_utf8(value))) {
            Some((_, Ok(text))) => record.v = Some(text.to_owned()),
            Some((bytes, Err(_))) => record.h = Some(bytes.iter().map(|b| format!("{b:02x}")).collect()),
            None => {}
        }
        // The lock is held until the record is queued, so that the file has the order of the map.
        let mut contents = self.lock();
        let place = (container.to_owned(), key.to_owned());
        let grows = value.map_or(0, |value| cost(&place, value.len()));
        let had = contents.map.get(&place).map_or(0, |value| cost(&place, value.len()));
        if contents.map.get(&place).map(|held| &**held) == value && self.holds(&place, value) {
            drop(contents);
            done(Ok(()));
            return abi::OK;
        }
        if contents.bytes + grows > abi::KV_PLUGIN_BYTES_MAX + had {
            return abi::E_TOOBIG;
        }
        let change = contents.effect(&record);
        let status = writer.send(Change { log: self.file.clone(), record, done });
        if status == abi::OK {
            contents.take(change);
        }
        status
    }

    /// The file says so already, and the disk has it. A plugin that writes the same at each life of a container waits for no
    /// disk then. Not asked while the file is being written: that would take as long as the write.
    fn holds(&self, place: &Key, value: Option<&[u8]>) -> bool {
        self.file.try_lock().is_ok_and(|log| {
            log.content == Content::Synced && log.live.map.get(place).map(|held| &**held) == value
        })
    }

    /// Deletes everything of a container.
    pub fn forget(&self, writer: &Writer, container: &str) {
        let mut contents = self.lock();
        if container.is_empty() || contents.keys_of(container).next().is_none() {
            return;
        }
        let record = Record { c: container.to_owned(), k: None, v: None, h: None };
        contents.apply(&record);
        let done: Done = Box::new(|_| {});
        if writer.send(Change { log: self.file.clone(), record, done }) != abi::OK {
            tracing::warn!(
                container,
                "the disk is too slow: a plugin's values of this container stay in its file"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(key: &Key, value: usize) -> usize {
    key.0.len() + key.1.len() + value
}

/// What a record does to the map: keys with their new value.
type Effect = Vec<(Key, Option<Arc<[u8]>>)>;

impl Contents {
    /// Without a look at those of others: each container that ends asks.
    fn keys_of<'c>(&'c self, container: &'c str) -> impl Iterator<Item = &'c Key> {
        let from = self.map.range((container.to_owned(), String::new())..).map(|(key, _)| key);
        from.take_while(move |(of, _)| of == container)
    }

    /// What they are as records, about.
    fn bytes_as_records(&self) -> u64 {
        const AROUND: usize = 40;
        (self.bytes + AROUND * self.map.len()) as u64
    }

    fn effect(&self, record: &Record) -> Effect {
        match &record.k {
            Some(key) => vec![((record.c.clone(), key.clone()), record.value())],
            None => self.keys_of(&record.c).map(|key| (key.clone(), None)).collect(),
        }
    }

    fn take(&mut self, effect: Effect) {
        for (key, value) in effect {
            let name = key.clone();
            let grows = value.as_ref().map_or(0, |value| cost(&name, value.len()));
            let old = match value {
                Some(value) => self.map.insert(key, value),
                None => self.map.remove(&key),
            };
            self.bytes = (self.bytes + grows).saturating_sub(old.map_or(0, |old| cost(&name, old.len())));
        }
    }

    fn apply(&mut self, record: &Record) {
        let effect = self.effect(record);
        self.take(effect);
    }
}

impl Record {
    fn value(&self) -> Option<Arc<[u8]>> {
        match (&self.v, &self.h) {
            (Some(text), _) => Some(text.as_bytes().into()),
            (None, Some(hex)) => {
                let digits = hex.as_bytes().chunks(2).map(|pair| {
                    std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())
                });
                digits.collect::<Option<Vec<u8>>>().map(Into::into)
            }
            (None, None) => None,
        }
    }

    /// `CHECKSUM JSON\n`
    fn line(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let mut line = format!("{:08x} ", crc32(&json)).into_bytes();
        line.extend_from_slice(&json);
        line.push(b'\n');
        Ok(line)
    }
}

fn parse(line: &[u8]) -> Option<Record> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, json) = (line.get(..8)?, line.get(9..)?);
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    (crc32(json) == sum).then(|| serde_json::from_slice(json).ok())?
}

impl Writer {
    fn send(&self, change: Change) -> i32 {
        let queue = self.queue.get_or_init(|| {
            let (sender, receiver) = bounded(PENDING_MAX);
            let thread = std::thread::Builder::new().name("plugins-kv".to_owned()).stack_size(256 << 10);
            match thread.spawn(move || write_all(&receiver)) {
                Ok(_) => Some(sender),
                Err(error) => {
                    tracing::error!(%error, "no thread for the plugins' stores");
                    None
                }
            }
        });
        let Some(queue) = queue else { return abi::E_FAIL };
        match queue.try_send(change) {
            Ok(()) => abi::OK,
            Err(TrySendError::Full(_)) => abi::E_BUSY,
            Err(TrySendError::Disconnected(_)) => abi::E_FAIL,
        }
    }
}

/// The writer's thread: a batch is what has gathered while the last one was synced.
fn write_all(queue: &Receiver<Change>) {
    while let Some(first) = queue.recv() {
        let mut batch = vec![first];
        while batch.len() < PENDING_MAX
            && let Some(next) = queue.try_recv()
        {
            batch.push(next);
        }
        let mut touched: Vec<(Arc<Mutex<Log>>, io::Result<()>)> = Vec::new();
        for change in &batch {
            let at = touched.iter().position(|(log, _)| Arc::ptr_eq(log, &change.log)).unwrap_or_else(|| {
                touched.push((change.log.clone(), Ok(())));
                touched.len() - 1
            });
            if let Some((log, result)) = touched.get_mut(at)
                && result.is_ok()
            {
                *result = lock(log).append(&change.record);
            }
        }
        for (log, result) in &mut touched {
            if result.is_ok() {
                *result = lock(log).sync();
            }
        }
        for change in batch {
            let result = touched.iter().find(|(log, _)| Arc::ptr_eq(log, &change.log));
            (change.done)(match result {
                Some((_, Err(error))) => Err(io::Error::new(error.kind(), error.to_string())),
                _ => Ok(()),
            });
        }
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file, and what would have to be in it.
struct Log {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    live: Contents,
    content: Content,
    name: Name,
}

/// Whether all of `live` is on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Not yet, as far as we know: a file that was only read may be one that a crash kept from the disk.
    New,
    Synced,
    /// A sync has failed. A later one that does not says nothing of what was lost with it: all is written anew.
    Doubtful,
}

/// Whether the file will be found under its name after a power cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    New,
    Synced,
}

impl Log {
    fn append(&mut self, record: &Record) -> io::Result<()> {
        if self.content == Content::Synced {
            self.content = Content::New;
        }
        let line = record.line()?;
        let result = self.file()?.write_all(&line);
        match result {
            Ok(()) => {
                self.bytes += line.len() as u64;
                self.live.apply(record);
            }
            // Half a record must not stand before the next one.
            Err(_) => {
                let whole = self.bytes;
                self.file()?.set_len(whole)?;
            }
        }
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        let long = self.bytes > COMPACT_BYTES_MIN && self.bytes > 4 * self.live.bytes_as_records();
        if long || self.content == Content::Doubtful {
            self.compact()?;
        } else if let Err(error) = self.file()?.sync_data() {
            self.content = Content::Doubtful;
            return Err(error);
        }
        if self.name == Name::New {
            sync_dir(&self.path)?;
            self.name = Name::Synced;
        }
        self.content = Content::Synced;
        Ok(())
    }

    fn compact(&mut self) -> io::Result<()> {
        let next = self.path.with_extension("new");
        let mut text = Vec::new();
        for ((container, key), value) in &self.live.map {
            let mut record = Record { c: container.clone(), k: Some(key.clone()), v: None, h: None };
            match std::str::from_utf8(value) {
                Ok(value) => record.v = Some(value.to_owned()),
                Err(_) => record.h = Some(value.iter().map(|b| format!("{b:02x}")).collect()),
            }
            text.extend(record.line()?);
        }
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().append(true).create_new(true).open(&next)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&next, &self.path)?;
        // From here on the file under our name is this one, whatever fails after it.
        self.file = Some(file);
        self.bytes = text.len() as u64;
        self.name = Name::New;
        Ok(())
    }

    fn file(&mut self) -> io::Result<&mut File> {
        match &mut self.file {
            Some(file) => Ok(file),
            empty => {
                let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
                Ok(empty.insert(file))
            }
        }
    }
}

/// A new name is durable when its folder is.
fn sync_dir(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests;
