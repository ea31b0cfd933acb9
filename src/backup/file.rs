//! A backup under way. The first page of the file tells where everything is, so the state is walked twice: once to lay the
//! file out, once to write it. Both walks see the same view, whatever is written meanwhile; nothing is kept on the disk.

use super::bolt::{self, Child, META_PAGES, NodeSize, PAGE_BYTES};
use super::buckets::{Bucket, Entries};
use crate::mvcc::{MvccError, View};
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
    /// Its children among the nodes of the level below. Leaves have none.
    children: Range<usize>,
}

/// Where a bucket's tree will be.
struct Tree {
    bucket: Bucket,
    /// Leaves first, the root last. Empty where the bucket is.
    levels: Vec<Vec<Node>>,
}

/// What comes next.
struct Position {
    tree: usize,
    level: usize,
    node: usize,
    entries: Option<Entries>,
}

/// The file, laid out and read up to some place.
pub struct BackupFile {
    view: Arc<View>,
    trees: Vec<Tree>,
    pages: u64,
    /// None before the first page is read.
    position: Option<Position>,
}

const ROOT_PAGE: u64 = META_PAGES;

impl BackupFile {
    /// Lays the file out. Gives up when `goes_on` says so.
    pub fn lay_out(view: Arc<View>, goes_on: impl Fn() -> bool) -> Result<Self, BackupError> {
        // The leaf that knows the buckets takes one page: their number and names are always the same.
        let mut pages = ROOT_PAGE + 1;
        let trees = Bucket::ALL.into_iter().map(|bucket| {
            let entries = bucket.entries(&view)?;
            Tree::lay_out(bucket, entries, &mut pages, &goes_on)
        });
        let trees = trees.collect::<Result<_, BackupError>>()?;
        Ok(Self {
            view,
            trees,
            pages,
            position: None,
        })
    }

    /// How long the whole file is.
    pub fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }

    /// The next pages; none at the end.
    pub fn next_pages(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        let Some(position) = &mut self.position else {
            self.position = Some(Position {
                tree: 0,
                level: 0,
                node: 0,
                entries: None,
            });
            return Ok(Some(self.head()));
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
        Ok(None)
    }

    fn head(&self) -> Vec<u8> {
        let buckets = self.trees.iter().map(|tree| {
            let name = Bytes::from_static(tree.bucket.name().as_bytes());
            (name, bolt::bucket(tree.root_page()))
        });
        let buckets: Vec<_> = buckets.collect();
        let mut head = bolt::meta(ROOT_PAGE, self.pages);
        head.extend(bolt::root(ROOT_PAGE, &buckets));
        head
    }
}

impl Tree {
    /// Takes as many pages as it needs, from `page` on.
    fn lay_out(
        bucket: Bucket,
        entries: Entries,
        page: &mut u64,
        goes_on: impl Fn() -> bool,
    ) -> Result<Self, BackupError> {
        let mut nodes = Vec::new();
        let mut open: Option<Node> = None;
        for entry in entries {
            let (key, value) = entry?;
            let (key_bytes, value_bytes) = (key.len(), value.len());
            let node = match open.take() {
                Some(node) if node.size.takes(key_bytes, value_bytes) => node,
                full => {
                    if !goes_on() {
                        return Err(BackupError::Abandoned);
                    }
                    nodes.extend(full.map(|node| node.close(page)));
                    // A copy: the entry is one piece, whose value would stay with it.
                    Node::open(Bytes::copy_from_slice(&key), 0)
                }
            };
            open = Some(node.with(key_bytes, value_bytes));
        }
        nodes.extend(open.map(|node| node.close(page)));
        let mut levels = Vec::new();
        while nodes.len() > 1 {
            let above = branches(&nodes, page);
            levels.push(std::mem::replace(&mut nodes, above));
        }
        if !nodes.is_empty() {
            levels.push(nodes);
        }
        Ok(Self { bucket, levels })
    }

    fn root_page(&self) -> Option<u64> {
        let root = self.levels.last()?.first()?;
        Some(root.child.page)
    }

    fn leaf(&self, node: &Node, view: &View, left: &mut Option<Entries>) -> Result<Vec<u8>, BackupError> {
        let entries = match left {
            Some(entries) => entries,
            None => left.insert(self.bucket.entries(view)?),
        };
        let elements: Vec<_> = entries.take(node.size.elements).collect::<Result<_, _>>()?;
        let first_key = elements.first().map(|(key, _)| key);
        let pages = bolt::leaf(node.child.page, &elements);
        let planned = node.size.pages() as usize * PAGE_BYTES;
        if first_key != Some(&node.child.first_key) || pages.len() != planned {
            return Err(BackupError::Unlike(self.bucket.name()));
        }
        Ok(pages)
    }

    fn branch(&self, node: &Node, level: usize) -> Vec<u8> {
        let children = self.levels[level - 1][node.children.clone()].iter();
        let children: Vec<_> = children.map(|node| node.child.clone()).collect();
        bolt::branch(node.child.page, &children)
    }
}

/// The level above some nodes.
fn branches(below: &[Node], page: &mut u64) -> Vec<Node> {
    let mut above = Vec::new();
    let mut open: Option<Node> = None;
    for (number, node) in below.iter().enumerate() {
        let key_bytes = node.child.first_key.len();
        let branch = match open.take() {
            Some(branch) if branch.size.takes(key_bytes, 0) => branch,
            full => {
                above.extend(full.map(|branch| branch.close(page)));
                Node::open(node.child.first_key.clone(), number)
            }
        };
        open = Some(branch.with(key_bytes, 0));
    }
    above.extend(open.map(|branch| branch.close(page)));
    above
}

impl Node {
    fn open(first_key: Bytes, first_child: usize) -> Self {
        Self {
            child: Child { first_key, page: 0 },
            size: NodeSize::default(),
            children: first_child..first_child,
        }
    }

    fn with(mut self, key_bytes: usize, value_bytes: usize) -> Self {
        self.size.add(key_bytes, value_bytes);
        self.children.end += 1;
        self
    }

    /// Gives it its place.
    fn close(mut self, page: &mut u64) -> Self {
        self.child.page = *page;
        *page += self.size.pages();
        self
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
