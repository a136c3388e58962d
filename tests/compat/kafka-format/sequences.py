"""An idempotent producer that goes on at another broker: sequences.py write|go-on BOOTSTRAP CLIENTS_JAR STATE

`write` has a producer id given to it and writes two batches to the topic `raw`; `go-on` sends the last one again, which must be
known, one that leaves a gap, which must be refused, and the one that is due.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "differential"))
sys.dont_write_bytecode = True

from batches import batch  # noqa: E402
from messages import Connection, Definitions  # noqa: E402

OUT_OF_ORDER = 45


def main():
    mode, bootstrap, jar, state = sys.argv[1:]
    connection = Connection(Definitions(jar), bootstrap)

    def call(api, version, body):
        connection.send(api, version, body)
        answer = connection.receive(api, version)
        assert not isinstance(answer, str), f"{api}: {answer}"
        return answer

    def produce(ids, sequence):
        values = [b"sequence %d" % (sequence + at) for at in range(3)]
        records = batch(values, producer=ids[0], epoch=ids[1], sequence=sequence, first_timestamp=ids[2])
        topics = [dict(Name="raw", PartitionData=[dict(Index=0, Records=records)])]
        answer = call("Produce", 9, dict(Acks=-1, TimeoutMs=10000, TopicData=topics))
        answer = answer["Responses"][0]["PartitionResponses"][0]
        return answer["ErrorCode"], answer["BaseOffset"]

    if mode == "write":
        import time

        given = call("InitProducerId", 4, dict(TransactionalId=None, TransactionTimeoutMs=-1, ProducerId=-1, ProducerEpoch=-1))
        assert given["ErrorCode"] == 0, given
        ids = (given["ProducerId"], given["ProducerEpoch"], int(time.time() * 1000))
        offsets = [produce(ids, sequence) for sequence in (0, 3)]
        assert offsets == [(0, 0), (0, 3)], offsets
        pathlib.Path(state).write_text(json.dumps(ids))
        return
    ids = json.loads(pathlib.Path(state).read_text())
    for sequence, expected in ((3, (0, 3)), (9, (OUT_OF_ORDER, -1)), (6, (0, 6)), (6, (0, 6)), (9, (0, 9))):
        answer = produce(ids, sequence)
        assert answer == expected, f"sequence {sequence}: {answer} and not {expected}"


main()
