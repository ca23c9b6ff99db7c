"""Everything that a run makes is gone afterwards: after its end, a failure, Ctrl-C, and SIGKILL too.

    run --each thing made, one JSON line--> pipe --> keeper (this file as a program, in a session of its own)

The keeper remembers how to undo each thing. When the pipe ends, for whatever reason, it undoes all of them in reverse
order and ends; so there is one way to clean up, and it is always taken. Undoing a thing that is gone already is no fault.

Things: {"kill": [pid, start]}  a process, recognised by its start time as well (numbers are used again)
        {"run": [argv]}         a command that takes it away: umount, losetup -d, ip netns del
        {"remove": path}        a directory of ours with all that is in it
        {"forget": thing}       it is gone already: nothing to undo any more"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

GONE_SECONDS = 10


def start_time(pid):
    """When a process was started, in the kernel's ticks; None if there is none, or only its corpse."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


class Undo:
    """The run's end of the pipe."""

    def __init__(self):
        self.keeper = subprocess.Popen([sys.executable, os.path.abspath(__file__)], stdin=subprocess.PIPE, text=True,
                                       start_new_session=True, cwd="/")

    def note(self, thing):
        self.keeper.stdin.write(json.dumps(thing) + "\n")
        self.keeper.stdin.flush()

    def process(self, pid):
        self.note({"kill": [pid, start_time(pid)]})

    def command(self, *argv):
        self.note({"run": list(argv)})

    def directory(self, path):
        self.note({"remove": path})

    def forget_command(self, *argv):
        self.note({"forget": {"run": list(argv)}})

    def all(self):
        """Undoes everything; returns when it is done."""
        if self.keeper.stdin.closed:
            return
        self.keeper.stdin.close()
        self.keeper.wait()


def undo_process(pid, started):
    if started is None or start_time(pid) != started:
        return
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + GONE_SECONDS
    while start_time(pid) == started and time.monotonic() < deadline:
        time.sleep(0.01)


def undo(thing):
    try:
        if "kill" in thing:
            undo_process(*thing["kill"])
        elif "run" in thing:
            subprocess.run(thing["run"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)
        elif "remove" in thing:
            shutil.rmtree(thing["remove"], ignore_errors=True)
    except (OSError, subprocess.SubprocessError):
        pass    # the next ones are still worth doing


def keep():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    things = []
    for line in sys.stdin:
        if not line.endswith("\n"):
            break    # the run died within it: that thing was not made
        thing = json.loads(line)
        if "forget" not in thing:
            things.append(thing)
        elif thing["forget"] in things:
            things.remove(thing["forget"])
    for thing in reversed(things):
        undo(thing)


if __name__ == "__main__":
    keep()
