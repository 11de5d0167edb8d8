//! Walking a bucket in key order.

use bytes::Bytes;

use crate::Reader;
use crate::error::Result;
use crate::page::{DEPTH_MAX, FLAG_BUCKET, Kind, Page};

/// Flags, key and value of a leaf element.
pub(crate) type Element = (u32, Bytes, Bytes);

/// Where a cursor stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first element.
    Start,
    /// At the element that the stack names.
    At,
    /// Behind the last element.
    End,
}

/// A position in a bucket. Nested buckets are passed over. Keys and values are slices of the
/// page's buffer: they stay valid (and keep the page in memory) as long as they live.
pub struct Cursor {
    reader: Reader,
    root: Option<Page>,
    /// From the root to the leaf: page and index of the child or element.
    stack: Vec<(Page, usize)>,
    state: State,
}

impl Cursor {
    pub(crate) fn new(reader: Reader, root: Option<Page>) -> Self {
        Self { reader, root, stack: Vec::new(), state: State::Start }
    }

    /// To the first row.
    pub fn first(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        let element = self.first_element()?;
        self.row(element, Self::next_element)
    }

    /// To the last row.
    pub fn last(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        let element = self.last_element()?;
        self.row(element, Self::prev_element)
    }

    /// To the first row whose key is `key` or greater.
    pub fn seek(&mut self, key: &[u8]) -> Result<Option<(Bytes, Bytes)>> {
        let element = self.seek_element(key)?;
        self.row(element, Self::next_element)
    }

    /// To the following row; `None` behind the last, where it stays. The first row at first.
    #[expect(clippy::should_implement_trait, reason = "fallible, and a cursor also goes back")]
    pub fn next(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        let element = self.next_element()?;
        self.row(element, Self::next_element)
    }

    /// To the row before; `None` before the first, where it stays. The last row behind the end.
    pub fn prev(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        let element = self.prev_element()?;
        self.row(element, Self::prev_element)
    }

    /// Goes on in one direction until the element is no nested bucket.
    fn row(
        &mut self,
        mut element: Option<Element>,
        step: impl Fn(&mut Self) -> Result<Option<Element>>,
    ) -> Result<Option<(Bytes, Bytes)>> {
        while let Some((flags, key, value)) = element {
            if flags != FLAG_BUCKET {
                return Ok(Some((key, value)));
            }
            element = step(self)?;
        }
        Ok(None)
    }

    /// To the first element, nested buckets included.
    pub(crate) fn first_element(&mut self) -> Result<Option<Element>> {
        self.restart(|_| 0)?;
        self.settle(State::End)
    }

    /// To the last element, nested buckets included.
    fn last_element(&mut self) -> Result<Option<Element>> {
        self.restart(|page| page.count.saturating_sub(1))?;
        self.settle(State::Start)
    }

    fn seek_element(&mut self, key: &[u8]) -> Result<Option<Element>> {
        self.restart(|page| match page.kind {
            Kind::Branch => page.view().child_for(key),
            Kind::Leaf => page.view().search(key).unwrap_or_else(|i| i),
        })?;
        match self.stack.last() {
            // Every key of the leaf is smaller: the answer is the next leaf's first.
            Some((page, i)) if *i >= page.count && page.count > 0 => {
                self.climb(true)?;
                self.settle(State::End)
            }
            _ => self.settle(State::End),
        }
    }

    /// To the following element, nested buckets included.
    pub(crate) fn next_element(&mut self) -> Result<Option<Element>> {
        match self.state {
            State::Start => self.first_element(),
            State::End => Ok(None),
            State::At => self.step(true),
        }
    }

    fn prev_element(&mut self) -> Result<Option<Element>> {
        match self.state {
            State::Start => Ok(None),
            State::End => self.last_element(),
            State::At => self.step(false),
        }
    }

    /// One element onward inside the leaf, or to the neighbouring leaf.
    fn step(&mut self, forward: bool) -> Result<Option<Element>> {
        let outside = if forward { State::End } else { State::Start };
        if let Some((page, i)) = self.stack.last_mut()
            && let Some(next) = moved(*i, page.count, forward)
        {
            *i = next;
            return Ok(self.element());
        }
        self.climb(forward)?;
        self.settle(outside)
    }

    /// Leaves the leaf, and goes down to the nearest one on the other side; the stack is empty
    /// when there is none.
    fn climb(&mut self, forward: bool) -> Result<()> {
        self.stack.pop();
        while let Some((page, i)) = self.stack.last_mut() {
            if let Some(next) = moved(*i, page.count, forward) {
                *i = next;
                return self.descend(|page| if forward { 0 } else { page.count - 1 });
            }
            self.stack.pop();
        }
        Ok(())
    }

    /// From the root down to a leaf.
    fn restart(&mut self, choose: impl Fn(&Page) -> usize) -> Result<()> {
        self.stack.clear();
        self.state = State::Start;
        let Some(root) = self.root.clone() else { return Ok(()) };
        let i = choose(&root);
        self.stack.push((root, i));
        self.descend(choose)
    }

    /// From the branch on top of the stack down to a leaf.
    fn descend(&mut self, choose: impl Fn(&Page) -> usize) -> Result<()> {
        let high_water = self.reader.meta().high_water;
        while let Some((page, i)) = self.stack.last()
            && page.kind == Kind::Branch
        {
            if self.stack.len() >= DEPTH_MAX {
                let expected = format!("a tree at most {DEPTH_MAX} pages deep");
                return Err(self.reader.pager().damaged(page.id, expected));
            }
            let child = self.reader.pager().child(page, *i, high_water)?;
            let i = choose(&child);
            self.stack.push((child, i));
        }
        Ok(())
    }

    /// Takes the state that the stack is in; an empty one means `outside`.
    fn settle(&mut self, outside: State) -> Result<Option<Element>> {
        let element = self.element();
        self.state = if element.is_some() { State::At } else { outside };
        Ok(element)
    }

    fn element(&self) -> Option<Element> {
        let (page, i) = self.stack.last()?;
        (*i < page.count).then(|| (page.view().flags(*i), page.key(*i), page.value(*i)))
    }
}

/// The neighbouring index, when there is one.
fn moved(i: usize, count: usize, forward: bool) -> Option<usize> {
    if forward { Some(i + 1).filter(|i| *i < count) } else { i.checked_sub(1) }
}
