//! Programs of the host in a container on its root: what is installed there must run without what is hidden.

use std::path::Path;
use std::process::Command;

use sampan_testkit::{Bundle, need};
use serde_json::json;

use crate::sampan::{Root, run};

/// Waits until something listens on that port, then asks it for a page: bash alone, so that a client needs nothing.
const GET: &str =
    "get() { for i in $(seq 200); do exec 3<>/dev/tcp/127.0.0.1/$1 && break; sleep 0.05; done 2>/dev/null
                   printf 'GET /%s HTTP/1.0\\r\\n\\r\\n' $2 >&3; cat <&3; }";

/// Runs a bash script as `uid` on the host's root, in a network of its own, and compares the last line that it prints.
fn check(name: &str, programs: &[&str], uid: u32, script: &str, expected: &str) {
    let there = programs.iter().all(|program| Path::new(program).exists());
    if !need::root() || !need::need(&format!("{}: see .ci/test", programs.join(", ")), there) {
        return;
    }
    let mut spec = sampan_plan::default::spec();
    sampan_plan::default::host_rootfs(&mut spec);
    sampan_plan::default::temporary(&mut spec, |_| true);
    let mut bundle = Bundle::new(name).unwrap();
    bundle.config = serde_json::to_value(&spec).unwrap();
    bundle.set("/process/rlimits", json!([]));
    bundle.set("/process/user", json!({"uid": uid, "gid": uid}));
    bundle.set("/process/args", json!(["/bin/bash", "-c", format!("{GET}\n{script}")]));
    bundle.write().unwrap();
    let root = Root::new(name);
    let id = bundle.path().file_name().unwrap().to_str().unwrap();
    let mut command: Command = root.command(["run", "-b", bundle.path().to_str().unwrap(), id]);
    let (code, out, err) = run(&mut command);
    assert_eq!((code, out.lines().last()), (0, Some(expected)), "{out}\n{err}");
}

#[test]
fn pythons_http_server() {
    let hostname = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let script = "/usr/bin/python3 -m http.server -d /etc 8000 & get 8000 hostname; kill $!";
    check("python", &["/usr/bin/python3", "/etc/hostname"], 0, script, hostname.trim());
}

#[test]
fn redis() {
    let script = "redis-server --dir /tmp --save '' --daemonize no >&2 & \
                  for i in $(seq 200); do redis-cli ping && break; sleep 0.05; done 2>/dev/null; kill $!";
    check("redis", &["/usr/bin/redis-server", "/usr/bin/redis-cli"], 65_534, script, "PONG");
}

#[test]
fn nginx_on_port_80() {
    let script = "cat >/tmp/conf <<'END'
        user nobody nogroup; pid /run/nginx.pid; events {}
        http {
            access_log off;
            client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c; uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
            server { listen 80; location / { return 200 'served'; } }
        }
END
        nginx -e stderr -c /tmp/conf -g 'daemon off;' & get 80 x; kill $!";
    check("nginx", &["/usr/sbin/nginx"], 0, script, "served");
}

#[test]
fn postgres() {
    let bin = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().next();
    let bin = bin.map_or("/usr/lib/postgresql/bin".into(), |version| version.path().join("bin"));
    let script = format!(
        "cd /tmp; export PATH={}:$PATH; initdb -D db -A trust -U me >&2
         pg_ctl -D db -o \"-k /tmp -c listen_addresses=''\" -w start >&2
         psql -h /tmp -U me postgres -Atc 'select 6 * 7'; pg_ctl -D db -m fast stop >&2",
        bin.display()
    );
    let initdb = bin.join("initdb");
    check("postgres", &[initdb.to_str().unwrap()], 65_534, &script, "42");
}
