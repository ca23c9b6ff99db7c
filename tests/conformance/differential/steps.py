"""What a drawn sequence consists of: steps, each something that one client does, as data that can be printed and read.

    c1  connect  level=5 clean=False properties={'session_expiry': 1000}
    c2  publish  id=3 topic='a/b' qos=2 payload='c2.7' retain=True

The actions are the methods of play.Player; what is drawn, draw.py says."""

import re
from dataclasses import dataclass, field


@dataclass
class Step:
    client: str
    action: str
    fields: dict = field(default_factory=dict)
    joined: bool = False    # its answers are compared together with those of the next step

    def __str__(self):
        fields = " ".join(f"{name}={_shown(value)}" for name, value in self.fields.items())
        return f"{self.client:3} {self.action:10} {fields}" + (" ..." if self.joined else "")


def _shown(value):
    if isinstance(value, bytes) and len(value) > 2:
        return value.hex()
    return re.sub("_{10,}", "___", repr(value))
