package org.apache.kafka.common.test.junit;

import java.util.List;
import org.apache.kafka.common.test.api.ClusterConfig;
import org.apache.kafka.common.test.api.Type;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.BeforeEachCallback;
import org.junit.jupiter.api.extension.Extension;
import org.junit.jupiter.api.extension.TestTemplateInvocationContext;
import org.opentest4j.TestAbortedException;

/**
 * Kafka's test extension makes one of these for each cluster that a test asks for, and Kafka's own starts that cluster inside of the
 * JVM. Ours is found first on the class path and hands the test the broker that runs already.
 */
public class RaftClusterInvocationContext implements TestTemplateInvocationContext {
    private final String name;
    private final ClusterConfig config;
    private final boolean combined;

    public RaftClusterInvocationContext(String name, ClusterConfig config, boolean combined) {
        this.name = name;
        this.config = config;
        this.combined = combined;
    }

    @Override
    public String getDisplayName(int index) {
        return name + " [" + index + "]";
    }

    @Override
    public List<Extension> getAdditionalExtensions() {
        RunningBroker cluster = new RunningBroker(config);
        return List.of(
            (BeforeEachCallback) context -> {
                // Where the controller runs makes no difference from outside: once is enough.
                if (combined && config.clusterTypes().contains(Type.KRAFT)) {
                    throw new TestAbortedException("same as with a controller of its own");
                }
                cluster.start();
            },
            (AfterEachCallback) context -> cluster.stop(),
            new ClusterInstanceParameterResolver(cluster));
    }
}
