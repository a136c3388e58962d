import java.io.PrintWriter;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.EnumSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.ConsumerProtocolAssignment;
import org.apache.kafka.common.message.ConsumerProtocolSubscription;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.RawTaggedField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.coordinator.group.generated.GroupMetadataKey;
import org.apache.kafka.coordinator.group.generated.GroupMetadataValue;
import org.apache.kafka.coordinator.group.generated.LegacyOffsetCommitKey;
import org.apache.kafka.coordinator.group.generated.OffsetCommitKey;
import org.apache.kafka.coordinator.group.generated.OffsetCommitValue;

/**
 * Kafka's generated classes against Esker's bytes, both ways; protocol/tests/java/main.rs says what the files hold. The arguments are the
 * version of the jars, and the files. With one file only, it
 * is read and compared: this also runs with an older Kafka on the class path, for the versions that the newest dropped.
 */
public final class Messages {
    private static final int TIMES = 20;
    private static final HexFormat HEX = HexFormat.of();
    private static final Random RANDOM = new Random(7);
    private static final String[] LETTERS = {"a", "-", "ß", "€", "🦀"};

    public static void main(String[] args) throws Exception {
        boolean newest = args.length > 2;
        check(Path.of(args[1]), args[0], newest);
        if (newest) {
            write(Path.of(args[2]));
        }
    }

    // ---- the messages

    /** A new message of one of our names, or null if this Kafka does not have it in this version. */
    private static Message create(String name, short version) throws Exception {
        try {
            Message message = create(name, version == 0);
            short kafkas = version(name, version);
            return message.lowestSupportedVersion() <= kafkas && kafkas <= message.highestSupportedVersion() ? message : null;
        } catch (ClassNotFoundException | NoClassDefFoundError e) {
            return null;
        }
    }

    private static Message create(String name, boolean first) throws Exception {
        return switch (name) {
            case "ConsumerProtocolSubscription" -> new ConsumerProtocolSubscription();
            case "ConsumerProtocolAssignment" -> new ConsumerProtocolAssignment();
            // The types of keys are versions to us.
            case "OffsetCommitKey" -> first ? new LegacyOffsetCommitKey() : new OffsetCommitKey();
            case "GroupMetadataKey" -> new GroupMetadataKey();
            case "OffsetCommitValue" -> new OffsetCommitValue();
            case "GroupMetadataValue" -> new GroupMetadataValue();
            default -> (Message) Class.forName("org.apache.kafka.common.message." + name + "Data").getConstructor().newInstance();
        };
    }

    /** Our version as Kafka's. */
    private static short version(String name, short version) {
        return name.endsWith("Key") ? 0 : version;
    }

    private static Message readAll(Message message, ByteBuffer bytes, short version) {
        message.read(new ByteBufferAccessor(bytes), version);
        if (bytes.hasRemaining()) {
            throw new IllegalStateException(bytes.remaining() + " bytes are left");
        }
        return message;
    }

    private static byte[] bytes(Message message, short version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer bytes = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(bytes), cache, version);
        return Arrays.copyOf(bytes.array(), bytes.position());
    }

    private static byte[] joined(byte[]... parts) {
        ByteBuffer all = ByteBuffer.allocate(Arrays.stream(parts).mapToInt(p -> p.length).sum());
        Arrays.stream(parts).forEach(all::put);
        return all.array();
    }

    private static byte[] frame(Message header, int headerVersion, Message body, short version) {
        byte[] first = bytes(header, (short) headerVersion), second = bytes(body, version);
        return joined(ByteBuffer.allocate(4).putInt(first.length + second.length).array(), first, second);
    }

    /** Kafka keeps tagged fields that it does not know; Esker leaves them out. */
    private static void forgetUnknown(Object value) throws IllegalAccessException {
        if (value instanceof Collection<?> many) {
            for (Object one : many) {
                forgetUnknown(one);
            }
        } else if (value instanceof Message message) {
            message.unknownTaggedFields().clear();
            for (Field field : fields(message.getClass())) {
                forgetUnknown(field.get(message));
            }
        }
    }

    private static List<Field> fields(Class<?> type) {
        List<Field> fields = new ArrayList<>();
        for (Field field : type.getDeclaredFields()) {
            boolean ours = !Modifier.isStatic(field.getModifiers()) && !field.getName().startsWith("_");
            // Elements of a collection with keys hold their place in it.
            if (ours && !field.getName().equals("next") && !field.getName().equals("prev")) {
                field.setAccessible(true);
                fields.add(field);
            }
        }
        return fields;
    }

    // ---- Esker's bytes

    private static byte[] again(String kind, String name, short version, byte[] raw) throws Exception {
        ByteBuffer buffer = ByteBuffer.wrap(raw);
        switch (kind) {
            case "message": {
                Message message = readAll(create(name, version), buffer, version(name, version));
                forgetUnknown(message);
                return bytes(message, version(name, version));
            }
            case "record": {
                // As the coordinator reads and writes them.
                short first = buffer.getShort();
                Message message = readAll(create(name, first), buffer, version(name, first));
                return name.endsWith("Key")
                    ? MessageUtil.toCoordinatorTypePrefixedBytes((ApiMessage) message)
                    : MessageUtil.toVersionPrefixedBytes(first, message);
            }
            default: {
                ApiKeys key = ApiKeys.forId(Short.parseShort(name));
                boolean request = kind.equals("request");
                if (buffer.getInt() != buffer.remaining()) {
                    throw new IllegalStateException("the frame's length is wrong");
                }
                short headerVersion = request ? key.requestHeaderVersion(version) : key.responseHeaderVersion(version);
                Message header = request ? new RequestHeaderData() : new ResponseHeaderData();
                header.read(new ByteBufferAccessor(buffer), headerVersion);
                if (header instanceof RequestHeaderData h && (h.requestApiKey() != key.id || h.requestApiVersion() != version)) {
                    throw new IllegalStateException("the header says " + h);
                }
                Message body = request ? key.messageType.newRequest() : key.messageType.newResponse();
                readAll(body, buffer, version);
                return frame(header, headerVersion, body, version);
            }
        }
    }

    private static String name(String kind, String name) {
        boolean frame = kind.equals("request") || kind.equals("response");
        return frame ? ApiKeys.forId(Short.parseShort(name)).name : name;
    }

    private static boolean known(String kind, String name, short version) throws Exception {
        if (kind.equals("request") || kind.equals("response")) {
            if (!ApiKeys.hasId(Short.parseShort(name))) {
                return false;
            }
            ApiKeys key = ApiKeys.forId(Short.parseShort(name));
            Message body = kind.equals("request") ? key.messageType.newRequest() : key.messageType.newResponse();
            return body.lowestSupportedVersion() <= version && version <= body.highestSupportedVersion();
        }
        return create(name, version) != null;
    }

    private static void check(Path path, String kafka, boolean newest) throws Exception {
        Set<String> compared = new TreeSet<>(), others = new TreeSet<>();
        Set<ApiKeys> apis = EnumSet.noneOf(ApiKeys.class);
        TreeMap<String, Integer> counts = new TreeMap<>();
        List<String> wrong = new ArrayList<>();
        for (String line : Files.readAllLines(path)) {
            String[] words = line.split(" ");
            String kind = words[0], name = words[1];
            short version = Short.parseShort(words[2]);
            // Share groups were not stable in older versions of Kafka.
            if (!known(kind, name, version) || !newest && name(kind, name).contains("Share")) {
                others.add(name + " v" + version);
                continue;
            }
            byte[] canonical = HEX.parseHex(words[4].substring(1));
            for (byte[] raw : List.of(HEX.parseHex(words[3].substring(1)), canonical)) {
                try {
                    byte[] kafkas = again(kind, name, version, raw);
                    if (!Arrays.equals(kafkas, canonical)) {
                        wrong.add(kind + " " + name + " v" + version + "\n  read  " + HEX.formatHex(raw) + "\n  Esker "
                            + HEX.formatHex(canonical) + "\n  Kafka " + HEX.formatHex(kafkas));
                    }
                } catch (Exception e) {
                    wrong.add(kind + " " + name + " v" + version + ": " + e + "\n  read  " + HEX.formatHex(raw));
                }
            }
            counts.merge(kind, 1, Integer::sum);
            if (kind.equals("message")) {
                compared.add(name + " v" + version);
            } else if (kind.equals("request")) {
                apis.add(ApiKeys.forId(Short.parseShort(name)));
            }
        }
        for (ApiKeys key : newest ? ApiKeys.values() : new ApiKeys[0]) {
            for (short v : key.hasValidVersion() ? key.allVersions() : List.<Short>of()) {
                for (Message message : List.of(key.messageType.newRequest(), key.messageType.newResponse())) {
                    String data = message.getClass().getSimpleName();
                    String name = data.substring(0, data.length() - "Data".length()) + " v" + v;
                    if (!compared.contains(name)) {
                        wrong.add(name + " was not among Esker's");
                    }
                }
            }
        }
        wrong.stream().limit(20).forEach(System.out::println);
        if (!wrong.isEmpty() || compared.isEmpty()) {
            System.out.println(wrong.size() + " differences");
            System.exit(1);
        }
        System.out.printf("Esker's messages read and written by Kafka %s byte for byte: %d APIs, %d messages x versions, %s; "
            + "%d messages x versions are not in this Kafka%n", kafka, apis.size(), compared.size(), counts,
            others.size());
    }

    // ---- Kafka's bytes

    private static void write(Path path) throws Exception {
        try (PrintWriter out = new PrintWriter(Files.newBufferedWriter(path))) {
            for (ApiKeys key : ApiKeys.values()) {
                if (!key.hasValidVersion()) {
                    continue;
                }
                Message request = key.messageType.newRequest(), response = key.messageType.newResponse();
                for (int v = request.lowestSupportedVersion(); v <= request.highestSupportedVersion(); v++) {
                    short version = (short) v;
                    Message last = write(out, request.getClass().getSimpleName().replaceAll("Data$", ""), version);
                    RequestHeaderData header = fill(RequestHeaderData.class, RequestHeaderData.SCHEMAS[key.requestHeaderVersion(version)]);
                    header.setRequestApiKey(key.id).setRequestApiVersion(version);
                    frames(out, "request", key, version, header, key.requestHeaderVersion(version), last);
                    last = write(out, response.getClass().getSimpleName().replaceAll("Data$", ""), version);
                    Message answer = fill(ResponseHeaderData.class, ResponseHeaderData.SCHEMAS[key.responseHeaderVersion(version)]);
                    frames(out, "response", key, version, answer, key.responseHeaderVersion(version), last);
                }
            }
            for (short version = 0; version < 10; version++) {
                for (String name : List.of("ConsumerProtocolSubscription", "ConsumerProtocolAssignment", "OffsetCommitValue",
                        "GroupMetadataValue")) {
                    if (create(name, version) != null) {
                        write(out, name, version);
                    }
                }
            }
            write(out, "OffsetCommitKey", (short) 0);
            write(out, "OffsetCommitKey", (short) 1);
            write(out, "GroupMetadataKey", (short) 2);
        }
    }

    private static void line(PrintWriter out, String kind, String name, short version, byte[] raw, byte[] canonical) {
        out.println(kind + " " + name + " " + version + " x" + HEX.formatHex(raw) + " x" + HEX.formatHex(canonical));
    }

    /** The defaults and random values, in one version; gives the last one. */
    private static Message write(PrintWriter out, String name, short version) throws Exception {
        Message message = create(name, version);
        short kafkas = version(name, version);
        Schema schema = ((Schema[]) message.getClass().getField("SCHEMAS").get(null))[kafkas];
        for (int time = 0; time <= TIMES; time++) {
            if (time > 0) {
                message = fill(message.getClass(), schema);
            }
            byte[] raw = bytes(message, kafkas);
            forgetUnknown(message);
            line(out, "message", name, version, raw, bytes(message, kafkas));
        }
        return message;
    }

    private static void frames(PrintWriter out, String kind, ApiKeys key, short version, Message header, short headerVersion, Message body)
            throws Exception {
        byte[] raw = frame(header, headerVersion, body, version);
        forgetUnknown(header);
        line(out, kind, Short.toString(key.id), version, raw, frame(header, headerVersion, body, version));
    }

    /** A message with random values in the fields that the version has. */
    private static <T> T fill(Class<T> type, Schema schema) throws Exception {
        T message = type.getConstructor().newInstance();
        for (BoundField bound : schema.fields()) {
            if (!(bound.def.type instanceof TaggedFields tagged)) {
                set(message, bound.def.name, bound.def.type);
                continue;
            }
            for (org.apache.kafka.common.protocol.types.Field field : tagged.fields().values()) {
                if (RANDOM.nextBoolean()) {
                    set(message, field.name, field.type);
                }
            }
            for (int unknown = RANDOM.nextInt(8); unknown > 5; unknown--) {
                byte[] data = new byte[RANDOM.nextInt(200)];
                RANDOM.nextBytes(data);
                ((Message) message).unknownTaggedFields().add(0, new RawTaggedField(1000 + unknown, data));
            }
        }
        return message;
    }

    private static void set(Object message, String name, Type type) throws Exception {
        String plain = name.replace("_", "");
        for (Field field : fields(message.getClass())) {
            if (field.getName().equalsIgnoreCase(plain)) {
                boolean null_ = type.isNullable() && RANDOM.nextInt(4) == 0;
                field.set(message, null_ ? null : value(field, type));
                return;
            }
        }
        throw new IllegalStateException(message.getClass() + " has no " + name);
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    private static Object value(Field field, Type type) throws Exception {
        if (type.arrayElementType().isEmpty()) {
            return one(field.getType(), type);
        }
        // A plain list, or a collection class of its own that extends one of the element's type.
        boolean list = field.getType() == List.class;
        Collection many = list ? new ArrayList<>() : (Collection) field.getType().getConstructor().newInstance();
        ParameterizedType holder = (ParameterizedType) (list ? field.getGenericType() : field.getType().getGenericSuperclass());
        Class<?> element = (Class<?>) holder.getActualTypeArguments()[0];
        for (int count = RANDOM.nextInt(4); count > 0; count--) {
            many.add(one(element, type.arrayElementType().get()));
        }
        return many;
    }

    private static Object one(Class<?> java, Type type) throws Exception {
        if (type instanceof Schema schema) {
            return fill(java, schema);
        }
        long number = switch (RANDOM.nextInt(6)) {
            case 0 -> 0;
            case 1 -> -1;
            case 2 -> Long.MIN_VALUE >> RANDOM.nextInt(64);
            case 3 -> Long.MAX_VALUE >> RANDOM.nextInt(64);
            default -> RANDOM.nextLong();
        };
        String kind = type.toString();
        if (kind.contains("UINT16")) {
            return (int) (number & 0xffff);
        } else if (kind.contains("UINT32")) {
            return number & 0xffffffffL;
        } else if (java == boolean.class || java == Boolean.class) {
            return number % 2 == 0;
        } else if (java == byte.class || java == Byte.class) {
            return (byte) number;
        } else if (java == short.class || java == Short.class) {
            return (short) number;
        } else if (java == int.class || java == Integer.class) {
            return (int) number;
        } else if (java == long.class || java == Long.class) {
            return number;
        } else if (java == double.class || java == Double.class) {
            return number / 3.0;
        } else if (java == Uuid.class) {
            return number == 0 ? Uuid.ZERO_UUID : new Uuid(number, RANDOM.nextLong());
        }
        int length = RANDOM.nextInt(16) == 0 ? 120 + RANDOM.nextInt(20) : RANDOM.nextInt(12);
        if (java == String.class) {
            StringBuilder text = new StringBuilder();
            for (int at = 0; at < length; at++) {
                text.append(LETTERS[RANDOM.nextInt(LETTERS.length)]);
            }
            return text.toString();
        }
        byte[] data = new byte[length];
        RANDOM.nextBytes(data);
        if (java == byte[].class) {
            return data;
        } else if (java == ByteBuffer.class) {
            return ByteBuffer.wrap(data);
        } else if (java.isAssignableFrom(MemoryRecords.class)) {
            return MemoryRecords.readableRecords(ByteBuffer.wrap(data));
        }
        throw new IllegalStateException("no value for " + java + " " + kind);
    }
}
