//! The command line: one table of flags ([`table`]); the parser, the help, the man page and the completions are made of it.

pub mod table;
mod args;
mod asked;
mod help;
mod options;
mod render;
pub mod verbs;
