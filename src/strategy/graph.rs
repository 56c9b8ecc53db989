//! The cheapest way through a graph of trees.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// A package, as the search sees it: from a tree to a tree, at a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    /// Which offer it is.
    pub(super) offer: usize,
    /// Number of the tree that it leads from.
    pub(super) from: usize,
    /// Number of the tree that it leads to.
    pub(super) to: usize,
    /// What it costs, compared in this order. Each is added up along a way.
    pub(super) price: Price,
    /// Space that it takes while it is applied.
    pub(super) staging: u64,
}

/// Costs, the most important first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Price(pub(super) u128, pub(super) u128, pub(super) u32);

impl Price {
    fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0), self.1.saturating_add(other.1), self.2.saturating_add(other.2))
    }
}

/// The cheapest way from a tree to any of these, as indices into `edges`, of packages that do not stage more than this;
/// of ways with equal prices always the same one. Nothing if none leads there.
pub(super) fn cheapest(
    edges: &[Edge],
    count: usize,
    from: usize,
    to: &Range<usize>,
    staging: u64,
) -> Option<Vec<usize>> {
    let starts = by_start(edges, count);
    let mut best: Vec<Option<(Price, Option<usize>)>> = vec![None; count];
    let mut queue = BinaryHeap::new();
    best[from] = Some((Price::default(), None));
    queue.push(Reverse((Price::default(), from)));
    let mut end = None;
    while let Some(Reverse((price, node))) = queue.pop() {
        if to.contains(&node) {
            end = Some(node);
            break;
        }
        if best[node].is_none_or(|(known, _)| known < price) {
            continue;
        }
        for at in &starts.order[starts.first[node]..starts.first[node + 1]] {
            let edge = &edges[*at];
            let next = price.plus(edge.price);
            if edge.staging <= staging && best[edge.to].is_none_or(|(known, _)| next < known) {
                best[edge.to] = Some((next, Some(*at)));
                queue.push(Reverse((next, edge.to)));
            }
        }
    }
    let mut way = Vec::new();
    let mut node = end?;
    while let Some((_, Some(at))) = best[node] {
        way.push(at);
        node = edges[at].from;
    }
    way.reverse();
    Some(way)
}

/// Ways of rising prices and falling staging, until one is taken: the cheapest, the cheapest of those that stage less,
/// and so on. Whatever way there is, one of these costs no more and stages no more.
pub(super) fn descend<T>(
    edges: &[Edge],
    count: usize,
    from: usize,
    to: &Range<usize>,
    mut take: impl FnMut(Vec<usize>, u64) -> Option<T>,
) -> Option<T> {
    let mut most = u64::MAX;
    loop {
        let way = cheapest(edges, count, from, to, most)?;
        let staging = way.iter().map(|at| edges[*at].staging).max().unwrap_or(0);
        if let Some(taken) = take(way, staging) {
            return Some(taken);
        }
        most = staging.checked_sub(1)?;
    }
}

/// Edges in the order of the trees that they lead from.
struct Starts {
    first: Vec<usize>,
    order: Vec<usize>,
}

fn by_start(edges: &[Edge], count: usize) -> Starts {
    let mut first = vec![0; count + 1];
    edges.iter().for_each(|edge| first[edge.from + 1] += 1);
    for at in 0..count {
        first[at + 1] += first[at];
    }
    let mut next = first.clone();
    let mut order = vec![0; edges.len()];
    for (at, edge) in edges.iter().enumerate() {
        order[next[edge.from]] = at;
        next[edge.from] += 1;
    }
    Starts { first, order }
}
