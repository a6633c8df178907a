//! Real programs from Debian's docker-registry: pulled by sampand, running on their images' roots, and answering.
use super::World;
use super::images::there;
use super::names::world_of_its_own;
use super::userns::{first, ready, subids};
use super::world::{program, run};
use sampan_testkit::{image, need};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Until it is dropped.
struct Registry {
    child: Child,
    host: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// In the network namespace of who asks for it.
    fn new(folder: &Path) -> Registry {
        fs::create_dir(folder).unwrap();
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let config = json!({
            "version": 0.1, "log": { "level": "error" }, "http": { "addr": host, "secret": "x" },
            "storage": { "filesystem": { "rootdirectory": folder.join("data") } },
        });
        fs::write(folder.join("config.yml"), config.to_string()).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(folder.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        Registry { child: command.spawn().unwrap(), host }
    }

    /// An image of these layers, compressed as skopeo does it.
    fn push(&self, world: &World, name: &str, config: &Value, layers: &[&Path]) {
        let archive = image::archive(world.dir(), name, config, layers).unwrap();
        let (from, to) =
            (format!("docker-archive:{}", archive.display()), format!("docker://{}/{name}", self.host));
        world.until("the registry is there", |_| TcpStream::connect(&self.host).is_ok());
        let ran = run(Command::new("skopeo").args([
            "copy",
            "--insecure-policy",
            "--dest-tls-verify=false",
            &from,
            &to,
        ]));
        assert_eq!(ran.code, 0, "{ran:?}");
    }
}

/// The libraries of these programs of the host, in a root without anything else.
fn libraries(root: &Path, programs: &[&str]) {
    let ran = run(Command::new("ldd").args(programs));
    assert_eq!(ran.code, 0, "{ran:?}");
    for path in ran.out.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':')) {
        copy(path, root);
    }
}

/// A file of the host to the same place in the root.
fn copy(path: &str, root: &Path) {
    let to = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(path, to).unwrap();
}

fn folder(world: &World, name: &str) -> PathBuf {
    let folder = world.dir().join(name);
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// All that a service says to a request, once it listens.
fn answer(world: &World, service: &str, port: u16, request: &str) -> String {
    let mut said = String::new();
    world.until("it answers", |world| {
        let addresses = world.inspect(service).addresses;
        let Some(address) = addresses.iter().find(|address| address.is_ipv4()) else { return false };
        let Ok(mut stream) = TcpStream::connect((*address, port)) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        said.clear();
        stream.write_all(request.as_bytes()).is_ok() && stream.read_to_string(&mut said).is_ok()
    });
    said
}

const REDIS: [&str; 2] = ["/usr/bin/redis-server", "/usr/bin/redis-cli"];
const NGINX: &str = "/usr/sbin/nginx";

/// With a folder for its data that is its user's.
fn push_redis(world: &World, registry: &Registry) {
    let (base, own) = (folder(world, "redis.base"), folder(world, "redis.own"));
    libraries(&base, &REDIS);
    for program in REDIS {
        copy(program, &own);
    }
    fs::create_dir_all(own.join("etc")).unwrap();
    fs::write(own.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nredis:x:101:103::/:/bin/sh\n").unwrap();
    fs::create_dir(own.join("data")).unwrap();
    chown(own.join("data"), Some(101), Some(103)).unwrap();
    let command = ["redis-server", "--bind", "*", "--protected-mode", "no", "--dir", "/data", "--save", ""];
    let config = json!({
        "Cmd": command, "User": "redis", "Env": ["PATH=/usr/bin"], "Volumes": { "/data": {} },
        "Healthcheck": { "Test": ["CMD", "redis-cli", "ping"], "Interval": 200_000_000u64 },
    });
    registry.push(world, "cache", &config, &[&base, &own]);
}

fn push_nginx(world: &World, registry: &Registry) {
    let (base, own) = (folder(world, "nginx.base"), folder(world, "nginx.own"));
    libraries(&base, &[NGINX]);
    copy(NGINX, &own);
    for made in ["etc", "srv", "run", "tmp", "var/lib/nginx", "var/log/nginx"] {
        fs::create_dir_all(own.join(made)).unwrap();
    }
    fs::write(own.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nwww:x:33:33::/:/bin/sh\n").unwrap();
    fs::write(own.join("etc/group"), "root:x:0:\nwww:x:33:\n").unwrap();
    fs::write(own.join("srv/index.html"), "from an image\n").unwrap();
    let conf = "user www www; pid /run/nginx.pid; daemon off; error_log stderr; events {}\n\
                http { access_log off; server { listen 80; root /srv; } }\n";
    fs::write(own.join("etc/nginx.conf"), conf).unwrap();
    let config = json!({ "Cmd": [NGINX, "-c", "/etc/nginx.conf"], "StopSignal": "SIGQUIT" });
    registry.push(world, "web", &config, &[&base, &own]);
}

#[test]
fn nginx_and_redis_from_a_registry_answer_with_and_without_users_of_their_own() {
    let there = there()
        && ready()
        && need::programs(&["docker-registry", "skopeo", "ldd"], "docker-registry skopeo libc-bin")
        && need::programs(&["redis-server", "redis-cli", "nginx"], "redis-server nginx-light");
    let Some(mut world) = there.then(|| world_of_its_own("")).flatten() else { return };
    subids(&world, "sampan:1000000:262144\n");
    fs::copy(program("sampan-image"), world.bin().join("sampan-image")).unwrap();
    let registry = Registry::new(&world.dir().join("registry"));
    push_redis(&world, &registry);
    push_nginx(&world, &registry);
    let service = |name: &str, image: &str, more: &str| {
        format!("[services.{name}]\nimage = \"{}/{image}\"\nnetwork_mode = \"bridge\"\n{more}", registry.host)
    };
    let own = "security.userns = \"auto\"\n";
    let services = [
        service("cache", "cache", ""),
        service("cache-own", "cache", own),
        service("web", "web", ""),
        service("web-own", "web", own),
    ];
    world.configure(&services.concat());
    world.start();
    for name in ["cache", "cache-own"] {
        world.until_state(name, "running");
        // What it keeps is its own, on a volume that the image fills.
        let said = answer(&world, name, 6379, "SET here yes\r\nGET here\r\nSAVE\r\nQUIT\r\n");
        assert_eq!(said, "+OK\r\n$3\r\nyes\r\n+OK\r\n+OK\r\n", "{name}");
        world.until("it is healthy", |world| world.inspect(name).status.health == "healthy");
    }
    for name in ["web", "web-own"] {
        world.until_state(name, "running");
        let said = answer(&world, name, 80, "GET /index.html HTTP/1.0\r\n\r\n");
        assert!(said.starts_with("HTTP/1.1 200 OK") && said.ends_with("\r\n\r\nfrom an image\n"), "{said}");
    }
    assert_ne!(first(&world, "cache-own"), first(&world, "web-own"));
    let ids = fs::read_to_string(format!("/proc/{}/uid_map", world.pid("web"))).unwrap();
    assert_eq!(ids.split_whitespace().collect::<Vec<_>>(), ["0", "0", "4294967295"]);
    // From the image that is here, with what it had written.
    drop(registry);
    world.ok(&["restart", "cache-own"]);
    world.until_state("cache-own", "running");
    assert_eq!(answer(&world, "cache-own", 6379, "GET here\r\nQUIT\r\n"), "$3\r\nyes\r\n+OK\r\n");
}
