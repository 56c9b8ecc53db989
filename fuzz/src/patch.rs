//! Old and new files, and what is said to be a segment, from fuzz input.

/// What one input says.
#[derive(Debug, Default)]
pub struct Input {
    /// Which level a patch is built at.
    pub level: u8,
    /// About how many bytes one of its segments makes.
    pub segment: u16,
    /// Old files.
    pub old: Vec<Vec<u8>>,
    /// New files.
    pub new: Vec<Vec<u8>>,
    /// Header of a segment.
    pub header: Vec<u8>,
    /// Its body.
    pub body: Vec<u8>,
    /// The views that it reads.
    pub views: Vec<u8>,
}

/// Reads an input: level, segment, then pieces of a kind, a length and as many bytes. The last one may be cut.
pub fn read(data: &[u8]) -> Input {
    let mut input = Input::default();
    let [level, low, high, rest @ ..] = data else { return input };
    (input.level, input.segment) = (*level, u16::from_le_bytes([*low, *high]));
    let mut rest = rest;
    while let [kind, low, high, bytes @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(bytes.len());
        let (piece, after) = bytes.split_at(length);
        let piece = piece.to_vec();
        match kind % 5 {
            0 => input.old.push(piece),
            1 => input.new.push(piece),
            2 => input.header = piece,
            3 => input.body = piece,
            _ => input.views = piece,
        }
        rest = after;
    }
    input
}

/// The input that reads as this.
pub fn write(input: &Input) -> Vec<u8> {
    let mut out = vec![input.level];
    out.extend(input.segment.to_le_bytes());
    let singles = [(2, &input.header), (3, &input.body), (4, &input.views)];
    let files = input.old.iter().map(|file| (0, file)).chain(input.new.iter().map(|file| (1, file)));
    for (kind, piece) in singles.into_iter().chain(files) {
        out.push(kind);
        out.extend((piece.len() as u16).to_le_bytes());
        out.extend_from_slice(piece);
    }
    out
}
