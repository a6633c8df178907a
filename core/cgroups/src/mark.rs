//! Whose a control group is: the container's that was put into it last. One that has ended may have left its group, empty, and
//! another one takes it; the first one's state still names the group, and its inode is the same.
//!
//! The mark is an extended attribute of the group's folder, of a kind that only the host's root can set (xattr(7)): a container to
//! which its group is delegated must not change who may end it. A group without a mark was marked by nobody.

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr};

use crate::cgroup::Cgroup;

const NAME: &str = "trusted.sampan.container";

/// A container's mark on its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// No two containers have the same.
    pub number: u64,
    /// The group was made for a container, this one or an earlier one; else somebody else had made it.
    pub made: bool,
}

impl Mark {
    fn text(self) -> String {
        format!("{} {:016x}", if self.made { "made" } else { "used" }, self.number)
    }

    fn parse(text: &[u8]) -> Option<Mark> {
        let (made, number) = std::str::from_utf8(text).ok()?.split_once(' ')?;
        let made = match made {
            "made" => true,
            "used" => false,
            _ => return None,
        };
        Some(Mark { number: u64::from_str_radix(number, 16).ok()?, made })
    }
}

impl Cgroup<'_> {
    pub fn mark(&self) -> Option<Mark> {
        let folder = self.primary()?.folder().ok()?;
        let mut text = [0; 32];
        let length = fgetxattr(folder, NAME, &mut text).ok()?;
        Mark::parse(text.get(..length)?)
    }

    /// In place of any other. False: this kernel, or we, cannot.
    pub fn set_mark(&self, mark: Mark) -> bool {
        let folder = self.primary().and_then(|group| group.folder().ok());
        folder.is_some_and(|folder| {
            fsetxattr(folder, NAME, mark.text().as_bytes(), XattrFlags::empty()).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nothing_else_is_one() {
        for mark in [Mark { number: 0, made: true }, Mark { number: u64::MAX, made: false }] {
            assert_eq!(Mark::parse(mark.text().as_bytes()), Some(mark));
        }
        for text in ["", "made", "made ", "made x", "\u{ff} 1"] {
            assert_eq!(Mark::parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
