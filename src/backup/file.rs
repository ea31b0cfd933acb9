//! A backup under way. The first page of the file tells where everything is, so the state is walked twice: once to lay the
//! file out, once to write it. Both walks see the same view, whatever is written meanwhile; nothing is kept on the disk.

use super::bolt::{self, Child, INLINE_BYTES_MAX, META_PAGES, NodeSize, PAGE_BYTES};
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
    /// Leaves first, the root last.
    levels: Vec<Vec<Node>>,
    /// What the leaf of all buckets says of it.
    told: Bytes,
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
    /// The leaf that knows all buckets: the last pages. None once it has been read.
    root: Option<Vec<u8>>,
    root_page: u64,
    pages: u64,
    /// None before the first page is read.
    position: Option<Position>,
}

impl BackupFile {
    /// Lays the file out. Gives up when `goes_on` says so.
    pub fn lay_out(view: Arc<View>, goes_on: impl Fn() -> bool) -> Result<Self, BackupError> {
        let mut root_page = META_PAGES;
        let trees = Bucket::ALL.into_iter().map(|bucket| {
            let entries = bucket.entries(&view)?;
            Tree::lay_out(bucket, entries, &mut root_page, &goes_on)
        });
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
    /// Takes as many pages as it needs, from `page` on.
    fn lay_out(
        bucket: Bucket,
        entries: Entries,
        page: &mut u64,
        goes_on: impl Fn() -> bool,
    ) -> Result<Self, BackupError> {
        let mut nodes = Vec::new();
        let mut open: Option<Node> = None;
        // All that has come, as long as that is little.
        let mut few = Some((Vec::new(), NodeSize::default()));
        for entry in entries {
            let (key, value) = entry?;
            few = few.and_then(|few| one_more(few, &key, &value));
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
        let mut levels = Vec::new();
        if let Some((few, _)) = few {
            let told = bolt::inline_bucket(&few);
            return Ok(Self { bucket, levels, told });
        }
        nodes.extend(open.map(|node| node.close(page)));
        while nodes.len() > 1 {
            let above = branches(&nodes, page);
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

/// A bucket with one more entry, if it is small even so.
fn one_more(
    (mut few, mut size): (Vec<(Bytes, Bytes)>, NodeSize),
    key: &Bytes,
    value: &Bytes,
) -> Option<(Vec<(Bytes, Bytes)>, NodeSize)> {
    size.add(key.len(), value.len());
    few.push((key.clone(), value.clone()));
    (size.bytes() <= INLINE_BYTES_MAX).then_some((few, size))
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
