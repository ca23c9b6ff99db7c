"""The history keeps Jepsen's rules, and other people's tools can read it."""

import csv
import json
import os
import re
import subprocess
import sys

import pytest
from story import Story, calm

import history
import report
from check import judge
from check.model import matches


def test_a_process_whose_operation_ended_unknown_is_not_used_again():
    story = Story()
    story.connect("c")
    lost = story.publish("c", answer="later")
    story.acknowledge(lost, answer="info")
    for _ in range(5):
        story.publish("c")
    assert [event["type"] for event in story.recorder.events if event["process"] == lost["process"]] == ["invoke", "ok", "invoke", "info"]


def test_a_process_has_one_operation_at_a_time_however_many_are_under_way():
    story = Story()
    story.connect("c")
    sent = [story.publish("c", answer="later") for _ in range(4)]
    assert len({one["process"] for one in sent}) == 4
    for one in sent:
        story.acknowledge(one)
    assert len(history.completions(story.recorder.events)) == 5


def test_two_operations_of_one_process_at_once_are_refused():
    event = {"process": 1, "type": "invoke", "f": "publish", "value": {}, "index": 0, "time": 0}
    with pytest.raises(ValueError):
        history.completions([event, dict(event, index=1)])


def test_a_history_file_reads_back_as_it_was_and_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "history.jsonl"
    recorder = history.Recorder(str(path))
    operation = recorder.invoke("c", "publish", {"mid": "c-1"}, "n1", 1)
    recorder.ok(operation, {"mid": "c-1"})
    recorder.close()
    assert history.load(path) == recorder.events
    path.write_text(path.read_text() + '{"process": 1, "ty')
    assert history.load(path) == recorder.events


def test_edn_has_keywords_for_plain_words_and_strings_for_the_rest():
    assert history.edn({"mid": "a-1", "dup": False, "values": {"t/1": None}, "cut": [["n1", "n2"]], "session_present": True}) == \
        '{:mid "a-1", :dup false, :values {"t/1" nil}, :cut [["n1" "n2"]], :session-present true}'


TOKEN = re.compile(r"""[\s,]*([{}\[\]] | :[A-Za-z][A-Za-z0-9*+!_?./-]* | "(?:[^"\\]|\\[trn"\\]|\\u[0-9a-f]{4})*" |
                   (?:-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)? | nil | true | false)(?=[\s,}\]]))""", re.VERBOSE)
CLOSING = {"{": "}", "[": "]"}


def read_edn(text):
    """By the book (github.com/edn-format/edn), of maps, vectors, keywords, strings, numbers and nil; anything else is an error."""
    tokens, at = [], 0
    while at < len(text.rstrip()):
        found = TOKEN.match(text, at)
        assert found, text[at:at + 40]
        tokens.append(found[1])
        at = found.end()
    return read_form(tokens)


def read_form(tokens):
    token = tokens.pop(0)
    if token in CLOSING:
        items = []
        while tokens[0] != CLOSING[token]:
            items.append(read_form(tokens))
        tokens.pop(0)
        if token == "[":
            return items
        keys = items[::2]
        assert len(items) % 2 == 0 and len(set(keys)) == len(keys)
        return dict(zip(keys, items[1::2]))
    constants = {"nil": None, "true": True, "false": False}
    return constants[token] if token in constants else token if token[0] == ":" else json.loads(token)


def test_edn_is_read_by_a_strict_reader():
    value = {"topic/1": [1, -2.5, None], "text": 'a "quoted" \\ line\nend\tä \x01', "nested": {"x": {}, "y": []}}
    read = read_edn(history.edn(value))
    assert read == {"topic/1": [1, -2.5, None], ":text": value["text"], ":nested": {":x": {}, ":y": []}}
    for event in calm().recorder.events:
        assert read_edn(history.edn_event(dict(event, index=1)))[":f"] == ":" + event["f"]


def test_in_edn_every_client_event_belongs_to_an_operation():
    story = calm().fault("kill-leader", "start", nodes=["n1"])
    operations = list(history.as_operations(story.recorder.events))
    assert [one["index"] for one in operations] == list(range(len(operations)))
    assert len(history.completions(operations)) == sum(1 for one in operations if one["type"] == "invoke")
    lines = [history.edn_event(one) for one in operations]
    assert any(line.startswith("{:index") and ":process :nemesis" in line and ":f :fault" in line for line in lines)


def test_the_queue_history_has_enqueue_and_dequeue():
    story = calm()
    story.publish("pub", answer="fail")
    operations = history.queue_history(story.recorder.events, "sub")
    assert [(one["type"], one["f"], one["value"]) for one in operations] == [
        ("invoke", "enqueue", "pub-1"), ("ok", "enqueue", "pub-1"), ("invoke", "dequeue", None), ("ok", "dequeue", "pub-1"),
        ("invoke", "enqueue", "pub-2"), ("fail", "enqueue", "pub-2")]


def test_the_register_history_of_a_topic_has_reads_and_writes(tmp_path):
    story = Story()
    story.connect("w")
    story.connect("r")
    mid = story.publish("w", topic="a", retain=True)
    story.publish("w", topic="b", retain=True, answer="info")
    story.read("r", {"a": mid, "c": None})
    operations = history.register_history(story.recorder.events, "a")
    assert [(one["type"], one["f"], one["value"]) for one in operations] == [
        ("invoke", "write", mid), ("ok", "write", mid), ("invoke", "read", None), ("ok", "read", mid)]
    history.write_operations(operations, tmp_path / "a.edn")
    assert (tmp_path / "a.edn").read_text().startswith("{:process ")


def test_the_csv_has_a_row_for_each_operation(tmp_path):
    story = calm()
    story.publish("pub", answer="later")
    history.write_csv(story.recorder.events, tmp_path / "ops.csv")
    with open(tmp_path / "ops.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["type"] for row in rows] == ["ok", "ok", "ok", "ok", "info"] and rows[-1]["seconds"] == ""


@pytest.mark.parametrize("pattern, topic, expected", [
    ("a/b", "a/b", True), ("a/+", "a/b", True), ("a/+", "a", False), ("a/#", "a", True), ("#", "a/b/c", True), ("+", "/a", False),
    ("+/+", "/a", True), ("#", "$SYS/x", False), ("$SYS/#", "$SYS/x", True), ("a/b", "a/b/c", False), ("a/+/c", "a//c", True)])
def test_filters_match_as_the_standard_says(pattern, topic, expected):
    assert matches(pattern, topic) == expected


def broken_run():
    story = calm()
    story.fault("kill-leader", "start", nodes=["n1"], goals={"interruption": 1.0}, describe="the <leader> is killed")
    story.publish("pub", topic="t")
    story.fault("kill-leader", "started").fault("kill-leader", "stop").fault("kill-leader", "stopped")
    story.note("status", "n1", role="leader", term=2, ready=True, applied_index=3, state_hash="aa")
    return story.drain("sub").recorder.events


def test_the_report_is_one_file_that_needs_no_other_and_escapes_what_it_quotes(tmp_path):
    events, facts = broken_run(), {"nodes": ["n1", "n2", "n3"], "seed": 4, "workload": "<b>", "repeat": "jepsen/run --seed 4"}
    verdicts = judge(events, facts)
    report.write(tmp_path / "report.html", events, verdicts, facts)
    page = (tmp_path / "report.html").read_text()
    assert "jepsen/run --seed 4" in page and "found a broken guarantee" in page and "never reached sub" in page
    assert "http" not in page and "src=" not in page and "@import" not in page and "<b>&lt;b&gt;</b>" in page
    assert "the &lt;leader&gt; is killed" in page
    json.dumps(verdicts)


def test_a_recorded_history_can_be_exported(tmp_path):
    recorder = history.Recorder(str(tmp_path / "history.jsonl"))
    for event in broken_run():
        recorder.add(dict(event))
    recorder.close()
    program = os.path.join(os.path.dirname(history.__file__), "export")
    subprocess.run([sys.executable, program, str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
    assert {"history.edn", "operations.csv", "queue", "register"} == set(os.listdir(tmp_path / "export"))
    assert (tmp_path / "export" / "queue" / "sub.edn").read_text().count(":f :enqueue") == 4


def test_the_report_of_an_empty_history_is_a_page_too():
    assert "</html>" in report.render([], judge([], {}), {})
