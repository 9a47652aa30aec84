//! What the files of several families share: reading keys, towers, keys of preprocessors, conversations.

pub(super) mod conversations;
pub(super) mod keys;
pub(super) mod pictures;
pub(super) mod towers;
