//! Hangs, panics, late answers: what they cost, and whom (rows 4 to 7, 22, 25, 26).
use super::*;
use sampan_testkit::plugin::C;
use std::rc::Rc;
use std::time::Instant;

const HANG: &str = r#"if (r->event == SP_EV_CREATE) for (;;) pause(); return SP_OK;"#;

#[test]
fn a_slow_answer_delays_one_start_alone() {
    // Pending until a thread of its own completes it 2 s later; everybody else is answered at once.
    let before = r#"static uint64_t late; static void *later(void *arg) { (void)arg; sleep(2); h->complete(cx, late, SP_OK, B("{\"adjust\":{\"env\":{\"SLOW\":\"1\"}}}"), NULL, 0); return NULL; }
"#;
    let call = r#"if (r->event == SP_EV_CREATE && is(r, "web")) { pthread_t t; late = r->id; pthread_create(&t, NULL, later, NULL); pthread_detach(t); return SP_PENDING; } return SP_OK;"#;
    let world = World::new();
    let slow = config("slow", &C { before, ..C::new("slow", call) }.build(&world.dir));
    run(async {
        let plugins = world.with(&[slow]).await;
        let began = Instant::now();
        let web = async { (create(&plugins, "web").await, began.elapsed()) };
        let others = async {
            for n in 0..50 {
                create(&plugins, &format!("s{n}")).await.unwrap();
            }
            began.elapsed()
        };
        let ((web, took), others) = tokio::join!(web, others);
        assert_eq!(web.unwrap().1["process"]["env"], json!(["SLOW=1"]));
        assert!(
            took >= Duration::from_millis(1900) && others < Duration::from_millis(1700),
            "{took:?} {others:?}"
        );
    });
}

#[test]
fn a_hang_of_an_optional_plugin_is_named_and_the_third_disables_it() {
    let world = World::new();
    run(async {
        let plugins = world.with(&[hasty("hang", &C::new("hang", HANG).build(&world.dir))]).await;
        for _ in 0..3 {
            create(&plugins, "web").await.unwrap();
        }
        let status = plugins.statuses().remove(0);
        assert_eq!(
            (status.state, status.why.as_str()),
            ("disabled", "3 timeouts in a row, the last in create")
        );
        assert!(status.stuck);
        let owes = "plugin hang: reset: it still owes answers, and comes back when it has given them";
        assert_eq!(plugins.reset("hang").unwrap_err().to_string(), owes);
        let began = Instant::now();
        create(&plugins, "web").await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(250));
    });
}

#[test]
fn a_hang_of_a_required_plugin_fails_the_start_and_then_holds_the_next() {
    let world = World::new();
    let mut hang = hasty("hang", &C::new("hang", HANG).build(&world.dir));
    hang.policy.required = true;
    hang.policy.on_error = OnError::Fail;
    run(async {
        let plugins = world.with(&[hang]).await;
        for _ in 0..3 {
            let failure = create(&plugins, "web").await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Timeout);
            assert!(failure.to_string().starts_with("plugin hang: create: no answer within "), "{failure}");
        }
        let failure = create(&plugins, "web").await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Waiting);
        assert_eq!(failure.to_string(), "waiting for plugin hang: 3 timeouts in a row, the last in create");
        assert!(plugins.waiting_for("web", &[]).is_some());
    });
}

#[test]
fn a_required_plugin_that_is_not_there_holds_starts() {
    let world = World::new();
    let mut absent = config("absent", Path::new("/nowhere/libabsent.so"));
    absent.policy.required = true;
    absent.policy.services = vec!["web".to_owned()];
    let opened = run(world.open(&[absent]));
    assert!(opened.plugins.waiting_for("db", &[]).is_none());
    let waiting = opened.plugins.waiting_for("web", &[]).unwrap();
    assert!(
        waiting.to_string().starts_with("waiting for plugin absent: /nowhere/libabsent.so: cannot read it"),
        "{waiting}"
    );
}

#[test]
fn a_plugin_that_was_late_is_asked_again_once_it_has_answered() {
    // The first create takes as long as three deadlines and more; the thread comes back then.
    let call = r#"static int n; if (r->event == SP_EV_CREATE && n++ == 0) sleep(2); return SP_OK;"#;
    let world = World::new();
    run(async {
        let mut opened = world.open(&[hasty("slow", &C::new("slow", call).build(&world.dir))]).await;
        let plugins = &mut opened.plugins;
        for _ in 0..3 {
            create(plugins, "web").await.unwrap();
        }
        assert_eq!(plugins.statuses()[0].state, "disabled");
        opened.back.notified().await;
        let status = plugins.statuses().remove(0);
        assert_eq!((status.state, status.why.as_str(), status.zombies), ("active", "", 0));
        let calls = status.figures.calls;
        create(plugins, "web").await.unwrap();
        assert!(plugins.statuses()[0].figures.calls > calls, "it is asked");
    });
}

#[test]
fn what_a_plugin_has_claimed_is_not_gone_without() {
    let claims = r#"if (r->event == SP_EV_CREATE) return reply(r, "{\"claims\":[\"network\"]}"); if (r->event == SP_EV_ATTACH) return SP_E_FAIL; return SP_OK;"#;
    let c = C { manifest: r#"{"claims":["network"]}"#, ..C::new("net", claims) };
    let world = World::new();
    run(async {
        let plugins = world.with(&[config("net", &c.build(&world.dir))]).await;
        let web = ctx("web");
        plugins.create(&web, &json!({}), &["network"], &mut spec()).await.unwrap();
        let failure = plugins.attach(&web, &[]).await.unwrap_err();
        assert_eq!(
            (failure.plugin.as_str(), failure.event, failure.kind),
            ("net", "attach", FailureKind::Failed),
            "although on_error = ignore"
        );
    });
}

#[test]
fn who_needs_what_a_disabled_plugin_claims_waits_for_it() {
    let c = C { manifest: r#"{"claims":["network"]}"#, ..C::new("net", HANG) };
    let world = World::new();
    run(async {
        let plugins = world.with(&[hasty("net", &c.build(&world.dir))]).await;
        for _ in 0..3 {
            let made = plugins.create(&ctx("web"), &json!({}), &["network"], &mut spec()).await;
            assert_eq!(made.unwrap_err().kind, FailureKind::Timeout);
        }
        assert_eq!(plugins.waiting_for("web", &["network"]).unwrap().plugin, "net");
        assert!(plugins.waiting_for("web", &[]).is_none(), "who needs it not goes on");
        create(&plugins, "web").await.unwrap();
    });
}

#[test]
fn late_and_double_answers_are_stale_and_harm_nothing() {
    let call = r#"
        static int32_t first, second; static uint64_t late;
        if (r->event == SP_EV_CREATE && is(r, "twice")) { h->complete(cx, r->id, SP_OK, B("{}"), NULL, 0); second = h->complete(cx, r->id, SP_OK, B("{}"), NULL, 0); return SP_PENDING; }
        if (r->event == SP_EV_CREATE && is(r, "late")) { late = r->id; return SP_PENDING; }
        if (r->event == SP_EV_CONTROL) { first = h->complete(cx, late, SP_OK, B("{}"), NULL, 0); char text[64]; snprintf(text, sizeof text, "[%d,%d,%d]", first, second, h->complete(cx, 999, SP_OK, B(""), NULL, 0)); return reply(r, text); }
        return SP_OK;"#;
    let world = World::new();
    run(async {
        let plugins = world.with(&[hasty("p", &C::new("p", call).build(&world.dir))]).await;
        create(&plugins, "twice").await.unwrap();
        create(&plugins, "late").await.unwrap();
        assert_eq!(plugins.statuses()[0].zombies, 1);
        assert_eq!(plugins.control("p", &json!(null)).await.unwrap().0, json!([-5, -5, -5]));
        let status = plugins.statuses().remove(0);
        assert_eq!((status.zombies, status.figures.stale, status.state), (0, 3, "active"));
    });
}

#[test]
fn requests_never_completed_disable_their_plugin() {
    let world = World::new();
    let call = "return r->event == SP_EV_VALIDATE ? SP_PENDING : SP_OK;";
    run(async {
        let mut config = config("p", &C::new("p", call).build(&world.dir));
        config.policy.timeout = Duration::from_millis(50);
        let plugins = world.with(&[config]).await;
        for _ in 0..80 {
            plugins.validate("web", &json!({})).await;
            // Not in a row: an answer in between.
            create(&plugins, "web").await.unwrap();
        }
        let status = plugins.statuses().remove(0);
        assert_eq!(
            (status.state, status.why.as_str()),
            ("disabled", "too many requests that it never completed")
        );
    });
}

#[test]
fn more_time_is_granted_up_to_the_hard_limit() {
    let call = r#"
        if (r->event == SP_EV_CREATE) { int32_t more = h->extend(cx, r->id, 600000000ull); usleep(500000); int32_t too_much = h->extend(cx, r->id, 60000000000ull);
          char text[96]; snprintf(text, sizeof text, "{\"message\":\"%d %d\"}", more, too_much); return reply(r, text); }
        return SP_OK;"#;
    let world = World::new();
    run(async {
        let plugins = world.with(&[hasty("p", &C::new("p", call).build(&world.dir))]).await;
        let (created, _) = create(&plugins, "web").await.unwrap();
        assert_eq!(created.messages, [("p".to_owned(), "0 -8".to_owned())]);
    });
}

#[test]
fn an_error_goes_the_way_of_the_policy() {
    let call = r#"return r->event == SP_EV_CREATE ? refuse(r, SP_E_FAIL, "no luck") : SP_OK;"#;
    let outcome = |on_error: OnError| {
        let world = World::new();
        let mut config = config("p", &C::new("p", call).build(&world.dir));
        config.policy.on_error = on_error;
        run(async {
            let plugins = world.with(&[config]).await;
            let result = create(&plugins, "web").await.map(drop).map_err(|failure| failure.to_string());
            (result, plugins.statuses()[0].state)
        })
    };
    assert_eq!(outcome(OnError::Fail), (Err("plugin p: create: no luck".to_owned()), "active"));
    assert_eq!(outcome(OnError::Ignore), (Ok(()), "active"));
    assert_eq!(outcome(OnError::Disable), (Ok(()), "disabled"));
}

/// Two answers that do not go together, one that has no grant, and one with a claim that the manifest does not have.
#[test]
fn an_answer_that_is_refused_goes_the_way_of_the_policy_as_an_error_does() {
    let answer = |json: &str| -> &'static str {
        let call = format!("return r->event == SP_EV_CREATE ? reply(r, {json:?}) : SP_OK;");
        Box::leak(call.into_boxed_str())
    };
    let first = r#"{"adjust":{"env":{"TZ":"UTC"}},"claims":["stdio"]}"#;
    for second in [
        r#"{"adjust":{"env":{"TZ":"CET","A":"1"}},"message":"hello"}"#,
        r#"{"adjust":{"env":{"A":"1"}},"claims":["stdio"]}"#,
        r#"{"adjust":{"env":{"A":"1"},"sysctl":{"a":"1"}}}"#,
        r#"{"adjust":{"env":{"A":"1"}},"claims":["network"]}"#,
    ] {
        for on_error in [OnError::Fail, OnError::Ignore, OnError::Disable] {
            let world = World::new();
            let plugin = |name, json| {
                let c = C { manifest: r#"{"claims":["stdio"]}"#, ..C::new(name, answer(json)) };
                config(name, &c.build(&world.dir))
            };
            let (a, mut b) = (plugin("a", first), plugin("b", second));
            b.policy.on_error = on_error;
            run(async {
                let plugins = world.with(&[a, b]).await;
                match (create(&plugins, "web").await, on_error) {
                    (Err(failure), OnError::Fail) => assert_eq!(failure.plugin, "b"),
                    (Ok((created, spec)), OnError::Ignore | OnError::Disable) => {
                        // Nothing of it is taken.
                        assert_eq!(spec["process"]["env"], json!(["TZ=UTC"]), "{second}");
                        assert_eq!(created.claims["stdio"], "a");
                        assert_eq!((created.claims.len(), created.messages.len()), (1, 0));
                    }
                    (outcome, on_error) => panic!("{second}: {on_error:?}: {outcome:?}"),
                }
                let disabled = plugins.statuses()[1].state == "disabled";
                assert_eq!(disabled, on_error == OnError::Disable);
            });
        }
    }
}

#[test]
fn three_panics_disable_and_the_process_lives() {
    let call = r#"return r->event == SP_EV_CREATE ? refuse(r, SP_E_PANIC, "panicked at src/lib.rs:1:1: oh") : SP_OK;"#;
    let world = World::new();
    run(async {
        let plugins = world.with(&[config("p", &C::new("p", call).build(&world.dir))]).await;
        for _ in 0..3 {
            create(&plugins, "web").await.unwrap();
        }
        let status = plugins.statuses().remove(0);
        assert_eq!((status.figures.panics, status.why.as_str()), (3, "3 panics within 10 minutes"));
        assert_eq!(plugins.reset("p"), Ok(Reset::Enabled));
        assert_eq!(plugins.reset("p"), Ok(Reset::Active));
        create(&plugins, "web").await.unwrap();
        let status = plugins.statuses().remove(0);
        assert_eq!((status.state, status.figures.panics), ("active", 4));
        assert_eq!(plugins.reset("q").unwrap_err().to_string(), "plugin q: reset: there is no such plugin");
    });
}

#[test]
fn a_plugin_that_owes_an_answer_when_it_is_reset_comes_back_with_it() {
    let before = r#"static uint64_t late; static void *later(void *arg) { (void)arg; while (access(getenv("RELEASE"), F_OK)) usleep(1000); h->complete(cx, late, SP_OK, B("{}"), NULL, 0); return NULL; }
"#;
    let call = r#"
        if (r->event == SP_EV_CREATE && is(r, "late")) { pthread_t t; late = r->id; pthread_create(&t, NULL, later, NULL); pthread_detach(t); return SP_PENDING; }
        return r->event == SP_EV_CREATE ? refuse(r, SP_E_PANIC, "panicked at src/lib.rs:1:1: oh") : SP_OK;"#;
    let world = World::new();
    let release = world.dir.0.join("release");
    // SAFETY: nextest runs each test in a process of its own, and no plugin is loaded yet.
    unsafe { std::env::set_var("RELEASE", &release) };
    run(async {
        let plugins = world.with(&[hasty("p", &C { before, ..C::new("p", call) }.build(&world.dir))]).await;
        create(&plugins, "late").await.unwrap();
        for _ in 0..3 {
            create(&plugins, "web").await.unwrap();
        }
        let status = plugins.statuses().remove(0);
        assert_eq!((status.why.as_str(), status.zombies), ("3 panics within 10 minutes", 1));
        let owes = "plugin p: reset: it still owes answers, and comes back when it has given them";
        assert_eq!(plugins.reset("p").unwrap_err().to_string(), owes);
        assert_eq!(plugins.statuses()[0].state, "disabled");
        std::fs::write(&release, "").unwrap();
        eventually("it comes back", || plugins.statuses()[0].state == "active").await;
    });
}

#[test]
fn too_many_notifications_are_replaced_by_what_is() {
    let call = r#"
        static int exits, syncs; static int named;
        if (r->event == SP_EV_STARTED) { close(open(getenv("INSIDE"), O_CREAT | O_WRONLY, 0600)); while (access(getenv("FLOODED"), F_OK)) usleep(1000); }
        if (r->event == SP_EV_EXIT) exits++;
        if (r->event == SP_EV_SYNCHRONIZE) { syncs++; named = memmem(r->body.ptr, r->body.len, "\"web\"", 5) != NULL; }
        if (r->event == SP_EV_CONTROL) { char text[64]; snprintf(text, sizeof text, "[%d,%d,%d]", exits, syncs, named); return reply(r, text); }
        return SP_OK;"#;
    let world = World::new();
    let (inside, flooded) = (world.dir.0.join("inside"), world.dir.0.join("flooded"));
    // SAFETY: nextest runs each test in a process of its own, and no plugin is loaded yet.
    unsafe {
        std::env::set_var("INSIDE", &inside);
        std::env::set_var("FLOODED", &flooded);
    }
    run(async {
        let plugins = world.with(&[config("p", &C::new("p", call).build(&world.dir))]).await;
        let web = ctx("web");
        plugins.create(&web, &json!({}), &[], &mut spec()).await.unwrap();
        let flood = async {
            eventually("it is in a call", || inside.exists()).await;
            for _ in 0..1500 {
                plugins.notify_exit(&web, &ExitFacts::default());
            }
            std::fs::write(&flooded, "").unwrap();
        };
        let (started, ()) = tokio::join!(plugins.started(&web), flood);
        started.unwrap();
        let seen = plugins.control("p", &json!(null)).await.unwrap().0;
        // The first thousand are gone; those after it came, and a second synchronize that lists the container.
        assert_eq!(seen, json!([1500 - 1024, 2, 1]));
        assert_eq!(plugins.statuses()[0].figures.overflows, 1);
    });
}

#[test]
fn a_thread_left_after_close_is_listed() {
    let before = r#"static void *stays(void *arg) { (void)arg; for (;;) pause(); return NULL; }
"#;
    let open = "pthread_t t; return pthread_create(&t, NULL, stays, NULL) ? SP_E_FAIL : SP_OK;";
    let world = World::new();
    run(async {
        let plugins = world
            .with(&[config("p", &C { before, open, ..C::new("p", "return SP_OK;") }.build(&world.dir))])
            .await;
        assert_eq!(plugins.shutdown().await, []);
        // The host's own thread ends after it has answered.
        eventually("one thread is left", || plugins.statuses()[0].threads == 1).await;
    });
}

#[test]
fn an_open_that_fails_or_hangs_is_told() {
    let world = World::new();
    let failing = C {
        open: r#"h->complete(cx, 0, SP_E_FAIL, B("no licence"), NULL, 0); return SP_E_FAIL;"#,
        ..C::new("a", "return SP_OK;")
    };
    let hanging = C { open: "for (int on = 1; on;) pause(); return SP_OK;", ..C::new("b", "return SP_OK;") };
    let mut late = config("b", &hanging.build(&world.dir));
    late.policy.open_timeout = Duration::from_millis(100);
    let failures = run(world.open(&[config("a", &failing.build(&world.dir)), late])).failures;
    let texts: Vec<String> = failures.iter().map(Failure::to_string).collect();
    assert_eq!(texts, ["plugin a: no licence", "plugin b: no answer within open_timeout (100ms)"]);
}

#[test]
fn answers_of_any_shape_are_an_error_and_no_crash() {
    let call = r#"
        static const char *answers[] = { "x", "[]", "{\"adjust\":7}", "{\"adjust\":{\"env\":[]}}", "{\"claims\":[7]}", "{\"adjust\":{\"mounts\":{\"a\":{}}}}", "\xff\xfe" };
        static unsigned n;
        if (r->event == SP_EV_CREATE && is(r, "huge")) { char *big = calloc(1, 2 << 20); memset(big, 'x', (2 << 20) - 1); int32_t s = refuse(r, SP_OK, big); free(big); return s; }
        if (r->event == SP_EV_CREATE && is(r, "status")) return 77;
        if (r->event == SP_EV_CREATE && is(r, "fd")) { sp_fd bad = { .fd = 9999, .role = 64 }; h->complete(cx, r->id, SP_OK, B("{}"), &bad, 1); return SP_PENDING; }
        if (r->event == SP_EV_CREATE) return reply(r, answers[n++ % 7]);
        return SP_OK;"#;
    let world = World::new();
    let mut config = config("p", &C::new("p", call).build(&world.dir));
    config.policy.on_error = OnError::Fail;
    run(async {
        let plugins = world.with(&[config]).await;
        for service in ["huge", "status", "fd", "1", "2", "3", "4", "5", "6", "7"] {
            let failure = create(&plugins, service).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Failed, "{service}: {failure}");
        }
    });
}

#[test]
fn a_thousand_pending_requests_all_complete() {
    // A thread completes what is pending, 64 at a time.
    let before = r#"
        static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER; static uint64_t ids[2048]; static int n, most;
        static void *completes(void *arg) { (void)arg; for (;;) { usleep(1000); pthread_mutex_lock(&m); if (n > most) most = n; while (n) h->complete(cx, ids[--n], SP_OK, B(""), NULL, 0); pthread_mutex_unlock(&m); } return NULL; }
"#;
    let open = "pthread_t t; return pthread_create(&t, NULL, completes, NULL) ? SP_E_FAIL : SP_OK;";
    let call = r#"
        if (r->event == SP_EV_CREATE) { pthread_mutex_lock(&m); ids[n++] = r->id; pthread_mutex_unlock(&m); return SP_PENDING; }
        if (r->event == SP_EV_CONTROL) { char text[32]; snprintf(text, sizeof text, "%d", most); return reply(r, text); }
        return SP_OK;"#;
    let world = World::new();
    let mut config = config("p", &C { before, open, ..C::new("p", call) }.build(&world.dir));
    config.policy.on_error = OnError::Fail;
    let local = tokio::task::LocalSet::new();
    run(local.run_until(async {
        let plugins = Rc::new(world.with(&[config]).await);
        let mut all = tokio::task::JoinSet::new();
        for n in 0..1000 {
            let plugins = plugins.clone();
            all.spawn_local(async move { create(&plugins, &format!("s{n}")).await.unwrap() });
        }
        assert_eq!(all.join_all().await.len(), 1000);
        let most = plugins.control("p", &json!(null)).await.unwrap().0.as_u64().unwrap();
        assert!((2..=64).contains(&most), "{most}");
    }));
}
