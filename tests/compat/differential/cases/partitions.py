"""CreatePartitions."""

from common import prepare


def run(d):
    prepare(d, {"p2": 3, "p3": 3})

    def cp(label, v, ts, vo=False):
        d.both(
            label,
            "CreatePartitions",
            v,
            dict(
                Topics=[
                    dict(Name=n, Count=c, Assignments=None if a is None else [dict(BrokerIds=x) for x in a]) for n, c, a in ts
                ],
                TimeoutMs=10000,
                ValidateOnly=vo,
            ),
        )

    for v in range(4):
        cp("grow", v, [("p2", 4 + v, None)])
    cp("same", 3, [("p2", 7, None)])
    cp("less", 3, [("p2", 3, None)])
    cp("0", 3, [("p2", 0, None)])
    cp("-1", 3, [("p2", -1, None)])
    cp("unknown", 3, [("nope", 3, None)])
    cp("dup", 3, [("p3", 5, None), ("p3", 6, None)])
    cp("assign", 3, [("p3", 5, [[1], [1]])])
    cp("assign few", 3, [("p3", 8, [[1], [1]])])
    cp("assign unknown", 3, [("p3", 6, [[7]])])
    cp("assign rf", 3, [("p3", 6, [[1, 1]])])
    cp("assign empty", 3, [("p3", 6, [])])
    cp("assign empty2", 3, [("p3", 6, [[]])])
    cp("vo", 3, [("p3", 9, None)], True)
    cp("after vo", 3, [("p3", 6, None)])
    cp("bad name", 3, [("a b", 6, None)])
    cp("empty", 3, [])
    cp("huge", 3, [("p3", 10007, None)])
