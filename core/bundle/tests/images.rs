//! Services from images: what the image says below the service, and what its container sees.

use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use sampan_bundle::image::{self, Used};
use sampan_config::schema::{Probe, Service, TestCommand};
use sampan_image::import::Import;
use sampan_image::progress::Silent;
use sampan_image::{Limits, Platform, Store};
use sampan_testkit::{Folder, need};
use serde_json::{Value, json};

use super::real::run;
use super::try_of;

fn ready() -> bool {
    need::root() && need::busybox()
}

/// The image `app` in the store, of two layers, and a service `web` from it.
fn folder(config: &Value, keys: &str) -> Folder {
    let folder = Folder::new()
        .with("config.toml", &format!("[services.web]\nimage = \"app\"\n{keys}\n"))
        .with("low/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
        .with("low/tmp/.keep", "")
        .with("low/data/.keep", "")
        .with("high/etc/passwd", "root:x:0:0::/root:/bin/sh\nwww:x:33:34::/srv/www:/bin/sh\n")
        .with("high/etc/group", "www:x:34:\n");
    chown(folder.path("low/data"), Some(33), Some(34)).unwrap();
    std::fs::create_dir_all(folder.path("low/bin")).unwrap();
    std::fs::copy(sampan_testkit::bundle::BUSYBOX, folder.path("low/bin/sh")).unwrap();
    import(&folder, config);
    folder
}

fn import(folder: &Folder, config: &Value) {
    let layers = [folder.path("low"), folder.path("high")];
    let layers = [layers[0].as_path(), layers[1].as_path()];
    let archive = sampan_testkit::image::archive(&folder.0, "app", config, &layers).unwrap();
    let store = Store::open(&folder.path("var/images")).unwrap();
    let (limits, platform) = (Limits::default(), Platform::host());
    let import = Import { store: &store, limits, platform: &platform, progress: &Silent, name: None };
    import.path(&archive).unwrap();
}

fn script(text: &str) -> Value {
    json!({ "Entrypoint": ["/bin/sh", "-c"], "Cmd": [text] })
}

#[test]
fn the_image_says_what_the_service_does_not() {
    if !ready() {
        return;
    }
    let image = json!({
        "Entrypoint": ["/entry"], "Cmd": ["serve"], "Env": ["A=image", "B=image"], "User": "www",
        "WorkingDir": "/data", "Volumes": { "/data": {}, "/own/": {} },
    });
    let folder = folder(&image, "environment = { B = \"service\" }\ntmpfs = [\"/own\"]");
    let spec = try_of(&folder).unwrap().spec;
    assert_eq!(spec["process"]["args"], json!(["/entry", "serve"]));
    assert_eq!(spec["process"]["cwd"], "/data");
    assert_eq!(spec["process"]["user"], json!({ "uid": 33, "gid": 34 }));
    let env = spec["process"]["env"].as_array().unwrap();
    for entry in ["A=image", "B=service", "HOME=/srv/www"] {
        assert!(env.contains(&json!(entry)), "{env:?}");
    }
    // The volume is as the folder of the image is; where the service mounts something itself there is none.
    let mounts: Vec<&str> =
        spec["mounts"].as_array().unwrap().iter().filter_map(|m| m["source"].as_str()).collect();
    let volume = folder.path("var/volumes/web+data");
    assert!(mounts.contains(&volume.to_str().unwrap()), "{mounts:?}");
    let made = std::fs::metadata(&volume).unwrap();
    assert_eq!((made.uid(), made.gid()), (33, 34));
    assert!(!folder.path("var/volumes/web+own").exists());
}

#[test]
fn the_services_own_keys_win_and_an_entrypoint_drops_the_images_command() {
    if !ready() {
        return;
    }
    let image = json!({ "Entrypoint": ["/entry"], "Cmd": ["serve"], "User": "www", "WorkingDir": "/data" });
    let args = |keys: &str| try_of(&folder(&image, keys)).map(|b| b.spec["process"]["args"].clone());
    assert_eq!(args("command = [\"other\"]").unwrap(), json!(["/entry", "other"]));
    assert_eq!(args("entrypoint = [\"/mine\"]").unwrap(), json!(["/mine"]));
    assert_eq!(args("entrypoint = \"/mine\"\ncommand = \"x\"").unwrap(), json!(["/mine", "x"]));
    let spec = try_of(&folder(&image, "user = \"5:6\"\nworking_dir = \"/tmp\"")).unwrap().spec;
    assert_eq!((&spec["process"]["user"]["uid"], &spec["process"]["cwd"]), (&json!(5), &json!("/tmp")));
    let error = try_of(&folder(&json!({}), "")).unwrap_err().to_string();
    assert!(error.contains("it names no program\n  add command"), "{error}");
}

#[test]
fn an_image_that_is_not_here_says_so() {
    let folder = Folder::new().with("config.toml", "[services.web]\nimage = \"app\"\n");
    let error = try_of(&folder).unwrap_err().to_string();
    assert!(error.starts_with("web: image: cannot use app: "), "{error}");
    assert!(!image::is_here(&folder.path("var"), "app").unwrap());
}

#[test]
fn its_life_is_led_by_the_images_stop_signal_and_health_check() {
    if !ready() {
        return;
    }
    let image = json!({
        "Cmd": ["x"], "StopSignal": "SIGQUIT", "ExposedPorts": { "80/tcp": {} },
        "Healthcheck": { "Test": ["CMD-SHELL", "true"], "Interval": 2_000_000_000u64 },
    });
    let led = |keys: &str| {
        let folder = folder(&image, keys);
        let used = Used::of(&try_of(&folder).unwrap().spec).unwrap();
        let config = super::config(&folder, "config.toml");
        assert!(image::is_here(&folder.path("var"), "app").unwrap());
        assert!(used.digest.starts_with("sha256:"));
        assert_eq!((used.reference.as_str(), &used.exposed_ports[..]), ("app", &["80/tcp".to_owned()][..]));
        used.leads(&config.services["web"]).map(|service| Service::clone(&service))
    };
    let service = led("").unwrap();
    assert_eq!(service.stop_signal.0, libc::SIGQUIT);
    let check = service.healthcheck.unwrap();
    assert_eq!(check.probe, Probe::Test(TestCommand::Shell("true".into())));
    assert_eq!((check.interval.as_secs(), check.timeout.as_secs(), check.retries), (2, 30, 3));
    let service = led("stop_signal = \"SIGINT\"\nhealthcheck = \"none\"").unwrap();
    assert_eq!((service.stop_signal.0, service.healthcheck), (libc::SIGINT, None));
    let without = folder(&json!({ "Cmd": ["x"] }), "notify = \"healthy\"");
    let used = Used::of(&try_of(&without).unwrap().spec).unwrap();
    let error = used.leads(&super::config(&without, "config.toml").services["web"]).unwrap_err();
    assert!(error.contains("neither the service nor its image"), "{error}");
}

#[test]
fn a_root_that_may_be_written_to_is_kept_until_another_image() {
    if !ready() {
        return;
    }
    let count = script("echo x >> /etc/count; echo $(cat /etc/count); mkdir -p /var/lib/new");
    let folder = folder(&count, "network_mode = \"none\"");
    assert_eq!(run(&folder, "image-rw-1"), ("x\n".into(), 0));
    assert_eq!(run(&folder, "image-rw-2"), ("x x\n".into(), 0));
    import(&folder, &script("echo other $(cat /etc/count 2>&1 || echo none)"));
    let (text, _) = run(&folder, "image-rw-3");
    assert!(text.starts_with("other"), "{text}");
    assert!(!text.contains('x'), "{text}");
    let layers = folder.path("var/images/layers");
    let of = |layer: std::fs::DirEntry| layer.path().join("etc/count").exists();
    assert!(!std::fs::read_dir(layers).unwrap().flatten().any(of));
}

#[test]
fn read_only_and_scratch_keep_nothing() {
    if !ready() {
        return;
    }
    let text =
        "touch /etc/x 2>/dev/null && echo open || echo closed; : > /tmp/x && : > /mnt/new/x && echo volumes";
    let keys = |mode: &str, folder: &str| {
        format!("network_mode = \"none\"\nrootfs.mode = \"{mode}\"\nvolumes = [\"{folder}:/mnt/new\"]")
    };
    let data = Folder::new();
    let of = |mode: &str| folder(&script(text), &keys(mode, data.0.to_str().unwrap()));
    let ro = of("ro");
    assert_eq!(run(&ro, "image-ro"), ("closed\nvolumes\n".into(), 0));
    let scratch = of("scratch");
    assert_eq!(run(&scratch, "image-scratch"), ("open\nvolumes\n".into(), 0));
    for folder in [ro, scratch] {
        assert!(!Path::new(&folder.path("var/images/roots")).exists());
    }
}
