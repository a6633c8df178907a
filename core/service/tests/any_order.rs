//! Any order of events, in a world that keeps the executor's contract. What must hold at every step is in `World::check` and
//! `World::act`; here is what must hold in the end.

use crate::world::{Op, World, ops, policies};
use proptest::prelude::*;
use sampan_service::cause::{Down, Up};
use sampan_service::state::{Failure, Rest};
use sampan_service::{Event, State, Wanted};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stopped_by_hand_it_stops_and_stays_so(policy in policies(), before in ops(60), after in ops(30)) {
        let mut world = World::new(policy, true);
        before.iter().for_each(|op| world.run(op));
        world.run(&Op::Wish(Event::Down(Down::Hand)));
        world.settle();
        let creates = world.creates;
        prop_assert!(matches!(world.service.state, State::Stopped { .. }), "{:?}", world.service);
        prop_assert!(world.is_quiet());
        for op in after.iter().filter(|op| !matches!(op, Op::Wish(Event::Up(_) | Event::Restart(_)))) {
            world.run(op);
        }
        prop_assert_eq!(world.creates, creates);
    }

    #[test]
    fn a_shutdown_ends_whatever_is_asked_meanwhile(policy in policies(), before in ops(60), after in ops(60)) {
        let mut world = World::new(policy, true);
        before.iter().for_each(|op| world.run(op));
        world.run(&Op::Wish(Event::Down(Down::Shutdown)));
        let creates = world.creates;
        after.iter().for_each(|op| world.run(op));
        world.settle();
        prop_assert!(world.service.state.is_at_rest(), "{:?}", world.service);
        prop_assert!(world.is_quiet());
        prop_assert_eq!(world.creates, creates);
    }

    #[test]
    fn wanted_up_it_runs_unless_its_policy_ends_it(policy in policies(), before in ops(60)) {
        let mut world = World::new(policy, true);
        before.iter().for_each(|op| world.run(op));
        world.run(&Op::Wish(Event::Up(Up::Hand)));
        prop_assert_eq!(world.service.wanted, Wanted::Up);
        world.settle();
        let running = matches!(world.service.state, State::Running { .. });
        prop_assert!(world.is_quiet() || running);
        prop_assert!(
            matches!(
                world.service.state,
                State::Running { .. }
                    | State::Stopped { why: Rest::Finished }
                    | State::Failed { why: Failure::Attempts(_) | Failure::StartTimeout | Failure::Exit(_) }
                    | State::Failed { why: Failure::Problem(_) | Failure::Oom | Failure::Unhealthy }
            ),
            "{:?}", world.service
        );
    }
}
