//! A service's own users (`security.userns`): which ids of the host they have, and what of the spec depends on it.
//!
//! `auto` takes a range of [`SIZE`] from those that /etc/subuid and /etc/subgid give to `sampan`, or else to `root`. Which one a
//! service has is a file of state_dir, since what it writes to an image's root belongs to these ids: it is kept until the service
//! leaves the config. Each has one of its own as long as there is one that nobody has.
//!
//! Owners on disk are those that the container sees: roots and volumes are mounted with their ids mapped. Where a file system takes
//! no map, a volume is mounted as it is, and its files are nobody's inside.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, flock};
use rustix::mount::{OpenTreeFlags, open_tree};
use sampan_config::schema::{IdMaps, IdRange, Service, UserNamespace};
use sampan_plan::idmap;
use sampan_plan::slots::IdMap;
use sampan_plan::spec::IdMapping;
use sampan_runtime::kernel::trust::make_folders;
use sampan_runtime::launch::idmap::UserNamespaces;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::leaves::{set, to_json};
use super::rights::namespace;
use super::{Error, Facts};

const KEY: &str = "security.userns";
/// What docker and podman give a container, and useradd a user.
const SIZE: u32 = 65_536;
/// Whose ranges of /etc/subuid and /etc/subgid are ours: the first that has some.
const OWNERS: [&str; 2] = ["sampan", "root"];
/// devpts gives terminals to it.
const GROUP_OF_TERMINALS: u32 = 5;

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    Auto {
        /// Where it stands who has which range.
        folder: PathBuf,
        /// Whose range it is.
        owner: String,
        keeps: bool,
    },
    Maps(IdMaps),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    pub maps: IdMaps,
    /// Volumes whose file system takes no map.
    unmapped: Vec<PathBuf>,
}

/// Where it stands who has which range.
fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("userns")
}

impl Ask {
    pub fn of(service: &Service, state_dir: &Path) -> Option<Ask> {
        match &service.security.userns {
            UserNamespace::None => None,
            UserNamespace::Auto => {
                let (folder, owner) = (folder(state_dir), service.owner().to_owned());
                Some(Ask::Auto { folder, owner, keeps: true })
            }
            UserNamespace::Maps(maps) => Some(Ask::Maps(maps.clone())),
        }
    }

    #[must_use]
    pub fn changing_nothing(self) -> Ask {
        match self {
            Ask::Auto { folder, owner, .. } => Ask::Auto { folder, owner, keeps: false },
            Ask::Maps(_) => self,
        }
    }

    pub fn look(&self, service: &str, warnings: &mut Vec<String>) -> Result<IdMaps, Error> {
        let (folder, owner, keeps) = match self {
            Ask::Maps(maps) => return Ok(maps.clone()),
            Ask::Auto { folder, owner, keeps } => (folder, owner, *keeps),
        };
        let ranges = ranges().map_err(|Lacking { path, why }| {
            let lines = OWNERS.first().map_or(String::new(), |owner| format!("{owner}:1000000:{SIZE}"));
            Error::new(service, KEY, "find ids in").path(path).why(why).hint(format!(
                "add a line like {lines} to /etc/subuid and to /etc/subgid: ids that nothing else on this host has"
            ))
        })?;
        let taken = taken(folder, owner, &ranges, keeps);
        let (range, shared) =
            taken.map_err(|e| Error::new(service, KEY, "note its ids in").path(folder).because(&e))?;
        if let Some(other) = shared {
            warnings.push(format!(
                "security.userns: it shares its ids with {other}: /etc/subuid and /etc/subgid have {} ranges of {SIZE} for us",
                ranges.len()
            ));
        }
        Ok(range.maps())
    }
}

/// Ids of the host, uids and gids, of which [`SIZE`] are a container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    uid: u32,
    gid: u32,
}

impl Range {
    fn maps(self) -> IdMaps {
        let one = |host| vec![IdRange { inside: 0, host, size: SIZE }];
        IdMaps { uid_map: one(self.uid), gid_map: one(self.gid) }
    }

    /// Has ids that the other one has, too: it need not begin where that one does, since lines of /etc/subuid are changed while
    /// services keep theirs.
    fn meets(self, other: Range) -> bool {
        self.uid.abs_diff(other.uid) < SIZE || self.gid.abs_diff(other.gid) < SIZE
    }

    fn parse(text: &str) -> Option<Range> {
        let (uid, gid) = text.trim().split_once(' ')?;
        Some(Range { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    }
}

/// Why there are no ids.
struct Lacking {
    path: &'static Path,
    why: String,
}

/// All that are ours.
fn ranges() -> Result<Vec<Range>, Lacking> {
    let of = |path: &'static str| {
        let path = Path::new(path);
        let lacking = |why| Lacking { path, why };
        let text = match fs::read(path) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(e) => return Err(lacking(sampan_config::plain(&e))),
        };
        match firsts(&text) {
            firsts if firsts.is_empty() => {
                Err(lacking(format!("it gives neither sampan nor root {SIZE} ids in a row")))
            }
            firsts => Ok(firsts),
        }
    };
    let (uids, gids) = (of("/etc/subuid")?, of("/etc/subgid")?);
    Ok(uids.into_iter().zip(gids).map(|(uid, gid)| Range { uid, gid }).collect())
}

/// The first id of each range of [`SIZE`], of subuid(5).
fn firsts(text: &str) -> Vec<u32> {
    let all = OWNERS.map(|owner| text.lines().flat_map(|line| of_line(line, owner)).collect::<Vec<u32>>());
    all.into_iter().find(|firsts| !firsts.is_empty()).unwrap_or_default()
}

fn of_line(line: &str, owner: &str) -> Vec<u32> {
    let mut fields = line.trim().split(':');
    let (name, mut number) = (fields.next(), || fields.next()?.parse::<u32>().ok());
    let (Some(first), Some(count), true) = (number(), number(), name == Some(owner)) else {
        return Vec::new();
    };
    // 4294967295 is no id, and 0 is root of the host: a line that gives it away is a mistake.
    let last = |first: u32| first.checked_add(SIZE - 1).filter(|last| *last < u32::MAX);
    let all = (0..count / SIZE).filter_map(|n| first.checked_add(n.checked_mul(SIZE)?));
    all.filter(|first| *first != 0 && last(*first).is_some()).collect()
}

/// While it is held, nobody else looks for a range, or gives one back.
fn turn(folder: File) -> io::Result<File> {
    flock(&folder, FlockOperation::LockExclusive)?;
    Ok(folder)
}

/// The one that the service has or gets, and with whom it shares it.
fn taken(folder: &Path, service: &str, ranges: &[Range], keeps: bool) -> io::Result<(Range, Option<String>)> {
    if keeps {
        make_folders(folder, Mode::from_raw_mode(0o700))?;
    }
    let _turn = match File::open(folder) {
        Ok(folder) => Some(turn(folder)?),
        Err(_) if !keeps => None,
        Err(e) => return Err(e),
    };
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What begins with a dot was never whole (a power cut), and is no service's.
        if !name.starts_with('.') {
            let text = fs::read_to_string(entry.path())?;
            all.extend(Range::parse(&text).map(|range| (name, range)));
        }
    }
    let had = all.remove(service);
    let (range, shared) = choose(had, &all, ranges)?;
    if keeps && had != Some(range) {
        let text = format!("{} {}\n", range.uid, range.gid);
        sampan_journal::atomic::replace(folder, service, text.as_bytes())?;
    }
    Ok((range, shared))
}

/// `others`: what other services have.
fn choose(
    had: Option<Range>,
    others: &BTreeMap<String, Range>,
    ranges: &[Range],
) -> io::Result<(Range, Option<String>)> {
    let users =
        |range: Range| others.iter().filter(move |(_, other)| other.meets(range)).map(|(name, _)| name);
    let kept = had.filter(|had| ranges.contains(had));
    let range = kept.or_else(|| ranges.iter().min_by_key(|range| users(**range).count()).copied());
    let range = range.ok_or_else(|| io::Error::other("no ids"))?;
    Ok((range, users(range).next().cloned()))
}

/// A service has left for good.
pub fn forget(state_dir: &Path, service: &str) -> Result<(), String> {
    let folder = folder(state_dir);
    let path = folder.join(service);
    let removed = File::open(&folder).and_then(turn).and_then(|_turn| fs::remove_file(&path));
    match removed {
        Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound) => {
            Err(format!("cannot remove {}: {}", path.display(), sampan_config::plain(&e)))
        }
        _ => Ok(()),
    }
}

impl Users {
    /// `volumes`: what will be mounted.
    pub fn of(maps: IdMaps, volumes: &[&Path], warnings: &mut Vec<String>) -> Users {
        let mut unmapped = Vec::new();
        let map = id_map(&maps);
        let mut namespaces = UserNamespaces::default();
        for path in volumes {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE;
            // What cannot be opened is told by the launch.
            let Ok(tree) = open_tree(CWD, *path, flags) else { continue };
            if let Err(error) = namespaces.apply(tree.as_fd(), &path.display().to_string(), &map) {
                warnings.push(format!(
                    "security.userns: the files of {} are nobody's inside, since their ids cannot be mapped: {error}",
                    path.display()
                ));
                unmapped.push((*path).to_owned());
            }
        }
        Users { maps, unmapped }
    }

    /// Whether the owners of what is mounted from there can be shown as the container's.
    pub fn maps(&self, volume: &Path) -> bool {
        !self.unmapped.iter().any(|path| path == volume)
    }
}

fn id_map(maps: &IdMaps) -> IdMap {
    let mapping =
        |range: &IdRange| IdMapping { container_id: range.inside, host_id: range.host, size: range.size };
    IdMap {
        uids: maps.uid_map.iter().map(mapping).collect(),
        gids: maps.gid_map.iter().map(mapping).collect(),
        recursive: true,
        field: KEY.to_owned(),
    }
}

/// After all else: `asked` if the service's key counts.
pub fn add(spec: &mut Value, service: &Service, facts: &Facts, asked: bool) -> Result<(), Error> {
    if !asked {
        return Ok(());
    }
    namespace(spec, "user", facts.users.is_some(), None);
    let Some(Users { maps, .. }) = &facts.users else {
        if let Some(linux) = spec.pointer_mut("/linux").and_then(Value::as_object_mut) {
            linux.retain(|key, _| !matches!(key.as_str(), "uidMappings" | "gidMappings"));
        }
        return Ok(());
    };
    let map = id_map(maps);
    set(spec, "/linux/uidMappings", to_json(&map.uids));
    set(spec, "/linux/gidMappings", to_json(&map.gids));
    if !facts.is_host && facts.image.is_none() {
        let pointer = format!("/annotations/{}", idmap::ROOT_ANNOTATION);
        set(spec, &pointer, json!(idmap::USERS));
    }
    within_the_maps(spec, maps);
    has_ids(spec, service, maps)
}

/// What the built-in spec says for ids that are all there.
fn within_the_maps(spec: &mut Value, maps: &IdMaps) {
    const PING: &str = "/linux/sysctl/net.ipv4.ping_group_range";
    if spec.pointer(PING).is_some_and(|range| range == "0 2147483647") {
        let last = maps.gid_map.iter().find(|range| range.inside == 0).map_or(0, |range| range.size - 1);
        set(spec, PING, json!(format!("0 {}", last.min(i32::MAX as u32))));
    }
    if maps.gid(GROUP_OF_TERMINALS).is_none() {
        let gid = format!("gid={GROUP_OF_TERMINALS}");
        for mount in spec.pointer_mut("/mounts").and_then(Value::as_array_mut).into_iter().flatten() {
            if let ("devpts", Some(options)) = (
                mount["type"].as_str().unwrap_or_default().to_owned().as_str(),
                mount["options"].as_array_mut(),
            ) {
                options.retain(|option| *option != gid);
            }
        }
    }
}

/// Who runs must have an id of the host.
fn has_ids(spec: &Value, service: &Service, maps: &IdMaps) -> Result<(), Error> {
    let user = &spec["process"]["user"];
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    let uid = number(&user["uid"]).filter(|uid| maps.uid(*uid).is_none()).map(|uid| format!("uid {uid}"));
    let groups = user["additionalGids"].as_array().into_iter().flatten();
    let gids = std::iter::once(&user["gid"]).chain(groups).filter_map(number);
    let gid = gids.filter(|gid| maps.gid(*gid).is_none()).map(|gid| format!("gid {gid}"));
    let Some(lacks) = uid.into_iter().chain(gid).next() else { return Ok(()) };
    Err(Error::new(&service.name, "user", "run as it")
        .why(format!("{lacks} has no id of the host"))
        .hint("map it in security.userns, or choose another user"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_sampan_or_else_of_root() {
        let text = "# x\nroot:100000:65536\nuser:1:65536\nsampan:1000000:196609\nsampan:5:6\nsampan:x:y\n";
        assert_eq!(firsts(text), [1_000_000, 1_065_536, 1_131_072]);
        assert_eq!(firsts("root:100000:65536\nuser:1:65536\n"), [100_000]);
        assert_eq!(firsts("sampan:1:65535\nroot:7:65536"), [7]);
        // Root of the host is nobody's inside.
        assert_eq!(firsts("sampan:0:196608\n"), [65_536, 131_072]);
        assert_eq!(firsts("sampan:0:65536\nroot:7:65536"), [7]);
        assert!(firsts("root:0:65536\n").is_empty());
        assert!(firsts("").is_empty() && firsts("sampan:4294901760:4294967295").is_empty());
    }

    #[test]
    fn what_a_power_cut_has_left_has_no_range_and_who_leaves_waits_for_its_turn() {
        let kept = sampan_testkit::Folder::new();
        let state = kept.path("state");
        let folder = folder(&state);
        forget(&state, "web").unwrap();
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(".gone.new"), "10 20\n").unwrap();
        let ranges = [Range { uid: 10, gid: 20 }];
        assert_eq!(taken(&folder, "web", &ranges, true).unwrap(), (ranges[0], None));

        let held = turn(File::open(&folder).unwrap()).unwrap();
        std::thread::scope(|scope| {
            let leaves = scope.spawn(|| forget(&state, "web"));
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert!(folder.join("web").exists(), "not while another looks");
            drop(held);
            leaves.join().unwrap().unwrap();
        });
        assert!(!folder.join("web").exists());
    }

    #[test]
    fn each_has_its_own_while_there_is_one_and_keeps_it() {
        let ranges = [(100_000, 200_000), (300_000, 400_000)].map(|(uid, gid)| Range { uid, gid });
        let mut others = BTreeMap::new();
        let (first, shared) = choose(None, &others, &ranges).unwrap();
        assert_eq!((first, shared), (ranges[0], None));
        others.insert("a".to_owned(), first);
        let (second, shared) = choose(None, &others, &ranges).unwrap();
        assert_eq!((second, shared), (ranges[1], None));
        others.insert("b".to_owned(), second);
        let (third, shared) = choose(None, &others, &ranges).unwrap();
        assert_eq!((third, shared), (ranges[0], Some("a".to_owned())));
        assert_eq!(choose(Some(second), &BTreeMap::new(), &ranges).unwrap().0, second);
        // Of a line that went.
        let gone = Range { uid: 99, gid: 99 };
        assert_eq!(choose(Some(gone), &BTreeMap::new(), &ranges).unwrap().0, ranges[0]);
        // Somebody has ids of the first one by a line that was changed.
        for (uid, gid) in [(165_535, 1), (34_465, 1), (1, 265_535)] {
            let others = BTreeMap::from([("a".to_owned(), Range { uid, gid })]);
            assert_eq!(choose(None, &others, &ranges).unwrap(), (ranges[1], None), "{uid} {gid}");
        }
        let beside = BTreeMap::from([("a".to_owned(), Range { uid: 165_536, gid: 265_536 })]);
        assert_eq!(choose(None, &beside, &ranges).unwrap(), (ranges[0], None));
    }
}
