//! Appends of a follower: by leader epoch, and as the batches are.

use esker_protocol::compression::Compression;
use esker_protocol::records::BatchBuilder;

use super::*;
use crate::replica::test_support::{NOW, Replica};

/// A batch of one record, as a leader wrote it.
fn batch(base_offset: i64, epoch: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, NOW, None, Some(&[7; 10]), &[]);
    let mut bytes = builder.build().unwrap().to_vec();
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes[EPOCH_AT..EPOCH_AT + 4].copy_from_slice(&epoch.to_be_bytes());
    bytes
}

fn batches(all: &[(i64, i32)]) -> Bytes {
    all.iter().flat_map(|(offset, epoch)| batch(*offset, *epoch)).collect::<Vec<u8>>().into()
}

#[test]
fn batches_keep_their_offsets_and_epochs() {
    let replica = Replica::leading(&[1]);
    replica.set_role(2, 3, &[1, 2]);
    let partition = &replica.partition;
    assert!(matches!(partition.append_as_follower(2, batches(&[(0, 0)]), NOW), Err(FollowError::NotFollowing(2))));
    partition.append_as_follower(3, batches(&[(0, 0), (1, 0), (5, 2)]), NOW).unwrap();
    let log = partition.log();
    assert_eq!((log.log_end_offset(), log.epoch_at(1), log.epoch_at(5)), (6, Some(0), Some(2)));
    let repeated = partition.append_as_follower(3, batches(&[(5, 2)]), NOW);
    assert!(matches!(repeated, Err(FollowError::Append(AppendError::OffsetsOutOfOrder { .. }))), "{repeated:?}");
    let mut damaged = batch(6, 3);
    *damaged.last_mut().unwrap() ^= 1;
    let damaged = partition.append_as_follower(3, damaged.into(), NOW);
    assert!(matches!(damaged, Err(FollowError::Append(AppendError::Corrupt { .. }))), "{damaged:?}");
    assert_eq!(log.log_end_offset(), 6);
}

#[test]
fn a_batch_of_a_later_epoch_waits_for_that_epoch() {
    let replica = Replica::leading(&[1]);
    replica.set_role(2, 3, &[1, 2]);
    replica.partition.append_as_follower(3, batches(&[(0, 2), (1, 3), (2, 4), (3, 4)]), NOW).unwrap();
    assert_eq!(replica.partition.log().log_end_offset(), 2);
    replica.partition.append_as_follower(3, batches(&[(2, 4)]), NOW).unwrap();
    assert_eq!(replica.partition.log().log_end_offset(), 2, "nothing is left of the answer");
    replica.set_role(2, 4, &[1, 2]);
    replica.partition.append_as_follower(4, batches(&[(2, 4)]), NOW).unwrap();
    assert_eq!(replica.partition.log().log_end_offset(), 3);
}

#[test]
fn the_log_start_follows_up_to_the_high_watermark() {
    let replica = Replica::leading(&[1]);
    replica.set_role(2, 3, &[1, 2]);
    let partition = &replica.partition;
    partition.append_as_follower(3, batches(&[(0, 2), (1, 3), (2, 3)]), NOW).unwrap();
    partition.follow_high_watermark(3, 2).unwrap();
    partition.follow_log_start(3, 3).unwrap();
    assert_eq!(partition.log().log_start_offset(), 2);
    partition.start_anew_at(3, 50).unwrap();
    let log = partition.log();
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.high_watermark()), (50, 50, 50));
    assert!(matches!(partition.start_anew_at(2, 60), Err(FollowError::NotFollowing(2))));
}
