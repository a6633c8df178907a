//! A plugin in Rust, loaded as sampand loads it: it has its own std, tokio and tracing (rows 7, 18, 22).
use super::build::rust;
use super::*;
use std::io::Read;
use tracing_subscriber::layer::SubscriberExt;

fn fixture() -> PluginConfig {
    let mut config = config("fixture", &rust("plugin-fixture", "fixture"));
    config.policy.on_error = OnError::Fail;
    config
}

#[test]
fn panics_fail_one_request_with_their_place_and_the_process_lives() {
    let world = World::new();
    run(async {
        let plugins = world.with(&[fixture()]).await;
        for (service, text) in [("panics", "at once"), ("panics-later", "later")] {
            let failure = create(&plugins, service).await.unwrap_err().to_string();
            assert!(failure.starts_with("plugin fixture: create: panicked at "), "{failure}");
            assert!(failure.contains("src/lib.rs:") && failure.ends_with(text), "{failure}");
        }
        let failure = create(&plugins, "task-panics").await.unwrap_err().to_string();
        assert!(failure.contains("in a task"), "{failure}");
        create(&plugins, "web").await.unwrap();
        // It panics in close as well.
        assert_eq!(plugins.shutdown().await, []);
    });
}

#[test]
fn a_handler_may_await_its_own_runtime_the_store_and_documents() {
    let world = World::new();
    run(async {
        let plugins = world.with(&[fixture()]).await;
        let (_, spec) = create(&plugins, "sleeps").await.unwrap();
        assert_eq!(spec["annotations"], json!({ "spec": "\"1.2.0\"", "seen": "yes" }));
        assert_eq!(plugins.statuses()[0].threads, 2);
    });
}

#[test]
fn at_its_deadline_a_handler_is_told_and_then_dropped() {
    let world = World::new();
    run(async {
        let mut fixture = fixture();
        fixture.policy.timeout = Duration::from_millis(300);
        let plugins = world.with(&[fixture]).await;
        for service in ["waits", "hangs"] {
            let failure = create(&plugins, service).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Timeout);
        }
        // Both were completed late, so nothing of theirs is left.
        eventually("no zombies", || plugins.statuses()[0].zombies == 0).await;
        assert_eq!(plugins.statuses()[0].figures.stale, 2);
    });
}

#[test]
fn control_answers_with_json_and_a_stream() {
    let world = World::new();
    run(async {
        let plugins = world.with(&[fixture()]).await;
        let (answer, mut fds) = plugins.control("fixture", &json!({ "verb": "read" })).await.unwrap();
        assert_eq!(answer, json!({ "asked": { "verb": "read" } }));
        let mut text = String::new();
        std::fs::File::from(fds.pop().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "a stream");
        let failure = plugins.control("nobody", &json!(null)).await.unwrap_err();
        assert_eq!(failure.to_string(), "plugin nobody: control: there is no such plugin");
    });
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Captured {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!(" {field}={value:?}");
            }
        }
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
}

#[test]
fn its_tracing_ends_in_ours_with_service_and_plugin() {
    let captured = Captured::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(captured.clone())).unwrap();
    let world = World::new();
    run(async {
        let plugins = world.with(&[fixture()]).await;
        create(&plugins, "web").await.unwrap();
    });
    let lines = captured.0.lock().unwrap().clone();
    assert!(
        lines.iter().any(|line| line.contains("message=looked at it attempt=0")
            && line.contains("service=\"web\" plugin=\"fixture\"")),
        "{lines:?}"
    );
}

#[test]
fn many_events_do_not_make_it_grow() {
    let resident = || -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
    };
    let world = World::new();
    run(async {
        let plugins = world.with(&[fixture()]).await;
        let mut before = 0;
        for round in 0..40 {
            let web = ctx("web");
            plugins.create(&web, &json!({}), &[], &mut spec()).await.unwrap();
            for _ in 0..500 {
                plugins.notify_exit(&web, &ExitFacts::default());
            }
            // Everything is delivered before the next round.
            plugins.control("fixture", &json!(null)).await.unwrap();
            plugins.detach(&web, true).await;
            if round == 10 {
                before = resident();
            }
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < 2048, "{grown} KiB in 15,000 events");
        assert_eq!(plugins.statuses()[0].metrics[0].values["web"].0, 20_000.0);
    });
}
