//! Layers with many folders, and with deep ones.

use std::time::Instant;

use crate::made::{Layer, TestStore};

fn new() -> Layer {
    Layer::default()
}

/// Each is on the way to its file first, and a member of its own after.
#[test]
fn ten_times_the_folders_take_ten_times_as_long() {
    let time = |n: usize| {
        let store = TestStore::new();
        let names: Vec<String> = (0..n).map(|n| format!("{}/{n}", n % 100)).collect();
        let layer = names.iter().fold(new(), |layer, name| layer.file(&format!("{name}/f"), ""));
        let layer = names.iter().fold(layer, |layer, name| layer.folder(&format!("{name}/")));
        let layers = [new().file("below", "").bytes(), layer.bytes()];
        let start = Instant::now();
        store.layers(&layers).unwrap();
        start.elapsed()
    };
    let few = time(2_000).min(time(2_000));
    let many = time(20_000);
    assert!(many < few * 25, "2,000 in {few:?}, 20,000 in {many:?}");
}

/// How often is looked into the layers below for what was only on the way, by their depth and number.
#[test]
fn looks_into_layers_below_are_as_many_as_their_folders_and_bounded() {
    let looks = |depth: usize, below: usize| {
        let way = "d/".repeat(depth);
        let lower = (1..=depth).fold(new(), |layer, n| layer.folder(&"d/".repeat(n))).bytes();
        let upper = (0..50).fold(new(), |layer, n| layer.file(&format!("{way}{n}/f"), ""));
        let mut layers = vec![lower; below];
        layers.push(upper.bytes());
        let enough = |most: u64| {
            let mut store = TestStore::new();
            store.limits.looks = most;
            store.layers(&layers).map_err(|e| e.to_string())
        };
        let (mut few, mut many) = (0, 1 << 20);
        enough(many).unwrap();
        while many - few > 1 {
            let half = (few + many) / 2;
            match enough(half) {
                Ok(_) => many = half,
                Err(said) => {
                    assert!(said.contains("looked for in too many layers"), "{said}");
                    few = half;
                }
            }
        }
        many
    };
    // One for each layer and one for each folder, for fifty that are in no layer; and the way itself, which is in the nearest.
    assert_eq!((looks(5, 2), looks(40, 2)), (50 * 2 * (1 + 6) + 5, 50 * 2 * (1 + 41) + 40));
}

#[test]
fn folders_deeper_than_a_path_may_be_long_can_be_removed() {
    let store = TestStore::new();
    let part = "d/".repeat(1000);
    let mut layer = new().folder("top/");
    let mut at = String::from("top");
    // Each link leads to the depth of the last.
    for n in 0..4 {
        let deep = format!("{at}/{part}x");
        layer = layer.pax(&[("path", deep.as_bytes())]).file("f", "");
        let down = format!("{at}/{part}");
        layer = layer
            .pax(&[("linkpath", format!("/{}", down.trim_end_matches('/')).as_bytes())])
            .link(&format!("l{n}"), "x");
        at = format!("l{n}");
    }
    store.layer(layer).unwrap();
    store.store.untag("docker.io/library/test:1").unwrap();
    let alone = store.store.alone(std::time::Duration::ZERO).unwrap();
    assert_eq!(store.store.prune(&alone, &[]).unwrap().layers, 1);
    assert!(store.rubbish().is_empty());
}
