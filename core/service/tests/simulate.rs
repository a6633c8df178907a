//! Many random lives. What must hold at every step is in `World`; here is what must hold in the end.

use crate::random::Random;
use crate::world::{Crash, Op, World};
use sampan_service::cause::{Down, Up};
use sampan_service::state::{Failure, Rest};
use sampan_service::{Policy, State, Wanted};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A world's whole history, so that a shorter one can be tried.
#[derive(Clone, Debug)]
struct Script {
    policy: Policy,
    before: Vec<Op>,
    end: End,
    after: Vec<Op>,
    crash: Crash,
}

#[derive(Clone, Copy, Debug)]
enum End {
    StoppedByHand,
    WantedUp,
    Shutdown,
    /// Worker and keel die in the middle of it.
    InterruptedShutdown,
    /// The worker alone dies.
    ShutdownGoesOn,
}

impl Script {
    fn new(seed: u64) -> Script {
        let mut random = Random::new(seed);
        Script {
            policy: random.policy(),
            before: random.ops(80),
            end: random.of(&[
                End::StoppedByHand,
                End::WantedUp,
                End::Shutdown,
                End::InterruptedShutdown,
                End::ShutdownGoesOn,
            ]),
            after: random.ops(40),
            crash: random.crash(),
        }
    }

    /// Steps of the machine.
    fn play(&self) -> u64 {
        let mut world = World::new(self.policy.clone());
        self.before.iter().for_each(|op| world.run(op));
        world.forget_crash();
        // A shutdown under way is over with its keel.
        let fresh = Op::Crash(Crash { keel: true, ..self.crash });
        if world.shutdown {
            world.run(&fresh);
        }
        match self.end {
            End::StoppedByHand => self.stopped_by_hand(&mut world),
            End::WantedUp => wanted_up(&mut world),
            End::Shutdown => self.shut_down(&mut world, &[]),
            End::ShutdownGoesOn => {
                self.shut_down(&mut world, &[Op::Crash(Crash { keel: false, ..self.crash })])
            }
            End::InterruptedShutdown => {
                world.run(&Op::Shutdown);
                self.after.iter().for_each(|op| world.run(op));
                world.run(&fresh);
                if world.service.wanted == Wanted::Up {
                    wanted_up(&mut world);
                } else {
                    world.settle();
                    assert!(matches!(world.service.state, State::Stopped { .. }), "{:?}", world.service);
                }
            }
        }
        world.steps
    }

    fn stopped_by_hand(&self, world: &mut World) {
        world.run(&Op::Down(Down::Hand));
        world.settle();
        let creates = world.creates;
        assert!(matches!(world.service.state, State::Stopped { .. }), "{:?}", world.service);
        assert!(world.is_quiet(), "{world:?}");
        let wish = |op: &&Op| !matches!(op, Op::Up(_) | Op::Restart(_) | Op::AddAgain(..));
        self.after.iter().filter(wish).for_each(|op| world.run(op));
        assert_eq!(world.creates, creates, "it was stopped by hand");
    }

    fn shut_down(&self, world: &mut World, then: &[Op]) {
        let wanted = world.service.wanted;
        world.run(&Op::Shutdown);
        let creates = world.creates;
        let keel_lives = |op: &Op| match op {
            Op::Crash(crash) => Op::Crash(Crash { keel: false, ..*crash }),
            Op::CrashInside(done, crash) => Op::CrashInside(*done, Crash { keel: false, ..*crash }),
            op => op.clone(),
        };
        self.after.iter().map(keel_lives).for_each(|op| world.run(&op));
        then.iter().for_each(|op| world.run(op));
        world.settle();
        assert!(world.service.state.is_at_rest(), "{:?}", world.service);
        assert!(world.is_quiet(), "{world:?}");
        assert_eq!(world.creates, creates, "a start during a shutdown");
        let told =
            wanted == Wanted::Down(Down::Removed) || self.after.iter().any(|op| matches!(op, Op::Down(_)));
        assert!(told || world.service.wanted == wanted, "a shutdown is no wish about a service");
    }
}

fn wanted_up(world: &mut World) {
    world.run(&Op::Up(Up::Hand));
    assert_eq!(world.service.wanted, Wanted::Up);
    world.settle();
    let state = &world.service.state;
    assert!(world.is_quiet() || matches!(state, State::Running { .. }), "{world:?}");
    assert!(
        matches!(
            state,
            State::Running { .. }
                // Scheduled: a new config came while it was being stopped, by which it begins by time.
                | State::Stopped { why: Rest::Finished | Rest::Scheduled }
                | State::Failed { why: Failure::Attempts(_) | Failure::StartTimeout | Failure::Exit(_) }
                | State::Failed { why: Failure::Problem(_) | Failure::Oom | Failure::Unhealthy }
        ),
        "{:?}",
        world.service
    );
}

/// Scripts that fail, fewer and fewer operations of them.
fn shortened(mut script: Script) -> Script {
    let fails = |script: &Script| catch_unwind(AssertUnwindSafe(|| script.play())).is_err();
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let parts: [fn(&mut Script) -> &mut Vec<Op>; 2] =
        [|script| &mut script.before, |script| &mut script.after];
    for part in parts {
        let mut at = 0;
        while at < part(&mut script).len() {
            let mut shorter = script.clone();
            part(&mut shorter).remove(at);
            if fails(&shorter) {
                script = shorter;
            } else {
                at += 1;
            }
        }
    }
    std::panic::set_hook(loud);
    script
}

/// Until the machine has taken so many steps.
#[allow(clippy::disallowed_methods)] // the test's own seed; the machine reads no environment
fn simulate(steps: u64) {
    let given = std::env::var("SAMPAN_SIMULATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = given.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() << 24);
    let (mut taken, mut seed) = (0, first);
    while taken < steps {
        let script = Script::new(seed);
        match catch_unwind(AssertUnwindSafe(|| script.play())) {
            Ok(more) => taken += more,
            Err(panic) => {
                eprintln!("the shortest script that was found to fail: {:?}", shortened(script));
                eprintln!("SAMPAN_SIMULATE_SEED={seed} fails");
                std::panic::resume_unwind(panic);
            }
        }
        if given.is_some() {
            return;
        }
        seed += 1;
    }
    eprintln!("{taken} steps, seeds {first} to {seed}");
}

#[test]
fn a_million_random_events() {
    simulate(1_000_000);
}

/// `make simulate`.
#[test]
#[ignore = "takes minutes: make simulate"]
fn ten_million_random_events() {
    simulate(10_000_000);
}
