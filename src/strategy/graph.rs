//! The cheapest way through a graph of versions.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A package, as the search sees it: from a version to a version, at a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    /// Which offer it is.
    pub(super) offer: usize,
    /// Number of the version that it leads from.
    pub(super) from: usize,
    /// Number of the version that it leads to.
    pub(super) to: usize,
    /// What it costs, compared in this order. Each is added up along a way.
    pub(super) price: Price,
    /// What it needs at most at one time.
    pub(super) peak: u64,
}

/// Costs, the most important first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Price(pub(super) u128, pub(super) u128, pub(super) u32);

impl Price {
    fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0), self.1.saturating_add(other.1), self.2.saturating_add(other.2))
    }
}

/// The cheapest way from one version to another, as indices into `edges`, among those whose peaks are allowed; of ways
/// with equal prices always the same one. Nothing if none leads there.
pub(super) fn cheapest(edges: &[Edge], count: usize, from: usize, to: usize, peak: u64) -> Option<Vec<usize>> {
    let starts = by_start(edges, count);
    let mut best: Vec<Option<(Price, Option<usize>)>> = vec![None; count];
    let mut queue = BinaryHeap::new();
    best[from] = Some((Price::default(), None));
    queue.push(Reverse((Price::default(), from)));
    while let Some(Reverse((price, node))) = queue.pop() {
        if node == to {
            break;
        }
        if best[node].is_none_or(|(known, _)| known < price) {
            continue;
        }
        for at in &starts.order[starts.first[node]..starts.first[node + 1]] {
            let edge = &edges[*at];
            let next = price.plus(edge.price);
            if edge.peak <= peak && best[edge.to].is_none_or(|(known, _)| next < known) {
                best[edge.to] = Some((next, Some(*at)));
                queue.push(Reverse((next, edge.to)));
            }
        }
    }
    let mut way = Vec::new();
    let mut node = to;
    best[to]?;
    while let Some((_, Some(at))) = best[node] {
        way.push(at);
        node = edges[at].from;
    }
    way.reverse();
    Some(way)
}

/// The smallest peak with which a way leads there; nothing if none does.
pub(super) fn smallest_peak(edges: &[Edge], count: usize, from: usize, to: usize) -> Option<u64> {
    let starts = by_start(edges, count);
    let mut best: Vec<Option<u64>> = vec![None; count];
    let mut queue = BinaryHeap::new();
    best[from] = Some(0);
    queue.push(Reverse((0, from)));
    while let Some(Reverse((peak, node))) = queue.pop() {
        if best[node].is_none_or(|known| known < peak) {
            continue;
        }
        for at in &starts.order[starts.first[node]..starts.first[node + 1]] {
            let next = peak.max(edges[*at].peak);
            if best[edges[*at].to].is_none_or(|known| next < known) {
                best[edges[*at].to] = Some(next);
                queue.push(Reverse((next, edges[*at].to)));
            }
        }
    }
    best[to]
}

/// Edges in the order of the versions that they lead from.
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
