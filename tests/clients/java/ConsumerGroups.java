// Kafka's Java client in consumer groups of KIP-848: assignors, regular expressions, static members, group configs, and a group
// whose members move from the classic protocol to the new one and back while records come in.
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
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.*;

public class ConsumerGroups {
    static final String BOOT = System.getenv("BOOTSTRAP");
    static final short REPLICAS = Short.parseShort(System.getenv("REPLICAS"));

    static void step(String text) {
        System.out.println(java.time.LocalTime.now().withNano(0) + " " + text);
    }

    static void check(boolean good, Object what) {
        if (!good) throw new AssertionError(String.valueOf(what));
    }

    /** A member with what it has read. All members are polled in turn, by one thread. */
    static class Member implements AutoCloseable {
        final KafkaConsumer<byte[], byte[]> client;
        final Set<Integer> seen;

        Member(String group, boolean isNew, Set<Integer> seen, Map<String, Object> more) {
            Map<String, Object> conf = new HashMap<>(Map.of("bootstrap.servers", BOOT, "group.id", group,
                "auto.offset.reset", "earliest", "enable.auto.commit", "false", "metadata.max.age.ms", 1000));
            if (isNew) conf.put("group.protocol", "consumer");
            else conf.putAll(Map.of("session.timeout.ms", 10000, "heartbeat.interval.ms", 300));
            conf.putAll(more);
            client = new KafkaConsumer<>(conf, new ByteArrayDeserializer(), new ByteArrayDeserializer());
            this.seen = seen;
        }

        void poll() {
            var records = client.poll(Duration.ofMillis(20));
            for (var record : records) seen.add(Integer.parseInt(new String(record.value(), StandardCharsets.UTF_8)));
            if (!records.isEmpty()) {
                try {
                    client.commitSync();
                } catch (CommitFailedException | RetriableCommitFailedException | RebalanceInProgressException error) {
                    // Partitions went elsewhere in between, or may do so now: their records are read again there.
                }
            }
        }

        Set<TopicPartition> has() {
            return client.assignment();
        }

        @Override
        public void close() {
            client.close();
        }
    }

    static void await(String what, List<Member> members, BooleanSupplier check) {
        long end = System.nanoTime() + 90_000_000_000L;
        while (!check.getAsBoolean()) {
            if (System.nanoTime() > end) {
                throw new AssertionError("not in 90 s: " + what + " " + members.stream().map(Member::has).toList());
            }
            members.forEach(Member::poll);
        }
    }

    static boolean share(List<Member> members, int partitions) {
        var all = members.stream().flatMap(m -> m.has().stream()).toList();
        return all.size() == partitions && new HashSet<>(all).size() == partitions
            && members.stream().noneMatch(m -> m.has().isEmpty());
    }

    static int produced = 0;

    static void produce(KafkaProducer<byte[], byte[]> producer, String topic, int partitions, int count) throws Exception {
        for (int i = 0; i < count; i++, produced++) {
            producer.send(new ProducerRecord<>(topic, produced % partitions, null, ("" + produced).getBytes(StandardCharsets.UTF_8)));
        }
        producer.flush();
    }

    static ConsumerGroupDescription described(Admin admin, String group) throws Exception {
        return admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get(30, TimeUnit.SECONDS);
    }

    static void create(Admin admin, String topic, int partitions) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, REPLICAS))).all().get(30, TimeUnit.SECONDS);
    }

    public static void main(String[] args) throws Exception {
        Map<String, Object> conf = Map.of("bootstrap.servers", BOOT);
        try (var admin = Admin.create(conf);
            var producer = new KafkaProducer<>(conf, new ByteArraySerializer(), new ByteArraySerializer())) {
            assignors(admin);
            expressions(admin);
            staticMembers(admin);
            configs(admin);
            rolling(admin, producer);
        }
        step("done");
    }

    static void assignors(Admin admin) throws Exception {
        create(admin, "cg-a", 4);
        create(admin, "cg-b", 4);
        for (var assignor : List.of("uniform", "range")) {
            step("assignor " + assignor);
            var seen = new HashSet<Integer>();
            Map<String, Object> more = Map.of("group.remote.assignor", assignor);
            try (var one = new Member("cg-" + assignor, true, seen, more); var two = new Member("cg-" + assignor, true, seen, more)) {
                var both = List.of(one, two);
                both.forEach(m -> m.client.subscribe(List.of("cg-a", "cg-b")));
                await("two share", both, () -> share(both, 8) && one.has().size() == 4);
                if (assignor.equals("range")) {
                    for (var m : both) {
                        var a = m.has().stream().filter(p -> p.topic().equals("cg-a")).map(TopicPartition::partition).toList();
                        var b = m.has().stream().filter(p -> p.topic().equals("cg-b")).map(TopicPartition::partition).toList();
                        check(new HashSet<>(a).equals(new HashSet<>(b)), "topics go together: " + m.has());
                    }
                }
                var group = described(admin, "cg-" + assignor);
                check(group.type() == GroupType.CONSUMER && group.partitionAssignor().equals(assignor), group);
                check(group.members().size() == 2 && group.groupState() == GroupState.STABLE, group);
                two.close();
                await("one has all", List.of(one), () -> one.has().size() == 8);
            }
            var kinds = admin.listGroups().all().get(30, TimeUnit.SECONDS).stream().filter(g -> g.groupId().equals("cg-" + assignor)).toList();
            check(kinds.get(0).type().equals(Optional.of(GroupType.CONSUMER)), kinds);
        }
    }

    static void expressions(Admin admin) throws Exception {
        step("regular expressions");
        try (var one = new Member("cg-regex", true, new HashSet<>(), Map.of())) {
            one.client.subscribe(new SubscriptionPattern("cg-r[0-9]|cg-a"));
            await("what is there", List.of(one), () -> one.has().size() == 4);
            create(admin, "cg-r1", 2);
            await("a new topic", List.of(one), () -> one.has().size() == 6);
            admin.deleteTopics(List.of("cg-r1")).all().get(30, TimeUnit.SECONDS);
            await("it is gone", List.of(one), () -> one.has().size() == 4);
        }
        try (var bad = new Member("cg-regex", true, new HashSet<>(), Map.of())) {
            bad.client.subscribe(new SubscriptionPattern("(["));
            try {
                await("refused", List.of(bad), () -> false);
            } catch (KafkaException error) {
                check(error.toString().contains("RegularExpression"), error);
            }
        }
    }

    static void staticMembers(Admin admin) throws Exception {
        step("static members");
        var seen = new HashSet<Integer>();
        var one = new Member("cg-static", true, seen, Map.of("group.instance.id", "one"));
        try (var two = new Member("cg-static", true, seen, Map.of("group.instance.id", "two"))) {
            var both = List.of(one, two);
            both.forEach(m -> m.client.subscribe(List.of("cg-a")));
            await("two share", both, () -> share(both, 4));
            var had = Set.copyOf(one.has());
            var other = Set.copyOf(two.has());
            one.close();
            try (var again = new Member("cg-static", true, seen, Map.of("group.instance.id", "one"))) {
                again.client.subscribe(List.of("cg-a"));
                await("it has back what it had", List.of(again, two), () -> again.has().equals(had));
                check(two.has().equals(other), "nobody else is moved: " + two.has());
            }
        }
    }

    static void configs(Admin admin) throws Exception {
        step("group configs");
        var resource = new ConfigResource(ConfigResource.Type.GROUP, "cg-config");
        var good = List.of(new AlterConfigOp(new ConfigEntry("consumer.session.timeout.ms", "50000"), AlterConfigOp.OpType.SET));
        admin.incrementalAlterConfigs(Map.of(resource, good)).all().get(30, TimeUnit.SECONDS);
        var told = admin.describeConfigs(List.of(resource)).all().get(30, TimeUnit.SECONDS).get(resource);
        check(told.get("consumer.session.timeout.ms").value().equals("50000"), told);
        var bad = List.of(new AlterConfigOp(new ConfigEntry("consumer.session.timeout.ms", "5"), AlterConfigOp.OpType.SET));
        try {
            admin.incrementalAlterConfigs(Map.of(resource, bad)).all().get(30, TimeUnit.SECONDS);
            check(false, "below the bound");
        } catch (ExecutionException error) {
            check(error.getCause() instanceof org.apache.kafka.common.errors.InvalidConfigurationException, error);
        }
    }

    /** Members move one by one; each record is read, and the group never stops. */
    static void rolling(Admin admin, KafkaProducer<byte[], byte[]> producer) throws Exception {
        create(admin, "cg-roll", 4);
        var seen = new HashSet<Integer>();
        var members = new ArrayList<Member>();
        for (int i = 0; i < 2; i++) join(members, false, seen);
        await("two classic members share", members, () -> share(members, 4));
        for (boolean isNew : List.of(true, false)) {
            step("roll to " + (isNew ? "the new protocol" : "the classic protocol"));
            for (int i = 0; i < 2; i++) {
                produce(producer, "cg-roll", 4, 100);
                members.remove(0).close();
                join(members, isNew, seen);
                await("both share again", members, () -> share(members, 4) && seen.size() == produced);
                var group = described(admin, "cg-roll");
                var wanted = isNew || i == 0 ? GroupType.CONSUMER : GroupType.CLASSIC;
                check(group.type() == wanted && group.members().size() == 2, i + " " + group);
            }
        }
        members.forEach(Member::close);
        var offsets = admin.listConsumerGroupOffsets("cg-roll").partitionsToOffsetAndMetadata().get(30, TimeUnit.SECONDS);
        check(offsets.values().stream().mapToLong(OffsetAndMetadata::offset).sum() == produced, offsets);
    }

    static void join(List<Member> members, boolean isNew, Set<Integer> seen) {
        // Cooperative, so that a roll of the protocol is not a stop of the group.
        Map<String, Object> more = isNew ? Map.of() : Map.of("partition.assignment.strategy", CooperativeStickyAssignor.class.getName());
        var member = new Member("cg-roll", isNew, seen, more);
        member.client.subscribe(List.of("cg-roll"));
        members.add(member);
    }
}
