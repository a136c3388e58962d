"""DescribeConfigs, IncrementalAlterConfigs, AlterConfigs and ListConfigResources."""

from common import create, prepare, topic

# Where each broker lives is its own affair.
OWN = {
    "node.id",
    "log.dirs",
    "log.dir",
    "listeners",
    "advertised.listeners",
    "controller.quorum.voters",
    "controller.quorum.bootstrap.servers",
    "process.roles",
    "controller.listener.names",
    "http.listen",
    "broker.id",
}


def run(d):
    prepare(d, {"f4": 3, "f5": 3})
    create(d, "configs", 7, topic("fc", 2, 1, configs=[("retention.ms", "1000"), ("cleanup.policy", "compact")]))

    def describe(label, version, resources, synonyms=False, tidy=None):
        resources = [dict(ResourceType=kind, ResourceName=name, ConfigurationKeys=keys) for kind, name, keys in resources]
        d.both(label, "DescribeConfigs", version, dict(Resources=resources, IncludeSynonyms=synonyms), tidy)

    for v in range(1, 5):
        describe("topic all", v, [(2, "fc", None)], synonyms=True)
    for v in (1, 4):
        describe("topic keys", v, [(2, "fc", ["retention.ms", "nope", "cleanup.policy"])], synonyms=True)
    describe("empty keys", 4, [(2, "fc", [])])
    describe("unknown topic", 4, [(2, "nope", None)])
    describe("bad topic", 4, [(2, "a b", None)])
    describe("empty topic", 4, [(2, "", None)])
    describe("type 0", 4, [(0, "x", None)])
    describe("type 3", 4, [(3, "x", None)])
    describe("type 99", 4, [(99, "x", None)])
    describe("broker other", 4, [(4, "7", None)])
    describe("broker nan", 4, [(4, "x", None)])
    describe("broker default", 4, [(4, "", None)], synonyms=True)
    describe("group", 4, [(32, "g1", None)], synonyms=True)
    describe("group empty", 4, [(32, "", None)])
    describe("cm", 4, [(16, "m1", None)], synonyms=True)
    describe("cm empty", 4, [(16, "", None)])
    describe("dup", 4, [(2, "fc", ["retention.ms"]), (2, "fc", ["cleanup.policy"])])
    describe("multi", 4, [(2, "fc", ["retention.ms"]), (2, "nope", None), (4, "1", ["num.partitions"])])
    describe("logger", 4, [(8, "1", ["root"])])
    describe("logger bad", 4, [(8, "x", ["root"])])

    def comparable(answer):
        for resource in answer["Results"]:
            resource["Configs"] = [config for config in resource["Configs"] if config["Name"] not in OWN]

    describe("broker all", 4, [(4, "1", None)], synonyms=True, tidy=comparable)
    describe("broker keys", 1, [(4, "1", ["log.retention.ms", "log.retention.hours", "num.partitions"])], synonyms=True)

    last = ""

    def change(label, version, resources, validate_only=False):
        nonlocal last
        last = label
        resources = [
            dict(ResourceType=kind, ResourceName=name, Configs=[dict(Name=k, ConfigOperation=o, Value=v) for k, o, v in configs])
            for kind, name, configs in resources
        ]
        d.both(label, "IncrementalAlterConfigs", version, dict(Resources=resources, ValidateOnly=validate_only))

    def see(*resources):
        describe(f"after {last}", 4, list(resources), synonyms=True)

    for v in (0, 1):
        change("set", v, [(2, "f4", [("retention.ms", 0, "%d" % (5 + v)), ("segment.ms", 0, "777")])])
        see((2, "f4", ["retention.ms", "segment.ms"]))
    change("delete", 1, [(2, "f4", [("retention.ms", 1, None)])])
    see((2, "f4", ["retention.ms"]))
    change("delete unset", 1, [(2, "f4", [("retention.ms", 1, None)])])
    change("delete unknown", 1, [(2, "f4", [("nope", 1, None)])])
    change("append", 1, [(2, "f4", [("cleanup.policy", 2, "compact")])])
    see((2, "f4", ["cleanup.policy"]))
    change("append again", 1, [(2, "f4", [("cleanup.policy", 2, "compact")])])
    see((2, "f4", ["cleanup.policy"]))
    change("subtract", 1, [(2, "f4", [("cleanup.policy", 3, "delete")])])
    see((2, "f4", ["cleanup.policy"]))
    change("subtract all", 1, [(2, "f4", [("cleanup.policy", 3, "compact")])])
    see((2, "f4", ["cleanup.policy"]))
    change("append nonlist", 1, [(2, "f4", [("retention.ms", 2, "5")])])
    change("subtract nonlist", 1, [(2, "f4", [("retention.ms", 3, "5")])])
    change("append null", 1, [(2, "f4", [("cleanup.policy", 2, None)])])
    change("append bad", 1, [(2, "f4", [("cleanup.policy", 2, "foo")])])
    change("null set", 1, [(2, "f4", [("retention.ms", 0, None)])])
    change("bad value", 1, [(2, "f4", [("retention.ms", 0, "x")])])
    change("unknown", 1, [(2, "f4", [("nope", 0, "x")])])
    change("unknown topic", 1, [(2, "zzz", [("retention.ms", 0, "5")])])
    change("bad op", 1, [(2, "f4", [("retention.ms", 9, "5")])])
    change("dup keys", 1, [(2, "f4", [("retention.ms", 0, "5"), ("retention.ms", 0, "6")])])
    change("dup res", 1, [(2, "f4", [("retention.ms", 0, "5")]), (2, "f4", [("segment.ms", 0, "6")])])
    change("mixed good+bad in one", 1, [(2, "f4", [("retention.ms", 0, "55"), ("nope", 0, "6")])])
    see((2, "f4", ["retention.ms"]))
    change("two res", 1, [(2, "f4", [("retention.ms", 0, "56")]), (2, "f5", [("nope", 0, "6")])])
    see((2, "f4", ["retention.ms"]))
    change("vo", 1, [(2, "f4", [("retention.ms", 0, "99")])], True)
    see((2, "f4", ["retention.ms"]))
    change("empty", 1, [(2, "f4", [])])
    change("empty all", 1, [])
    change("broker static", 1, [(4, "1", [("num.partitions", 0, "5")])])
    change("broker static default", 1, [(4, "", [("num.partitions", 0, "5")])])
    change("broker unknown", 1, [(4, "1", [("nope", 0, "5")])])
    change("broker dyn", 1, [(4, "1", [("log.retention.ms", 0, "12345")])])
    see((4, "1", ["log.retention.ms"]), (2, "f5", ["retention.ms"]))
    change("default dyn", 1, [(4, "", [("log.retention.ms", 0, "54321"), ("message.max.bytes", 0, "2000000")])])
    see(
        (4, "1", ["log.retention.ms", "message.max.bytes"]),
        (4, "", None),
        (2, "f5", ["retention.ms", "max.message.bytes"]),
    )
    change("broker bad val", 1, [(4, "", [("log.retention.ms", 0, "x")])])
    change("perbroker at cluster", 1, [(4, "", [("listeners", 0, "PLAINTEXT://x:1")])])
    change("broker 7", 1, [(4, "7", [("log.retention.ms", 0, "1")])])
    change("broker x", 1, [(4, "x", [("log.retention.ms", 0, "1")])])
    change(
        "reset",
        1,
        [(4, "", [("log.retention.ms", 1, None), ("message.max.bytes", 1, None)]), (4, "1", [("log.retention.ms", 1, None)])],
    )
    see((4, "1", ["log.retention.ms"]), (4, "", None), (2, "f5", ["retention.ms"]))
    change("pw", 1, [(4, "", [("sasl.jaas.config", 0, "abc")])])
    change("pw1", 1, [(4, "1", [("ssl.keystore.password", 0, "abc")])])
    change("minisr cluster", 1, [(4, "", [("min.insync.replicas", 0, "1")])])
    change("minisr broker", 1, [(4, "1", [("min.insync.replicas", 0, "1")])])
    change("minisr del", 1, [(4, "", [("min.insync.replicas", 1, None)])])
    change("minisr topic>rf", 1, [(2, "f4", [("min.insync.replicas", 0, "5")])])
    change("minisr topic del", 1, [(2, "f4", [("min.insync.replicas", 1, None)])])
    change("group", 1, [(32, "g1", [("consumer.session.timeout.ms", 0, "50000")])])
    see((32, "g1", None))
    change("group oob", 1, [(32, "g1", [("consumer.session.timeout.ms", 0, "1")])])
    change("group unknown", 1, [(32, "g1", [("nope", 0, "1")])])
    change("group empty name", 1, [(32, "", [("consumer.session.timeout.ms", 0, "50000")])])
    change("group bad", 1, [(32, "g1", [("consumer.session.timeout.ms", 0, "x")])])
    change("group hb>session", 1, [(32, "g1", [("consumer.heartbeat.interval.ms", 0, "60000")])])
    change("cm", 1, [(16, "m1", [("interval.ms", 0, "5000"), ("metrics", 0, "a,b")])])
    see((16, "m1", None))
    change("cm bad", 1, [(16, "m1", [("interval.ms", 0, "5")])])
    change("cm match bad", 1, [(16, "m1", [("match", 0, "foo=bar")])])
    change("cm match ok", 1, [(16, "m1", [("match", 0, "client_id=a.*")])])
    change("cm unknown", 1, [(16, "m1", [("nope", 0, "5")])])
    change("cm empty", 1, [(16, "", [("interval.ms", 0, "5000")])])
    change("logger", 1, [(8, "1", [("root", 0, "INFO")])])
    change("type 0", 1, [(0, "1", [("root", 0, "INFO")])])
    change("type 99", 1, [(99, "1", [("root", 0, "INFO")])])
    change("spaces", 1, [(2, "f4", [("retention.ms", 0, " 500 ")])])
    see((2, "f4", ["retention.ms"]))
    change("empty string", 1, [(2, "f4", [("retention.ms", 0, "")])])
    change("bool case", 1, [(2, "f4", [("preallocate", 0, "TRUE")])])
    see((2, "f4", ["preallocate"]))
    change("list dup", 1, [(2, "f4", [("cleanup.policy", 0, "compact,compact")])])
    change("list empty", 1, [(2, "f4", [("cleanup.policy", 0, "")])])
    see((2, "f4", ["cleanup.policy"]))
    change("list restore", 1, [(2, "f4", [("cleanup.policy", 1, None)])])

    def replace(label, version, resources, validate_only=False):
        nonlocal last
        last = label
        resources = [
            dict(ResourceType=kind, ResourceName=name, Configs=[dict(Name=key, Value=value) for key, value in configs])
            for kind, name, configs in resources
        ]
        d.both(label, "AlterConfigs", version, dict(Resources=resources, ValidateOnly=validate_only))

    for v in range(3):
        replace("replace", v, [(2, "f4", [("retention.ms", "%d" % (600 + v))])])
        see((2, "f4", ["retention.ms", "segment.ms"]))
    replace("unknown", 2, [(2, "f4", [("nope", "x")])])
    replace("null", 2, [(2, "f4", [("retention.ms", None)])])
    replace("bad", 2, [(2, "f4", [("retention.ms", "x")])])
    replace("topic?", 2, [(2, "zz", [("retention.ms", "1")])])
    replace("dup", 2, [(2, "f4", [("retention.ms", "1"), ("retention.ms", "2")])])
    replace("dup res", 2, [(2, "f4", [("retention.ms", "1")]), (2, "f4", [("retention.ms", "2")])])
    replace("vo", 2, [(2, "f4", [])], True)
    see((2, "f4", ["retention.ms"]))
    replace("clear", 2, [(2, "f4", [])])
    see((2, "f4", ["retention.ms"]))
    replace("broker", 2, [(4, "1", [("log.retention.ms", "1000")])])
    see((4, "1", ["log.retention.ms"]))
    replace("broker static", 2, [(4, "1", [("num.partitions", "1000")])])
    replace("broker clear", 2, [(4, "1", [])])
    see((4, "1", ["log.retention.ms"]))
    replace("type 99", 2, [(99, "1", [])])
    replace("logger", 2, [(8, "1", [("root", "INFO")])])

    def own(answer):
        # Topics of the other areas, and of the brokers themselves, play no part.
        answer["ConfigResources"] = [
            one
            for one in answer["ConfigResources"]
            if one.get("ResourceType", 16) != 2 or one["ResourceName"] in ("fc", "f4", "f5")
        ]

    d.both("v0", "ListConfigResources", 0, {}, own)
    for t in ([], [2], [4], [8], [16], [32], [2, 4], [99], [0], [16, 99]):
        d.both("v1 %s" % t, "ListConfigResources", 1, dict(ResourceTypes=t), own)
