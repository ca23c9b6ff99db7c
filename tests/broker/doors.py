"""One node with listeners of a test's own, and certificates for it: what test_tls, test_doors and test_web share."""

import os
import re
import shutil
import subprocess
import tempfile

from cluster import ROOT, Cluster, wait_until


def openssl(*arguments, input=None, check=True, timeout=20):
    done = subprocess.run(["openssl", *arguments], input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=timeout)
    text = done.stdout.decode(errors="replace")
    if check and done.returncode != 0:
        raise AssertionError(f"openssl {' '.join(arguments)}: {text}")
    return text


class Certificates:
    """A directory of deploy/certificates; and certificates as deploy/certificates would never make them."""

    def __init__(self, cluster="test", nodes=1):
        self.directory = tempfile.mkdtemp(prefix="coterie-certificates-")
        self.run("new", cluster, "--nodes", str(nodes))

    def run(self, *arguments):
        done = subprocess.run([os.path.join(ROOT, "deploy", "certificates"), *arguments, "--dir", self.directory],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def path(self, folder, name):
        return os.path.join(self.directory, folder, name)

    def client(self, name):
        """(certificate, key) of a client."""
        if not os.path.exists(self.path("clients", f"{name}.pem")):
            self.run("client", name)
        return self.path("clients", f"{name}.pem"), self.path("clients", f"{name}.key")

    def expired(self, folder, name, extensions=""):
        """Issued by our CA, and over since yesterday."""
        return self.issued(folder, name, ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"], extensions)

    def issued(self, folder, name, dates, extensions):
        place = os.path.join(self.directory, folder)
        with open(os.path.join(place, "ext"), "w") as file:
            file.write(f"basicConstraints=CA:FALSE\n{extensions}\n")
        key, request, made = (os.path.join(place, f"{name}.{end}") for end in ("key", "csr", "pem"))
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                "-keyout", key, "-out", request)
        done = subprocess.run(["openssl", "ca", "-config", "ca.conf", "-batch", "-notext", *dates, "-in", request, "-out", made,
                               "-extfile", "ext"], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
        os.chmod(key, 0o600)
        return made, key

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)


class Door:
    """A node whose only listeners are `listeners`, each a "kind:address:port key=value ..."; port 0: any."""

    def __init__(self, *listeners, environment=None):
        self.cluster = Cluster(1, environment=dict({"COTERIE_LISTENERS": ",".join(listeners)}, **(environment or {})))
        self.cluster.wait_ready()

    def log(self):
        return self.cluster.logs(1)

    def ports(self):
        """Of the listeners, in order."""
        last_start = self.log().split("event=data-opened")[-2]
        return [int(port) for port in re.findall(r"event=listening listener=\S+:(\d+) ", last_start)]

    def signal(self, number):
        os.kill(self.cluster.node(1)["pid"], number)

    def wait_log(self, text, count=1):
        wait_until(f"{count} x {text} in the log", lambda: self.log().count(text) >= count)

    def metric(self, name):
        text = self.cluster.http(1, "/metrics")[1]
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
        assert found, f"no metric {name}"
        return float(found.group(1))

    def down(self):
        self.cluster.down()


def mosquitto_pub(port, *arguments, host="127.0.0.1", topic="t", payload="m"):
    """(exit code, output) of one publish at QoS 1."""
    where = ["-h", host, "-p", str(port)] if port else []
    done = subprocess.run(["mosquitto_pub", *where, "-t", topic, "-m", payload, "-q", "1", *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
    return done.returncode, done.stdout
