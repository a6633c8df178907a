//! The folder of volumes in state_dir: what is in it, and how one of it is removed. It is ours; what is in a volume is a service's, which
//! may have made folders in folders without end.
use sampan_image::store::remove_deep;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

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
/// half of a volume.
pub fn remove(state_dir: &Path, name: &str) -> io::Result<()> {
    let all = folder(state_dir);
    let gone = all.join(format!("{GONE}{}", std::process::id()));
    match fs::create_dir(&gone) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::rename(all.join(name), gone.join(format!("{name}.{}", unique())))?;
    for entry in fs::read_dir(&all)? {
        let left = entry?;
        if left.file_name().as_encoded_bytes().starts_with(GONE.as_bytes()) {
            for volume in fs::read_dir(left.path())? {
                remove_deep(&volume?.path())?;
            }
            fs::remove_dir(left.path())?;
        }
    }
    Ok(())
}

fn unique() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
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
        fs::create_dir_all(folder(&state).join("web+srv")).unwrap();
        fs::write(folder(&state).join("a file"), "").unwrap();
        assert_eq!(names(&state).unwrap(), ["data", "web+srv"]);
        remove(&state, "data").unwrap();
        assert_eq!(names(&state).unwrap(), ["web+srv"]);
        let left = fs::read_dir(folder(&state)).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, [".data.2.3.new", "a file", "web+srv"]);
        assert!(outside.join("kept").exists() && Path::new("/etc").exists());
        assert_eq!(remove(&state, "data").unwrap_err().kind(), ErrorKind::NotFound);
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
