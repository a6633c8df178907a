//! What plugins remember and hold: kv, kept descriptors, claims, timers, asks (rows 19 and 24's host part).
use super::*;
use sampan_testkit::plugin::C;

const STORE: &str = r#"
    static int results, bad, timers;
    if (r->event == SP_EV_RESULT) { results++; bad += r->exit_code != SP_OK; return SP_OK; }
    if (r->event == SP_EV_TIMER) { timers += r->token == 5; return SP_OK; }
    if (r->event == SP_EV_CREATE) { h->put(cx, r->container, B("mine"), B("\"created\""), 1); h->put(cx, 0, B("last"), B("1"), 2); return reply(r, "{\"claims\":[\"stdio\"]}"); }
    if (r->event == SP_EV_ATTACH && r->nfds) h->keep_fd(cx, r->container, B("spool/1"), r->fds[0].fd);
    if (r->event == SP_EV_STARTED) h->submit(cx, SP_OP_TIMER, 0, 5, B("{\"after_ms\":1,\"every_ms\":5}"), NULL, 0);
    if (r->event == SP_EV_READY) h->submit(cx, SP_OP_RESTART, r->container, 9, B("{}"), NULL, 0);
    if (r->event == SP_EV_SYNCHRONIZE) h->put(cx, 0, B("synchronized"), r->body, 0);
    if (r->event == SP_EV_SYNCHRONIZE && r->nfds) { char c = 0; ssize_t n = read(r->fds[0].fd, &c, 1); char text[32]; snprintf(text, sizeof text, "\"%zd %c\"", n, c); h->put(cx, 0, B("kept"), B(text), 0); }
    if (r->event == SP_EV_CONTROL) {
      char key[64]; snprintf(key, sizeof key, "%.*s", (int)r->body.len - 2, (const char *)r->body.ptr + 1);
      if (!strcmp(key, "counts")) { char text[64]; snprintf(text, sizeof text, "[%d,%d,%d]", results, bad, timers > 2); return reply(r, text); }
      if (!strcmp(key, "keys")) { sp_owned o; h->read(cx, SP_READ_KV_LIST, 0, B(""), &o); h->complete(cx, r->id, SP_OK, (sp_bytes){ o.ptr, o.len }, NULL, 0); h->release(cx, &o); return SP_PENDING; }
      sp_owned o; if (h->read(cx, SP_READ_KV, 0, B(key), &o) < 0) return reply(r, "null");
      h->complete(cx, r->id, SP_OK, (sp_bytes){ o.ptr, o.len }, NULL, 0); h->release(cx, &o); return SP_PENDING; }
    return SP_OK;"#;

fn store(world: &World) -> PluginConfig {
    config("store", &C { manifest: r#"{"claims":["stdio"]}"#, ..C::new("store", STORE) }.build(&world.dir))
}

async fn ask(plugins: &Plugins, what: &str) -> Value {
    plugins.control("store", &json!(what)).await.unwrap().0
}

#[test]
fn what_was_put_is_durable_when_the_result_comes_and_there_after_a_restart() {
    let world = World::new();
    run(async {
        let plugins = world.with(&[store(&world)]).await;
        create(&plugins, "web").await.unwrap();
        for _ in 0..200 {
            if ask(&plugins, "counts").await == json!([2, 0, 0]) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(ask(&plugins, "counts").await, json!([2, 0, 0]));
        let file = std::fs::read_to_string(world.state_dir().join("kv/store/records")).unwrap();
        assert!(file.contains(r#"{"c":"web","k":"mine","v":"\"created\""}"#), "{file}");
        // Not closed: as after kill -9.
        let again = world.with(&[store(&world)]).await;
        assert_eq!(ask(&again, "last").await, json!(1));
    });
}

#[test]
fn a_new_worker_gives_back_descriptors_and_claims_and_a_final_detach_drops_them() {
    let world = World::new();
    run(async {
        let plugins = world.with(&[store(&world)]).await;
        let web = ctx("web");
        plugins.create(&web, &json!({ "ports": [80] }), &[], &mut spec()).await.unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        plugins.attach(&web, &[lent(Role::Stdout, reader)]).await.unwrap();
        std::io::Write::write_all(&mut writer, b"x").unwrap();
        assert_eq!(world.keep.keys().unwrap(), ["plugin/store/web/spool/1", "plugins/page"]);

        let again = world.open(&[store(&world)]).await.plugins;
        let web = Ctx { pid: 7, ..ctx("web") };
        let running = Running { ctx: web.clone(), state: "running", spec: spec() };
        assert_eq!(again.synchronize(&[running]).await, []);
        let seen = ask(&again, "synchronized").await;
        assert_eq!(
            seen,
            json!({
                "containers": [{ "id": "web", "handle": web.handle, "service": "web", "state": "running", "pid": 7 }],
                "kept": [{ "container": web.handle, "container_id": "web", "key": "spool/1" }],
            })
        );
        assert_eq!(ask(&again, "kept").await, json!("1 x"));
        assert_eq!(again.created(web.handle).unwrap().claims["stdio"], "store");
        assert_eq!(again.detach(&web, true).await, []);
        assert_eq!(world.keep.keys().unwrap(), ["plugins/page"]);
    });
}

#[test]
fn timers_tick_and_asks_reach_the_supervisor() {
    let world = World::new();
    run(async {
        let mut opened = world.open(&[store(&world)]).await;
        let plugins = opened.plugins;
        let web = ctx("web");
        plugins.create(&web, &json!({}), &[], &mut spec()).await.unwrap();
        plugins.started(&web).await.unwrap();
        plugins.notify_ready(&web);
        let asked = opened.asks.recv().await.unwrap();
        assert_eq!(
            (&asked.what, asked.service.as_str(), asked.asker.plugin()),
            (&sampan_plugin_host::Wish::Restart, "web", "store")
        );
        // Dropped without an answer: the plugin hears that it is cancelled.
        drop(asked);
        for _ in 0..200 {
            if ask(&plugins, "counts").await == json!([3, 1, 1]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{}", ask(&plugins, "counts").await);
    });
}

#[test]
fn keys_of_a_container_go_with_it_unless_it_comes_back() {
    let world = World::new();
    run(async {
        let plugins = world.with(&[store(&world)]).await;
        let records =
            || std::fs::read_to_string(world.state_dir().join("kv/store/records")).unwrap_or_default();
        for (is_final, dropped) in [(false, false), (true, true)] {
            let web = ctx("web");
            plugins.create(&web, &json!({}), &[], &mut spec()).await.unwrap();
            assert_eq!(plugins.detach(&web, is_final).await, []);
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(records().contains("{\"c\":\"web\"}"), dropped);
        }
    });
}

#[test]
fn the_end_of_a_container_does_not_list_what_the_keel_has() {
    let world = World::new();
    run(async {
        let plugins = world.with(&[store(&world)]).await;
        let before = world.keep.lists.load(Ordering::Relaxed);
        for n in 0..10 {
            let one = ctx(&format!("s{n}"));
            plugins.create(&one, &json!({}), &[], &mut spec()).await.unwrap();
            let (reader, _writer) = std::io::pipe().unwrap();
            plugins.attach(&one, &[lent(Role::Stdout, reader)]).await.unwrap();
            assert_eq!(plugins.detach(&one, true).await, []);
        }
        assert_eq!(world.keep.lists.load(Ordering::Relaxed), before);
        assert_eq!(world.keep.keys().unwrap(), ["plugins/page"]);
    });
}

/// What a plugin that does not come to read it may have waiting for it.
const BUSY: &str = r#"
    static int ticks;
    if (r->event == SP_EV_TIMER) { ticks++; return SP_OK; }
    if (r->event != SP_EV_CONTROL) return SP_OK;
    char text[64];
    if (r->body.ptr[1] == 't') {
      h->submit(cx, SP_OP_TIMER, 0, 5, B("{\"after_ms\":1,\"every_ms\":1}"), NULL, 0);
      usleep(500000);
      h->submit(cx, SP_OP_UNTIMER, 0, 5, B("{}"), NULL, 0);
    }
    for (int n = 0; r->body.ptr[1] == 'm' && n < 2000; n++) {
      if (h->submit(cx, SP_OP_TIMER, 0, 100 + n, B("{\"after_ms\":0}"), NULL, 0) == SP_E_BUSY) { snprintf(text, sizeof text, "%d", n); return reply(r, text); }
      usleep(300);
    }
    int accepted = 0;
    for (int n = 0; r->body.ptr[1] == 'p' && n < 20000; n++) accepted += h->put(cx, 0, B("k"), B("v"), 1000 + n) == SP_OK;
    snprintf(text, sizeof text, "[%d,%d]", ticks, accepted);
    return reply(r, text);"#;

#[test]
fn what_waits_for_a_plugin_is_bounded() {
    let world = World::new();
    run(async {
        let plugins = world.with(&[config("store", &C::new("store", BUSY).build(&world.dir))]).await;
        ask(&plugins, "ticks").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        // The ticks of one timer that nobody came to read are one, as a timerfd has it.
        let ticks = ask(&plugins, "count").await;
        assert!(ticks[0].as_i64().is_some_and(|ticks| (1..=3).contains(&ticks)), "{ticks}");
        // Timers that have fired and were not read count as timers.
        let many = ask(&plugins, "many").await;
        assert!(many.as_i64().is_some_and(|many| many <= 256), "{many}");
        // A put whose RESULT would be one too many is refused.
        let puts = ask(&plugins, "puts").await;
        assert!(puts[1].as_i64().is_some_and(|puts| (1..=4096).contains(&puts)), "{puts}");
        // And accepted again when the others are on disk and read.
        for _ in 0..500 {
            let puts = ask(&plugins, "puts").await;
            match puts[1].as_i64() {
                Some(0) => tokio::time::sleep(Duration::from_millis(10)).await,
                puts => return assert!(puts.is_some_and(|puts| (1..=4096).contains(&puts)), "{puts:?}"),
            }
        }
        panic!("no put is accepted any more");
    });
}

/// Whoever does not ask for `detach` is not asked then, and is told of the exit in its own time.
#[test]
fn a_container_is_there_until_everybody_has_heard_of_its_end() {
    let call = r#"if (r->event == SP_EV_EXIT) { usleep(300000); return h->put(cx, r->container, B("last"), B("1"), 0); } return SP_OK;"#;
    let open = "return h->subscribe(cx, 0, 1ull << SP_EV_DETACH);";
    let world = World::new();
    run(async {
        let plugins = world.with(&[config("p", &C { open, ..C::new("p", call) }.build(&world.dir))]).await;
        let web = ctx("web");
        plugins.create(&web, &json!({}), &[], &mut spec()).await.unwrap();
        plugins.notify_exit(&web, &ExitFacts::default());
        let calls = plugins.statuses()[0].figures.calls;
        assert_eq!(plugins.detach(&web, true).await, []);
        let status = plugins.statuses().remove(0);
        assert_eq!((status.figures.calls - calls, status.figures.errors), (1, 0), "it was there");
        // And what it keeps of a container goes with it.
        let records = || std::fs::read_to_string(world.state_dir().join("kv/p/records")).unwrap_or_default();
        eventually("its values are dropped", || records().trim_end().ends_with("{\"c\":\"web\"}")).await;
    });
}
