"""Disks that are full, slow, hung, or return errors, while the node runs."""

import pump

from . import Fault, names


class FullDisk(Fault):
    """the disk of a follower is full, until there is space again"""
    name = "full-disk"
    needs = ("ext4",)
    # A log that is trimmed: else it is the one that fills the disk, and nothing is mended by clear().
    world = {"disks": "ext4", "settings": {"COTERIE_LIMITS_LOG_BYTES_MAX": str(16 << 20)}}
    hold = (4.0, 6.0)
    swarm = False

    def victims(self):
        return [self.follower()]

    def start(self):
        self.full = self.victims()
        self.since = {node.name: node.log_size() for node in self.full}
        for node in self.full:
            node.disk.fill()
        # The log has space set aside; until it is used up, the node does not notice.
        pumped = pump.publish(self.cluster, self.others(*self.full) or self.cluster.nodes, pump.FILL_BYTES)
        return {"nodes": names(self.full), "pumped_bytes": pumped}

    def stop(self):
        noticed = [node.name for node in self.full if "full" in node.log_text(self.since[node.name]) or
                   node.events("node-failed", self.since[node.name])]
        dead = [node.name for node in self.full if not node.running]
        for node in self.full:
            node.disk.clear()
        return {"nodes": names(self.full), "noticed": noticed, "dead": dead, "refused": self.start_again(*self.full)}


class FullDiskLeader(FullDisk):
    """the disk of the leader is full, until there is space again"""
    name = "full-disk-leader"

    def victims(self):
        return [self.leader()]


class FullDiskAll(FullDisk):
    """all disks are full, until there is space again"""
    name = "full-disk-all"

    def victims(self):
        return list(self.cluster.nodes)


class FlakyDiskFault(Fault):
    errs = False
    needs = ("fuse",)
    world = {"disks": "flaky"}
    hold = (3.0, 6.0)
    swarm = False

    def victim(self):
        return self.any_node()

    def commands(self):
        """[(word, value)] for flakydisk.c to begin with, and to end with."""
        raise NotImplementedError

    def start(self):
        self.node = self.victim()
        self.since = self.node.log_size()
        begin, self.end = self.commands()
        for word, value in begin:
            self.node.disk.tell(word, value)
        return {"nodes": [self.node.name], "disk": begin}

    def stop(self):
        for word, value in self.end:
            self.node.disk.tell(word, value)
        failed = bool(self.node.events("node-failed", self.since))
        if self.errs:    # its file system takes nothing more, now or soon, until it is mounted anew
            self.node.kill()
            self.node.disk.remount()
        return {"nodes": [self.node.name], "failed": failed, "refused": self.start_again(self.node)}


class SlowDiskLeader(FlakyDiskFault):
    """each flush of the leader's disk takes 50 to 500 ms"""
    name = "slow-disk-leader"

    def victim(self):
        return self.leader()

    def commands(self):
        return [("delay", self.rng.choice([50, 200, 500]))], [("delay", 0)]


class SlowDiskFollower(SlowDiskLeader):
    """each flush of a follower's disk takes 50 to 500 ms"""
    name = "slow-disk-follower"

    def victim(self):
        return self.follower()


class HungDiskLeader(FlakyDiskFault):
    """the leader's disk answers nothing any more"""
    name = "hung-disk-leader"
    hold = (4.0, 6.0)

    def victim(self):
        return self.leader()

    def commands(self):
        return [("hang", 1)], [("hang", 0)]


class HungDiskFollower(HungDiskLeader):
    """a follower's disk answers nothing any more"""
    name = "hung-disk-follower"

    def victim(self):
        return self.follower()


class FailingFlush(FlakyDiskFault):
    """the flushes of one disk fail for a while, and then work again"""
    name = "failing-flush"
    errs = True

    def commands(self):
        return [("eio_flush", 1)], [("eio_flush", 0)]


class FailingWrite(FlakyDiskFault):
    """the writes to one disk fail for a while, and then work again"""
    name = "failing-write"
    errs = True

    def commands(self):
        return [("eio_write", 1)], [("eio_write", 0)]


class LyingDisk(FlakyDiskFault):
    """one disk confirms flushes and forgets them when its node loses its power"""
    name = "lying-disk"

    def commands(self):
        return [("lie", 1)], []

    def stop(self):
        self.node.kill()
        kept = self.node.power_loss(self.rng.getrandbits(32))
        self.node.disk.tell("lie", 0)
        return {"nodes": [self.node.name], "sectors_kept": kept, "refused": self.start_again(self.node)}
