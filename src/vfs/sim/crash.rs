//! The disk images that a loss of power may leave.

use super::content::{PAGE, SECTOR};
use super::disk::{Change, Disk, Effect, Id, Tear};
use super::hash::{Dice, mix};
use super::{Memory, Options, Profile, SimVfs};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

/// How many crash images to try at one moment.
///
/// With `m` pending effects that no sync has forced, these are: none, all, every prefix, every single one dropped or
/// kept, those of every single inode dropped or kept, the newest of each inode, metadata without data, data without
/// metadata, and what the fields add: about `4m` images without pairs. A choice that the [`Profile`] rules out becomes
/// the nearest that it allows.
#[derive(Clone, Debug)]
pub struct Budget {
    /// The images that are not random; without them there are only none, all and the random ones.
    pub systematic: bool,
    /// Every pair dropped and every pair kept, while there are at most this many pending effects: about `m * m` images.
    pub pairs_up_to: usize,
    /// How many random subsets, with data torn at random.
    pub random: usize,
    /// Where the random ones come from, together with the seed of the disk.
    pub seed: u64,
    /// How many of the last writes are tried torn, at sectors of 512 and of 4096 bytes.
    pub torn_writes: usize,
    /// At how many byte positions each of those is cut as well, spread evenly; `usize::MAX` for every byte. No disk
    /// cuts inside a sector: this is for what claims to survive it.
    pub byte_cuts: usize,
    /// Stop after this many distinct images.
    pub most: usize,
    /// Try only about this many of the choices that the other fields give, spread evenly over them, but always nothing
    /// and everything.
    pub share: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            systematic: true,
            pairs_up_to: 24,
            random: 16,
            seed: 0,
            torn_writes: 2,
            byte_cuts: 0,
            most: usize::MAX,
            share: usize::MAX,
        }
    }
}

impl Budget {
    /// Only the images with nothing and with everything that is pending, and a few random ones: for nested crashes.
    pub fn sample(random: usize, seed: u64) -> Self {
        Self { systematic: false, random, seed, ..Self::default() }
    }
}

/// How many images there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pending effects that no sync has forced.
    pub pending: usize,
    /// Choices that the budget gives; fewer are tried if its share is smaller.
    pub choices: usize,
    /// Images that were thought of.
    pub generated: usize,
    /// Images that differ, and were handed out.
    pub distinct: usize,
}

/// One state in which a loss of power may leave the disk.
#[derive(Clone)]
pub struct Image {
    disk: Disk,
    options: Arc<Options>,
    memory: Memory,
    choice: Choice,
    survivors: Survivors,
    hash: u128,
}

/// How an image was chosen; numbers are places in [`SimVfs::pending`] with the forced ones left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Nothing survives but what was forced.
    None,
    /// Everything survives.
    All,
    /// The first so many.
    Prefix(usize),
    /// All but one.
    Drop(usize),
    /// Only one.
    Keep(usize),
    /// All but two.
    DropPair(usize, usize),
    /// Only two.
    KeepPair(usize, usize),
    /// All but those of one inode or directory.
    DropInode(u64),
    /// Only those of one inode or directory.
    KeepInode(u64),
    /// Only the newest of each inode.
    Newest,
    /// Metadata only.
    Metadata,
    /// Data only.
    Data,
    /// A random subset: the how-manieth.
    Random(usize),
    /// Those that somebody named.
    Named,
    /// Everything, or everything before it, with one write torn in the how-manieth way.
    Torn {
        /// Which effect.
        effect: usize,
        /// Are later effects lost?
        last: bool,
        /// The how-manieth way.
        way: usize,
    },
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing pending survives"),
            Self::All => f.write_str("everything pending survives"),
            Self::Prefix(count) => write!(f, "the first {count} survive"),
            Self::Drop(n) => write!(f, "all but {n} survive"),
            Self::Keep(n) => write!(f, "only {n} survives"),
            Self::DropPair(a, b) => write!(f, "all but {a} and {b} survive"),
            Self::KeepPair(a, b) => write!(f, "only {a} and {b} survive"),
            Self::DropInode(id) => write!(f, "all but those of inode {id} survive"),
            Self::KeepInode(id) => write!(f, "only those of inode {id} survive"),
            Self::Newest => f.write_str("only the newest of each inode survives"),
            Self::Metadata => f.write_str("only metadata survives"),
            Self::Data => f.write_str("only data survives"),
            Self::Random(n) => write!(f, "random subset {n} survives"),
            Self::Named => f.write_str("a chosen subset survives"),
            Self::Torn { effect, last, way } => {
                let rest = if *last { "and later ones are lost" } else { "and all others survive" };
                write!(f, "write {effect} is torn (way {way}) {rest}")
            }
        }
    }
}

impl Image {
    /// The disk after the next start: all of the image is durable, the session is another one, no lock is held, and no
    /// fault is scheduled.
    pub fn mount(&self) -> SimVfs {
        SimVfs::boot((*self.options).clone(), self.memory, self.disk.clone())
    }

    /// A hash of everything that can be seen of the image, inode numbers and times included: images of several crash
    /// points with the same hash are the same.
    pub fn hash(&self) -> u128 {
        self.hash
    }

    /// How it was chosen.
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// Which of the pending effects are in it.
    pub fn survivors(&self) -> &Survivors {
        &self.survivors
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({:032x}: {})", self.hash, self.choice)
    }
}

impl SimVfs {
    /// Hands out the images that a loss of power at this moment may leave, each once.
    pub fn for_each_crash_image(&self, budget: &Budget, visit: &mut dyn FnMut(Image)) -> Counts {
        let mut explorer = Explorer::new(self, budget, visit);
        explorer.explore(budget);
        explorer.counts
    }

    /// How many choices [`SimVfs::for_each_crash_image`] would make with this budget, whatever its share is.
    pub fn count_crash_choices(&self, budget: &Budget) -> usize {
        let visit = &mut |_| {};
        let mut explorer = Explorer::new(self, budget, visit);
        explorer.count(budget);
        explorer.choices
    }

    /// The image that holds these of the pending effects, and what must survive with them.
    pub fn crash_image(&self, survivors: &Survivors) -> Image {
        let visit = &mut |_| {};
        let mut explorer = Explorer::new(self, &Budget::default(), visit);
        explorer.prepare();
        let mut survivors = survivors.clone();
        survivors.kept.resize(explorer.effects.len(), false);
        explorer.make_legal(&mut survivors, Fit::Cut);
        explorer.image(Choice::Named, survivors)
    }

    /// The images that a loss of power at this moment may leave, as a list.
    pub fn crash_images(&self, budget: &Budget) -> (Vec<Image>, Counts) {
        let mut images = Vec::new();
        let counts = self.for_each_crash_image(budget, &mut |image| images.push(image));
        (images, counts)
    }
}

/// Which of the pending effects survive, and which of these in part only; numbers are places in [`SimVfs::pending`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Survivors {
    kept: Vec<bool>,
    torn: BTreeMap<usize, Tear>,
}

impl Survivors {
    /// How many effects there were.
    pub fn effects(&self) -> usize {
        self.kept.len()
    }

    /// Does an effect survive, if only in part?
    pub fn holds(&self, effect: usize) -> bool {
        self.kept.get(effect).is_some_and(|kept| *kept)
    }

    /// Does only a part of it survive?
    pub fn tears(&self, effect: usize) -> bool {
        self.torn.contains_key(&effect)
    }

    /// Those of them that pass, and those others that pass too.
    #[must_use]
    pub fn chosen(&self, passes: impl Fn(usize) -> bool) -> Self {
        let kept: Vec<bool> = (0..self.kept.len()).map(&passes).collect();
        let torn = self.torn.iter().filter(|(index, _)| passes(**index)).map(|(index, tear)| (*index, *tear)).collect();
        Self { kept, torn }
    }

    /// The same, each of them whole.
    #[must_use]
    pub fn whole(&self) -> Self {
        Self { kept: self.kept.clone(), torn: BTreeMap::new() }
    }
}

/// How a choice that the profile does not allow is changed.
#[derive(Clone, Copy)]
enum Fit {
    /// What comes after a loss is lost too.
    Cut,
    /// What comes before a survivor survives too.
    Fill,
}

/// With more pending effects than this, not every prefix is kept.
const MANY: usize = 256;
/// Then only every so-manieth is.
const STRIDE: usize = 64;

struct Explorer<'a> {
    profile: Profile,
    options: Arc<Options>,
    memory: Memory,
    effects: Vec<Arc<Effect>>,
    forced: Vec<bool>,
    durable: Disk,
    /// The durable image with the first so many effects: every, or every so-manieth such image.
    prefixes: Vec<Disk>,
    stride: usize,
    dice: Dice,
    tried: HashSet<Survivors>,
    seen: HashSet<u128>,
    counts: Counts,
    most: usize,
    /// Choices so far, and the share of them that is tried; nothing while they are counted.
    choices: usize,
    share: Option<usize>,
    visit: &'a mut dyn FnMut(Image),
}

impl<'a> Explorer<'a> {
    fn new(vfs: &SimVfs, budget: &Budget, visit: &'a mut dyn FnMut(Image)) -> Self {
        let state = vfs.state();
        let effects: Vec<_> = state.pending.iter().map(|pending| pending.effect.clone()).collect();
        Self {
            profile: state.options.profile,
            dice: Dice(mix(state.options.seed, budget.seed)),
            options: Arc::new(state.options.clone()),
            memory: state.memory,
            durable: state.durable.clone(),
            prefixes: Vec::new(),
            stride: if effects.len() > MANY { STRIDE } else { 1 },
            forced: state.pending.iter().map(|pending| pending.forced).collect(),
            effects,
            tried: HashSet::new(),
            seen: HashSet::new(),
            counts: Counts::default(),
            most: budget.most,
            choices: 0,
            share: None,
            visit,
        }
    }

    fn explore(&mut self, budget: &Budget) {
        self.prepare();
        if budget.share < usize::MAX {
            let dice = self.dice.clone();
            self.count(budget);
            self.counts.choices = self.choices;
            self.dice = dice;
        }
        self.choices = 0;
        self.share = Some(budget.share);
        self.every_choice(budget);
        self.counts.choices = self.choices;
    }

    fn count(&mut self, budget: &Budget) {
        self.share = None;
        self.every_choice(budget);
    }

    fn prepare(&mut self) {
        let mut disk = self.durable.clone();
        for (index, effect) in self.effects.iter().enumerate() {
            if index.is_multiple_of(self.stride) {
                self.prefixes.push(disk.clone());
            }
            disk.apply(effect);
        }
        if self.effects.len().is_multiple_of(self.stride) {
            self.prefixes.push(disk);
        }
    }

    /// Is the next choice to be tried?
    fn is_wanted(&mut self) -> bool {
        let number = self.choices;
        self.choices += 1;
        let Some(share) = self.share else { return false };
        let all = self.counts.choices;
        if self.counts.distinct >= self.most {
            return false;
        }
        number < 2 || share >= all || (number + 1) * share / all > number * share / all
    }

    fn every_choice(&mut self, budget: &Budget) {
        let free: Vec<usize> = (0..self.effects.len()).filter(|index| !self.forced[*index]).collect();
        let m = free.len();
        self.counts.pending = m;
        self.keep(Choice::None, |_| false);
        self.drop(Choice::All, |_| false);
        if budget.systematic {
            self.one_by_one(budget, &free);
            self.by_inode(&free);
            self.tear(budget, &free);
        }
        if m > 0 {
            (0..budget.random).for_each(|n| self.random(n));
        }
    }

    /// Prefixes, single effects, pairs, and the two halves of data and metadata.
    fn one_by_one(&mut self, budget: &Budget, free: &[usize]) {
        for (n, first) in free.iter().enumerate().skip(1) {
            self.drop(Choice::Prefix(n), |index| index >= *first);
        }
        for (n, one) in free.iter().enumerate() {
            self.drop(Choice::Drop(n), |index| index == *one);
            self.keep(Choice::Keep(n), |index| index == *one);
        }
        let data: Vec<bool> = self.effects.iter().map(|effect| effect.change.is_data()).collect();
        self.keep(Choice::Metadata, |index| !data[index]);
        self.keep(Choice::Data, |index| data[index]);
        if free.len() <= budget.pairs_up_to {
            for (a, one) in free.iter().enumerate() {
                for (b, other) in free.iter().enumerate().skip(a + 1) {
                    self.drop(Choice::DropPair(a, b), |index| index == *one || index == *other);
                    self.keep(Choice::KeepPair(a, b), |index| index == *one || index == *other);
                }
            }
        }
    }

    /// The choices about whole inodes.
    fn by_inode(&mut self, free: &[usize]) {
        let touched: Vec<Vec<Id>> = self.effects.iter().map(|effect| effect.change.touched()).collect();
        let mut newest: BTreeMap<Id, usize> = BTreeMap::new();
        for index in free {
            touched[*index].iter().for_each(|id| {
                newest.insert(*id, *index);
            });
        }
        let kept: BTreeSet<usize> = newest.values().copied().collect();
        self.keep(Choice::Newest, |index| kept.contains(&index));
        for id in newest.keys() {
            self.drop(Choice::DropInode(*id), |index| touched[index].contains(id));
            self.keep(Choice::KeepInode(*id), |index| touched[index].contains(id));
        }
    }

    /// The last writes, torn.
    fn tear(&mut self, budget: &Budget, free: &[usize]) {
        let data = |index: &&usize| matches!(self.effects[**index].change, Change::Data { .. });
        let last: Vec<usize> = free.iter().rev().filter(data).take(budget.torn_writes).copied().collect();
        for torn in last {
            let Some(effect) = free.iter().position(|index| *index == torn) else { continue };
            let id = self.effects[torn].change.inode();
            let grows = |next: &&Arc<Effect>| matches!(next.change, Change::Size { .. }) && next.change.inode() == id;
            let until = torn + usize::from(self.effects.get(torn + 1).filter(grows).is_some());
            let ways = self.ways(torn, budget);
            for (way, tear) in ways.into_iter().enumerate() {
                for last in [true, false] {
                    if !self.is_wanted() {
                        continue;
                    }
                    let survivors = Survivors {
                        kept: (0..self.effects.len()).map(|index| !last || index <= until).collect(),
                        torn: BTreeMap::from([(torn, tear)]),
                    };
                    self.offer(Choice::Torn { effect, last, way }, survivors, Fit::Cut);
                }
            }
        }
    }

    /// The ways to tear one write: front and back parts, every other unit, and cuts between bytes.
    fn ways(&mut self, torn: usize, budget: &Budget) -> Vec<Tear> {
        let bytes = self.effects[torn].change.bytes();
        let mut ways = Vec::new();
        for unit in [SECTOR, PAGE] {
            let units = bytes / unit as u64;
            if units > 1 {
                let cuts = [1, units / 2, units - 1];
                ways.extend(cuts.map(|cut| Tear::Bytes(cut * unit as u64)));
                ways.extend((0..4).map(|_| Tear::Units { unit, salt: self.dice.roll() }));
            }
        }
        let positions = usize::try_from(bytes.saturating_sub(1)).unwrap_or(usize::MAX);
        let cuts = positions.min(budget.byte_cuts) as u64;
        ways.extend((1..=cuts).map(|n| Tear::Bytes((n * positions as u64).div_ceil(cuts.max(1)))));
        ways
    }

    /// A random subset: sparse, dense or half; where metadata keeps its order, up to a random moment.
    fn random(&mut self, n: usize) {
        if !self.is_wanted() {
            return;
        }
        let m = self.effects.len();
        let odds = [1, 4, 7][n % 3];
        let until = self.dice.below(m as u64 + 1) as usize;
        let ordered = !matches!(self.profile, Profile::Posix | Profile::Split);
        let mut survivors = Survivors { kept: Vec::with_capacity(m), torn: BTreeMap::new() };
        for index in 0..m {
            let change = &self.effects[index].change;
            let by_order = self.profile == Profile::Prefix || ordered && !change.is_data();
            let kept = if by_order { index < until } else { self.dice.chance(odds, 8) };
            survivors.kept.push(kept);
            if kept && !self.forced[index] && change.bytes() > SECTOR as u64 && self.dice.chance(1, 4) {
                let unit = if self.dice.chance(1, 2) { SECTOR } else { PAGE };
                survivors.torn.insert(index, Tear::Units { unit, salt: self.dice.roll() });
            }
        }
        self.offer(Choice::Random(n), survivors, Fit::Cut);
    }

    fn drop(&mut self, choice: Choice, lost: impl Fn(usize) -> bool) {
        if self.is_wanted() {
            let kept = (0..self.effects.len()).map(|index| !lost(index)).collect();
            self.offer(choice, Survivors { kept, torn: BTreeMap::new() }, Fit::Cut);
        }
    }

    fn keep(&mut self, choice: Choice, kept: impl Fn(usize) -> bool) {
        if self.is_wanted() {
            let kept = (0..self.effects.len()).map(kept).collect();
            self.offer(choice, Survivors { kept, torn: BTreeMap::new() }, Fit::Fill);
        }
    }

    /// Hands out an image, made legal, unless it is known.
    fn offer(&mut self, choice: Choice, mut survivors: Survivors, fit: Fit) {
        self.counts.generated += 1;
        self.make_legal(&mut survivors, fit);
        if !self.tried.insert(survivors.clone()) {
            return;
        }
        let image = self.image(choice, survivors);
        if self.seen.insert(image.hash) {
            self.counts.distinct += 1;
            (self.visit)(image);
        }
    }

    fn image(&self, choice: Choice, survivors: Survivors) -> Image {
        let disk = self.build(&survivors);
        let hash = disk.hash().value();
        Image { disk, options: self.options.clone(), memory: self.memory, choice, survivors, hash }
    }

    fn make_legal(&self, survivors: &mut Survivors, fit: Fit) {
        for (kept, forced) in survivors.kept.iter_mut().zip(&self.forced) {
            *kept |= *forced;
        }
        let ordered = |index: usize| match self.profile {
            Profile::Prefix => true,
            Profile::Somc | Profile::SomcStale | Profile::PerInode => !self.effects[index].change.is_data(),
            Profile::Posix | Profile::Split => false,
        };
        // What was forced ahead of its turn says nothing about what comes before it.
        let bound: Vec<usize> =
            (0..self.effects.len()).filter(|index| ordered(*index) && !self.forced[*index]).collect();
        let survives = |index: &&usize| survivors.kept[**index];
        let count = match fit {
            Fit::Cut => bound.iter().take_while(survives).count(),
            Fit::Fill => bound.iter().rposition(|index| survivors.kept[*index]).map_or(0, |last| last + 1),
        };
        for (place, index) in bound.iter().enumerate() {
            survivors.kept[*index] = place < count;
        }
        let kept = &survivors.kept;
        survivors.torn.retain(|index, _| kept[*index] && !self.forced[*index]);
        if self.profile == Profile::Prefix {
            // In a prefix only the last call can be torn, and only after some first bytes.
            let last = kept.iter().rposition(|kept| *kept);
            survivors.torn.retain(|index, tear| Some(*index) == last && matches!(tear, Tear::Bytes(_)));
        }
    }

    /// The image with these effects.
    fn build(&self, survivors: &Survivors) -> Disk {
        let changed = |index: &usize| !survivors.kept[*index] || survivors.torn.contains_key(index);
        let first = (0..self.effects.len()).find(changed).unwrap_or(self.effects.len());
        let mut disk = self.prefixes[first / self.stride].clone();
        for index in first / self.stride * self.stride..self.effects.len() {
            let effect = &self.effects[index];
            let torn = survivors.torn.get(&index);
            match (survivors.kept[index], torn) {
                (true, None) => disk.apply(effect),
                (true, Some(tear)) => disk.apply_torn(effect, *tear),
                (false, _) => {}
            }
            if self.profile == Profile::SomcStale && (torn.is_some() || !survivors.kept[index]) {
                disk.rot(effect);
            }
        }
        for effect in &self.effects {
            if let Change::Data { id, .. } = effect.change {
                disk.trim(id);
            }
        }
        disk.settle(|_| false);
        disk
    }
}
