//! state_dir on a disk that is full: services run, and start, and are logged when there is room.
use super::world::{Small, kill, library};
use super::{LIVE, World};

pub fn fill(disk: &Small) -> std::path::PathBuf {
    use std::io::Write;
    let path = disk.path().join("fill");
    let mut file = std::fs::File::create(&path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    path
}

#[test]
fn a_service_that_starts_on_a_full_disk_is_logged_when_there_is_room() {
    let mut world = world!("");
    let disk = Small::new(world.dir().join("state"), "2M");
    let logging = library("logging");
    let (head, talks) = (
        format!("[plugins.logging]\npath = \"{}\"\n[services.a]\n{LIVE}", logging.display()),
        r#"[services.talks]
command = ["/bin/sh", "-c", "trap 'echo last || exit 5; exit 37' USR1; echo first || exit 4; sleep 100000 & wait"]
stop_signal = "SIGKILL"
restart = "no"
"#,
    );
    world.configure(&head);
    world.start();
    world.until_state("a", "running");
    let hog = fill(&disk);
    world.configure(&format!("{head}{talks}"));
    world.ok(&["apply"]);
    world.until_state("talks", "running");
    world.until("it waits", |world: &World| world.processes("talks").len() == 2);
    std::fs::remove_file(hog).unwrap();
    kill(world.pid("talks"), libc::SIGUSR1);
    world.until_state("talks", "failed");
    assert_eq!(world.inspect("talks").status.exit_code, Some(37), "it could write");
    world.until("each line is in its log, or counted there as dropped", |world| {
        let ran = world.ctl(&["logs", "talks"]);
        let said = ["first", "last"].iter().filter(|line| ran.out.contains(**line)).count();
        said == 2 || ran.out.contains(&format!("dropped lines={}", 2 - said))
    });
}

/// run_dir fills at whichever step of the start: it says where, and nothing is left half started; or it runs.
#[test]
fn a_start_without_room_in_run_dir_fails_whole_and_says_where() {
    let (mut failed, mut ran) = (0, 0);
    for pages in 0..16 {
        let mut world = world!("[services.a]\n{LIVE}");
        let disk = Small::new(world.dir().join("run"), "256K");
        let hog = fill(&disk);
        let file = std::fs::File::options().write(true).open(&hog).unwrap();
        file.set_len(file.metadata().unwrap().len() - pages * 4096).unwrap();
        drop(file);
        world.spawn();
        let answers = |world: &World| world.get::<sampan_api::Version>("/v1/version").is_ok();
        let mut ended = false;
        world.until("it runs or ends", |world| {
            ended = !world.keel_lives();
            ended || answers(world)
        });
        if ended {
            failed += 1;
            assert_eq!(world.ended(), Some(1), "{pages}: {}", world.said());
            let said = world.said();
            let run = disk.path().display().to_string();
            let told = said.lines().any(|line| line.contains("ERROR") && line.contains(&run));
            assert!(told && said.contains("No space left"), "{pages}: {said}");
            let left: Vec<String> = world
                .leftovers()
                .into_iter()
                .filter(|left| !left.starts_with("mount ") && !left.starts_with("run "))
                .collect();
            assert_eq!(left, Vec::<String>::new(), "{pages}: {said}");
        } else {
            ran += 1;
            std::fs::remove_file(&hog).unwrap();
            world.ok(&["up"]);
            world.until_state("a", "running");
            assert_eq!(world.interrupt(), Some(0));
        }
        drop(disk);
    }
    assert!(failed > 0 && ran > 0, "{failed} failed, {ran} ran");
}
