//! The treap against a plain list of ranges.

use super::*;

fn text(n: u64) -> Bytes {
    Bytes::from(format!("{:03}", n % 300))
}

#[test]
fn finds_what_a_list_finds() {
    for seed in 0..20 {
        let mut tree = Intervals::default();
        let mut list: Vec<(Bytes, End, u32)> = Vec::new();
        let mut roll = 0;
        let mut next = || {
            roll += 1;
            scramble(seed << 32 | roll)
        };
        for group in 0..600 {
            if next() % 3 == 0 && !list.is_empty() {
                let (start, end, _) = list.swap_remove(next() as usize % list.len());
                tree.remove(&start, &end);
            } else {
                let start = text(next());
                let end = (next() % 8 != 0).then(|| text(next())).filter(|end| *end > start);
                let known = list.iter().find(|known| (&known.0, &known.1) == (&start, &end));
                assert_eq!(tree.get(&start, &end), known.map(|known| known.2));
                if known.is_none() {
                    tree.insert(start.clone(), end.clone(), group);
                    list.push((start, end, group));
                }
            }
            let key = text(next());
            let mut got = Vec::new();
            tree.containing(&key, &mut |group| got.push(group));
            let holds = |range: &&(Bytes, End, u32)| range.0 <= key && ends_after(&range.1, &key);
            let mut want: Vec<u32> = list.iter().filter(holds).map(|range| range.2).collect();
            got.sort_unstable();
            want.sort_unstable();
            assert_eq!(got, want);
        }
    }
}

#[test]
fn many_disjoint_ranges_make_a_shallow_tree() {
    fn depth(tree: &Intervals, at: u32) -> usize {
        if at == NONE {
            return 0;
        }
        let node = tree.node(at);
        1 + depth(tree, node.left).max(depth(tree, node.right))
    }
    let mut tree = Intervals::default();
    for n in 0..20_000u32 {
        let start = format!("/registry/{n:06}/");
        let end = format!("/registry/{n:06}0");
        tree.insert(start.into(), Some(end.into()), n);
    }
    assert!(depth(&tree, tree.root) < 50);
    let mut got = Vec::new();
    tree.containing(b"/registry/012345/pod", &mut |group| got.push(group));
    assert_eq!(got, [12345]);
}
