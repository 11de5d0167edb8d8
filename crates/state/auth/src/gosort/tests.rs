//! Beside Go itself: what `golden/main.go` wrote down.

use super::*;

/// Letters, and the place of each in Go's result.
fn cases() -> impl Iterator<Item = (Vec<u8>, Vec<usize>)> {
    include_str!("../../golden/sorts.txt").lines().map(|line| {
        let (letters, places) = line.split_once(' ').unwrap();
        let places = places.split(' ').map(|place| place.parse().unwrap()).collect();
        (letters.as_bytes().to_vec(), places)
    })
}

#[test]
fn equal_elements_end_up_where_go_puts_them() {
    let (mut count, mut unstable) = (0, 0);
    for (letters, expected) in cases() {
        let mut got: Vec<(u8, usize)> = letters.iter().copied().zip(0..).collect();
        sort(&mut got, |a, b| a.0 < b.0);
        assert!(got.is_sorted_by_key(|element| element.0));
        let places: Vec<usize> = got.iter().map(|element| element.1).collect();
        assert_eq!(places, expected, "{}", String::from_utf8_lossy(&letters));
        count += 1;
        unstable += usize::from(!got.is_sorted());
    }
    assert_eq!(count, 160);
    assert!(unstable > 50, "a stable sort would not do: {unstable}");
}

#[test]
fn sorted_whatever_the_shape() {
    // Shapes that drive a quicksort into its fall-backs.
    for len in [0, 1, 2, 12, 13, 49, 50, 51, 300, 2000] {
        let shapes: [fn(usize, usize) -> usize; 5] = [
            |i, _| i,
            |i, len| len - i,
            |i, len| i.min(len - i),
            |i, _| i * 7919 % 101,
            |i, len| if i % 2 == 0 { i } else { len - i },
        ];
        for shape in shapes {
            let mut data: Vec<usize> = (0..len).map(|i| shape(i, len)).collect();
            let mut sorted = data.clone();
            sorted.sort_unstable();
            sort(&mut data, |a, b| a < b);
            assert_eq!(data, sorted);
        }
    }
    let mut data: Vec<usize> = (0..500).map(|i| i * 7919 % 101).collect();
    let len = data.len();
    let mut sorter = Sorter { data: &mut data, less: |a: &usize, b: &usize| a < b };
    sorter.heap_sort(0, len);
    assert!(data.is_sorted());
}
