"""The server of `grcsf view`: who may ask, and what every answer says of itself."""

import re
import socket
import time
from threading import Lock, Thread

import pytest

from pipeline.errors import PipelineError
from pipeline.tools.view.server import Handler, open_server
from pipeline.tools.view.view import open_view
from tests.pipeline.tools.viewed import DATASET, SCRIPT, asked


def test_only_the_printed_address_is_answered(page_server):
    port = page_server.server_port
    paths = ["", "view.js", "cases.json", "cases/0.json", "volumes/0/0.nii", "elsewhere"]
    for path in paths:
        assert asked(page_server, "", token=f"{page_server.token}?{path}")[0] == 403, "no slash"
        for token in ("", "x", page_server.token[:-1], page_server.token + "a"):
            assert asked(page_server, path, token=token)[0] == 403
        refused = [
            {"Host": "127.0.0.1"},
            {"Host": f"elsewhere.example:{port}"},
            {"Host": f"127.0.0.1:{port + 1}"},
            {"Origin": "http://elsewhere.example"},
            {"Origin": "null"},
            {"Origin": f"http://127.0.0.1:{port + 1}"},
            {"Origin": f"https://127.0.0.1:{port}"},
        ]
        for headers in refused:
            assert asked(page_server, path, **headers)[0] == 403, headers
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        assert asked(page_server, "cases.json", Host=host, Origin=f"http://{host}")[0] == 200
    assert asked(page_server, "cases.json", method="POST")[0] == 501
    assert page_server.server_address[0] == "127.0.0.1"


def test_no_path_leads_to_a_file(page_server):
    for path in (
        "../cases.json",
        "..%2f..%2fingest/manifest.json",
        "//etc/passwd",
        "page.html",
        "cases/4.json",
        "cases/-1.json",
        "volumes/0/99.nii",
        f"cases/{SCRIPT.replace(' ', '%20')}.json",
        "volumes/../0/0.nii",
    ):
        assert asked(page_server, path)[0] == 404, path


def test_every_answer_keeps_the_page_to_itself(page_server):
    for path, token in (("", None), ("cases.json", None), ("none", None), ("", "wrong")):
        headers = asked(page_server, path, token=token)[1]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert set(re.findall(r"\S+:|\*|'unsafe-\S+", policy)) == {"data:", "blob:"}
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"


def test_a_volume_takes_longer_than_the_patience_and_a_fault_of_the_program_is_told(monkeypatch):
    content, at_work = bytes(2**24), Lock()
    monkeypatch.setattr(Handler, "timeout", 0.5)
    server = open_server(0, lambda path: ("a/b", content) if path else 1 / 0, at_work)
    serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    status, _, body = asked(server, "")
    assert (status, body) == (500, b"ZeroDivisionError: division by zero")
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as reader:
        host = f"127.0.0.1:{server.server_port}"
        reader.sendall(f"GET /{server.token}/x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        got = 0
        while part := reader.recv(2**21):  # a slow connection: pauses, each of less than patience
            got += len(part)
            time.sleep(0.1)
    assert got > len(content)
    at_work.acquire()
    server.shutdown()
    closing = Thread(target=server.server_close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive(), "Python would abort if it ended while C++ makes a volume"
    at_work.release()
    for thread in (closing, serving):
        thread.join()


def test_a_taken_port_is_one_line(viewed, page_server):
    with pytest.raises(PipelineError, match=r"--port: found .* cannot be used .*; leave it out"):
        open_view(viewed, DATASET, [], port=page_server.server_port)
