// Fills topics on a Kafka broker, has its cleaner compact them in passes, and keeps a copy of the folders before and after each pass:
//   Compaction BOOTSTRAP KAFKA_DATA OUT
import java.io.IOException;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Compaction {
    static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};
    static final int PASSES = 4;
    static String bootstrap;
    static Path data, out;
    static Admin admin;

    /** What is special of a topic. */
    record Topic(String name, boolean idempotent, boolean transactions, String deleteRetentionMs) {}

    static final List<Topic> TOPICS = List.of(
        new Topic("plain", false, false, "86400000"),
        new Topic("idempotent", true, false, "86400000"),
        new Topic("transactions", true, true, "86400000"),
        new Topic("expired", true, true, "1"));

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        data = Path.of(args[1]);
        out = Path.of(args[2]);
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        List<NewTopic> made = new ArrayList<>();
        for (Topic topic : TOPICS) {
            made.add(new NewTopic(topic.name, 1, (short) 1).configs(Map.of("cleanup.policy", "delete", "retention.ms", "-1",
                "segment.bytes", "1048576", "min.cleanable.dirty.ratio", "0", "delete.retention.ms", topic.deleteRetentionMs)));
        }
        admin.createTopics(made).all().get();
        List<Callable<Void>> work = new ArrayList<>();
        ExecutorService threads = Executors.newFixedThreadPool(TOPICS.size());
        Map<String, Writer> writers = new HashMap<>();
        for (int pass = 1; pass <= PASSES; pass++) {
            work.clear();
            for (Topic topic : TOPICS) {
                Writer writer = writers.computeIfAbsent(topic.name, name -> new Writer(topic));
                int now = pass;
                work.add(() -> { writer.fill(now); return null; });
            }
            for (Future<Void> done : threads.invokeAll(work)) done.get();
            snapshot("before-" + pass);
            policy("compact");
            for (Topic topic : TOPICS) await(topic.name);
            policy("delete");
            snapshot("after-" + pass);
        }
        threads.shutdown();
        for (Writer writer : writers.values()) writer.close();
        admin.close();
    }

    static class Writer {
        final Topic topic;
        final Random random;
        final List<Producer<byte[], byte[]>> producers = new ArrayList<>();
        Producer<byte[], byte[]> filler;

        Writer(Topic topic) {
            this.topic = topic;
            random = new Random(topic.name.hashCode());
            for (int i = 0; i < 5; i++) producers.add(producer(CODECS[i], topic.transactions ? topic.name + i : null));
            filler = producer("none", null);
            if (topic.transactions) producers.forEach(Producer::initTransactions);
        }

        Producer<byte[], byte[]> producer(String codec, String transactionalId) {
            Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "compression.type", codec, "acks", "all",
                "linger.ms", 2, "batch.size", 32768, "enable.idempotence", topic.idempotent));
            if (transactionalId != null) config.put("transactional.id", transactionalId);
            return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
        }

        void send(Producer<byte[], byte[]> producer, String key, byte[] value) {
            producer.send(new ProducerRecord<>(topic.name, 0, key.getBytes(), value));
        }

        byte[] value() {
            byte[] bytes = new byte[500 + random.nextInt(6000)];
            random.nextBytes(bytes);
            return bytes;
        }

        void fill(int pass) throws Exception {
            // The last pass brings nothing new: what is left goes once its time has come.
            int rounds = pass < 3 ? 60 : 4;
            for (int round = 0; round < rounds; round++) {
                // One after another says nothing of producers that interleave; two at once do.
                int first = random.nextInt(producers.size()), second = (first + 1 + random.nextInt(producers.size() - 1)) % producers.size();
                List<Producer<byte[], byte[]>> two = List.of(producers.get(first), producers.get(second));
                // A producer that is silent from the second pass on has its last sequence kept.
                if (pass > 1 && first == 4) continue;
                if (topic.transactions) two.forEach(Producer::beginTransaction);
                for (int i = 0; i < 2 + random.nextInt(16); i++) {
                    String key = (round % 7 == 0 ? "once-" + pass + "-" + round + "-" : "key-") + random.nextInt(40);
                    send(two.get(random.nextInt(2)), key, random.nextInt(5) == 0 ? null : value());
                }
                for (Producer<byte[], byte[]> producer : two) {
                    producer.flush();
                    if (!topic.transactions) continue;
                    if (random.nextInt(3) == 0) producer.abortTransaction();
                    else producer.commitTransaction();
                }
            }
            // All before the second lies in closed segments then. Transactions are over: their markers are written when the next begins.
            if (topic.transactions) {
                for (Producer<byte[], byte[]> producer : producers) {
                    producer.beginTransaction();
                    producer.abortTransaction();
                }
            }
            for (String key : List.of("filler-a", "filler-b")) {
                byte[] bytes = new byte[700_000];
                random.nextBytes(bytes);
                send(filler, key, bytes);
                filler.flush();
            }
        }

        void close() {
            producers.forEach(Producer::close);
            filler.close();
        }
    }

    static void policy(String value) throws Exception {
        AlterConfigOp op = new AlterConfigOp(new ConfigEntry("cleanup.policy", value), AlterConfigOp.OpType.SET);
        Map<ConfigResource, Collection<AlterConfigOp>> changes = new HashMap<>();
        for (Topic topic : TOPICS) changes.put(new ConfigResource(ConfigResource.Type.TOPIC, topic.name), List.of(op));
        admin.incrementalAlterConfigs(changes).all().get();
    }

    /** Until the cleaner has come to the active segment. */
    static void await(String topic) throws Exception {
        long deadline = System.nanoTime() + 60_000_000_000L;
        while (System.nanoTime() < deadline) {
            List<String> names;
            try (Stream<Path> files = Files.list(data.resolve(topic + "-0"))) {
                names = files.map(file -> file.getFileName().toString()).collect(Collectors.toList());
            }
            long active = names.stream().filter(name -> name.endsWith(".log")).mapToLong(name -> Long.parseLong(name.substring(0, 20))).max().getAsLong();
            boolean quiet = names.stream().noneMatch(name -> name.endsWith(".cleaned") || name.endsWith(".swap"));
            Path checkpoint = data.resolve("cleaner-offset-checkpoint");
            if (quiet && Files.exists(checkpoint) && Files.readAllLines(checkpoint).contains(topic + " 0 " + active)) return;
            Thread.sleep(20);
        }
        throw new IllegalStateException("Kafka's cleaner did not get through " + topic);
    }

    static void snapshot(String name) throws IOException {
        Path to = out.resolve(name);
        Files.createDirectories(to);
        for (String file : List.of("meta.properties", "cleaner-offset-checkpoint")) {
            if (Files.exists(data.resolve(file))) Files.copy(data.resolve(file), to.resolve(file));
        }
        for (Topic topic : TOPICS) {
            Path from = data.resolve(topic.name + "-0");
            // One data folder a topic: their configs differ.
            Path folder = to.resolve(topic.name).resolve(topic.name + "-0");
            Files.createDirectories(folder);
            List<Path> files;
            try (Stream<Path> list = Files.list(from)) {
                files = list.collect(Collectors.toList());
            }
            for (Path file : files) {
                if (file.toString().endsWith(".deleted")) continue;
                Files.copy(file, folder.resolve(file.getFileName()));
            }
            for (String file : List.of("meta.properties", "cleaner-offset-checkpoint")) {
                if (Files.exists(to.resolve(file))) Files.copy(to.resolve(file), to.resolve(topic.name).resolve(file));
            }
        }
    }
}
