//! Deflated streams in files: where they are, and what stands around them.

/// What stands around a deflated stream and follows from its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrapper {
    /// Nothing: a member of a zip archive, whose checksum stands elsewhere.
    Plain,
    /// Checksum and length after the stream. The header before it is raw.
    Gzip,
    /// The `IDAT` chunks of an image, all with as much data but the last, around a zlib stream.
    Png {
        /// The header of the zlib stream.
        zlib_header: [u8; 2],
        /// Data of every chunk but the last.
        chunk_bytes: u32,
    },
}

/// A deflated stream in a file, with its wrapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Where it begins.
    pub offset: u64,
    /// Its length, deflated and wrapped.
    pub len: u64,
    /// Its length inflated.
    pub inflated_len: u64,
    /// What stands around it.
    pub wrapper: Wrapper,
}

impl Member {
    /// Where it ends, if that is a number.
    pub fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.len)
    }
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Bytes as they are.
    Raw {
        /// Where they begin.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// A deflated stream.
    Deflated(Member),
}

impl Part {
    /// How many bytes of the file it is.
    pub fn len(&self) -> u64 {
        match self {
            Part::Raw { len, .. } => *len,
            Part::Deflated(member) => member.len,
        }
    }

    /// Is it nothing?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it begins in the file.
    pub fn offset(&self) -> u64 {
        match self {
            Part::Raw { offset, .. } => *offset,
            Part::Deflated(member) => member.offset,
        }
    }

    /// How many bytes it has once it is inflated.
    pub fn shown(&self) -> u64 {
        match self {
            Part::Raw { len, .. } => *len,
            Part::Deflated(member) => member.inflated_len,
        }
    }
}
