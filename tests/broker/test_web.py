"""MQTT over WebSocket with what people use: MQTT.js in Node, and a page in a real browser, plain and over TLS."""

import http.server
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import urllib.parse

import pytest

from doors import Door

HERE = os.path.dirname(os.path.abspath(__file__))
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def site():
    """A web server that serves the page, and hands on what the page reports."""
    results = queue.Queue()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_POST(self):
            results.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *arguments: Handler(*arguments, directory=f"{HERE}/clients"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.results, server.origin = results, f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def door(certificates, site):
    """0 ws, 1 wss, 2 ws for our site alone, at one path, 3 ws for another site alone."""
    server = f"certificate={certificates.path('clients', 'server.pem')} key={certificates.path('clients', 'server.key')}"
    made = Door("ws:127.0.0.1:0 anonymous=true", f"wss:127.0.0.1:0 anonymous=true {server}",
                f"ws:127.0.0.1:0 anonymous=true ws_path=/mqtt ws_origins=https://example.net+{site.origin}",
                "ws:127.0.0.1:0 anonymous=true ws_origins=https://example.net")
    yield made
    made.down()


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_mqtt_js_talks_over_websocket(door, certificates, scheme, version):
    if not shutil.which("nodejs") or not os.path.isdir("/usr/share/nodejs/mqtt"):
        pytest.skip("nodejs and node-mqtt are not installed")
    port = door.ports()[0 if scheme == "ws" else 1]
    arguments = [f"{scheme}://localhost:{port}/mqtt", str(version)]
    if scheme == "wss":
        arguments.append(certificates.path("clients", "ca.pem"))
    done = subprocess.run(["nodejs", f"{HERE}/clients/web_mqtt.js", *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60,
                          env=dict(os.environ, NODE_PATH="/usr/share/nodejs", NODE_NO_WARNINGS="1"))
    assert done.stdout.strip() == "ok", done.stdout


def test_a_page_in_a_browser_talks_over_websocket(door, site):
    if not BROWSER:
        pytest.skip("no Chromium: deploy/dependencies browser")
    plain, encrypted, ours, others = door.ports()
    urls = [f"ws://127.0.0.1:{plain}/", f"wss://127.0.0.1:{encrypted}/mqtt", f"ws://127.0.0.1:{ours}/mqtt",
            f"ws://127.0.0.1:{ours}/elsewhere", f"ws://127.0.0.1:{others}/mqtt"]
    page = f"{site.origin}/page.html?" + urllib.parse.urlencode([("url", url) for url in urls])
    with tempfile.TemporaryDirectory(prefix="coterie-browser-", ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                                    "--no-first-run", "--ignore-certificate-errors", "--no-proxy-server",
                                    f"--user-data-dir={profile}", page],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            results = site.results.get(timeout=60)
        except queue.Empty:
            pytest.fail(f"the page has not reported; the browser: {browser.poll()}")
        finally:
            browser.terminate()
            browser.wait(30)
    assert results == ["ok mqtt", "ok mqtt", "ok mqtt", "error", "error"]
