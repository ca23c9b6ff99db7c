"""One run as one HTML file: no other file, no script from anywhere, readable by an operator on a desk or a phone.

    write(path, events, verdicts, facts)

From top to bottom: did everything hold; the guarantees, one line each; operations per second and latency over time, with the faults as
bands and the leader as a strip; how long clients waited, per fault, against the goals; what was counted; how to repeat it; and for each
broken guarantee the first operations that break it, with what happened around them.

The charts are SVG, drawn here (Chart). Colours and sizes are in STYLE, in a light and a dark form.
"""

import html
import json
from collections import Counter, defaultdict

from check.model import NEVER, SECOND, Model

BUCKETS_MAX = 240
CONTEXT_EVENTS = 6          # of the same clients, before and after a violation
SHOWN_VIOLATIONS = 5        # per guarantee
CHART_WIDTH, LEFT, RIGHT = 960, 56, 12
OUTCOMES = (("ok", "acknowledged"), ("fail", "refused"), ("info", "unknown"))
GUARANTEE_NAMES = {"G1": "publish", "G2": "subscribe", "G3": "connect", "G4": "QoS 2", "G5": "order", "G6": "retained", "G7": "will",
                   "G8": "minority", "G10": "replicas", "G11": "expiry", "G13": "shared", "G15": "recovery"}


def write(path, events, verdicts, facts):
    with open(path, "w") as file:
        file.write(render(events, verdicts, facts))


def render(events, verdicts, facts):
    model = Model(events)
    parts = [heading(model, verdicts, facts), guarantees(verdicts), timeline(model, facts), recovery(verdicts), numbers(model, facts),
             violations(events, verdicts), repeat(facts)]
    return PAGE.format(title=text(f"Coterie under failure: {title_of(facts)}"), style=STYLE,
                       body="\n".join(part for part in parts if part), script=SCRIPT)


def title_of(facts):
    named = facts.get("scenario") not in (None, "", "run")
    return facts["scenario"] if named else f"workload {facts.get('workload', 'unknown')}"


def text(value):
    return html.escape(str(value), quote=True)


def seconds(time):
    return f"{time / SECOND:.3f} s"


def share(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else None


# ---- what came of it

def heading(model, verdicts, facts):
    broken = [one for one in verdicts if one["valid"] is False]
    held = [one for one in verdicts if one["valid"]]
    safety = [one for one in broken if one["guarantee"] != "G15"]
    if safety:
        state, words = "bad", f"{len(safety)} of {len(held) + len(broken)} checks found a broken guarantee"
    elif broken:
        state, words = "warn", "Every guarantee held; recovery was slower than its goal"
    else:
        state, words = "good", f"All {len(held)} checks passed"
    faults = len(model.faults)
    publishes = [one for one in model.publishes.values() if one.outcome == "ok"]
    deliveries = sum(len(one.deliveries) for one in model.sessions.values())
    tiles = [("duration", f"{model.end / SECOND:.0f} s"), ("faults", faults),
             ("clients", len({one.device for session in model.sessions.values() for one in session.connections})),
             ("acknowledged", f"{len(publishes):,}"), ("delivered", f"{deliveries:,}"), ("seed", facts.get("seed", "–"))]
    cells = "".join(f'<div class="tile"><dt>{text(name)}</dt><dd>{text(value)}</dd></div>' for name, value in tiles)
    title = title_of(facts)
    what = f'workload <b>{text(facts.get("workload", "–"))}</b>, {len(facts.get("nodes", []))} nodes'
    if facts.get("faults"):
        what += ", faults <b>" + text(", ".join(dict.fromkeys(facts["faults"]))) + "</b>"
    return (f'<header><p class="brand">Coterie · proof under failure</p><h1>{text(title)}</h1><p class="what">{what}</p>'
            f'<p class="verdict {state}"><span class="dot"></span>{text(words)}</p><dl class="tiles">{cells}</dl></header>')


def guarantees(verdicts):
    rows = []
    order = {None: 2, True: 1, False: 0}
    for number, one in enumerate(verdicts):
        state = {True: ("good", "holds"), False: ("bad", "broken"), None: ("none", "not judged")}[one["valid"]]
        if one["valid"] is False and one["guarantee"] == "G15":
            state = ("warn", "missed")
        link = f' <a href="#violation-{number}">see below</a>' if one["violations"] else ""
        why = one["why"] if one["valid"] is False else ", ".join(f"{amount:,} {name.replace('_', ' ')}"
                                                                for name, amount in one["numbers"].items())
        short = why if len(why) < 220 else why[:200] + "…"
        rows.append((order[one["valid"]], int(one["guarantee"][1:]), number,
                     f'<tr><td class="g">{text(one["guarantee"])}<span>{text(GUARANTEE_NAMES.get(one["guarantee"], ""))}</span></td>'
                     f'<td><b>{text(one["name"])}</b><p>{text(one["promise"])}</p></td>'
                     f'<td class="mark"><span class="pill {state[0]}">{state[1]}</span></td>'
                     f'<td class="num">{text(short)}{link}{notes(one)}</td></tr>'))
    body = "".join(row[-1] for row in sorted(rows))
    return (f'<section><h2>Guarantees</h2><div class="scroll"><table class="guarantees"><thead><tr><th></th><th>what is promised</th>'
            f'<th>result</th><th>what was looked at</th></tr></thead><tbody>{body}</tbody></table></div></section>')


def notes(verdict):
    return "".join(f'<p class="note">{text(one)}</p>' for one in verdict["notes"][:3])


# ---- over time

class Chart:
    """One SVG with time from left to right. Rows of it are stacked by the caller."""

    def __init__(self, end, height, top=8, bottom=20):
        self.end, self.height, self.top, self.bottom = max(end, 1), height, top, bottom
        self.parts = []

    def x(self, time):
        return LEFT + (CHART_WIDTH - LEFT - RIGHT) * min(time, self.end) / self.end

    def y(self, part):
        """0 is the bottom, 1 the top."""
        return self.top + (self.height - self.top - self.bottom) * (1 - part)

    def add(self, svg):
        self.parts.append(svg)

    def band(self, begin, end, kind, label):
        width = max(1.5, self.x(end) - self.x(begin))
        self.add(f'<rect class="band {kind}" x="{self.x(begin):.1f}" y="{self.top}" width="{width:.1f}" '
                 f'height="{self.height - self.top - self.bottom}"><title>{text(label)}</title></rect>')

    def time_axis(self):
        step = nice_step(self.end / SECOND / 8)
        at = 0.0
        while at <= self.end / SECOND:
            x = self.x(at * SECOND)
            self.add(f'<text class="tick" x="{x:.1f}" y="{self.height - 5}" text-anchor="middle">{at:g}</text>')
            at += step
        self.add(f'<text class="tick" x="{CHART_WIDTH - RIGHT}" y="{self.height - 5}" text-anchor="end">s</text>')

    def svg(self, label):
        return (f'<svg viewBox="0 0 {CHART_WIDTH} {self.height}" role="img" aria-label="{text(label)}">' + "".join(self.parts) + "</svg>")


def nice_step(least):
    scale = 1.0
    while True:
        for factor in (1, 2, 5):
            if factor * scale >= least:
                return factor * scale
        scale *= 10


def timeline(model, facts):
    if not model.operations:
        return ""
    width = bucket(model.end)
    label = f"{width / SECOND:g} s"
    sections = [
        figure("Acknowledged publishes per second", throughput(model, width), f"in steps of {label}; deliveries as a line",
               legend(("ok", "acknowledged"), ("fail", "refused"), ("info", "outcome unknown"), ("line", "delivered"))),
        figure("Time until a publish is acknowledged", latency(model), "each dot a publish, on a logarithmic scale; "
               f"lines: median and 99 % in steps of {2 * width / SECOND:g} s", legend(("dot", "one publish"), ("p50", "median"), ("p99", "99 %"))),
        figure("Faults", fault_rows(model), "dark: certainly in force; light: beginning or ending",
               legend(("net", "network"), ("proc", "node"), ("disk", "disk"))),
        figure("Nodes", leader_strip(model, facts), "who led, who followed, who did not answer or was not ready",
               legend(("leader", "leader"), ("follower", "follower"), ("unready", "not ready"), ("down", "no answer"))),
    ]
    return "<section><h2>Over time</h2>" + "".join(sections) + "</section>"


def bucket(end):
    """Width of the steps in which things are counted."""
    for candidate in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600):
        if end / (candidate * SECOND) <= BUCKETS_MAX:
            return int(candidate * SECOND)
    return int(1800 * SECOND)


def figure(title, svg, caption, key=""):
    return (f'<figure><figcaption><b>{text(title)}</b> <span>{text(caption)}</span>{key}</figcaption>'
            f'<div class="scroll">{svg}</div></figure>')


def legend(*entries):
    return '<span class="legend">' + "".join(f'<span><i class="{kind}"></i>{text(name)}</span>' for kind, name in entries) + "</span>"


def shade(chart, model):
    for fault in model.faults:
        over = fault.stopped if fault.stopped != NEVER else model.end
        chart.band(fault.start, over, fault_kind(fault), fault_label(fault))


def fault_kind(fault):
    for kind, words in (("net", ("isolate", "split", "shatter", "deaf", "mute", "ring", "bridge", "flap", "link", "delay", "loss", "reset",
                                 "partition", "slow-link", "wan", "jitter")),
                        ("disk", ("disk", "full", "fsync", "flush", "power", "torn", "corrupt", "flip", "wipe", "backup", "lying", "damage"))):
        if any(word in fault.name for word in words):
            return kind
    return "proc"


def fault_label(fault):
    over = f"{(fault.stopped - fault.start) / SECOND:.1f} s" if fault.stopped != NEVER else "to the end"
    return f"{fault.name} {', '.join(fault.nodes)} at {fault.start / SECOND:.1f} s for {over}"


def throughput(model, width):
    count = int(model.end // width) + 1
    bars = {kind: [0] * count for kind, _ in OUTCOMES}
    for publish in model.publishes.values():
        at = publish.returned if publish.outcome == "ok" else publish.invoked
        bars[publish.outcome][min(count - 1, int(at // width))] += 1
    delivered = [0] * count
    for session in model.sessions.values():
        for delivery in session.deliveries:
            delivered[min(count - 1, int(delivery.time // width))] += 1
    per_second = SECOND / width
    highest = max(max(map(sum, zip(*bars.values()))), max(delivered)) * per_second or 1
    chart = Chart(model.end, 204, top=22)
    shade(chart, model)
    scale = value_axis(chart, highest)
    for place in range(count):
        base = 0.0
        for kind, _ in OUTCOMES:
            amount = bars[kind][place] * per_second
            if amount:
                y = chart.y((base + amount) / scale)
                chart.add(f'<rect class="bar {kind}" x="{chart.x(place * width):.1f}" y="{y:.1f}" '
                          f'width="{max(0.8, chart.x((place + 1) * width) - chart.x(place * width) - 0.6):.1f}" '
                          f'height="{chart.y(base / scale) - y:.1f}"/>')
                base += amount
    points = " ".join(f"{chart.x((place + 0.5) * width):.1f},{chart.y(amount * per_second / scale):.1f}"
                      for place, amount in enumerate(delivered))
    chart.add(f'<polyline class="line" points="{points}"/>')
    leader_marks(chart, model)
    chart.time_axis()
    return chart.svg("operations per second over time")


def value_axis(chart, highest):
    step = nice_step(highest / 4)
    scale = max(step, highest * 1.05)
    at = 0.0
    while at <= scale:
        y = chart.y(at / scale)
        chart.add(f'<line class="grid" x1="{LEFT}" x2="{CHART_WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                  f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{at:g}</text>')
        at += step
    return scale


LATENCY_TICKS = ((100_000, "0.1 ms"), (1_000_000, "1 ms"), (10_000_000, "10 ms"), (100_000_000, "100 ms"), (SECOND, "1 s"),
                 (10 * SECOND, "10 s"))
DOTS_MAX = 4000


def latency(model):
    from math import log10
    low, high = log10(LATENCY_TICKS[0][0]), log10(LATENCY_TICKS[-1][0]) + 0.3
    done = [one for one in model.publishes.values() if one.outcome == "ok"]
    chart = Chart(model.end, 210)
    shade(chart, model)

    def y(nanoseconds):
        return chart.y(min(1.0, max(0.0, (log10(max(nanoseconds, 1)) - low) / (high - low))))

    for value, name in LATENCY_TICKS:
        chart.add(f'<line class="grid" x1="{LEFT}" x2="{CHART_WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
                  f'<text class="tick" x="{LEFT - 6}" y="{y(value) + 3.5:.1f}" text-anchor="end">{name}</text>')
    slow_first = sorted(done, key=lambda one: one.invoked - one.returned)
    keep = slow_first[:DOTS_MAX // 4] + slow_first[DOTS_MAX // 4::max(1, len(done) // DOTS_MAX)]
    dots = "".join(f"M{chart.x(one.invoked):.1f} {y(one.returned - one.invoked):.1f}h0" for one in keep)
    chart.add(f'<path class="dots" d="{dots}"/>')
    width = bucket(model.end) * 2
    for part, kind in ((0.5, "p50"), (0.99, "p99")):
        buckets = defaultdict(list)
        for one in done:
            buckets[int(one.invoked // width)].append(one.returned - one.invoked)
        points = " ".join(f"{chart.x((place + 0.5) * width):.1f},{y(share(values, part)):.1f}" for place, values in sorted(buckets.items()))
        chart.add(f'<polyline class="{kind}" points="{points}"/>')
    chart.time_axis()
    return chart.svg("time until a publish is acknowledged, over time")


def fault_rows(model):
    names = list(dict.fromkeys(fault.name for fault in model.faults))
    if not names:
        return '<p class="note">none</p>'
    row = 22
    chart = Chart(model.end, row * len(names) + 26, top=4)
    for place, name in enumerate(names):
        top = 4 + place * row
        chart.add(f'<line class="grid" x1="{LEFT}" x2="{CHART_WIDTH - RIGHT}" y1="{top + row - 3}" y2="{top + row - 3}"/>')
        own = [fault for fault in model.faults if fault.name == name]
        for fault in own:
            fault_bar(chart, model, fault, top, row)
        first = chart.x(own[0].start)
        ends = chart.x(own[0].stopped if own[0].stopped != NEVER else model.end)
        words = name + (f" · {', '.join(own[0].nodes)}" if len(own) == 1 and own[0].nodes else "")
        room = CHART_WIDTH - RIGHT - ends > 8 * len(words)
        chart.add(f'<text class="fault" x="{ends + 6 if room else first - 6:.1f}" y="{top + 13}" '
                  f'text-anchor="{"start" if room else "end"}">{text(words)}</text>')
    chart.time_axis()
    return chart.svg("faults over time")


def fault_bar(chart, model, fault, top, row):
    over = fault.stopped if fault.stopped != NEVER else model.end
    sure = (fault.started if fault.started != NEVER else fault.start, min(fault.stop, over))
    for begin, end, kind in ((fault.start, over, "dim"), (*sure, "full")):
        chart.add(f'<rect class="faultbar {fault_kind(fault)} {kind}" x="{chart.x(begin):.1f}" y="{top + 2}" rx="2" '
                  f'width="{max(2.0, chart.x(end) - chart.x(begin)):.1f}" height="{row - 9}"><title>{text(fault_label(fault))}</title></rect>')


def leader_strip(model, facts):
    nodes = facts.get("nodes") or sorted({event["node"] for event in model.statuses})
    if not model.statuses:
        return '<p class="note">nobody watched the nodes</p>'
    row = 20
    chart = Chart(model.end, row * len(nodes) + 26, top=4)
    times = sorted({event["time"] for event in model.statuses})
    usual = share([b - a for a, b in zip(times, times[1:]) if b - a > 10_000_000] or [SECOND], 0.5)
    silence = max(4 * usual, SECOND)
    for place, node in enumerate(nodes):
        top = 4 + place * row
        chart.add(f'<text class="tick" x="{LEFT - 6}" y="{top + 12}" text-anchor="end">{text(node)}</text>'
                  f'<rect class="state down" x="{LEFT}" y="{top}" width="{CHART_WIDTH - LEFT - RIGHT}" height="{row - 6}"/>')
        for begin, end, kind, term in spells(model, node, silence):
            chart.add(f'<rect class="state {kind}" x="{chart.x(begin):.1f}" y="{top}" width="{max(0.7, chart.x(end) - chart.x(begin)):.1f}" '
                      f'height="{row - 6}"><title>{text(node)}: {kind}, term {term}, {begin / SECOND:.1f}–{end / SECOND:.1f} s</title></rect>')
    chart.time_axis()
    return chart.svg("state of each node over time")


def leader_marks(chart, model):
    """Above the chart: who leads from here on."""
    changes, last = [], None
    for event in model.statuses:
        value = event["value"]
        if value.get("role") == "leader" and value.get("ready", True) and (value.get("term") or 0) > (last or 0):
            changes.append((event["time"], event["node"]))
            last = value.get("term")
    room = 0.0
    for time, node in changes:
        x = chart.x(time)
        chart.add(f'<line class="leadermark" x1="{x:.1f}" x2="{x:.1f}" y1="{chart.top - 4}" y2="{chart.height - chart.bottom}"/>')
        if x >= room:
            chart.add(f'<text class="leadername" x="{x - 2:.1f}" y="{chart.top - 8}">{text(node)} leads</text>')
            room = x + 58


def spells(model, node, silence):
    """(begin, end, kind, term) while a node said the same thing; silent for long is no spell."""
    found = []
    for event in model.statuses:
        if event["node"] != node:
            continue
        value = event["value"]
        kind = "leader" if value.get("role") == "leader" and value.get("ready", True) else (
            "follower" if value.get("ready", True) else "unready")
        time = event["time"]
        if found and found[-1][2] == kind and found[-1][3] == value.get("term") and time - found[-1][1] < silence:
            found[-1][1] = time
        else:
            if found and time - found[-1][1] < silence:
                found[-1][1] = time
            found.append([time, time, kind, value.get("term")])
    return found


# ---- recovery

MEASURES = (("interruption", "longest wait elsewhere"), ("moved", "clients moved"), ("recovery", "after the fault's end"))


def recovery(verdicts):
    rows = next((one["rows"] for one in verdicts if one.get("rows")), None)
    if not rows:
        return ""
    lines = []
    for row in rows:
        cells = "".join(f'<td class="num">{measure(row.get(what), row["goals"].get(what))}</td>' for what, _ in MEASURES)
        held = f"{(row['stop'] - row['start']) / SECOND:.1f} s" if row["stop"] else "–"
        lines.append(f'<tr><td class="num">{row["start"] / SECOND:.1f} s</td><td><b>{text(row["fault"])}</b>'
                     f'<p>{text(row["describe"])}</p></td><td>{text(", ".join(row["nodes"]) or "network")}</td>'
                     f'<td class="num">{held}</td>{cells}</tr>')
    head = "".join(f"<th>{text(name)}</th>" for _, name in MEASURES)
    summary = "".join(percentiles(rows, what, name) for what, name in MEASURES)
    return (f'<section><h2>Recovery</h2><p class="lead">How long 99 % of the clients waited, against the goal where there is one. '
            f'Elsewhere: publishers at nodes that the fault did not hit.</p><p class="lead">{summary}</p>'
            f'<div class="scroll tall"><table><thead><tr><th>at</th><th>fault</th><th>hit</th><th>held</th>{head}</tr></thead><tbody>'
            + "".join(lines) + "</tbody></table></div></section>")


def percentiles(rows, what, name):
    values = [row[what] for row in rows if row.get(what) is not None]
    if len(values) < 3:
        return ""
    return (f'<span class="summary">{text(name)}: median {share(values, 0.5):.2f} s, 90 % {share(values, 0.9):.2f} s, '
            f'most {max(values):.2f} s</span>')


def measure(value, goal):
    if value is None:
        return "–"
    words = f"{value:.2f} s"
    if goal is None:
        return words
    state = "good" if value <= goal else "bad"
    part = min(1.0, value / goal / 2) * 100
    return (f'<span class="{state}-text">{words}</span><span class="goal"> / {goal:g} s</span>'
            f'<span class="meter"><i class="{state}" style="width:{part:.0f}%"></i></span>')


# ---- numbers

def numbers(model, facts):
    outcomes, times = Counter(), defaultdict(list)
    for invocation, completion in model.operations:
        kind = completion["type"] if completion else "info"
        outcomes[invocation["f"], kind] += 1
        if kind == "ok":
            times[invocation["f"]].append(completion["time"] - invocation["time"])
    rows = []
    for name in sorted({f for f, _ in outcomes}):
        values = times[name]
        spread = "".join(f'<td class="num">{share(values, part) / 1e6:,.1f} ms</td>' if values else '<td class="num">–</td>'
                         for part in (0.5, 0.99, 1.0))
        rows.append(f'<tr><td><b>{text(name)}</b></td>' + "".join(f'<td class="num">{outcomes[name, kind]:,}</td>' for kind, _ in OUTCOMES)
                    + spread + "</tr>")
    head = "".join(f"<th>{text(name)}</th>" for _, name in OUTCOMES)
    return (f'<section><h2>Numbers</h2><div class="scroll"><table><thead><tr><th>operation</th>{head}<th>median</th><th>99 %</th><th>longest</th>'
            f'</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{memory(model)}{setting_list(facts)}</section>')


def memory(model):
    """What each process needed, from its first cycle (a fault, and its healing) to the end; the store's pages are a file's."""
    lives = defaultdict(list)
    for event in model.resources:
        if event["value"].get("anonymous_kib"):
            lives[event["node"], event["value"].get("pid")].append(event)
    rows = []
    for (node, pid), seen in sorted(lives.items(), key=lambda one: (one[0][0], one[1][0]["time"])):
        sizes = [event["value"]["anonymous_kib"] for event in seen]
        cells = [f"{seen[0]['time'] / SECOND:.0f} s", f"{seen[-1]['time'] / SECOND:.0f} s", f"{len(seen):,}",
                 *(f"{size / 1024:,.1f} MiB" for size in (sizes[0], max(sizes), sizes[-1])), f"{seen[-1]['value'].get('descriptors', '–')}"]
        rows.append(f"<tr><td><b>{text(node)}</b> {text(pid)}</td>" + "".join(f'<td class="num">{text(cell)}</td>' for cell in cells) + "</tr>")
    if not rows:
        return ""
    heads = "".join(f"<th>{name}</th>" for name in ("first seen", "last seen", "cycles", "memory at first", "at most", "at last", "descriptors"))
    return (f'<h3>Memory of each process</h3><div class="scroll"><table><thead><tr><th>node, process</th>{heads}</tr></thead>'
            f'<tbody>{"".join(rows)}</tbody></table></div>')


def setting_list(facts):
    shown = {key: value for key, value in facts.items() if key not in ("repeat", "goals", "scenario", "faults") and value not in ({}, [], None, "")}
    rows = "".join(f"<dt>{text(key.replace('_', ' '))}</dt><dd>{text(value if isinstance(value, (str, int, float)) else plain(value))}</dd>"
                   for key, value in shown.items())
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def plain(value):
    if isinstance(value, list) and all(isinstance(one, (str, int)) for one in value):
        return ", ".join(str(one) for one in dict.fromkeys(value))
    return json.dumps(value)


def repeat(facts):
    command = facts.get("repeat")
    if not command:
        return ""
    return (f'<section><h2>Repeat it</h2><p class="lead">The same seed draws the same clients, faults and moments; what the machine makes of '
            f'them differs from run to run. The whole history is beside this file: history.jsonl, and history.edn for Jepsen\'s tools.</p>'
            f'<pre class="command">{text(command)}</pre></section>')


# ---- violations

def violations(events, verdicts):
    blocks = []
    for number, one in enumerate(verdicts):
        if not one["violations"]:
            continue
        shown = "".join(violation(events, item) for item in one["violations"][:SHOWN_VIOLATIONS])
        more = one["violations_total"] - min(len(one["violations"]), SHOWN_VIOLATIONS)
        tail = f'<p class="note">and {more:,} more, in verdicts.json</p>' if more else ""
        blocks.append(f'<section class="broken" id="violation-{number}"><h2>{text(one["guarantee"])} · {text(one["name"])}</h2>'
                      f'<p class="lead">Promised: {text(one["promise"])}. Found {one["violations_total"]:,} times otherwise.</p>{shown}{tail}</section>')
    return "".join(blocks)


def violation(events, item):
    marked = set(item["events"])
    rows = []
    last = None
    for index in context(events, item["events"]):
        if last is not None and index > last + 1:
            rows.append('<tr class="gap"><td colspan="5">⋯</td></tr>')
        rows.append(event_row(events[index], index in marked))
        last = index
    return (f'<details open><summary><b>{text(item["rule"])}</b> {text(item["message"])}</summary><div class="scroll"><table class="events">'
            f'<thead><tr><th>#</th><th>time</th><th>who, where</th><th>what</th><th>value</th></tr></thead><tbody>{"".join(rows)}</tbody>'
            f'</table></div></details>')


def context(events, indices):
    """The events that show it, the last and next few of the same connections, and the faults around them."""
    chosen = {index for index in indices if index < len(events)}
    for index in list(chosen):
        conn = events[index].get("conn")
        for step in (-1, 1):
            at, found = index + step, 0
            while 0 <= at < len(events) and found < CONTEXT_EVENTS // 2 and abs(at - index) < 500:
                if (conn is not None and events[at].get("conn") == conn) or events[at]["f"] == "fault":
                    chosen.add(at)
                    found += 1
                at += step
    return sorted(chosen)


def event_row(event, marked):
    who = event.get("client") or event["process"]
    where = " @ ".join(str(part) for part in (who, event.get("node")) if part)
    conn = f" #{event['conn']}" if event.get("conn") else ""
    value = " ".join(f"{key}={plain_value(one)}" for key, one in (event["value"] or {}).items() if one not in (None, False, [], {}))
    error = f' <span class="bad-text">{text(event["error"])}</span>' if event.get("error") else ""
    return (f'<tr class="{"marked" if marked else ""}"><td class="num">{event["index"]}</td><td class="num">{seconds(event["time"])}</td>'
            f'<td>{text(where)}{text(conn)}</td><td><span class="type {event["type"]}">{text(event["type"])}</span> {text(event["f"])}</td>'
            f'<td class="value">{text(value[:300])}{error}</td></tr>')


def plain_value(value):
    return value if isinstance(value, (str, int, float)) else json.dumps(value)


# ---- the page

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><main>
{body}
</main><script>{script}</script></body></html>
"""

SCRIPT = """
document.querySelectorAll('pre.command').forEach(function (block) {
  block.title = 'click to select';
  block.addEventListener('click', function () { getSelection().selectAllChildren(block); });
});
"""

STYLE = """
:root { --paper: #fbfbfa; --card: #ffffff; --ink: #1d2129; --soft: #646b78; --rule: #e4e5e8; --good: #1a7f4b; --good-bg: #e3f4ea;
  --bad: #b3261e; --bad-bg: #fbe6e4; --warn: #8a5a00; --warn-bg: #fdf1d8; --none-bg: #eeeff1; --ok: #3b7dd8; --unknown: #c9a227;
  --line: #16324f; --p50: #16324f; --p99: #c2571a; --net: #7a4fc4; --proc: #c2453a; --disk: #1c8079; --down: #d9dbe0; --follower: #b9cbe6; --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media (prefers-color-scheme: dark) { :root { --paper: #14161a; --card: #1c1f25; --ink: #e6e8ec; --soft: #9aa1ad; --rule: #2e323a;
  --good: #5fcf93; --good-bg: #15382a; --bad: #ff8a80; --bad-bg: #42201e; --warn: #f0c060; --warn-bg: #3d3014; --none-bg: #2a2d34;
  --ok: #5b96e8; --unknown: #d8b544; --line: #cfe0f5; --p50: #cfe0f5; --p99: #f09a5e; --net: #a988e8; --proc: #ef7d72; --disk: #4cbdb4;
  --down: #33373f; --follower: #3d5272; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
header { margin-bottom: 28px; }
.brand { margin: 0; color: var(--soft); font-size: 13px; letter-spacing: .04em; text-transform: uppercase; }
h1 { margin: 2px 0 4px; font-size: 28px; line-height: 1.2; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 0 0 12px; font-size: 18px; }
p { margin: 0; }
.what { color: var(--soft); overflow-wrap: anywhere; } .what b { color: var(--ink); font-weight: 600; }
.verdict { display: flex; align-items: center; gap: 10px; margin: 16px 0; padding: 12px 16px; border-radius: 8px; font-size: 17px; font-weight: 600; }
.verdict .dot { width: 11px; height: 11px; border-radius: 50%; background: currentColor; flex: none; }
.good.verdict, .pill.good { background: var(--good-bg); color: var(--good); }
.bad.verdict, .pill.bad { background: var(--bad-bg); color: var(--bad); }
.warn.verdict, .pill.warn { background: var(--warn-bg); color: var(--warn); }
.pill.none { background: var(--none-bg); color: var(--soft); }
.good-text { color: var(--good); font-weight: 600; } .bad-text { color: var(--bad); font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(104px, 1fr)); gap: 1px; margin: 0; background: var(--rule); border: 1px solid var(--rule); border-radius: 8px; overflow: hidden; }
.tile { background: var(--card); padding: 10px 14px; }
.tile dt { color: var(--soft); font-size: 12px; } .tile dd { margin: 0; font-size: 19px; font-weight: 600; font-variant-numeric: tabular-nums; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 20px; margin-top: 18px; }
section.broken { border-left: 4px solid var(--bad); }
.lead { color: var(--soft); margin-bottom: 12px; } .note { color: var(--soft); font-size: 13px; }
.summary { display: inline-block; margin-right: 20px; color: var(--ink); font-size: 13px; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } .tall { max-height: 560px; overflow-y: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: 12.5px; padding: 4px 12px 6px 0; border-bottom: 1px solid var(--rule); white-space: nowrap; }
.tall th { position: sticky; top: 0; background: var(--card); z-index: 1; }
td { padding: 7px 12px 7px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
tbody tr:last-child td { border-bottom: 0; }
td p { color: var(--soft); font-size: 13px; }
.num { font-variant-numeric: tabular-nums; white-space: nowrap; } .tall td:nth-child(2) { min-width: 170px; }
td.g { font-weight: 600; white-space: nowrap; } td.g span { display: block; font-weight: 400; font-size: 12px; color: var(--soft); }
.guarantees td:nth-child(2) { min-width: 250px; } .guarantees td.num { font-size: 13px; color: var(--soft); min-width: 220px; white-space: normal; overflow-wrap: anywhere; }
.pill { display: inline-block; padding: 1px 10px; border-radius: 99px; font-size: 13px; font-weight: 600; white-space: nowrap; }
a { color: var(--ok); }
figure { margin: 0 0 20px; } figure:last-child { margin-bottom: 0; }
figcaption { margin-bottom: 6px; } figcaption span { color: var(--soft); font-size: 13px; }
.legend { display: inline-flex; flex-wrap: wrap; gap: 2px 14px; margin-left: 14px; } .legend span { display: inline-flex; align-items: center; gap: 5px; color: var(--ink); font-size: 12.5px; }
.legend i { width: 11px; height: 11px; border-radius: 2px; }
i.ok { background: var(--ok); } i.fail { background: var(--bad); } i.info { background: var(--unknown); } i.dot { background: var(--ok); border-radius: 50%; width: 6px; height: 6px; }
i.line, i.p50, i.p99 { height: 3px; width: 16px; } i.line { background: var(--line); } i.p50 { background: var(--p50); } i.p99 { background: var(--p99); }
i.net { background: var(--net); } i.proc { background: var(--proc); } i.disk { background: var(--disk); }
i.leader { background: var(--good); } i.follower { background: var(--follower); } i.unready { background: var(--unknown); } i.down { background: var(--down); }
svg { display: block; width: 100%; min-width: 640px; height: auto; font-size: 11.5px; }
.tick { fill: var(--soft); font-variant-numeric: tabular-nums; } .fault { fill: var(--ink); font-size: 11.5px; }
.grid { stroke: var(--rule); stroke-width: 1; }
.band { opacity: .13; } .band.net, .faultbar.net { fill: var(--net); } .band.proc, .faultbar.proc { fill: var(--proc); } .band.disk, .faultbar.disk { fill: var(--disk); }
.faultbar.dim { opacity: .35; }
.leadermark { stroke: var(--good); stroke-width: 1; stroke-dasharray: 2 3; } .leadername { fill: var(--good); font-size: 11px; }
.bar.ok { fill: var(--ok); } .bar.fail { fill: var(--bad); } .bar.info { fill: var(--unknown); }
.line, .p50, .p99 { fill: none; stroke-width: 1.4; stroke-linejoin: round; } .line { stroke: var(--line); opacity: .75; } .p50 { stroke: var(--p50); } .p99 { stroke: var(--p99); }
.dots { stroke: var(--ok); stroke-width: 2.6; stroke-linecap: round; fill: none; opacity: .4; }
.state.leader { fill: var(--good); } .state.follower { fill: var(--follower); } .state.unready { fill: var(--unknown); } .state.down { fill: var(--down); }
.goal { color: var(--soft); } .meter { display: block; width: 88px; height: 4px; border-radius: 2px; margin-top: 4px; background: linear-gradient(90deg, var(--rule) 50%, transparent 50%), var(--none-bg); overflow: hidden; }
.meter i { display: block; height: 100%; border-radius: 2px; } .meter i.good { background: var(--good); } .meter i.bad { background: var(--bad); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; margin: 16px 0 0; font-size: 13px; } .facts dt { color: var(--soft); } .facts dd { margin: 0; overflow-wrap: anywhere; }
pre.command { margin: 0; padding: 12px 14px; border-radius: 8px; background: var(--none-bg); font: 13.5px/1.5 var(--mono); overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
details { margin-bottom: 14px; } summary { cursor: pointer; margin-bottom: 6px; overflow-wrap: anywhere; }
.events { font-size: 12.5px; } .events td { padding: 3px 12px 3px 0; white-space: nowrap; } .events .value { font-family: var(--mono); font-size: 12px; white-space: normal; min-width: 320px; overflow-wrap: anywhere; }
.events tr.marked td { background: var(--warn-bg); } .events tr.marked td:first-child { box-shadow: inset 3px 0 var(--warn); padding-left: 8px; } .events .gap td { color: var(--soft); text-align: center; padding: 0; }
.type { font-weight: 600; } .type.ok { color: var(--good); } .type.fail { color: var(--bad); } .type.info { color: var(--warn); } .type.invoke { color: var(--ok); }
@media (max-width: 640px) { main { padding: 18px 12px 40px; } section { padding: 14px; } h1 { font-size: 23px; } .guarantees thead { display: none; }
  .guarantees tr { display: grid; grid-template-columns: 1fr auto; gap: 2px 10px; padding: 10px 0; border-bottom: 1px solid var(--rule); } .guarantees td { border: 0; padding: 0; }
  .guarantees td.g { grid-column: 1; display: flex; gap: 8px; align-items: baseline; } .guarantees td.mark { grid-row: 1; grid-column: 2; } .guarantees td:nth-child(2), .guarantees td.num { grid-column: 1 / -1; min-width: 0; } .legend { display: flex; margin: 2px 0 0; } .facts { grid-template-columns: 1fr; gap: 0; } .facts dd { margin-bottom: 6px; } }
@media print { body { background: #fff; } section { break-inside: avoid; } .tall { max-height: none; } }
"""
