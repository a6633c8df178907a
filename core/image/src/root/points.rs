//! A small layer of our own on top of an image's: what mounts are mounted on, where the image has nothing.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fchmod, mkdirat, openat};
use rustix::io::Errno;
use sampan_runtime::kernel::lookup::open_in_root;

use super::view::View;
use crate::error::{Error, Kind, Result};
use crate::unpack::look_like;

/// What is mounted on must be what is mounted: a folder or a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    pub path: &'a Path,
    pub is_folder: bool,
}

/// Makes in `top`, an empty folder, what the layers lack for these targets. Folders that they have on the way look as they do
/// there. The layers with `top` as the highest are the root then.
pub fn mount_points(top: &Path, layers: &[PathBuf], targets: &[Target<'_>]) -> Result<()> {
    let mut all = layers.to_vec();
    all.push(top.to_owned());
    let below = View::new(layers);
    // With what was made for the targets before.
    let view = View::new(&all);
    for target in targets {
        let at = view.walk(target.path)?;
        if at.missing.is_empty() {
            let is_folder = at.kind.is_none_or(|kind| kind == FileType::Directory);
            if is_folder != target.is_folder {
                let (is, must) = if is_folder { ("a folder", "a file") } else { ("a file", "a folder") };
                let doing = format!("cannot mount on {} of the image", target.path.display());
                return Err(Error::new(
                    Kind::Usage,
                    doing,
                    format!("it is {is}, and {must} is mounted there"),
                ));
            }
            continue;
        }
        make(top, &below, &at.path, &at.missing, target)?;
    }
    Ok(())
}

fn make(
    top: &Path,
    below: &View,
    there: &Path,
    missing: &[std::ffi::OsString],
    target: &Target<'_>,
) -> Result<()> {
    let fail = |e: Errno| Error::io("make a place to mount on in", top, e);
    let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(top, folder, Mode::empty()).map_err(fail)?;
    // Those that are there below, from the root down.
    let mut way: Vec<&Path> = there.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
    way.reverse();
    let mut at = open_in_root(&root, Path::new("."), folder).map_err(fail)?;
    for path in way {
        let name = path.file_name().unwrap_or_default();
        let is_new = match mkdirat(&at, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(e) => return Err(fail(e)),
        };
        at = open_in_root(&root, path, folder).map_err(fail)?;
        if is_new && let Some((found, stat)) = below.find(path)? {
            look_like(&at, &found, &stat, rustix::process::geteuid().is_root()).map_err(fail)?;
        }
    }
    for (index, name) in missing.iter().enumerate() {
        let is_last = index + 1 == missing.len();
        if is_last && !target.is_folder {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = openat(&at, name, flags, Mode::from_raw_mode(0o600)).map_err(fail)?;
            fchmod(&file, Mode::from_raw_mode(0o644)).map_err(fail)?;
            break;
        }
        mkdirat(&at, name, Mode::from_raw_mode(0o755)).map_err(fail)?;
        at = openat(&at, name, folder | OFlags::NOFOLLOW, Mode::empty()).map_err(fail)?;
        // Whatever the umask is.
        fchmod(&at, Mode::from_raw_mode(0o755)).map_err(fail)?;
    }
    Ok(())
}
