/* The contract between sampand and a plugin, version 1.0.
 *
 * A plugin is a shared library with one export, `sampan_plugin`. Structures only ever grow at their end: whoever reads one
 * looks at its `size` first. docs/plugins.md explains every rule; plugins/sdk/src/abi.rs is the same file in Rust, and a
 * test compiles both and compares each offset. */
#ifndef SAMPAN_PLUGIN_H
#define SAMPAN_PLUGIN_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define SP_MAGIC 0x3147554c504e5053ull /* "SPNPLUG1" */
#define SP_ABI_MAJOR 1
#define SP_ABI_MINOR 0

typedef struct sp_ctx sp_ctx;                                             /* one plugin instance, opaque */
typedef struct { const uint8_t *ptr; size_t len; } sp_bytes;              /* borrowed, no NUL */
typedef struct { const uint8_t *ptr; size_t len; void *owner; } sp_owned; /* give it back with release() */
typedef struct { int32_t fd; uint32_t role; } sp_fd;

enum { SP_OK = 0, SP_PENDING = 1, SP_E_FAIL = -1, SP_E_VETO = -2, SP_E_PANIC = -3, SP_E_CANCELLED = -4,
  SP_E_STALE = -5, SP_E_NOSUCH = -6, SP_E_TOOBIG = -7, SP_E_DENIED = -8, SP_E_UNSUPPORTED = -9, SP_E_BUSY = -10,
  SP_E_INVAL = -11 };
/* SYNCHRONIZE hands over kept descriptors as SP_FD_OTHER + n: the n-th entry of "kept" in its body. */
enum { SP_FD_STDOUT = 1, SP_FD_STDERR = 2, SP_FD_NETNS = 4, SP_FD_PIDFD = 6, SP_FD_OTHER = 64 };
enum { SP_EV_OPEN = 0, SP_EV_SYNCHRONIZE, SP_EV_VALIDATE, SP_EV_CREATE, SP_EV_REVIEW, SP_EV_ATTACH, SP_EV_START,
  SP_EV_STARTED, SP_EV_READY, SP_EV_HEALTH, SP_EV_OOM, SP_EV_EXIT, SP_EV_UPDATED = 14,
  SP_EV_STOP, SP_EV_STOPPING, SP_EV_DETACH, SP_EV_REMOVED, SP_EV_SHUTDOWN = 21,
  SP_EV_CUSTOM, SP_EV_CONTROL, SP_EV_TIMER, SP_EV_RESULT };
enum { SP_F_GATE = 1, SP_F_REPLAY = 2, SP_F_OOM = 4, SP_F_MORE = 8, SP_F_LOST = 16 };
enum { SP_P_NONBLOCKING = 1, SP_P_PANIC_ABORT = 2, SP_P_PROCESS_ONLY = 4 };
enum { SP_READ_CONTAINER = 1, SP_READ_SPEC, SP_READ_SERVICE, SP_READ_LIST, SP_READ_KV = 6,
  SP_READ_KV_LIST };
enum { SP_OP_SIGNAL = 3, SP_OP_START, SP_OP_STOP, SP_OP_RESTART, SP_OP_TIMER = 8, SP_OP_UNTIMER };

typedef struct {
  uint32_t size; uint16_t event, flags;
  uint64_t id, seq;      /* id 0: notification, nothing to complete */
  uint64_t deadline_ns;  /* CLOCK_MONOTONIC; 0: none */
  uint64_t container;    /* handle, never reused; 0: host-wide */
  sp_bytes container_id, service;
  int32_t pid, exit_code, signal; uint32_t attempt; /* RESULT: exit_code is the status, SP_OK or SP_E_* */
  uint64_t token;        /* TIMER, RESULT: the plugin's number */
  uint8_t trace[24];     /* W3C trace and span id */
  uint32_t nfds, reserved; const sp_fd *fds;
  sp_bytes body;         /* JSON, may be empty */
} sp_request;

typedef struct {
  uint32_t size, level;  /* 1 error .. 5 trace */
  uint64_t request, container; uint32_t line, reserved;
  sp_bytes target, file, message, fields, spans;   /* fields: JSON object; spans: JSON array, outermost first */
} sp_log;

typedef struct {         /* all: any thread, never block, never call into the plugin */
  uint32_t size; uint16_t major, minor;
  int32_t (*complete)(sp_ctx *, uint64_t id, int32_t status, sp_bytes reply,
                      const sp_fd *fds, uint32_t nfds);
  int32_t (*extend)(sp_ctx *, uint64_t id, uint64_t more_ns);
  int32_t (*log_level)(sp_ctx *);
  void    (*log)(sp_ctx *, const sp_log *);
  int32_t (*emit)(sp_ctx *, sp_bytes kind, uint64_t container, sp_bytes json);
  int32_t (*read)(sp_ctx *, uint32_t what, uint64_t container, sp_bytes key, sp_owned *out);
  void    (*release)(sp_ctx *, sp_owned *);
  int32_t (*get_fd)(sp_ctx *, uint64_t container, uint32_t role);  /* new fd, caller closes; or SP_E_* */
  int32_t (*put)(sp_ctx *, uint64_t container, sp_bytes key, sp_bytes value, uint64_t token); /* ptr NULL: delete;
                         token 0: no RESULT */
  int32_t (*submit)(sp_ctx *, uint32_t op, uint64_t container, uint64_t token, sp_bytes args,
                    const sp_fd *fds, uint32_t nfds);
  int32_t (*metric_define)(sp_ctx *, sp_bytes json);   /* >= 0: metric */
  int32_t (*metric)(sp_ctx *, int32_t metric, uint64_t container, double value);
  int32_t (*subscribe)(sp_ctx *, uint64_t add, uint64_t drop);  /* masks of 1 << event */
  int32_t (*keep_fd)(sp_ctx *, uint64_t container, sp_bytes key, int fd);  /* the keel holds a duplicate
                         across our crashes and reloads; -1 drops it; all are listed in synchronize */
} sp_host;

typedef struct {
  uint64_t magic; uint32_t size; uint16_t major, minor;
  uint64_t events; uint32_t flags, min_minor;
  const char *name, *version, *manifest;  /* manifest: JSON {after, before, requires, conflicts, claims, schema} */
  int32_t (*open)(const sp_host *, sp_ctx *, const sp_request *, void **self);
  int32_t (*call)(void *self, const sp_request *);
  void    (*cancel)(void *self, uint64_t id);       /* may be NULL */
  void    (*close)(void *self, uint32_t reason);    /* 0 exit, 1 reload, 2 disable; may be NULL */
} sp_plugin;
extern const sp_plugin sampan_plugin;  /* the one export */

#ifdef __cplusplus
}
#endif
#endif
