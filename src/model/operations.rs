//! What a patch of the service manifest does.

/// Replace and delete lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchOperations {
    /// What is replaced.
    pub replace: ReplaceOperations,
    /// What is deleted.
    pub delete: DeleteOperations,
}
/// What is replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplaceOperations;
/// What is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOperations;
