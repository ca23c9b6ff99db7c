"""Every path of the admin HTTP against everybody who might ask: with and without TLS, tokens and manners."""

import re
import ssl

import pytest

from operators import JSON, READER, TOKENS, WRITE_TOKEN, WRITER, Operated, secret_file

OPEN, READ, NONE = "anybody on this machine", "who may read", None
# path: who may GET it, and whether it can be changed
ROUTES = {
    "/": (OPEN, False), "/livez": (OPEN, False), "/readyz": (OPEN, False), "/status": (OPEN, False), "/metrics": (OPEN, False),
    "/users": (READ, True), "/roles": (READ, True), "/bans": (READ, True), "/audit": (READ, False), "/reload": (NONE, True),
    "/members": (NONE, True),
}
WRONG_CREDENTIALS = ["Bearer wrong-0123456789abcdef", "Bearer ", "Bearer", "", f"Basic {WRITE_TOKEN}", WRITE_TOKEN, f"Bearer {WRITE_TOKEN}x",
                     f"Bearer {WRITE_TOKEN[:-1]}", f"Bearer {WRITE_TOKEN.upper()}", "Bearer " + "a" * 4000]
GETS = [path for path, (readers, _) in ROUTES.items() if readers]
POSTS = [path for path, (_, changes) in ROUTES.items() if changes]
NOT_CHANGED = [path for path in ROUTES if path not in POSTS]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """On this machine, with tokens."""
    place = tmp_path_factory.mktemp("plain")
    made = Operated(place, COTERIE_ADMIN_TOKEN_FILE=secret_file(place / "tokens", TOKENS))
    yield made
    made.down()


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory, certificates):
    """For everybody, with TLS and tokens."""
    place = tmp_path_factory.mktemp("tls")
    made = Operated(place, COTERIE_ADMIN_ADDRESS="0.0.0.0", COTERIE_ADMIN_TOKEN_FILE=secret_file(place / "tokens", TOKENS),
                    COTERIE_ADMIN_CERTIFICATE=certificates.path("clients", "server.pem"),
                    COTERIE_ADMIN_KEY=certificates.path("clients", "server.key"))
    made.context = ssl.create_default_context(cafile=certificates.path("clients", "ca.pem"))
    yield made
    made.down()


@pytest.fixture(params=["plain", "encrypted"])
def node(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def trusting(tmp_path_factory):
    """On this machine, without any configuration."""
    made = Operated(tmp_path_factory.mktemp("trusting"))
    yield made
    made.down()


def post(node, path, *headers, body=b"{}"):
    return node.ask("POST", path, {name: value for one in (JSON, *headers) for name, value in one.items()}, body)


def statuses(answers):
    return {path: answer.status for path, answer in answers.items()}


def all_are(status, paths):
    return dict.fromkeys(paths, status)


def test_this_table_has_every_path(node):
    listed = re.findall(r"^(/\S*) ", node.ask("GET", "/", READER).body.decode(), re.M)
    assert sorted(listed) == sorted(ROUTES)


# -- who asks --------------------------------------------------------------------------------------------------


def test_without_a_token_this_machine_may_look_at_its_health(plain):
    assert statuses({path: plain.ask("GET", path) for path in GETS}) == \
        {path: 200 if ROUTES[path][0] == OPEN else 401 for path in GETS}
    assert statuses({path: post(plain, path) for path in POSTS}) == all_are(401, POSTS)


def test_with_tls_nobody_gets_anything_without_a_token(encrypted):
    for method in ("GET", "POST", "HEAD", "PUT", "OPTIONS"):
        paths = [*ROUTES, "/nothing"]
        assert statuses({path: encrypted.ask(method, path, JSON) for path in paths}) == all_are(401, paths), method


@pytest.mark.parametrize("credentials", WRONG_CREDENTIALS, ids=range(len(WRONG_CREDENTIALS)))
def test_a_wrong_token_is_no_better_than_none(node, credentials):
    wrong = {"Authorization": credentials}
    assert statuses({path: node.ask("GET", path, wrong) for path in ROUTES}) == all_are(401, ROUTES)
    assert statuses({path: post(node, path, wrong) for path in POSTS}) == all_are(401, POSTS)


def test_a_token_is_not_taken_from_the_address(node):
    for query in (f"?token={WRITE_TOKEN}", f"?access_token={WRITE_TOKEN}", f"?Authorization=Bearer%20{WRITE_TOKEN}"):
        assert node.ask("GET", "/users" + query).status == 401
        assert post(node, "/users" + query).status == 401


def test_who_may_read_reads_everything_and_changes_nothing(node):
    assert statuses({path: node.ask("GET", path, READER) for path in GETS}) == all_are(200, GETS)
    assert statuses({path: post(node, path, READER) for path in POSTS}) == all_are(403, POSTS)
    assert node.change("/users", READER, do="remove", name="nobody").status == 403


def test_who_may_write_does_both(node):
    assert statuses({path: node.ask("GET", path, WRITER) for path in GETS}) == all_are(200, GETS)
    assert statuses({path: post(node, path, WRITER) for path in POSTS}) == {path: 200 if path == "/reload" else 400 for path in POSTS}
    assert node.change("/roles", WRITER, do="add", name="sensors").status == 200
    assert node.change("/roles", WRITER, do="remove", name="sensors").status == 200


def test_a_change_is_known_by_the_name_of_its_token(node):
    node.change("/roles", WRITER, do="add", name="named", actor="somebody else")
    node.change("/roles", WRITER, do="remove", name="named")
    changes = node.ask("GET", "/audit", READER).json()["changes"]
    assert [change["by"] for change in changes if change["what"].endswith("named")] == ["token:ann"] * 2
    assert "changed by token:ann: role add named" in node.log() and "somebody else" not in node.log()
    post(node, "/reload", WRITER)
    node.wait_log("event=reload-asked by=token:ann")


def test_without_tokens_this_machine_may_do_everything(trusting):
    assert statuses({path: trusting.ask("GET", path) for path in GETS}) == all_are(200, GETS)
    assert trusting.change("/roles", {}, do="add", name="r", actor="ann").status == 200
    assert trusting.change("/roles", {}, do="remove", name="r").status == 200
    assert trusting.ask("GET", "/audit").json()["changes"][-2]["by"] == "ann"


def test_a_file_without_tokens_lets_nobody_in_rather_than_everybody(tmp_path):
    empty = Operated(tmp_path, COTERIE_ADMIN_TOKEN_FILE=secret_file(tmp_path / "tokens", "# nobody yet\n"))
    try:
        assert statuses({path: post(empty, path) for path in POSTS}) == all_are(401, POSTS)
        assert empty.ask("GET", "/users").status == 401 and empty.ask("GET", "/readyz").status == 200
        assert empty.ask("GET", "/readyz", {"Authorization": "Bearer "}).status == 401
    finally:
        empty.down()


@pytest.mark.parametrize("actor", ["token:ann", "certificate:ann", "a\u001b[31m", "a" * 129])
def test_nobody_calls_itself_like_a_token(trusting, actor):
    for path, fields in (("/roles", {"do": "add", "name": "r"}), ("/reload", {})):
        answer = trusting.change(path, {}, actor=actor, **fields)
        assert answer.status == 400 and "actor" in answer.json()["error"]


# -- what is asked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "BREW"])
def test_other_methods_are_none(node, method):
    answers = {path: node.ask(method, path, {**WRITER, **JSON}, b"{}") for path in ROUTES}
    assert statuses(answers) == all_are(405, ROUTES)
    assert all("access-control-allow-origin" not in answer.headers for answer in answers.values())


def test_the_methods_that_there_are_are_told(node):
    assert node.ask("POST", "/status", {**WRITER, **JSON}, b"{}").headers["allow"] == "GET, HEAD"
    assert node.ask("GET", "/reload", WRITER).headers["allow"] == "POST"
    assert node.ask("PUT", "/users", WRITER).headers["allow"] == "GET, HEAD, POST"
    assert statuses({path: post(node, path, WRITER) for path in NOT_CHANGED}) == all_are(405, NOT_CHANGED)


TRICKS = ["//users", "/users/", "/./users", "/status/../users", "/livez/../users", "/..//users", "/users%00", "/users%00/livez", "/users;a", "/Users",
          "/%2fusers", "/users%20", "/livez%2f..%2fusers", "\\users", "users", "*", "http://localhost/users", "http://evil.example/users",
          "/users#", "/users\t", "/%", "/%zz", "/users%0d%0aX:y"]


@pytest.mark.parametrize("target", TRICKS)
def test_there_is_no_other_way_to_a_path(node, target):
    assert node.ask("GET", target).status in (400, 401, 404)
    assert post(node, target).status in (400, 401, 404)
    assert node.ask("GET", target, READER).status in ((200, 400, 404) if target.startswith(("/users%00", "/users#")) else (400, 404))
    assert post(node, target, READER).status in (400, 403, 404)


def test_a_path_that_is_escaped_is_the_same_path(node):
    assert node.ask("GET", "/%75sers", READER).status == 200
    assert node.ask("GET", "/%75sers").status == 401
    assert post(node, "/%75sers", READER).status == 403


# -- web pages -------------------------------------------------------------------------------------------------


PAGES = [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost"}, {"Content-Type": None},
         {"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"},
         {"Content-Type": "multipart/form-data; boundary=x"}, {"Content-Type": "text/plain; application/json"}]


@pytest.mark.parametrize("headers", PAGES, ids=str)
@pytest.mark.parametrize("who", ["writer", "this machine"])
def test_a_web_page_changes_nothing(plain, trusting, who, headers):
    node, credentials = (plain, WRITER) if who == "writer" else (trusting, {})
    assert statuses({path: post(node, path, credentials, headers) for path in POSTS}) == all_are(403, POSTS)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9883", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "localhost@evil",
                                  "0x7f000001"])
def test_a_name_that_was_made_to_point_here_is_not_answered(plain, trusting, host):
    for node, credentials in ((plain, WRITER), (trusting, {})):
        assert statuses({path: node.ask("GET", path, {**credentials, "Host": host}) for path in GETS}) == all_are(421, GETS)
        assert statuses({path: post(node, path, credentials, {"Host": host}) for path in POSTS}) == all_are(421, POSTS)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:9883", "[::1]:9883", "10.1.2.3"])
def test_names_of_this_machine_are_answered(trusting, host):
    assert trusting.ask("GET", "/users", {"Host": host}).status == 200


def test_without_a_host_only_http_1_0_is_answered(trusting):
    assert trusting.say(b"GET /livez HTTP/1.0\r\n\r\n").status == 200
    assert trusting.say(b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n").status == 400


def test_nothing_is_kept_or_guessed_by_a_browser(node):
    for path in GETS:
        headers = node.ask("GET", path, READER).headers
        assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"
        assert "html" not in headers["content-type"]


# -- how much --------------------------------------------------------------------------------------------------


def test_headers_have_an_end(node):
    for path in ROUTES:
        assert node.ask("GET", path, {**WRITER, "X-Long": "a" * 17000}).status in (0, 431)
        assert node.ask("GET", path + "?after=" + "a" * 17000, WRITER).status in (0, 414, 431)
    assert node.ask("GET", "/users", {**WRITER, **{f"X-{i}": "a" * 60 for i in range(400)}}).status in (0, 431)
    assert node.ask("GET", "/users", WRITER).status == 200


def test_a_body_that_is_too_large_is_refused(node):
    body = b" " * 65537
    assert statuses({path: post(node, path, WRITER, body=body) for path in POSTS}) == all_are(413, POSTS)
    assert statuses({path: post(node, path, body=body) for path in POSTS}) == all_are(401, POSTS)
    assert statuses({path: post(node, path, READER, body=body) for path in POSTS}) == all_are(403, POSTS)


@pytest.mark.parametrize("length", ["1048577", "99999999999", "18446744073709551615"])
def test_a_body_that_says_it_is_huge_is_not_waited_for(node, length):
    lengthy = {"Content-Length": length}
    assert statuses({path: post(node, path, WRITER, lengthy) for path in POSTS}) == all_are(413, POSTS)
    assert statuses({path: post(node, path, lengthy) for path in POSTS}) == all_are(401, POSTS)
    assert statuses({path: post(node, path, READER, lengthy) for path in POSTS}) == all_are(403, POSTS)


def chunks(count, size):
    return b"%x\r\n%s\r\n" % (size, b" " * size) * count + b"0\r\n\r\n"


def test_a_body_in_pieces_has_an_end_too(node):
    pieces = {"Transfer-Encoding": "chunked"}
    assert statuses({path: post(node, path, WRITER, pieces, body=chunks(5, 16000)) for path in POSTS}) == all_are(413, POSTS)
    assert statuses({path: post(node, path, pieces, body=chunks(5, 16000)) for path in POSTS}) == all_are(401, POSTS)
    assert post(node, "/users", WRITER, pieces, body=chunks(200, 16000)).status in (0, 413)
    assert node.ask("GET", "/users", {**READER, **pieces}, chunks(200, 16000)).status in (0, 413)
    assert node.ask("GET", "/users", WRITER).status == 200


def test_the_largest_body_is_taken(node):
    assert post(node, "/users", WRITER, body=b" " * 65536).status == 400
    assert post(node, "/users", WRITER, body=b'{"do": "remove", "name": "nobody"}'.ljust(65536)).status == 404


NONSENSE = [b"", b"null", b"[]", b'"do"', b'{"do": "add"', b'{"do": "add", "do": "remove", "name": "a"}', b"[" * 60000,
            b'{"do": "add", "name": "\\u0000"}', b"\xff\xfe"]


@pytest.mark.parametrize("body", NONSENSE, ids=range(len(NONSENSE)))
def test_what_makes_no_sense_is_refused_in_words(node, body):
    for path in POSTS:
        answer = post(node, path, WRITER, body=body)
        assert answer.status == 400 and answer.json()["error"]


def test_what_is_refused_is_counted_and_told_without_what_was_sent(node):
    before = node.metric("coterie_admin_refused_total")
    for _ in range(5):
        assert node.ask("GET", "/users", {"Authorization": "Bearer sent-by-a-stranger-1234"}).status == 401
    assert node.metric("coterie_admin_refused_total") == before + 5
    assert "event=admin-refused address=127.0.0.1" in node.log() and "sent-by-a-stranger" not in node.log()


def test_no_token_is_in_a_log_or_an_answer(node):
    told = node.log() + "".join(node.ask("GET", path, READER).body.decode() for path in GETS)
    assert "0123456789abcdef" not in told
