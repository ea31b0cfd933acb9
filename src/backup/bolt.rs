//! bbolt's file format, as far as needed to write a file from its first byte to its last (bbolt: internal/common/page.go,
//! meta.go, inode.go; bucket.go).
//!
//! Pages of 4 KiB; a node of a tree takes one or more. Two meta pages come first; then each bucket's tree, leaves first; then the
//! root leaf with all buckets, which holds the small ones whole. All numbers are little-endian. A page starts with its own number
//! (8 bytes), its kind (2), its number of elements (2) and the number of further pages that belong to it (4).

use bytes::{BufMut, Bytes};

pub const PAGE_BYTES: usize = 4096;
pub const META_PAGES: u64 = 2;

/// A node is closed at this size: some pages, so that the memory for each node's position stays small compared with its content.
pub const NODE_BYTES: usize = 4 * PAGE_BYTES;
/// Up to this size, a bucket has no tree: it is part of the root leaf.
pub const INLINE_BYTES_MAX: usize = PAGE_BYTES / 4;
/// A page counts its elements with two bytes.
const NODE_ELEMENTS_MAX: usize = u16::MAX as usize;

const PAGE_HEADER_BYTES: usize = 16;
/// Of a leaf's element: kind, offset, length of key and of value. Of a branch's: offset, length of key, page.
const ELEMENT_BYTES: usize = 16;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META: u16 = 0x04;
/// The kind of a leaf's element that is a bucket.
const IS_BUCKET: u32 = 0x01;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// No list of free pages: bbolt scans for them when it writes to the file.
const NO_FREE_LIST: u64 = u64::MAX;

/// The size of a node under construction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeSize {
    elements: usize,
    /// The bytes of the elements, with their keys and values.
    bytes: usize,
}

impl NodeSize {
    /// Whether one more element fits. The first always does.
    pub fn takes(self, key_bytes: usize, value_bytes: usize) -> bool {
        let bytes = self.bytes() + ELEMENT_BYTES + key_bytes + value_bytes;
        self.elements == 0 || (bytes <= NODE_BYTES && self.elements < NODE_ELEMENTS_MAX)
    }

    pub fn add(&mut self, key_bytes: usize, value_bytes: usize) {
        self.elements += 1;
        self.bytes += ELEMENT_BYTES + key_bytes + value_bytes;
    }

    /// Including the header of its page.
    pub fn bytes(self) -> usize {
        PAGE_HEADER_BYTES + self.bytes
    }

    pub fn pages(self) -> u64 {
        self.bytes().div_ceil(PAGE_BYTES) as u64
    }
}

/// A child in its parent node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// The first key below it.
    pub first_key: Bytes,
    pub page: u64,
}

fn put_page_header(page: u64, kind: u16, elements: usize, pages: u64, out: &mut Vec<u8>) {
    out.put_u64_le(page);
    out.put_u16_le(kind);
    out.put_u16_le(elements as u16);
    out.put_u32_le((pages - 1) as u32);
}

/// A leaf of a bucket.
pub fn leaf(page: u64, entries: &[(Bytes, Bytes)]) -> Vec<u8> {
    node(page, LEAF, entries, entry_parts, leaf_element)
}

/// A branch of a bucket.
pub fn branch(page: u64, children: &[Child]) -> Vec<u8> {
    let element = |out: &mut Vec<u8>, place: u32, child: &Child| {
        out.put_u32_le(place);
        out.put_u32_le(child.first_key.len() as u32);
        out.put_u64_le(child.page);
    };
    node(page, BRANCH, children, |child| (&child.first_key, &[]), element)
}

/// The root leaf: the names of all buckets, in order, and the result of [`bucket`] or [`inline_bucket`] for each.
pub fn root(page: u64, buckets: &[(Bytes, Bytes)]) -> Vec<u8> {
    let element = |out: &mut Vec<u8>, place, bucket: &(Bytes, Bytes)| {
        let start = out.len();
        leaf_element(out, place, bucket);
        out[start..start + 4].copy_from_slice(&IS_BUCKET.to_le_bytes());
    };
    node(page, LEAF, buckets, entry_parts, element)
}

fn entry_parts((key, value): &(Bytes, Bytes)) -> (&[u8], &[u8]) {
    (key, value)
}

fn leaf_element(out: &mut Vec<u8>, place: u32, (key, value): &(Bytes, Bytes)) {
    out.put_u32_le(0);
    out.put_u32_le(place);
    out.put_u32_le(key.len() as u32);
    out.put_u32_le(value.len() as u32);
}

fn size_of<T>(items: &[T], parts: impl Fn(&T) -> (&[u8], &[u8])) -> NodeSize {
    let mut size = NodeSize::default();
    for item in items {
        let (key, value) = parts(item);
        size.add(key.len(), value.len());
    }
    size
}

/// All elements, then all keys and values. Offsets count from the start of the element.
fn node<T>(
    page: u64,
    kind: u16,
    items: &[T],
    parts: impl Fn(&T) -> (&[u8], &[u8]),
    element: impl Fn(&mut Vec<u8>, u32, &T),
) -> Vec<u8> {
    let size = size_of(items, &parts);
    let bytes = size.pages() as usize * PAGE_BYTES;
    let mut out = Vec::with_capacity(bytes);
    put_page_header(page, kind, items.len(), size.pages(), &mut out);
    let mut place = items.len() * ELEMENT_BYTES;
    for item in items {
        element(&mut out, place as u32, item);
        let (key, value) = parts(item);
        place = place - ELEMENT_BYTES + key.len() + value.len();
    }
    for item in items {
        let (key, value) = parts(item);
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    out.resize(bytes, 0);
    out
}

/// The root's value for a bucket: the page of its tree.
pub fn bucket(tree: u64) -> Bytes {
    let mut out = Vec::with_capacity(PAGE_HEADER_BYTES);
    out.put_u64_le(tree);
    out.put_u64_le(0); // the last of the numbers that it has given out
    out.into()
}

/// The root's value for a bucket without a tree: its whole content.
pub fn inline_bucket(entries: &[(Bytes, Bytes)]) -> Bytes {
    let mut out = bucket(0).to_vec();
    let page = leaf(0, entries);
    out.extend_from_slice(&page[..size_of(entries, entry_parts).bytes()]);
    out.into()
}

/// Both meta pages of a file of this many pages. The second has the previous transaction id, but the same content as the first.
pub fn meta(root: u64, pages: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(META_PAGES as usize * PAGE_BYTES);
    for number in 0..META_PAGES {
        put_page_header(number, META, 0, 1, &mut out);
        let start = out.len();
        out.put_u32_le(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(PAGE_BYTES as u32);
        out.put_u32_le(0);
        out.put_u64_le(root);
        out.put_u64_le(0);
        out.put_u64_le(NO_FREE_LIST);
        out.put_u64_le(pages);
        out.put_u64_le(META_PAGES - number); // the transaction that wrote it
        let checksum = fnv_1a(&out[start..]);
        out.put_u64_le(checksum);
        out.resize((number as usize + 1) * PAGE_BYTES, 0);
    }
    out
}

/// The hash of Fowler, Noll and Vo, 64 bits wide, in its variant 1a.
pub(super) fn fnv_1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_its_authors() {
        // From the test vectors of draft-eastlake-fnv.
        assert_eq!(fnv_1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_leaf_is_laid_out_as_bbolt_reads_it() {
        let entries = [
            (Bytes::from_static(b"a"), Bytes::from_static(b"one")),
            (Bytes::from_static(b"bc"), Bytes::from_static(b"")),
        ];
        let page = leaf(7, &entries);
        assert_eq!(page.len(), PAGE_BYTES);
        assert_eq!(page[..16], [7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2, 0, 0, 0, 0, 0]);
        // Each element has the offset of its key, counted from its own start.
        assert_eq!(page[16..32], [0, 0, 0, 0, 32, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(page[32..48], [0, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&page[16 + 32..16 + 38], b"aonebc");
        assert_eq!(&page[32 + 20..32 + 22], b"bc");
    }

    #[test]
    fn what_is_too_long_for_a_page_takes_more_of_them() {
        let value = Bytes::from(vec![1; 3 * PAGE_BYTES]);
        let page = leaf(7, &[(Bytes::from_static(b"a"), value)]);
        assert_eq!(page.len(), 4 * PAGE_BYTES);
        assert_eq!(page[12..16], [3, 0, 0, 0]);
    }

    #[test]
    fn a_node_takes_what_fits_and_never_nothing() {
        let mut size = NodeSize::default();
        assert!(size.takes(17, 10 * NODE_BYTES));
        size.add(17, 100);
        assert!(!size.takes(17, NODE_BYTES));
        while size.takes(17, 100) {
            size.add(17, 100);
        }
        assert_eq!(size.pages() as usize * PAGE_BYTES, NODE_BYTES);
    }
}
