"""A cluster of local processes for tests, by way of deploy/cluster: what a test does, an operator can do."""

import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(ROOT, "deploy", "cluster")


def wait_until(what, condition, timeout=20.0):
    """Polls `condition` until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.02)


class Cluster:
    def __init__(self, nodes=3, binary=None, environment=None):
        self.directory = tempfile.mkdtemp(prefix="coterie-test-")
        self.environment = dict(os.environ, **(environment or {}))
        if binary:
            self.environment["COTERIE_BIN"] = binary
        self.size = nodes
        self.run("up", "--nodes", str(nodes))
        port = "tls_port" if os.environ.get("COTERIE_TEST_TLS") else "client_port"
        self.ports = {node["id"]: node[port] for node in self.status()}
        self.admin_ports = {node["id"]: node["admin_port"] for node in self.status()}

    def run(self, *arguments, check=True):
        done = subprocess.run([SCRIPT, *arguments, "--dir", self.directory], env=self.environment,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        if check and done.returncode != 0:
            raise AssertionError(f"deploy/cluster {' '.join(arguments)}: {done.returncode}\n{done.stdout}")
        return done.stdout

    def status(self):
        return json.loads(self.run("status", "--json"))["nodes"]

    def node(self, number):
        return next(node for node in self.status() if node["id"] == number)

    def leader(self):
        """The id of the node that leads and is ready; waits for one."""
        return wait_until("a ready leader", self._leader)

    def _leader(self):
        leaders = [node for node in self.status() if node["role"] == "leader" and node["ready"]]
        return max(leaders, key=lambda node: node["term"])["id"] if leaders else None

    def followers(self):
        leader = self.leader()
        return [number for number in self.ports if number != leader]

    def http(self, number, path):
        """(status, body) of a GET on the admin port; (0, reason) if nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_ports[number]}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def ctl(self, *words, node=1, text="", check=True):
        """coteriectl at a node; returns what it printed."""
        program = os.path.join(os.path.dirname(self.environment["COTERIE_BIN"]), "coteriectl")
        done = subprocess.run([program, *words, "--address", f"127.0.0.1:{self.admin_ports[node]}"], input=text, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
        if check and done.returncode != 0:
            raise AssertionError(f"coteriectl {' '.join(words)}: {done.returncode}\n{done.stdout}")
        return done.stdout

    def ready(self, number):
        return self.http(number, "/readyz")[0] == 200

    def wait_ready(self, *numbers, timeout=30.0):
        for number in numbers or self.ports:
            wait_until(f"node {number} ready", lambda n=number: self.ready(n), timeout)

    def wait_equal(self, timeout=30.0):
        """Waits until all running nodes have applied the same index with the same state hash."""
        def equal():
            nodes = [node for node in self.status() if node["pid"]]
            return len({node["applied_index"] for node in nodes}) == 1 and nodes
        def hashes():
            nodes = equal()
            return nodes and len({node["state_hash"] for node in nodes}) == 1 and nodes[0]["state_hash"]
        wait_until("equal state on all nodes", hashes, timeout)

    def kill(self, which):
        self.run("kill", str(which))

    def start(self, number):
        self.run("start", str(number))

    def stop(self, number):
        self.run("stop", str(number))

    def pause(self, number):
        self.run("pause", str(number))

    def resume(self, number):
        self.run("resume", str(number))

    def wipe(self, number):
        self.run("wipe", str(number))

    def logs(self, number):
        return self.run("logs", str(number))

    def complaints(self):
        """What a sanitizer, if the program was built with one, has written."""
        lines = [line for number in self.ports for line in self.logs(number).splitlines()]
        return [line for line in lines if "runtime error:" in line or "Sanitizer" in line]

    def down(self):
        self.run("down", check=False)
        found = self.complaints()
        shutil.rmtree(self.directory, ignore_errors=True)
        assert not found, "\n".join(found)
