//! An async client of Kafka brokers: producer, consumer and admin, over one shared [`Client`].
//!
//! A [`Client`] keeps a pool of connections (one task each, requests pipelined, answers matched by correlation id) and
//! a cache of the cluster's metadata. [`Producer`], [`Consumer`] and [`Admin`] are built from it and share both. It works with
//! Esker and with Apache Kafka alike: each connection first requests the versions that the broker serves and uses the newest that
//! both know.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use esker_client::{Client, ClientConfig, Consumer, ConsumerConfig, Producer, ProducerConfig, ProducerRecord, StartAt};
//!
//! let client = Client::connect(ClientConfig::new("127.0.0.1:9092")).await?;
//! let producer = Producer::new(&client, ProducerConfig::default());
//! let delivery = producer.send(ProducerRecord::new("greetings").key("k").value("hello")).await?;
//! println!("offset {}", delivery.await?.offset);
//!
//! let mut consumer = Consumer::new(&client, ConsumerConfig::default());
//! consumer.assign([("greetings", 0, StartAt::Earliest)]);
//! for record in consumer.poll(std::time::Duration::from_secs(1)).await? {
//!     println!("{:?}", record.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Everything that waits has a limit: requests in flight, bytes of a response, bytes buffered by a producer, bytes read ahead by
//! a consumer. Nothing here panics on what a broker sends.

pub mod admin;
mod client;
mod config;
mod connection;
pub mod consumer;
mod error;
mod metadata;
mod pool;
pub mod producer;
mod retry;
mod wire;

pub use admin::Admin;
pub use client::{Client, Target};
pub use config::ClientConfig;
pub use connection::{Connection, Pending};
pub use consumer::{AutoOffsetReset, Consumer, ConsumerConfig, ConsumerRecord, GroupConfig, Isolation, StartAt};
pub use error::{ConnectionError, Error, advice};
pub use metadata::{Broker, Cluster, Partition, Topic, TopicPartition};
pub use producer::{Acks, Delivered, Delivery, ProduceError, Producer, ProducerConfig, ProducerRecord};

pub use esker_protocol::compression::Compression;
pub use esker_protocol::error::ErrorCode;
