//! The pipeline: reads, transforms and writes in transactions, as an application does.

use super::*;

pub(super) const ID: &str = "pipeline";
pub(super) const PIPELINE_GROUP: &str = "pipeline-group";

/// Reads the input, writes the output, in transactions of version 1 or 2.
pub(super) struct Pipeline {
    pub(super) client: Client,
    pub(super) v2: bool,
    pub(super) producer: (i64, i16),
    pub(super) sequences: BTreeMap<i32, i32>,
    /// Transactions that were given up, and begun anew by another producer epoch.
    pub(super) restarts: usize,
}

impl Pipeline {
    pub(super) fn init(&mut self) {
        let request = InitProducerIdRequest {
            transactional_id: Some(ID.into()),
            transaction_timeout_ms: 60_000,
            ..InitProducerIdRequest::default()
        };
        let code = |answer: &<InitProducerIdRequest as Request>::Response| answer.error_code;
        let answer = self.client.coordinated((TRANSACTION, ID), 5, &request, code).unwrap();
        self.producer = (answer.producer_id, answer.producer_epoch);
        self.sequences.clear();
    }

    /// Processes what comes next in one transaction, whatever happens at `on_step`; the count of records.
    pub(super) fn process(&mut self, commits: bool, mut on_step: impl FnMut(Step, &mut Client)) -> usize {
        loop {
            match self.transaction(commits, &mut on_step) {
                Ok(count) => return count,
                Err(code) => {
                    eprintln!("the transaction is given up: {code}");
                    self.restarts += 1;
                    self.init();
                }
            }
        }
    }

    pub(super) fn transaction(
        &mut self,
        commits: bool,
        on_step: &mut impl FnMut(Step, &mut Client),
    ) -> Result<usize, ErrorCode> {
        let mut offsets = self.client.committed(PIPELINE_GROUP);
        let (mut count, mut outputs) = (0, BTreeMap::<i32, Vec<i64>>::new());
        for (partition, offset) in (0..).zip(&mut offsets) {
            let (records, _) = visible(self.client.fetch(INPUT.0, partition, (*offset).max(0)));
            // The first batch may begin before the offset.
            let from = *offset;
            for (at, value) in records.into_iter().filter(|(at, _)| *at >= from).take(AT_ONCE) {
                *offset = at + 1;
                count += 1;
                outputs.entry(i32::try_from(value).unwrap() % OUTPUT.1).or_default().push(value);
            }
        }
        if count == 0 {
            return Ok(0);
        }
        if !self.v2 {
            self.add(outputs.keys().copied().collect())?;
        }
        for (partition, values) in outputs {
            let sequence = self.sequences.entry(partition).or_default();
            let records = batch(&values, self.producer, *sequence, true);
            *sequence += i32::try_from(values.len()).unwrap();
            let version = if self.v2 { 12 } else { 11 };
            self.client.produce(Some(ID), version, (OUTPUT.0, partition), &records)?;
        }
        on_step(Step::Produced, &mut self.client);
        self.commit_offsets(&offsets)?;
        on_step(Step::OffsetsCommitted, &mut self.client);
        self.end(commits, on_step)?;
        on_step(Step::Ended, &mut self.client);
        Ok(count)
    }

    pub(super) fn add(&mut self, partitions: Vec<i32>) -> Result<(), ErrorCode> {
        let (producer_id, producer_epoch) = self.producer;
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: ID.into(),
            v3_and_below_producer_id: producer_id,
            v3_and_below_producer_epoch: producer_epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic { name: OUTPUT.0.into(), partitions }],
            ..AddPartitionsToTxnRequest::default()
        };
        self.client.coordinated((TRANSACTION, ID), 3, &request, |answer| {
            answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        })?;
        let transactional_id = ID.into();
        let group_id = PIPELINE_GROUP.into();
        let request = AddOffsetsToTxnRequest { transactional_id, producer_id, producer_epoch, group_id };
        self.client.coordinated((TRANSACTION, ID), 3, &request, |answer| answer.error_code)?;
        Ok(())
    }

    pub(super) fn commit_offsets(&mut self, offsets: &[i64]) -> Result<(), ErrorCode> {
        let partition = |(partition_index, offset): (i32, &i64)| TxnOffsetCommitRequestPartition {
            partition_index,
            committed_offset: (*offset).max(0),
            ..TxnOffsetCommitRequestPartition::default()
        };
        let partitions = (0..).zip(offsets).map(partition).collect();
        let topic = TxnOffsetCommitRequestTopic { name: INPUT.0.into(), partitions, ..Default::default() };
        let request = TxnOffsetCommitRequest {
            transactional_id: ID.into(),
            group_id: PIPELINE_GROUP.into(),
            producer_id: self.producer.0,
            producer_epoch: self.producer.1,
            topics: vec![topic],
            ..TxnOffsetCommitRequest::default()
        };
        let version = if self.v2 { 5 } else { 3 };
        let code = |answer: &<TxnOffsetCommitRequest as Request>::Response| {
            let mut codes = answer.topics[0].partitions.iter().map(|partition| partition.error_code);
            codes.find(|code| code.is_error()).unwrap_or(ErrorCode::NONE)
        };
        self.client.coordinated((GROUP, PIPELINE_GROUP), version, &request, code).map(drop)
    }

    pub(super) fn end(
        &mut self,
        committed: bool,
        on_step: &mut impl FnMut(Step, &mut Client),
    ) -> Result<(), ErrorCode> {
        let (producer_id, producer_epoch) = self.producer;
        let request = EndTxnRequest { transactional_id: ID.into(), producer_id, producer_epoch, committed };
        let version = if self.v2 { 5 } else { 3 };
        let sent = self.client.coordinator(TRANSACTION, ID).and_then(|at| self.client.send(at, version, &request).ok());
        on_step(Step::EndSent, &mut self.client);
        // As a client that has lost the answer.
        drop(sent);
        let answer = self.client.coordinated((TRANSACTION, ID), version, &request, |answer| answer.error_code)?;
        if self.v2 {
            self.producer = (answer.producer_id, answer.producer_epoch);
            self.sequences.clear();
        }
        Ok(())
    }
}
