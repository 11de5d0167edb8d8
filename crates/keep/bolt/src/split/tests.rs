//! Pieces cover the node, fit their pages and are never too few.

use bytes::Bytes;
use mainstay_env::Dice;
use mainstay_env_sim::SimDice;

use super::{Fill, cut};
use crate::page::{Elem, Kind, node_size};

fn elems(dice: &mut SimDice, count: u64, key_most: u64, value_most: u64) -> Vec<Elem> {
    let mut elem = |_| {
        let key = Bytes::from(vec![1; 1 + dice.below(key_most) as usize]);
        let value = Bytes::from(vec![2; dice.below(value_most) as usize]);
        Elem { key, value, flags: 0, child: 7 }
    };
    (0..count).map(&mut elem).collect()
}

#[test]
fn pieces_are_whole_and_never_too_few() {
    let mut dice = SimDice::new(1);
    for round in 0..3000 {
        let kind = if round % 2 == 0 { Kind::Leaf } else { Kind::Branch };
        let fill = if round % 3 == 0 { Fill::Append } else { Fill::Even };
        let count = 2 + dice.below(300);
        let key_most = [20, 400, 5000][dice.below(3) as usize];
        let value_most = if kind == Kind::Leaf { [30, 900, 9000][round % 3] } else { 1 };
        let elems = elems(&mut dice, count, key_most, value_most);
        // Said here and not asked of the code: bbolt panics in a branch of one.
        let fewest = if kind == Kind::Branch { 2 } else { 1 };
        let ends = cut(kind, &elems, 4096, fill);
        assert_eq!(ends.last(), Some(&elems.len()));
        let mut start = 0;
        for end in ends {
            let piece = &elems[start..end];
            assert!(piece.len() >= fewest, "{kind:?} of {}", piece.len());
            let size = node_size(piece);
            let largest = piece.iter().map(Elem::size).max().unwrap_or(0);
            if fill == Fill::Even && kind == Kind::Leaf && piece.len() > 1 {
                assert!(size <= 4096, "{size} bytes in one piece");
            }
            assert!(size <= 4 * 4096 + 3 * largest, "{size} bytes in one piece");
            start = end;
        }
    }
}

#[test]
fn appended_rows_fill_their_pages() {
    let mut dice = SimDice::new(2);
    for bytes in [10, 100, 500, 1100, 1500, 2100, 3000, 5000, 9000, 100_000] {
        let rows: Vec<_> = (0..400)
            .map(|_| Elem { value: vec![0; bytes].into(), ..elems(&mut dice, 1, 17, 1).remove(0) })
            .collect();
        let mut start = 0;
        let mut pages = 0;
        for end in cut(Kind::Leaf, &rows, 4096, Fill::Append) {
            pages += node_size(&rows[start..end]).div_ceil(4096);
            start = end;
        }
        let used = node_size(&rows) as f64 / (pages * 4096) as f64;
        assert!(used > 0.7, "{bytes} bytes a row: {used:.2} of the pages used");
    }
}
