"""One publish at QoS 1 over TLS by Eclipse Paho's Python client: paho_tls.py PORT 1.2|1.3 CA [CERTIFICATE KEY]

Exit status 0: it was acknowledged. 1: it was not; the last line says why.
"""

import ssl
import sys

import paho.mqtt.client as paho

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def trusting(version, ca, pair):
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    if pair:
        context.load_cert_chain(*pair)
    return context


def main(port, version, ca, *pair):
    acknowledged = []
    client = paho.Client()
    client.tls_set_context(trusting(version, ca, pair))
    client.on_connect = lambda client, *_: client.publish("t", "m", qos=1)
    client.on_publish = lambda *_: acknowledged.append(True)
    try:
        code = client.connect("localhost", int(port))
    except OSError as error:
        sys.exit(f"not connected: {error}")
    while code == paho.MQTT_ERR_SUCCESS and not acknowledged:
        code = client.loop(1)
    if not acknowledged:
        sys.exit(f"lost: {paho.error_string(code)}")
    client.disconnect()


if __name__ == "__main__":
    main(*sys.argv[1:])
