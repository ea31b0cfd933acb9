//! A backup in progress. The first page of the file holds the position of everything else, so the state is read twice: once to
//! lay the file out, once to write it. Both passes read the same view, whatever is written meanwhile. Nothing is written to the
//! disk.

use super::bolt::{self, Child, INLINE_BYTES_MAX, META_PAGES, NodeSize, PAGE_BYTES};
use super::buckets::{Bucket, Entries};
use crate::state::View;
use crate::state::mvcc::MvccError;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    #[error(transparent)]
    State(#[from] MvccError),
    #[error(
        "{0} is not the same the second time; the state of this member is damaged, take the backup of another"
    )]
    Unlike(&'static str),
    #[error("whoever asked for it has gone")]
    Abandoned,
}

/// A node of a bucket's tree.
struct Node {
    child: Child,
    size: NodeSize,
    /// The range of the bucket's entries that it holds, or of the nodes on the level below.
    elements: Range<usize>,
}

/// The layout of a bucket's tree.
struct Tree {
    bucket: Bucket,
    /// Leaves first, the root last.
    levels: Vec<Vec<Node>>,
    /// The root leaf's value for the bucket.
    told: Bytes,
}

/// The position of the next page.
#[derive(Default)]
struct Position {
    tree: usize,
    level: usize,
    node: usize,
    entries: Option<Entries>,
}

/// The file, laid out and read up to some position.
pub struct BackupFile {
    view: Arc<View>,
    trees: Vec<Tree>,
    /// The root leaf: the last pages. None once it has been read.
    root: Option<Vec<u8>>,
    root_page: u64,
    pages: u64,
    /// None before the first page is read.
    position: Option<Position>,
}

impl BackupFile {
    /// Lays the file out. Gives up when `goes_on` returns false.
    pub fn lay_out(view: Arc<View>, goes_on: impl Fn() -> bool) -> Result<Self, BackupError> {
        let mut root_page = META_PAGES;
        let lay_out = |bucket| Tree::lay_out(bucket, &view, &mut root_page, &goes_on);
        let trees = Bucket::ALL.into_iter().map(lay_out);
        let trees: Vec<Tree> = trees.collect::<Result<_, BackupError>>()?;
        let buckets = trees.iter().map(|tree| {
            let name = Bytes::from_static(tree.bucket.name().as_bytes());
            (name, tree.told.clone())
        });
        let root = bolt::root(root_page, &buckets.collect::<Vec<_>>());
        Ok(Self {
            pages: root_page + (root.len() / PAGE_BYTES) as u64,
            view,
            trees,
            root: Some(root),
            root_page,
            position: None,
        })
    }

    /// The length of the whole file.
    pub fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }

    /// The next pages; none at the end.
    pub fn next_pages(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        let Some(position) = &mut self.position else {
            self.position = Some(Position::default());
            return Ok(Some(bolt::meta(self.root_page, self.pages)));
        };
        while let Some(tree) = self.trees.get(position.tree) {
            if let Some(level) = tree.levels.get(position.level) {
                if let Some(node) = level.get(position.node) {
                    position.node += 1;
                    return match position.level {
                        0 => tree.leaf(node, &self.view, &mut position.entries).map(Some),
                        above => Ok(Some(tree.branch(node, above))),
                    };
                }
                (position.level, position.node, position.entries) = (position.level + 1, 0, None);
            } else {
                (position.tree, position.level) = (position.tree + 1, 0);
            }
        }
        Ok(self.root.take())
    }
}

impl Tree {
    /// Takes the pages that it needs, from `page` on.
    fn lay_out(
        bucket: Bucket,
        view: &View,
        page: &mut u64,
        goes_on: impl Fn() -> bool,
    ) -> Result<Self, BackupError> {
        let mut nodes = Vec::new();
        for (number, entry) in bucket.entries(view)?.enumerate() {
            let (key, value) = entry?;
            if add(&mut nodes, &key, value.len(), number) && !goes_on() {
                return Err(BackupError::Abandoned);
            }
        }
        let mut levels = Vec::new();
        let size = nodes.first().map_or_else(NodeSize::default, |node| node.size);
        if nodes.len() <= 1 && size.bytes() <= INLINE_BYTES_MAX {
            let few: Vec<_> = bucket.entries(view)?.collect::<Result<_, _>>()?;
            let told = bolt::inline_bucket(&few);
            return Ok(Self { bucket, levels, told });
        }
        settle(&mut nodes, page);
        while nodes.len() > 1 {
            let mut above = Vec::new();
            for (number, node) in nodes.iter().enumerate() {
                add(&mut above, &node.child.first_key, 0, number);
            }
            settle(&mut above, page);
            levels.push(std::mem::replace(&mut nodes, above));
        }
        let told = bolt::bucket(nodes[0].child.page);
        levels.push(nodes);
        Ok(Self { bucket, levels, told })
    }

    fn leaf(&self, node: &Node, view: &View, left: &mut Option<Entries>) -> Result<Vec<u8>, BackupError> {
        let entries = match left {
            Some(entries) => entries,
            None => left.insert(self.bucket.entries(view)?),
        };
        let elements: Vec<_> = entries.take(node.elements.len()).collect::<Result<_, _>>()?;
        let first_key = elements.first().map(|(key, _)| key);
        let pages = bolt::leaf(node.child.page, &elements);
        let planned = node.size.pages() as usize * PAGE_BYTES;
        if first_key != Some(&node.child.first_key) || pages.len() != planned {
            return Err(BackupError::Unlike(self.bucket.name()));
        }
        Ok(pages)
    }

    fn branch(&self, node: &Node, level: usize) -> Vec<u8> {
        let children = self.levels[level - 1][node.elements.clone()].iter();
        let children: Vec<_> = children.map(|node| node.child.clone()).collect();
        bolt::branch(node.child.page, &children)
    }
}

/// Adds the element with this number to the last node of a level. If it does not fit, begins a new node and returns true.
fn add(level: &mut Vec<Node>, key: &[u8], value_bytes: usize, number: usize) -> bool {
    let begins = !matches!(level.last(), Some(node) if node.size.takes(key.len(), value_bytes));
    if begins {
        level.push(Node {
            // A copy, so as not to keep the buffer that it is part of.
            child: Child {
                first_key: Bytes::copy_from_slice(key),
                page: 0,
            },
            size: NodeSize::default(),
            elements: number..number,
        });
    }
    if let Some(node) = level.last_mut() {
        node.size.add(key.len(), value_bytes);
        node.elements.end += 1;
    }
    begins
}

/// Assigns pages to the nodes of a level.
fn settle(level: &mut [Node], page: &mut u64) {
    for node in level {
        node.child.page = *page;
        *page += node.size.pages();
    }
}

impl std::fmt::Debug for BackupFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupFile")
            .field("view", &self.view)
            .field("pages", &self.pages)
            .finish_non_exhaustive()
    }
}
