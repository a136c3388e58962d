"""CreateTopics: assignments, configs, names, and what is wrong with them."""

from common import create, topic


def run(d):
    for v in range(2, 8):
        create(d, "new", v, topic("c%d" % v, 3, 1))
    create(d, "defaults", 7, topic("cd"))
    create(d, "configs", 7, topic("cc", 2, 1, configs=[("retention.ms", "1000"), ("cleanup.policy", "compact")]))
    create(d, "exists", 7, topic("cd"))
    create(d, "p0", 7, topic("x0", 0, 1))
    create(d, "p-2", 7, topic("x0", -2, 1))
    create(d, "rf2", 7, topic("x0", 1, 2))
    create(d, "rf0", 7, topic("x0", 1, 0))
    create(d, "rf-2", 7, topic("x0", 1, -2))
    create(d, "assigned", 7, topic("as", -1, -1, [(0, [1]), (1, [1])]))
    create(d, "assigned+n", 7, topic("x0", 2, -1, [(0, [1]), (1, [1])]))
    create(d, "gap", 7, topic("x0", -1, -1, [(0, [1]), (2, [1])]))
    create(d, "unknown broker", 7, topic("x0", -1, -1, [(0, [9])]))
    create(d, "dup broker", 7, topic("x0", -1, -1, [(0, [1, 1])]))
    create(d, "empty list", 7, topic("x0", -1, -1, [(0, [])]))
    create(d, "dup part", 7, topic("x0", -1, -1, [(0, [1]), (0, [1])]))
    create(d, "dups", 7, topic("dd", 1, 1), topic("dd", 1, 1), topic("ok1", 1, 1))
    create(d, "bad cfg", 7, topic("x0", 1, 1, configs=[("nope", "1")]))
    create(d, "bad val", 7, topic("x0", 1, 1, configs=[("retention.ms", "soon")]))
    create(d, "null val", 7, topic("x0", 1, 1, configs=[("retention.ms", None)]))
    create(d, "seg small", 7, topic("x0", 1, 1, configs=[("segment.bytes", "10")]))
    create(d, "minisr>rf", 7, topic("x0", 1, 1, configs=[("min.insync.replicas", "3")]))
    create(d, "bad policy", 7, topic("x0", 1, 1, configs=[("cleanup.policy", "foo")]))
    create(d, "empty policy", 7, topic("xe", 1, 1, configs=[("cleanup.policy", "")]))
    create(d, "dup policy", 7, topic("xd", 1, 1, configs=[("cleanup.policy", "delete,delete")]))
    create(d, "deprecated cfg", 7, topic("xm", 1, 1, configs=[("message.format.version", "2.0")]))
    create(d, "mdc", 7, topic("xm2", 1, 1, configs=[("message.downconversion.enable", "true")]))
    create(d, "spaces", 7, topic("xs", 1, 1, configs=[("retention.ms", " 100 ")]))
    create(d, "remote", 7, topic("xr", 1, 1, configs=[("remote.storage.enable", "true")]))
    create(d, "retention local", 7, topic("xl", 1, 1, configs=[("retention.ms", "100"), ("local.retention.ms", "200")]))
    create(d, "throttled", 7, topic("xt", 1, 1, configs=[("leader.replication.throttled.replicas", "*")]))
    create(d, "throttled bad", 7, topic("xt2", 1, 1, configs=[("leader.replication.throttled.replicas", "a")]))
    create(d, "dup cfg", 7, topic("xdc", 1, 1, configs=[("retention.ms", "1"), ("retention.ms", "2")]))
    create(
        d,
        "max.compaction.lag<min",
        7,
        topic("xcl", 1, 1, configs=[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")]),
    )
    create(d, "comp none", 7, topic("xcn", 1, 1, configs=[("compression.type", "none")]))
    for n in ["", ".", "..", "a b", "a" * 250, "a/b", "ä", "__x", "...", "-"]:
        create(d, "name %r" % n[:6], 7, topic(n, 1, 1))
    create(d, "coll1", 7, topic("co.ll", 1, 1))
    create(d, "coll2", 7, topic("co_ll", 1, 1))
    create(d, "coll both", 7, topic("cb.x", 1, 1), topic("cb_x", 1, 1))
    create(d, "internal", 7, topic("__transaction_state", 5, 1))
    create(d, "cluster meta", 7, topic("__cluster_metadata", 1, 1))
    create(d, "validate", 7, topic("vo", 3, 1), validate_only=True)
    create(d, "validate exists", 7, topic("cd", 3, 1), validate_only=True)
    create(d, "validate bad", 7, topic("vo", 1, 5), validate_only=True)
    create(d, "after validate", 7, topic("vo", 1, 1))
    create(d, "empty", 7)
    for v in (2, 3, 4, 5):
        create(d, "bad", v, topic("x0", 1, 9))
    create(d, "v3 -1", 3, topic("x3", -1, -1))
    create(d, "many parts", 7, topic("xx", 10001, 1))
