"""DeleteTopics, by name and by id."""

from messages import NO_ID

from common import create, prepare, topic


def run(d):
    prepare(d, {f"d{number}": 1 for number in range(2, 8)})

    def delete(label, version, names=(), topics=None):
        def body(peer):
            if version < 6:
                return dict(TimeoutMs=10000, TopicNames=list(names))
            named = [dict(Name=name, TopicId=id(peer) if callable(id) else id) for name, id in topics]
            return dict(TimeoutMs=10000, Topics=named)

        d.both(label, "DeleteTopics", version, body)

    for v in range(1, 6):
        delete("del", v, ["d%d" % (v + 1)])
        delete("unknown", v, ["nope"])
    delete("dup", 5, ["d7", "d7"])
    delete("see dup", 5, ["d7"])
    create(d, "re", 7, topic("d7", 1, 1), topic("d6", 1, 1), topic("d5", 1, 1))
    delete("name", 6, topics=[("d7", NO_ID)])
    delete("id", 6, topics=[(None, lambda p: p.topic_id("d6"))])
    delete("both", 6, topics=[("d5", lambda p: p.topic_id("d5"))])
    delete("none", 6, topics=[(None, NO_ID)])
    delete("unknown id", 6, topics=[(None, "33" * 16)])
    delete("unknown", 6, topics=[("nope", NO_ID)])
    delete("dup name", 6, topics=[("d5", NO_ID), ("d5", NO_ID)])
    delete("dup id", 6, topics=[(None, lambda p: p.topic_id("d5")), (None, lambda p: p.topic_id("d5"))])
    delete("dup id/name", 6, topics=[(None, lambda p: p.topic_id("d5")), ("d5", NO_ID)])
    delete("bad name", 6, topics=[("a b", NO_ID)])
    delete("empty", 6, topics=[])
    d.both(
        "after",
        "Metadata",
        12,
        dict(Topics=[dict(Name="d5"), dict(Name="d6"), dict(Name="d7")], AllowAutoTopicCreation=False),
        lambda answer: answer.pop("ControllerId"),
    )
    d.both("other del internal", "DeleteTopics", 5, dict(TopicNames=["__consumer_offsets"], TimeoutMs=1000))
