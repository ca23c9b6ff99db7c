"""compare.py CLUSTER_RESULTS MOSQUITTO_RESULTS — what each broker holds of the statements, by area, as a table.

The files are what `tests/conformance/run --results` wrote: the verdict per statement. Cells are "held of testable"."""

import json
import sys

from statements import load_corner_cases, load_statements

AREAS = [  # title, sections of 3.1.1, sections of 5.0
    ("data representation", ["1.5"], ["1.5"]),
    ("packet format", ["2."], ["2."]),
    ("CONNECT", ["3.1."], ["3.1."]),
    ("CONNACK", ["3.2."], ["3.2."]),
    ("PUBLISH", ["3.3."], ["3.3."]),
    ("PUBACK, PUBREC, PUBREL, PUBCOMP", ["3.4.", "3.5.", "3.6.", "3.7."], ["3.4.", "3.5.", "3.6.", "3.7."]),
    ("SUBSCRIBE, SUBACK", ["3.8.", "3.9."], ["3.8.", "3.9."]),
    ("UNSUBSCRIBE, UNSUBACK", ["3.10.", "3.11."], ["3.10.", "3.11."]),
    ("PINGREQ, PINGRESP", ["3.12."], ["3.12."]),
    ("DISCONNECT", ["3.14."], ["3.14."]),
    ("AUTH, enhanced authentication", [], ["3.15.", "4.12."]),
    ("session state", ["4.1."], ["4.1."]),
    ("transport", ["7."], ["4.2-"]),
    ("QoS 0, 1 and 2", ["4.3."], ["4.3."]),
    ("delivery, retry, order", ["4.4.", "4.5.", "4.6."], ["4.4.", "4.5.", "4.6."]),
    ("topics and filters", ["4.7."], ["4.7."]),
    ("shared subscriptions", [], ["4.8."]),
    ("flow control", [], ["4.9."]),
    ("errors", ["4.8."], ["4.13."]),
    ("WebSocket", ["6."], ["6."]),
]


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def cell(results, keys):
    if not keys:
        return ""
    held = sum(1 for key in keys if results.get(key) == "held")
    return f"{held} of {len(keys)}"


def main():
    ours, theirs = load(sys.argv[1]), load(sys.argv[2])
    statements = [(level, name) for (level, name), reason in load_statements().items() if not reason]
    rows, everything = [], {4: [], 5: []}
    for title, of_v4, of_v5 in AREAS:
        row = [title]
        for level, sections in ((4, of_v4), (5, of_v5)):
            keys = [f"{one} {name}" for one, name in statements
                    if one == level and name[len("MQTT-"):].startswith(tuple(sections))]
            everything[level] += keys
            row += [cell(ours, keys), cell(theirs, keys)]
        rows.append(row)
    assert sum(map(len, everything.values())) == len(statements), "a statement belongs to no area, or to two"
    rows.append(["all statements"] + [cell(results, everything[level]) for level in (4, 5)
                                      for results in (ours, theirs)])
    corners = [f"corner {row}" for row, reason in load_corner_cases().items() if not reason]
    rows.append(["corner cases (both versions)", "", "", cell(ours, corners), cell(theirs, corners)])
    rows.insert(0, ["", "3.1.1: Coterie", "mosquitto", "5.0: Coterie", "mosquitto"])
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        print("| " + " | ".join(text.ljust(width) for text, width in zip(row, widths)) + " |")


main()
