#!/usr/bin/env python3
"""`taffrail status` and whoever answers: it ends in time, and shows nothing that a terminal would obey.

usage: test_status.py TAFFRAIL

Strangers at the socket: one that takes no connection, one that says nothing, one that never ends, junk, a status full of
control characters and figures beyond all bounds. Then where it asks, of several addresses of a configuration; and an agent
whose port hostile clients hold: silent ones, slow ones, ones with endless heads.
"""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time

from harness import House, PATIENCE, free_port, need

ANSWER_S = 5  # ANSWER_MS of agent/commands/status.c
LATE_S = ANSWER_S * (PATIENCE - 1)  # that a busy machine may add


class Stranger:
    """Answers every connection with what `answer` yields; None: takes none, with its queue full."""

    def __init__(self, path, answer):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(0)
        self.waiting = []
        self.answer = answer
        if answer is None:
            self.fill_queue(path)
        else:
            threading.Thread(target=self.serve, daemon=True).start()

    def fill_queue(self, path):
        while True:
            one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self.waiting.append(one)
            try:
                one.connect(path)
            except BlockingIOError:
                return

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(1000)
                    for part in self.answer():
                        connection.sendall(part)
                except OSError:
                    pass

    def close(self):
        self.listener.close()
        for one in self.waiting:
            one.close()


def ask(house, name, answer, *words):
    """(exit code, stdout, stderr, seconds) of `status` where a stranger answers."""
    path = house.path(f"{name}.sock")
    stranger = Stranger(path, answer)
    began = time.monotonic()
    done = subprocess.run([house.binary, "status", "--socket", f"unix:{path}", *words], capture_output=True, timeout=60 * PATIENCE, check=False)
    stranger.close()
    return done.returncode, done.stdout, done.stderr.decode(), time.monotonic() - began


def once(body, head=b"HTTP/1.1 200 OK\r\n\r\n"):
    return lambda: [head + body]


def silence():
    time.sleep(60)
    yield b""


def slowly():
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    while True:
        time.sleep(0.1)
        yield b" "


def endless():
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    while True:
        yield b" " * 65536


def strangers_end_in_time(house):
    for name, answer in (("full", None), ("silent", silence), ("slow", slowly)):
        code, out, err, took_s = ask(house, name, answer, "--once")
        need(code == 3 and out == b"" and "timed out" in err, f"{name}: {code}, {err}")
        need(ANSWER_S - 1 < took_s < ANSWER_S + LATE_S, f"{name}: {took_s:.1f} s")
    code, _, _, took_s = ask(house, "full2", None, "--check")
    need(code == 1 and took_s < ANSWER_S + LATE_S, f"--check: {code} after {took_s:.1f} s")
    for name, answer in (("endless", endless), ("junk", once(b"", b"220 ready\r\n")), ("no-json", once(b"{")),
                         ("nothing", once(b"", b"")), ("refused", once(b"{}", b"HTTP/1.1 500 no\r\n\r\n"))):
        code, out, err, took_s = ask(house, name, answer, "--once")
        need(code == 3 and out == b"" and err.startswith("status: unix:"), f"{name}: {code}, {err}")
        need("timed out" not in err and took_s < ANSWER_S + LATE_S, f"{name}: {took_s:.1f} s, {err}")


def a_signal_ends_it(house):
    path = house.path("signal.sock")
    stranger = Stranger(path, silence)
    process = subprocess.Popen([house.binary, "status", "--socket", f"unix:{path}", "--once"], stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    need(process.wait(2 * PATIENCE) != 0, "^C is no success")
    stranger.close()


def nothing_is_obeyed(house):
    """Controls as they are, as escapes, of Latin-1, as bytes that are no UTF-8; figures without bounds; too long a text."""
    hostile = "a\u009b31mb\u0085c\\u001b[2Jd\\u009be"
    status = {"version": hostile, "host": "x" * 10000, "time": hostile, "state": hostile, "uptime_seconds": 1e300,
              "conditions": [{"code": hostile, "text": hostile, "since": hostile, "safe": hostile}],
              "inputs": [{"name": hostile, "sources": -1e300, "records": 1e308, "lag_seconds": -1}] * 200,
              "spool": {"pending_bytes": 1e308, "max_bytes": 1e-308, "seal": hostile},
              "outputs": [{"name": hostile, "pending": 1e308, "oldest_seconds": 1e308, "ack_p50_seconds": 1e308, "ack_p99_seconds": -1e308}],
              "redaction": {"rules": [{"rule": hostile, "hits": 1e308}]}, "books": {}}
    text = json.dumps(status, ensure_ascii=False).replace("\\\\u", "\\u").replace("1e+308", "1e999").encode()
    for name, body in (("utf-8", text), ("latin-1", text.replace("\u009b".encode(), b"\x9b"))):
        code, out, err, _ = ask(house, name, once(body), "--once")
        need(code == 0, f"{name}: {code} {err}")
        need(all(byte == 10 or 32 <= byte < 127 for byte in out), f"{name}: {[bytes([b]) for b in out if b != 10 and not 32 <= b < 127][:9]}")
        need(b"(too long)" in out and re.search(rb"a\?\??31mb", out), f"{name}: {out[:500]}")


def rules_are_told_by_their_hits(house):
    rules = [{"rule": name, "hits": hits} for name, hits in (("a", 2), ("b", 7), ("c", 2), ("d", 7), ("e", 1))]
    _, out, _, _ = ask(house, "rules", once(json.dumps({"redaction": {"redacted": 1, "rules": rules}}).encode()), "--once")
    need(b"  1 record, b 7, d 7, a 2, withheld 0\n" in out, out.decode())


def long_lists_end_in_time(house):
    """Of all that an answer may hold: each list is passed over once."""
    for way in (("conditions",), ("redaction", "rules"), ("sandbox", "layers"), ("sandbox", "roles")):
        body = "[" + ",".join(["{}"] * 2500000) + "]"
        for key in reversed(way):
            body = f'{{"{key}":{body}}}'
        code, _, err, took_s = ask(house, f"long-{way[-1]}", once(body.encode()), "--once")
        full = way[-1] in ("conditions", "roles")  # a line each
        need(code == (3 if full else 0) and ("cannot write it" in err) == full, f"{way}: {code}, {err}")
        need("timed out" not in err and took_s < ANSWER_S + LATE_S, f"{way}: {took_s:.1f} s, {err}")


def json_is_the_body_as_it_is(house):
    """An agent answers up to 4 MiB."""
    body = json.dumps({"inputs": [{"name": "n" * 1000}] * 4000}).encode() + b"\n"
    need(len(body) > 3 << 20, f"{len(body)} bytes")
    code, out, err, _ = ask(house, "large", once(body), "--json")
    need(code == 0 and out == body, f"--json: {code}, {len(out)} bytes of {len(body)}, {err}")


def what_cannot_be_written_is_said(house):
    stranger = Stranger(house.path("unwritten.sock"), once(b"{}"))
    for word in ("--json", "--once"):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([house.binary, "status", "--socket", f"unix:{house.path('unwritten.sock')}", word], stdout=full,
                                  stderr=subprocess.PIPE, timeout=60 * PATIENCE, check=False)
        need(done.returncode == 3 and done.stderr == b"status: cannot write it: no space left on device\n", f"{word}: {done}")
    stranger.close()


def a_configuration_that_cannot_be_read_is_2(house):
    for word in ("--check", "--once"):
        done = house.run("status", "-c", house.path("nowhere.yaml"), word, check=False)
        need(done.returncode == 2 and b"cannot be read" in done.stderr, f"{word}: {done}")


def it_asks_where_all_is_told(house):
    port = free_port()
    house.make_pki()
    path = house.configure_agent(inputs="  - container: {paths: [../logs/pods/*/*/*.log]}\n", outputs="  - file: {path: records.ndjson}\n")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    house.write("agent/agent.yaml", f"{text}admin: {{listen: ['0.0.0.0:{port}']}}\n")
    agent = house.start("agent")
    done = house.run("status", "-c", path, "--once", check=False)
    need(done.returncode == 3 and b"nothing else; give admin.listen a unix:PATH" in done.stderr, f"{done}")
    house.run("status", "-c", path, "--check")
    need(agent.stop() == 0, "a stop")
    house.write("agent/agent.yaml", f"{text}admin: {{listen: ['0.0.0.0:{port}', '127.0.0.1:{free_port()}']}}\n")
    agent = house.start("agent")
    need(b"node-1" in house.run("status", "-c", path, "--once").stdout, "it does not ask on loopback")
    need(agent.stop() == 0, "a stop")


def hostile_clients_keep_no_probe_out(house):
    port = free_port()
    path = house.configure_agent(inputs="  - container: {paths: [../logs/pods/*/*/*.log]}\n", outputs="  - file: {path: records.ndjson}\n")
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"admin: {{listen: ['0.0.0.0:{port}']}}\n")
    agent = house.start("agent")
    held = []
    for number in range(100):  # 32 is the bound
        one = socket.create_connection(("127.0.0.1", port), timeout=10 * PATIENCE)
        if number % 3 == 1:
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
        elif number % 3 == 2:
            one.sendall(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 9000)
        held.append(one)
        if number % 10 == 9:
            house.run("status", "--socket", f"127.0.0.1:{port}", "--check")
    flood = socket.create_connection(("127.0.0.1", port), timeout=10 * PATIENCE)
    flood.sendall(b"GET /healthz HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % number for number in range(1000)) + b"\r\n")
    answer = flood.recv(100)
    need(answer.startswith(b"HTTP/1.1 431 "), f"a head of many fields: {answer}")
    for one in [*held, flood]:
        one.close()
    house.run("status", "--socket", f"127.0.0.1:{port}", "--check")
    need(agent.stop() == 0, "a stop")


def main():
    with House(sys.argv[1]) as house:
        for check in (strangers_end_in_time, a_signal_ends_it, nothing_is_obeyed, rules_are_told_by_their_hits, long_lists_end_in_time,
                      json_is_the_body_as_it_is, what_cannot_be_written_is_said, a_configuration_that_cannot_be_read_is_2,
                      it_asks_where_all_is_told, hostile_clients_keep_no_probe_out):
            check(house)
            print(f"ok    {check.__name__.replace('_', ' ')}")


if __name__ == "__main__":
    main()
