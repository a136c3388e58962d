//! An async client for Kafka's protocol: producer, consumer, admin. It speaks to Esker and to Apache Kafka alike.
//!
//! ```no_run
//! # async fn example() -> Result<(), esker_client::ClientError> {
//! use esker_client::{Client, Producer, ProducerConfig, Record};
//! let client = Client::connect("127.0.0.1:9092").await?;
//! let producer = Producer::new(client.clone(), ProducerConfig::default()).await?;
//! let delivery = producer.send(Record::to("events").key("k").value("v")).await?;
//! producer.flush().await;
//! println!("at offset {}", delivery.wait().await?.offset);
//! # Ok(())
//! # }
//! ```
//! Connections are made when they are needed and made again when they fail; versions are agreed on with each broker.

mod admin;
mod client;
mod connection;
mod consumer;
mod error;
mod group;
mod partitioner;
mod producer;

pub use admin::{GroupOffset, NewTopic, TopicDetail};
pub use client::{Client, ClientConfig, ClusterView, Node, PartitionView, TopicView};
pub use consumer::{ConsumedRecord, Consumer, ConsumerConfig, StartAt};
pub use error::ClientError;
pub use group::{GroupConfig, GroupConsumer};
pub use partitioner::{murmur2, partition_for_key};
pub use producer::{Delivered, Delivery, Producer, ProducerConfig, Record};
