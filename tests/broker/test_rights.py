"""Every right on every path of a message, for every kind of rule, over three nodes.

A kind of rule is a way to say: this client may do everything below its topics (open), and then: only below `yes`, not
below `no` (closed). That changes while the client is connected: first it may, then it may not. A path is a way by which a
message could get where it must not.
"""

import pytest

from cluster import wait_until
from identities import Guarded
from mqtt import Client, encode_publish

NOT_AUTHORIZED = 0x87
PASSED = (0x00, 0x10)          # PUBACK: done; done, and nobody was there


@pytest.fixture(scope="module")
def guarded():
    made = Guarded()
    yield made
    made.down()


# -- kinds of rules --------------------------------------------------------------------------------------------


class Kind:
    """`name` is the user of the client under test; None: anonymous. Topics are below `top`."""

    user, name = None, None

    def __init__(self, cluster, top):
        self.cluster, self.top = cluster, top
        self.yes, self.no, self.all = f"{top}/yes", f"{top}/no", f"{top}/#"

    def open(self):
        raise NotImplementedError

    def closed(self):
        raise NotImplementedError


class FileTopic(Kind):
    """`topic` of the anonymous, in the file."""

    def open(self):
        self._write(f"topic readwrite {self.all}\n")

    def closed(self):
        self._write(f"topic readwrite {self.yes}/#\n")

    def _write(self, lines):
        self.cluster._file("acl", lines + self.cluster._rules(""))
        self.cluster.reload_all()


class FileUser(Kind):
    """`topic` of a user: what nothing allows is denied."""

    user = "bob"

    def open(self):
        self.cluster.acl(f"user bob\ntopic readwrite {self.all}\n")

    def closed(self):
        self.cluster.acl(f"user bob\ntopic readwrite {self.yes}/#\n")


class FileDeny(Kind):
    """`topic` of a user, with a deny."""

    user = "bob"

    def open(self):
        self.cluster.acl(f"user bob\ntopic readwrite {self.all}\n")

    def closed(self):
        self.cluster.acl(f"user bob\ntopic readwrite {self.all}\ntopic deny {self.no}/#\n")


class FilePattern(Kind):
    """`pattern` with the name in it."""

    user = "bob"

    def __init__(self, cluster, top):
        super().__init__(cluster, top)
        self.yes, self.no = f"{top}/bob", f"{top}/other"

    def open(self):
        self.cluster.acl(f"pattern readwrite {self.all}\n")

    def closed(self):
        self.cluster.acl(f"pattern readwrite {self.top}/%u/#\n")


class FileClientPattern(Kind):
    """`pattern` with the client id in it."""

    def __init__(self, cluster, top):
        super().__init__(cluster, top)
        self.yes, self.no = f"{top}/{top}-subject", f"{top}/other"

    def open(self):
        self.cluster.acl(f"pattern readwrite {self.all}\n")

    def closed(self):
        self.cluster.acl(f"pattern readwrite {self.top}/%c/#\n")


class Role(Kind):
    user = "bob"
    grantee = "bob"
    everything = ["publish", "subscribe", "receive"]

    def open(self):
        self.cluster.acl("")
        self.cluster.change("/roles", do="add", name=self.top)
        self.rule("allow", self.all, node=2)
        self.cluster.change("/roles", node=3, do="grant", name=self.top, user=self.grantee)
        self.cluster.caught_up()

    def rule(self, what, topic_filter, **options):
        self.cluster.rule(what, self.top, self.everything, topic_filter, **options)


class RoleAllow(Role):
    """What no role allows is denied."""

    def closed(self):
        self.rule("allow", f"{self.yes}/#")
        self.rule("clear", self.all, node=2)
        self.cluster.caught_up()


class RoleDeny(Role):
    """Deny goes before allow."""

    def closed(self):
        self.rule("deny", f"{self.no}/#", node=2)
        self.cluster.caught_up()


class RolePriority(Role):
    """The higher priority decides, whatever it says."""

    def closed(self):
        self.rule("allow", f"{self.yes}/#", priority=9, node=3)
        self.rule("deny", self.all, priority=5, node=2)
        self.cluster.caught_up()


class RolePattern(Role):
    """The name in a rule."""

    def __init__(self, cluster, top):
        super().__init__(cluster, top)
        self.yes, self.no = f"{top}/bob", f"{top}/other"

    def closed(self):
        self.rule("allow", f"{self.top}/%u/#", node=3)
        self.rule("clear", self.all)
        self.cluster.caught_up()


class RoleClientPattern(Role):
    """The client id in a rule of everybody's role."""

    grantee = "$everyone"

    def __init__(self, cluster, top):
        super().__init__(cluster, top)
        self.yes, self.no = f"{top}/{top}-subject", f"{top}/other"

    def closed(self):
        self.rule("allow", f"{self.top}/%c/#")
        self.rule("clear", self.all, node=3)
        self.cluster.caught_up()


class RoleAnonymous(RoleAllow):
    """The role of those who do not say who they are."""

    user, grantee = None, "$anonymous"


# -- clients ---------------------------------------------------------------------------------------------------


@pytest.fixture
def clients(unique):
    made = []

    def make(name, user, level=5):
        client = Client(f"{unique}-{name}", level)
        client.options = {} if user is None else {"username": user, "password": "pencil"}
        made.append(client)
        return client

    yield make
    for one in made:
        one.close()


class Stage:
    """The client under test, somebody who may do everything, and where they are."""

    def __init__(self, kind, clients):
        self.kind, ports = kind, kind.cluster.ports
        self.ports = ports
        self.client = clients("subject", kind.user)
        self.root = clients("root", "root")
        self.root.open(ports[1], **self.root.options)

    def connect(self, node, **options):
        return self.client.open(self.ports[node], **self.client.options, **options)

    def watch(self):
        assert self.root.subscribe((self.kind.all, 1)) == [1]

    def told(self, *topics):
        """What root sees is exactly this."""
        assert self.root.publish(f"{self.kind.top}/end", "end") in PASSED
        for topic in topics:
            self.root.expect_message(topic)
        self.root.expect_message(f"{self.kind.top}/end")

    def says(self, retain=False):
        for topic in (f"{self.kind.no}/x", f"{self.kind.yes}/x"):
            assert self.root.publish(topic, "x", retain=retain) in PASSED
            assert self.root.publish(topic, "x", qos=2, retain=retain) in PASSED

    def hears_only_yes(self, count=2):
        for _ in range(count):
            self.client.expect_message(f"{self.kind.yes}/x")
        self.client.expect_nothing()


# -- paths -----------------------------------------------------------------------------------------------------


def publish(stage):
    stage.connect(2)
    for qos in (1, 2):
        assert stage.client.publish(f"{stage.kind.no}/x", "before", qos) in PASSED
    stage.kind.closed()
    stage.watch()
    for qos in (0, 1, 2):
        assert stage.client.publish(f"{stage.kind.no}/x", "x", qos) == (NOT_AUTHORIZED if qos else 0)
    for qos in (1, 2):
        assert stage.client.publish(f"{stage.kind.yes}/x", "x", qos) in PASSED
    assert stage.client.publish(f"{stage.kind.no}/x", "x", retain=True) == NOT_AUTHORIZED
    stage.told(f"{stage.kind.yes}/x", f"{stage.kind.yes}/x")


def alias(stage):
    stage.connect(3)
    stage.client.send(encode_publish(f"{stage.kind.no}/x", "1", 1, 8, properties={"topic_alias": 1}))
    assert stage.client.receive().reason in PASSED
    stage.kind.closed()
    stage.watch()
    stage.client.send(encode_publish("", "2", 1, 9, properties={"topic_alias": 1}))
    assert stage.client.receive().reason == NOT_AUTHORIZED
    stage.client.send(encode_publish(f"{stage.kind.no}/y", "3", properties={"topic_alias": 2}))
    stage.client.send(encode_publish("", "4", 1, 10, properties={"topic_alias": 2}))
    assert stage.client.receive().reason == NOT_AUTHORIZED
    stage.told()


def will(stage):
    stage.watch()
    wills = {name: {"topic": f"{getattr(stage.kind, name)}/will", "payload": "gone", "qos": 1} for name in ("yes", "no")}
    stage.connect(2, will=wills["no"])
    stage.kind.closed()
    stage.client.abort()            # it was allowed when it was left, and is not when it would be published
    stage.connect(3, will=wills["no"], expect=NOT_AUTHORIZED)
    stage.connect(3, will=wills["yes"])
    stage.client.abort()
    stage.root.expect_message(f"{stage.kind.yes}/will", "gone")
    stage.told()


def subscribe(stage):
    stage.connect(2)
    stage.kind.closed()
    wanted = [(f"{stage.kind.yes}/#", 1), (f"{stage.kind.no}/x", 1), (f"{stage.kind.no}/#", 1), (stage.kind.all, 1), ("#", 1)]
    assert stage.client.subscribe(*wanted) == [1] + [NOT_AUTHORIZED] * 4
    stage.says()
    stage.hears_only_yes()


def live(stage):
    stage.connect(3)
    assert stage.client.subscribe((stage.kind.all, 2)) == [2]
    stage.kind.closed()
    stage.says()
    stage.root.publish(f"{stage.kind.no}/x", "x", 0)
    stage.hears_only_yes()


def queued(stage):
    stage.connect(2, clean=False)
    assert stage.client.subscribe((stage.kind.all, 2)) == [2]
    stage.client.disconnect()
    stage.says()
    stage.kind.closed()
    assert stage.connect(1, clean=False).session_present
    stage.hears_only_yes()


def retained(stage):
    stage.says(retain=True)
    stage.connect(3)
    stage.kind.closed()
    assert stage.client.subscribe((f"{stage.kind.no}/#", 1), (f"{stage.kind.yes}/#", 1)) == [NOT_AUTHORIZED, 1]
    stage.hears_only_yes(1)
    for topic in (stage.kind.no, stage.kind.yes):
        stage.root.publish(f"{topic}/x", b"", retain=True)


def share(stage):
    stage.connect(2)
    assert stage.client.subscribe((f"$share/g/{stage.kind.all}", 2)) == [2]
    stage.kind.closed()
    assert stage.client.subscribe((f"$share/g/{stage.kind.no}/#", 1)) == [NOT_AUTHORIZED]
    stage.says()
    stage.hears_only_yes()


def share_with_another(stage):
    """What the member may not have goes to another one, at another node."""
    stage.connect(3)
    for client in (stage.client, stage.root):
        assert client.subscribe((f"$share/g/{stage.kind.all}", 2)) == [2]
    stage.kind.closed()
    for _ in range(2):
        assert stage.root.publish(f"{stage.kind.no}/x", "x", 1) in PASSED
        assert stage.root.publish(f"{stage.kind.no}/x", "x", 2) in PASSED
    for _ in range(4):
        stage.root.expect_message(f"{stage.kind.no}/x", "x")
    stage.client.expect_nothing()


KINDS = [FileTopic, FileUser, FileDeny, FilePattern, FileClientPattern, RoleAllow, RoleDeny, RolePriority, RolePattern,
         RoleClientPattern, RoleAnonymous]
PATHS = [publish, alias, will, subscribe, live, queued, retained, share, share_with_another]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_what_a_rule_forbids_goes_no_way(guarded, clients, unique, kind, path):
    guarded.without_roles()
    rules = kind(guarded, unique)
    rules.open()
    path(Stage(rules, clients))


# -- other things ----------------------------------------------------------------------------------------------


def test_a_will_of_a_dead_node_has_the_rights_of_then(guarded, clients, unique):
    """The node that knew the client cannot say anything any more: the replicated state decides."""
    guarded.without_roles()
    rules = RoleDeny(guarded, unique)
    rules.open()
    stage = Stage(rules, clients)
    stage.watch()
    stage.connect(2, will={"topic": f"{rules.no}/will", "payload": "gone"})
    other = clients("other", "bob")
    other.open(guarded.ports[2], will={"topic": f"{rules.yes}/will", "payload": "gone"}, **other.options)
    rules.closed()
    guarded.kill(2)
    try:
        stage.root.expect_message(f"{rules.yes}/will", "gone", timeout=20)
        stage.told()
    finally:
        guarded.start(2)
        guarded.wait_ready()


def test_a_file_that_cannot_be_used_changes_nothing(guarded, clients, unique):
    guarded.without_roles()
    guarded.acl(f"user bob\ntopic readwrite {unique}/#\n")
    guarded.acl("user bob\ntopics readwrite #\n")
    bob = clients("bob", "bob")
    bob.open(guarded.ports[1], **bob.options)
    assert bob.publish(f"{unique}/x", "x") in PASSED
    assert bob.publish("elsewhere", "x") == NOT_AUTHORIZED
    wait_until("a line of the log", lambda: "file-not-reloaded" in guarded.logs(1))
    guarded.acl("")
