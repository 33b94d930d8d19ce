#!/usr/bin/python3
"""test_check_connect.py TAFFRAIL - `taffrail check --connect` tells which step to a receiver fails, and sends it nothing.

The receivers: a collector of taffrail; servers made here that fail in each step; `openssl s_server` with another clock. Of
what each is sent behind its handshake nothing may come, and the collector stores nothing.
"""

import contextlib
import ipaddress
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import msgpack
from cryptography.x509.oid import ExtendedKeyUsageOID

from harness import Failed, House, free_port, need, wait_until
from test_refusals import authorities, issue

STEPS = ["resolve", "connect", "hello", "their certificate", "their name", "our certificate", "forward"]
HERE = ipaddress.ip_address("127.0.0.1")


class Server:
    """Accepts one connection after the other, and does with each what behave(socket, received) says, until closed."""

    def __init__(self, behave, port=0):
        self.behave = behave
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.accepted = 0
        self.received = bytearray()  # behind the handshake
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while True:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            raw.settimeout(20)
            with raw, contextlib.suppress(OSError):
                self.behave(raw, self.received)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


def context_of(house, name, *, ca="pki/ca.pem", version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(house.path(f"pki/{name}.pem"), house.path(f"pki/{name}.key"))
    context.load_verify_locations(house.path(ca))
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    if version:
        context.maximum_version = version
    return context


def tls_server(context, say=b"", *, closes=True):
    """Shakes hands, says, then reads to the end; closes=False: never answers the end, and waits for the client's."""
    def behave(raw, received):
        with context.wrap_socket(raw, server_side=True) as link:
            if say:
                link.sendall(say)
            while data := link.recv(65536):
                received.extend(data)
            if closes:
                link.unwrap()
            else:
                time.sleep(4)
    return Server(behave)


class Told:
    """What one run of the command told."""

    def __init__(self, done):
        self.code = done.returncode
        self.text = done.stdout.decode()
        self.talk = done.stderr.decode()
        self.steps = {}
        for line in self.text.splitlines():
            match = re.match(r"  (\S.{16})  (ok   |FAIL |–    |-    )  (.*)", line)
            if match:
                self.steps[match[1].strip()] = match[2].strip(), match[3]

    @property
    def last(self):
        return self.text.splitlines()[-1] if self.text else ""

    def need(self, condition, what):
        need(condition, f"{what}:\n{self.text}{self.talk}(exit {self.code})")


def check(house, hosts, *words, name="node-1", tls="", more="", locale="C.UTF-8", timeout="10s"):
    """Of an agent whose forward output has these hosts and the certificate `name`."""
    path = house.configure_agent(outputs=f"""  - forward:
      hosts: [{", ".join(f'"{host}"' for host in hosts)}]
      connect_timeout: {timeout}
      tls: {house.tls(name)[:-1]}{tls}}}
{more}""")
    return Told(house.run("check", "-c", path, "--connect", *words, check=False, env={**os.environ, "LC_ALL": locale}))


def fails_at(told, step, words, what, mend=""):
    """All before it is ok, all behind it not reached; exit 1."""
    told.need(list(told.steps) == STEPS, what)
    at = STEPS.index(step)
    for number, name in enumerate(STEPS):
        state, text = told.steps[name]
        told.need(state == ("ok" if number < at else "FAIL" if number == at else "–"), f"{what}: {name}")
        told.need(number <= at or text.startswith("not reached"), f"{what}: {name}")
    told.need(re.search(words, told.steps[step][1]), f"{what}: not {words}")
    told.need("\n  mend: " in told.text and mend in told.text, f"{what}: the mend")
    told.need(step == "forward" or "not reached; nothing was sent" in told.text, what)
    told.need(told.last == "1 of 1 outputs would not deliver" and told.code == 1, what)
    print(f"ok    {what}: {told.steps[step][1]}", flush=True)


def all_ok(told, what, sum_up="1 of 1 outputs would deliver"):
    told.need([state for state, _ in told.steps.values()] == ["ok"] * len(STEPS), what)
    told.need(told.code == 0 and told.last == sum_up and "mend:" not in told.text, what)
    print(f"ok    {what}", flush=True)


def real_collector(house, own):
    issue(house, "unlisted", own, uri="spiffe://elsewhere/node/7")
    house.configure_collector()
    collector = house.start("collector")
    host = f"127.0.0.1:{house.port}"
    told = check(house, [host])
    all_ok(told, "a collector of taffrail")
    told.need(told.text.startswith(f'output "forward", {host}\n'), "its first line")
    told.need(told.steps["hello"][1].startswith("TLS 1.3, TLS_AES_256_GCM_SHA384, X25519 "), "hello")
    told.need(re.search(r" \d+ ms$", told.steps["connect"][1]), "the time")
    told.need(re.fullmatch(r"CN=.*; IP:127\.0\.0\.1, DNS:localhost.*; 20\S+ to 20\S+; chain of 1",
                           told.steps["their certificate"][1]), "their certificate")
    told.need(re.match(r"spiffe://demo/node/node-1, until 20\d\d-\d\d-\d\d$", told.steps["our certificate"][1]), "ours")
    told.need(told.steps["forward"][1] == "wants no shared key; nothing was sent", "forward")
    all_ok(check(house, [f"localhost:{house.port}"]), "by name")
    fails_at(check(house, [host], name="unlisted"), "our certificate", "closed by the receiver right after the hello",
             "no entry of allow", "an entry for spiffe://elsewhere/node/7")
    need("no allow entry has its identity" in collector.text(), collector.tail())
    several(house, host)
    need(collector.stop() == 0, collector.tail())
    need(house.records() == [], "something was stored")


def several(house, good):
    bad = f"127.0.0.1:{free_port()}"
    told = check(house, [bad, good], more="  - stdout: {}\n", locale="C")
    told.need(told.code == 1 and told.last == "1 of 1 outputs would deliver, but not to 1 of 2 hosts", "one of two")
    told.need(f'output "forward", {bad}\n' in told.text and f'output "forward", {good}\n' in told.text, "both are told")
    told.need('output "stdout" connects to nothing\n' in told.text, "stdout")
    told.need(told.text.isascii() and "  forward            -      not reached" in told.text, "ASCII")
    told = check(house, [bad, good], "--json")
    errors = [finding for finding in map(json.loads, told.text.splitlines()) if finding["severity"] == "error"]
    need(len(errors) == 1, told.text)
    found = errors[0]
    need(set(found) == {"file", "line", "column", "severity", "text"}, found)
    need(found["file"].endswith("/agent.yaml") and found["column"] == 15, found)
    need(found["text"].startswith(f'output "forward", {bad}: connect: {bad}: connection refused; start'), found)
    told.need(told.code == 1 and "but not to 1 of 2 hosts" in told.talk, "the sum is on stderr")
    print("ok    several hosts, other outputs, ASCII, JSON", flush=True)


def no_connection(house):
    fails_at(check(house, ["nowhere.invalid"], timeout="500ms"), "resolve",
             "no such name|temporary failure|no answer of the resolver in 500 ms", "no such name", "resolver knows")
    port = free_port()
    fails_at(check(house, [f"127.0.0.1:{port}"]), "connect", f"^127.0.0.1:{port}: connection refused", "nobody there",
             "start the receiver")
    with Server(lambda raw, _: raw.recv(65536) and raw.recv(1)) as server:
        fails_at(check(house, [f"127.0.0.1:{server.port}"], timeout="500ms"), "hello", "no answer in 500 ms", "a silent one")
    with Server(lambda raw, _: raw.sendall(b"220 smtp\r\n") or raw.recv(65536)) as server:
        fails_at(check(house, [f"127.0.0.1:{server.port}"]), "hello", "^the other end speaks no TLS", "another service",
                 "speaks TLS")


def their_certificate(house, own, other):
    server = ExtendedKeyUsageOID.SERVER_AUTH
    issue(house, "server-expired", own, ip=HERE, usage=server, days=(-20, -1))
    issue(house, "server-stranger", other, ip=HERE, usage=server)
    issue(house, "server-name", own, dns="logs.example.org", usage=server)
    for name, step, words, mend in (
            ("server-expired", "their certificate", "expired on 20", "valid today"),
            ("server-stranger", "their certificate", r'^other CA: its certificate .* issued by "CN=Other', "/pki/ca.pem, or find out"),
            ("server-name", "their name", "proves DNS:logs.example.org; wanted ip:127.0.0.1", "tls.identity")):
        with tls_server(context_of(house, name)) as here:
            told = check(house, [f"127.0.0.1:{here.port}"])
            fails_at(told, step, words, name, mend)
            told.need(step == "their name" or f"\n{28 * ' '}CN={name}; IP:127.0.0.1; 20" in told.text, "what it showed")
        need(not here.received, f"{name} was sent {bytes(here.received)!r}")


def our_certificate(house, own):
    with tls_server(context_of(house, "127.0.0.1", ca="pki/other/ca.pem")) as here:
        fails_at(check(house, [f"127.0.0.1:{here.port}"]), "our certificate", r"refused by the other end: alert unknown_ca \(48\)",
                 "another CA wanted", "an entry for spiffe://demo/node/node-1")
    need(not here.received, f"{bytes(here.received)!r}")

    issue(house, "short", own, uri="spiffe://demo/node/node-1")
    port = free_port()
    later = subprocess.Popen(  # for which ours has ended
        ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", house.path("pki/127.0.0.1.pem"), "-key",
         house.path("pki/127.0.0.1.key"), "-CAfile", house.path("pki/ca.pem"), "-Verify", "4", "-verify_return_error",
         "-attime", str(int(time.time()) + 12 * 86400), "-quiet", "-naccept", "1"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        listening = f":{port:04X} "
        wait_until(lambda: listening in open("/proc/net/tcp", encoding="ascii").read(), 10, "openssl does not listen")
        told = check(house, [f"127.0.0.1:{port}"], name="short")
        fails_at(told, "our certificate", r"alert certificate_expired \(45\)", "expired for the other end")
        told.need(re.search(r"\n {28}spiffe://demo/node/node-1, until 20", told.text), "until when ours is valid")
        told.need(told.talk.count("short.pem") == 1, "its warning is told once")
    finally:
        later.send_signal(signal.SIGKILL)
        later.communicate()

    issue(house, "expired", own, uri="spiffe://demo/node/old", days=(-20, -1))
    with tls_server(context_of(house, "127.0.0.1")) as here:
        told = check(house, [f"127.0.0.1:{here.port}"], name="expired")
    told.need(told.code == 1 and "expired on" in told.talk and "not tried yet: the network" in told.talk, "expired here")
    need(told.text == "" and here.accepted == 0, "an unsound configuration does not go to the network")
    print("ok    expired for us: the network is not tried", flush=True)


def what_they_say(house):
    hello = msgpack.packb(["HELO", {"nonce": b"0123456789abcdef", "auth": b"", "keepalive": True}])
    for what, say, words in (("a shared key is wanted", hello, "^wants a shared key, none is set"),
                             ("half an answer", hello[:3], "^said what is not of the forward protocol"),
                             ("another protocol", b"* OK IMAP ready\r\n", "^said what is not of the forward protocol"),
                             ("endless talk", b"\xdf\x00\x01\x00\x00" + b"\xa1a" * 500000, "^said what is not")):
        with tls_server(context_of(house, "127.0.0.1"), say) as here:
            fails_at(check(house, [f"127.0.0.1:{here.port}"]), "forward", words, what)
        need(not here.received, f"{what}: {bytes(here.received)!r}")
    with tls_server(context_of(house, "127.0.0.1", version=ssl.TLSVersion.TLSv1_2)) as here:
        all_ok(check(house, [f"127.0.0.1:{here.port}"], tls=', min_version: "1.2"'), "TLS 1.2")
        fails_at(check(house, [f"127.0.0.1:{here.port}"]), "hello", "protocol_version", "TLS 1.2, which is not allowed", "tls.min_version")
    with tls_server(context_of(house, "127.0.0.1"), closes=False) as here:
        told = check(house, [f"127.0.0.1:{here.port}"])
    told.need(told.steps["our certificate"][0] == "–" and "not refused so far" in told.text, "what is not known is not called ok")
    told.need(told.code == 0 and told.last == "1 of 1 outputs would deliver, as far as can be known without sending", "not known")
    need(not here.received, f"{bytes(here.received)!r}")
    print("ok    what is not known is not called ok", flush=True)


def main(binary):
    with House(binary) as house:
        house.make_pki()
        own, other = authorities(house)
        real_collector(house, own)
        no_connection(house)
        their_certificate(house, own, other)
        our_certificate(house, own)
        what_they_say(house)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
