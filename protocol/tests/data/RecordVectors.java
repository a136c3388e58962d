import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.*;
import org.apache.kafka.common.record.internal.*;

/** Prints the vectors of record-vectors.txt: batches and message sets as kafka-clients writes them. Run with its jars on the class path:
 *  java -cp 'JARS/*' RecordVectors.java > record-vectors.txt */
public class RecordVectors {
    static final long T = 1_700_000_000_000L;

    static byte[] b(String s) { return s == null ? null : s.getBytes(StandardCharsets.UTF_8); }

    static void print(String name, ByteBuffer buffer) {
        byte[] out = new byte[buffer.remaining()];
        buffer.get(out);
        System.out.println(name + " " + HexFormat.of().formatHex(out));
    }

    /** Three records: all fields and two headers; null key, empty value; a tombstone of an earlier time. */
    static void fill(MemoryRecordsBuilder builder, boolean headers) {
        Header[] hs = headers ? new Header[] {new RecordHeader("trace", b("a1")), new RecordHeader("none", (byte[]) null)} : new Header[0];
        builder.append(T, b("key-1"), b("value-1".repeat(20)), hs);
        builder.append(T + 5, null, b(""), new Header[0]);
        builder.append(T - 7, b("key-3"), null, new Header[0]);
    }

    static Compression codec(String name) {
        return switch (name) {
            case "gzip" -> Compression.gzip().build();
            case "snappy" -> Compression.snappy().build();
            case "lz4" -> Compression.lz4().build();
            case "zstd" -> Compression.zstd().build();
            default -> Compression.NONE;
        };
    }

    public static void main(String[] args) {
        for (String name : new String[] {"none", "gzip", "snappy", "lz4", "zstd"}) {
            var v2 = MemoryRecords.builder(ByteBuffer.allocate(4096), RecordBatch.MAGIC_VALUE_V2, codec(name),
                TimestampType.CREATE_TIME, 42L, RecordBatch.NO_TIMESTAMP, 4711L, (short) 3, 17, true, false, 9);
            fill(v2, true);
            print("v2-" + name, v2.build().buffer());
        }
        var append = MemoryRecords.builder(ByteBuffer.allocate(4096), RecordBatch.MAGIC_VALUE_V2, Compression.NONE,
            TimestampType.LOG_APPEND_TIME, 42L, T + 99);
        fill(append, true);
        print("v2-append-time", append.build().buffer());
        print("v2-commit", MemoryRecords.withEndTransactionMarker(7L, T, 9, 4711L, (short) 3,
            new EndTransactionMarker(ControlRecordType.COMMIT, 5)).buffer());
        print("v2-abort", MemoryRecords.withEndTransactionMarker(7L, T, 9, 4711L, (short) 3,
            new EndTransactionMarker(ControlRecordType.ABORT, 5)).buffer());
        for (byte magic = 0; magic <= 1; magic++) {
            for (String name : new String[] {"none", "gzip", "snappy", "lz4"}) {
                var old = MemoryRecords.builder(ByteBuffer.allocate(4096), magic, codec(name), TimestampType.CREATE_TIME, 42L);
                fill(old, false);
                print("v" + magic + "-" + name, old.build().buffer());
            }
        }
    }
}
