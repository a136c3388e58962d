//! The metadata is the same on all nodes at the same offset of the metadata log.
//!
//! Source: Raft's state machine safety: no two servers apply different entries at one index.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_broker::broker::Broker;
use esker_core::metadata::MetadataImage;

/// Images of the last offsets; older ones are not compared any more.
const KEPT: usize = 400;

/// See the module.
#[derive(Debug, Default)]
pub struct Images {
    known: BTreeMap<u64, (i32, Arc<MetadataImage>)>,
    /// The last image of each node.
    last: BTreeMap<i32, Arc<MetadataImage>>,
    /// Comparisons of the images of two nodes.
    pub compared: usize,
}

impl Images {
    /// Adds the image that `broker` has now.
    pub fn check(&mut self, broker: &Broker) -> Result<(), String> {
        let image = broker.metadata.image();
        let before = self.last.insert(broker.node_id, Arc::clone(&image));
        if before.is_some_and(|before| Arc::ptr_eq(&before, &image)) {
            return Ok(());
        }
        let offset = image.offset();
        let (node, known) = self.known.entry(offset).or_insert_with(|| (broker.node_id, Arc::clone(&image)));
        if *node != broker.node_id {
            self.compared += 1;
            if **known != *image {
                let own = broker.node_id;
                return Err(format!(
                    "nodes {node} and {own} have different metadata at {offset}: {known:?}; {image:?}"
                ));
            }
        }
        while self.known.len() > KEPT {
            self.known.pop_first();
        }
        Ok(())
    }
}
