/* A plugin in C: sets WATCHED=1 in every container, counts exits and says when one ran out of memory.
 *
 * cc -std=c11 -Wall -Wextra -Werror -fPIC -shared -I../../plugins/sdk/include watch.c -o libwatch.so     (or: make) */
#include "sampan_plugin.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
  const sp_host *h;
  sp_ctx *cx;
  int32_t exits;
} self_t;

static sp_bytes B(const char *s) { return (sp_bytes){ (const uint8_t *)s, strlen(s) }; }

static int32_t on_open(const sp_host *h, sp_ctx *cx, const sp_request *r, void **out) {
  self_t *s = calloc(1, sizeof *s);
  (void)r;
  if (!s) return SP_E_FAIL;
  *out = s;
  s->h = h;
  s->cx = cx;
  s->exits = h->metric_define(cx, B("{\"name\":\"exits\",\"kind\":\"counter\"}"));
  return SP_OK;
}

static int32_t on_call(void *p, const sp_request *r) {
  self_t *s = p;
  switch (r->event) {
  case SP_EV_CREATE: /* a reply goes by complete(), here at once; then call() returns PENDING */
    s->h->complete(s->cx, r->id, SP_OK, B("{\"adjust\":{\"env\":{\"WATCHED\":\"1\"}}}"), NULL, 0);
    return SP_PENDING;
  case SP_EV_EXIT:
    s->h->metric(s->cx, s->exits, r->container, 1);
    sp_log l = { .size = sizeof l, .level = 3, .container = r->container, .target = B("watch"),
                 .message = B(r->flags & SP_F_OOM ? "out of memory" : "exit") };
    s->h->log(s->cx, &l);
    return SP_OK;
  }
  return SP_OK; /* nothing to say */
}

static void on_close(void *p, uint32_t why) {
  (void)why;
  free(p);
}

__attribute__((visibility("default"))) const sp_plugin sampan_plugin = {
  .magic = SP_MAGIC, .size = sizeof(sp_plugin), .major = SP_ABI_MAJOR, .minor = SP_ABI_MINOR,
  .events = 1ull << SP_EV_CREATE | 1ull << SP_EV_EXIT, .flags = SP_P_NONBLOCKING,
  .name = "watch", .version = "1.0.0", .manifest = "{\"after\":[\"network\"]}",
  .open = on_open, .call = on_call, .close = on_close };
