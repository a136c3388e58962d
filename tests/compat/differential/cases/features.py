"""UpdateFeatures."""


def run(d):
    def update(label, version, updates, **more):
        d.both(label, "UpdateFeatures", version, dict(timeoutMs=10000, FeatureUpdates=updates, **more))

    update("same", 1, [dict(Feature="metadata.version", MaxVersionLevel=33, UpgradeType=1)])
    update("same2", 2, [dict(Feature="metadata.version", MaxVersionLevel=33, UpgradeType=1)])
    for v in (0, 1, 2):
        update("too high", v, [dict(Feature="metadata.version", MaxVersionLevel=99)])
        update("unknown", v, [dict(Feature="nope", MaxVersionLevel=1)])
        update("0", v, [dict(Feature="metadata.version", MaxVersionLevel=0)])
        update("empty", v, [])
        update("-1", v, [dict(Feature="metadata.version", MaxVersionLevel=-1)])
        update("two bad", v, [dict(Feature="metadata.version", MaxVersionLevel=99), dict(Feature="nope", MaxVersionLevel=1)])
        update("good+bad", v, [dict(Feature="metadata.version", MaxVersionLevel=33), dict(Feature="nope", MaxVersionLevel=1)])
        if v >= 1:
            update("down no type", v, [dict(Feature="metadata.version", MaxVersionLevel=20, UpgradeType=1)], ValidateOnly=True)
            update("bad type", v, [dict(Feature="metadata.version", MaxVersionLevel=33, UpgradeType=7)], ValidateOnly=True)
            update("type0", v, [dict(Feature="metadata.version", MaxVersionLevel=33, UpgradeType=0)], ValidateOnly=True)
            update("safe down", v, [dict(Feature="metadata.version", MaxVersionLevel=32, UpgradeType=2)], ValidateOnly=True)
        update(
            "dup", v, [dict(Feature="metadata.version", MaxVersionLevel=33), dict(Feature="metadata.version", MaxVersionLevel=33)]
        )
