//! `image` and `pull`: what they resolve to, what of a service counts over its image, and what is said about mistakes in them.

use sampan_config::diff;
use sampan_config::schema::*;

use super::mistakes::check;
use super::{Folder, Load};

fn service(toml: &str) -> Service {
    let folder = Folder::new().with("c.toml", toml);
    let config = folder.config(&["c.toml"]);
    (*config.services["web"]).clone()
}

#[test]
fn an_image_needs_nothing_else_and_may_be_written_to() {
    let web = service("[services.web]\nimage = \"nginx\"\n");
    let image = |pull, mode| Source::Image(Image { reference: "nginx".into(), pull, mode });
    assert_eq!(web.source, image(Pull::Missing, RootMode::Rw));
    assert!(web.argv().is_empty());
    let web = service("[services.web]\nimage = \"nginx\"\npull = \"always\"\nread_only = true\n");
    assert_eq!(web.source, image(Pull::Always, RootMode::Ro));
    let web = service("[services.web]\nimage = \"nginx\"\npull = \"never\"\nrootfs.mode = \"scratch\"\n");
    assert_eq!(web.source, image(Pull::Never, RootMode::Scratch));
}

#[test]
fn what_a_service_or_the_defaults_say_counts_over_the_image() {
    let web = service(
        "[defaults]\nuser = \"5\"\nenvironment = { A = \"1\" }\n[services.web]\nimage = \"nginx\"\n\
         stop_signal = \"SIGINT\"\nhealthcheck.tcp = 80\n",
    );
    let said = ["user", "environment", "stop_signal", "healthcheck"];
    assert!(said.iter().all(|key| web.sets(key)), "{:?}", web.own);
    let not_said = ["command", "entrypoint", "working_dir"];
    assert!(!not_said.iter().any(|key| web.sets(key)), "{:?}", web.own);
}

#[test]
fn of_two_layers_the_upper_ones_root_stands() {
    let defaults = |keys: &str, own: &str| {
        service(&format!("[defaults]\n{keys}\n[services.web]\ncommand = \"a\"\n{own}\n")).source
    };
    let image = |mode| Source::Image(Image { reference: "a".into(), pull: Pull::Missing, mode });
    assert_eq!(defaults("rootfs = \"/r\"", "image = \"a\""), image(RootMode::Rw));
    assert_eq!(defaults("rootfs = \"/r\"", "image = \"a\"\nread_only = true"), image(RootMode::Ro));
    assert_eq!(defaults("image = \"a\"", "read_only = true"), image(RootMode::Ro));
    let root = Source::Rootfs(Rootfs { path: "/r".into(), mode: RootMode::Ro });
    assert_eq!(defaults("image = \"a\"", "rootfs = \"/r\""), root);
}

#[test]
fn another_image_is_another_container_and_another_pull_is_not() {
    let of = |keys: &str| format!("[services.web]\n{keys}\n");
    let folder = Folder::new()
        .with("1", &of("image = \"a\""))
        .with("2", &of("image = \"b\""))
        .with("3", &of("image = \"a\"\npull = \"never\""));
    let diff = |new| diff::show(&diff::diff(&folder.config(&["1"]), &folder.config(&[new])));
    assert_eq!(diff("2"), "web: restart (image)\n");
    assert_eq!(diff("3"), "web: next run (pull)\n");
}

#[test]
fn mistakes() {
    check(
        "[services.web]\nimage = \"a\"\nrootfs = \"/\"\n",
        &["2:1 services.web: two things to run [drop one: rootfs, bundle or image]"],
    );
    check(
        "[services.web]\nimage = \"a\"\nbundle = \"/\"\n",
        &["2:1 services.web: two things to run [drop one: rootfs, bundle or image]"],
    );
    check(
        "[services.web]\nrootfs = \"/\"\ncommand = [\"a\"]\npull = \"never\"\n",
        &["4:8 services.web.pull: there is no image [add image = \"NAME\" or drop pull]"],
    );
    check(
        "[services.web]\nimage = \"a\"\npull = \"newer\"\n",
        &["3:8 services.web.pull: no such answer [did you mean \"never\"? Else: missing, always]"],
    );
    check(
        "[services.web]\nimage = \"Nginx\"\n",
        &[
            "2:9 services.web.image: \"Nginx\" is no name of an image: \"Nginx\" must be in small letters (as in nginx, nginx:1.27, example.org/team/app:v2, nginx@sha256:..)",
        ],
    );
}
