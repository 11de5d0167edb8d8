//! Go's `sort.Sort`, which decides where equal elements end up.
//!
//! A role's permissions are stored sorted by key alone, by an algorithm that is not
//! stable, and a later grant replaces the first permission with its key. So the order
//! among permissions of one key is part of the rows and of what grants do, and only
//! the same algorithm gives it: pattern-defeating quicksort as Go has had it since
//! 1.19. Up to twelve elements it is a plain insertion sort.

/// Ranges up to this long are sorted by insertion.
const INSERTION_MAX: usize = 12;
/// Ranges from here on take their pivot from nine elements, and may be mended by shifts.
const LONG: usize = 50;
/// Out-of-order pairs that are mended before giving up.
const SHIFTS_MAX: usize = 5;
/// Exchanges among nine elements that mean: all of them were in descending order.
const EXCHANGES_MAX: usize = 12;

/// Sorts as Go does.
pub(crate) fn sort<T>(data: &mut [T], less: impl Fn(&T, &T) -> bool) {
    let len = data.len();
    if len > 1 {
        let mut sorter = Sorter { data, less };
        sorter.quicksort(0, len, bits(len));
    }
}

/// The number of bits that `n` takes.
fn bits(n: usize) -> u32 {
    usize::BITS - n.leading_zeros()
}

/// What a look at a few elements says about a range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hint {
    Ascending,
    Descending,
    Unknown,
}

struct Sorter<'a, T, L> {
    data: &'a mut [T],
    less: L,
}

impl<T, L: Fn(&T, &T) -> bool> Sorter<'_, T, L> {
    fn less(&self, a: usize, b: usize) -> bool {
        (self.less)(&self.data[a], &self.data[b])
    }

    /// Sorts `from..to`. `bad_left` is how many bad pivots are taken before giving up
    /// on pivots.
    fn quicksort(&mut self, mut from: usize, mut to: usize, mut bad_left: u32) {
        let (mut balanced, mut partitioned) = (true, true);
        loop {
            let len = to - from;
            if len <= INSERTION_MAX {
                return self.insertion_sort(from, to);
            }
            if bad_left == 0 {
                return self.heap_sort(from, to);
            }
            if !balanced {
                self.scatter(from, to);
                bad_left -= 1;
            }
            let (mut pivot, mut hint) = self.choose_pivot(from, to);
            if hint == Hint::Descending {
                self.data[from..to].reverse();
                pivot = (to - 1) - (pivot - from);
                hint = Hint::Ascending;
            }
            let seems_sorted = balanced && partitioned && hint == Hint::Ascending;
            if seems_sorted && self.mend(from, to) {
                return;
            }
            // What lies before is not larger than anything here, so a pivot that is not
            // larger than it is one of many equals.
            if from > 0 && !self.less(from - 1, pivot) {
                from = self.partition_equals(from, to, pivot);
                continue;
            }
            let (middle, untouched) = self.partition(from, to, pivot);
            partitioned = untouched;
            let (left, right) = (middle - from, to - middle);
            balanced = left.min(right) >= len / 8;
            if left < right {
                self.quicksort(from, middle, bad_left);
                from = middle + 1;
            } else {
                self.quicksort(middle + 1, to, bad_left);
                to = middle;
            }
        }
    }

    fn insertion_sort(&mut self, from: usize, to: usize) {
        for i in from + 1..to {
            let mut j = i;
            while j > from && self.less(j, j - 1) {
                self.data.swap(j, j - 1);
                j -= 1;
            }
        }
    }

    fn heap_sort(&mut self, from: usize, to: usize) {
        let len = to - from;
        for root in (0..=(len - 1) / 2).rev() {
            self.sift_down(root, len, from);
        }
        for last in (0..len).rev() {
            self.data.swap(from, from + last);
            self.sift_down(0, last, from);
        }
    }

    /// Lets an element sink in the heap of `len` elements at `first`.
    fn sift_down(&mut self, mut root: usize, len: usize, first: usize) {
        loop {
            let mut child = 2 * root + 1;
            if child >= len {
                return;
            }
            if child + 1 < len && self.less(first + child, first + child + 1) {
                child += 1;
            }
            if !self.less(first + root, first + child) {
                return;
            }
            self.data.swap(first + root, first + child);
            root = child;
        }
    }

    /// Divides into elements less than the pivot, the pivot, and the rest. Returns where
    /// the pivot is now, and whether nothing but it had to move.
    fn partition(&mut self, from: usize, to: usize, pivot: usize) -> (usize, bool) {
        self.data.swap(from, pivot);
        let (mut i, mut j) = (from + 1, to - 1);
        let mut untouched = true;
        loop {
            while i <= j && self.less(i, from) {
                i += 1;
            }
            while i <= j && !self.less(j, from) {
                j -= 1;
            }
            if i > j {
                break;
            }
            self.data.swap(i, j);
            i += 1;
            j -= 1;
            untouched = false;
        }
        self.data.swap(j, from);
        (j, untouched)
    }

    /// Divides into elements equal to the pivot and larger ones, when there are no
    /// smaller ones. Returns where the larger ones begin.
    fn partition_equals(&mut self, from: usize, to: usize, pivot: usize) -> usize {
        self.data.swap(from, pivot);
        let (mut i, mut j) = (from + 1, to - 1);
        loop {
            while i <= j && !self.less(from, i) {
                i += 1;
            }
            while i <= j && self.less(from, j) {
                j -= 1;
            }
            if i > j {
                return i;
            }
            self.data.swap(i, j);
            i += 1;
            j -= 1;
        }
    }

    /// Tries to finish a nearly sorted range with a few shifts and says whether it is
    /// sorted now. Shifts to the left may go beyond `from`, as in Go.
    fn mend(&mut self, from: usize, to: usize) -> bool {
        let mut i = from + 1;
        for _ in 0..SHIFTS_MAX {
            while i < to && !self.less(i, i - 1) {
                i += 1;
            }
            if i == to {
                return true;
            }
            if to - from < LONG {
                return false;
            }
            self.data.swap(i, i - 1);
            if i - from >= 2 {
                let mut j = i - 1;
                while j >= 1 && self.less(j, j - 1) {
                    self.data.swap(j, j - 1);
                    j -= 1;
                }
            }
            if to - i >= 2 {
                let mut j = i + 1;
                while j < to && self.less(j, j - 1) {
                    self.data.swap(j, j - 1);
                    j += 1;
                }
            }
        }
        false
    }

    /// Moves three elements to places that look random and are not.
    fn scatter(&mut self, from: usize, to: usize) {
        let len = to - from;
        if len < 8 {
            return;
        }
        let mut random = len as u64;
        let mask = (1u64 << bits(len)) - 1;
        let middle = from + (len / 4) * 2;
        for index in middle - 1..=middle + 1 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // The mask is at most twice the length.
            let mut other = (random & mask) as usize;
            if other >= len {
                other -= len;
            }
            self.data.swap(index, from + other);
        }
    }

    fn choose_pivot(&self, from: usize, to: usize) -> (usize, Hint) {
        let len = to - from;
        let mut exchanges = 0;
        let quarter = len / 4;
        let mut three = [from + quarter, from + quarter * 2, from + quarter * 3];
        if len >= 8 {
            if len >= LONG {
                three = three.map(|i| self.median([i - 1, i, i + 1], &mut exchanges));
            }
            three[1] = self.median(three, &mut exchanges);
        }
        let hint = match exchanges {
            0 => Hint::Ascending,
            EXCHANGES_MAX => Hint::Descending,
            _ => Hint::Unknown,
        };
        (three[1], hint)
    }

    /// Which of three elements is the middle one; counts the exchanges it took.
    fn median(&self, [a, b, c]: [usize; 3], exchanges: &mut usize) -> usize {
        let (a, b) = self.ordered(a, b, exchanges);
        let (b, _) = self.ordered(b, c, exchanges);
        let (_, b) = self.ordered(a, b, exchanges);
        b
    }

    fn ordered(&self, a: usize, b: usize, exchanges: &mut usize) -> (usize, usize) {
        if self.less(b, a) {
            *exchanges += 1;
            (b, a)
        } else {
            (a, b)
        }
    }
}

#[cfg(test)]
mod tests;
