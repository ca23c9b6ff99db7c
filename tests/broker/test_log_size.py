"""limits.log_bytes_max is kept: with large messages too, and on the disk as well as in the metrics."""

import os
import re

import pytest

from cluster import Cluster, wait_until
from mqtt import Client

MIB = 1024 * 1024
LIMIT = 16 * MIB                    # the least that can be asked for
SEGMENT = 16 * MIB
PAYLOAD = bytes(MIB - 4096)
MESSAGES = 90


@pytest.fixture
def small_logs():
    made = Cluster(3, environment={"COTERIE_LIMITS_LOG_BYTES_MAX": str(LIMIT)})
    yield made
    made.down()


def log_bytes(cluster, number):
    return int(re.search(r"^coterie_log_bytes (\d+)$", cluster.http(number, "/metrics")[1], re.M).group(1))


def directory_bytes(cluster, number):
    directory = os.path.join(cluster.directory, f"node{number}", "data", "log")
    return sum(entry.stat().st_size for entry in os.scandir(directory))


def test_after_large_messages_the_log_returns_to_its_limit(small_logs):
    one = Client("large")
    one.open(small_logs.ports[small_logs.leader()])
    for _ in range(MESSAGES):
        one.publish("large", PAYLOAD, qos=1)
    one.close()
    for number in small_logs.ports:     # trimmed by whole segments: one in front, the last; and one is made ahead
        wait_until(f"node {number} has trimmed its log", lambda n=number: log_bytes(small_logs, n) <= LIMIT + 2 * SEGMENT, timeout=60)
        wait_until("and the directory is no longer", lambda n=number: directory_bytes(small_logs, n) <= LIMIT + 3 * SEGMENT)
