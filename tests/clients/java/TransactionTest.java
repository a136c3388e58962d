// Transactions of Kafka's Java client: commit, abort, fencing, time-outs, offsets, restart, admin.
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.function.BooleanSupplier;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

public class TransactionTest {
    static final String BOOT = System.getenv("BOOTSTRAP");
    static final short REPLICAS = Short.parseShort(System.getenv("REPLICAS"));
    static final String CTL = System.getenv("ESKER_CTL");
    static final int PARTS = 3;

    static void step(String text) {
        System.out.println(java.time.LocalTime.now().withNano(0) + " transactions: " + text);
    }

    static void check(boolean good, Object what) {
        if (!good) throw new AssertionError(String.valueOf(what));
    }

    interface Try { boolean go() throws Exception; }

    static void await(String what, Try check) throws Exception {
        long end = System.nanoTime() + 60_000_000_000L;
        while (!check.go()) {
            if (System.nanoTime() > end) throw new AssertionError("not in 60 s: " + what);
            Thread.sleep(5);
        }
    }

    static KafkaProducer<String, String> producer(String id, int timeoutMs) {
        return new KafkaProducer<>(Map.of(
            "bootstrap.servers", BOOT, "transactional.id", id, "transaction.timeout.ms", timeoutMs, "linger.ms", 1),
            new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(String isolation, String group) {
        var config = new HashMap<String, Object>(Map.of(
            "bootstrap.servers", BOOT, "isolation.level", isolation, "auto.offset.reset", "earliest", "enable.auto.commit", false));
        if (group != null) config.put("group.id", group);
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    static List<TopicPartition> places(String topic) {
        return IntStream.range(0, PARTS).mapToObj(p -> new TopicPartition(topic, p)).toList();
    }

    /** Every value up to the end of the topic, as a consumer of this isolation level sees it. */
    static List<String> values(String topic, String isolation) {
        try (var consumer = consumer(isolation, null)) {
            consumer.assign(places(topic));
            consumer.seekToBeginning(places(topic));
            var ends = consumer.endOffsets(places(topic));
            var found = new ArrayList<String>();
            while (!ends.entrySet().stream().allMatch(e -> consumer.position(e.getKey()) >= e.getValue()))
                consumer.poll(Duration.ofMillis(100)).forEach(r -> found.add(r.value()));
            Collections.sort(found);
            return found;
        }
    }

    static void send(KafkaProducer<String, String> producer, String topic, String name, int count) throws Exception {
        for (int at = 0; at < count; at++)
            producer.send(new ProducerRecord<>(topic, at % PARTS, null, name + "-" + at));
        producer.flush();
    }

    static List<String> named(String name, int count) {
        return IntStream.range(0, count).mapToObj(at -> name + "-" + at).toList();
    }

    static List<String> all(List<String>... lists) {
        return Arrays.stream(lists).flatMap(List::stream).sorted().toList();
    }

    public static void main(String[] args) throws Exception {
        try (var admin = Admin.create(Map.<String, Object>of("bootstrap.servers", BOOT))) {
            admin.createTopics(Stream.of("tx", "tx-in", "tx-out", "tx-late", "tx-hang")
                .map(t -> new NewTopic(t, PARTS, REPLICAS)).toList()).all().get();
            commitAndAbort(admin);
            fencing();
            lateness(admin);
            copying(admin);
            hanging(admin);
        }
        step("ok");
    }

    static void commitAndAbort(Admin admin) throws Exception {
        step("commit and abort");
        try (var producer = producer("one", 60_000)) {
            producer.initTransactions();
            producer.beginTransaction();
            send(producer, "tx", "open", 9);
            check(values("tx", "read_uncommitted").equals(named("open", 9)), "uncommitted records are not there");
            check(values("tx", "read_committed").isEmpty(), "an open transaction is seen");
            var described = admin.describeTransactions(List.of("one")).description("one").get();
            check(described.state() == TransactionState.ONGOING && described.topicPartitions().size() == PARTS, described);
            check(described.transactionStartTimeMs().isPresent(), described);
            var listed = admin.listTransactions(new ListTransactionsOptions().filterStates(Set.of(TransactionState.ONGOING))).all().get();
            check(listed.stream().map(TransactionListing::transactionalId).toList().equals(List.of("one")), listed);
            check(admin.listTransactions(new ListTransactionsOptions().filterOnTransactionalIdPattern("o.e")).all().get().size() == 1, "pattern");
            check(admin.listTransactions(new ListTransactionsOptions().filterOnTransactionalIdPattern("o")).all().get().isEmpty(), "part of it");
            var writes = admin.describeProducers(places("tx")).all().get();
            check(writes.values().stream().allMatch(p -> p.activeProducers().get(0).currentTransactionStartOffset().getAsLong() == 0), writes);
            producer.commitTransaction();
            await("commit", () -> values("tx", "read_committed").equals(named("open", 9)));
            producer.beginTransaction();
            send(producer, "tx", "aborted", 9);
            producer.abortTransaction();
            producer.beginTransaction();
            producer.abortTransaction();
            for (int round = 0; round < 20; round++) {
                producer.beginTransaction();
                send(producer, "tx", "round" + round, 3);
                if (round % 2 == 0) producer.commitTransaction();
                else producer.abortTransaction();
            }
            // And across a restart in the middle of one.
            producer.beginTransaction();
            send(producer, "tx", "before", 3);
            check(new ProcessBuilder(CTL, "restart").inheritIO().start().waitFor() == 0, "restart");
            send(producer, "tx", "after", 3);
            producer.commitTransaction();
        }
        var rounds = IntStream.range(0, 10).boxed().flatMap(r -> named("round" + 2 * r, 3).stream()).toList();
        var wanted = all(named("open", 9), rounds, named("before", 3), named("after", 3));
        await("all that is committed", () -> values("tx", "read_committed").size() >= wanted.size());
        check(values("tx", "read_committed").equals(wanted), values("tx", "read_committed"));
        check(values("tx", "read_uncommitted").size() == wanted.size() + 9 + 30, "aborted records stay in the log");
    }

    static void fencing() throws Exception {
        step("fencing");
        try (var old = producer("two", 60_000); var next = producer("two", 60_000)) {
            old.initTransactions();
            old.beginTransaction();
            send(old, "tx", "zombie", 3);
            next.initTransactions();
            next.beginTransaction();
            send(next, "tx", "next", 3);
            next.commitTransaction();
            try {
                old.commitTransaction();
                check(false, "a fenced producer commits");
            } catch (ProducerFencedException | InvalidProducerEpochException good) {
                step("fenced: " + good.getClass().getSimpleName());
            }
        }
        await("the new one's records", () -> values("tx", "read_committed").containsAll(named("next", 3)));
        check(Collections.disjoint(values("tx", "read_committed"), named("zombie", 3)), "a zombie's records are seen");
    }

    static void lateness(Admin admin) throws Exception {
        step("time-out");
        try (var late = producer("late", 1000); var waits = consumer("read_committed", null)) {
            late.initTransactions();
            late.beginTransaction();
            send(late, "tx-late", "late", 3);
            try (var other = producer("other", 60_000)) {
                other.initTransactions();
                other.beginTransaction();
                send(other, "tx-late", "other", 3);
                other.commitTransaction();
            }
            // What is committed behind the open transaction is seen when that is aborted.
            waits.assign(places("tx-late"));
            var seen = new ArrayList<String>();
            await("the end of the late transaction", () -> {
                waits.poll(Duration.ofMillis(100)).forEach(r -> seen.add(r.value()));
                return seen.size() == 3;
            });
            Collections.sort(seen);
            check(seen.equals(named("other", 3)), seen);
            try {
                late.commitTransaction();
                check(false, "a transaction that timed out is committed");
            } catch (KafkaException good) {
                step("late: " + good.getClass().getSimpleName());
            }
        }
        check(admin.describeTransactions(List.of("late")).description("late").get().state() == TransactionState.COMPLETE_ABORT, "state");
    }

    /** Consume, transform, produce, with the offsets in the transaction; killed now and then. */
    static void copying(Admin admin) throws Exception {
        step("copying");
        int count = 120;
        try (var source = new KafkaProducer<>(Map.<String, Object>of("bootstrap.servers", BOOT), new StringSerializer(), new StringSerializer())) {
            for (int at = 0; at < count; at++) source.send(new ProducerRecord<>("tx-in", at % PARTS, null, "v-" + at));
        }
        int done = 0;
        for (int life = 0; done < count; life++) {
            try (var reader = consumer("read_committed", "copy"); var writer = producer("copier", 60_000)) {
                writer.initTransactions();
                reader.subscribe(List.of("tx-in"));
                for (int round = 0; round < 4; round++) {
                    var records = reader.poll(Duration.ofSeconds(1));
                    if (records.isEmpty()) continue;
                    writer.beginTransaction();
                    var offsets = new HashMap<TopicPartition, OffsetAndMetadata>();
                    int taken = 0;
                    for (var record : records) {
                        if (taken++ == 20) break;
                        writer.send(new ProducerRecord<>("tx-out", record.partition(), null, record.value()));
                        offsets.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
                    }
                    writer.sendOffsetsToTransaction(offsets, reader.groupMetadata());
                    if (round == 2) writer.abortTransaction();
                    else writer.commitTransaction();
                    for (var place : reader.assignment()) {
                        var committed = reader.committed(Set.of(place)).get(place);
                        reader.seek(place, committed == null ? 0 : committed.offset());
                    }
                }
                if (life == 1) {
                    writer.beginTransaction();
                    writer.send(new ProducerRecord<>("tx-out", 0, null, "lost"));
                    writer.flush();
                    check(new ProcessBuilder(CTL, "restart").inheritIO().start().waitFor() == 0, "restart");
                }
                done = values("tx-out", "read_committed").size();
            }
        }
        await("all copied", () -> values("tx-out", "read_committed").size() == count);
        var wanted = IntStream.range(0, count).mapToObj(at -> "v-" + at).sorted().toList();
        check(values("tx-out", "read_committed").equals(wanted), "each once");
        var committed = admin.listConsumerGroupOffsets("copy").partitionsToOffsetAndMetadata().get();
        check(committed.values().stream().mapToLong(OffsetAndMetadata::offset).sum() == count, committed);
    }

    /** A transaction in a partition that no coordinator knows of: an admin finds and ends it. */
    static void hanging(Admin admin) throws Exception {
        step("an admin aborts");
        var place = new TopicPartition("tx-hang", 0);
        try (var producer = producer("hang", 60_000)) {
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>("tx-hang", 0, null, "hangs")).get();
            var state = admin.describeProducers(List.of(place)).partitionResult(place).get().activeProducers().get(0);
            admin.abortTransaction(new AbortTransactionSpec(
                place, state.producerId(), (short) (state.producerEpoch() + 1), state.coordinatorEpoch().orElse(0))).all().get();
            check(values("tx-hang", "read_committed").isEmpty(), "aborted, but seen");
            check(admin.describeProducers(List.of(place)).partitionResult(place).get().activeProducers().get(0)
                .currentTransactionStartOffset().isEmpty(), "still open");
        }
        step("an admin fences");
        try (var producer = producer("fence", 60_000)) {
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>("tx-hang", 1, null, "fenced")).get();
            admin.fenceProducers(List.of("fence")).all().get();
            try {
                producer.commitTransaction();
                check(false, "a fenced producer commits");
            } catch (KafkaException good) {
                step("fenced: " + good.getClass().getSimpleName());
            }
        }
    }
}
