//! A bundle's config.json, from its text to a plan: an error with its field, or an image that the child accepts.
#![no_main]
use libfuzzer_sys::fuzz_target;
use sampan_plan::{Host, Options, Plan, Spec};

fuzz_target!(|text: &str| {
    let Ok(spec) = Spec::parse(text) else { return };
    let options = Options { id: "a".into(), bundle: "/bundle".into(), ..Options::default() };
    if let Ok(plan) = Plan::compile(&spec, &Host::example(), &options) {
        let _ = sampan_plan::render::text(&plan);
    }
});
