//! v1's numbers in v2's units.

use proptest::prelude::*;
use sampan_cgroups::limits::{io_weight, weight};

#[test]
fn shares_become_weights_by_the_quadratic_formula() {
    // The values of runc and crun since 2025; 1024, what everybody writes, is the default weight.
    for (shares, expected) in [
        (0, 1),
        (1, 1),
        (2, 1),
        (3, 2),
        (512, 59),
        (1024, 100),
        (2048, 174),
        (262_143, 10_000),
        (262_144, 10_000),
    ] {
        assert_eq!(weight(shares), expected, "{shares} shares");
    }
    assert_eq!(weight(u64::MAX), 10_000);
}

#[test]
fn io_weights_are_stretched() {
    for (given, expected) in [(10, 1), (500, 4_950), (1_000, 10_000)] {
        assert_eq!(io_weight(given), expected, "{given}");
    }
}

proptest! {
    #[test]
    fn more_shares_never_weigh_less(a in 2_u64..300_000, b in 2_u64..300_000) {
        let (low, high) = (a.min(b), a.max(b));
        prop_assert!(weight(low) <= weight(high));
        prop_assert!((1..=10_000).contains(&weight(a)));
    }
}
