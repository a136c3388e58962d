#!/bin/sh
# Restarts the pods of a StatefulSet that run an older revision, one after the other: restart-nodes.sh NAMESPACE STATEFULSET SECONDS_PER_POD
# Each is deleted once `esker cluster safe-to-stop` says that it may be stopped, and the next one waits until it is ready again.
set -eu
namespace=$1 set=$2 seconds=$3

kube() { kubectl --namespace "$namespace" "$@"; }
set_field() { kube get statefulset "$set" -o "jsonpath={$1}"; }
pod_field() { kube get pod "$1" -o "jsonpath={$2}" 2>/dev/null || true; }
is_ready() { [ "$(pod_field "$1" '.status.conditions[?(@.type=="Ready")].status')" = True ]; }
revision_of() { pod_field "$1" '.metadata.labels.controller-revision-hash'; }
is_safe() { kube exec "$1" -c esker -- /esker cluster safe-to-stop --bootstrap "127.0.0.1:$KAFKA_PORT" "$2"; }

# wait_until WHAT COMMAND...: repeats a command until it succeeds.
wait_until() {
    what=$1
    shift
    tries=$((seconds / 5 + 1))
    until "$@"; do
        tries=$((tries - 1))
        if [ "$tries" -le 0 ]; then
            echo "gave up after $seconds s: $what; the other pods were not restarted" >&2
            exit 1
        fi
        sleep "${PAUSE:-5}"
    done
}
is_new() { [ "$(revision_of "$1")" = "$revision" ] && is_ready "$1"; }
is_seen() { [ "$(set_field .status.observedGeneration)" -ge "$(set_field .metadata.generation)" ]; }

wait_until "the StatefulSet has not been processed" is_seen
revision=$(set_field .status.updateRevision)
replicas=$(set_field .spec.replicas)
i=$replicas
while [ "$i" -gt 0 ]; do
    i=$((i - 1))
    pod=$set-$i
    if [ "$(revision_of "$pod")" != "$revision" ]; then
        # A pod that is not ready serves nothing: the new revision may be its cure.
        if is_ready "$pod"; then
            wait_until "$pod is not safe to stop" is_safe "$pod" "$i"
        fi
        echo "$pod is restarted"
        kube delete pod "$pod" --wait=true
    fi
    wait_until "$pod is not ready with the new revision" is_new "$pod"
    echo "$pod is ready"
done
