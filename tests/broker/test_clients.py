"""Ordinary clients against the cluster: mosquitto's tools and paho."""

import shutil
import subprocess
import threading

import paho.mqtt.client as paho
import pytest


def make_paho(name, clean=True):
    try:
        return paho.Client(paho.CallbackAPIVersion.VERSION1, client_id=name, clean_session=clean)
    except AttributeError:
        return paho.Client(client_id=name, clean_session=clean)


@pytest.mark.skipif(not shutil.which("mosquitto_sub"), reason="mosquitto-clients is not installed")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_mosquitto_pub_and_sub(cluster, unique, qos, version):
    topic = f"{unique}/mosquitto"
    subscriber = subprocess.Popen(
        ["stdbuf", "-oL", "mosquitto_sub", "-p", str(cluster.ports[1]), "-t", f"{unique}/#", "-q", str(qos), "-C", "2", "-W", "20", "-v",
         "-V", version, "-d"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in subscriber.stdout:
        lines.append(line)
        if "SUBACK" in line or "Subscribed" in line:
            break
    for text in ("one", "two"):
        subprocess.run(["mosquitto_pub", "-p", str(cluster.ports[2]), "-t", topic, "-m", text, "-q", str(qos), "-V",
                        version], check=True, timeout=20)
    lines += subscriber.stdout.readlines()
    assert subscriber.wait(30) == 0, lines
    got = [line.strip() for line in lines if line.startswith(topic)]
    assert got == [f"{topic} one", f"{topic} two"], lines


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_paho_python_publishes_and_subscribes_across_nodes(cluster, unique, qos):
    arrived, subscribed = threading.Event(), threading.Event()
    got = []
    subscriber = make_paho(f"{unique}-s")
    subscriber.on_connect = lambda client, *rest: client.subscribe(unique, qos)
    subscriber.on_subscribe = lambda *rest: subscribed.set()

    def on_message(client, data, message):
        got.append(message.payload)
        if len(got) == 50:
            arrived.set()

    subscriber.on_message = on_message
    subscriber.connect("127.0.0.1", cluster.ports[1])
    subscriber.loop_start()
    publisher = make_paho(f"{unique}-p")
    publisher.connect("127.0.0.1", cluster.ports[3])
    publisher.loop_start()
    try:
        assert subscribed.wait(20)
        for number in range(50):
            publisher.publish(unique, str(number), qos)
        assert arrived.wait(30), len(got)
        assert got == [str(number).encode() for number in range(50)]
    finally:
        for one in (publisher, subscriber):
            one.disconnect()
            one.loop_stop()
