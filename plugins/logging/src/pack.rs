//! A segment that is not written any more, compressed: `0000000001.log` becomes `0000000001.log.zst`, which `zstdcat` reads.
//!
//! It is written under another name, takes its own when it is whole and on the disk, and only when that name is on the disk too does the
//! plain one go: whoever is killed in between, or loses power, leaves one that can be read, or both. Whoever opens a segment looks for
//! the plain one first. Whoever removes one removes the plain one first: so a segment that goes while it is being compressed does not
//! come back.
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use zstd::stream::{read, write};

pub const ENDING: &str = ".zst";
const UNFINISHED: &str = ".zst.new";
/// The text of logs becomes a fifth or less with any level, and this one needs the least memory and time.
const LEVEL: i32 = 1;
/// 8 MiB: what a file may make its reader remember.
const WINDOW_LOG_MAX: u32 = 23;
const CHUNK_BYTES: usize = 64 * 1024;

fn with_ending(plain: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(plain);
    name.push(ending);
    name.into()
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32).open(path)
}

/// Of the file that there is.
fn metadata(plain: &Path) -> io::Result<Metadata> {
    match fs::metadata(plain) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::metadata(with_ending(plain, ENDING)),
        found => found,
    }
}

/// When its last record was written.
pub fn modified(plain: &Path) -> io::Result<SystemTime> {
    metadata(plain)?.modified()
}

/// Of its records.
pub fn bytes(plain: &Path) -> io::Result<u64> {
    match fs::metadata(plain) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return Ok(found?.len()),
    }
    let mut head = Vec::new();
    open_file(&with_ending(plain, ENDING))?.take(32).read_to_end(&mut head)?;
    match zstd::zstd_safe::get_frame_content_size(&head) {
        Ok(Some(bytes)) => Ok(bytes),
        _ => Err(io::Error::other("not a compressed segment of ours")),
    }
}

pub fn remove(plain: &Path) -> io::Result<()> {
    let is_gone = |removed: io::Result<()>| match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    is_gone(fs::remove_file(plain))?;
    is_gone(fs::remove_file(with_ending(plain, ENDING)))
}

/// Compresses it. `stop`: not now.
pub fn pack(plain: &Path, stop: &AtomicBool) -> io::Result<()> {
    let unfinished = with_ending(plain, UNFINISHED);
    let done = write_packed(plain, &unfinished, stop);
    if done.is_err() {
        let _ = fs::remove_file(&unfinished);
        return done;
    }
    let packed = with_ending(plain, ENDING);
    fs::rename(&unfinished, &packed)?;
    if let Err(error) = sync_folder_of(plain) {
        // The plain one stays. Where retention has removed it, this one has to go as well.
        fs::remove_file(packed)?;
        return Err(error);
    }
    match fs::remove_file(plain) {
        // Retention was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::remove_file(packed),
        removed => removed,
    }
}

/// Some file systems cannot, and say so with EINVAL: they put names on the disk when they like.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let Some(dir) = path.parent() else { return Ok(()) };
    match File::open(dir)?.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

fn write_packed(plain: &Path, to: &Path, stop: &AtomicBool) -> io::Result<()> {
    let mut from = open_file(plain)?;
    let meta = from.metadata()?;
    // A rest of one that was killed is gone (`remove_unfinished`), so what is there is not ours.
    let to = OpenOptions::new().write(true).create_new(true).mode(0o640).open(to)?;
    let mut encoder = write::Encoder::new(to, LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(meta.len()))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match from.read(&mut chunk)? {
            0 => break,
            n => encoder.write_all(&chunk[..n])?,
        }
    }
    let to = encoder.finish()?;
    // max_age counts from the last record.
    to.set_modified(meta.modified()?)?;
    to.sync_all()
}

/// What killed ones have left unfinished in a folder.
pub fn remove_unfinished(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.ends_with(UNFINISHED)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A segment that is read, whichever it is.
pub struct Source {
    file: File,
    form: Form,
}

enum Form {
    Plain,
    /// `last` is what was read up to `at`: who reads goes back to where a record began.
    Packed {
        decoder: Box<read::Decoder<'static, BufReader<File>>>,
        at: u64,
        last: Vec<u8>,
    },
    /// It cannot be decompressed any further, and that has to be told.
    Failed(io::Error),
    /// It was told.
    Broken,
}

impl Source {
    pub fn open(plain: &Path) -> io::Result<Source> {
        match open_file(plain) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => return Ok(Source { file: file?, form: Form::Plain }),
        }
        let file = open_file(&with_ending(plain, ENDING))?;
        let form = Source::begin(&file)?;
        Ok(Source { file, form })
    }

    fn begin(mut file: &File) -> io::Result<Form> {
        io::Seek::rewind(&mut file)?;
        let mut decoder = read::Decoder::new(file.try_clone()?)?;
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        Ok(Form::Packed { decoder: Box::new(decoder), at: 0, last: Vec::new() })
    }

    pub fn is_packed(&self) -> bool {
        !matches!(self.form, Form::Plain)
    }

    /// Of the file on disk.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// As `FileExt::read_at`, and as fast only if it goes forward. An error of a compressed one is told once, then it has ended.
    pub fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let done = match &self.form {
            Form::Plain => return self.file.read_at(buffer, offset),
            Form::Broken => return Ok(0),
            Form::Failed(error) => Err(error.kind().into()),
            Form::Packed { .. } => self.decompress(buffer, offset),
        };
        if done.is_err() {
            self.form = Form::Broken;
        }
        done
    }

    fn decompress(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let is_gone = |at: u64, last: &[u8]| offset < at - last.len() as u64;
        if matches!(&self.form, Form::Packed { at, last, .. } if is_gone(*at, last)) {
            self.form = Source::begin(&self.file)?;
        }
        let Form::Packed { decoder, at, last } = &mut self.form else { return Ok(0) };
        let known = &last[last.len() - at.saturating_sub(offset) as usize..];
        let mut got = known.len().min(buffer.len());
        buffer[..got].copy_from_slice(&known[..got]);
        if *at < offset {
            last.clear();
            *at += io::copy(&mut decoder.by_ref().take(offset - *at), &mut io::sink())?;
        }
        while got < buffer.len() && *at >= offset {
            match decoder.read(&mut buffer[got..]) {
                Ok(0) => break,
                Ok(n) => (got, *at) = (got + n, *at + n as u64),
                Err(error) if got == 0 => return Err(error),
                Err(error) => {
                    self.form = Form::Failed(error);
                    return Ok(got);
                }
            }
        }
        if offset + got as u64 == *at {
            last.clear();
            last.extend_from_slice(&buffer[..got]);
        }
        Ok(got)
    }
}
