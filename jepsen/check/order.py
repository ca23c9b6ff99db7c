"""G5: one total order of all QoS 1 and 2 messages, which every session sees a part of.

check_publisher_order  first deliveries of one publisher's messages come in the order in which it sent them
check_total_order      the graph of "was delivered first" (in any session) and "was acknowledged before the other was sent"
                       has no cycle
check_redelivery       after a reconnect what is sent again comes in its original order, and before what is new

A QoS 1 message that its publisher sent twice may stand in the log twice; only a session that was subscribed all the while, from
before it was first sent, must see the first, and not even that if it may have expired. The order across the members of a group is not promised.
"""

from .model import matches
from .queue import is_group, own_sessions
from .verdict import Verdict


def first_deliveries(model, session):
    """(delivery, publish) of each message, in the order in which the session first got them; those left out whose place
    says nothing."""
    seen, found = set(), []
    patterns = [one for one in session.subscriptions if not is_group(one.pattern)]
    for delivery in session.deliveries:
        publish = model.publishes.get(delivery.mid)
        if publish is None or not delivery.qos or delivery.retain or delivery.mid in seen:
            continue
        seen.add(delivery.mid)
        if _tells(publish, patterns):
            found.append((delivery, publish))
    return found


def _tells(publish, subscriptions):
    if publish.qos == 1 and publish.sends > 1:
        return publish.expiry is None and any(
            one.granted < publish.invoked and publish.returned < one.ending and matches(one.pattern, publish.topic)
            for one in subscriptions)
    return any(matches(one.pattern, publish.topic) for one in subscriptions)


def check_publisher_order(model):
    verdict = Verdict("order of a publisher", "G5", "first deliveries come in the order in which their publisher sent them")
    for session in own_sessions(model):
        last = {}
        for delivery, publish in first_deliveries(model, session):
            verdict.judged()
            verdict.count("deliveries")
            before = last.get(publish.publisher)
            if before and before[1].index > publish.index:
                verdict.violate("order", f"{session.id} got {before[1].mid} before {publish.mid}, which "
                                f"{publish.publisher} sent earlier", publish.index, before[1].index, before[0].index,
                                delivery.index)
            else:
                last[publish.publisher] = delivery, publish
    return verdict


# ---- total order

def check_total_order(model):
    verdict = Verdict("one total order", "G5", "all sessions see parts of one order, which agrees with real time")
    graph = OrderGraph()
    for session in own_sessions(model):
        sequence = first_deliveries(model, session)
        for (before, earlier), (after, later) in zip(sequence, sequence[1:]):
            graph.edge(graph.node(earlier), graph.node(later), (session.id, before.index, after.index))
    if not graph.names:
        return verdict
    verdict.judged()
    graph.add_real_time()
    verdict.count("messages", len(graph.publishes))
    verdict.count("edges", sum(len(out) for out in graph.out))
    for component in cyclic_components(graph.out):
        cycle = shortest_cycle(graph.out, component)
        steps = [graph.describe(a, b) for a, b in zip(cycle, cycle[1:] + cycle[:1])]
        events = [index for a, b in zip(cycle, cycle[1:] + cycle[:1]) for index in graph.events(a, b)]
        verdict.violate("cycle", "; ".join(step for step in steps if step), *events[:8])
    return verdict


class OrderGraph:
    """Nodes 0.. are publishes, and instants at which one was acknowledged; edges say "comes before"."""

    def __init__(self):
        self.names, self.publishes, self.out, self.why = {}, [], [], {}

    def node(self, publish):
        if publish.mid not in self.names:
            self.names[publish.mid] = len(self.out)
            self.publishes.append(publish)
            self.out.append([])
        return self.names[publish.mid]

    def edge(self, a, b, why=None):
        self.out[a].append(b)
        if why:
            self.why.setdefault((a, b), why)

    def add_real_time(self):
        """acknowledged(p) < sent(q) puts p before q: through a chain of instants, which needs a few edges per message instead of
        one per pair."""
        moments = sorted([(one.returned, 0, one) for one in self.publishes if one.outcome == "ok"] +
                         [(one.invoked, 1, one) for one in self.publishes], key=lambda moment: moment[:2])
        instant = None
        for _, kind, publish in moments:
            if kind == 0:
                self.out.append([])
                new = len(self.out) - 1
                if instant is not None:
                    self.out[instant].append(new)
                self.out[self.node(publish)].append(new)
                instant = new
            elif instant is not None:
                self.out[instant].append(self.node(publish))

    def describe(self, a, b):
        if (a, b) in self.why:
            return f"{self.why[a, b][0]} got {self.publishes[a].mid} before {self.publishes[b].mid}"
        if a < len(self.publishes):
            return f"{self.publishes[a].mid} was acknowledged, then"
        return f"{self.publishes[b].mid} was sent" if b < len(self.publishes) else ""

    def events(self, a, b):
        if (a, b) in self.why:
            return self.why[a, b][1:]
        if a < len(self.publishes):
            return [self.publishes[a].end_index]
        return [self.publishes[b].index] if b < len(self.publishes) else []


def cyclic_components(out):
    """Tarjan's strongly connected components of more than one node, without recursion."""
    number, low, on_stack = [0] * len(out), [0] * len(out), [False] * len(out)
    stack, counter, found = [], 0, []
    for root in range(len(out)):
        if number[root]:
            continue
        counter += 1
        number[root] = low[root] = counter
        stack.append(root)
        on_stack[root] = True
        work = [(root, iter(out[root]))]
        while work:
            node, edges = work[-1]
            for other in edges:
                if not number[other]:
                    counter += 1
                    number[other] = low[other] = counter
                    stack.append(other)
                    on_stack[other] = True
                    work.append((other, iter(out[other])))
                    break
                if on_stack[other]:
                    low[node] = min(low[node], number[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == number[node]:
                    component = _pop_component(stack, on_stack, node)
                    if len(component) > 1:
                        found.append(component)
    return found


def _pop_component(stack, on_stack, root):
    component = []
    while True:
        node = stack.pop()
        on_stack[node] = False
        component.append(node)
        if node == root:
            return component


def shortest_cycle(out, component):
    """A shortest cycle through one node of the component (breadth first)."""
    inside, start = set(component), min(component)
    came_from, frontier = {start: None}, [start]
    while frontier:
        following = []
        for node in frontier:
            for other in out[node]:
                if other == start:
                    cycle = []
                    while node is not None:
                        cycle.append(node)
                        node = came_from[node]
                    return cycle[::-1]
                if other in inside and other not in came_from:
                    came_from[other] = node
                    following.append(other)
        frontier = following
    return component


# ---- redelivery

def check_redelivery(model):
    verdict = Verdict("redelivery in order", "G5", "what is sent again after a reconnect keeps its order and comes first")
    for session in own_sessions(model):
        rank, conns = {}, {}
        for delivery in session.deliveries:
            publish = model.publishes.get(delivery.mid)
            if publish is None or delivery.retain or not delivery.qos or (publish.qos == 1 and publish.sends > 1):
                continue
            if any(is_group(one.pattern) for one in session.subscriptions):
                continue
            verdict.judged()
            known = delivery.mid in rank
            if not known:
                rank[delivery.mid] = len(rank)
            last = conns.get(delivery.conn)
            if known:
                verdict.count("sent_again")
            if last is not None and rank[last.mid] > rank[delivery.mid]:
                verdict.violate("redelivery", f"connection {delivery.conn} of {session.id}: {last.mid} came before "
                                f"{delivery.mid}, which the session had got earlier", last.index, delivery.index)
            conns[delivery.conn] = delivery
    return verdict
