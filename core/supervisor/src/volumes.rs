//! The folder of volumes in state_dir: what is in it, and how one of it is removed. It is ours; what is in a volume is a service's, which
//! may have made folders in folders without end.
use rustix::fs::{Dir, Mode, OFlags, RenameFlags, open, renameat_with};
use sampan_image::store::remove_in;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Begins the name of a folder whose volume is being removed. No volume's name begins so.
const GONE: &str = ".gone.";

/// Where volumes are that say no path of their own.
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("volumes")
}

/// The names of the volumes that are there, in order.
pub fn names(state_dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder(state_dir)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What begins with a dot is not whole yet, or not any more.
        if !name.starts_with('.') && entry.file_type()?.is_dir() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// A volume with all that is in it, and what an earlier removal has left. Its name is free at once: whoever is killed over this leaves no
/// half of a volume. A service may have this folder itself and change any name in it meanwhile: none is followed.
pub fn remove(state_dir: &Path, name: &str) -> io::Result<()> {
    static ONE_BY_ONE: Mutex<()> = Mutex::new(());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let all = open(folder(state_dir), flags, Mode::empty())?;
    let gone = format!("{GONE}{}-{}-{}", std::process::id(), unique(), now_nanos());
    // The one call whose NotFound says that there is no such volume.
    renameat_with(&all, name, &all, &*gone, RenameFlags::NOREPLACE)?;
    let _turn = ONE_BY_ONE.lock().unwrap_or_else(PoisonError::into_inner);
    match remove_in(&all, OsStr::new(&gone)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error);
        }
        // Somebody else's turn took it, too.
        _ => {}
    }
    collect(&all);
    sampan_bundle::remove_half_filled(state_dir, &all);
    Ok(())
}

/// What removals have left that were killed, or could not remove all.
fn collect(all: &OwnedFd) {
    let entries = match Dir::read_from(all) {
        Ok(entries) => entries,
        Err(errno) => return tracing::warn!("cannot look for what is left of removed volumes: {errno}"),
    };
    for entry in entries.flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if !name.as_bytes().starts_with(GONE.as_bytes()) {
            continue;
        }
        match remove_in(all, name) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let name = name.display();
                tracing::warn!("cannot remove {name}, which is left of a removed volume: {error}");
            }
            _ => {}
        }
    }
}

fn unique() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn now_nanos() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_testkit::Folder;

    #[test]
    fn a_volume_goes_with_all_that_is_in_it() {
        let kept = Folder::new();
        let state = kept.path("state");
        fs::create_dir(&state).unwrap();
        let outside = state.join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        let data = folder(&state).join("data");
        fs::create_dir_all(data.join("some/where")).unwrap();
        std::os::unix::fs::symlink(&outside, data.join("link")).unwrap();
        std::os::unix::fs::symlink("/", data.join("some/root")).unwrap();
        // What a removal that was killed has left, and the names of none.
        fs::create_dir_all(folder(&state).join(".gone.1/data.0/deep")).unwrap();
        fs::create_dir_all(folder(&state).join(".data.2.3.new")).unwrap();
        // A volume that was to be filled, and one that is being filled.
        let [dead, alive] = ["0", "f"].map(|digit| digit.repeat(32));
        for hash in [&dead, &alive] {
            fs::create_dir_all(folder(&state).join(format!(".{hash}.filling/data/deep"))).unwrap();
        }
        fs::create_dir(state.join("filling")).unwrap();
        let held = sampan_image::store::hold(&state.join("filling").join(&alive), &|| ()).unwrap();
        fs::create_dir_all(folder(&state).join("web+srv")).unwrap();
        fs::write(folder(&state).join("a file"), "").unwrap();
        assert_eq!(names(&state).unwrap(), ["data", "web+srv"]);
        remove(&state, "data").unwrap();
        assert_eq!(names(&state).unwrap(), ["web+srv"]);
        let left = fs::read_dir(folder(&state)).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, [".data.2.3.new", &format!(".{alive}.filling"), "a file", "web+srv"]);
        drop(held);
        assert!(outside.join("kept").exists() && Path::new("/etc").exists());
        assert_eq!(remove(&state, "data").unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_link_in_the_place_of_what_is_left_is_not_followed() {
        let kept = Folder::new();
        let state = kept.path("state");
        fs::create_dir_all(folder(&state).join("data/x")).unwrap();
        fs::create_dir_all(kept.path("outside/a/b")).unwrap();
        std::os::unix::fs::symlink(kept.path("outside"), folder(&state).join(".gone.9")).unwrap();
        remove(&state, "data").unwrap();
        assert!(kept.path("outside/a/b").exists());
        assert_eq!(fs::read_dir(folder(&state)).unwrap().count(), 0);
    }

    #[test]
    fn several_at_once_do_not_get_into_each_others_way() {
        let kept = Folder::new();
        let state = kept.path("state");
        for round in 0..40 {
            for volume in 0..8 {
                fs::create_dir_all(folder(&state).join(format!("v{volume}/a/b/c"))).unwrap();
            }
            std::thread::scope(|scope| {
                let state = &state;
                let all = (0..8).map(|volume| scope.spawn(move || remove(state, &format!("v{volume}"))));
                for removed in all.collect::<Vec<_>>() {
                    removed.join().unwrap().unwrap_or_else(|error| panic!("round {round}: {error}"));
                }
            });
            assert_eq!(fs::read_dir(folder(&state)).unwrap().count(), 0, "round {round}");
        }
    }

    #[test]
    fn folders_in_folders_without_end_take_no_thread_with_them() {
        let kept = Folder::new();
        let state = kept.path("state");
        fs::create_dir(&state).unwrap();
        let data = folder(&state).join("data");
        fs::create_dir_all(&data).unwrap();
        // Deeper than a path is long: each one is made and moved into the next.
        let (mut inner, spare) = (data.join("d"), folder(&state).join(".spare"));
        fs::create_dir(&inner).unwrap();
        for _ in 0..4_000 {
            fs::create_dir(&spare).unwrap();
            fs::rename(&inner, spare.join("d")).unwrap();
            fs::rename(&spare, &inner).unwrap();
        }
        inner.push("d");
        assert!(inner.exists());
        let path = state.clone();
        // As small as the threads of sampand's pool.
        let thread = std::thread::Builder::new().stack_size(512 * 1024);
        thread.spawn(move || remove(&path, "data")).unwrap().join().unwrap().unwrap();
        assert!(!data.exists());
        assert_eq!(fs::read_dir(folder(&state)).unwrap().count(), 0);
    }
}
