//! Order, gates and the descriptors of a container's life (rows 10 to 13, the host's part of 14).
use super::*;
use sampan_testkit::plugin::C;
use std::os::fd::AsFd;

const TRACED: &str = r#"trace(NAME, r); if (r->event == SP_EV_CREATE && is(r, "vetoed") && !strcmp(NAME, "b")) return refuse(r, SP_E_VETO, "not today"); return SP_OK;"#;

fn traced(world: &World, name: &'static str, manifest: &'static str) -> PluginConfig {
    config(name, &C { manifest, ..C::new(name, TRACED) }.build(&world.dir))
}

async fn whole_life(plugins: &Plugins, service: &str) {
    let mut ctx = ctx(service);
    let mut spec = spec();
    plugins.create(&ctx, &json!({}), &[], &mut spec).await.unwrap();
    ctx.pid = 42;
    plugins.attach(&ctx, &[]).await.unwrap();
    plugins.start(&ctx).await.unwrap();
    plugins.started(&ctx).await.unwrap();
    plugins.notify_ready(&ctx);
    assert_eq!(plugins.stop(&ctx, "stop", Duration::from_secs(1)).await, []);
    plugins.notify_stopping(&ctx);
    plugins.notify_oom(&ctx, &json!({ "oom_kill": 1 }));
    plugins.notify_exit(&ctx, &ExitFacts { signal: 9, oom: true, ..ExitFacts::default() });
    assert_eq!(plugins.detach(&ctx, true).await, []);
    plugins.notify_removed(&ctx);
    assert_eq!(plugins.shutdown().await, []);
}

#[test]
fn a_life_goes_up_and_down_in_order() {
    let world = World::new();
    let trace = world.trace();
    let configs =
        [traced(&world, "a", r#"{"after":["b"]}"#), traced(&world, "b", "{}"), traced(&world, "c", "{}")];
    run(async {
        let plugins = world.with(&configs).await;
        assert_eq!(plugins.names(), ["b", "a", "c"]);
        std::fs::remove_file(&trace).unwrap();
        whole_life(&plugins, "web").await;
    });
    let seen = lines(&trace);
    let of = |event: &str| -> String {
        seen.iter().filter(|line| line.split(' ').nth(1) == Some(event)).map(|line| &line[..1]).collect()
    };
    for gate in ["create", "review", "attach", "start", "started"] {
        assert_eq!(of(gate), "bac", "{gate}");
    }
    for hold in ["stop", "detach", "shutdown"] {
        assert_eq!(of(hold), "cab", "{hold}");
    }
    let mine: Vec<&str> = seen
        .iter()
        .filter_map(|line| line.strip_prefix("b "))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        mine,
        [
            "create", "review", "attach", "start", "started", "ready", "stop", "stopping", "oom", "exit",
            "detach", "removed", "shutdown"
        ]
    );
}

#[test]
fn a_cycle_is_refused_with_its_path() {
    let world = World::new();
    let configs = [
        traced(&world, "a", r#"{"after":["b"]}"#),
        traced(&world, "b", r#"{"after":["a"]}"#),
        traced(&world, "c", "{}"),
    ];
    let opened = run(world.open(&configs));
    assert_eq!(opened.plugins.names(), ["c"]);
    assert_eq!(
        opened.failures[0].to_string(),
        "plugin a: its place is not defined: a -> b -> a (each after the next)"
    );
    assert_eq!(opened.failures.len(), 2);
}

#[test]
fn a_veto_stops_the_start_and_those_that_saw_it_see_one_detach() {
    let world = World::new();
    let trace = world.trace();
    let configs = [traced(&world, "a", "{}"), traced(&world, "b", "{}"), traced(&world, "c", "{}")];
    run(async {
        let plugins = world.with(&configs).await;
        std::fs::remove_file(&trace).unwrap();
        let ctx = ctx("vetoed");
        let veto = plugins.create(&ctx, &json!({}), &[], &mut spec()).await.unwrap_err();
        assert_eq!(
            (veto.kind, veto.to_string().as_str()),
            (FailureKind::Veto, "plugin b vetoed create: not today")
        );
        assert_eq!(plugins.detach(&ctx, true).await, []);
    });
    assert_eq!(
        lines(&trace),
        [
            "a create vetoed",
            "b create vetoed",
            "b detach vetoed {\"final\":true}",
            "a detach vetoed {\"final\":true}"
        ]
    );
}

fn setter(world: &World, name: &'static str, json: &'static str, grants: &[&str]) -> PluginConfig {
    let call: &'static str =
        Box::leak(format!("return r->event == SP_EV_CREATE ? reply(r, {json:?}) : SP_OK;").into_boxed_str());
    let mut config =
        config(name, &C { manifest: r#"{"claims":["stdio"]}"#, ..C::new(name, call) }.build(&world.dir));
    config.policy.on_error = OnError::Fail;
    config.policy.grants = grants.iter().map(|grant| (*grant).to_owned()).collect();
    config
}

#[test]
fn two_that_want_different_things_stop_the_start_unless_the_operator_chose() {
    let world = World::new();
    let configs = [
        setter(&world, "tz", r#"{"adjust":{"env":{"TZ":"UTC"}}}"#, &[]),
        setter(&world, "locale", r#"{"adjust":{"env":{"TZ":"CET"}}}"#, &[]),
    ];
    run(async {
        let plugins = world.with(&configs).await;
        let failure = create(&plugins, "web").await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Conflict);
        assert!(
            failure
                .to_string()
                .starts_with("env TZ set to \"UTC\" by plugin tz and to \"CET\" by plugin locale"),
            "{failure}"
        );
        let mut spec = spec();
        let service = json!({ "adjust": { "env/TZ": "locale" } });
        let created = plugins.create(&ctx("web"), &service, &[], &mut spec).await.unwrap();
        assert_eq!(
            (&spec["process"]["env"], created.owners["env/TZ"].as_str()),
            (&json!(["TZ=CET"]), "locale")
        );
    });
}

#[test]
fn a_security_leaf_without_a_grant_is_denied_and_with_it_allowed() {
    const DEVICE: &str = r#"{"adjust":{"devices":{"/dev/fuse":{"type":"c","major":10,"minor":229}}}}"#;
    let world = World::new();
    run(async {
        let plugins = world.with(&[setter(&world, "dev", DEVICE, &[])]).await;
        let failure = create(&plugins, "web").await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Denied);
        assert!(failure.to_string().contains("needs grants = [\"devices\"]"), "{failure}");
    });
    let world = World::new();
    run(async {
        let plugins = world.with(&[setter(&world, "dev", DEVICE, &["devices"])]).await;
        let (_, spec) = create(&plugins, "web").await.unwrap();
        assert_eq!(spec["linux"]["devices"][0]["path"], "/dev/fuse");
    });
}

#[test]
fn stdio_goes_to_the_one_who_claimed_it() {
    const ROLES: &str = r#"
        if (r->event == SP_EV_CREATE && !strcmp(NAME, "log")) return reply(r, "{\"claims\":[\"stdio\"]}");
        if (r->event == SP_EV_ATTACH) { char text[64]; snprintf(text, sizeof text, "%u", r->nfds); sp_bytes key = B("fds"), value = B(text);
          h->put(cx, 0, key, value, 0); int fd = h->get_fd(cx, r->container, SP_FD_STDOUT); snprintf(text, sizeof text, "%d", fd >= 0 ? 1 : fd);
          h->put(cx, 0, B("stdout"), B(text), 0); if (fd >= 0) close(fd); return SP_OK; }
        if (r->event == SP_EV_CONTROL) { sp_owned a, b; char text[64]; h->read(cx, SP_READ_KV, 0, B("fds"), &a); h->read(cx, SP_READ_KV, 0, B("stdout"), &b);
          snprintf(text, sizeof text, "[%.*s,%.*s]", (int)a.len, (const char *)a.ptr, (int)b.len, (const char *)b.ptr); h->release(cx, &a); h->release(cx, &b); return reply(r, text); }
        return SP_OK;"#;
    let world = World::new();
    let plugin = |name| {
        config(name, &C { manifest: r#"{"claims":["stdio"]}"#, ..C::new(name, ROLES) }.build(&world.dir))
    };
    run(async {
        let plugins = world.with(&[plugin("log"), plugin("other")]).await;
        let web = ctx("web");
        let created = plugins.create(&web, &json!({}), &[], &mut spec()).await.unwrap();
        assert_eq!(created.claims["stdio"], "log");
        let (stdout, netns) = (std::io::pipe().unwrap().0, std::fs::File::open("/proc/self/ns/net").unwrap());
        world.keep.keep("io/web/stdout", Some(stdout.as_fd())).unwrap();
        let (stdout, netns) = (lent(Role::Stdout, stdout), lent(Role::Netns, netns));
        for stdout in [stdout.clone(), stdout.at_keel("io/web/stdout".into())] {
            plugins.attach(&web, &[stdout, netns.clone()]).await.unwrap();
            assert_eq!(plugins.control("log", &json!(null)).await.unwrap().0, json!([2, 1]));
            assert_eq!(plugins.control("other", &json!(null)).await.unwrap().0, json!([1, -8]));
        }
    });
}

#[test]
fn two_that_claim_the_same_stop_the_start() {
    let world = World::new();
    const CLAIM: &str = r#"{"claims":["stdio"]}"#;
    let failure = run(async {
        let plugins = world.with(&[setter(&world, "a", CLAIM, &[]), setter(&world, "b", CLAIM, &[])]).await;
        create(&plugins, "web").await.unwrap_err()
    });
    assert_eq!(failure.to_string(), "plugins a and b both claim stdio; disable one of them");
}

#[test]
fn services_that_a_plugin_does_not_cover_are_not_its_business() {
    let world = World::new();
    let trace = world.trace();
    let mut only = traced(&world, "a", "{}");
    only.policy.services = vec!["web-*".to_owned()];
    run(async {
        let plugins = world.with(&[only]).await;
        std::fs::remove_file(&trace).unwrap();
        create(&plugins, "db").await.unwrap();
        create(&plugins, "web-1").await.unwrap();
    });
    assert_eq!(lines(&trace), ["a create web-1", "a review web-1"]);
}

#[test]
fn two_hundred_running_services_come_in_chunks_and_are_replayed_with_their_descriptors() {
    const COUNT: &str = r#"
        static int chunks, attached;
        if (r->event == SP_EV_SYNCHRONIZE) chunks++;
        if (r->event == SP_EV_ATTACH && r->flags & SP_F_REPLAY && r->nfds == 1 && fcntl(r->fds[0].fd, F_GETFD) >= 0) attached++;
        if (r->event == SP_EV_CONTROL) { char text[64]; snprintf(text, sizeof text, "[%d,%d]", chunks, attached); return reply(r, text); }
        return SP_OK;"#;
    let world = World::new();
    run(async {
        let opened = world.open(&[config("p", &C::new("p", COUNT).build(&world.dir))]).await;
        let plugins = opened.plugins;
        let running: Vec<Running> = (0..200)
            .map(|n| Running { ctx: ctx(&format!("s{n}")), state: "running", spec: spec() })
            .collect();
        assert_eq!(plugins.synchronize(&running).await, []);
        let netns = lent(Role::Netns, std::fs::File::open("/proc/self/ns/net").unwrap());
        for one in &running {
            plugins.replay(&one.ctx, std::slice::from_ref(&netns), Printed::Held).await.unwrap();
        }
        assert_eq!(plugins.control("p", &json!(null)).await.unwrap().0, json!([4, 200]));
    });
}

/// Nobody held a container's output, or it had ended: who has claimed it is told, and nobody else.
#[test]
fn the_plugin_that_claims_stdio_hears_that_output_was_lost() {
    const COUNT: &str = r#"
        static int lost, with;
        if (r->event == SP_EV_CREATE && !strcmp(NAME, "p")) return reply(r, "{\"claims\":[\"stdio\"]}");
        if (r->event == SP_EV_ATTACH && r->flags & SP_F_LOST) { lost++; with += r->nfds; }
        if (r->event == SP_EV_CONTROL) { char text[64]; snprintf(text, sizeof text, "[%d,%d]", lost, with); return reply(r, text); }
        return SP_OK;"#;
    let world = World::new();
    run(async {
        let manifest = r#"{"claims":["stdio"]}"#;
        let both =
            ["p", "q"].map(|name| config(name, &C { manifest, ..C::new(name, COUNT) }.build(&world.dir)));
        let plugins = world.open(&both).await.plugins;
        let web = ctx("web");
        plugins.create(&web, &json!({}), &[], &mut spec()).await.unwrap();
        let output = lent(Role::Stdout, std::fs::File::open("/dev/null").unwrap());
        for printed in [Printed::Held, Printed::Lost] {
            plugins.replay(&web, std::slice::from_ref(&output), printed).await.unwrap();
            plugins.attach_output(&ctx("gone"), "p", Vec::new(), printed).await.unwrap();
        }
        let told = async |name: &str| plugins.control(name, &json!(null)).await.unwrap().0;
        assert_eq!((told("p").await, told("q").await), (json!([2, 1]), json!([0, 0])));
    });
}

/// What the header names happens, or the header does not name it.
#[test]
fn every_event_of_the_header_is_sent() {
    let world = World::new();
    let trace = world.trace();
    const TIMED: &str = r#"trace(NAME, r);
        if (r->event == SP_EV_STARTED) h->submit(cx, SP_OP_TIMER, 0, 5, B("{\"after_ms\":0}"), NULL, 0);
        if (r->event == SP_EV_STARTED) h->put(cx, 0, B("k"), B("1"), 6);
        if (r->event == SP_EV_STARTED) h->emit(cx, B("hello"), 0, B("{}"));
        return SP_OK;"#;
    let timed = |name| config(name, &C::new(name, TIMED).build(&world.dir));
    run(async {
        let plugins = world.with(&[timed("a"), timed("b")]).await;
        plugins.validate("web", &json!({})).await;
        let other = ctx("other");
        plugins.create(&other, &json!({}), &[], &mut spec()).await.unwrap();
        plugins.started(&other).await.unwrap();
        plugins.notify_health(&other, "healthy", "");
        plugins.notify_updated(&other, &json!({}));
        plugins.control("a", &json!(null)).await.unwrap();
        eventually("its timer and its result", || {
            let seen = lines(&trace).join("\n");
            seen.contains(" timer") && seen.contains(" result")
        })
        .await;
        whole_life(&plugins, "web").await;
    });
    let seen: std::collections::BTreeSet<String> =
        lines(&trace).iter().filter_map(|line| line.split(' ').nth(1).map(str::to_owned)).collect();
    let named = sampan_plugin::abi::EVENT_NAMES.iter().filter(|name| !name.is_empty() && **name != "open");
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), {
        let mut named: Vec<&str> = named.copied().collect();
        named.sort_unstable();
        named
    });
}

#[test]
fn a_review_sees_who_set_what_and_may_refuse_it() {
    let world = World::new();
    const REVIEW: &str = r#"
        if (r->event == SP_EV_CREATE && !strcmp(NAME, "b")) return reply(r, "{\"adjust\":{\"env\":{\"A\":\"1\"}}}");
        if (r->event == SP_EV_REVIEW && !strcmp(NAME, "a")) { char text[256]; snprintf(text, sizeof text, "%.*s", (int)r->body.len, (const char *)r->body.ptr); return refuse(r, SP_E_VETO, text); }
        return SP_OK;"#;
    let plugin = |name| config(name, &C::new(name, REVIEW).build(&world.dir));
    run(async {
        let plugins = world.with(&[plugin("a"), plugin("b")]).await;
        let failure = create(&plugins, "web").await.unwrap_err();
        assert_eq!(failure.to_string(), r#"plugin a vetoed review: {"owners":{"env/A":"b"}}"#);
    });
}

/// What a plugin does that answers `create` by the number of lives it has seen, and says how many those were.
const BY_LIFE: &str = r#"
    static int lives = 0, over = 0; char text[160];
    if (r->event == SP_EV_CREATE) { lives++;
      if (!strcmp(NAME, "stable")) return reply(r, "{\"adjust\":{\"env\":{\"STABLE\":\"1\"}},\"stable\":true}");
      snprintf(text, sizeof text, "{\"adjust\":{\"env\":{\"%s\":\"%d\"}}}", NAME, lives / 4); return reply(r, text); }
    if (r->event == SP_EV_DETACH) over++;
    if (r->event == SP_EV_CONTROL) { snprintf(text, sizeof text, "%d", 100 * over + lives); return reply(r, text); }
    return SP_OK;"#;

async fn seen(plugins: &Plugins, name: &str) -> u64 {
    plugins.control(name, &json!(null)).await.unwrap().0.as_u64().unwrap()
}

#[test]
fn a_life_whose_plugins_answer_as_before_needs_no_spec_and_one_that_is_stable_is_not_asked() {
    let world = World::new();
    let plugin = |name| config(name, &C::new(name, BY_LIFE).build(&world.dir));
    run(async {
        let plugins = world.with(&[plugin("a"), plugin("stable"), plugin("z")]).await;
        let first = ctx("web");
        let mut spec = self::spec();
        let mut created = plugins.create(&first, &json!({}), &[], &mut spec).await.unwrap();
        let table = plugins.table(first.handle).unwrap();
        plugins.detach(&first, false).await;
        for life in 2..=3 {
            let web = ctx("web");
            let built = async || panic!("life {life}: nothing has changed");
            let other = plugins.create_again::<Failure>(&web, &table, &[], &created, built).await.unwrap();
            assert_eq!(other, None, "life {life}");
            plugins.detach(&web, false).await;
        }
        assert_eq!((seen(&plugins, "a").await, seen(&plugins, "stable").await), (303, 301));
        // Now both answer something else: what is stable is merged with it all the same, and in its place.
        let web = ctx("web");
        let built = async || Ok::<_, Failure>(self::spec());
        let other = plugins.create_again(&web, &table, &[], &created, built).await.unwrap();
        (created, spec) = other.unwrap();
        assert_eq!(spec["process"]["env"], json!(["a=1", "STABLE=1", "z=1"]));
        assert_eq!(created.owners.len(), 3);
        assert_eq!(seen(&plugins, "stable").await, 301);
        // What it reads is the spec with all of it.
        assert!(plugins.spec(web.handle).unwrap().contains("STABLE=1"));
        let mut again = self::spec();
        plugins.merged_again(&web, &table, &created, &mut again);
        assert_eq!(again, spec);
    });
}

#[test]
fn an_answer_that_was_refused_is_none_to_go_by() {
    let world = World::new();
    const DEVICE: &str =
        r#"{"adjust":{"devices":{"/dev/fuse":{"type":"c","major":10,"minor":229}}},"stable":true}"#;
    let mut refused = setter(&world, "dev", DEVICE, &[]);
    refused.policy.on_error = OnError::Ignore;
    run(async {
        let plugins = world.with(&[refused]).await;
        let first = ctx("web");
        let created = plugins.create(&first, &json!({}), &[], &mut spec()).await.unwrap();
        let table = plugins.table(first.handle).unwrap();
        plugins.detach(&first, false).await;
        let web = ctx("web");
        let built = async || Ok::<_, Failure>(spec());
        let other = plugins.create_again(&web, &table, &[], &created, built).await.unwrap();
        assert_eq!(other.unwrap().1, spec(), "asked, and refused once more");
    });
}

#[test]
fn what_a_plugin_does_without_it_is_not_called_for_but_a_final_detach_comes() {
    let world = World::new();
    const WITHOUT: &str = r#"
        static int attached = 0, exited = 0, over = 0; char text[32];
        if (r->event == SP_EV_CREATE) return reply(r, "{\"without\":[\"attach\",\"exit\",\"detach\"]}");
        if (r->event == SP_EV_ATTACH) attached++;
        if (r->event == SP_EV_EXIT) exited++;
        if (r->event == SP_EV_DETACH) over++;
        if (r->event == SP_EV_CONTROL) { snprintf(text, sizeof text, "%d", 100 * attached + 10 * exited + over); return reply(r, text); }
        return SP_OK;"#;
    let plugin = config("quiet", &C::new("quiet", WITHOUT).build(&world.dir));
    run(async {
        let plugins = world.with(&[plugin]).await;
        let begin = async || {
            let web = ctx("web");
            plugins.create(&web, &json!({}), &[], &mut spec()).await.unwrap();
            web
        };
        let web = begin().await;
        plugins.attach(&web, &[]).await.unwrap();
        plugins.notify_exit(&web, &ExitFacts::default());
        plugins.detach(&web, false).await;
        assert_eq!(seen(&plugins, "quiet").await, 0);
        // A later worker's replay is of a life that it has not heard of.
        plugins.replay(&begin().await, &[], Printed::Held).await.unwrap();
        assert_eq!(seen(&plugins, "quiet").await, 100);
        plugins.detach(&begin().await, true).await;
        assert_eq!(seen(&plugins, "quiet").await, 101);
    });
}

#[test]
fn no_plugin_does_without_what_is_no_event_of_a_life() {
    let world = World::new();
    let plugin = setter(&world, "quiet", r#"{"without":["removed"]}"#, &[]);
    run(async {
        let failure = create(&world.with(&[plugin]).await, "web").await.unwrap_err();
        assert!(
            failure.to_string().contains("\"removed\" is no event of a container's life after create"),
            "{failure}"
        );
    });
}
