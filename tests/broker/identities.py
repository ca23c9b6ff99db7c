"""A cluster with users, and how an operator changes it: coteriectl, its HTTP, files and a reload."""

import json
import os
import subprocess
import urllib.request

from cluster import Cluster, wait_until

# What mosquitto_passwd wrote for the password "pencil".
PENCIL = ("$7$101$JMTGt49+raNvIlmv$u29UPzfp6/3zxTht2MJApci8gyjMHlKh6ldEq/wtLdnKIv+53Gd4JdsnDUAOXZL3WZ40lgPWiSX"
          "+0xp+ARF16w==")


class Guarded(Cluster):
    """Three nodes with a password file (root, bob; password "pencil") and an ACL file that lets root do everything."""

    def __init__(self, **environment):
        self.files = {}
        super().__init__(3, environment={
            "COTERIE_AUTHENTICATION_PASSWORD_FILE": self._file("passwords", f"root:{PENCIL}\nbob:{PENCIL}\n"),
            "COTERIE_AUTHORIZATION_ACL_FILE": self._file("acl", self._rules("")), **environment})

    @staticmethod
    def _rules(text):
        return f"user root\ntopic readwrite #\n{text}"

    def _file(self, name, text):
        path = self.files.setdefault(name, f"/tmp/coterie-test-{os.getpid()}-{name}")
        with open(path, "w", encoding="utf-8", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
            file.write(text)
        return path

    def asked(self, number, path):
        return json.loads(self.http(number, path)[1])

    def change(self, path, node=1, **fields):
        """What coteriectl would send; an error raises."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin_ports[node]}{path}", json.dumps(fields).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def rule(self, what, role, rights, topic_filter, priority=0, node=1):
        self.change("/roles", node, do=what, name=role, rights=rights, filter=topic_filter, priority=priority)

    def reload(self, number):
        """A node reads its files again, and has."""
        before = self.asked(number, "/status")["reloads"]
        self.change("/reload", number)
        wait_until("files read again", lambda: self.asked(number, "/status")["reloads"] > before)

    def reload_all(self):
        """All nodes do, at the same time."""
        before = {number: self.asked(number, "/status")["reloads"] for number in self.ports}
        for number in self.ports:
            self.change("/reload", number)
        for number in self.ports:
            wait_until("files read again", lambda n=number: self.asked(n, "/status")["reloads"] > before[n])

    def acl(self, text):
        """The ACL file of all nodes: what root may, and this."""
        self._file("acl", self._rules(text))
        self.reload_all()

    def caught_up(self):
        """All nodes have applied what one of them has answered."""
        wanted = max(self.asked(number, "/status")["applied_index"] for number in self.ports)
        for number in self.ports:
            wait_until("what was changed is applied", lambda: self.asked(number, "/status")["applied_index"] >= wanted)

    def without_roles(self):
        """Takes all roles away."""
        roles = self.asked(1, "/roles")
        for grant in roles["grants"]:
            self.change("/roles", do="revoke", name=grant["role"], user=grant["user"])
        for role in roles["roles"]:
            self.change("/roles", do="remove", name=role["name"])

    def down(self):
        super().down()
        for path in self.files.values():
            os.unlink(path)
