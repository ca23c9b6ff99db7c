"""What is under the data of a node: a plain directory, or a disk of its own that can be full, slow, or lose its power.

  plain   a directory
  ext4    an image file behind a loop device: fill(), clear()
  xfs     the same with xfs, whose `shutdown` is a power loss: what was not flushed is gone
  flaky   ext4 on a loop device on a file of our own FUSE file system (flakydisk.c): slow, hung, erring, lying, and a power
          loss that tears: of the sectors that were not flushed a random half is there afterwards

`path` is the data directory in all four. attach(), detach() and empty() are for a node that does not run; so is
power_loss(), which is to follow a kill at once and ends with the disk attached again."""

import os
import shutil
import subprocess
import time

from network import NetworkError, command

IMAGE_BYTES = {"ext4": 768 << 20, "xfs": 320 << 20, "flaky": 192 << 20}
BALLAST = "ballast"
RELEASE_SECONDS = 10
E2FSCK_FAILED = 4    # exit status from here on: not all is mended


class DiskError(Exception):
    pass


class PlainDisk:
    def __init__(self, path, undo):
        self.path, self.undo = path, undo

    def attach(self):
        os.makedirs(self.path, exist_ok=True)

    def detach(self):
        pass

    def empty(self):
        """Deletes all data."""
        for name in os.listdir(self.path):
            whole = os.path.join(self.path, name)
            if os.path.isdir(whole) and not os.path.islink(whole):
                shutil.rmtree(whole)
            else:
                os.unlink(whole)


class ImageDisk(PlainDisk):
    """A file system of its own in an image file."""

    def __init__(self, kind, path, undo):
        super().__init__(path, undo)
        self.kind, self.image = kind, path + ".image"
        self.file_system = "xfs" if kind == "xfs" else "ext4"
        self.ballast = os.path.join(path, BALLAST)

    def attach(self):
        os.makedirs(self.path, exist_ok=True)
        if not os.path.exists(self.image):
            with open(self.image, "wb") as file:
                file.truncate(IMAGE_BYTES[self.kind])
            options = ["-q"] if self.file_system == "xfs" else ["-qF", "-m", "0", "-E", "lazy_itable_init=0"]
            command(f"mkfs.{self.file_system}", *options, self.image)
        self._mount(self.image)

    def _mount(self, device):
        self.device = device
        self.undo.command("umount", "-l", self.path)
        command("mount", "-o", "loop", device, self.path)

    def detach(self):
        """Returns when the file system is gone, with all that it had in memory: it lives on while any namespace has it mounted."""
        command("umount", self.path)
        deadline = time.monotonic() + RELEASE_SECONDS
        while command("losetup", "-j", self.device).strip():
            if time.monotonic() > deadline:
                raise DiskError(f"{self.path} is unmounted here, but still in use elsewhere")
            time.sleep(0.01)

    def power_loss(self, _seed):
        command("xfs_io", "-x", "-c", "shutdown", self.path)
        self.detach()
        self.attach()

    def remount(self):
        self.detach()
        self.attach()

    def fill(self):
        """Takes all the space there is; in the image file nothing of it is written."""
        with open(self.ballast, "ab", buffering=0) as file:
            taken = file.tell()
            for size in (64 << 20, 1 << 20, 1 << 12):
                try:
                    while True:
                        os.posix_fallocate(file.fileno(), taken, size)
                        taken += size
                except OSError:
                    pass    # full, at this grain

    def clear(self):
        if os.path.exists(self.ballast):
            os.unlink(self.ballast)


class FlakyDisk(ImageDisk):
    def __init__(self, path, undo, program):
        super().__init__("flaky", path, undo)
        self.program, self.beneath, self.process = program, path + ".disk", None

    def attach(self):
        if self.process is None:
            self._start()
        super().attach()

    def _start(self):
        os.makedirs(self.beneath, exist_ok=True)
        if not os.path.exists(self.image):
            with open(self.image, "wb") as file:
                file.truncate(IMAGE_BYTES[self.kind])
            command("mkfs.ext4", "-qF", "-m", "0", "-E", "lazy_itable_init=0", self.image)
        self.undo.command("umount", "-l", self.beneath)
        self.process = subprocess.Popen([self.program, self.image, self.beneath], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.undo.process(self.process.pid)
        if self.process.stdout.readline().strip() != "ready":
            raise DiskError("coterie-flakydisk does not start")

    def _mount(self, _image):
        disk = os.path.join(self.beneath, "disk")
        try:
            super()._mount(disk)
        except NetworkError:    # a disk that lied may not even have a file system; it is mended, or there is a new one
            mended = subprocess.run(["e2fsck", "-fy", disk], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if mended.returncode >= E2FSCK_FAILED:
                command("mkfs.ext4", "-qF", "-m", "0", "-E", "lazy_itable_init=0", disk)
            super()._mount(disk)

    def tell(self, word, value):
        """One command of flakydisk.c; its answer."""
        self.process.stdin.write(f"{word} {value}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if answer[:1] != ["ok"]:
            raise DiskError(f"coterie-flakydisk: {word} {value}: {' '.join(answer) or 'it has ended'}")
        return int(answer[1])

    def power_loss(self, seed):
        self.tell("cut", 0)
        kept = self.tell("power", seed)
        self.detach()
        self.tell("on", 1)
        super().attach()
        return kept


def make_disk(kind, path, undo, flaky_program=None):
    if kind == "plain":
        return PlainDisk(path, undo)
    if kind == "flaky":
        return FlakyDisk(path, undo, flaky_program)
    return ImageDisk(kind, path, undo)
