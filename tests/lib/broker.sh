# Sourced by the runners in tests/clients and tests/compat.
# Uses ESKER_BIN (the broker) and ESKER_TEST_CACHE (installed tools), both set by tests/run.
set -euo pipefail
TESTS="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
HERE="$(cd "$(dirname "$0")" && pwd)"
target="${CARGO_TARGET_DIR:-$TESTS/../target}"
export ESKER_TEST_CACHE="${ESKER_TEST_CACHE:-$target/test-cache}"
if [[ -z ${ESKER_BIN:-} ]]; then
  ESKER_BIN="$target/release/esker"
  [[ -x $ESKER_BIN ]] || ESKER_BIN="$target/debug/esker"
fi
export ESKER_BIN
# Modules that the Python scripts of several folders share.
export PYTHONPATH="$TESTS/lib${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$ESKER_TEST_CACHE"

# Ends the runner as left out: need python3 go ...
need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || { echo "LEFT OUT: $tool is not on this machine"; exit 77; }
  done
}

# Runs a command up to 4 times, with a growing pause.
retry() {
  local try
  for try in 1 2 3 4; do
    "$@" && return 0
    ((try == 4)) || { echo "attempt $try failed: $*" >&2; sleep $((try * 5)); }
  done
  return 1
}

# once NAME COMMAND...: runs an install command once per cache folder. NAME holds the pinned versions.
once() {
  local stamp="$ESKER_TEST_CACHE/stamps/$1" name=$1 lock status=0
  shift
  [[ -f $stamp ]] && return 0
  mkdir -p "$(dirname "$stamp")"
  # Sections run beside each other, and some share what they install: one waits for the other, and for no other install, since its own time
  # runs meanwhile. All that Maven installs goes to one local repository, which takes one writer at a time.
  [[ $1 != mvn ]] || name=maven
  exec {lock}>"$ESKER_TEST_CACHE/stamps/$name.lock"
  ! command -v flock >/dev/null || flock "$lock"
  if [[ ! -f $stamp ]]; then
    # Not left to `set -e`, which does not hold where a caller asks how it went.
    if retry "$@"; then touch "$stamp"; else status=1; fi
  fi
  exec {lock}>&-
  return "$status"
}

# Makes a venv in the cache with pinned packages: venv NAME PACKAGE...; sets PYTHON.
venv() {
  local name=$1 sum
  shift
  sum=$(printf '%s ' "$@" | cksum | cut -d' ' -f1)
  local folder="$ESKER_TEST_CACHE/venv-$name-$sum"
  PYTHON="$folder/bin/python"
  python3 -m venv --help >/dev/null 2>&1 || { echo "LEFT OUT: python3 has no venv module"; exit 77; }
  once "venv-$name-$sum-folder" python3 -m venv "$folder"
  once "venv-$name-$sum" "$PYTHON" -m pip install -q --disable-pip-version-check "$@"
}

stop_broker() {
  local status=$?
  if [[ -n ${CHAOS_PID:-} ]]; then
    # Its restart of a node under way ends with it: `stop` finds the node's pid.
    kill "$CHAOS_PID" 2>/dev/null || true
    wait "$CHAOS_PID" 2>/dev/null || true
    cat "$ESKER_STATE/chaos" 2>/dev/null || true
  fi
  "$ESKER_CTL" stop || true
  local log
  for log in "$ESKER_STATE"/broker.log "$ESKER_STATE"/node-*/broker.log; do
    if ((status != 0)) && [[ -s $log ]]; then
      echo "--- broker log ${log#"$ESKER_STATE"/}"
      grep -v 'the in-sync replicas changed' "$log" | tail -40
    fi
  done
  rm -rf "$ESKER_STATE"
  exit "$status"
}

# Starts a broker on a free port; exports BOOTSTRAP and ESKER_CTL. It stops when the script ends.
# ESKER_NODES=3: a cluster of three, of which the client knows the first. ESKER_KILL_EVERY=30: a random node is killed every 30 seconds, and the
# client knows all of them (BOOTSTRAP is a list).
start_broker() {
  ESKER_STATE=$(mktemp -d "${TMPDIR:-/tmp}/esker-test.XXXXXX")
  ESKER_CTL="$TESTS/lib/ctl"
  export ESKER_STATE ESKER_CTL
  trap stop_broker EXIT
  trap 'exit 143' TERM INT
  "$ESKER_CTL" start
  BOOTSTRAP=$(cat "$ESKER_STATE/kafka")
  # Topics are on every node: a client goes on while one is down.
  REPLICAS=${ESKER_NODES:-1}
  export BOOTSTRAP REPLICAS
  if [[ ${ESKER_NODES:-1} -gt 1 && -n ${ESKER_KILL_EVERY:-} ]]; then
    BOOTSTRAP=$(cat "$ESKER_STATE/join")
    "$ESKER_CTL" chaos "$ESKER_KILL_EVERY" &
    CHAOS_PID=$!
  fi
}

# Resolves the jars of the runner's pom.xml (or of another runner's) into the cache; sets JARS (a folder).
jars() { # jars [FOLDER]
  local folder=${1:-$HERE} name sum
  name=$(basename "$folder")
  sum=$(cksum <"$folder/pom.xml" | cut -d' ' -f1)
  JARS="$ESKER_TEST_CACHE/jars-$name-$sum"
  once "jars-$name-$sum" mvn -B -q -f "$folder/pom.xml" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies "-DoutputDirectory=$JARS"
}
