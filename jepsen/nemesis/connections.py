"""Connections that are reset, all of them, again and again: clients' and links'."""

import subprocess
import threading

from network import SUBNET

from . import Fault, names

PERIOD_SECONDS = 2.0


class ResetAll(Fault):
    """every connection of every node is reset, every two seconds"""
    name = "reset-all"
    needs = ("ss",)
    hold = (5.0, 8.0)

    def start(self):
        self.over, self.rounds = threading.Event(), 0
        self.thread = threading.Thread(target=self.reset)
        self.thread.start()
        return {"nodes": names(self.cluster.nodes)}

    def reset(self):
        while not self.over.is_set():
            for node in self.cluster.nodes:
                subprocess.run(["ip", "netns", "exec", node.namespace, "ss", "-K", "dst", f"{SUBNET}.0/24"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.rounds += 1
            self.over.wait(PERIOD_SECONDS)

    def stop(self):
        self.over.set()
        self.thread.join()
        return {"nodes": names(self.cluster.nodes), "rounds": self.rounds}
