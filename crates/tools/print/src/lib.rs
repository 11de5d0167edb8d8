//! What etcd's command lines have in common: a table of commands and flags that drives
//! parser, help and completion, and the forms that Go prints values in.

pub mod args;
pub mod completion;
pub mod duration;
pub mod json;
pub mod number;
pub mod quote;
pub mod size;
pub mod table;
