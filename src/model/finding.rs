//! `Finding`: one path that is not what it should be.

use crate::model::{Difference, TreePath};

/// One path that is not what it should be, and how.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Where.
    pub path: TreePath,
    /// How it differs from what should be there.
    pub difference: Difference,
}
