//! The layout of the journal file.
