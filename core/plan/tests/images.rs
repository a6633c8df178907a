//! The flat image: what the plan writes the child reads; what is damaged is refused.

use crate::plans::{config, options};
use proptest::prelude::*;
use sampan_child::image::{Fault, Image};
use sampan_child::step::Step;
use sampan_plan::{Host, Plan, Spec};

fn image() -> Vec<u8> {
    let text = config().to_string();
    let spec = Spec::parse(&text).unwrap();
    Plan::compile(&spec, &Host::example(), &options()).unwrap().image
}

#[test]
fn the_steps_come_out_as_they_went_in() {
    let text = config().to_string();
    let spec = Spec::parse(&text).unwrap();
    let plan = Plan::compile(&spec, &Host::example(), &options()).unwrap();
    let image = Image::check(&plan.image).unwrap();
    let read: Vec<Step> = (0..image.header().steps).map(|i| image.step(i).unwrap()).collect();
    assert_eq!(read, plan.steps);
    assert_eq!(plan.steps.len(), plan.origins.len());
    assert_eq!(image.header().slots as usize, plan.slots.len());
}

/// With another number in each word: two fields that change places would show.
#[test]
fn every_step_survives_its_encoding() {
    for code in Step::codes() {
        // A field of few values (a propagation, a base) takes only some of these.
        let numbers = (0..8u32).map(|shift| std::array::from_fn(|i| (i as u32 + shift) % 8));
        let words = numbers.map(|words: [u32; 8]| {
            [code, words[1], words[2], words[3], words[4], words[5], words[6], words[7]]
        });
        let read: Vec<([u32; 8], Step)> =
            words.filter_map(|words| Some((words, Step::decode(words)?))).collect();
        assert!(!read.is_empty(), "no step is numbered {code}, or it holds what no word says");
        for (words, step) in read {
            let written = step.encode();
            let length = written.iter().rposition(|word| *word != 0).map_or(0, |at| at + 1);
            assert_eq!(written[..length], words[..length], "{step:?}");
            assert_eq!(Step::decode(written), Some(step));
        }
    }
    assert_eq!(Step::decode([9999, 0, 0, 0, 0, 0, 0, 0]), None);
}

#[test]
fn a_damaged_head_is_refused() {
    let good = image();
    let damaged = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Image::check(&bytes).map(|_| ()).unwrap_err()
    };
    assert_eq!(damaged(0, 0), Fault::Magic);
    assert_eq!(damaged(4, 9), Fault::Version);
    assert_eq!(damaged(48, 0xff), Fault::Step(0));
    assert_eq!(damaged(good.len() - 1, b'x'), Fault::TextEnd);
    assert!(Image::check(&good[..20]).is_err());
}

proptest! {
    /// The child trusts every offset of a checked image: so no damage may get through to a read outside.
    #[test]
    fn any_damage_is_found_or_harmless(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in any::<prop::sample::Index>()) {
        let mut bytes = image();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(image) = Image::check(bytes) {
                for index in 0..image.header().steps {
                    let step = image.step(index).unwrap();
                    if let Step::Exec { argv, env, .. } = step {
                        prop_assert_eq!(image.list(argv).count(), argv.count as usize);
                        prop_assert!(image.list(env).all(|s| s.last() == Some(&0)));
                    }
                }
            }
        }
    }
}
