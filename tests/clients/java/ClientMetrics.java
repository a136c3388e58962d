// Client metrics (KIP-714): Kafka's Java clients push what the broker asks for, and the broker's /metrics have it.
import java.io.IOException;
import java.net.URI;
import java.net.http.*;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;

public class ClientMetrics {
    static final String BOOT = System.getenv("BOOTSTRAP");
    static final Duration PATIENCE = Duration.ofSeconds(60);

    static void check(boolean good, Object what) {
        if (!good) throw new AssertionError(String.valueOf(what));
    }

    static List<String> rows(String start, String instance) throws Exception {
        var found = new ArrayList<String>();
        try (var files = Files.find(Path.of(System.getenv("ESKER_STATE")), 2, (path, about) -> path.endsWith("http"))) {
            // A client pushes to one of the brokers. One that was restarted has another port, and may not answer yet.
            for (var file : files.toList()) {
                try {
                    var request = HttpRequest.newBuilder(URI.create("http://" + Files.readString(file).trim() + "/metrics")).timeout(PATIENCE).build();
                    String page = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
                    page.lines().filter(line -> line.startsWith(start) && line.contains(instance)).forEach(found::add);
                } catch (IOException | IllegalArgumentException error) {
                    System.out.println(file + ": " + error);
                }
            }
        }
        return found;
    }

    static void await(String what, String start, String instance, Runnable work) throws Exception {
        long end = System.nanoTime() + PATIENCE.toNanos();
        while (rows(start, instance).isEmpty()) {
            check(System.nanoTime() < end, "not in 60 s: " + what);
            work.run();
        }
        System.out.println(what + ": " + rows("kafka_client_", instance).size() + " series");
    }

    public static void main(String[] args) throws Exception {
        Map<String, Object> conf = Map.of("bootstrap.servers", BOOT, "client.id", "java-pushes", "group.id", "java-pushes");
        var resource = new ConfigResource(ConfigResource.Type.CLIENT_METRICS, "java");
        try (var admin = Admin.create(Map.of("bootstrap.servers", BOOT))) {
            List<AlterConfigOp> changes = List.of("metrics=org.apache.kafka.", "interval.ms=200", "match=client_id=java-.*").stream()
                .map(text -> text.split("=", 2))
                .map(pair -> new AlterConfigOp(new ConfigEntry(pair[0], pair[1]), AlterConfigOp.OpType.SET))
                .collect(Collectors.toList());
            admin.incrementalAlterConfigs(Map.of(resource, changes)).all().get();
            var described = admin.describeConfigs(List.of(resource)).all().get().get(resource);
            check(described.get("interval.ms").value().equals("200"), described);
            var listed = admin.listConfigResources(Set.of(ConfigResource.Type.CLIENT_METRICS), new ListConfigResourcesOptions()).all().get();
            check(listed.contains(resource), listed);
        }
        try (var producer = new KafkaProducer<>(conf, new ByteArraySerializer(), new ByteArraySerializer())) {
            String instance = producer.clientInstanceId(PATIENCE).toString();
            await("producer", "kafka_client_producer_", instance, () -> producer.send(new ProducerRecord<>("java-metrics", new byte[100])));
            var row = rows("kafka_client_producer_", instance).get(0);
            check(row.contains("client_id=\"java-pushes\"") && row.contains("client_software_name=\"apache-kafka-java\""), row);
        }
        try (var consumer = new KafkaConsumer<>(conf, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of("java-metrics"));
            // The consumer sends nothing between two polls, so its instance id is not waited for.
            await("consumer", "kafka_client_consumer_", "client_id=\"java-pushes\"", () -> consumer.poll(Duration.ofMillis(50)));
        }
        // An admin client pushes where it is told to.
        try (var admin = Admin.create(Map.of("bootstrap.servers", BOOT, "client.id", "java-admin", "enable.metrics.push", true))) {
            String instance = admin.clientInstanceId(PATIENCE).toString();
            await("admin", "kafka_client_", instance, () -> { });
        }
    }
}
