//! The cheapest way through a graph of trees.

use crate::limits;
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

impl Edge {
    /// The same, at a price of the bytes that it is priced by and those that it stages.
    pub(super) fn with_staging(&self) -> Self {
        let Price(bytes, time, count) = self.price;
        Self { price: Price(bytes.saturating_add(u128::from(self.staging)), time, count), ..*self }
    }
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
///
/// There may be as many of them as edges. When so many edges were looked at, what is left is passed over but for the last
/// one: the cheapest of those that stage the least.
pub(super) fn descend<T>(
    edges: &[Edge],
    count: usize,
    from: usize,
    to: &Range<usize>,
    mut take: impl FnMut(Vec<usize>, u64) -> Option<T>,
) -> Option<T> {
    let mut most = u64::MAX;
    let mut looked_at = 0;
    while looked_at <= limits::SEARCHED_EDGES {
        let way = cheapest(edges, count, from, to, most)?;
        let staging = way.iter().map(|at| edges[*at].staging).max().unwrap_or(0);
        if let Some(taken) = take(way, staging) {
            return Some(taken);
        }
        most = staging.checked_sub(1)?;
        looked_at += edges.len();
    }
    let mut stagings: Vec<u64> = edges.iter().map(|edge| edge.staging).filter(|staging| *staging <= most).collect();
    stagings.sort_unstable();
    let least = stagings.partition_point(|staging| cheapest(edges, count, from, to, *staging).is_none());
    let least = *stagings.get(least)?;
    take(cheapest(edges, count, from, to, least)?, least)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Packages of one version to the next, each with more bytes and less staging than the one before, once were searched
    /// one after the other: as often as there are of them, and all of them each time.
    #[test]
    fn a_search_for_space_ends_when_it_has_looked_at_so_many_edges() {
        let edges = |number: usize| -> Vec<Edge> {
            let edge = |at: usize| Edge {
                offer: at,
                from: 0,
                to: 1,
                price: Price(at as u128, 0, 1),
                staging: (number - at) as u64 * 4096,
            };
            (0..number).map(edge).collect()
        };
        for (number, every) in [(1000, true), (60_000, false)] {
            let edges = edges(number);
            let mut found = Vec::new();
            let none: Option<()> = descend(&edges, 2, 0, &(1..2), |way, staging| {
                found.push((way[0], staging));
                None
            });
            assert_eq!(none, None);
            assert!(found.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 > two[1].1));
            assert_eq!((found[0], found[found.len() - 1]), ((0, number as u64 * 4096), (number - 1, 4096)));
            assert_eq!(found.len() == number, every);
            assert!(found.len() * number <= limits::SEARCHED_EDGES + 3 * number, "{} searches", found.len());
        }
    }
}
