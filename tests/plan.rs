//! Plans: the steps between any two trees lead from the one to the other and back; a plan file says what was written.

#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet};
use surefoot::model::{Digest, Entry, Kind, Manifest, Metadata, Node, Policy, Time, TreePath};
use surefoot::transaction::{Arrangement, Method, Plan, Proposal, Step, arrange};

/// Every path that a tree may hold, in order.
const PATHS: [&str; 12] = ["a", "a/b", "a/b/c", "a/b/d", "a/e", "f", "f/g", "f/h", "i", "j", "k", "l"];

/// What a path may hold; a path whose parent is no directory holds nothing.
#[derive(Clone, Debug)]
enum Wish {
    Nothing,
    Directory(u8),
    Symlink(u8),
    File {
        content: u8,
        metadata: u8,
    },
    /// Another name of the file at an earlier path; a file of its own if there is none.
    Link(usize),
}

fn wishes() -> impl Strategy<Value = Wish> {
    prop_oneof![
        2 => Just(Wish::Nothing),
        3 => (0..4u8).prop_map(Wish::Directory),
        1 => (0..2u8).prop_map(Wish::Symlink),
        2 => Just(Wish::File { content: 0, metadata: 0 }),
        3 => (0..2u8, 0..9u8).prop_map(|(content, metadata)| Wish::File { content, metadata }),
        7 => (0..PATHS.len()).prop_map(Wish::Link),
    ]
}

fn policies() -> impl Strategy<Value = Policy> {
    (any::<bool>(), any::<bool>()).prop_map(|(owner, mtime)| Policy { owner, mtime })
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

/// Metadata that differ in one thing each.
fn metadata(choice: u8) -> Metadata {
    let plain = Metadata { mode: 0o644, ..Metadata::default() };
    let xattr = |name: &str| vec![(name.as_bytes().into(), b"value".as_slice().into())];
    match choice {
        0 | 8 => plain,
        1 => Metadata { mode: 0o755, ..plain },
        2 => Metadata { mode: 0o4755, ..plain },
        3 => Metadata { uid: 7, ..plain },
        4 => Metadata { mtime: Time { seconds: 9, nanoseconds: 1 }, ..plain },
        5 => Metadata { xattrs: xattr("user.note"), ..plain },
        6 => Metadata { xattrs: xattr("security.capability"), ..plain },
        _ => Metadata { mode: 0o4755, uid: 7, ..plain },
    }
}

fn tree(wishes: &[Wish], policy: Policy) -> Manifest {
    let mut nodes: BTreeMap<TreePath, Node> = BTreeMap::new();
    let directory = |choice| Node::new(Kind::Directory, Metadata { mode: 0o700 + u32::from(choice), ..metadata(0) });
    let file = |content: u8, choice| {
        let kind = Kind::File { size: 1, digest: Digest::of(&[content]) };
        Node::new(kind, metadata(choice))
    };
    nodes.insert(TreePath::root(), directory(0));
    for (at, wish) in PATHS.iter().map(|at| path(at)).zip(wishes) {
        if !nodes.get(&at.parent().unwrap()).is_some_and(Node::is_directory) {
            continue;
        }
        let node = match wish {
            Wish::Nothing => continue,
            Wish::Directory(choice) => directory(*choice),
            Wish::Symlink(choice) => {
                let target = vec![b'0' + choice].into();
                Node::new(Kind::Symlink { target }, Metadata { mode: 0o777, ..Metadata::default() })
            }
            Wish::File { content, metadata } => file(*content, *metadata),
            Wish::Link(other) => {
                let first = path(PATHS[*other]);
                match nodes.get(&first).filter(|node| node.is_file() && first < at) {
                    Some(node) => {
                        let leader = node.leader.clone().unwrap_or(first);
                        Node { leader: Some(leader), ..node.clone() }
                    }
                    None => file(0, 0),
                }
            }
        };
        nodes.insert(at, node);
    }
    Manifest::new(policy, nodes.into_iter().map(|(path, node)| Entry { path, node }).collect()).unwrap()
}

/// Two trees, alike in most paths, and which paths are proposed although nothing changes.
fn pairs() -> impl Strategy<Value = (Manifest, Manifest, Vec<bool>, Vec<bool>)> {
    let lists = || prop::collection::vec(wishes(), PATHS.len());
    let flags = || prop::collection::vec(prop::bool::weighted(0.15), PATHS.len() + 1);
    (lists(), lists(), prop::collection::vec(prop::bool::weighted(0.3), PATHS.len()), policies(), flags(), flags())
        .prop_map(|(old, other, changed, policy, extra, outside)| {
            let new: Vec<Wish> =
                (0..PATHS.len()).map(|n| if changed[n] { other[n].clone() } else { old[n].clone() }).collect();
            (tree(&old, policy), tree(&new, policy), extra, outside)
        })
}

/// A file system of paths and inodes.
#[derive(Clone, Debug, PartialEq)]
struct Disk {
    tree: BTreeMap<TreePath, usize>,
    inodes: Vec<(Kind, Metadata)>,
}

impl Disk {
    fn holding(manifest: &Manifest) -> Self {
        let mut disk = Self { tree: BTreeMap::new(), inodes: Vec::new() };
        for Entry { path, node } in manifest.entries() {
            let inode = match &node.leader {
                Some(leader) => disk.tree[leader],
                None => disk.make(node),
            };
            disk.tree.insert(path.clone(), inode);
        }
        disk
    }

    fn make(&mut self, node: &Node) -> usize {
        self.inodes.push((node.kind.clone(), node.metadata.clone()));
        self.inodes.len() - 1
    }

    fn is_directory(&self, inode: usize) -> bool {
        self.inodes[inode].0 == Kind::Directory
    }

    /// Changes places with a slot, as a rename or an exchange does.
    fn swap(&mut self, at: &TreePath, slot: &mut Option<usize>) -> Result<(), String> {
        let parent = at.parent().ok_or("the root never moves")?;
        if !self.tree.get(&parent).is_some_and(|inode| self.is_directory(*inode)) {
            return Err(format!("{at} has no parent"));
        }
        let there = self.tree.get(at).copied();
        if there.is_some_and(|inode| self.is_directory(inode)) && self.tree.keys().any(|path| path.is_below(at)) {
            return Err(format!("directory {at} moves with something in it"));
        }
        match *slot {
            Some(inode) => self.tree.insert(at.clone(), inode),
            None => self.tree.remove(at),
        };
        *slot = there;
        Ok(())
    }

    /// The tree as a manifest, under a policy.
    fn difference(&self, expected: &Manifest) -> Result<(), String> {
        let paths = |disk: &Self| disk.tree.keys().cloned().collect::<Vec<_>>();
        let wanted: Vec<TreePath> = expected.entries().iter().map(|entry| entry.path.clone()).collect();
        if paths(self) != wanted {
            return Err(format!("paths {:?} instead of {wanted:?}", paths(self)));
        }
        let mut leaders: BTreeMap<usize, &TreePath> = BTreeMap::new();
        for Entry { path, node } in expected.entries() {
            let inode = self.tree[path];
            let (kind, metadata) = self.inodes[inode].clone();
            if let Some(difference) = Node::new(kind, metadata).difference(node, expected.policy()) {
                return Err(format!("{path}: {difference}"));
            }
            let leader = *leaders.entry(inode).or_insert(path);
            if leader != node.leader.as_ref().unwrap_or(path) {
                return Err(format!("{path} is joined to {leader}, not to {:?}", node.leader));
            }
        }
        Ok(())
    }
}

/// Does as staging and stepping do, there and back.
fn there_and_back(before: &Manifest, after: &Manifest, extra: &[bool], outside: &[bool]) -> Result<(), String> {
    let policy = before.policy();
    let mut disk = Disk::holding(before);
    let old = disk.clone();
    let all: BTreeSet<&TreePath> = before.entries().iter().chain(after.entries()).map(|entry| &entry.path).collect();
    // Inodes that have another name elsewhere, such as in undo data.
    let elsewhere: BTreeSet<usize> =
        old.tree.values().zip(outside).filter(|(_, outside)| **outside).map(|(inode, _)| *inode).collect();
    let proposals: Vec<Proposal> = all
        .into_iter()
        .enumerate()
        .filter(|(n, path)| before.get(path) != after.get(path) || extra[*n])
        .map(|(_, path)| {
            let inode = old.tree.get(path).filter(|inode| !old.is_directory(**inode));
            let links = inode.map_or(1, |inode| {
                let names = old.tree.values().filter(|other| *other == inode).count();
                names + usize::from(elsewhere.contains(inode))
            });
            let (before, after) = (before.get(path).cloned(), after.get(path).cloned());
            Proposal { path: path.clone(), before, links: links as u64, after }
        })
        .collect();
    let (arrangements, order) = arrange(&proposals, policy);
    if arrangements.len() != proposals.len() {
        return Err("not one arrangement for each proposal".into());
    }
    let mut ordered = order.clone();
    ordered.sort_unstable();
    let moving: Vec<usize> = (0..proposals.len()).filter(|n| arrangements[*n] != Arrangement::Nothing).collect();
    if ordered != moving {
        return Err(format!("order {order:?} is not of {moving:?}"));
    }

    // Leaders are staged before those that follow them; a leader that stays is linked from the tree.
    let mut slots: Vec<Option<usize>> = vec![None; proposals.len()];
    for follow in [false, true] {
        for (n, proposal) in proposals.iter().enumerate() {
            let Some(node) = proposal.after.as_ref().filter(|node| node.leader.is_some() == follow) else { continue };
            if arrangements[n] != Arrangement::Swap {
                continue;
            }
            slots[n] = Some(match &node.leader {
                None => disk.make(node),
                Some(leader) => match proposals.iter().position(|p| p.path == *leader) {
                    Some(at) if arrangements[at] == Arrangement::Swap => slots[at].ok_or("the leader has no slot")?,
                    _ => *disk.tree.get(leader).ok_or_else(|| format!("leader {leader} is not there yet"))?,
                },
            });
        }
    }
    let (staged, first) = (slots.clone(), disk.clone());

    let amend = |disk: &mut Disk, n: usize, to: &Option<Node>| -> Result<(), String> {
        let (at, to) = (&proposals[n].path, to.as_ref().ok_or("amends nothing")?);
        let inode = disk.tree[at];
        let shared = slots_or_tree_share(disk, &staged, inode);
        if !disk.is_directory(inode) && (shared || elsewhere.contains(&inode)) {
            return Err(format!("{at} is amended in place but has another name"));
        }
        disk.inodes[inode].1 = to.metadata.clone();
        Ok(())
    };
    for &n in &order {
        match arrangements[n] {
            Arrangement::Swap => disk.swap(&proposals[n].path, &mut slots[n])?,
            _ => amend(&mut disk, n, &proposals[n].after)?,
        }
    }
    disk.difference(after).map_err(|error| format!("forward: {error}"))?;
    for &n in order.iter().rev() {
        match arrangements[n] {
            Arrangement::Swap => disk.swap(&proposals[n].path, &mut slots[n])?,
            _ => amend(&mut disk, n, &proposals[n].before)?,
        }
    }
    if slots != staged || disk != first {
        return Err(format!("backward: {disk:?} instead of {first:?}"));
    }
    disk.difference(before).map_err(|error| format!("backward: {error}"))
}

fn slots_or_tree_share(disk: &Disk, staged: &[Option<usize>], inode: usize) -> bool {
    let names = disk.tree.values().filter(|other| **other == inode).count();
    names > 1 || staged.contains(&Some(inode))
}

/// The cases of a property; a failing one is printed, and becomes a test of its own.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() }
}

/// A leader that leaves its group gets an inode of its own, so nobody who is joined to it then may keep another.
#[test]
fn whoever_joins_a_staged_leader_is_staged_too() {
    let file = || Wish::File { content: 0, metadata: 0 };
    let wishes = |f: Wish, l: Wish| {
        let mut wishes = vec![Wish::Nothing; PATHS.len()];
        (wishes[0], wishes[5], wishes[11]) = (file(), f, l);
        tree(&wishes, Policy::default())
    };
    let none = vec![false; PATHS.len() + 1];
    let (before, after) = (wishes(Wish::Link(0), file()), wishes(file(), Wish::Link(5)));
    there_and_back(&before, &after, &none, &none).unwrap();
    there_and_back(&after, &before, &none, &none).unwrap();
}

fn linked(at: &str, before: (u8, Option<&str>), after: (u8, Option<&str>)) -> Proposal {
    let node = |(content, leader): (u8, Option<&str>)| Node {
        kind: Kind::File { size: 1, digest: Digest::of(&[content]) },
        metadata: metadata(0),
        leader: leader.map(path),
    };
    Proposal { path: path(at), before: Some(node(before)), links: 2, after: Some(node(after)) }
}

#[test]
fn a_hard_link_that_is_proposed_as_it_is_stays() {
    let group = [linked("a", (0, None), (0, None)), linked("b", (0, Some("a")), (0, Some("a")))];
    for some in [&group[..], &group[..1], &group[1..]] {
        let (arrangements, order) = arrange(some, Policy::default());
        assert!(arrangements.iter().all(|how| *how == Arrangement::Nothing) && order.is_empty(), "{arrangements:?}");
    }
}

/// Of a recorded group whose names were found apart, those that are right already are staged all the same: only so are
/// they joined to the leader that is staged.
#[test]
fn a_hard_link_that_was_found_broken_is_joined_again() {
    let group = [linked("a", (1, None), (0, None)), linked("b", (0, Some("a")), (0, Some("a")))];
    let (arrangements, order) = arrange(&group, Policy::default());
    assert_eq!((arrangements, order), (vec![Arrangement::Swap; 2], vec![0, 1]));
}

/// Metadata of a file are set in place. Those of a link are not, nor those of a file that gets another name by the same
/// update, or that was recorded with others: for these a new object comes.
#[test]
fn what_cannot_be_changed_in_place_is_replaced() {
    let file = || Kind::File { size: 1, digest: Digest::of(b"x") };
    let changed = |kind: Kind| {
        let node = |choice| Node::new(kind.clone(), metadata(choice));
        Proposal { path: path("a"), before: Some(node(0)), links: 1, after: Some(node(3)) }
    };
    let joined = Node { leader: Some(path("a")), ..Node::new(file(), metadata(3)) };
    let other = Proposal { path: path("b"), before: None, links: 1, after: Some(joined) };
    let of = |proposals: &[Proposal]| arrange(proposals, Policy { owner: true, mtime: false }).0;
    assert_eq!(of(&[changed(file())]), [Arrangement::InPlace]);
    assert_eq!(of(&[changed(Kind::Symlink { target: b"x".as_slice().into() })]), [Arrangement::Swap]);
    assert_eq!(of(&[changed(file()), other]), [Arrangement::Swap; 2]);
    let mut recorded = changed(file());
    recorded.before.as_mut().unwrap().leader = Some(path("Z"));
    assert_eq!(of(&[recorded]), [Arrangement::Swap]);
}

proptest! {
    #![proptest_config(cases(50_000))]

    #[test]
    fn the_steps_lead_from_any_tree_to_any_other_and_back((before, after, extra, outside) in pairs()) {
        if let Err(error) = there_and_back(&before, &after, &extra, &outside) {
            let show = |manifest: &Manifest| manifest.entries().iter().map(|entry| {
                let node = &entry.node;
                let kind = match &node.kind { Kind::Directory => "dir".into(), Kind::Symlink { .. } => "link".into(),
                    Kind::File { digest, .. } => format!("file {:02x}", digest.0[0]) };
                let leader = node.leader.as_ref().map_or(String::new(), |leader| format!(" = {leader}"));
                format!("{} {kind} {:o} {}{leader}", entry.path, node.metadata.mode, node.metadata.uid)
            }).collect::<Vec<_>>();
            prop_assert!(false, "{}\nbefore {:#?}\nafter {:#?}", error, show(&before), show(&after));
        }
    }
}

fn nodes() -> impl Strategy<Value = Node> {
    (0..4u8, any::<u64>(), any::<[u8; 32]>(), 0..9u8, any::<bool>()).prop_map(|(kind, size, digest, choice, led)| {
        match kind {
            0 => Node::new(Kind::Directory, metadata(choice)),
            1 => Node::new(
                Kind::Symlink { target: digest.map(|byte| byte | 1).to_vec().into() },
                Metadata { mode: 0o777, xattrs: vec![], ..metadata(choice) },
            ),
            _ => Node {
                kind: Kind::File { size, digest: Digest(digest) },
                metadata: metadata(choice),
                leader: led.then(|| path("some/leader")),
            },
        }
    })
}

fn plans() -> impl Strategy<Value = Plan> {
    let step = (
        prop::sample::select(&PATHS[..]),
        any::<(u32, u64, u64, bool)>(),
        prop::option::of(nodes()),
        nodes(),
        0..9u8,
        0..16u16,
    )
        .prop_map(|(at, (slot, before_inode, after_inode, flip), before, after, choice, root)| {
            let in_place = flip && before.is_none();
            let before = if in_place { Some(Node { metadata: metadata(choice), ..after.clone() }) } else { before };
            let before = before.map(|node| match node.kind {
                Kind::Symlink { .. } => Node { metadata: after_link(node.metadata), ..node },
                _ => node,
            });
            let step =
                Step { root, path: path(at), slot, in_place, before, before_inode, after: Some(after), after_inode };
            if flip { step.inverse() } else { step }
        });
    let methods = prop::sample::select(&[Method::Exchange, Method::Replace][..]);
    let digest = || prop::option::of((1..=u8::MAX).prop_map(|byte| Digest([byte; 32])));
    let ids = any::<([u8; 16], [u8; 16])>();
    (ids, methods, policies(), digest(), digest(), prop::collection::vec(step, 0..8)).prop_map(
        |((transaction, slots), method, policy, state, manifest, steps)| Plan {
            transaction,
            slots,
            method,
            policy,
            state,
            manifest,
            steps,
        },
    )
}

/// What the metadata of a symbolic link can be.
fn after_link(metadata: Metadata) -> Metadata {
    Metadata { mode: 0o777, xattrs: vec![], ..metadata }
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn a_plan_reads_back_and_undoes_itself(plan in plans()) {
        let (bytes, digest) = plan.encode();
        prop_assert_eq!(Digest::of(&bytes), digest);
        let proposal = |step: &Step| {
            let (path, before, after) = (step.path.clone(), step.before.clone(), step.after.clone());
            Proposal { path, before, links: 1, after }
        };
        let proposals: Vec<Proposal> = plan.steps.iter().map(proposal).collect();
        prop_assert_eq!(Plan::length(proposals.iter()), bytes.len() as u64);
        prop_assert_eq!(Plan::decode(&bytes).unwrap(), plan.clone());
        let undo = plan.clone().inverse([1; 16]);
        prop_assert_eq!((undo.transaction, undo.slots), ([1; 16], plan.slots));
        // What the transaction has written beside the plan is its own: an undo writes nothing of it.
        prop_assert_eq!(undo.inverse(plan.transaction), Plan { state: None, manifest: None, ..plan });
    }

    #[test]
    fn whatever_bytes_decode_are_those_of_the_plan(
        plan in plans(),
        edits in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<Index>()),
        tail in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let (mut bytes, _) = plan.encode();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        bytes.extend(tail);
        if let Ok(decoded) = Plan::decode(&bytes) {
            prop_assert_eq!(decoded.encode().0, bytes);
        }
    }

    #[test]
    fn random_bytes_are_no_plan(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Plan::decode(&bytes).is_err());
    }
}

#[test]
fn a_plan_cut_anywhere_or_with_a_byte_too_many_is_refused() {
    let node = |content: &[u8]| Node::new(Kind::File { size: 1, digest: Digest::of(content) }, metadata(5));
    let step = |at, before, after| Step {
        root: 0,
        path: path(at),
        slot: 3,
        in_place: false,
        before,
        before_inode: 1,
        after,
        after_inode: 2,
    };
    let plan = |steps| Plan {
        transaction: [1; 16],
        slots: [2; 16],
        method: Method::Exchange,
        policy: Policy::default(),
        state: None,
        manifest: None,
        steps,
    };
    let good = plan(vec![step("a", Some(node(b"x")), Some(node(b"y"))), step("b", None, Some(node(b"z")))]);
    let (bytes, _) = good.encode();
    for cut in 0..bytes.len() {
        assert!(Plan::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
    assert!(Plan::decode(&longer).is_err());
    for (bad, why) in [
        (step("a", None, None), "nothing becomes nothing"),
        (step("", Some(node(b"x")), None), "the root is never replaced"),
        (Step { in_place: true, ..step("a", Some(node(b"x")), Some(node(b"y"))) }, "content never changes in place"),
        (Step { in_place: true, ..step("a", None, Some(node(b"y"))) }, "nothing is created in place"),
        (Step { root: 16, ..step("a", None, Some(node(b"y"))) }, "there is no such root"),
    ] {
        assert!(Plan::decode(&plan(vec![bad]).encode().0).is_err(), "{why}");
    }
}
