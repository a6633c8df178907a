//! Plugins for tests: small C sources, compiled with every warning an error.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use crate::Folder;
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn cc(source: &Path, out: &Path, flags: &[&str]) {
    let include = workspace().join("plugins/sdk/include");
    let built = Command::new("cc")
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread", "-I"])
        .args([include.as_os_str(), source.as_os_str(), "-o".as_ref(), out.as_os_str()])
        .args(flags)
        .status()
        .unwrap();
    assert!(built.success(), "cc refused {}", source.display());
}

/// What every test plugin has. `CALL` is the body of its `call`; fields of the table can be replaced.
const FRAME: &str = r#"
#define _GNU_SOURCE
#include "sampan_plugin.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static const sp_host *h; static sp_ctx *cx;
static sp_bytes B(const char *s) { return (sp_bytes){ (const uint8_t *)s, strlen(s) }; }
static inline int32_t reply(const sp_request *r, const char *json) { h->complete(cx, r->id, SP_OK, B(json), NULL, 0); return SP_PENDING; }
static inline int32_t refuse(const sp_request *r, int32_t status, const char *text) { h->complete(cx, r->id, status, B(text), NULL, 0); return SP_PENDING; }
static inline int is(const sp_request *r, const char *service) { return r->service.len == strlen(service) && !memcmp(r->service.ptr, service, r->service.len); }
/* One line per event into the file of the environment's TRACE. */
static inline void trace(const char *name, const sp_request *r) {
  static const char *names[] = { "open", "synchronize", "validate", "create", "review", "attach", "start", "started", "ready", "health", "oom",
    "exit", "restart", "update", "updated", "stop", "stopping", "detach", "removed", "freeze", "config", "shutdown", "custom", "control", "timer", "result" };
  const char *path = getenv("TRACE"); char line[512];
  if (!path) return;
  int n = snprintf(line, sizeof line, "%s %s%s %.*s %.*s\n", name, names[r->event], r->flags & SP_F_REPLAY ? "(replay)" : "",
    (int)r->service.len, (const char *)r->service.ptr, r->event == SP_EV_DETACH || r->event == SP_EV_SYNCHRONIZE ? (int)r->body.len : 0, (const char *)r->body.ptr);
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (write(fd, line, n) != n) abort();
  close(fd);
}
static int32_t on_open(const sp_host *host, sp_ctx *c, const sp_request *r, void **self) { h = host; cx = c; *self = (void *)&h; (void)r; OPEN }
static int32_t on_call(void *self, const sp_request *r) { (void)self; (void)r; CALL }
static void on_cancel(void *self, uint64_t id) { (void)self; (void)id; }
static void on_close(void *self, uint32_t why) { (void)self; (void)why; }
__attribute__((visibility("default"))) const sp_plugin sampan_plugin = {
  .magic = MAGIC, .size = sizeof(sp_plugin), .major = MAJOR, .minor = MINOR, .min_minor = MIN_MINOR, .events = ~0ull, .flags = FLAGS,
  .name = NAME, .version = "1", .manifest = MANIFEST, .open = on_open, .call = on_call, .cancel = on_cancel, .close = on_close };
"#;

/// A plugin in C.
#[derive(Debug)]
pub struct C {
    pub name: &'static str,
    pub call: &'static str,
    pub open: &'static str,
    pub manifest: &'static str,
    pub before: &'static str,
    pub defines: &'static [(&'static str, &'static str)],
}

impl C {
    pub fn new(name: &'static str, call: &'static str) -> C {
        C { name, call, open: "return SP_OK;", manifest: "{}", before: "", defines: &[] }
    }

    pub fn build(&self, dir: &Folder) -> PathBuf {
        let source = dir.0.join(format!("{}.c", self.name));
        let out = dir.0.join(format!("lib{}.so", self.name));
        let name = format!("\"{}\"", self.name);
        let manifest = format!("{:?}", self.manifest);
        let mut defines = vec![
            ("NAME", name.as_str()),
            ("MANIFEST", &manifest),
            ("MAGIC", "SP_MAGIC"),
            ("MAJOR", "1"),
            ("MINOR", "0"),
            ("MIN_MINOR", "0"),
            ("FLAGS", "0"),
        ];
        for (key, value) in self.defines {
            defines.retain(|(has, _)| has != key);
            defines.push((key, value));
        }
        let mut text: String =
            defines.iter().map(|(key, value)| format!("#define {key} {value}\n")).collect();
        let (head, tail) = FRAME.split_once("static int32_t on_open").unwrap();
        text += head;
        text += self.before;
        text += &format!("static int32_t on_open{tail}")
            .replace("OPEN }", &format!("{} }}", self.open))
            .replace("CALL }", &format!("{} }}", self.call));
        std::fs::write(&source, text).unwrap();
        cc(&source, &out, &[]);
        out
    }
}

/// examples/plugin-c, as its Makefile does it.
pub fn watch(dir: &Folder) -> PathBuf {
    let out = dir.0.join("libwatch.so");
    cc(&workspace().join("examples/plugin-c/watch.c"), &out, &[]);
    out
}
