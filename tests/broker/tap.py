"""A pytest plugin that prints one line per test, as it ends: "ok NAME" or "not ok NAME" and why."""

import sys

import pytest


def pytest_addoption(parser):
    """What the terminal plugin, which this one replaces, would have defined: failed asserts ask for it."""
    parser.addoption("--verbose", action="count", default=0, dest="verbose")


def _print(line):
    print(line, file=sys.__stdout__, flush=True)


def _name(report):
    return report.nodeid.replace("::", " ").replace(".py", "")


_last_failure = []


@pytest.hookimpl
def pytest_runtest_logreport(report):
    if report.when == "call" and report.passed:
        _print(f"ok {_name(report)}")
    elif report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        _print(f"ok {_name(report)} # SKIP {reason}")
    elif report.failed:
        _print(f"not ok {_name(report)}" + ("" if report.when == "call" else f" ({report.when})"))
        if _last_failure == [report.longreprtext]:    # a fixture of a whole module, most likely
            _print("#   as the one before")
            return
        _last_failure[:] = [report.longreprtext]
        for line in report.longreprtext.splitlines()[-40:]:
            _print(f"#   {line}")
        for title, content in report.sections:
            for line in content.splitlines()[-15:]:
                _print(f"#   [{title}] {line}")


@pytest.hookimpl
def pytest_collectreport(report):
    if report.failed:
        _print(f"not ok {report.nodeid} (collection)")
        for line in str(report.longrepr).splitlines()[-20:]:
            _print(f"#   {line}")
