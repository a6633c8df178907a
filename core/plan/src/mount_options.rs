//! The options of config.json's mounts: the words of config.md, and what they ask for.

use crate::error::Error;
use crate::idmap;
use crate::slots::IdMap;
use sampan_child::step::Propagation;
use sampan_child::sys::uapi::*;

/// What the options of one mount ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions<'o> {
    pub set: u32,
    pub clear: u32,
    pub set_recursive: u32,
    pub clear_recursive: u32,
    pub propagation: Option<Propagation>,
    pub bind: bool,
    pub recursive: bool,
    pub copy_up: bool,
    pub source_nofollow: bool,
    /// Of the target, not of an option: it may be on procfs.
    pub on_proc: bool,
    pub ids: idmap::IdMapOption,
    /// What that comes to.
    pub idmap: Option<IdMap>,
    /// What the file system is told: name, and value if it has one.
    pub data: Vec<(&'o str, Option<&'o str>)>,
}

enum Effect {
    Set(u32),
    Clear(u32),
    SetRecursive(u32),
    ClearRecursive(u32),
    /// A value of the atime field, which is cleared first.
    Atime(u32),
    AtimeRecursive(u32),
    Propagation(Propagation),
    Bind {
        recursive: bool,
    },
    /// A flag of the file system.
    FileSystemFlag,
    CopyUp,
    NoFollow,
    Ids(idmap::IdMapOption),
    Nothing,
    NotYet,
}

/// The options of config.md, and those that crun and podman add. What is not here is the file system's.
fn effect_of(option: &str) -> Option<Effect> {
    use Effect::*;
    if let Some(propagation) = sampan_child::step::Propagation::named(option) {
        return Some(Propagation(propagation));
    }
    Some(match option {
        "ro" => Set(MOUNT_ATTR_RDONLY),
        "rw" => Clear(MOUNT_ATTR_RDONLY),
        "nosuid" => Set(MOUNT_ATTR_NOSUID),
        "suid" => Clear(MOUNT_ATTR_NOSUID),
        "nodev" => Set(MOUNT_ATTR_NODEV),
        "dev" => Clear(MOUNT_ATTR_NODEV),
        "noexec" => Set(MOUNT_ATTR_NOEXEC),
        "exec" => Clear(MOUNT_ATTR_NOEXEC),
        "nodiratime" => Set(MOUNT_ATTR_NODIRATIME),
        "diratime" => Clear(MOUNT_ATTR_NODIRATIME),
        "nosymfollow" => Set(MOUNT_ATTR_NOSYMFOLLOW),
        "symfollow" => Clear(MOUNT_ATTR_NOSYMFOLLOW),
        "noatime" => Atime(MOUNT_ATTR_NOATIME),
        "strictatime" => Atime(MOUNT_ATTR_STRICTATIME),
        "relatime" | "atime" | "nostrictatime" => Atime(0),
        "norelatime" => Nothing,
        "rro" => SetRecursive(MOUNT_ATTR_RDONLY),
        "rrw" => ClearRecursive(MOUNT_ATTR_RDONLY),
        "rnosuid" => SetRecursive(MOUNT_ATTR_NOSUID),
        "rsuid" => ClearRecursive(MOUNT_ATTR_NOSUID),
        "rnodev" => SetRecursive(MOUNT_ATTR_NODEV),
        "rdev" => ClearRecursive(MOUNT_ATTR_NODEV),
        "rnoexec" => SetRecursive(MOUNT_ATTR_NOEXEC),
        "rexec" => ClearRecursive(MOUNT_ATTR_NOEXEC),
        "rnodiratime" => SetRecursive(MOUNT_ATTR_NODIRATIME),
        "rdiratime" => ClearRecursive(MOUNT_ATTR_NODIRATIME),
        "rnosymfollow" => SetRecursive(MOUNT_ATTR_NOSYMFOLLOW),
        "rsymfollow" => ClearRecursive(MOUNT_ATTR_NOSYMFOLLOW),
        "rnoatime" => AtimeRecursive(MOUNT_ATTR_NOATIME),
        "rstrictatime" => AtimeRecursive(MOUNT_ATTR_STRICTATIME),
        "rrelatime" | "ratime" | "rnostrictatime" | "rnorelatime" => AtimeRecursive(0),
        "bind" => Bind { recursive: false },
        "rbind" => Bind { recursive: true },
        "sync" | "dirsync" | "lazytime" | "mand" | "iversion" => FileSystemFlag,
        "async" | "nolazytime" | "nomand" | "noiversion" | "defaults" | "silent" | "loud" => Nothing,
        "rasync" | "rnomand" | "rsync" | "rdirsync" | "rmand" => Nothing,
        "tmpcopyup" => CopyUp,
        "src-nofollow" => NoFollow,
        "idmap" => Ids(idmap::IdMapOption::One),
        "ridmap" => Ids(idmap::IdMapOption::Recursive),
        "remount" | "copy-symlink" | "dest-nofollow" => NotYet,
        _ => return None,
    })
}

pub fn options<'o>(given: impl IntoIterator<Item = &'o str>, field: &str) -> Result<MountOptions<'o>, Error> {
    let mut a = MountOptions::default();
    let each =
        given.into_iter().enumerate().flat_map(|(index, given)| split(given).map(move |one| (index, one)));
    for (index, option) in each {
        let not_yet =
            || Error::new(format!("{field}.options[{index}]"), format!("{option:?} is not supported yet"));
        let change = |set: &mut u32, clear: &mut u32, s: u32, c: u32| {
            // The last one that speaks of a flag decides.
            *set = *set & !c | s;
            *clear = *clear & !s | c;
        };
        match effect_of(option) {
            Some(Effect::Set(bits)) => change(&mut a.set, &mut a.clear, bits, 0),
            Some(Effect::Clear(bits)) => change(&mut a.set, &mut a.clear, 0, bits),
            Some(Effect::SetRecursive(bits)) => change(&mut a.set_recursive, &mut a.clear_recursive, bits, 0),
            Some(Effect::ClearRecursive(bits)) => {
                change(&mut a.set_recursive, &mut a.clear_recursive, 0, bits)
            }
            Some(Effect::Atime(value)) => {
                a.set = a.set & !MOUNT_ATTR_ATIME | value;
                a.clear |= MOUNT_ATTR_ATIME;
            }
            Some(Effect::AtimeRecursive(value)) => {
                a.set_recursive = a.set_recursive & !MOUNT_ATTR_ATIME | value;
                a.clear_recursive |= MOUNT_ATTR_ATIME;
            }
            Some(Effect::Propagation(propagation)) => a.propagation = Some(propagation),
            Some(Effect::Bind { recursive }) => {
                a.bind = true;
                a.recursive |= recursive;
            }
            Some(Effect::FileSystemFlag) => a.data.push((option, None)),
            Some(Effect::CopyUp) => a.copy_up = true,
            Some(Effect::Ids(ids)) => a.ids = ids,
            Some(Effect::NoFollow) => a.source_nofollow = true,
            Some(Effect::Nothing) => {}
            Some(Effect::NotYet) => return Err(not_yet()),
            None if option.starts_with("idmap=") || option.starts_with("ridmap=") => return Err(not_yet()),
            None => a.data.push(match option.split_once('=') {
                Some((name, value)) => (name, Some(unquoted(value))),
                None => (option, None),
            }),
        }
    }
    Ok(a)
}

/// `ro,size=1m` is two options: runc and crun hand a string on to mount(2) as it is. A comma in quotes (SELinux's contexts) or
/// behind a backslash (overlayfs's paths) belongs to the value.
fn split(given: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let ends = move |c: char| {
        let ends = c == ',' && !quoted && !escaped;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    };
    given.split(ends).filter(|option| !option.is_empty())
}

/// The quotes are of the string form alone; fsconfig(2) takes the value.
fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// fsconfig(2) takes no longer name and no longer value.
const LONGEST: usize = 255;
/// mount(2) takes all options in one string, of a page with its NUL.
const LONGEST_STRING: usize = 4095;

/// How a file system is told its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One by one.
    Single,
    /// All in one string: overlayfs's layers are often too long for the other.
    String,
}

impl Form {
    pub fn of(data: &[(&str, Option<&str>)], field: &str) -> Result<Form, Error> {
        let fits = |(name, value): &(&str, Option<&str>)| {
            name.len() <= LONGEST && value.is_none_or(|value| value.len() <= LONGEST)
        };
        if data.iter().all(fits) {
            return Ok(Form::Single);
        }
        let in_string = data.iter().filter(|(name, _)| *name != "source");
        let length: usize = in_string
            .map(|(name, value)| {
                name.len() + 1 + value.map_or(0, |value| Form::String.value(value).len() + 1)
            })
            .sum();
        // One comma less than options.
        match length.saturating_sub(1) {
            length if length <= LONGEST_STRING => Ok(Form::String),
            length => Err(Error::new(
                format!("{field}.options"),
                format!(
                    "are {length} bytes: the kernel takes {LONGEST_STRING} where one of them is longer than {LONGEST} \
                     (fsconfig(2), mount(2)); shorter paths help, as podman's links in overlay/l do"
                ),
            )),
        }
    }

    /// A comma in a string would end the option, unless the value has it escaped already.
    pub fn value(self, value: &str) -> String {
        match self == Form::String && split(value).count() > 1 {
            true => format!("\"{value}\""),
            false => value.to_owned(),
        }
    }
}

/// What these file systems take, where that is little enough to say: theirs is a bare EINVAL for all the rest.
pub fn taken_by(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "proc" => &["gid", "hidepid", "pidns", "subset"],
        "sysfs" | "mqueue" => &[],
        "devpts" => &["gid", "max", "mode", "newinstance", "ptmxmode", "uid"],
        "tmpfs" => &[
            "gid",
            "huge",
            "inode32",
            "inode64",
            "mode",
            "mpol",
            "noswap",
            "nr_blocks",
            "nr_inodes",
            "size",
            "uid",
        ],
        _ => return None,
    })
}
