// Counts words with exactly_once_v2: one record out for each word that comes in, holding the count so far.
import java.time.Duration;
import java.util.*;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.*;

public class WordCount {
    public static void main(String[] args) throws Exception { // BOOTSTRAP STATE_FOLDER
        var config = new Properties();
        config.putAll(Map.of(
            "application.id", "word-count", "bootstrap.servers", args[0], "state.dir", args[1],
            "processing.guarantee", "exactly_once_v2", "num.stream.threads", 2, "commit.interval.ms", 100,
            "statestore.cache.max.bytes", 0, // no update is swallowed
            "default.key.serde", Serdes.StringSerde.class, "default.value.serde", Serdes.StringSerde.class));
        config.putAll(Map.of(
            "session.timeout.ms", 2000, "heartbeat.interval.ms", 400, "auto.offset.reset", "earliest",
            "metadata.max.age.ms", 2000, "reconnect.backoff.max.ms", 200, "transaction.timeout.ms", 10000));
        var builder = new StreamsBuilder();
        builder.<String, String>stream("lines")
            .flatMapValues(line -> List.of(line.split(" ")))
            .groupBy((key, word) -> word)
            .count(Materialized.as("counts-store"))
            .toStream()
            .to("counts", Produced.with(Serdes.String(), Serdes.Long()));
        var streams = new KafkaStreams(builder.build(), config);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        var end = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            streams.close(Duration.ofSeconds(20));
            end.countDown();
        }));
        streams.start();
        end.await();
    }
}
