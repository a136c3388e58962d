# Sourced after broker.sh by suites that compare with Apache Kafka itself: it runs beside Esker, from Maven's jars, on loopback.

# Resolves the broker's jars into the cache; exports KAFKA_JARS.
kafka_jars() {
  local pom="$TESTS/../benches/kafka/pom.xml" sum
  sum=$(cksum <"$pom" | cut -d' ' -f1)
  KAFKA_JARS="$ESKER_TEST_CACHE/kafka-broker-$sum"
  once "kafka-broker-$sum" mvn -B -q -f "$pom" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies "-DoutputDirectory=$KAFKA_JARS"
  export KAFKA_JARS
}

kafka_java() {
  exec java "-Dlog4j2.configurationFile=$KAFKA_STATE/log4j2.xml" -XX:TieredStopAtLevel=1 -cp "$KAFKA_JARS/*" "$@"
}

# Starts Kafka on a free port with the lines of a properties file added to those it cannot do without; exports KAFKA_BOOTSTRAP and
# KAFKA_JARS. It must be stopped with stop_kafka.
start_kafka() { # start_kafka PROPERTIES
  format_kafka "$1"
  boot_kafka
}

# A folder for a Kafka in KAFKA_STATE, its data in $KAFKA_STATE/data; another cluster id may be given, and more arguments for the format.
format_kafka() { # format_kafka PROPERTIES [CLUSTER_ID [ARGUMENT...]]
  local ports
  kafka_jars
  KAFKA_STATE=${KAFKA_STATE:-$(mktemp -d "${TMPDIR:-/tmp}/esker-kafka.XXXXXX")}
  ports=$(python3 -c 'import socket
all = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*[s.getsockname()[1] for s in all])')
  local port=${ports% *} controller=${ports#* }
  {
    echo "process.roles=broker,controller"
    echo "node.id=1"
    echo "controller.quorum.bootstrap.servers=127.0.0.1:$controller"
    echo "listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller"
    echo "advertised.listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller"
    echo "inter.broker.listener.name=PLAINTEXT"
    echo "controller.listener.names=CONTROLLER"
    echo "log.dirs=$KAFKA_STATE/data"
    cat "$1"
  } >"$KAFKA_STATE/server.properties"
  cat >"$KAFKA_STATE/log4j2.xml" <<'XML'
<Configuration><Appenders><Console name="O"><PatternLayout pattern="[%d] %p %m (%c)%n"/></Console></Appenders>
<Loggers><Root level="INFO"><AppenderRef ref="O"/></Root></Loggers></Configuration>
XML
  (kafka_java -Xmx256M kafka.tools.StorageTool format --standalone -t "${2:-esker-differential-00A}" \
    -c "$KAFKA_STATE/server.properties" "${@:3}") >"$KAFKA_STATE/format.log" 2>&1 || { cat "$KAFKA_STATE/format.log"; return 1; }
  KAFKA_BOOTSTRAP="127.0.0.1:$port"
  export KAFKA_BOOTSTRAP
}

# Starts the formatted Kafka, again if it was there before.
boot_kafka() {
  local deadline
  : >"$KAFKA_STATE/kafka.log"
  (kafka_java -Xmx512M kafka.Kafka "$KAFKA_STATE/server.properties" >"$KAFKA_STATE/kafka.log" 2>&1 </dev/null) &
  KAFKA_PID=$!
  deadline=$((SECONDS + 120))
  until grep -q 'Kafka Server started' "$KAFKA_STATE/kafka.log"; do
    if ! kill -0 "$KAFKA_PID" 2>/dev/null || ((SECONDS > deadline)); then
      tail -20 "$KAFKA_STATE/kafka.log"
      return 1
    fi
    sleep 0.2
  done
}

end_kafka() { # end_kafka TERM|KILL
  if [[ -n ${KAFKA_PID:-} ]]; then
    kill "-$1" "$KAFKA_PID" 2>/dev/null || true
    wait "$KAFKA_PID" 2>/dev/null || true
  fi
  KAFKA_PID=
}

# Its data goes with it, so it need not end in good order.
stop_kafka() {
  end_kafka KILL
  [[ -z ${KAFKA_STATE:-} ]] || rm -rf "$KAFKA_STATE"
}
