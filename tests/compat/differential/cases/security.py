"""SASL, ACLs, delegation tokens and SCRAM credentials, on brokers without an authorizer and without SASL."""


def run(d):
    for v in (0, 1):
        for mechanism in ("PLAIN", "", "nope"):
            d.both("handshake '%s'" % mechanism, "SaslHandshake", v, dict(Mechanism=mechanism))
    for v in (0, 1, 2):
        d.both("authenticate", "SaslAuthenticate", v, dict(AuthBytes="00"))

    acl = dict(
        ResourceType=2,
        ResourceName="x",
        ResourcePatternType=3,
        Principal="User:a",
        Host="*",
        Operation=3,
        PermissionType=3,
    )
    wanted = dict(
        ResourceTypeFilter=2,
        ResourceNameFilter=None,
        PatternTypeFilter=3,
        PrincipalFilter=None,
        HostFilter=None,
        Operation=1,
        PermissionType=1,
    )
    for v in (1, 2, 3):
        d.both("acls", "DescribeAcls", v, wanted)
        for count in (0, 1, 2):
            d.both("%d acls" % count, "CreateAcls", v, dict(Creations=[acl] * count))
            d.both("%d acls" % count, "DeleteAcls", v, dict(Filters=[wanted] * count))
    d.both("type 99", "DescribeAcls", 3, dict(wanted, ResourceTypeFilter=99))
    d.both("unknown type", "DescribeAcls", 3, dict(wanted, ResourceTypeFilter=0))
    d.both("unknown permission", "DeleteAcls", 3, dict(Filters=[dict(wanted, PermissionType=0)]))
    for label, change in (
        ("type 99", dict(ResourceType=99)),
        ("any operation", dict(Operation=1)),
        ("any pattern", dict(ResourcePatternType=1)),
        ("bad principal", dict(Principal="bad")),
    ):
        d.both(label, "CreateAcls", 3, dict(Creations=[dict(acl, **change)]))

    someone = dict(PrincipalType="User", PrincipalName="x")
    for v in (1, 2, 3):
        d.both("token", "CreateDelegationToken", v, dict(Renewers=[someone], MaxLifetimeMs=-1))
        for label, owners in (("all", None), ("none", []), ("one", [someone])):
            d.both("tokens of %s" % label, "DescribeDelegationToken", v, dict(Owners=owners))
    owner = dict(OwnerPrincipalType="User", OwnerPrincipalName="o")
    d.both("token for another", "CreateDelegationToken", 3, dict(Renewers=[], MaxLifetimeMs=-1, **owner))
    for v in (1, 2):
        d.both("token", "RenewDelegationToken", v, dict(Hmac="00", RenewPeriodMs=-1))
        d.both("token", "ExpireDelegationToken", v, dict(Hmac="00", ExpiryTimePeriodMs=-1))

    def users(label, *names):
        d.both(label, "DescribeUserScramCredentials", 0, dict(Users=[dict(Name=name) for name in names]))

    d.both("all users", "DescribeUserScramCredentials", 0, dict(Users=None))
    users("no users")
    users("one user", "a")
    users("a user twice", "a", "a", "b")
    users("empty name", "")

    def alter(label, deletions=(), upsertions=()):
        body = dict(
            Deletions=[dict(Name=name, Mechanism=mechanism) for name, mechanism in deletions],
            Upsertions=[
                dict(Name=name, Mechanism=mechanism, Iterations=count, Salt="00" * 8, SaltedPassword="11" * 32)
                for name, mechanism, count in upsertions
            ],
        )
        d.both(label, "AlterUserScramCredentials", 0, body)

    alter("nothing")
    alter("delete", [("a", 1)])
    alter("delete empty name", [("", 1)])
    alter("delete unknown mechanism", [("a", 9)])
    alter("delete twice", [("a", 1), ("a", 1)])
    alter("delete and set", [("a", 1)], [("a", 1, 4096)])
    alter("set unknown mechanism", [], [("u", 3, 4096)])
    alter("set empty name", [], [("", 1, 4096)])
    alter("set few iterations", [], [("u", 1, 4095)])
    alter("set many iterations", [], [("u", 1, 16385)])
    alter("set twice", [], [("u", 1, 4096), ("u", 1, 4096)])
    alter("set twice, second bad", [], [("u", 1, 4096), ("u", 1, 1)])
    alter("set twice, first bad", [], [("u", 1, 1), ("u", 1, 4096)])
    alter("several", [("z", 1)], [("b", 1, 1), ("z", 2, 1)])
    alter("stored", [], [("u", 1, 4096)])
