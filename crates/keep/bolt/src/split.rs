//! Where a node that has outgrown its page is cut.

use crate::page::{ELEMENTS_MAX, Elem, HEADER, Kind, node_size};

/// How a node is cut into pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// The node grew at the right edge of its bucket: full pages and a rest, as nothing will be
    /// put between these keys again.
    Append,
    /// Anything may follow: pages of one size, at most nine tenths full.
    Even,
}

/// Pages that a node may take so that rows of half a page or more waste less (append only).
const APPEND_PAGES_MAX: usize = 4;

/// Ends of the pieces: `elems[0..ends[0]]`, `elems[ends[0]..ends[1]]` and so on. No piece is
/// empty; a branch's have at least two elements when there are two at all.
pub(crate) fn cut(kind: Kind, elems: &[Elem], page_size: usize, fill: Fill) -> Vec<usize> {
    let total = node_size(elems);
    if total <= page_size && elems.len() <= ELEMENTS_MAX {
        return vec![elems.len()];
    }
    let soft = match fill {
        Fill::Append => usize::MAX,
        Fill::Even => {
            let pages = (total * 10).div_ceil(page_size * 9);
            total / pages
        }
    };
    let fewest = kind.elements_min();
    let mut ends = Vec::new();
    let (mut start, mut size) = (0, HEADER);
    for (i, elem) in elems.iter().enumerate() {
        let count = i - start;
        let full = size + elem.size() > room(kind, size, page_size, fill);
        if count >= ELEMENTS_MAX || (count >= fewest && (full || size >= soft)) {
            ends.push(i);
            (start, size) = (i, HEADER);
        }
        size += elem.size();
    }
    ends.push(elems.len());
    mend_last(kind, &mut ends);
    ends
}

/// Bytes that a node of `size` may grow to.
fn room(kind: Kind, size: usize, page_size: usize, fill: Fill) -> usize {
    let pages = size.div_ceil(page_size);
    let room = pages * page_size;
    // A quarter of the space would stay empty: let it grow, its neighbours fill the gap.
    let wasteful = (room - size) * 4 > room;
    if kind == Kind::Leaf && fill == Fill::Append && wasteful && size > HEADER {
        return page_size * pages.max(APPEND_PAGES_MAX);
    }
    room
}

/// Gives a last piece that is too short elements of the piece before it, or joins the two.
fn mend_last(kind: Kind, ends: &mut Vec<usize>) {
    let fewest = kind.elements_min();
    let [.., before, end] = ends[..] else { return };
    if end - before >= fewest {
        return;
    }
    let start = if ends.len() > 2 { ends[ends.len() - 3] } else { 0 };
    let last = ends.len() - 2;
    if before - start > fewest {
        ends[last] = end - fewest;
    } else {
        ends.remove(last);
    }
}

#[cfg(test)]
mod tests;
