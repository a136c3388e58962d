package org.apache.kafka.common.test.junit;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import kafka.server.BrokerServer;
import kafka.server.ControllerServer;
import kafka.server.KafkaBroker;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.GroupProtocol;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.network.ListenerName;
import org.apache.kafka.common.test.ClusterInstance;
import org.apache.kafka.common.test.api.ClusterConfig;
import org.apache.kafka.common.test.api.Type;
import org.apache.kafka.coordinator.group.GroupCoordinator;
import org.apache.kafka.server.fault.FaultHandlerException;
import org.mockito.Mockito;
import org.mockito.stubbing.Answer;
import org.opentest4j.TestAbortedException;

/**
 * The broker or the brokers (ESKER_NODES) at -Desker.bootstrap as a test's cluster: emptied before each test, of as many nodes whatever the
 * test asks for, with the configs that `run` started them with; those that may change while they run are set. Stopping a broker stops it; it
 * is back for the next test. A test that needs more of a broker object is aborted, which fails the run: the ledger names it and why.
 */
final class RunningBroker implements ClusterInstance {
    private static final String BOOTSTRAP = System.getProperty("esker.bootstrap");
    /** Brokers of the cluster; a topic has no more replicas. */
    private static final int NODES = Integer.parseInt(System.getenv().getOrDefault("ESKER_NODES", "1"));
    /** What tests set and the broker changes while it runs. */
    private static final Set<String> DYNAMIC = Set.of("group.consumer.assignment.interval.ms");

    private final ClusterConfig config;
    private final Map<Integer, KafkaBroker> known = new HashMap<>();
    private final Map<Integer, String> addresses = new HashMap<>();
    /** Brokers that the test stopped, and their addresses. */
    private final Map<Integer, String> down = new HashMap<>();
    private boolean started;
    private boolean stopped;

    RunningBroker(ClusterConfig config) {
        this.config = config;
    }

    private interface Question<T> {
        T ask(Admin admin) throws Exception;
    }

    private static <T> T ask(Question<T> question) {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", BOOTSTRAP))) {
            return question.ask(admin);
        } catch (ExecutionException e) {
            throw e.getCause() instanceof RuntimeException known ? known : new RuntimeException(e.getCause());
        } catch (RuntimeException e) {
            throw e;
        } catch (Exception e) {
            throw new RuntimeException(e);
        }
    }

    private static void until(String what, Callable<Boolean> holds) {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        try {
            while (!holds.call()) {
                if (System.nanoTime() > end) throw new AssertionError("not within 30 s: " + what);
                Thread.sleep(20);
            }
        } catch (RuntimeException e) {
            throw e;
        } catch (Exception e) {
            throw new RuntimeException(e);
        }
    }

    private static TestAbortedException needs(String what) {
        return new TestAbortedException("needs " + what);
    }

    private static Set<String> topics(boolean internal) {
        return ask(a -> a.listTopics(new ListTopicsOptions().listInternal(internal)).names().get(30, TimeUnit.SECONDS));
    }

    private static void delete(Collection<String> names) {
        if (names.isEmpty()) return;
        try {
            ask(a -> a.deleteTopics(names).all().get(30, TimeUnit.SECONDS));
        } catch (UnknownTopicOrPartitionException e) {
            // gone already
        }
        until("the topics are gone", () -> topics(true).stream().noneMatch(names::contains));
    }

    @Override
    public void start() {
        if (started) return;
        started = true;
        ask(a -> {
            for (GroupListing group : a.listGroups().all().get(30, TimeUnit.SECONDS)) {
                try {
                    a.deleteConsumerGroups(List.of(group.groupId())).all().get(30, TimeUnit.SECONDS);
                } catch (ExecutionException e) {
                    // It has members still: no test uses the group of another.
                }
            }
            return null;
        });
        delete(topics(false));
        List<AlterConfigOp> ops = config.serverProperties().entrySet().stream().filter(e -> DYNAMIC.contains(e.getKey()))
            .map(e -> new AlterConfigOp(new ConfigEntry(e.getKey(), e.getValue()), AlterConfigOp.OpType.SET)).toList();
        if (!ops.isEmpty()) {
            ConfigResource all = new ConfigResource(ConfigResource.Type.BROKER, "");
            ask(a -> a.incrementalAlterConfigs(Map.<ConfigResource, Collection<AlterConfigOp>>of(all, ops)).all().get(30, TimeUnit.SECONDS));
        }
    }

    @Override
    public void stop() {
        stopped = true;
        if (down.isEmpty()) return;
        // At once: one of them alone may not be a quorum.
        List<String> words = new ArrayList<>(List.of("start-nodes"));
        words.addAll(down.values());
        down.clear();
        control(words.toArray(String[]::new));
    }

    /** Runs the command that starts and stops the broker. */
    private static void control(String... words) {
        try {
            List<String> command = new ArrayList<>(List.of(System.getenv("ESKER_CTL")));
            command.addAll(List.of(words));
            int status = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(ProcessBuilder.Redirect.DISCARD).start().waitFor();
            if (status != 0) throw new IllegalStateException(command + " ended with " + status);
        } catch (IOException | InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    @Override
    public Map<Integer, KafkaBroker> brokers() {
        if (known.isEmpty()) {
            ask(a -> a.describeCluster().nodes().get(30, TimeUnit.SECONDS)).forEach(node -> {
                known.put(node.id(), broker(node));
                addresses.put(node.id(), node.host() + ":" + node.port());
            });
        }
        return known;
    }

    @Override
    public Map<Integer, KafkaBroker> aliveBrokers() {
        Map<Integer, KafkaBroker> alive = new HashMap<>(brokers());
        alive.keySet().removeAll(down.keySet());
        return alive;
    }

    @Override
    public Set<Integer> brokerIds() {
        return aliveBrokers().keySet();
    }

    @Override
    public void shutdownBroker(int id) {
        brokers();
        if (down.putIfAbsent(id, addresses.get(id)) == null) control("stop-node", addresses.get(id));
    }

    @Override
    public void startBroker(int id) {
        String address = down.remove(id);
        if (address != null) control("start-nodes", address);
    }

    /** Answers what tests ask a broker object for that a client could not ask; the rest aborts the test. */
    private KafkaBroker broker(Node node) {
        Answer<Object> no = call -> {
            if (call.getMethod().getDeclaringClass() == Object.class) return "broker " + node;
            throw needs("a broker's " + call.getMethod().getName() + "()");
        };
        KafkaBroker broker = Mockito.mock(BrokerServer.class, Mockito.withSettings().defaultAnswer(no).stubOnly());
        GroupCoordinator groups = Mockito.mock(GroupCoordinator.class, Mockito.withSettings().defaultAnswer(no).stubOnly());
        Properties compacted = new Properties();
        compacted.put("cleanup.policy", "compact");
        Mockito.doReturn(compacted).when(groups).groupMetadataTopicConfigs();
        Mockito.doReturn(groups).when(broker).groupCoordinator();
        Answer<Object> stop = call -> {
            shutdownBroker(node.id());
            return null;
        };
        Mockito.doAnswer(stop).when(broker).shutdown();
        Mockito.doAnswer(stop).when(broker).shutdown(Mockito.any());
        Mockito.doAnswer(call -> null).when(broker).awaitShutdown();
        return broker;
    }

    @Override
    public void createTopic(String topic, int partitions, short replicas, Map<String, String> configs) {
        NewTopic wanted = new NewTopic(topic, partitions, (short) Math.min(replicas, NODES)).configs(configs);
        try {
            ask(a -> a.createTopics(List.of(wanted)).all().get(30, TimeUnit.SECONDS));
        } catch (TopicExistsException e) {
            if (topic.startsWith("__")) return;
            // A client of the test before asked for it a last time.
            delete(List.of(topic));
            ask(a -> a.createTopics(List.of(wanted)).all().get(30, TimeUnit.SECONDS));
        }
        waitTopicCreation(topic, partitions);
    }

    @Override
    public void createTopic(String topic, int partitions, short replicas) {
        createTopic(topic, partitions, replicas, Map.of());
    }

    @Override
    public void waitTopicCreation(String topic, int partitions) {
        until(topic + " is there", () -> {
            try {
                var found = ask(a -> a.describeTopics(List.of(topic)).allTopicNames().get(30, TimeUnit.SECONDS)).get(topic).partitions();
                return found.size() == partitions && found.stream().allMatch(p -> p.leader() != null && !p.leader().isEmpty());
            } catch (UnknownTopicOrPartitionException e) {
                return false;
            }
        });
    }

    @Override
    public void waitTopicDeletion(String topic) {
        until(topic + " is gone", () -> !topics(true).contains(topic));
    }

    @Override
    public Set<GroupProtocol> supportedGroupProtocols() {
        return EnumSet.of(GroupProtocol.CLASSIC, GroupProtocol.CONSUMER);
    }

    @Override public Type type() { return Type.KRAFT; }
    @Override public ClusterConfig config() { return config; }
    @Override public boolean started() { return started; }
    @Override public boolean stopped() { return stopped; }
    @Override public String bootstrapServers() { return BOOTSTRAP; }
    @Override public String bootstrapControllers() { throw needs("a controller's listener"); }
    @Override public ListenerName clientListener() { return config.brokerListenerName(); }
    @Override public ListenerName controllerListenerName() { return config.controllerListenerName(); }
    @Override public Map<Integer, ControllerServer> controllers() { throw needs("controller objects"); }
    @Override public Set<Integer> controllerIds() { throw needs("controller objects"); }
    @Override public String clusterId() { return ask(a -> a.describeCluster().clusterId().get(30, TimeUnit.SECONDS)); }
    @Override public Optional<FaultHandlerException> firstFatalException() { return Optional.empty(); }
    @Override public Optional<FaultHandlerException> firstNonFatalException() { return Optional.empty(); }
    @Override public void waitForReadyBrokers() { }
    @Override public void ensureConsistentMetadata() { }
    @Override public void ensureConsistentMetadata(Collection<KafkaBroker> brokers, Collection<ControllerServer> controllers) { }
}
