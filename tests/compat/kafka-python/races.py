"""Repeats tests that lose a race inside kafka-python 3.0.12.

A consumer that gets its topics while its first metadata request (for none) is under way takes the answer for an answer about
those topics, and asks again only after five minutes. The faster the broker answers, the rarer it wins. Only consumers made
by a test itself can lose it, so only such tests are repeated, three times at most.
"""

import pytest

MADE_BY_THE_TEST = {"consumer", "kafka_consumer_factory", "consumer_group"}


def pytest_collection_modifyitems(items):
    for item in items:
        if MADE_BY_THE_TEST & set(item.fixturenames):
            item.add_marker(pytest.mark.flaky(reruns=3))
