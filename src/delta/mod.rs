//! What differs between old and new content, and how new content is made of old.

pub mod archive;
