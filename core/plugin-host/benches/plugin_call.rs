//! What a call into a plugin costs: 10,000 each, medians. `cargo bench -p sampan-supervisor --bench plugin_call`.
//!
//! The plugin is in C and does nothing, so the figures are the host's: queue, wake, call, completion, wake. Beside them the
//! floor: two threads that hand one word to and fro over futexes.
#![allow(clippy::unwrap_used)]
use sampan_plugin_host::{Ctx, ExitFacts, HostEnv, KeepFd, PluginConfig, Plugins, next_handle};
use serde_json::json;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

const CALLS: usize = 10_000;
const SOURCE: &str = r#"
#include "sampan_plugin.h"
static const sp_host *h; static sp_ctx *cx;
static int32_t on_open(const sp_host *host, sp_ctx *c, const sp_request *r, void **self) { h = host; cx = c; *self = &h; (void)r; return SP_OK; }
static int32_t on_call(void *self, const sp_request *r) { (void)self;
  static const char answer[] = "{\"adjust\":{\"env\":{\"A\":\"1\"}}}";
  if (r->event == SP_EV_CREATE) { h->complete(cx, r->id, SP_OK, (sp_bytes){ (const uint8_t *)answer, sizeof answer - 1 }, 0, 0); return SP_PENDING; }
  return SP_OK; }
__attribute__((visibility("default"))) const sp_plugin sampan_plugin = { .magic = SP_MAGIC, .size = sizeof(sp_plugin), .major = 1, .events = ~0ull,
  .name = "nothing", .version = "1", .manifest = "{}", .open = on_open, .call = on_call };
"#;

struct Keep;
impl KeepFd for Keep {
    fn keep(&self, _: &str, _: Option<BorrowedFd<'_>>) -> io::Result<()> {
        Ok(())
    }
    fn fetch(&self, _: &str) -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }
    fn keys(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

fn main() {
    let folder = sampan_testkit::Folder::new();
    let dir = &folder.0;
    let (source, library) = (dir.join("nothing.c"), dir.join("libnothing.so"));
    std::fs::write(&source, SOURCE).unwrap();
    let include = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/sdk/include");
    let built = std::process::Command::new("cc")
        .args(["-O2", "-fPIC", "-shared", "-I", include])
        .args([source.as_os_str(), "-o".as_ref(), library.as_os_str()])
        .status()
        .unwrap();
    assert!(built.success());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let env = HostEnv {
            run_dir: dir.clone(),
            state_dir: dir.clone(),
            boot_id: String::new(),
            reason: "start",
            keep: Arc::new(Keep),
        };
        let opened = Plugins::open(&[PluginConfig::new("nothing", &library)], env).await.unwrap();
        assert_eq!(opened.failures, []);
        let plugins = opened.plugins;
        let ctx = Ctx {
            service: "web".into(),
            container_id: "web".into(),
            handle: next_handle(),
            attempt: 0,
            pid: 1,
        };
        let table = json!({ "args": ["sh"], "env": { "A": "1" } });
        let mut spec = json!({ "process": { "env": [] }, "mounts": [], "linux": {} });
        plugins.create(&ctx, &table, &[], &mut spec).await.unwrap();

        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let began = Instant::now();
            plugins.start(&ctx).await.unwrap();
            times.push(began.elapsed().as_nanos() as f64 / 1000.0);
        }
        report("own thread, flat envelope, back on the loop", &mut times);

        let mut times = Vec::with_capacity(CALLS);
        for n in 0..CALLS {
            let ctx = Ctx { container_id: format!("c{n}"), handle: next_handle(), ..ctx.clone() };
            let mut spec = json!({ "process": { "env": [] }, "mounts": [], "linux": {} });
            let began = Instant::now();
            plugins.create(&ctx, &table, &[], &mut spec).await.unwrap();
            times.push(began.elapsed().as_nanos() as f64 / 1000.0);
        }
        report("create: service encoded, answer merged, record written", &mut times);

        let began = Instant::now();
        for n in 0..CALLS {
            plugins.notify_exit(&ctx, &ExitFacts::default());
            if n % 512 == 511 {
                plugins.start(&ctx).await.unwrap();
            }
        }
        plugins.start(&ctx).await.unwrap();
        println!(
            "{:8.2} us  notification, pipelined",
            began.elapsed().as_nanos() as f64 / 1000.0 / CALLS as f64
        );
        plugins.shutdown().await;
    });
    floor();
}

fn floor() {
    let (to, from) = (std::sync::mpsc::sync_channel::<u8>(1), std::sync::mpsc::sync_channel::<u8>(1));
    let echo = std::thread::spawn(move || to.1.iter().try_for_each(|byte| from.0.send(byte)));
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let began = Instant::now();
        to.0.send(1).unwrap();
        from.1.recv().unwrap();
        times.push(began.elapsed().as_nanos() as f64 / 1000.0);
    }
    drop((to.0, from.1));
    let _ = echo.join();
    report("floor: one byte to a thread and back", &mut times);
}

fn report(what: &str, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or(0.0);
    println!("{:8.2} us  p99 {:8.2}  {what}", at(0.5), at(0.99));
}
