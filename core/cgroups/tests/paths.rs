//! `cgroupsPath`, as the cgroupfs driver reads it.

use proptest::prelude::*;
use sampan_cgroups::CgroupsPath;

fn place(path: Option<&str>) -> String {
    match CgroupsPath::parse(path, "web") {
        Ok(CgroupsPath::Absolute(path)) => format!("/{path}"),
        Ok(CgroupsPath::Relative(path)) => format!("own/{path}"),
        Err(e) => format!("error: {}", e.sentence()),
    }
}

#[test]
fn without_a_path_a_container_goes_to_the_root() {
    assert_eq!(place(None), "/web");
    assert_eq!(place(Some("")), "/web");
}

#[test]
fn a_path_is_cleaned() {
    assert_eq!(place(Some("/sampan//a/./b/")), "/sampan/a/b");
    assert_eq!(place(Some("a/b")), "own/a/b");
}

#[test]
fn slice_prefix_name_is_an_ordinary_name_for_cgroupfs() {
    assert_eq!(place(Some("system.slice:runc:web")), "own/system.slice:runc:web");
}

#[test]
fn what_could_leave_the_group_or_hide_in_it_is_refused() {
    assert_eq!(
        place(Some("/a/../../etc")),
        r#"error: cannot use the control group path "/a/../../etc": it must not contain "..""#
    );
    assert_eq!(
        place(Some("/")),
        r#"error: cannot use the control group path "/": it names the root of the hierarchies, which cannot hold a container"#
    );
    assert!(place(Some("/a\nb")).contains("line break"));
    assert!(place(Some(&format!("/{}", "x".repeat(256)))).contains("longer than 255"));
}

proptest! {
    #[test]
    fn no_path_leads_out(path in "[/.a-c]{0,12}") {
        match CgroupsPath::parse(Some(&path), "id") {
            Ok(CgroupsPath::Absolute(p) | CgroupsPath::Relative(p)) => {
                prop_assert!(p.split('/').all(|c| !c.is_empty() && c != "." && c != ".."), "{path} -> {p}");
            }
            Err(_) => prop_assert!(path.contains("..") || path.chars().all(|c| "/.".contains(c)), "{path}"),
        }
    }
}
