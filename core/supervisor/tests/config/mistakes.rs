//! Mistakes and what is said about them.

use super::Folder;

#[test]
fn ten_mistakes_get_ten_messages_at_once() {
    let folder = Folder::new().with("config.toml", include_str!("ten_mistakes.toml"));
    assert_eq!(folder.check(&["config.toml"]), include_str!("ten_mistakes.txt"));
}
