//! Device rules: the v2 program and the v1 writes against the plain reading of the list.

use proptest::prelude::*;
use sampan_cgroups::devices::{Kind, MKNOD, Program, READ, Rule, Rules, V1, WRITE};
use sampan_plan::spec::Resources;

fn rules(json: &str) -> Rules {
    let text = format!(r#"{{"devices":{json}}}"#);
    Rules::new(&Resources::parse(&text).unwrap().devices).unwrap()
}

fn writes(json: &str) -> String {
    match V1::new(&rules(json)) {
        Ok(state) => {
            state.writes(None).iter().map(|(f, v)| format!("{f} {v}")).collect::<Vec<_>>().join("; ")
        }
        Err(e) => e.to_string(),
    }
}

const DENY_ALL: &str = r#"{"allow":false,"access":"rwm"}"#;

#[test]
fn v1_denies_all_and_allows_what_every_container_needs() {
    assert_eq!(
        writes(&format!("[{DENY_ALL}]")),
        "devices.deny a; devices.allow b *:* m; devices.allow c *:* m; devices.allow c 1:3 rwm; devices.allow c 1:5 rwm; \
         devices.allow c 1:7 rwm; devices.allow c 1:8 rwm; devices.allow c 1:9 rwm; devices.allow c 5:0 rwm; \
         devices.allow c 5:2 rwm; devices.allow c 136:* rwm"
    );
    assert_eq!(writes("[]"), writes(&format!("[{DENY_ALL}]")), "no rule denies as well");
}

#[test]
fn a_privileged_container_is_one_write() {
    assert_eq!(writes(r#"[{"allow":true,"access":"rwm"}]"#), "devices.allow a");
}

#[test]
fn v1_says_what_it_cannot_express() {
    let hole = r#"[{"allow":true,"type":"c","major":10,"access":"rw"},{"allow":false,"type":"c","major":10,"minor":200,"access":"w"}]"#;
    assert!(writes(hole).contains("cgroups v1 cannot express that"), "{}", writes(hole));
    // The other way round it can: allow by default, with an exception; null stays allowed by the defaults.
    let open = r#"[{"allow":true},{"allow":false,"type":"c","major":10,"minor":200,"access":"rwm"}]"#;
    assert_eq!(writes(open), "devices.allow a; devices.deny c 10:200 rw");
}

#[test]
fn an_update_writes_the_smallest_change() {
    let now = V1::read(
        "b *:* m\nc *:* m\nc 1:3 rwm\nc 1:5 rwm\nc 1:7 rwm\nc 1:8 rwm\nc 1:9 rwm\nc 5:0 rwm\nc 5:2 rwm\nc 136:* rwm\nc 10:200 rw\n",
    );
    let wanted = V1::new(&rules(r#"[{"allow":true,"type":"c","major":195,"access":"rw"}]"#)).unwrap();
    assert_eq!(
        wanted.writes(Some(&now)),
        [("devices.deny", "c 10:200 rw".to_owned()), ("devices.allow", "c 195:* rw".to_owned())]
    );
    assert_eq!(wanted.writes(Some(&wanted)), []);
}

/// runc's own tests write "rwa" for all devices.
#[test]
fn the_letter_a_is_for_a_rule_of_all_devices() {
    let of = |kind: &str, access: &str| {
        writes(&format!(r#"[{{"allow":false}},{{"allow":true,"type":"{kind}","access":"{access}"}}]"#))
    };
    assert_eq!(of("a", "rwa"), of("a", "rwm"));
    assert_eq!(of("c", "rwa"), of("c", "rw"));
}

#[test]
fn a_rule_that_cannot_be_is_named() {
    let parse = |json: &str| {
        let text = format!(r#"{{"devices":[{json}]}}"#);
        Rules::new(&Resources::parse(&text).unwrap().devices).unwrap_err().to_string()
    };
    assert!(
        parse(r#"{"allow":true,"type":"x"}"#).starts_with("linux.resources.devices[0].type: \"x\" is not")
    );
    assert!(parse(r#"{"allow":true,"access":"rx"}"#).starts_with("linux.resources.devices[0].access"));
    assert!(parse(r#"{"allow":true,"major":-2}"#).starts_with("linux.resources.devices[0].major: -2"));
}

/// The list as the specification reads it: for each bit the last rule that covers the request.
fn allows(rules: &Rules, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
    [MKNOD, READ, WRITE].iter().filter(|bit| access & **bit != 0).all(|bit| {
        let covers = |r: &&Rule| {
            r.access & bit != 0
                && r.kind.is_none_or(|k| k == kind)
                && r.major.is_none_or(|m| m == major)
                && r.minor.is_none_or(|m| m == minor)
        };
        rules.iter().filter(covers).last().is_some_and(|r| r.allow)
    })
}

/// Runs the few instructions that the program uses. Panics where the verifier would refuse it.
fn run(program: &Program, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
    let context = [u32::from(access) << 16 | if kind == Kind::Block { 1 } else { 2 }, major, minor];
    let mut registers = [0_u32; 6];
    let mut at = 0;
    loop {
        let word = program.instructions()[at];
        let (code, dst, src) = (word as u8, (word >> 8 & 15) as usize, (word >> 12 & 15) as usize);
        let (offset, value) = ((word >> 16) as i16, (word >> 32) as u32);
        at += 1;
        match code {
            0x61 => registers[dst] = context[offset as usize / 4],
            0xb4 => registers[dst] = value,
            0xbc => registers[dst] = registers[src],
            0x54 => registers[dst] &= value,
            0x74 => registers[dst] >>= value,
            0x15 if registers[dst] == value => at += offset as usize,
            0x55 if registers[dst] != value => at += offset as usize,
            0x15 | 0x55 => {}
            0x95 => return registers[0] != 0,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

/// The kernel's reading of a v1 group: exceptions to a default.
fn v1_allows(rules: &Rules, kind: Kind, major: u32, minor: u32, access: u8) -> Option<bool> {
    let writes = V1::new(rules).ok()?.writes(None);
    let default = writes[0].0 == "devices.allow";
    let covers = |value: &str, wanted: u8| {
        let mut parts = value.split([' ', ':']);
        let kind_fits = parts.next() == Some(if kind == Kind::Block { "b" } else { "c" });
        let fits = |part: Option<&str>, n: u32| part == Some("*") || part == Some(&n.to_string());
        let numbers_fit = fits(parts.next(), major) & fits(parts.next(), minor);
        let letters = parts.next().unwrap();
        let bits = [(1, 'm'), (2, 'r'), (4, 'w')]
            .iter()
            .fold(0, |a, (b, l)| if letters.contains(*l) { a | b } else { a });
        if kind_fits && numbers_fit { bits & wanted } else { 0 }
    };
    // One bit at a time: requests for several are allowed when each is.
    Some([1, 2, 4].iter().filter(|b| access & **b != 0).all(|b| {
        let excepted = writes[1..].iter().any(|(_, v)| covers(v, *b) != 0);
        excepted != default
    }))
}

fn any_rule() -> impl Strategy<Value = String> {
    let number = prop_oneof![Just(-1_i64), 0_i64..3, Just(136)];
    (any::<bool>(), "[abc]", number.clone(), number, "[rwm]{1,3}").prop_map(
        |(allow, kind, major, minor, access)| {
            format!(
                r#"{{"allow":{allow},"type":"{kind}","major":{major},"minor":{minor},"access":"{access}"}}"#
            )
        },
    )
}

proptest! {
    #[test]
    fn program_and_files_answer_as_the_list_says(
        list in prop::collection::vec(any_rule(), 0..6),
        block in any::<bool>(), major in 0_u32..4, minor in 0_u32..10, access in 1_u8..8,
    ) {
        let rules = rules(&format!("[{}]", list.join(",")));
        let kind = if block { Kind::Block } else { Kind::Char };
        let expected = allows(&rules, kind, major, minor, access);
        prop_assert_eq!(run(&Program::new(&rules), kind, major, minor, access), expected);
        if let Some(v1) = v1_allows(&rules, kind, major, minor, access) {
            prop_assert_eq!(v1, expected);
        }
    }
}
