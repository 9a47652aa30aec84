//! One file for each command: its arguments and what it does.

pub mod bench;
pub mod budgets;
pub mod chat;
pub mod completions;
pub mod convert;
pub mod data;
pub mod eval;
pub mod explain;
pub mod pull;
pub mod run;
pub mod serve;
pub mod tiles;
pub mod train;
pub mod tune;
pub mod verify;
