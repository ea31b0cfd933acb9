//! Reads such a file back, strictly: for tests and for the simulator. bbolt itself is less strict.

use super::bolt::{META_PAGES, PAGE_BYTES, fnv_1a};
use std::collections::BTreeMap;

/// The content of a file: entries by the names of their buckets, in order.
pub type Content = BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>;

/// The header of a bucket in the root leaf; its content follows if it has no tree.
const BUCKET_BYTES: usize = 16;
// Not shared with the writer: a wrong value there would go unnoticed.
const PAGE_HEADER_BYTES: usize = 16;
const ELEMENT_BYTES: usize = 16;
const BRANCH: u64 = 1;
const LEAF: u64 = 2;

/// The content of a file, if the file is sound: redundant data agrees, keys ascend, every page is reached once.
pub fn read(file: &[u8]) -> Result<Content, String> {
    let mut reader = Reader {
        file,
        reached: vec![false; file.len() / PAGE_BYTES],
    };
    let (root, pages) = reader.meta(0)?;
    if reader.meta(1)? != (root, pages) {
        return Err("the meta pages differ".into());
    }
    if file.len() != pages as usize * PAGE_BYTES {
        return Err(format!("{pages} pages in {} bytes", file.len()));
    }
    let mut content = Content::new();
    let mut buckets = Vec::new();
    reader.collect(root, 1, &mut buckets)?;
    for (name, bucket) in buckets {
        let mut entries = Vec::new();
        let tree = number(&bucket, 0, 8)?;
        if tree > 0 {
            reader.collect(tree, 0, &mut entries)?;
        } else {
            let page = bucket.get(BUCKET_BYTES..).ok_or("a bucket is cut short")?;
            let header = (number(page, 8, 2)?, number(page, 10, 2)? as usize);
            if header.0 != LEAF || number(page, 0, 8)? != 0 {
                return Err("what a bucket without a tree holds is no leaf".into());
            }
            reader.elements(0, header, page, 0, &mut entries)?;
        }
        let name = String::from_utf8(name).map_err(|error| error.to_string())?;
        if entries.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(format!("the keys of {name} do not rise"));
        }
        content.insert(name, entries);
    }
    match reader.reached.iter().position(|reached| !reached) {
        Some(page) => Err(format!("page {page} belongs to nothing")),
        None => Ok(content),
    }
}

fn number(bytes: &[u8], at: usize, length: usize) -> Result<u64, String> {
    let bytes = bytes.get(at..at + length).ok_or("a number beyond the end")?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

struct Reader<'a> {
    file: &'a [u8],
    reached: Vec<bool>,
}

impl<'a> Reader<'a> {
    /// A page of this kind, with its further pages.
    fn page(&mut self, page: u64) -> Result<(u64, usize, &'a [u8]), String> {
        let start = page as usize * PAGE_BYTES;
        let header = self
            .file
            .get(start..)
            .ok_or(format!("page {page} is beyond the end"))?;
        let pages = 1 + number(header, 12, 4)? as usize;
        if number(header, 0, 8)? != page {
            return Err(format!("page {page} has another number"));
        }
        for part in page as usize..page as usize + pages {
            match self.reached.get_mut(part) {
                Some(reached) if !*reached => *reached = true,
                Some(_) => return Err(format!("page {part} is reached twice")),
                None => return Err(format!("page {part} is beyond the end")),
            }
        }
        let bytes = header.get(..pages * PAGE_BYTES).ok_or("a page is cut short")?;
        Ok((number(header, 8, 2)?, number(header, 10, 2)? as usize, bytes))
    }

    /// The page of the root, and the number of pages.
    fn meta(&mut self, page: u64) -> Result<(u64, u64), String> {
        let (kind, _, bytes) = self.page(page)?;
        let meta = &bytes[PAGE_HEADER_BYTES..];
        if (kind, number(meta, 0, 4)?, number(meta, 4, 4)?) != (4, 0xED0C_DAED, 2) {
            return Err(format!("page {page} is no meta page"));
        }
        if number(meta, 8, 4)? != PAGE_BYTES as u64 || number(meta, 32, 8)? != u64::MAX {
            return Err("pages of another size, or a list of free ones".into());
        }
        if number(meta, 48, 8)? % META_PAGES != page {
            return Err("a transaction's meta page is in the place of another's".into());
        }
        if number(meta, 56, 8)? != fnv_1a(&meta[..56]) {
            return Err("the checksum of a meta page does not match".into());
        }
        Ok((number(meta, 16, 8)?, number(meta, 40, 8)?))
    }

    /// Everything below a page, in order.
    fn collect(
        &mut self,
        page: u64,
        flags: u64,
        into: &mut Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Option<Vec<u8>>, String> {
        let (kind, elements, bytes) = self.page(page)?;
        self.elements(page, (kind, elements), bytes, flags, into)
    }

    /// The same for a page that is already read.
    fn elements(
        &mut self,
        page: u64,
        (kind, elements): (u64, usize),
        bytes: &[u8],
        flags: u64,
        into: &mut Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Option<Vec<u8>>, String> {
        let mut first = None;
        let mut next = PAGE_HEADER_BYTES + elements * ELEMENT_BYTES;
        for element in 0..elements {
            let start = PAGE_HEADER_BYTES + element * ELEMENT_BYTES;
            let is_leaf = kind == LEAF;
            let at = number(bytes, start + if is_leaf { 4 } else { 0 }, 4)?;
            if start + at as usize != next {
                return Err(format!("page {page} has a gap between its elements"));
            }
            let mut take = |length: u64| {
                let slice = bytes.get(next..next + length as usize);
                next += length as usize;
                slice.ok_or("an element beyond its page")
            };
            let key_bytes = number(bytes, start + if is_leaf { 8 } else { 4 }, 4)?;
            let key = take(key_bytes)?.to_vec();
            first.get_or_insert_with(|| key.clone());
            match kind {
                LEAF => {
                    if number(bytes, start, 4)? != flags {
                        return Err("an entry where a bucket should be, or a bucket for an entry".into());
                    }
                    let value = take(number(bytes, start + 12, 4)?)?;
                    into.push((key, value.to_vec()));
                }
                BRANCH => {
                    let below = self.collect(number(bytes, start + 8, 8)?, flags, into)?;
                    if below != Some(key) {
                        return Err(format!("page {page} does not know how its children begin"));
                    }
                }
                _ => return Err(format!("page {page} is neither leaf nor branch")),
            }
        }
        Ok(first)
    }
}
