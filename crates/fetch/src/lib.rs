//! What comes from other machines: models of a hub, kept where other programs look for them too, and the TLS that all of it goes
//! through.
//!
//! A hub is whatever answers as <https://huggingface.co/docs/hub/api> says. [`Hub::plan`] asks it which files a model has and
//! chooses those that a model is run with; [`Hub::fetch`] brings what is not here yet. Every file is checked against the
//! checksum in the hub's list before it gets its name, so a file that is there is whole. A download that was broken off goes on
//! where it ended.
//!
//! The cache has the layout that the hub's own tools use ([`Cache`]): what they have downloaded is found, and they find what
//! came from here.

mod cache;
mod choice;
mod connection;
mod download;
mod error;
mod hub;
mod listing;
mod name;
pub mod tls;

pub use cache::{Cache, Kept};
pub use error::FetchError;
pub use hub::{Event, Hub, Plan, Settings};
pub use name::ModelName;
