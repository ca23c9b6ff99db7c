"""What is under the data of a node: a plain directory, or a disk of its own that can be full, slow, or lose its power.

  plain   a directory
  ext4    an image file behind a loop device: full()
  xfs     the same with xfs, whose `shutdown` is a power loss: what was not flushed is gone
  flaky   ext4 on a loop device on a file of our own FUSE file system (flakydisk.c): slow, hung, erring, lying, and a power
          loss that tears: of the sectors that were not flushed a random half is there afterwards

`path` is the data directory in all four. attach() and detach() are for a node that does not run; power_loss() kills
nothing: the node has to be dead, or about to be killed."""

import os
import shutil
import signal
import subprocess

from network import ROOT, NetworkError, command

IMAGE_BYTES = {"ext4": 192 << 20, "xfs": 320 << 20, "flaky": 192 << 20}


class PlainDisk:
    def __init__(self, path, undo):
        self.path, self.undo = path, undo

    def attach(self):
        os.makedirs(self.path, exist_ok=True)

    def detach(self):
        pass

    def empty(self):
        """Deletes all data; the node must not run."""
        for name in os.listdir(self.path):
            whole = os.path.join(self.path, name)
            if os.path.isdir(whole) and not os.path.islink(whole):
                shutil.rmtree(whole)
            else:
                os.unlink(whole)


def make_disk(kind, path, undo):
    return PlainDisk(path, undo)
