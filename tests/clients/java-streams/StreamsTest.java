// Two instances of WordCount are killed (kill -9) in turn, now and then the broker too, while lines keep coming in. In the end each
// word's counts are read as 1, 2, 3 ... up to the number of times that it was sent: nothing lost, nothing twice, nothing out of order.
import java.io.File;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

public class StreamsTest {
    static final String BOOT = System.getenv("BOOTSTRAP");
    static final short REPLICAS = Short.parseShort(System.getenv("REPLICAS"));
    static final String CTL = System.getenv("ESKER_CTL");
    static final Path STATE = Path.of(System.getenv("ESKER_STATE"));
    static final int PARTITIONS = 4, WORDS = 40, ROUNDS = 6;

    static final Process[] instances = new Process[2];
    /** What was sent and acknowledged, by word. */
    static final Map<String, Long> sent = new ConcurrentHashMap<>();
    /** What came out, by word: the last count. */
    static final Map<String, Long> counted = new HashMap<>();
    static final AtomicBoolean enough = new AtomicBoolean();

    static void step(String text) {
        System.out.println(java.time.LocalTime.now().withNano(0) + " streams: " + text);
    }

    static void start(int instance) throws Exception {
        var log = STATE.resolve("instance-" + instance + ".log").toFile();
        instances[instance] = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xmx256m",
            "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", System.getProperty("java.class.path"),
            "WordCount", BOOT, STATE.resolve("streams-" + instance).toString())
            .redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.appendTo(log)).start();
    }

    static void control(String word) throws Exception {
        var log = new File(STATE.toFile(), "ctl.log");
        int status = new ProcessBuilder(CTL, word).redirectErrorStream(true)
            .redirectOutput(ProcessBuilder.Redirect.appendTo(log)).start().waitFor();
        if (status != 0) throw new AssertionError(word + " of the broker ended with " + status);
    }

    /** Sends lines until there is enough; each of the words' numbers is exact, as the producer is idempotent and waits for each line. */
    static void produce() throws Exception {
        var random = new Random(7);
        try (var producer = new KafkaProducer<>(Map.<String, Object>of(
            "bootstrap.servers", BOOT, "acks", "all", "linger.ms", 5, "reconnect.backoff.max.ms", 200,
            "delivery.timeout.ms", 120000), new StringSerializer(), new StringSerializer())) {
            while (!enough.get()) {
                var lines = new ArrayList<Future<?>>();
                for (int at = 0; at < 20; at++) {
                    var words = new StringJoiner(" ");
                    for (int word = 0; word < 5; word++) {
                        // Some words often, some seldom.
                        String name = "word-" + Math.min(random.nextInt(WORDS), random.nextInt(WORDS));
                        words.add(name);
                        sent.merge(name, 1L, Long::sum);
                    }
                    lines.add(producer.send(new ProducerRecord<>("lines", random.nextInt(PARTITIONS), null, words.toString())));
                }
                for (var line : lines) line.get();
                Thread.sleep(20);
            }
        }
    }

    static long total(Map<String, Long> counts) {
        return counts.values().stream().mapToLong(Long::longValue).sum();
    }

    static KafkaConsumer<String, Long> reader() {
        var reader = new KafkaConsumer<>(Map.<String, Object>of(
            "bootstrap.servers", BOOT, "isolation.level", "read_committed", "auto.offset.reset", "earliest",
            "reconnect.backoff.max.ms", 200), new StringDeserializer(), new LongDeserializer());
        var places = new ArrayList<TopicPartition>();
        for (int at = 0; at < PARTITIONS; at++) places.add(new TopicPartition("counts", at));
        reader.assign(places);
        reader.seekToBeginning(places);
        return reader;
    }

    /** Takes a count: it must be the one after the last of its word. */
    static void take(Map<String, Long> counts, ConsumerRecord<String, Long> record) {
        long before = counts.getOrDefault(record.key(), 0L);
        if (record.value() != before + 1)
            throw new AssertionError(record + ": the count after " + before + " of " + record.key());
        counts.put(record.key(), record.value());
    }

    interface Enough { boolean yet() throws Exception; }

    static void read(KafkaConsumer<String, Long> reader, String what, int seconds, Enough until) throws Exception {
        long end = System.nanoTime() + seconds * 1_000_000_000L;
        while (!until.yet()) {
            for (var record : reader.poll(Duration.ofMillis(100))) take(counted, record);
            for (int at = 0; at < 2; at++)
                if (instances[at] != null && !instances[at].isAlive()) throw new AssertionError("instance " + at + " ended by itself");
            if (System.nanoTime() > end)
                throw new AssertionError("not in " + seconds + " s: " + what + "; " + total(counted) + " of " + total(sent) + " counted");
        }
    }

    static void kill(int instance) throws Exception {
        instances[instance].destroyForcibly().waitFor();
        instances[instance] = null;
    }

    static void test() throws Exception {
        try (var admin = Admin.create(Map.<String, Object>of("bootstrap.servers", BOOT))) {
            admin.createTopics(List.of(new NewTopic("lines", PARTITIONS, REPLICAS), new NewTopic("counts", PARTITIONS, REPLICAS))).all().get();
        }
        var producing = new FutureTask<Void>(() -> {
            produce();
            return null;
        });
        new Thread(producing).start();
        start(0);
        start(1);
        try (var reader = reader()) {
            read(reader, "the first words counted", 60, () -> total(counted) > 2000);
            for (int round = 0; round < ROUNDS; round++) {
                int victim = round % 2;
                kill(victim);
                String what = "instance " + victim + " killed";
                if (round == 3) { // nobody counts while the broker is away
                    kill(1 - victim);
                    what = "both instances killed";
                }
                if (round % 2 == 1) {
                    control("kill9restart");
                    what += ", the broker too";
                }
                start(victim);
                if (round == 3) start(1 - victim);
                // More than what lay there when it was killed, so the one that is left or back works on.
                long goal = total(sent) + 1000;
                read(reader, "counting goes on", 90, () -> total(counted) > goal);
                step(what + ": " + total(counted) + " words counted, in order");
            }
            control("kill9restart");
            enough.set(true);
            read(reader, "the producer is done", 60, producing::isDone);
            producing.get();
            read(reader, "every word counted", 90, () -> total(counted) >= total(sent));
        }
        for (var instance : instances) {
            instance.destroy();
            if (!instance.waitFor(60, TimeUnit.SECONDS)) throw new AssertionError("an instance does not end");
        }
        control("restart");
        // Once more from the beginning, now that nobody writes.
        var counts = new HashMap<String, Long>();
        try (var reader = reader()) {
            var ends = reader.endOffsets(reader.assignment());
            while (!ends.entrySet().stream().allMatch(e -> reader.position(e.getKey()) >= e.getValue()))
                for (var record : reader.poll(Duration.ofMillis(100))) take(counts, record);
        }
        if (!counts.equals(sent)) throw new AssertionError("counted " + new TreeMap<>(counts) + " of " + new TreeMap<>(sent));
        step("ok: " + total(counts) + " words, each counted once, after " + (ROUNDS + 1) + " kills of instances and " + (ROUNDS / 2 + 1) + " of the broker");
    }

    public static void main(String[] args) throws Exception {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            for (var instance : instances) if (instance != null) instance.destroyForcibly();
        }));
        try {
            test();
        } catch (Throwable e) {
            e.printStackTrace();
            for (int at = 0; at < 2; at++) {
                var log = STATE.resolve("instance-" + at + ".log");
                if (!Files.exists(log)) continue;
                var lines = Files.readAllLines(log);
                System.out.println("--- instance " + at);
                lines.subList(Math.max(0, lines.size() - 40), lines.size()).forEach(System.out::println);
            }
            System.exit(1);
        }
        System.exit(0);
    }
}
