//! The heap and the copies of `sampan` (src/heap.rs, src/copy.rs), in a program that uses nothing else: at the levels of optimization
//! at which they are built.

use std::fs;
use std::path::Path;
use std::process::Command;

use sampan_testkit::{Folder, need};

/// Its own memcpy and memmove stand before libc's. What they should do is done a byte at a time.
const PROGRAM: &str = r##"
#[path = "SRC/copy.rs"]
mod copy;
#[path = "SRC/heap.rs"]
mod heap;

#[global_allocator]
static HEAP: heap::Heap = heap::Heap::new();

unsafe extern "C" {
    fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8;
    fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8;
}

fn numbered() -> [u8; 1024] {
    std::array::from_fn(|i| (i * 7 % 251) as u8)
}

fn copies() {
    for n in 0..300 {
        for shift in 0..17 {
            let from = numbered();
            let mut to = [0u8; 1024];
            let end = unsafe { memcpy(to.as_mut_ptr().add(shift), from.as_ptr().add(3), n) };
            assert_eq!(end, to[shift..].as_mut_ptr());
            for i in 0..1024 {
                let inside = (shift..shift + n).contains(&i);
                assert_eq!(to[i], if inside { from[3 + i - shift] } else { 0 }, "memcpy {n} {shift} {i}");
            }
        }
    }
    for n in 0..300usize {
        for (to, from) in [(300, 300), (301, 300), (300, 301), (300 + n / 2, 300), (300, 300 + n / 2), (300 + n, 300)] {
            let before = numbered();
            let mut all = before;
            unsafe { memmove(all.as_mut_ptr().add(to), all.as_ptr().add(from), n) };
            for i in 0..1024 {
                let inside = (to..to + n).contains(&i);
                assert_eq!(all[i], if inside { before[from + i - to] } else { before[i] }, "memmove {n} {to} {from} {i}");
            }
        }
    }
}

/// Vectors that grow, shrink and go in any order, beyond the piece too: each keeps what is its own.
fn heap() {
    let mut all: Vec<(u8, Vec<u8>)> = Vec::new();
    let mut random = 1u32;
    for round in 0..40_000u32 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (pick, size) = (random as usize >> 8, (random >> 16) as usize % 300);
        match random >> 29 {
            0..4 => all.push((round as u8, vec![round as u8; size])),
            4..6 if !all.is_empty() => {
                let at = pick % all.len();
                let (byte, vec) = &mut all[at];
                vec.resize(size * 3, *byte);
                vec.shrink_to_fit();
            }
            _ if !all.is_empty() => {
                let (byte, vec) = all.swap_remove(pick % all.len());
                assert!(vec.iter().all(|b| *b == byte));
            }
            _ => {}
        }
        if all.len() > 900 {
            all.truncate(100);
        }
    }
    assert!(all.iter().all(|(byte, vec)| vec.iter().all(|b| b == byte)));
    let aligned: Vec<Box<Aligned>> = (0..20).map(|i| Box::new(Aligned([i; 64]))).collect();
    assert!(aligned.iter().all(|a| (&raw const **a).addr() % 64 == 0));
    let big = vec![1u8; 4 << 20];
    assert_eq!(big.iter().map(|b| *b as usize).sum::<usize>(), 4 << 20);
}

#[repr(align(64))]
struct Aligned([u8; 64]);

fn main() {
    copies();
    heap();
    println!("as it should be");
}
"##;

/// What `make build` ships is musl's (.ci/static-target).
const MUSL: &str = "x86_64-unknown-linux-musl";

fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

fn has_musl() -> bool {
    let out = rustc().args(["--print", "target-libdir", "--target", MUSL]).output().unwrap();
    let folder = String::from_utf8(out.stdout).unwrap();
    let is_there = out.status.success() && Path::new(folder.trim()).is_dir();
    need::need(&format!("Rust's library for musl (rustup target add {MUSL})"), is_there)
}

/// Built for `target`, which is the host's if none is named, at each level, and run.
fn check(target: Option<&str>) {
    let folder = Folder::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    fs::write(folder.path("program.rs"), PROGRAM.replace("SRC", src.to_str().unwrap())).unwrap();
    for level in ["s", "z", "3"] {
        let mut build = rustc();
        build.current_dir(&folder.0).args([
            "--edition",
            "2024",
            "-A",
            "warnings",
            "-C",
            "debug-assertions=on",
        ]);
        build.args(target.iter().flat_map(|target| ["--target", target, "-C", "target-feature=+crt-static"]));
        let built = build.args(["-C", &format!("opt-level={level}"), "program.rs"]).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let out = Command::new(folder.path("program")).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert_eq!(said, "as it should be\n", "opt-level {level}: {}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn what_is_copied_and_allocated_is_what_it_should_be() {
    check(None);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn so_it_is_with_musl_and_static() {
    if has_musl() {
        check(Some(MUSL));
    }
}
