# Sourced by runners of Kafka's own command line tools, after broker.sh: the tools as functions, and what checks their output.
need java mvn
TOOLS="$TESTS/clients/kafka-tools"
jars "$TOOLS"

tool() {
  local class=$1
  shift
  # In the background $! must be the process that takes the signal.
  timeout 120 java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "-Dlog4j2.configurationFile=$TOOLS/log4j2.xml" \
    -cp "$JARS/*" "$class" --bootstrap-server "$BOOTSTRAP" "$@"
}
T=org.apache.kafka.tools
topics() { tool $T.TopicCommand "$@"; }
configs() { tool kafka.admin.ConfigCommand "$@"; }
groups_tool() { tool $T.consumer.group.ConsumerGroupCommand "$@"; }
offsets() { tool $T.GetOffsetShell "$@"; }
producer() { tool $T.ConsoleProducer "$@"; }
consumer() { tool $T.consumer.ConsoleConsumer "$@"; }
reassign() { tool $T.reassign.ReassignPartitionsCommand "$@"; }
elect() { tool $T.LeaderElectionCommand "$@"; }

step() { echo "$(date +%T) $*"; }
fail() { echo "FAILED: $*"; exit 1; }
# has TEXT PATTERN: the text has a line that matches.
has() { grep -qE -- "$2" <<<"$1" || { echo "$1"; fail "no line matches: $2"; }; }
# lacks TEXT PATTERN: no line of the text matches.
lacks() { if grep -qE -- "$2" <<<"$1"; then echo "$1"; fail "a line matches: $2"; fi; }
