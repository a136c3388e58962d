/* One librdkafka client a run: creates and deletes topics, produces, consumes, and takes latencies.
 *
 *   client create BOOTSTRAP TOPIC PARTITIONS [REPLICAS [NAME=VALUE...]]
 *   client delete BOOTSTRAP TOPIC PARTITIONS
 *   client produce BOOTSTRAP TOPIC PARTITIONS SIZE RECORDS [NAME=VALUE...]
 *   client fill BOOTSTRAP TOPIC PARTITIONS SIZE RECORDS [NAME=VALUE...]
 *   client consume BOOTSTRAP TOPIC PARTITIONS SIZE RECORDS [NAME=VALUE...]
 *   client latency BOOTSTRAP TOPIC PARTITIONS SIZE RATE WARMUP_S SECONDS acks|end-to-end [NAME=VALUE...]
 *   client answers BOOTSTRAP TOPIC PARTITIONS
 *   client brokers BOOTSTRAP - COUNT
 *   client in-sync BOOTSTRAP TOPIC PARTITIONS
 *
 * NAME=VALUE are configs of the topic or of librdkafka; all others keep their defaults. `brokers` waits until the cluster has so many, `in-sync` until each
 * partition has a leader and all replicas in sync; `fill` is `produce` where
 * a replica may be out of sync. A line "begin" is printed when the measured part begins (the caller
 * then reads the broker's CPU time), and a line of JSON when it has ended. Records go to the partitions in turn, as those with many keys
 * do. Any error, and any record that is not acknowledged or read, ends the program with a status: a figure always stands for all records. */

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS = 60000, BATCH = 1000, RANDOM_BYTES = 4 << 20 };

static const char *bootstrap, *topic;
static int partitions, one_may_lack;
static char *random_bytes;
static atomic_long acknowledged;

/* Latencies of the measured part, in nanoseconds; one thread writes them. */
static int64_t *latencies, measured_from;
static long latency_count;
/* The offset of the last acknowledged record of each partition, for `answers`. */
static int64_t *last_offsets;

static _Noreturn void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("client: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void print_line(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    putchar('\n');
    fflush(stdout);
}

static void record_latency(int64_t sent) {
    if (sent >= measured_from) latencies[latency_count++] = now_ns() - sent;
}

static void on_delivery(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque) {
    (void)client, (void)opaque;
    if (message->err) fail("a record was not acknowledged: %s", rd_kafka_err2str(message->err));
    if (message->_private) record_latency((int64_t)(intptr_t)message->_private);
    if (last_offsets) last_offsets[message->partition] = message->offset;
    atomic_fetch_add(&acknowledged, 1);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char error[512];
    if (rd_kafka_conf_set(conf, name, value, error, sizeof error) != RD_KAFKA_CONF_OK) fail("%s", error);
}

/* Clients of both kinds may take configs of the other: librdkafka only warns. */
static rd_kafka_t *open_client(rd_kafka_type_t kind, char **configs) {
    char error[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", bootstrap);
    set(conf, "log_level", "3");
    if (kind == RD_KAFKA_PRODUCER) {
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    } else {
        set(conf, "group.id", "clients"); /* librdkafka asks for one; partitions are assigned, and nothing is committed */
        set(conf, "enable.auto.commit", "false");
    }
    for (; *configs; configs++) {
        char *value = strchr(*configs, '=');
        if (!value) fail("%s is not NAME=VALUE", *configs);
        *value = 0;
        set(conf, *configs, value + 1);
        *value = '=';
    }
    rd_kafka_t *client = rd_kafka_new(kind, conf, error, sizeof error);
    if (!client) fail("%s", error);
    return client;
}

/* Waits until every partition of the topic has a leader and all replicas in sync, so that no measured part begins with a search for it. */
static void wait_for_leaders(rd_kafka_t *client) {
    rd_kafka_topic_t *handle = rd_kafka_topic_new(client, topic, NULL);
    int64_t deadline = now_ns() + WAIT_MS * 1000000LL;
    int led = 0;
    while (led < partitions) {
        const struct rd_kafka_metadata *metadata;
        if (now_ns() > deadline) fail("%d of %d partitions have a leader and all replicas in sync", led, partitions);
        led = 0;
        if (rd_kafka_metadata(client, 0, handle, &metadata, WAIT_MS)) continue;
        for (int at = 0; metadata->topic_cnt == 1 && at < metadata->topics[0].partition_cnt; at++) {
            const struct rd_kafka_metadata_partition *partition = &metadata->topics[0].partitions[at];
            led += partition->leader >= 0 && partition->isr_cnt + one_may_lack >= partition->replica_cnt;
        }
        rd_kafka_metadata_destroy(metadata);
    }
    rd_kafka_topic_destroy(handle);
}

static void wait_for_brokers(int count) {
    char *none[] = {NULL};
    rd_kafka_t *client = open_client(RD_KAFKA_PRODUCER, none);
    int64_t deadline = now_ns() + WAIT_MS * 1000000LL;
    for (int found = 0; found < count;) {
        const struct rd_kafka_metadata *metadata;
        if (now_ns() > deadline) fail("%d of %d brokers", found, count);
        usleep(10000);
        if (rd_kafka_metadata(client, 0, NULL, &metadata, WAIT_MS)) continue;
        found = metadata->broker_cnt;
        rd_kafka_metadata_destroy(metadata);
    }
}

static void wait_until_in_sync(void) {
    char *none[] = {NULL};
    wait_for_leaders(open_client(RD_KAFKA_PRODUCER, none));
}

static void set_topic_config(rd_kafka_NewTopic_t *request, const char *config) {
    char name[256];
    const char *value = strchr(config, '=');
    if (!value || value - config >= (long)sizeof name) fail("%s is not NAME=VALUE", config);
    snprintf(name, sizeof name, "%.*s", (int)(value - config), config);
    if (rd_kafka_NewTopic_set_config(request, name, value + 1)) fail("the topic cannot have %s", config);
}

/* With no arguments a topic has one replica. */
static void change_topic(int create, char **arguments) {
    char error[512] = "", *none[] = {NULL};
    rd_kafka_t *client = open_client(RD_KAFKA_PRODUCER, none);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_ANY);
    rd_kafka_AdminOptions_set_operation_timeout(options, WAIT_MS, error, sizeof error);
    size_t count = 0;
    const rd_kafka_topic_result_t **results = NULL;
    if (create) {
        int replicas = *arguments ? atoi(*arguments++) : 1;
        rd_kafka_NewTopic_t *request = rd_kafka_NewTopic_new(topic, partitions, replicas, error, sizeof error);
        if (!request) fail("%s", error);
        for (; *arguments; arguments++) set_topic_config(request, *arguments);
        rd_kafka_CreateTopics(client, &request, 1, options, queue);
    } else {
        rd_kafka_DeleteTopic_t *request = rd_kafka_DeleteTopic_new(topic);
        rd_kafka_DeleteTopics(client, &request, 1, options, queue);
    }
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, WAIT_MS);
    if (!event || rd_kafka_event_error(event)) fail("%s", event ? rd_kafka_event_error_string(event) : "no answer");
    if (create)
        results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    else
        results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count);
    for (size_t at = 0; at < count; at++)
        if (rd_kafka_topic_result_error(results[at])) fail("%s", rd_kafka_topic_result_error_string(results[at]));
    if (create) wait_for_leaders(client);
}

/* Hands one record to librdkafka, which copies it. With `sent`, its latency is taken. */
static void send_record(rd_kafka_t *client, rd_kafka_topic_t *handle, long number, char *value, size_t size, int64_t sent) {
    while (rd_kafka_produce(handle, number % partitions, RD_KAFKA_MSG_F_COPY, value, size, NULL, 0, (void *)(intptr_t)sent)) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) fail("%s", rd_kafka_err2str(rd_kafka_last_error()));
        rd_kafka_poll(client, 10);
    }
}

static void produce(size_t size, long records, char **configs) {
    rd_kafka_t *client = open_client(RD_KAFKA_PRODUCER, configs);
    wait_for_leaders(client);
    rd_kafka_topic_t *handle = rd_kafka_topic_new(client, topic, NULL);
    print_line("begin");
    int64_t start = now_ns();
    for (long number = 0; number < records; number++) {
        /* Another piece of the random bytes each time: nothing repeats within a batch. */
        char *value = random_bytes + (number * 4099) % (RANDOM_BYTES - (long)size);
        send_record(client, handle, number, value, size, 0);
        if (number % BATCH == 0) rd_kafka_poll(client, 0);
    }
    if (rd_kafka_flush(client, WAIT_MS) || acknowledged != records) fail("%ld of %ld records acknowledged", acknowledged, records);
    print_line("{\"seconds\": %.6f}", (now_ns() - start) / 1e9);
}

/* From the beginning, or from the last offsets where these are known. */
static void assign_all(rd_kafka_t *client) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    for (int at = 0; at < partitions; at++)
        rd_kafka_topic_partition_list_add(list, topic, at)->offset = last_offsets ? last_offsets[at] : RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_resp_err_t error = rd_kafka_assign(client, list);
    if (error) fail("%s", rd_kafka_err2str(error));
    rd_kafka_topic_partition_list_destroy(list);
}

static void consume(size_t size, long records, char **configs) {
    rd_kafka_message_t *messages[BATCH];
    rd_kafka_t *client = open_client(RD_KAFKA_CONSUMER, configs);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(client);
    wait_for_leaders(client);
    print_line("begin");
    int64_t start = now_ns();
    assign_all(client);
    for (long read = 0; read < records;) {
        /* librdkafka waits until it has as many as it is asked for. */
        ssize_t count = rd_kafka_consume_batch_queue(queue, WAIT_MS, messages, records - read < BATCH ? records - read : BATCH);
        if (count <= 0) fail("%ld of %ld records read", read, records);
        for (ssize_t at = 0; at < count; at++) {
            if (messages[at]->err) fail("%s", rd_kafka_message_errstr(messages[at]));
            if (messages[at]->len != size) fail("a record of %zu bytes", messages[at]->len);
            rd_kafka_message_destroy(messages[at]);
        }
        read += count;
    }
    print_line("{\"seconds\": %.6f}", (now_ns() - start) / 1e9);
}

static void *poll_forever(void *client) {
    for (;;) rd_kafka_poll(client, 100);
    return NULL;
}

struct reader {
    rd_kafka_t *client;
    long records;
};

/* Reads as many records as will be sent; the first bytes of each say when it was. */
static void *read_stamped(void *argument) {
    struct reader *reader = argument;
    for (long read = 0; read < reader->records; read++) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(reader->client, WAIT_MS);
        if (!message) fail("%ld of %ld records read", read, reader->records);
        if (message->err) fail("%s", rd_kafka_message_errstr(message));
        int64_t sent;
        memcpy(&sent, message->payload, sizeof sent);
        record_latency(sent);
        rd_kafka_message_destroy(message);
    }
    return NULL;
}

static int compare(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static double percentile_ms(double part) {
    long at = (long)(part * latency_count);
    return latencies[at < latency_count ? at : latency_count - 1] / 1e6;
}

/* Sends at a fixed rate. A latency begins when a record is handed to librdkafka and ends with its acknowledgement, or when it is read. */
static void latency(size_t size, long rate, double warmup, double seconds, int end_to_end, char **configs) {
    long records = (long)((warmup + seconds) * rate);
    rd_kafka_t *client = open_client(RD_KAFKA_PRODUCER, configs);
    wait_for_leaders(client);
    rd_kafka_topic_t *handle = rd_kafka_topic_new(client, topic, NULL);
    char *value = malloc(size);
    memcpy(value, random_bytes, size);
    latencies = malloc(records * sizeof *latencies);
    pthread_t poller, thread;
    pthread_create(&poller, NULL, poll_forever, client);
    struct reader reader = {NULL, records};
    if (end_to_end) {
        reader.client = open_client(RD_KAFKA_CONSUMER, configs);
        rd_kafka_poll_set_consumer(reader.client);
        wait_for_leaders(reader.client);
        assign_all(reader.client);
        pthread_create(&thread, NULL, read_stamped, &reader);
    }
    int begun = 0;
    int64_t start = now_ns() + 1000000;
    measured_from = start + (int64_t)(warmup * 1e9);
    for (long number = 0; number < records; number++) {
        int64_t due = start + (int64_t)(number * 1e9 / rate);
        struct timespec time = {due / 1000000000, due % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
        if (!begun && due >= measured_from) begun = 1, print_line("begin");
        int64_t sent = now_ns();
        memcpy(value, &sent, sizeof sent);
        send_record(client, handle, number, value, size, end_to_end ? 0 : sent);
    }
    while (rd_kafka_outq_len(client) > 0 && now_ns() < start + (int64_t)((warmup + seconds) * 1e9) + WAIT_MS * 1000000LL)
        rd_kafka_flush(client, 100);
    if (acknowledged != records) fail("%ld of %ld records acknowledged", acknowledged, records);
    if (end_to_end) pthread_join(thread, NULL);
    if (!latency_count) fail("no latency was taken");
    qsort(latencies, latency_count, sizeof *latencies, compare);
    print_line("{\"p50\": %.4f, \"p99\": %.4f, \"p99.9\": %.4f, \"records\": %ld}", percentile_ms(0.5), percentile_ms(0.99),
               percentile_ms(0.999), latency_count);
}

/* Ends when every partition has acknowledged a record, and that has been read. A fetch waits shortly: librdkafka has one under way, and a
 * partition that it learns of meanwhile waits for that to end. */
static void answers(void) {
    char acks[] = "acks=all", linger[] = "linger.ms=0", wait[] = "fetch.wait.max.ms=5";
    char *producing[] = {acks, linger, NULL}, *consuming[] = {wait, NULL};
    rd_kafka_t *producer = open_client(RD_KAFKA_PRODUCER, producing), *consumer = open_client(RD_KAFKA_CONSUMER, consuming);
    print_line("begin");
    int64_t start = now_ns();
    wait_for_leaders(producer);
    int64_t led = now_ns();
    rd_kafka_topic_t *handle = rd_kafka_topic_new(producer, topic, NULL);
    last_offsets = calloc(partitions, sizeof *last_offsets);
    for (long number = 0; number < partitions; number++) send_record(producer, handle, number, random_bytes, 8, 0);
    if (rd_kafka_flush(producer, WAIT_MS) || acknowledged != partitions) fail("%ld partitions acknowledged", acknowledged);
    int64_t produced = now_ns();
    rd_kafka_poll_set_consumer(consumer);
    wait_for_leaders(consumer); /* else librdkafka looks for them on a timer of one second */
    assign_all(consumer);
    for (int read = 0; read < partitions; read++) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, WAIT_MS);
        if (!message || message->err) fail("%d of %d partitions read", read, partitions);
        rd_kafka_message_destroy(message);
    }
    print_line("{\"leaders\": %.6f, \"produced\": %.6f, \"fetched\": %.6f}", (led - start) / 1e9, (produced - led) / 1e9,
               (now_ns() - produced) / 1e9);
}

int main(int count, char **arguments) {
    if (count < 5) fail("see the head of client.c");
    const char *command = arguments[1];
    bootstrap = arguments[2], topic = arguments[3], partitions = atoi(arguments[4]);
    random_bytes = malloc(RANDOM_BYTES);
    uint64_t state = 0x9E3779B97F4A7C15;
    for (int at = 0; at < RANDOM_BYTES; at++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        random_bytes[at] = (char)state;
    }
    size_t size = count > 5 ? (size_t)atol(arguments[5]) : 0;
    if (!strcmp(command, "create") || !strcmp(command, "delete"))
        change_topic(*command == 'c', arguments + 5);
    else if (!strcmp(command, "brokers"))
        wait_for_brokers(partitions);
    else if (!strcmp(command, "in-sync"))
        wait_until_in_sync();
    else if ((!strcmp(command, "produce") || (one_may_lack = !strcmp(command, "fill"))) && count > 6)
        produce(size, atol(arguments[6]), arguments + 7);
    else if (!strcmp(command, "consume") && count > 6)
        consume(size, atol(arguments[6]), arguments + 7);
    else if (!strcmp(command, "latency") && count > 9 && size >= sizeof(int64_t))
        latency(size, atol(arguments[6]), atof(arguments[7]), atof(arguments[8]), !strcmp(arguments[9], "end-to-end"), arguments + 10);
    else if (!strcmp(command, "answers"))
        answers();
    else
        fail("see the head of client.c");
    return 0;
}
