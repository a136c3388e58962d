// Kafka's Java client: produce, consume, groups, restart, timestamps, admin, delete.
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.function.BooleanSupplier;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.*;

public class ClientTest {
    static final String BOOT = System.getenv("BOOTSTRAP");
    static final short REPLICAS = Short.parseShort(System.getenv("REPLICAS"));
    static final String CTL = System.getenv("ESKER_CTL");
    static final String TOPIC = "java";
    /** What a broker wrote before it was killed must not be there twice: producers are idempotent. */
    static final boolean KILLS = !System.getenv().getOrDefault("ESKER_KILL_EVERY", "").isEmpty();
    static final int PARTS = 3;
    static final int PER_CODEC = 31;
    static final int BIG = 1_000_000;
    static final long BASE = 1_700_000_000_000L;
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final Set<TopicPartition> PLACES =
        IntStream.range(0, PARTS).mapToObj(p -> new TopicPartition(TOPIC, p)).collect(Collectors.toSet());

    static void step(String text) {
        System.out.println(java.time.LocalTime.now().withNano(0) + " " + text);
    }

    static void check(boolean good, Object what) {
        if (!good) throw new AssertionError(String.valueOf(what));
    }

    static void await(String what, BooleanSupplier check) {
        long end = System.nanoTime() + 60_000_000_000L;
        while (!check.getAsBoolean()) {
            if (System.nanoTime() > end) throw new AssertionError("not in 60 s: " + what);
            Thread.onSpinWait();
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static byte[] value(int number) {
        int at = number % PER_CODEC;
        if (at == PER_CODEC - 1) {
            byte[] big = new byte[BIG];
            Arrays.fill(big, (byte) (65 + number % 26));
            return big;
        }
        return at % 10 == 9 ? null : bytes("value-" + number);
    }

    static ProducerRecord<byte[], byte[]> record(int number) {
        var record = new ProducerRecord<>(TOPIC, number % PARTS, BASE + number * 1000L, bytes("key-" + number), value(number));
        record.headers().add(new RecordHeader("number", bytes("" + number)));
        record.headers().add(new RecordHeader("empty", new byte[0]));
        record.headers().add(new RecordHeader("null", (byte[]) null));
        return record;
    }

    static KafkaProducer<byte[], byte[]> producer(String codec, Map<String, Object> more) {
        Map<String, Object> conf = new HashMap<>(Map.of("bootstrap.servers", BOOT, "compression.type", codec,
            "max.request.size", 2_000_000, "linger.ms", 20, "delivery.timeout.ms", 40000, "request.timeout.ms", 10000));
        conf.putAll(more);
        return new KafkaProducer<>(conf, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static void produce(int from, int to, String codec, boolean idempotent) throws Exception {
        try (var producer = producer(codec, Map.of("enable.idempotence", idempotent || KILLS, "acks", "all"))) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int number = from; number < to; number++) sent.add(producer.send(record(number)));
            for (var future : sent) future.get(40, TimeUnit.SECONDS);
        }
    }

    static KafkaConsumer<byte[], byte[]> consumer(String group, Map<String, Object> more) {
        Map<String, Object> conf = new HashMap<>(Map.of("bootstrap.servers", BOOT, "auto.offset.reset", "earliest",
            "enable.auto.commit", false, "max.partition.fetch.bytes", 2_000_000));
        if (group != null) conf.put("group.id", group);
        conf.putAll(more);
        return new KafkaConsumer<>(conf, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static void take(KafkaConsumer<byte[], byte[]> client, List<Integer> into) {
        for (var got : client.poll(Duration.ofMillis(100))) {
            int number = Integer.parseInt(new String(got.headers().lastHeader("number").value()));
            var want = record(number);
            check(Arrays.equals(got.key(), want.key()), "key of " + number);
            check(Arrays.equals(got.value(), want.value()), "value of " + number);
            check(Arrays.equals(got.headers().toArray(), want.headers().toArray()), "headers of " + number);
            check(got.timestamp() == want.timestamp(), "timestamp of " + number);
            check(got.partition() == number % PARTS, "partition of " + number);
            into.add(number);
        }
    }

    static Set<Integer> numbers(int from, int to) {
        return IntStream.range(from, to).boxed().collect(Collectors.toSet());
    }

    static long count(int total, int part) {
        return IntStream.range(0, total).filter(n -> n % PARTS == part).count();
    }

    static boolean isThrough(KafkaConsumer<byte[], byte[]> member, int total) {
        return member.assignment().stream().allMatch(place -> member.position(place) == count(total, place.partition()));
    }

    static void control(String how) throws Exception {
        check(new ProcessBuilder(CTL, how).inheritIO().start().waitFor() == 0, how);
    }

    static void group(String name, int total, Map<String, Object> protocol) {
        step("group with two members, " + name);
        List<Integer> seen = new ArrayList<>();
        try (var one = consumer(name, protocol); var two = consumer(name, protocol)) {
            one.subscribe(List.of(TOPIC));
            await("one member has all", () -> { take(one, seen); return one.assignment().equals(PLACES); });
            two.subscribe(List.of(TOPIC));
            await("two members share", () -> {
                take(one, seen);
                take(two, seen);
                var all = new HashSet<>(one.assignment());
                all.addAll(two.assignment());
                return !one.assignment().isEmpty() && !two.assignment().isEmpty() && all.equals(PLACES)
                    && Collections.disjoint(one.assignment(), two.assignment());
            });
            await("the group has read all", () -> {
                take(one, seen);
                take(two, seen);
                // A partition that changed hands is read again by its new owner, who commits only what it has read itself.
                return new HashSet<>(seen).equals(numbers(0, total)) && isThrough(one, total) && isThrough(two, total);
            });
            for (var member : List.of(one, two)) {
                member.commitSync();
                for (var entry : member.committed(member.assignment()).entrySet())
                    check(entry.getValue().offset() == count(total, entry.getKey().partition()), entry);
            }
        }
    }

    public static void main(String[] args) throws Exception {
        try (var admin = Admin.create(Map.of("bootstrap.servers", BOOT))) {
            run(admin);
        }
        step("ok");
    }

    static void run(Admin admin) throws Exception {
        step("create");
        admin.createTopics(List.of(new NewTopic(TOPIC, PARTS, REPLICAS).configs(Map.of("max.message.bytes", "2000000"))))
            .all().get(30, TimeUnit.SECONDS);
        await("topic", () -> {
            try {
                return admin.describeTopics(List.of(TOPIC)).allTopicNames().get(30, TimeUnit.SECONDS).get(TOPIC).partitions().size() == PARTS;
            } catch (ExecutionException error) {
                // The question may go to a broker that does not know the topic yet.
                check(error.getCause() instanceof UnknownTopicOrPartitionException, error);
                return false;
            } catch (InterruptedException | TimeoutException error) {
                throw new AssertionError(error);
            }
        });
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, TOPIC);
        var config = admin.describeConfigs(List.of(resource)).all().get(30, TimeUnit.SECONDS).get(resource);
        check(config.get("max.message.bytes").value().equals("2000000"), config);
        int total = CODECS.size() * PER_CODEC;
        for (int index = 0; index < CODECS.size(); index++) {
            step("produce " + CODECS.get(index));
            produce(index * PER_CODEC, (index + 1) * PER_CODEC, CODECS.get(index), index % 2 == 1);
        }

        step("consume all by assignment");
        try (var client = consumer(null, Map.of())) {
            client.assign(PLACES);
            client.seekToBeginning(PLACES);
            List<Integer> seen = new ArrayList<>();
            await("all records", () -> { take(client, seen); return seen.size() >= total; });
            check(seen.size() == total && new HashSet<>(seen).equals(numbers(0, total)), seen);
            for (var place : PLACES) {
                var mine = seen.stream().filter(n -> n % PARTS == place.partition()).toList();
                check(mine.equals(mine.stream().sorted().toList()), "order in " + place);
            }
            step("seek by timestamp");
            int goal = total / 2;
            Map<TopicPartition, Long> times = new HashMap<>();
            for (var place : PLACES) times.put(place, BASE + goal * 1000L);
            for (var entry : client.offsetsForTimes(times).entrySet()) {
                var place = entry.getKey();
                int want = IntStream.range(goal, total).filter(n -> n % PARTS == place.partition()).min().getAsInt();
                check(entry.getValue().timestamp() == BASE + want * 1000L, entry);
                client.assign(Set.of(place));
                client.seek(place, entry.getValue().offset());
                List<Integer> first = new ArrayList<>();
                await("record at a timestamp", () -> { take(client, first); return !first.isEmpty(); });
                check(first.get(0) == want, first.get(0));
            }
        }
        Map<TopicPartition, OffsetSpec> specs = new HashMap<>();
        for (var place : PLACES) specs.put(place, OffsetSpec.latest());
        var ends = admin.listOffsets(specs).all().get(30, TimeUnit.SECONDS);
        for (var place : PLACES) check(ends.get(place).offset() == count(total, place.partition()), ends);

        Map<String, Object> quick = Map.of("session.timeout.ms", 10000, "heartbeat.interval.ms", 500);
        group("java-classic", total, quick);
        Map<String, Object> cooperative = new HashMap<>(quick);
        cooperative.put("partition.assignment.strategy", CooperativeStickyAssignor.class.getName());
        group("java-cooperative", total, cooperative);
        List<String> groups = new ArrayList<>(List.of("java-classic", "java-cooperative"));
        boolean consumerProtocol = admin.describeFeatures().featureMetadata().get(30, TimeUnit.SECONDS)
            .finalizedFeatures().containsKey("group.version");
        if (consumerProtocol) {
            group("java-consumer", total, Map.of("group.protocol", "consumer"));
            groups.add("java-consumer");
        } else {
            step("the broker does not offer the consumer group protocol");
        }
        for (var name : groups) {
            var offsets = admin.listConsumerGroupOffsets(name).partitionsToOffsetAndMetadata().get(30, TimeUnit.SECONDS);
            check(offsets.keySet().equals(PLACES), offsets);
        }
        var known = admin.listGroups().all().get(30, TimeUnit.SECONDS).stream().map(GroupListing::groupId).toList();
        check(known.containsAll(groups), known);

        int next = total;
        for (var how : List.of("restart", "kill9restart")) {
            step(how);
            control(how);
            int from = next;
            next += PER_CODEC;
            int to = next;
            produce(from, to, "zstd", true);
            for (var name : groups) {
                Map<String, Object> protocol = name.equals("java-consumer") ? Map.of("group.protocol", "consumer") : quick;
                try (var client = consumer(name, protocol)) {
                    client.subscribe(List.of(TOPIC));
                    List<Integer> seen = new ArrayList<>();
                    await("records after " + how + " in " + name, () -> { take(client, seen); return seen.size() >= PER_CODEC; });
                    check(seen.size() == PER_CODEC && new HashSet<>(seen).equals(numbers(from, to)), name + " " + seen);
                    client.commitSync();
                }
            }
        }

        step("delete");
        admin.deleteConsumerGroups(groups).all().get(30, TimeUnit.SECONDS);
        admin.deleteTopics(List.of(TOPIC)).all().get(30, TimeUnit.SECONDS);
        await("topic gone", () -> {
            try {
                return !admin.listTopics().names().get(30, TimeUnit.SECONDS).contains(TOPIC);
            } catch (Exception error) {
                throw new AssertionError(error);
            }
        });
    }
}
