//! One branch or leaf page: checked when it is read, encoded when it is written.
//!
//! ```text
//! | id u64 | flags u16 | count u16 | overflow u32 | elements, 16 B each | keys and values |
//! leaf element:   flags u32 (1 = bucket), pos u32, ksize u32, vsize u32
//! branch element: pos u32, ksize u32, child u64
//! ```
//! `pos` counts from the start of its own element. All integers are little-endian.

use std::cmp::Ordering;

use bytes::{BufMut, Bytes};

/// Bytes of the page header.
pub(crate) const HEADER: usize = 16;
/// Bytes of a leaf element and of a branch element.
pub(crate) const ELEMENT: usize = 16;
/// Bytes of the header in front of a bucket's value: root and sequence.
pub(crate) const BUCKET_HEADER: usize = 16;
/// Flag of a leaf element whose value is a bucket.
pub(crate) const FLAG_BUCKET: u32 = 1;
/// Page flag of a free list.
pub(crate) const FREELIST: u16 = 0x10;
/// Page flag of a meta page.
pub(crate) const META: u16 = 0x04;
/// bbolt panics when a node has 0xFFFF elements or more.
pub(crate) const ELEMENTS_MAX: usize = 0xFFFE;
/// Deepest tree that is followed. Two keys to a branch make 2^63 pages at this depth.
pub(crate) const DEPTH_MAX: usize = 64;

/// What a tree page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Keys and page ids of children.
    Branch,
    /// Rows.
    Leaf,
}

impl Kind {
    /// The page flag.
    pub(crate) fn flag(self) -> u16 {
        match self {
            Self::Branch => 0x01,
            Self::Leaf => 0x02,
        }
    }

    /// Fewest elements of a page that is not a root; bbolt panics in a branch of one.
    pub(crate) fn elements_min(self) -> usize {
        match self {
            Self::Branch => 2,
            Self::Leaf => 1,
        }
    }
}

/// The fixed part in front of every page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: u64,
    pub(crate) flags: u16,
    pub(crate) count: u16,
    pub(crate) overflow: u32,
}

impl Header {
    /// Reads a header; `None` when there are fewer than 16 bytes.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER)?;
        Some(Self {
            id: u64_at(bytes, 0),
            flags: u16::from_le_bytes([bytes[8], bytes[9]]),
            count: u16::from_le_bytes([bytes[10], bytes[11]]),
            overflow: u32_at(bytes, 12),
        })
    }

    /// Appends the 16 bytes.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.put_u64_le(self.id);
        out.put_u16_le(self.flags);
        out.put_u16_le(self.count);
        out.put_u32_le(self.overflow);
    }
}

/// The `u64` at `at`; the caller has checked that it is there.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight"))
}

/// The `u32` at `at`; the caller has checked that it is there.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four"))
}

/// A page whose every element has been checked: it lies inside the page, its
/// key is not empty, and the keys ascend.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    bytes: &'a [u8],
    pub(crate) kind: Kind,
    pub(crate) count: usize,
}

impl<'a> View<'a> {
    /// Checks a whole page with its overflow; the error says what was expected.
    pub(crate) fn check(bytes: &'a [u8], id: u64) -> Result<Self, String> {
        let header = Header::read(bytes).ok_or("shorter than a page header")?;
        if header.id != id {
            return Err(format!("page id {id} expected, {} found", header.id));
        }
        let kind = match header.flags {
            0x01 => Kind::Branch,
            0x02 => Kind::Leaf,
            other => return Err(format!("a branch or leaf page expected, flags {other:#06x}")),
        };
        let view = Self { bytes, kind, count: usize::from(header.count) };
        if kind == Kind::Branch && view.count == 0 {
            return Err("a branch page without children".to_owned());
        }
        view.check_elements()?;
        Ok(view)
    }

    fn check_elements(&self) -> Result<(), String> {
        let data = HEADER + ELEMENT * self.count;
        if data > self.bytes.len() {
            return Err(format!("{} elements do not fit {} bytes", self.count, self.bytes.len()));
        }
        let mut previous: &[u8] = &[];
        for i in 0..self.count {
            let (start, key, value) = self.extent(i);
            // Sums of a few u32 and a small offset: no overflow in 64 bits.
            let end = start + key as u64 + value as u64;
            if start < data as u64 || end > self.bytes.len() as u64 {
                return Err(format!("element {i} lies at {start}..{end}, outside of the page"));
            }
            if key == 0 {
                return Err(format!("element {i} has an empty key"));
            }
            let key = self.key(i);
            if previous >= key {
                return Err(format!("key {i} is not above the key before it"));
            }
            previous = key;
            if self.kind == Kind::Leaf && self.flags(i) != 0 {
                if self.flags(i) != FLAG_BUCKET {
                    return Err(format!("element {i} has unknown flags {:#x}", self.flags(i)));
                }
                if value < BUCKET_HEADER {
                    return Err(format!("element {i} is a bucket without a header"));
                }
            }
        }
        Ok(())
    }

    /// Start of the key in the page, key length, value length, as the element says.
    fn extent(&self, i: usize) -> (u64, usize, usize) {
        let at = HEADER + ELEMENT * i;
        let (pos, key, value) = match self.kind {
            Kind::Leaf => (at + 4, at + 8, u32_at(self.bytes, at + 12) as usize),
            Kind::Branch => (at, at + 4, 0),
        };
        let start = at as u64 + u64::from(u32_at(self.bytes, pos));
        (start, u32_at(self.bytes, key) as usize, value)
    }

    /// Where the key lies.
    fn key_range(&self, i: usize) -> std::ops::Range<usize> {
        let (start, key, _) = self.extent(i);
        start as usize..start as usize + key
    }

    /// Where the value lies; empty in a branch.
    fn value_range(&self, i: usize) -> std::ops::Range<usize> {
        let (start, key, value) = self.extent(i);
        start as usize + key..start as usize + key + value
    }

    /// Key of element `i`.
    pub(crate) fn key(&self, i: usize) -> &'a [u8] {
        &self.bytes[self.key_range(i)]
    }

    /// Value of element `i` of a leaf.
    pub(crate) fn value(&self, i: usize) -> &'a [u8] {
        &self.bytes[self.value_range(i)]
    }

    /// Flags of element `i` of a leaf.
    pub(crate) fn flags(&self, i: usize) -> u32 {
        u32_at(self.bytes, HEADER + ELEMENT * i)
    }

    /// Page id of child `i` of a branch.
    pub(crate) fn child(&self, i: usize) -> u64 {
        u64_at(self.bytes, HEADER + ELEMENT * i + 8)
    }

    /// Index of `key`, or of the first greater one.
    pub(crate) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            match self.key(middle).cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Index of the child whose range holds `key`; the first child also holds what is below it.
    pub(crate) fn child_for(&self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(i) => i,
            Err(i) => i.saturating_sub(1),
        }
    }

    /// Checks that the keys lie where the parent says: not below child `i`'s key, below the next.
    pub(crate) fn check_place(&self, parent: &View<'_>, i: usize) -> Result<(), String> {
        if self.count == 0 {
            return Err("a page without elements below a branch".to_owned());
        }
        if self.key(0) < parent.key(i) {
            return Err("the first key is below the parent's key".to_owned());
        }
        if i + 1 < parent.count && self.key(self.count - 1) >= parent.key(i + 1) {
            return Err("the last key is not below the parent's next key".to_owned());
        }
        Ok(())
    }
}

/// A checked page that owns its bytes.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    pub(crate) count: usize,
    bytes: Bytes,
}

impl Page {
    /// Checks a whole page with its overflow.
    pub(crate) fn parse(id: u64, bytes: Bytes) -> Result<Self, String> {
        let view = View::check(&bytes, id)?;
        let (kind, count) = (view.kind, view.count);
        Ok(Self { id, kind, count, bytes })
    }

    /// The page of an inline bucket: what follows the bucket header in its value.
    pub(crate) fn parse_inline(value: &Bytes) -> Result<Self, String> {
        if value.len() < BUCKET_HEADER + HEADER {
            return Err("an inline bucket shorter than its two headers".to_owned());
        }
        let page = Self::parse(0, value.slice(BUCKET_HEADER..))?;
        if page.kind != Kind::Leaf {
            return Err("an inline bucket that is not a leaf".to_owned());
        }
        Ok(page)
    }

    /// The page's elements.
    pub(crate) fn view(&self) -> View<'_> {
        View { bytes: &self.bytes, kind: self.kind, count: self.count }
    }

    /// The bytes of all its pages.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Pages that it takes in the file, overflow included.
    pub(crate) fn pages(&self, page_size: usize) -> u64 {
        (self.bytes.len() / page_size) as u64
    }

    /// Bytes that header, elements, keys and values take.
    pub(crate) fn bytes_used(&self) -> usize {
        let view = self.view();
        let elem = |i| ELEMENT + view.key(i).len() + view.value_range(i).len();
        HEADER + (0..self.count).map(elem).sum::<usize>()
    }

    /// Key of element `i`, sharing the page's bytes.
    pub(crate) fn key(&self, i: usize) -> Bytes {
        self.bytes.slice(self.view().key_range(i))
    }

    /// Value of element `i`, sharing the page's bytes.
    pub(crate) fn value(&self, i: usize) -> Bytes {
        self.bytes.slice(self.view().value_range(i))
    }

    /// Element `i` for a node that is being built.
    pub(crate) fn elem(&self, i: usize) -> Elem {
        let view = self.view();
        match self.kind {
            Kind::Leaf => {
                Elem { key: self.key(i), value: self.value(i), flags: view.flags(i), child: 0 }
            }
            Kind::Branch => Elem::child(self.key(i), view.child(i)),
        }
    }

    /// All elements.
    pub(crate) fn elems(&self) -> Vec<Elem> {
        (0..self.count).map(|i| self.elem(i)).collect()
    }
}

/// One element of a node that is being built.
#[derive(Clone, Debug)]
pub(crate) struct Elem {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) flags: u32,
    pub(crate) child: u64,
}

impl Elem {
    /// An element of a branch.
    pub(crate) fn child(key: Bytes, child: u64) -> Self {
        Self { key, value: Bytes::new(), flags: 0, child }
    }

    /// Bytes it takes in a page.
    pub(crate) fn size(&self) -> usize {
        ELEMENT + self.key.len() + self.value.len()
    }
}

/// Bytes of a node with these elements.
pub(crate) fn node_size(elems: &[Elem]) -> usize {
    HEADER + elems.iter().map(Elem::size).sum::<usize>()
}

/// Appends a page; the caller pads it to whole pages.
pub(crate) fn encode(kind: Kind, id: u64, overflow: u32, elems: &[Elem], out: &mut Vec<u8>) {
    assert!(elems.len() <= ELEMENTS_MAX, "a node is split before it is written");
    let count = elems.len() as u16;
    Header { id, flags: kind.flag(), count, overflow }.write(out);
    let mut pos = ELEMENT * elems.len();
    for elem in elems {
        let at = u32::try_from(pos).expect("a node is shorter than 4 GiB");
        match kind {
            Kind::Leaf => {
                out.put_u32_le(elem.flags);
                out.put_u32_le(at);
                out.put_u32_le(elem.key.len() as u32);
                out.put_u32_le(elem.value.len() as u32);
            }
            Kind::Branch => {
                assert!(elem.child != id, "a page is never its own child");
                out.put_u32_le(at);
                out.put_u32_le(elem.key.len() as u32);
                out.put_u64_le(elem.child);
            }
        }
        pos = pos - ELEMENT + elem.key.len() + elem.value.len();
    }
    for elem in elems {
        out.extend_from_slice(&elem.key);
        out.extend_from_slice(&elem.value);
    }
}

/// The header of a bucket's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BucketHeader {
    /// Root page; 0 when the bucket's one leaf follows inline.
    pub(crate) root: u64,
    /// Sequence number.
    pub(crate) sequence: u64,
}

impl BucketHeader {
    /// Reads the header of a bucket element, which [`View::check`] has found long enough.
    pub(crate) fn read(value: &[u8]) -> Self {
        Self { root: u64_at(value, 0), sequence: u64_at(value, 8) }
    }

    /// Appends the 16 bytes.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.put_u64_le(self.root);
        out.put_u64_le(self.sequence);
    }
}
