//! The nouns: what a tree is made of, without a disk.

mod archive;
mod block_map;
mod digest;
mod finding;
mod manifest;
mod node;
mod operations;
mod package_info;
mod segment;
mod service_manifest;
mod tree_path;
mod version;

pub use archive::{Member, Part, Wrapper};
pub use block_map::BlockMap;
pub use digest::{Digest, Hasher};
pub use finding::Finding;
pub use manifest::{Entry, Manifest, ManifestChange, ManifestError};
pub use node::{Difference, Kind, Metadata, Node, Policy, Time, Xattrs};
pub use operations::{DeleteOperations, Operations, OperationsError, PatchOperations, ReplaceOperations};
pub use package_info::{FullPackageInfo, PackageInfoError, PatchPackageInfo};
pub use segment::{COVER_STREAMS, Coder, Extent, Load, Method, Pack, Region, Relocation, Rule, Segment, Source};
pub use service_manifest::{ServiceManifest, ServicePackages};
pub use tree_path::{PathError, TreePath};
pub use version::{Version, VersionError};
