//! The command line: one table of flags ([`table`]); the parser, the help, the man page and the completions are made of it.

pub mod args;
pub mod help;
pub mod table;
pub mod verbs;
