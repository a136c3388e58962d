use super::*;

fn vector_builder(codec: Compression) -> BatchBuilder {
    BatchBuilder::new(codec).base_offset(42).leader_epoch(9).producer(4711, 3, 17).transactional(true)
}

#[test]
fn built_batches_are_javas_byte_for_byte() {
    let mut builder = vector_builder(Compression::None);
    fill(&mut builder);
    assert_eq!(builder.build().unwrap(), vector("v2-none"));
    assert!(builder.is_empty());
    fill(&mut builder);
    assert_eq!(builder.build().unwrap(), vector("v2-none"), "a builder can be used again");

    let mut builder = BatchBuilder::new(Compression::None).base_offset(42).log_append_time(T + 99);
    fill(&mut builder);
    assert_eq!(records(&only(builder.build().unwrap())), records(&only(vector("v2-append-time"))));
}

#[test]
fn java_batches_are_read_in_every_codec() {
    for codec in Compression::ALL {
        let batch = only(vector(&format!("v2-{codec}")));
        assert_eq!(batch.compression(), Ok(codec));
        let h = batch.header;
        assert_eq!((h.base_offset, h.last_offset(), h.next_offset(), h.records_count), (42, 44, 45, 3));
        assert_eq!((h.partition_leader_epoch, h.producer_id, h.producer_epoch, h.base_sequence), (9, 4711, 3, 17));
        assert_eq!((h.base_timestamp, h.max_timestamp, h.last_sequence()), (T, T + 5, 19));
        assert!(h.attributes.is_transactional() && !h.attributes.is_control());
        assert_eq!(BatchHeader::parse(&h.encode()), Ok(h));

        let got = records(&batch);
        let offsets: Vec<_> = got.iter().map(|r| (r.offset, r.timestamp)).collect();
        assert_eq!(offsets, [(42, T), (43, T + 5), (44, T - 7)]);
        assert_eq!(got[0].value.as_deref(), Some("value-1".repeat(20).as_bytes()));
        let headers: Vec<_> = got[0].headers.iter().collect::<Result<_, _>>().unwrap();
        assert_eq!(headers, [RecordHeader::new("trace", Some(b"a1")), RecordHeader::new("none", None)]);
        assert_eq!((got[1].key.clone(), got[1].value.as_deref()), (None, Some(&b""[..])));
        assert_eq!((got[2].key.as_deref(), got[2].value.clone()), (Some(&b"key-3"[..]), None));

        let summary = batch.check_frames(LIMIT).unwrap();
        assert_eq!((summary.min_timestamp, summary.max_timestamp, summary.max_timestamp_delta), (T - 7, T + 5, 1));
        assert_eq!(summary.first_null_key, Some(1));

        let mut builder = vector_builder(codec);
        fill(&mut builder);
        assert_eq!(records(&only(builder.build().unwrap())), got, "{codec}");
    }
}

#[test]
fn append_time_is_every_records_time() {
    let batch = only(vector("v2-append-time"));
    assert_eq!(batch.header.attributes.timestamp_type(), TimestampType::LogAppend);
    assert!(records(&batch).iter().all(|r| r.timestamp == T + 99));

    let mut builder = vector_builder(Compression::Lz4);
    fill(&mut builder);
    let batch = only(builder.build().unwrap());
    let stamped = only(batch.with_header(&batch.header.with_log_append_time(T + 99, batch.payload())));
    assert!(records(&stamped).iter().all(|r| r.timestamp == T + 99));
    let back = only(stamped.with_header(&stamped.header.with_create_time(T + 5, stamped.payload())));
    assert_eq!(back.bytes, batch.bytes);
}

#[test]
fn markers_are_javas_byte_for_byte() {
    for (name, committed) in [("v2-commit", true), ("v2-abort", false)] {
        let marker = EndTxnMarker { committed, coordinator_epoch: 5 };
        let theirs = only(vector(name));
        let record = &records(&theirs)[0];
        assert_eq!(EndTxnMarker::parse(record.key.as_ref().unwrap(), record.value.as_ref().unwrap()), Some(marker));
        assert!(theirs.header.attributes.is_control() && theirs.header.attributes.is_transactional());

        let ours = only(end_txn_batch(4711, 3, marker, T).unwrap());
        let stamped = BatchHeader { base_offset: 7, partition_leader_epoch: 9, ..ours.header };
        assert_eq!(ours.with_header(&stamped), theirs.bytes, "base offset and leader epoch are outside the checksum");
    }
    assert_eq!(ControlType::parse(&[0, 0, 0, 77]), Some(ControlType::Unknown(77)));
    assert_eq!(ControlType::parse(&[0, 0, 0]), None);
    assert_eq!(ControlType::parse(&[0xff, 0xff, 0, 0]), None);
}

#[test]
fn slices_are_of_the_input() {
    let bytes = vector("v2-none");
    let range = bytes.as_ptr_range();
    for record in records(&only(bytes.clone())) {
        for field in [record.key, record.value].into_iter().flatten().filter(|f| !f.is_empty()) {
            assert!(range.contains(&field.as_ptr()));
        }
    }
}

#[test]
fn a_run_of_batches_ends_at_its_cut_tail() {
    let one = vector("v2-none");
    let all = Bytes::from([&one[..], &vector("v2-gzip")[..], &one[..]].concat());
    assert_eq!(Batches::new(all.clone()).filter_map(Result::ok).count(), 3);
    for cut in 1..one.len() {
        let mut batches = Batches::new(all.slice(..all.len() - cut));
        assert_eq!(batches.by_ref().filter_map(Result::ok).count(), 2, "{cut}");
        assert_eq!(batches.rest().len(), one.len() - cut);
    }
    let old = Bytes::from([&one[..], &vector("v1-none")[..]].concat());
    let results: Vec<_> = Batches::new(old).map(|b| b.map(|b| b.header.base_offset)).collect();
    assert_eq!(results, [Ok(42), Err(BatchError::Magic { magic: 1 })]);
}

#[test]
fn headers_that_lie_are_refused() {
    let bytes = vector("v2-none").to_vec();
    let with = |at: usize, value: &[u8]| {
        let mut changed = bytes.clone();
        changed[at..at + value.len()].copy_from_slice(value);
        Bytes::from(changed)
    };
    let parse = |bytes: Bytes| Batch::parse(bytes).map(|_| ());
    assert_eq!(parse(with(8, &48_i32.to_be_bytes())), Err(BatchError::Length { length: 48 }));
    assert_eq!(parse(with(8, &(-1_i32).to_be_bytes())), Err(BatchError::Length { length: -1 }));
    assert!(matches!(parse(with(8, &i32::MAX.to_be_bytes())), Err(BatchError::Truncated { .. })));
    assert_eq!(parse(with(16, &[3])), Err(BatchError::Magic { magic: 3 }));
    assert!(matches!(parse(Bytes::from_static(b"x")), Err(BatchError::Truncated { .. })));

    let check = |bytes: Bytes| Batch::parse(bytes).unwrap().0.check_frames(LIMIT).map(|_| ());
    for (count, last) in [(4, 2), (2, 2), (-1, -2), (0, 2), (i32::MIN, i32::MAX), (3, i32::MAX)] {
        let changed = [&last.to_be_bytes()[..], &bytes[27..57], &i32::to_be_bytes(count)[..]].concat();
        assert!(matches!(check(with(23, &changed)), Err(BatchError::Count { .. })), "{count} {last}");
    }
    let fault = |count: i32| {
        let changed = [&(count - 1).to_be_bytes()[..], &bytes[27..57], &count.to_be_bytes()[..]].concat();
        match check(with(23, &changed)) {
            Err(BatchError::Record { fault, index }) => (index, fault),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fault(4), (3, RecordFault::Truncated));
    assert_eq!(fault(2), (2, RecordFault::Uncounted));
    assert_eq!(fault(0), (0, RecordFault::Uncounted));
}

#[test]
fn malformed_records_are_named() {
    let record = |body: &[u8]| {
        let mut records = Vec::new();
        varint::write_i64(&mut records, body.len() as i64);
        records.extend_from_slice(body);
        let header = BatchHeader { records_count: 1, last_offset_delta: 0, ..BatchHeader::default() };
        let walked = check_frames(&header, &records).map(|_| ());
        let read = Records::new(&header, records.into()).collect::<Result<Vec<_>, _>>().map(|_| ());
        (walked, read)
    };
    let both = |body: &[u8], fault| {
        let error = Err(BatchError::Record { index: 0, fault });
        assert_eq!(record(body), (error.clone(), error), "{body:?}");
    };
    assert_eq!(record(&[0, 0, 0, 1, 1, 0]), (Ok(()), Ok(())));
    assert_eq!(record(&[9, 0, 0, 5, 3, 0]), (Ok(()), Ok(())), "any attributes, any negative length");
    both(&[0, 0, 0, 1, 1], RecordFault::Truncated);
    both(&[], RecordFault::Truncated);
    both(&[0, 0, 0, 8, 1, 0], RecordFault::Length);
    both(&[0, 0, 0, 1, 1, 1], RecordFault::HeaderCount);
    both(&[0, 0, 0, 1, 1, 2], RecordFault::HeaderCount);
    both(&[0, 0, 0, 1, 1, 0, 0], RecordFault::Excess);
    both(&[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], RecordFault::Varint);
    // The reader of headers and offset deltas checks them; the walk reads both.
    assert_eq!(
        record(&[0, 0, 0, 1, 1, 2, 1, 1]).0,
        Err(BatchError::Record { index: 0, fault: RecordFault::HeaderKey })
    );
    assert_eq!(record(&[0, 0, 2, 1, 1, 0]).0, Err(BatchError::Record { index: 0, fault: RecordFault::OffsetDelta }));
}

#[test]
fn rewriting_keeps_what_is_not_asked_for() {
    let batch = only(vector("v2-none"));
    for codec in Compression::ALL {
        let bytes = rewrite::Rewrite::recompress(codec, None).apply(&batch, LIMIT).unwrap();
        let rewritten = only(bytes);
        assert_eq!(rewritten.compression(), Ok(codec));
        assert_eq!(records(&rewritten), records(&batch));
        let back = rewrite::Rewrite::recompress(Compression::None, None).apply(&rewritten, LIMIT).unwrap();
        assert_eq!(back, batch.bytes);
        let tight = rewrite::Rewrite::recompress(Compression::None, None).apply(&rewritten, 10);
        assert_eq!(tight.is_err(), codec != Compression::None, "only what must be unpacked has a limit");
    }
    // A compacted batch with a delete horizon: offsets 40 and 44 of the range 40..=49.
    let mut builder = BatchBuilder::new(Compression::None).base_offset(40);
    builder.set_delete_horizon(T + 1000);
    builder.append(0, T, Some(b"a"), None, &[]).append(4, T + 1, Some(b"b"), None, &[]);
    builder.set_last_offset_delta(9);
    let sparse = only(builder.build().unwrap());
    assert_eq!((sparse.header.delete_horizon(), sparse.header.last_offset()), (Some(T + 1000), 49));
    assert_eq!(records(&sparse).iter().map(|r| (r.offset, r.timestamp)).collect::<Vec<_>>(), [(40, T), (44, T + 1)]);
    let packed = only(rewrite::Rewrite::recompress(Compression::Zstd, Some(1)).apply(&sparse, LIMIT).unwrap());
    assert_eq!((packed.header.delete_horizon(), packed.header.last_offset()), (Some(T + 1000), 49));
    assert_eq!(records(&packed), records(&sparse));
    assert!(sparse.check_frames(LIMIT).is_err());
    let renumber = rewrite::Rewrite { renumber: true, ..rewrite::Rewrite::recompress(Compression::None, None) };
    let dense = only(renumber.apply(&sparse, LIMIT).unwrap());
    assert_eq!(dense.check_frames(LIMIT).unwrap().first_null_key, None);
    assert_eq!(dense.header.last_offset(), 41);
}

#[test]
fn sequences_wrap() {
    let header = BatchHeader { base_sequence: i32::MAX, last_offset_delta: 2, ..BatchHeader::default() };
    assert_eq!(header.last_sequence(), 1);
    assert_eq!(BatchHeader::default().last_sequence(), -1);
}
