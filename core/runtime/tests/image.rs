//! `sampan run --image`, with the program `sampan-image` beside it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use sampan_testkit::{Bundle, need};
use serde_json::json;

use crate::sampan::{Root, program, run};

fn done(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn sampan_image() -> Option<PathBuf> {
    let program = PathBuf::from(program()).with_file_name("sampan-image");
    need::need("sampan-image beside sampan (cargo build --workspace)", program.is_file()).then_some(program)
}

/// As docker saves it: one layer of busybox, and a config.
fn archive(bundle: &Bundle, config: serde_json::Value) -> PathBuf {
    let at = |name: &str| bundle.path().join(name);
    done(Command::new("tar").arg("-C").arg(bundle.rootfs()).arg("-cf").arg(at("layer.tar")).arg("."));
    let digest = done(Command::new("sha256sum").arg(at("layer.tar")));
    let diff_ids = [format!("sha256:{}", digest.split(' ').next().unwrap())];
    let config = json!({"config": config, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    fs::write(at("config.json"), config.to_string()).unwrap();
    let manifest =
        json!([{"Config": "config.json", "RepoTags": ["localhost/box:1"], "Layers": ["layer.tar"]}]);
    fs::write(at("manifest.json"), manifest.to_string()).unwrap();
    let names = ["manifest.json", "config.json", "layer.tar"];
    done(Command::new("tar").arg("-C").arg(bundle.path()).arg("-cf").arg(at("image.tar")).args(names));
    at("image.tar")
}

#[test]
fn an_image_runs_as_it_says_and_with_words_of_our_own() {
    let (true, true, Some(images)) = (need::root(), need::busybox(), sampan_image()) else { return };
    let bundle = Bundle::new("image").unwrap();
    let config = json!({
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo $GREETING $HOME; pwd; id -u; id -g"],
        "Env": ["PATH=/bin", "GREETING=hello"], "User": "user", "WorkingDir": "/etc",
    });
    fs::set_permissions(bundle.rootfs().join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let archive = archive(&bundle, config);
    let store = bundle.path().join("images");
    done(Command::new(images).arg("--store").arg(&store).args(["--progress", "none", "import"]).arg(archive));
    let root = Root::new("image");
    let sampan = |args: &[&str]| run(root.command(["run"]).args(args).env("SAMPAN_IMAGES", &store));
    let (code, out, err) = sampan(&["--image", "localhost/box:1"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "hello /home/user\n/etc\n1000\n1000\n", ""));
    // Behind its entrypoint, and nothing of it stays.
    for _ in 0..2 {
        let (code, out, err) =
            sampan(&["--image", "localhost/box:1", "box", "--", "ls /tmp; echo x >/tmp/x"]);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
    }
    let script =
        "echo $GREETING; pwd; id -u; (echo x >/etc/x) 2>/dev/null || echo no; echo x >/tmp/x && echo yes";
    let flags = ["--image", "localhost/box:1", "-e", "GREETING=bye", "-w", "/", "-u", "0", "--read-only"];
    let (code, out, err) = sampan(&[&flags[..], &["box", "--", script]].concat());
    assert_eq!((code, out.as_str(), err.as_str()), (0, "bye\n/\n0\nno\nyes\n", ""));
    let flags =
        ["--image", "localhost/box:1", "--init", "box", "--", "read a </proc/1/comm; echo $a $PPID; exit 3"];
    let (code, out, err) = sampan(&flags);
    assert_eq!((code, out.as_str(), err.as_str()), (3, "sampan-init 1\n", ""));
    let (code, _, err) = sampan(&["--image", "localhost:9/no/such:1"]);
    assert!(code == 1 && err.contains("it is not here, and sampan-image cannot pull it"), "{err}");
    let (code, _, err) = sampan(&["--image", "NO"]);
    assert!(code == 1 && err.contains("must be in small letters"), "{err}");
    let (code, _, err) = sampan(&["--image", "x", "--rootfs", "host"]);
    assert!(code == 1 && err.contains("either --rootfs or --image"), "{err}");
}
