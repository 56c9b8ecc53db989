//! Small files of text: an LZ coder with old files as its history often beats covers.

use super::cover::Cover;
use super::index::agreement;
use super::plan::clipped;
use super::streams::{self, Encoded};
use super::{Corpus, Level, Options};
use crate::delta::DeltaError;
use crate::model::Extent;
use rayon::prelude::*;
use std::collections::BTreeSet;

/// Largest file that is taken for small.
const SMALL: usize = 1 << 20;
/// Bytes at the beginning of a file that show whether it is text.
const SHOWN: usize = 4096;
/// Most bytes that one segment makes.
const OUTPUT: usize = 8 << 20;

/// New files and the segment that makes them.
type Group = (Vec<usize>, Encoded);

/// Whether a file is small, and text.
pub(super) fn is_text(corpus: &Corpus, file: usize) -> bool {
    let (bytes, file) = (corpus.bytes_of(file), &corpus.files[file]);
    let small = file.whole && file.view.is_none() && (1..=SMALL).contains(&bytes.len());
    small && !bytes[..bytes.len().min(SHOWN)].contains(&0)
}

/// Whether covers make so much of a file that history cannot be much better.
fn is_covered(old: &Corpus, new: &Corpus, file: usize, covers: &[Cover], level: Level) -> bool {
    let part = match level {
        Level::Fast | Level::Best => return false,
        Level::Default => new.files[file].length / 64,
    };
    let copied: usize = covers.iter().map(|cover| cover.length).sum();
    let same: usize = covers
        .iter()
        .map(|cover| agreement(&old.bytes[cover.old..cover.old_end()], &new.bytes[cover.new..cover.new_end()]))
        .sum();
    new.files[file].length - copied + (copied - same) + 6 * covers.len() <= part
}

/// Segments of text with history, where they are smaller than covers.
pub(super) fn segments(
    old: &Corpus,
    new: &Corpus,
    covers: &[Vec<Cover>],
    pairs: &[Option<usize>],
    options: &Options,
) -> Result<Vec<Group>, DeltaError> {
    let most = 1_usize << options.window_log;
    let old_text: Vec<usize> = (0..old.files.len()).filter(|file| is_text(old, *file)).collect();
    let all_fit = old_text.iter().map(|file| old.files[*file].length).sum::<usize>() <= most;
    let mut groups: Vec<(Vec<usize>, BTreeSet<usize>)> = Vec::new();
    let (mut made, mut kept) = (0, 0);
    let is_wanted = |file: &usize| is_text(new, *file) && !is_covered(old, new, *file, &covers[*file], options.level);
    for file in (0..new.files.len()).filter(is_wanted) {
        let drawn = covers[file].iter().filter(|cover| cover.length >= 32).map(|cover| old.file_at(cover.old));
        let wanted: BTreeSet<usize> = drawn.chain(pairs[file]).filter(|file| is_text(old, *file)).collect();
        let length = |files: &mut dyn Iterator<Item = &usize>| files.map(|file| old.files[*file].length).sum::<usize>();
        let added = groups.last().map_or(0, |group| length(&mut wanted.difference(&group.1)));
        if groups.is_empty() || made + new.files[file].length > OUTPUT || kept + added > most {
            groups.push((Vec::new(), if all_fit { old_text.iter().copied().collect() } else { BTreeSet::new() }));
            (made, kept) = (0, length(&mut wanted.iter()));
        } else {
            kept += added;
        }
        if let Some((files, history)) = groups.last_mut() {
            files.push(file);
            history.extend(wanted);
            made += new.files[file].length;
        }
    }
    let tried: Vec<Option<Group>> = groups
        .into_par_iter()
        .map(|(files, history)| {
            let outputs: Vec<(Extent, usize)> = files
                .iter()
                .map(|file| {
                    let file = &new.files[*file];
                    (Extent { file: file.number, offset: 0, length: file.length as u64 }, file.start)
                })
                .collect();
            let history: Vec<usize> = history.into_iter().collect();
            let encoded = streams::history_segment(old, new, &outputs, &history, options.level, options.window_log)?;
            if options.level == Level::Fast {
                return Some((files, encoded));
            }
            let used = clipped(new, &outputs, covers);
            let covered = streams::cover_segment(old, new, &outputs, &used, options.level, options.window_log);
            (encoded.1.len() < covered.1.len()).then_some((files, encoded))
        })
        .collect();
    Ok(tried.into_iter().flatten().collect())
}
