"""One request to both brokers, two answers, and what differs between them."""

import json
import re
import time

from messages import NO_ID, Connection

# What tells the elements of a list apart, so that a difference is named by it and the order does not count.
KEYS = (
    "Name",
    "TopicName",
    "Topic",
    "TopicId",
    "ResourceName",
    "PartitionIndex",
    "Partition",
    "Index",
    "GroupId",
    "MemberId",
    "ApiKey",
    "Feature",
    "Key",
)
# Each broker's own affair.
LEFT_OUT = {"ClusterId", "Host", "Port", "ThrottleTimeMs", "TopicConfigErrorCode", "ClientHost", "Documentation"}
# APIs that change nothing.
READS = ("Metadata", "Describe", "List", "OffsetFetch", "OffsetForLeaderEpoch", "FindCoordinator")
# Only whether it is there.
SET_OR_NOT = {"ProducerId", "Timestamp", "LogAppendTimeMs", "LastTimestamp", "CommitTimestamp"}


class Peer:
    """A broker and its connections, by name."""

    def __init__(self, definitions, address):
        self.definitions, self.address = definitions, address
        self.connections, self.names, self.memory = {}, {}, {}

    def send(self, api, version, body, on="main"):
        if on not in self.connections:
            self.connections[on] = Connection(self.definitions, self.address)
        self.connections[on].send(api, version, body(self) if callable(body) else body)

    def receive(self, api, version, on="main"):
        try:
            answer = self.connections[on].receive(api, version)
        except BaseException:
            del self.connections[on]
            raise
        if isinstance(answer, str):
            del self.connections[on]
        return answer

    def call(self, api, version, body, on="main"):
        self.send(api, version, body, on)
        return self.receive(api, version, on)

    def name(self, value, name):
        """A value that each broker makes up, such as a member's id, goes by this name in comparisons."""
        self.names[value] = f"<{name}>"
        self.memory[name] = value
        return value

    def topic_id(self, topic):
        answer = self.call("Metadata", 12, {"Topics": [{"Name": topic}], "AllowAutoTopicCreation": False})
        return self.name(answer["Topics"][0]["TopicId"], topic)

    def plain(self, value, key=None):
        """An answer without what may differ from run to run."""
        if isinstance(value, dict):
            return {k: self.plain(v, k) for k, v in value.items() if k not in LEFT_OUT}
        if isinstance(value, list):
            return [self.plain(v, key) for v in value]
        if isinstance(value, str) and value in self.names:
            return self.names[value]
        if key == "TopicId":
            return "none" if value == NO_ID else "set"
        if key == "ErrorMessage":
            return "set" if value else "none"
        if key in SET_OR_NOT and isinstance(value, int) and value >= 0:
            return "set"
        return value


def keyed(items):
    """A list as a dict by whatever tells its elements apart, or None; the second of the same name is `name#2`."""
    for key in KEYS:
        if items and all(isinstance(item, dict) and item.get(key) is not None for item in items):
            named = {}
            for item in sorted(items, key=lambda item: json.dumps(item, sort_keys=True)):
                same = sum(name.split("#")[0] == str(item[key]) for name in named)
                named[f"{item[key]}#{same + 1}" if same else str(item[key])] = item
            return key, named
    return None


def differences(kafka, esker, path=""):
    """Yields the path of each field that differs, with both values."""
    if isinstance(kafka, dict) and isinstance(esker, dict):
        for name in sorted(set(kafka) | set(esker)):
            yield from differences(kafka.get(name), esker.get(name), f"{path}.{name}")
    elif isinstance(kafka, list) and isinstance(esker, list):
        left, right = keyed(kafka), keyed(esker)
        if left and right and left[0] != right[0]:
            left = right = None
        if (left or not kafka) and (right or not esker):
            left, right = (named[1] if named else {} for named in (left, right))
            for name in sorted(set(left) | set(right)):
                yield from differences(left.get(name), right.get(name), f"{path}[{name}]")
        elif len(kafka) != len(esker):
            yield path, kafka, esker
        else:
            for at, (one, other) in enumerate(zip(kafka, esker)):
                yield from differences(one, other, f"{path}[{at}]")
    elif kafka != esker:
        yield path, kafka, esker


class Ledger:
    """Lines of `case | field | why`, where `*` stands for anything."""

    def __init__(self, path):
        self.lines = []
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.strip() and not line.startswith("#"):
                    case, field, why = (part.strip() for part in line.split(" | ", 2))
                    assert why
                    self.lines.append([line.strip(), self.pattern(case), self.pattern(field), False])

    @staticmethod
    def pattern(text):
        return re.compile(re.escape(text).replace(r"\*", ".*") + r"\Z")

    def lists(self, case, field):
        found = False
        for line in self.lines:
            if line[1].match(case) and line[2].match(field):
                line[3] = found = True
        return found

    def unused(self, areas):
        return [line[0] for line in self.lines if not line[3] and line[0].split("/")[0] in areas]


class Differential:
    def __init__(self, kafka, esker, ledger):
        self.kafka, self.esker, self.ledger = kafka, esker, ledger
        self.area, self.cases, self.same, self.listed, self.wrong = "", {}, 0, 0, []

    @property
    def peers(self):
        return self.kafka, self.esker

    def both(self, label, api, version, body, tidy=None, on="main", again=True):
        """Sends a request to both and compares the answers. `body` may be a function of the peer; `tidy` mends an answer before it is
        compared. What is only read is asked `again` if it differs: a broker may answer before it shows a change."""
        again = again and api.startswith(READS)
        return self.each(f"{label} {api} v{version}", lambda peer: peer.call(api, version, body, on), tidy, again)

    def send(self, api, version, body, on):
        for peer in self.peers:
            peer.send(api, version, body, on)

    def receive(self, label, api, version, on, tidy=None):
        return self.each(f"{label} {api} v{version}", lambda peer: peer.receive(api, version, on), tidy)

    def until(self, label, api, version, body, ready, tidy=None, on="main"):
        """Asks each again until `ready` says yes to the answer, for 20 s; the last answers are compared."""

        def ask(peer):
            deadline = time.monotonic() + 20
            while True:
                answer = peer.call(api, version, body, on)
                if ready(answer) or time.monotonic() > deadline:
                    return answer
                time.sleep(0.02)

        return self.each(f"{label} {api} v{version}", ask, tidy)

    def each(self, label, ask, tidy=None, again=False):
        """Asks each peer and compares what comes back."""
        case = f"{self.area}/{label}"
        self.cases[case] = self.cases.get(case, 0) + 1
        if self.cases[case] > 1:
            case += f" #{self.cases[case]}"
        deadline = time.monotonic() + 3
        while True:
            answers, found = self.ask(case, ask, tidy)
            new = [one for one in found if not self.ledger.lists(case, one[0])]
            if not new or not again or len(self.wrong) > 50 or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        self.same += not found
        self.listed += bool(found) and not new
        for field, left, right in new:
            self.wrong.append(f"{case} | {field} | kafka={json.dumps(left)[:200]} esker={json.dumps(right)[:200]}")
        return answers

    def ask(self, case, ask, tidy):
        answers = []
        for peer in self.peers:
            try:
                answers.append(ask(peer))
            except (AssertionError, OSError, KeyError, IndexError, TypeError) as error:
                answers.append(f"{type(error).__name__}: {error}")
        if all(isinstance(answer, str) and answer not in ("closed", "no answer") for answer in answers):
            self.wrong.append(f"{case}: neither can be asked: {answers}")
        plain = []
        for peer, answer in zip(self.peers, answers):
            if not isinstance(answer, str):
                answer = json.loads(json.dumps(answer))
                if tidy:
                    tidy(answer)
            plain.append(peer.plain(answer))
        return answers, list(differences(*plain))

    def report(self, areas):
        """Prints what was found; gives the exit status."""
        unused = self.ledger.unused(areas)
        for line in self.wrong:
            print("DIFFERS", line)
        for line in unused:
            print("LISTED, BUT THE SAME", line)
        cases = sum(self.cases.values())
        print(
            f"{cases} requests to both: {self.same} same, {self.listed} differ as listed, {len(self.wrong)} fields differ unlisted"
        )
        return 1 if self.wrong or unused or not cases else 0
