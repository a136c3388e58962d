import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Future;
import java.util.zip.CRC32;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Fills a broker with topics of every kind, and tells all that a broker serves. Commands follow each other behind "then". */
public class Format {
    static final String GROUP = "format-group";
    static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};
    static String bootstrap;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        List<String> words = new ArrayList<>();
        for (String word : Arrays.asList(args).subList(1, args.length)) {
            if (word.equals("then")) {
                run(words);
                words = new ArrayList<>();
            } else {
                words.add(word);
            }
        }
        run(words);
    }

    static void run(List<String> words) throws Exception {
        List<String> rest = words.subList(1, words.size());
        switch (words.get(0)) {
            case "create" -> create(rest);
            case "fill" -> fill();
            case "transactions" -> transactions(rest.get(0));
            case "read" -> read(Path.of(rest.get(0)), rest.get(1), rest.subList(2, rest.size()));
            case "append" -> append(rest);
            case "ids" -> ids(rest);
            case "sh" -> sh(rest);
            default -> throw new IllegalArgumentException(words.toString());
        }
    }

    static Map<String, Object> config(Object... more) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap));
        for (int i = 0; i < more.length; i += 2) {
            config.put((String) more[i], more[i + 1]);
        }
        return config;
    }

    static KafkaProducer<byte[], byte[]> producer(Object... more) {
        return new KafkaProducer<>(config(more), new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(Object... more) {
        return new KafkaConsumer<>(config(more), new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** Half of it can be compressed. */
    static byte[] value(Random random, int size) {
        byte[] value = new byte[size];
        random.nextBytes(value);
        Arrays.fill(value, size / 2, size, (byte) 'x');
        return value;
    }

    /** NAME=PARTITIONS[,config=value...] each. */
    static void create(List<String> topics) throws Exception {
        try (Admin admin = Admin.create(config())) {
            List<NewTopic> fresh = new ArrayList<>();
            for (String topic : topics) {
                String[] words = topic.split(",");
                String[] name = words[0].split("=");
                Map<String, String> configs = new HashMap<>();
                for (String word : Arrays.asList(words).subList(1, words.length)) {
                    String[] pair = word.split("=");
                    configs.put(pair[0], pair[1]);
                }
                fresh.add(new NewTopic(name[0], Integer.parseInt(name[1]), (short) 1).configs(configs));
            }
            admin.createTopics(fresh).all().get();
        }
    }

    /** What Esker's clients can write: everything but transactions. The topics are there. */
    static void fill() throws Exception {
        Random random = new Random(7);
        long now = System.currentTimeMillis();
        for (String codec : CODECS) {
            try (var producer = producer("compression.type", codec, "linger.ms", 5)) {
                for (int i = 0; i < 300; i++) {
                    // Times that jump forth and back, by up to ten minutes.
                    long time = now - 3_600_000 + i * 10L + random.nextInt(600_000);
                    byte[] key = i % 5 == 0 ? null : bytes("key-" + i);
                    byte[] value = i % 7 == 0 ? null : i % 11 == 0 ? new byte[0] : value(random, 4000);
                    var record = new ProducerRecord<>("codecs", 0, time, key, value);
                    if (i % 3 == 0) {
                        record.headers().add("codec", bytes(codec)).add("null", null).add("codec", bytes("again"));
                    }
                    producer.send(record);
                    if (i % 20 == 0) {
                        producer.send(new ProducerRecord<>("appendtime", 0, time, bytes("k"), bytes(codec + i)));
                    }
                }
            }
        }
        try (var producer = producer()) {
            for (int i = 0; i < 3000; i++) {
                producer.send(new ProducerRecord<>("plain", i % 2, bytes("key-" + i), value(random, 1500)));
                producer.send(new ProducerRecord<>("truncated", 0, bytes("key-" + i), value(random, 1000)));
            }
            Future<RecordMetadata> last = null;
            for (int i = 0; i < 500; i++) {
                last = producer.send(new ProducerRecord<>("compact", 0, bytes("key-" + i % 20), i % 20 == 3 ? null : value(random, 8000)));
            }
            last.get();
            // What lies before these two is in closed segments then, and may be compacted.
            for (int i = 0; i < 2; i++) {
                producer.send(new ProducerRecord<>("compact", 0, bytes("filler-" + i), value(random, 900_000))).get();
            }
        }
        try (Admin admin = Admin.create(config())) {
            admin.deleteRecords(Map.of(new TopicPartition("truncated", 0), RecordsToDelete.beforeOffset(1777))).all().get();
        }
        commit();
        // Compaction leaves one record of each key and the two fillers; nothing of it changes later.
        long deadline = System.nanoTime() + 60_000_000_000L;
        while (read("compact", 0, "read_uncommitted", record -> { }) != 22) {
            if (System.nanoTime() > deadline) {
                throw new IllegalStateException("the compacted topic was not compacted");
            }
            Thread.sleep(50);
        }
    }

    static void commit() {
        try (var consumer = consumer("group.id", GROUP)) {
            consumer.commitSync(Map.of(
                new TopicPartition("plain", 0), new OffsetAndMetadata(123, "some metadata"),
                new TopicPartition("plain", 1), new OffsetAndMetadata(1, "")));
            consumer.commitSync(Map.of(new TopicPartition("plain", 1), new OffsetAndMetadata(456, "")));
        }
    }

    /** Transactions of three producers interleaved over several segments: committed, aborted, and with offsets in them. */
    static void transactions(String topic) throws Exception {
        Random random = new Random(9);
        List<KafkaProducer<byte[], byte[]>> producers = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            producers.add(producer("transactional.id", "format-" + i, "compression.type", CODECS[i + 2]));
            producers.get(i).initTransactions();
        }
        for (int round = 0; round < 40; round++) {
            for (var producer : producers) {
                producer.beginTransaction();
            }
            for (int i = 0; i < 30; i++) {
                int at = i % 3;
                byte[] value = value(random, 1500);
                producers.get(at).send(new ProducerRecord<>(topic, i % 2, bytes("txn-" + round + "-" + at), value));
            }
            for (int at = 0; at < 3; at++) {
                if (at == 0) {
                    producers.get(at).flush();
                    producers.get(at).sendOffsetsToTransaction(
                        Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(round)),
                        new org.apache.kafka.clients.consumer.ConsumerGroupMetadata(GROUP));
                }
                if ((round + at) % 3 == 0) {
                    producers.get(at).flush();
                    producers.get(at).abortTransaction();
                } else {
                    producers.get(at).commitTransaction();
                }
            }
        }
        producers.forEach(KafkaProducer::close);
        // The last markers are written after the producers were answered.
        var done = Set.of(TransactionState.COMPLETE_COMMIT, TransactionState.COMPLETE_ABORT, TransactionState.EMPTY);
        try (Admin admin = Admin.create(config())) {
            while (!admin.listTransactions().all().get().stream().allMatch(listing -> done.contains(listing.state()))) {
                Thread.sleep(20);
            }
        }
    }

    interface Sink {
        void take(ConsumerRecord<byte[], byte[]> record);
    }

    /** Reads one partition from start to end; returns how many records there were. */
    static int read(String topic, int partition, String isolation, Sink sink) {
        var at = new TopicPartition(topic, partition);
        try (var consumer = consumer("isolation.level", isolation, "auto.offset.reset", "none", "check.crcs", true)) {
            consumer.assign(List.of(at));
            consumer.seekToBeginning(List.of(at));
            long end = consumer.endOffsets(List.of(at)).get(at);
            int count = 0;
            long deadline = System.nanoTime() + 60_000_000_000L;
            while (consumer.position(at) < end) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException(at + " is at " + consumer.position(at) + " and not at its end " + end);
                }
                for (var record : consumer.poll(Duration.ofMillis(100))) {
                    sink.take(record);
                    count++;
                }
            }
            return count;
        }
    }

    static String print(byte[] bytes) {
        if (bytes == null) {
            return "null";
        }
        CRC32 crc = new CRC32();
        crc.update(bytes);
        String text = bytes.length <= 40 ? new String(bytes, StandardCharsets.UTF_8) : "";
        return bytes.length + ":" + Long.toHexString(crc.getValue()) + ":" + text;
    }

    /** Everything that can be read of the topics, a line each. */
    static void read(Path file, String isolation, List<String> topics) throws Exception {
        try (var out = new PrintWriter(Files.newBufferedWriter(file)); Admin admin = Admin.create(config())) {
            var described = new TreeMap<>(admin.describeTopics(topics).allTopicNames().get());
            for (var topic : described.values()) {
                for (var info : topic.partitions()) {
                    var at = new TopicPartition(topic.name(), info.partition());
                    for (var spec : List.of(OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.maxTimestamp())) {
                        var found = admin.listOffsets(Map.of(at, spec)).partitionResult(at).get();
                        out.println(at + " " + spec.getClass().getSimpleName() + " " + found.offset() + " " + found.timestamp());
                    }
                    int count = read(at.topic(), at.partition(), isolation, record -> {
                        StringBuilder headers = new StringBuilder();
                        for (Header header : record.headers()) {
                            headers.append(' ').append(header.key()).append('=').append(print(header.value()));
                        }
                        out.println(at + "@" + record.offset() + " " + record.timestampType() + " " + record.timestamp() + " epoch "
                            + record.leaderEpoch().orElse(-1) + " " + print(record.key()) + " " + print(record.value()) + headers);
                    });
                    System.out.println(at + ": " + count + " records, " + isolation);
                }
            }
            try {
                var offsets = admin.listConsumerGroupOffsets(GROUP).partitionsToOffsetAndMetadata().get();
                var lines = new TreeSet<String>();
                offsets.forEach((at, offset) -> lines.add(GROUP + " " + at + " " + offset.offset() + " '" + offset.metadata() + "'"));
                lines.forEach(out::println);
            } catch (Exception error) {
                out.println(GROUP + " " + error.getMessage());
            }
        }
    }

    /** One more record for each partition, which must take the offset of the end. */
    static void append(List<String> topics) throws Exception {
        try (Admin admin = Admin.create(config()); var producer = producer()) {
            for (var topic : admin.describeTopics(topics).allTopicNames().get().values()) {
                for (var info : topic.partitions()) {
                    var at = new TopicPartition(topic.name(), info.partition());
                    long end = admin.listOffsets(Map.of(at, OffsetSpec.latest())).partitionResult(at).get().offset();
                    long offset = producer.send(new ProducerRecord<>(topic.name(), info.partition(), bytes("more"), bytes("more"))).get().offset();
                    if (offset != end) {
                        throw new IllegalStateException(at + " ends at " + end + ", the next record was put at " + offset);
                    }
                }
            }
        }
    }

    /** Runs another program meanwhile. */
    static void sh(List<String> command) throws Exception {
        int status = new ProcessBuilder(command).inheritIO().start().waitFor();
        if (status != 0) {
            throw new IllegalStateException(command + " ended with " + status);
        }
    }

    /** Prints the topics' ids. */
    static void ids(List<String> topics) throws Exception {
        try (Admin admin = Admin.create(config())) {
            admin.describeTopics(topics).allTopicNames().get().forEach((name, topic) -> System.out.println("id " + name + " " + topic.topicId()));
        }
    }
}
