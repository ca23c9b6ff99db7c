"""Workloads: what the clients of a run do. To add one: a module with a class `Workload` (base.py), and a row in WORKLOADS."""

WORKLOADS = {
    "queue": "QoS 1 and 2 messages to persistent sessions that roam between the nodes",
    "shared": "groups of shared subscriptions whose members come and go",
    "register": "retained messages, written and read at all nodes; some topics are cleared as well",
    "wills": "clients that end well or badly, with and without a will delay",
    "takeover": "several devices fight for one client id",
    "expiry": "messages that expire, for clients that are here and clients that come late",
    "storm": "many clients that all connect at once, again and again",
    "fleet": "all of the above at a lower rate, beside ordinary client software",
}
