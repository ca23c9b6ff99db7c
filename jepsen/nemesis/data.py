"""Data directories that were emptied, exchanged or damaged while their node was down.

A node has to notice, to say so, and to harm nobody; it is repaired by its peers, alone or after a replacement."""

import glob
import os
import shutil

import pump

from . import Fault


class Wipe(Fault):
    """a node's data is gone; it refuses to start, and is replaced"""
    name = "wipe"
    hold = (0.5, 1.5)
    swarm = False

    def start(self):
        self.node = self.any_node()
        self.node.wipe()
        return {"nodes": [self.node.name]}

    def stop(self):
        return {"nodes": [self.node.name], "refused": self.start_again(self.node)}


class OldBackup(Fault):
    """an old copy of a node's data is put back"""
    name = "old-backup"
    hold = (1.0, 2.0)
    swarm = False

    def start(self):
        self.node = self.any_node()
        copy = self.node.data + ".copy"
        self.node.kill()
        shutil.copytree(self.node.data, copy)
        self.node.start()
        self.cluster.wait_ready()
        pump.publish(self.cluster, [self.node], 1 << 20)
        self.node.kill()
        self.node.disk.empty()
        shutil.copytree(copy, self.node.data, dirs_exist_ok=True)
        shutil.rmtree(copy)
        return {"nodes": [self.node.name]}

    def stop(self):
        return {"nodes": [self.node.name], "refused": self.start_again(self.node)}


class Corrupt(Fault):
    """One file of a killed node is damaged in one place; the node is started at once."""
    hold = (3.0, 4.0)
    swarm = False
    pattern = ""            # below the data directory
    pump_bytes = 0          # how much has to be written for such a file to be there

    def paths(self, node):
        return sorted(glob.glob(os.path.join(node.data, self.pattern)))

    def harm(self, path):
        """Flips one bit where something is written."""
        size = os.path.getsize(path)
        with open(path, "r+b") as file:
            content = file.read()
            used = len(content.rstrip(b"\0")) or size
            place = self.rng.randrange(used // 2, used)
            file.seek(place)
            file.write(bytes([content[place] ^ 1 << self.rng.randrange(8)]))
        return place

    def start(self):
        self.node = self.any_node()
        if self.pump_bytes:
            pump.publish(self.cluster, self.cluster.nodes, self.pump_bytes)
        self.node.kill()
        paths = self.paths(self.node)
        if not paths:
            self.node.start()
            return {"nodes": [], "skipped": f"there is no {self.pattern}"}
        path = self.rng.choice(paths)
        place = self.harm(path)
        self.since = self.node.log_size()
        self.refused = self.start_again_only()
        return {"nodes": [self.node.name], "file": os.path.relpath(path, self.node.data), "offset": place,
                "refused": self.refused}

    def start_again_only(self):
        try:
            self.node.start()
            return ""
        except Exception:
            return self.node.last_words()

    def stop(self):
        return {"nodes": [self.node.name], "replaced": bool(self.start_again(self.node)),
                "damaged": (self.cluster.status(self.node) or {}).get("damaged")}


class CorruptOpenSegment(Corrupt):
    """a bit flips in the segment that a node's log was being written to"""
    name = "corrupt-open-segment"
    pattern = "log/*.segment"

    def paths(self, node):
        return super().paths(node)[-1:]


class CorruptClosedSegment(Corrupt):
    """a bit flips in an older segment of a node's log"""
    name = "corrupt-closed-segment"
    pattern = "log/*.segment"
    pump_bytes = pump.SEGMENT_BYTES

    def paths(self, node):
        return super().paths(node)[:-1]


class CorruptMetadata(Corrupt):
    """a bit flips in one of the two copies of term and vote"""
    name = "corrupt-metadata"
    pattern = "log/metadata-*"


class CorruptBothMetadata(Corrupt):
    """a bit flips in both copies of term and vote"""
    name = "corrupt-both-metadata"
    pattern = "log/metadata-*"

    def start(self):
        told = super().start()
        if "file" in told:
            self.node.kill()
            self.harm(os.path.join(self.node.data, "log/metadata-2" if told["file"].endswith("1") else "log/metadata-1"))
            told["refused"] = self.start_again_only()
        return told


class CorruptStore(Corrupt):
    """a bit flips in a page of a node's database"""
    name = "corrupt-store"
    pattern = "store/data.mdb"


class CorruptSnapshot(Corrupt):
    """a bit flips in a node's snapshot"""
    name = "corrupt-snapshot"
    pattern = "snapshots/*"
    # Room for closed segments, and a snapshot after each quarter.
    world = {"settings": {"COTERIE_LIMITS_LOG_BYTES_MAX": str(4 * pump.SEGMENT_BYTES)}}
    pump_bytes = 3 * pump.SEGMENT_BYTES


class CorruptIdentity(Corrupt):
    """a bit flips in one of the two copies of a node's identity"""
    name = "corrupt-identity"
    pattern = "identity"


class CorruptConfig(Fault):
    """a node's configuration file is damaged"""
    name = "corrupt-config"
    hold = (0.5, 1.0)
    swarm = False

    def start(self):
        self.node = self.any_node()
        self.node.kill()
        with open(self.node.config, "r+b") as file:
            self.content = file.read()
            place = self.rng.randrange(len(self.content))
            file.seek(place)
            file.write(bytes([self.content[place] ^ 0x80]))
        self.refused = ""
        try:
            self.node.start()
        except Exception:
            self.refused = self.node.last_words()
        return {"nodes": [self.node.name], "offset": place, "refused": self.refused}

    def stop(self):
        self.node.kill()
        with open(self.node.config, "wb") as file:
            file.write(self.content)
        return {"nodes": [self.node.name], "replaced": bool(self.start_again(self.node))}
