//! The plan of a process that goes into a user namespace, and waits there until its gate is closed: whoever cloned it reads what
//! ids there are. Its slots are the report, the namespace and the gate.

use crate::build::Build;
use crate::order::finish;
use crate::plan::{Parent, Plan};
use crate::slots::{Gate, SlotSource};
use sampan_child::step::{Numbers, Step, mark};
use sampan_child::sys::uapi::CLONE_NEWUSER;

pub fn visitor(path: &str, field: &str) -> Plan<'static> {
    let b = &mut Build::default();
    b.slot(SlotSource::Report);
    let (path, kind) = (path.to_owned(), CLONE_NEWUSER);
    let ns = b.slot(SlotSource::Namespace { path, kind, field: field.to_owned(), set_in: None });
    let from = b.slot(SlotSource::Gate(Gate::Maps));
    b.step("", Step::Close { first: 0, keep: Numbers::default() });
    // Its memory is a copy of ours.
    b.step("", Step::Undumpable {});
    b.step(field, Step::Setns { ns, kinds: kind });
    b.step("", Step::Reached { mark: mark::NAMESPACES });
    b.step("", Step::Wait { from });
    finish(b, Parent::default())
}
