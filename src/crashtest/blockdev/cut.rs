//! When the power fails, and what survives.

use super::{BLOCK, Block, Event, Image, Recording};
use crate::vfs::sim::Dice;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

/// A loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cut {
    /// So many events happened.
    pub at: usize,
    /// What of the writes since the last flush survives.
    pub choice: Choice,
}

/// What survives of the pending writes. Numbers count them from the last flush on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    /// Everything: a prefix of what was written.
    All,
    /// Nothing.
    None,
    /// All but one.
    Drop(usize),
    /// Only one.
    Keep(usize),
    /// A random subset of the writes.
    Random(u64),
    /// A random subset of the blocks: writes of several blocks are torn.
    Blocks(u64),
    /// All before the last, and of the last a random subset of its blocks.
    Torn(u64),
}

/// How many cuts to try.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// What random choices come from.
    pub seed: u64,
    /// At most so many: the marks, then a random half of flushes, then of all others.
    pub most: usize,
}

impl Recording {
    /// Cuts of this recording: each mark with nothing that was not durable, each flush, prefixes, and subsets of what is pending.
    pub fn cuts(&self, budget: &Budget) -> Vec<Cut> {
        let mut dice = Dice(budget.seed);
        let end = self.events.len();
        let mut marks = vec![Cut { at: end, choice: Choice::None }, Cut { at: end, choice: Choice::All }];
        let (mut flushes, mut others) = (Vec::new(), Vec::new());
        let mut pending = 0;
        for (number, event) in self.events.iter().enumerate() {
            let mut cut = |at, choice| others.push(Cut { at, choice });
            match event {
                Event::Flush => {
                    flushes.push(Cut { at: number, choice: Choice::All });
                    flushes.push(Cut { at: number + 1, choice: Choice::All });
                    if pending > 1 {
                        let one = dice.below(pending);
                        cut(number, Choice::Drop(one as usize));
                        cut(number, Choice::Keep(one as usize));
                        (0..4).for_each(|_| cut(number, Choice::Random(dice.roll())));
                        (0..4).for_each(|_| cut(number, Choice::Blocks(dice.roll())));
                    }
                    pending = 0;
                }
                Event::Write(_, blocks) => {
                    pending += 1;
                    let at = number + 1;
                    cut(at, Choice::All);
                    if pending > 1 {
                        cut(at, Choice::Random(dice.roll()));
                        cut(at, Choice::Blocks(dice.roll()));
                        cut(at, Choice::Drop(dice.below(pending) as usize));
                    }
                    if blocks.len() > 1 {
                        cut(at, Choice::Torn(dice.roll()));
                    }
                }
                // What was acknowledged must be there even if nothing survives that is not durable.
                Event::Mark(_) => marks.push(Cut { at: number + 1, choice: Choice::None }),
            }
        }
        if pending > 1 {
            (0..8).for_each(|_| others.push(Cut { at: self.events.len(), choice: Choice::Blocks(dice.roll()) }));
        }
        shuffle(&mut dice, &mut flushes);
        shuffle(&mut dice, &mut others);
        marks.truncate(budget.most);
        flushes.truncate((budget.most - marks.len()) / 2);
        others.truncate(budget.most - marks.len() - flushes.len());
        [marks, flushes, others].concat()
    }

    /// What a cut leaves, and a hash of it: equal for equal images of this recording.
    pub fn image(&self, cut: &Cut) -> (Image, u64) {
        let events = &self.events[..cut.at.min(self.events.len())];
        let flushed = events.iter().rposition(|event| *event == Event::Flush).unwrap_or(0);
        let writes = |events: &'_ [Event]| -> Vec<(u64, Vec<Block>)> {
            let writes = events.iter().filter_map(|event| match event {
                Event::Write(first, blocks) => Some((*first, blocks.clone())),
                _ => None,
            });
            writes.collect()
        };
        let mut left: HashMap<u64, Block> = HashMap::new();
        for (first, blocks) in writes(&events[..flushed]) {
            left.extend((first..).zip(blocks));
        }
        let pending = writes(&events[flushed..]);
        let last = pending.len().saturating_sub(1);
        let mut dice = Dice(match cut.choice {
            Choice::Random(seed) | Choice::Blocks(seed) | Choice::Torn(seed) => seed,
            _ => 0,
        });
        // Not always half of them: few that survive, and few that are lost, are other states.
        let odds = 1 + dice.below(7);
        for (number, (first, blocks)) in pending.into_iter().enumerate() {
            let whole = match cut.choice {
                Choice::All => true,
                Choice::None => false,
                Choice::Drop(one) => number != one,
                Choice::Keep(one) => number == one,
                Choice::Random(_) => dice.below(8) < odds,
                Choice::Blocks(_) => false,
                Choice::Torn(_) => number != last,
            };
            let torn = matches!(cut.choice, Choice::Blocks(_)) || (matches!(cut.choice, Choice::Torn(_)) && !whole);
            for (at, block) in (first..).zip(blocks) {
                if whole || (torn && dice.below(8) < odds) {
                    left.insert(at, block);
                }
            }
        }
        let mut image = self.base.clone();
        let mut hash = 0_u64;
        for (number, block) in left {
            if image.block(number) != Some(&block) {
                hash = hash.wrapping_add(Dice(block.hash() ^ number.wrapping_mul(BLOCK as u64 | 1)).roll());
                image.put(number, block);
            }
        }
        (image, hash)
    }
}

fn shuffle<T>(dice: &mut Dice, items: &mut [T]) {
    for at in (1..items.len()).rev() {
        items.swap(at, dice.below(at as u64 + 1) as usize);
    }
}

impl fmt::Display for Cut {
    /// As [`Cut::from_str`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, number) = match self.choice {
            Choice::All => ("all", 0),
            Choice::None => ("none", 0),
            Choice::Drop(one) => ("drop", one as u64),
            Choice::Keep(one) => ("keep", one as u64),
            Choice::Random(seed) => ("random", seed),
            Choice::Blocks(seed) => ("blocks", seed),
            Choice::Torn(seed) => ("torn", seed),
        };
        write!(f, "{}.{name}.{number}", self.at)
    }
}

impl FromStr for Cut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no cut");
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or_else(wrong);
        let (at, name, number) = (part()?, part()?, part()?);
        let at = at.parse().map_err(|_| wrong())?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let choice = match name {
            "all" => Choice::All,
            "none" => Choice::None,
            "drop" => Choice::Drop(number as usize),
            "keep" => Choice::Keep(number as usize),
            "random" => Choice::Random(number),
            "blocks" => Choice::Blocks(number),
            "torn" => Choice::Torn(number),
            _ => return Err(wrong()),
        };
        Ok(Self { at, choice })
    }
}
