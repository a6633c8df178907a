//! Where we differ from crun 1.8, and why. A row that no longer differs fails the test, and so must go.

/// `*` stands for any text.
pub struct Intended {
    pub cases: &'static str,
    pub key: &'static str,
    pub ours: &'static str,
    pub theirs: &'static str,
    pub why: &'static str,
    /// Not on every machine: without it nothing is wrong.
    pub here: bool,
}

const fn d(
    cases: &'static str,
    key: &'static str,
    ours: &'static str,
    theirs: &'static str,
    why: &'static str,
) -> Intended {
    Intended { cases, key, ours, theirs, why, here: false }
}

const fn here(
    cases: &'static str,
    key: &'static str,
    ours: &'static str,
    theirs: &'static str,
    why: &'static str,
) -> Intended {
    Intended { cases, key, ours, theirs, why, here: true }
}

#[rustfmt::skip]
pub const INTENDED: &[Intended] = &[
    // ---- files ----
    here("*", "*/dev/core", "-", "link to /proc/kcore", "a link only where there is a /proc/kcore, as in runc"),
    here("*", "*in /dev", "*", "*core *", "as above"),
    here("*", "*path /dev holds", "*", "*core *", "as above"),
    here("no dev", "left in the root file system", "dev/fd*", "dev/core*", "as above"),
    d("*", "*mount /*", "tmpfs ro,nosuid,nodev,noexec,relatime super=rw*", "tmpfs ro,relatime super=rw,size=0k*", "a masked folder is stricter than it must be"),
    d("*", "*mount /* from", "root=/ source=none *", "root=/ source=tmpfs *", "as above"),
    here("*", "*mount /*", "devtmpfs ro,nosuid,noexec,*", "devtmpfs ro,relatime *", "a masked file is the host's null device, and a mask is as strict as a mount can be"),
    here("writable root", "mount /etc/passwd #2", "devtmpfs ro,*", "devtmpfs rw,*", "the same two, made the other way round: masks first"),
    here("*", "*mount /dev/*", "devtmpfs ro,nosuid,noexec,*", "devtmpfs rw,*", "a bound device is the host's: root inside could chmod it"),
    d("terminal*", "*mount /dev/console", "devpts rw,nosuid,noexec,*", "devpts rw,relatime *", "the devpts' own flags stay, as in runc"),
    d("terminal*", "*mount order", "*/dev/console /proc/*", "*/dev/console", "all mounts before the masks, as in runc; nobody can tell from inside"),
    d("*", "*mount order", "*/dev/tty /dev/pts*", "*/sys/fs/cgroup *", "a bound device comes right after its /dev, and sources beside a user namespace are cloned first"),
    here("*", "*mount /sys/fs/cgroup", "tmpfs ro,*", "tmpfs rw,*", "the config says ro"),
    here("*", "*mount /sys/fs/cgroup from", "*source=tmpfs *", "*source=cgroup *", "a name"),
    here("*", "*mount /sys/fs/cgroup/* from", "*source=cgroup *", "*source=/sys/fs/cgroup/* *", "a name"),
    here("*", "*path /sys/fs/cgroup", "folder 755 *", "folder 1777 *", "nobody but root makes anything there"),
    here("*", "*path /sys/fs/cgroup write", "EROFS", "*", "the config says ro"),
    here("*", "*path /sys/fs/cgroup holds", "blkio *", "*net_cls net_prio*", "links to hierarchies that are not there"),
    here("*", "*group /sys/fs/cgroup/net_*", "-", "link to net_cls,net_prio", "as above"),
    here("own groups", "mount /sys/fs/cgroup", "tmpfs rw,*mode=755", "tmpfs rw,*size=1024k", "as above"),
    here("own groups", "path /sys/fs/cgroup write", "EACCES", "opens", "as above"),
    // With cgroup v2 alone.
    here("own groups", "path /sys/fs/cgroup", "folder 755 1000:0", "folder 755 0:0", "config-linux.md, Cgroup ownership; runc does so with systemd alone"),
    here("*", "*mount /sys/fs/cgroup from", "*source=cgroup *", "*source=cgroup2 *", "a name, as in runc"),
    here("everything", "*path /sys/fs/cgroup", "folder 755 65534:65534", "folder 755 0:0", "a group that is mounted ro is not handed over: config-linux.md, and runc"),
    here("*", "*group /sys/fs/cgroup/*cpu.weight", "59", "20", "512 shares by the conversion of crun and runc since 2025"),
    here("*", "*group /sys/fs/cgroup/*cpu.weight.nice", "2", "7", "as above"),
    d("mounts", "left in the root file system", "*", "* folder 1755 *", "what is made on the way has mode 0755, files 0644: crun adds the sticky bit"),
    d("mounts", "path /made*", "folder 755 0:0", "folder 1755 0:0", "as above"),
    d("mounts", "mount /data-un from", "* propagation=[unbindable] *", "* propagation=[] *", "the config says unbindable"),
    d("mounts", "mount /etc/through from", "* propagation=[shared] *", "* propagation=[] *", "the config says shared"),
    here("mounts", "mount /tmp/through", "* rw,noatime,nodiratime *", "* rw,nodiratime,relatime *", "a bind changes the flags that it names alone; this disk has noatime"),
    // ---- devices, system calls, signals ----
    here("*", "*devices.list", "*c 5:0 rwm; c 5:2 rwm", "*c 5:0 rwm; c 5:1 rwm; c 5:2 rwm", "the host's console is not the container's: its own is a pty; as in runc"),
    d("*", "mknod /dev/.node-console", "made, read EPERM, write EPERM", "made, read opens, write opens", "as above"),
    here("bound dev", "open /dev/console", "EPERM", "*", "as above"),
    d("*", "*call unknown *", "ENOSYS", "EPERM", "a call newer than the profile is answered as an older kernel would, as in runc"),
    d("*hooks*", "*status S*", "0000000000000000", "0000000000010000", "crun 1.8 leaves SIGCHLD blocked after a hook"),
    d("everything", "*status S*", "0000000000000000", "0000000000010000", "as above"),
    // ---- the process ----
    d("*", "*session keyring", "keyring;*;_ses.ID", "keyring;*", "named as in runc"),
    d("writable root", "env 2", "HOME=/", "-", "a user without a line in /etc/passwd has / for a home, as in runc"),
    d("*", "*fd ?", "pipe * owner=*:0 *", "pipe * owner=*", "a pipe's group stays, as in runc"),
    d("*", "fd 0", "pipe * owner=0:65534 *", "pipe * owner=0:0 *", "as above"),
    d("*", "*fd *", "/memfd:output *", "/memfd:output *", "a file of the caller's stays the caller's: pipes and sockets alone go to the user"),
    d("everything", "*ns time*", "its own", "the host's", "crun 1.8 knows no time namespace"),
    d("everything", "*timens_offsets", "*monotonic 86400 1*", "*", "as above"),
    // ---- exec: the process of the config with what the flags change, as in runc ----
    d("*", "exec *: * leader", "true", "false", "a session of its own"),
    d("*", "exec *: limit *", "*", "*", "the config's limits"),
    d("*", "exec *: oom_score_adj", "100", "0", "the config's"),
    d("*", "exec *: status NoNewPrivs", "1", "0", "the config's"),
    d("life", "exec *: env *", "*", "*", "the config's environment, and the flags'"),
    d("life", "exec *: status Cap*", "*", "*", "the config's capabilities, and the flags'"),
    d("life", "exec * [--cap *]: path /proc/1/*", "*", "*", "as above"),
    d("*", "exec *: dev /dev/pts/0", "char 136:0 620 1000:5", "char 136:0 620 0:5", "the terminal is the user's"),
    d("*", "exec *: fd *", "/dev/pts/0 * owner=1000:5 *", "/dev/pts/0 * owner=0:5 *", "as above"),
    // ---- state, hooks ----
    d("*", "*state*.ociVersion", "\"1.3.0\"", "*", "the version of the specification that we follow"),
    d("*", "*state*.rootfs", "\"BUNDLE/rootfs\"", "\"rootfs\"", "absolute, as in runc"),
    d("*", "*state*.systemd-scope", "-", "\"\"", "crun's own"),
    d("*", "hook *-? state.root", "-", "\"rootfs\"", "crun's own"),
    d("*", "hook *-? state.rootfs", "\"BUNDLE/rootfs\"", "-", "hooks on the host read what `state` prints"),
    d("*", "hook *-? state.created", "a time", "-", "as above"),
    d("*", "hook *-? state.owner", "*", "-", "as above"),
    d("*", "hook *-? state.status", "\"creating\"", "\"created\"", "the specification's word before the container is created"),
    d("*", "hook startContainer-? state.status", "\"created\"", "\"starting\"", "the specification's words; crun's is none of them"),
    d("*", "hook startContainer-? state.bundle", "\"BUNDLE\"", "\"/\"", "the bundle is where it is, as in runc"),
    d("*", "hook *Container-? state.pid", "1", "0", "the pid in the container's own namespace, as in runc"),
    d("*", "hook: hook createContainer-* cwd", "BUNDLE/rootfs", "BUNDLE", "in the container's root, as in runc"),
    here("*", "hooks in order", "*startContainer-2 poststart-1*", "*", "poststart comes after the program is started: crun and runc run it beside startContainer"),
    d("*", "hook: hook * fd 0", "/memfd:*state*", "pipe", "a hook that does not read holds up nobody"),
    d("*", "hook: hook * fd ?", "*", "/dev/null", "what a hook prints is in the error"),
    d("*", "hook: hook * group leader", "true", "false", "at its time limit a hook ends with all that it started"),
    d("*", "hook: hook * status Sig*", "0000000000000000", "*", "no signal blocked or ignored in a hook, as in runc; crun blocks some in the first"),
    d("*", "hook: hook *-2 env *", "-", "*", "crun adds a variable of its own"),
    d("*", "hook: hook createContainer-2 env *", "*", "*", "without an environment, in the container: the process's, as in runc"),
    // ---- failures ----
    here("failing hook", "run: exit code", "1", "255", "as in runc; crun says now and then 1 as well"),
    d("relative cwd", "*", "*", "*", "not a path that the specification allows, as in runc"),
];

/// Which row allows this.
pub fn find(case: &str, key: &str, ours: &str, theirs: &str) -> Option<usize> {
    INTENDED.iter().position(|d| {
        [(d.cases, case), (d.key, key), (d.ours, ours), (d.theirs, theirs)]
            .iter()
            .all(|(pattern, text)| like(pattern, text))
    })
}

/// `?` is one character. What a star stands for grows only when what follows it does not fit.
fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[test]
fn patterns() {
    assert!(like("a*c*", "abcd") && like("*", "") && like("a", "a") && like("a?c", "abc"));
    assert!(!like("a*c", "abcd") && !like("a", "ab") && !like("b*", "ab") && !like("a?", "a"));
}
