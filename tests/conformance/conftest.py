"""Options, fixtures and the coverage table of the conformance tests.

  --target cluster|mosquitto    which broker (default: cluster)
  --nodes N                     how many nodes the cluster has (default: 3); with one, sessions are resumed at it
  --slow                        also what is marked slow
  --results FILE                writes {statement: verdict} as JSON, for the comparison

A test takes `world`: clients at several nodes, names of its own, the protocol level. With `resume_at` it runs once
with the session resumed at the same node and once at another one. What expected_failures.txt lists may fail: it is
reported as skipped.
"""

import json
import sys
import zlib

import pytest

import target as targets
from statements import VERSIONS, Coverage, expected_failures
from strict import StrictClient


def pytest_addoption(parser):
    parser.addoption("--target", default="cluster", choices=sorted(targets.TARGETS))
    parser.addoption("--nodes", type=int, default=3)
    parser.addoption("--slow", action="store_true")
    parser.addoption("--results", default=None)


def pytest_configure(config):
    config.addinivalue_line("markers", "statement(*ids, level): the normative statements that this test shows")
    config.addinivalue_line("markers", "corner(*rows, level): the corner cases that this test shows")
    config.addinivalue_line("markers", "reason(*codes, level): the reason codes that this test sees in the right place")
    config.addinivalue_line("markers", "slow: what takes too long for every day; only with --slow")
    config.coverage = Coverage()
    config.expected = expected_failures() if config.getoption("--target") == "cluster" else {}
    config.unexpected_passes = []


# ---- which tests run how often ----

def _levels(definition):
    marks = [mark for name in ("statement", "corner", "reason") for mark in definition.iter_markers(name)]
    return sorted({level for mark in marks for level in mark.kwargs["level"]})


def pytest_generate_tests(metafunc):
    if "level" in metafunc.fixturenames and "level" not in _own_parameters(metafunc):
        levels = _levels(metafunc.definition) or [4, 5]
        metafunc.parametrize("level", levels, ids=[VERSIONS.get(level, "3.1") for level in levels])
    if "resume_at" in metafunc.fixturenames:
        options = metafunc.config.option
        places = [0] if options.target == "mosquitto" or options.nodes == 1 else [0, 1]
        metafunc.parametrize("resume_at", places, ids=["same-node", "other-node"][:len(places)])


def _own_parameters(metafunc):
    return [name.strip() for mark in metafunc.definition.iter_markers("parametrize")
            for name in (mark.args[0] if isinstance(mark.args[0], (list, tuple)) else mark.args[0].split(","))]


def _keys(item):
    """The statements and corner cases that this run of a test stands for."""
    level = item.callspec.params.get("level") if hasattr(item, "callspec") else None
    keys = set()
    for mark in item.iter_markers("statement"):
        keys |= {(one, name) for one in mark.kwargs["level"] for name in mark.args if level in (None, one)}
    for mark in item.iter_markers("corner"):
        if level in (None, 3) or level in mark.kwargs["level"]:
            keys |= {("corner", row) for row in mark.args}
    for mark in item.iter_markers("reason"):
        keys |= {("reason", code) for code in mark.args}
    return keys


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    config.complete = not config.getoption("keyword") and config.args_source is pytest.Config.ArgsSource.TESTPATHS
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: tests/conformance/run --slow"))
        item.keys = _keys(item)
        config.coverage.name(item.keys, item.nodeid)


# ---- verdicts ----

def _expected(config, nodeid):
    name = nodeid.replace("::", " ").replace(".py", "")
    return config.expected.get(name) or config.expected.get(name.partition("[")[0])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        item.went_wrong = True
    reason = _expected(item.config, item.nodeid)
    if report.failed and call.when != "teardown" and call.excinfo.errisinstance(targets.NotOffered):
        reason = reason or (None if item.config.getoption("--target") == "cluster" else str(call.excinfo.value))
    if report.failed and reason:
        report.outcome = "skipped"
        report.longrepr = (str(item.fspath), 0, f"not there yet: {reason}")
        item.config.coverage.record(item.keys, "waiting")
    elif report.failed:
        item.config.coverage.record(item.keys, "violated")
    elif report.passed and report.when == "call":
        item.config.coverage.record(item.keys, "held")
        if reason:
            item.config.unexpected_passes.append(item.nodeid)


def pytest_sessionfinish(session):
    config, coverage = session.config, session.config.coverage
    if session.testscollected == 0:
        return
    lines = [f"# {line}" for line in coverage.table()]
    lines += [f"# passes, though expected_failures.txt lists it: {name}" for name in config.unexpected_passes]
    faults = [f"{name} is no statement that we know of" for name in coverage.unknown()]
    if config.complete:
        faults += [f"{name} is neither tested nor explained" for name in coverage.missing()]
        lines += [f"not ok {fault}" for fault in faults] or ["ok every statement is tested or explained"]
    if faults and config.complete:
        session.exitstatus = 1
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture:
        capture.suspend_global_capture(in_=True)
    print("\n".join(lines), flush=True)
    if config.getoption("--results"):
        found = {f"{key[0]} {key[1]}": coverage.verdict(key) for key in coverage.named}
        with open(config.getoption("--results"), "w", encoding="utf-8") as file:
            json.dump(found, file)


# ---- the world of one test ----

@pytest.fixture(scope="session")
def target(request):
    try:
        made = targets.TARGETS[request.config.getoption("--target")](request.config.getoption("--nodes"))
    except (AssertionError, targets.NotOffered) as error:
        print(f"not ok the broker did not start\n# {error}", file=sys.__stdout__, flush=True)
        pytest.exit("no broker", returncode=1)
    yield made
    made.down()


class World:
    """Clients at the nodes of the broker. at=0, 1, 2: different nodes, if there are several; which ones, the name of
    the test decides, so that leader and followers take turns."""

    def __init__(self, target, name, level):
        self.target, self.level = target, level
        self.seed = zlib.crc32(name.encode())
        self.unique = f"t{self.seed:08x}"
        self.made = []

    def port(self, at=0):
        return self.target.ports[(self.seed + at) % len(self.target.ports)]

    def topic(self, name=""):
        return f"{self.unique}/{name}" if name else self.unique

    def client(self, name="c", level=None, timeout=5.0):
        """A client that is not connected. name None: an empty client id."""
        client_id = "" if name is None else f"{self.unique}{name}"
        self.made.append(StrictClient(client_id, self.level if level is None else level, timeout))
        return self.made[-1]

    def connect(self, name="c", at=0, level=None, **options):
        client = self.client(name, level)
        client.open(self.port(at), **options)
        return client

    def socket(self, at=0, level=None):
        """Only a TCP connection."""
        return self.client("raw", level).dial(self.port(at))

    def subscriber(self, *filters, name="s", at=1, **options):
        """Connected and subscribed; filters as for Client.subscribe (default: everything of this test, QoS 2)."""
        client = self.connect(name, at, **options)
        client.subscribe(*(filters or [(self.topic("#"), 2)]))
        return client

    def publisher(self, name="p", at=2, **options):
        return self.connect(name, at, **options)

    def special(self, name):
        return self.target.special(name)

    # -- what came, and what did not ---------------------------------------------------------------------------

    def until(self, client, payload=b"fence"):
        """Takes and acknowledges messages up to the one with this payload; returns those before it."""
        before = []
        while True:
            found = client.next_message()
            if found.payload == payload:
                return before
            before.append(found)

    def fence(self, subscriber, topic=None, publisher=None, payload=b"fence"):
        """Publishes a last message and returns what `subscriber` got before it. Since QoS 1 and 2 messages are ordered,
        whatever was accepted earlier is among it; no need to wait for silence."""
        if publisher is None:
            publisher = self.connect("fence", 2, level=5)
        publisher.publish(topic or self.topic("fence"), payload, qos=1)
        return self.until(subscriber, payload)

    def close_all(self):
        for client in self.made:
            client.close()


@pytest.fixture
def level():
    return 5


@pytest.fixture
def world(request, target, level):
    made = World(target, request.node.nodeid, level)
    yield made
    made.close_all()
    if getattr(request.node, "went_wrong", False):
        dead = target.repair()
        assert not dead, f"died in this test: {', '.join(dead)}"
