//! Secrets as files of a folder in run_dir, which is mounted into the container. They are read at each start by the process that
//! launches, which tells nobody what they hold: they are in no journal, no answer and no config.json.

use std::fs::{File, Permissions, remove_dir_all};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fstatfs};
use rustix::process::{Pid, Signal, kill_process_group};
use sampan_config::plain;
use sampan_config::schema::{IdMaps, SecretSource, Service};
use sampan_runtime::kernel::trust::make_folders;
use serde::{Deserialize, Serialize};

use super::Error;

/// What docker takes.
const BYTES_MAX: usize = 500 << 10;
/// For a program that prints one.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(10);
/// Magic numbers of tmpfs and ramfs, statfs(2).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// Where most secrets are in a container.
const FOLDER: &str = "/run/secrets";

/// One to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    name: String,
    source: SecretSource,
    /// Below the service's folder.
    file: PathBuf,
    mode: u32,
    /// None: the service's user.
    uid: Option<u32>,
    gid: Option<u32>,
}

/// Where a service's secrets are on the host, whether it has any or not.
pub fn folder(run_dir: &Path, service: &str) -> PathBuf {
    run_dir.join("secrets").join(service)
}

pub fn asks(service: &Service) -> Vec<Ask> {
    let one = |(n, used): (usize, &sampan_config::schema::SecretUse)| Ask {
        name: used.source.clone(),
        source: used.secret.source.clone(),
        file: file(n, &used.target),
        mode: used.mode,
        uid: used.uid,
        gid: used.gid,
    };
    service.secrets.iter().enumerate().map(one).collect()
}

/// Those of `/run/secrets` in one folder, which is mounted whole, the others by their number.
fn file(number: usize, target: &str) -> PathBuf {
    match Path::new(target).strip_prefix(FOLDER) {
        Ok(below) => Path::new("all").join(below),
        Err(_) => Path::new("one").join(number.to_string()),
    }
}

/// What is mounted for a service: from where, and to where.
pub fn mounts(service: &Service, folder: &Path) -> Vec<(PathBuf, String)> {
    let mut all: Vec<(PathBuf, String)> = Vec::new();
    for (n, used) in service.secrets.iter().enumerate() {
        let file = file(n, &used.target);
        match file.starts_with("all") {
            true if all.iter().any(|(_, to)| to == FOLDER) => {}
            true => all.push((folder.join("all"), FOLDER.to_owned())),
            false => all.push((folder.join(file), used.target.clone())),
        }
    }
    all
}

/// Writes all of a service's secrets anew, for a user who reads them; all, or none.
pub fn write(
    service: &str,
    asks: &[Ask],
    folder: &Path,
    user: (u32, u32),
    maps: Option<&IdMaps>,
) -> Result<(), Error> {
    let to = Place { folder, maps };
    write_all(service, asks, to, user).inspect_err(|_| drop(remove_dir_all(folder)))
}

/// Where secrets are written, and for whose users.
#[derive(Clone, Copy)]
struct Place<'p> {
    folder: &'p Path,
    /// Of a user namespace of the service's own: its ids on the host.
    maps: Option<&'p IdMaps>,
}

impl Place<'_> {
    /// Ids of the host; or which has none.
    fn owner(self, uid: u32, gid: u32) -> Result<(u32, u32), String> {
        let Some(maps) = self.maps else { return Ok((uid, gid)) };
        let of_host = |found: Option<u32>, what: &str| {
            found.ok_or_else(|| format!("{what} has no id of the host: map it in security.userns"))
        };
        let owner = of_host(maps.uid(uid), &format!("uid {uid}"))?;
        Ok((owner, of_host(maps.gid(gid), &format!("gid {gid}"))?))
    }
}

fn write_all(service: &str, asks: &[Ask], to: Place<'_>, (uid, gid): (u32, u32)) -> Result<(), Error> {
    let folder = to.folder;
    let wrong = |path: &Path, why: String| Error::new(service, "secrets", "write").path(path).why(why);
    let io = |path: &Path, e: std::io::Error| wrong(path, plain(&e));
    let parent = folder.parent().unwrap_or(folder);
    make(parent, 0o700).map_err(|e| io(parent, e))?;
    let on = File::open(parent).and_then(|folder| Ok(fstatfs(&folder)?)).map_err(|e| io(parent, e))?;
    if !IN_MEMORY.contains(&(on.f_type as u64)) {
        let error = wrong(parent, "it is on a disk, where secrets would stay".into());
        return Err(error.hint("put supervisor.run_dir on a tmpfs, as /run is"));
    }
    if let Err(e) = remove_dir_all(folder)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        return Err(io(folder, e));
    }
    make(folder, 0o700).map_err(|e| io(folder, e))?;
    for ask in asks {
        let text = read(service, ask)?;
        let path = folder.join(&ask.file);
        let (owner, group) =
            to.owner(ask.uid.unwrap_or(uid), ask.gid.unwrap_or(gid)).map_err(|why| wrong(&path, why))?;
        let above = path.parent().unwrap_or(folder);
        // Whatever the umask is: the service's user goes through it.
        make_folders(above, Mode::from_raw_mode(0o755)).map_err(|e| io(above, e))?;
        let mut file = File::options();
        file.write(true).create_new(true).mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
        let owned = |mut file: File| {
            file.write_all(&text)?;
            chown(&path, Some(owner), Some(group))?;
            file.set_permissions(Permissions::from_mode(ask.mode))
        };
        file.open(&path).and_then(owned).map_err(|e| io(&path, e))?;
    }
    Ok(())
}

/// A folder and those above it that are missing.
fn make(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

fn read(service: &str, ask: &Ask) -> Result<Vec<u8>, Error> {
    let wrong =
        |why: String| Error::new(service, "secrets", "read a secret").why(format!("{}: {why}", ask.name));
    let text = match &ask.source {
        SecretSource::File(path) => {
            of_file(path).map_err(|why| Error::new(service, "secrets", "read").path(path).why(why))?
        }
        SecretSource::Environment(name) => match std::env::var_os(name) {
            Some(value) => value.into_encoded_bytes(),
            None => return Err(wrong(format!("{name} is not set in sampand's environment"))),
        },
        SecretSource::Command(argv) => of_command(argv).map_err(wrong)?,
    };
    match text.len() {
        0 => Err(wrong("it is empty".into())),
        n if n > BYTES_MAX => {
            Err(wrong(format!("longer than {} KiB: a file that large is a volume", BYTES_MAX >> 10)))
        }
        _ => Ok(text),
    }
}

fn of_file(path: &Path) -> Result<Vec<u8>, String> {
    // Not blocked by a FIFO that lies in a file's place.
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(|e| plain(&e))?;
    if !file.metadata().map_err(|e| plain(&e))?.is_file() {
        return Err("it is no file".into());
    }
    let mut text = Vec::new();
    file.take(BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(|e| plain(&e))?;
    Ok(text)
}

/// What the program prints, without the newline at its end.
fn of_command(argv: &[String]) -> Result<Vec<u8>, String> {
    let (program, args) = argv.split_first().ok_or("no program")?;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|e| format!("{program}: {}", plain(&e)))?;
    let read = printed(&mut child);
    // With all that it has started.
    if let Some(group) = Pid::from_raw(child.id() as i32) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait().map_err(|e| plain(&e))?;
    let mut text = read.map_err(|why| format!("{program}: {why}"))?;
    if !status.success() {
        return Err(format!("{program}: {status}"));
    }
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    Ok(text)
}

/// All until the program has ended, in its time.
fn printed(child: &mut Child) -> Result<Vec<u8>, String> {
    let mut from = child.stdout.take().ok_or("no output")?;
    let until = Instant::now() + COMMAND_TIME_MAX;
    let mut text = Vec::new();
    let mut part = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|e| e.to_string())?;
        let mut waited = [PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN)];
        if poll(&mut waited, Some(&left)).map_err(|e| plain(&e.into()))? == 0 {
            return Err(format!("it took longer than {} s", COMMAND_TIME_MAX.as_secs()));
        }
        match from.read(&mut part).map_err(|e| plain(&e))? {
            0 => break,
            n => text.extend_from_slice(&part[..n]),
        }
        if text.len() > BYTES_MAX + 1 {
            return Ok(text);
        }
    }
    // It has closed its output: it ends now or does not mean to.
    while child.try_wait().map_err(|e| plain(&e))?.is_none() {
        if Instant::now() >= until {
            return Err(format!("it took longer than {} s", COMMAND_TIME_MAX.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(text)
}
