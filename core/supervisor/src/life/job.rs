//! The launching process (`sampand launch`): from a spec to a container that waits for its start, then its start.
//!
//! What opens users' paths is done here, one launch at a time: whatever hangs, hangs here, and the worker kills it. As long as
//! it waits for a word of the worker it holds the barrier; when nobody can say it any more it ends, and the child with it.
//! Whom it clones is the keel's child, through a connection that the keel closes when the worker ends.
use super::compiled::{Compiled, Launchable, Specs, Texts};
use super::fd_store::{self, Store};
use super::given;
use super::groups::group;
use super::reading::{look_at, real_path};
use super::stdio::{self, Places, Standing};
use super::talk::{self, Launch, Order, Received, Said};
use super::{of_config, of_io, of_launch, relayed, sockets, tag};
use crate::sd_notify::{self, message::Dropped};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use sampan_bundle as bundle;
use sampan_cgroups::Hierarchies;
use sampan_config::schema::SaysOn;
use sampan_keel::Keel;
use sampan_plan::Options;
use sampan_plugin_host::Role;
use sampan_plugin_host::digest::{Digest, digest};
use sampan_runtime::error::{Error, Result as Launched};
use sampan_runtime::kernel::pidfd::{self, Exit};
use sampan_runtime::launch::{
    self, Attached, Barrier, Console, Created, HookRunner, Keep, Request, Spawn, Spawned, Stages, Which,
};
use sampan_runtime::store::dir::Folder;
use sampan_runtime::store::state::CONFIG;
use sampan_service::Problem;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How each service's spec is compiled.
pub fn options(service: &str, bundle: &Path) -> Options {
    Options {
        id: service.to_owned(),
        bundle: bundle.display().to_string(),
        new_keyring: true,
        attach: true,
        given_stdio: true,
        ..Options::default()
    }
}

/// The process, to its exit code.
pub fn run() -> u8 {
    match begin() {
        Ok((socket, keel)) => {
            serve(&Worker { socket }, &keel);
            0
        }
        Err(text) => {
            let _ = writeln!(std::io::stderr(), "sampand launch: {text}");
            1
        }
    }
}

/// The way to the worker is where standard input was, and the one to the keel in the place of standard output.
fn begin() -> Result<(OwnedFd, Keel), String> {
    let is_ours = |fd| rustix::net::sockopt::socket_type(fd) == Ok(rustix::net::SocketType::SEQPACKET);
    let (input, output) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    if !is_ours(input) || !is_ours(output) {
        return Err("only sampand itself starts this".into());
    }
    crate::fence::small_heap();
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    // Executed by descriptor, the kernel calls us by its number.
    let _ = rustix::thread::set_name(c"sampand");
    // Our end of the way to the keel may stay open though the keel is gone: the holder has the other one.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    // Whoever ends sampand's processes one by one: the worker ends us.
    let mut held = nix::sys::signal::SigSet::empty();
    for signal in [nix::sys::signal::SIGTERM, nix::sys::signal::SIGINT, nix::sys::signal::SIGHUP] {
        held.add(signal);
    }
    held.thread_block().map_err(|errno| errno.to_string())?;
    let above = |fd| rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(|errno: Errno| errno.to_string());
    let (socket, link) = (above(input)?, above(output)?);
    let null = sampan_runtime::kernel::stdio::null(rustix::fs::OFlags::RDWR).map_err(|e| e.to_string())?;
    rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .map_err(|e| e.to_string())?;
    Ok((socket, Keel::connected(link).map_err(|error| error.to_string())?))
}

/// One order after the other, until the worker is gone. What was compiled is remembered until there is no room for more.
fn serve(worker: &Worker, keel: &Keel) {
    let (standing, mut next) = (Standing::default(), worker.next());
    while let Some(received) = next {
        let (texts, specs) = (Texts::default(), Specs::default());
        let us = Us { worker, keel, standing: &standing };
        next = us.serve_from(Compiled::new(&texts, &specs), received);
    }
}

/// What every launch of this process has.
#[derive(Clone, Copy)]
struct Us<'u> {
    worker: &'u Worker,
    keel: &'u Keel,
    standing: &'u Standing,
}

impl Us<'_> {
    fn store(self, store: &Store, fds: &[OwnedFd]) -> Result<Vec<Dropped>, String> {
        let socket = fds.first().ok_or("no socket came")?;
        fd_store::store(self.keel, store, socket).map_err(|error| error.to_string())
    }

    /// Gives back a launch for which there is no room.
    fn serve_from(
        self,
        mut compiled: Compiled<'_, '_>,
        received: Received<Order>,
    ) -> Option<Received<Order>> {
        let (worker, mut next) = (self.worker, Some(received));
        while let Some((order, text, fds)) = next {
            let done = match order {
                Order::Read(files) => worker.say(&Said::Read(Box::new(files.read(&worker.told()))), &[]),
                Order::RunDir(files) => worker.say(&Said::RunDir(files.run_dir()), &[]),
                Order::Real(paths) => worker.say(&Said::Real(worker.real(&paths)), &[]),
                Order::Store(store) => worker.say(&Said::Stored(self.store(&store, &fds)), &[]),
                Order::Look(look, before) => worker.look(&look, before),
                Order::Launch(launch) if compiled.is_full() && !compiled.has_all_for(&launch, &text) => {
                    return Some((Order::Launch(launch), text, fds));
                }
                Order::Launch(order) => {
                    let clients = usize::from(order.given.is_some());
                    let (joined, client) = fds.split_at(fds.len().saturating_sub(clients));
                    let client = client.first().map(AsFd::as_fd);
                    Job { us: self, order: &order, joined, client }.run(&mut compiled, text)
                }
                // To a launch that has failed meanwhile.
                Order::Attached(_) | Order::Start => Ok(()),
            };
            if done.is_err() {
                return None;
            }
            next = worker.next();
        }
        None
    }
}

/// The worker as we see it.
struct Worker {
    socket: OwnedFd,
}

impl Worker {
    /// None: it is gone, or does not want us any more.
    fn next(&self) -> Option<Received<Order>> {
        talk::receive::<Order>(self.socket.as_fd(), RecvFlags::empty()).ok().flatten()
    }

    /// Told of each look at what config.toml names.
    fn told(&self) -> impl Fn(&Path, &str) {
        |path, key| {
            // Nobody hears it any more: then we are ended.
            let _ = self.say(&Said::Doing(look_at(path, key)), &[]);
        }
    }

    /// Told of each, as above.
    fn real(&self, paths: &[PathBuf]) -> Vec<PathBuf> {
        let (tell, key) = (self.told(), "a volume");
        let one = |path: &PathBuf| {
            tell(path, key);
            real_path(path)
        };
        paths.iter().map(one).collect()
    }

    fn look(&self, look: &bundle::Look, before: Option<Digest>) -> std::io::Result<()> {
        self.say_found(self.looked(look), before)
    }

    fn looked(&self, look: &bundle::Look) -> Result<(Digest, String), String> {
        let tell = |doing| drop(self.say(&Said::Doing(doing), &[]));
        let facts = bundle::look(look, &tell).map_err(|error| error.to_string())?;
        let facts = serde_json::to_string(&facts).map_err(|error| error.to_string())?;
        Ok((digest(&facts), facts))
    }

    /// What is found is said only where it is not the same as before.
    fn say_found(
        &self,
        found: Result<(Digest, String), String>,
        before: Option<Digest>,
    ) -> std::io::Result<()> {
        let (said, text) = match found {
            Ok((now, facts)) => (Ok(now), if before == Some(now) { String::new() } else { facts }),
            Err(why) => (Err(why), String::new()),
        };
        talk::send(self.socket.as_fd(), &Said::Looked(said), &text, &[], SendFlags::empty())
    }

    fn say(&self, said: &Said, fds: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        talk::send(self.socket.as_fd(), said, "", fds, SendFlags::empty())
    }
}

/// One launch.
struct Job<'j> {
    us: Us<'j>,
    order: &'j Launch,
    /// The pidfds of those whose namespaces the spec names by their numbers.
    joined: &'j [OwnedFd],
    /// Who has its standard streams, where it is not to have those of a service.
    client: Option<BorrowedFd<'j>>,
}

impl Job<'_> {
    /// To its start or its failure, or until there is nobody to launch for.
    fn run(self, compiled: &mut Compiled<'_, '_>, text: String) -> std::io::Result<()> {
        if let Some((look, before)) = &self.order.look {
            let found = self.us.worker.looked(look);
            if !found.as_ref().is_ok_and(|(now, _)| now == before) {
                return self.us.worker.say_found(found, Some(*before));
            }
        }
        let launched = match self.compiled(compiled, text) {
            Ok(Some((what, bundled))) => self.launch(what, bundled),
            Ok(None) => return self.us.worker.say(&Said::Unbundled, &[]),
            Err(problem) => Err(problem),
        };
        match launched {
            Ok(()) => Ok(()),
            Err(problem) => self.us.worker.say(&Said::Failed(problem.to_string()), &[]),
        }
    }

    /// None: it is to be what the bundle says, and the bundle does not say what it did.
    fn compiled<'c, 's>(
        &self,
        compiled: &'c mut Compiled<'s, '_>,
        text: String,
    ) -> Result<Option<(&'c Launchable<'s>, Digest)>, Problem> {
        let found = match (text.is_empty(), self.order.bundled) {
            (false, _) => Some(self.bundle(&text)?),
            (true, Some(bundled)) if compiled.knows(&self.order.key(bundled)) => {
                Some((String::new(), bundled))
            }
            (true, Some(bundled)) => self.bundled(bundled).map(|text| (text, bundled)),
            (true, None) => None,
        };
        let Some((text, bundled)) = found else { return Ok(None) };
        let what = compiled.get(self.order.key(bundled), text, &self.order.run)?;
        Ok(Some((what, bundled)))
    }

    /// Writes a spec into the bundle, if that does not say the same already.
    fn bundle(&self, text: &str) -> Result<(String, Digest), Problem> {
        let spec = serde_json::from_str(text).map_err(of_config)?;
        let text = bundle::text(&spec);
        let bundled = digest(&text);
        if self.order.bundled != Some(bundled) {
            bundle::write(&self.order.run, &self.order.service, &spec, &text).map_err(of_io)?;
        }
        Ok((text, bundled))
    }

    /// What the bundle says, if it is this.
    fn bundled(&self, bundled: Digest) -> Option<String> {
        let path = bundle::folder(&self.order.run, &self.order.service).join(CONFIG);
        std::fs::read_to_string(path).ok().filter(|text| digest(text) == bundled)
    }

    fn launch(&self, what: &Launchable<'_>, bundled: Digest) -> Result<(), Problem> {
        let plan = &what.plan;
        let given = self.given()?;
        let (mut created, folder, oom_before) = self.create(what, given.as_deref())?;
        if let Some(master) = created.console.take() {
            match &given {
                None => relayed::keep_terminal(self.us.keel, &self.order.service, &master)?,
                Some(given) => given::hand_over(given, &master)?,
            }
        }
        // Whoever reads them hears of their end from the container alone.
        drop(given);
        for warning in &plan.warnings {
            self.us.worker.say(&Said::Warning(warning.clone()), &[]).map_err(of_io)?;
        }
        let said = Said::Created { pid: created.child.pid, oom_before, bundled };
        self.us.worker.say(&said, &[]).map_err(of_io)?;
        // The worker has it.
        drop(created.netns.take());
        // Others may look at it until it is started. What fails here fails there again, and is told.
        let _ = created.state.save(&folder);
        folder.unlock();
        // Until `Start`, or until nobody can ask for it any more: then the barrier goes with us.
        if let Some((Order::Start, ..)) = self.us.worker.next() {
            let log = self.hook_log();
            let mut spawn = self.spawn();
            let mut runner = HookRunner { spawn: &mut spawn, log: log.as_ref().map(AsFd::as_fd) };
            let started = launch::start(&mut created, plan, &folder, &mut runner);
            let started = started.map_err(|error| of_launch(error).to_string());
            self.us.worker.say(&Said::Started(started), &[]).map_err(of_io)?;
            if self.order.is_aside {
                // Where it stays, the next life is not put aside, but removed with it.
                let root = self.us.standing.root(&self.order.containers);
                let _ = root.and_then(|root| root.remove_aside(&self.order.service));
            }
        }
        Ok(())
    }

    /// The standard streams that a client has for it.
    fn given(&self) -> Result<Option<Vec<OwnedFd>>, Problem> {
        match (&self.order.given, self.client) {
            (None, _) => Ok(None),
            (Some(streams), Some(client)) => streams.fetch(client).map(Some).map_err(Problem::Io),
            (Some(_), None) => Err(Problem::Io("the client of its standard streams did not come".into())),
        }
    }

    fn create(
        &self,
        what: &Launchable<'_>,
        of_client: Option<&[OwnedFd]>,
    ) -> Result<(Created, Folder, u64), Problem> {
        let Launchable { text, spec, host, plan, .. } = what;
        let image = what.image()?;
        let bundle = &bundle::folder(&self.order.run, &self.order.service);
        let order = self.order;
        let places = Places { service: &order.service, io: &order.io, logs: &order.logs };
        let (keel, owner) = (self.us.keel, stdio::owner(spec, plan));
        let stdio = match of_client {
            None => self.us.standing.open(order.stdio, order.relayed, keel, places, owner)?,
            Some(given) => given::stdio(given, owner)?,
        };
        let descriptor = self.says_on()?;
        // Nobody hears it any more: then we are ended.
        let warn = |text| drop(self.us.worker.say(&Said::Warning(text), &[]));
        let sockets = sockets::open(self.us.keel, &order.service, &order.sockets, warn)?;
        let stored = fd_store::open(self.us.keel, &order.service, &order.stored)?;
        let given = sockets.iter().chain(&stored).chain(&descriptor).map(AsFd::as_fd).collect::<Vec<_>>();
        let log = self.hook_log();
        let root = self.us.standing.root(&order.containers).map_err(of_io)?;
        let folder = root.create(&order.service).map_err(of_io)?;
        // What later verbs (`sampan exec`, health checks) go by: the config as it was now.
        // The bundle's file is replaced, never changed (`bundle::write`).
        folder.link(CONFIG, &bundle.join(CONFIG), text.as_bytes()).map_err(of_io)?;
        let request = Request {
            plan,
            host,
            folder: &folder,
            bundle,
            barrier: Barrier::Pipe,
            console: Console::Keep,
            stdio: Some([stdio.input.as_fd(), stdio.output.as_fd(), stdio.error.as_fd()]),
            given: &given,
            netns: None,
            groups: if order.groups_are_ready { Keep::Ready } else { Keep::Fresh },
            hook_log: log.as_ref().map(AsFd::as_fd),
        };
        let mut bridge = Bridge { worker: self.us.worker, reads: stdio.reads, joined: self.joined };
        let mut spawn = self.spawn();
        spawn.launcher = spawn.launcher.of_image(image);
        let created = match launch::create(&request, &mut spawn, &mut bridge) {
            Ok(created) => created,
            Err(error) => {
                // It has taken down what it made and run the poststop hooks: with the folder nothing is left for cleaning up
                // to do them again. Groups that would not go are looked for there by name.
                let _ = folder.remove();
                return Err(of_launch(error));
            }
        };
        let oom_before = plan
            .parent
            .cgroups_path
            .and_then(|path| group(Hierarchies::detect().ok()?, path).ok()?.oom_kills().ok()?)
            .unwrap_or(0);
        Ok((created, folder, oom_before))
    }

    /// Makes that on which it says how it is. A descriptor is for the container.
    fn says_on(&self) -> Result<Option<OwnedFd>, Problem> {
        use sd_notify::socket;
        let (keel, run, service) = (self.us.keel, &self.order.run, &self.order.service);
        let cannot = |what| move |error| Problem::Io(format!("cannot make {what}: {error}"));
        match self.order.says_on {
            Some(SaysOn::Socket) => {
                socket::make(keel, run, service).map_err(cannot("its NOTIFY_SOCKET"))?;
            }
            Some(SaysOn::Descriptor) => {
                let theirs = socket::pair(keel, run, service);
                return theirs.map(Some).map_err(cannot("the descriptor of notify.fd"));
            }
            None if bundle::notify::folder(run, service).exists() => {
                // By its config of before.
                socket::forget(keel, run, service);
            }
            None => {}
        }
        Ok(None)
    }

    fn spawn(&self) -> Told<'_> {
        let tag = tag(&self.order.service, self.order.generation);
        Told { launcher: self.us.keel.launcher(&tag), worker: self.us.worker }
    }

    fn hook_log(&self) -> Option<OwnedFd> {
        self.order.hook_log.open()
    }
}

/// Clones through the keel, and says which hook is about to run: it may take long.
struct Told<'t> {
    launcher: sampan_keel::Launcher,
    worker: &'t Worker,
}

impl Spawn for Told<'_> {
    fn spawn(&mut self, image: &[u8], slots: &[BorrowedFd<'_>]) -> Launched<Spawned> {
        self.launcher.spawn(image, slots)
    }

    fn spawn_hook(
        &mut self,
        image: &[u8],
        slots: &[BorrowedFd<'_>],
        which: &Which<'_>,
        output: BorrowedFd<'_>,
    ) -> Launched<Spawned> {
        let doing = format!("{} hook {}", which.kind, which.hook.path);
        self.worker.say(&Said::Doing(doing), &[]).map_err(|_| ended())?;
        self.launcher.spawn_hook(image, slots, which, output)
    }

    fn reap_hook(&mut self, child: &Spawned, which: &Which<'_>) -> Launched<()> {
        self.launcher.reap_hook(child, which)
    }

    fn peek(&mut self, child: &Spawned) -> Launched<Exit> {
        self.launcher.peek(child)
    }

    fn reap(&mut self, child: &Spawned) -> Launched<()> {
        self.launcher.reap(child)
    }
}

/// The launch's stop for plugins, from here to the worker and back.
struct Bridge<'a> {
    worker: &'a Worker,
    reads: Vec<(Role, Arc<OwnedFd>)>,
    joined: &'a [OwnedFd],
}

impl Stages for Bridge<'_> {
    fn attach(&mut self, container: &Attached<'_>) -> Launched<()> {
        // Its namespaces were opened by number. Who still runs has had that number all the time.
        if self.joined.iter().any(|pidfd| pidfd::ended(pidfd.as_fd()).unwrap_or(true)) {
            return Err(Error::new("a service in whose namespaces it was to be has ended"));
        }
        let mut given = vec![(Role::Pidfd, container.pidfd)];
        given.extend(container.netns.map(|netns| (Role::Netns, netns)));
        given.extend(self.reads.iter().map(|(role, fd)| (*role, fd.as_fd())));
        let (roles, fds): (Vec<_>, Vec<_>) = given.into_iter().map(|(role, fd)| (role.number(), fd)).unzip();
        self.worker.say(&Said::Attach { pid: container.pid, roles }, &fds).map_err(|_| ended())?;
        match self.worker.next() {
            Some((Order::Attached(Ok(())), ..)) => Ok(()),
            Some((Order::Attached(Err(failure)), ..)) => Err(Error::new(failure)),
            _ => Err(ended()),
        }
    }

    fn warn(&mut self, warning: &str) {
        let _ = self.worker.say(&Said::Warning(warning.to_owned()), &[]);
    }
}

fn ended() -> Error {
    Error::new("sampand ends")
}
