"""All the workloads at once, at a lower rate, beside ordinary client software (real.py): what a swarm of faults is let loose on."""

import asyncio
import importlib

from .base import BaseWorkload
from .real import RealClients

PARTS = ("queue", "shared", "register", "wills", "takeover", "expiry")


class Workload(BaseWorkload):
    name = "fleet"

    def __init__(self, cluster, recorder, seed, rate=200.0, parts=PARTS, real=True, **options):
        super().__init__(cluster, recorder, seed, rate=rate, **options)
        defaults = {"wills": {"clients": 6}, "takeover": {"ids": 2}}
        self.parts = []
        for name in parts:
            module = importlib.import_module(f"workload.{name}")
            settings = dict(defaults.get(name, {}), **options.get(name, {}))
            self.parts.append(module.Workload(cluster, recorder, seed, rate=rate / 3, **settings))
        if real:
            self.parts.append(RealClients(cluster, recorder, seed))

    def describe(self):
        return "fleet: " + "; ".join(part.describe() for part in self.parts)

    async def setup(self):
        await asyncio.gather(*(part.setup() for part in self.parts))

    async def drive(self):
        await asyncio.gather(*(part.drive() for part in self.parts))

    async def stop(self):
        await asyncio.gather(*(part.stop() for part in self.parts))
        self.stopping = True

    async def drain(self):
        return all(await asyncio.gather(*(part.drain() for part in self.parts)))

    async def close(self):
        await asyncio.gather(*(part.close() for part in self.parts), return_exceptions=True)
