//! The server over a chat that knows its answer: one-shot through `app()`, and through sockets where time and connections
//! matter.

mod about;
mod attacks;
mod completions;
mod fake;
mod messages;
mod pictures;
mod remote;
mod responses;
mod sockets;
mod tools;
mod worker;
