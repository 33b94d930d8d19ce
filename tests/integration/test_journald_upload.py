#!/usr/bin/python3
"""test_journald_upload.py TAFFRAIL [CASE…] - the real systemd-journal-upload sends to the agent, over mutual TLS.

Every entry arrives exactly once, whoever is killed, and whenever; who may not send is refused. Journals are those of
tests/fixtures/journald/files, and larger ones made by systemd-journal-remote. Needs loopback only.
"""

import collections
import glob
import http.client
import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import time

from harness import Failed, House, PATIENCE, need, wait_until
from test_refusals import authorities, issue

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "../fixtures/journald")
UPLOAD = "/lib/systemd/systemd-journal-upload"
REMOTE = "/lib/systemd/systemd-journal-remote"
TYPE = "application/vnd.fdo.journal"
IDENTITY = "spiffe://demo/node/node-1"
ENTRIES = 100000


def entry(number, seqnum_id="a" * 32, host="sender", cursor=True):
    """One entry in export format."""
    time_us = 1795000000000000 + number
    head = (f"__CURSOR=s={seqnum_id};i={number:x};b={'b' * 32};m={number:x};t={time_us:x};x={number:x}\n"
            if cursor else "")
    return (f"{head}__REALTIME_TIMESTAMP={time_us}\n__MONOTONIC_TIMESTAMP={number}\n_BOOT_ID={'b' * 32}\n"
            f"_HOSTNAME={host}\n_MACHINE_ID={'c' * 32}\nPRIORITY=6\nMESSAGE=entry {number} of {seqnum_id[:4]}\n"
            f"PADDING={'x' * (number % 300)}\n\n").encode()


class Scene(House):
    """A receiver, and what its senders need."""

    def __init__(self, binary):
        super().__init__(binary)
        self.make_pki()
        self.journal = self.path("journal")
        self.state = self.path("state")
        os.makedirs(self.journal)

    def configure(self, allow="spiffe://demo/node/*", spool="", outputs="  - file: {path: records.ndjson}\n"):
        self.write("collector/collector.yaml", f"""
agent: {{host: receiver}}
inputs:
  - journald:
      mode: upload
      listen: 127.0.0.1:{self.port}
      allow: [{{identity: "{allow}"}}]
      tls: {self.tls("127.0.0.1")}
filters: []
spool: {{path: spool, keep_free: 0{spool}}}
outputs:
{outputs}""")

    def unpack(self, name):
        shutil.rmtree(self.journal)
        os.makedirs(self.journal)
        with tarfile.open(f"{FIXTURES}/files/{name}.tar.gz") as archive:
            archive.extractall(self.journal)

    def generate(self, first, count, file="made.journal"):
        """Entries as a journal file, by systemd-journal-remote."""
        subprocess.run([REMOTE, "-o", os.path.join(self.journal, file), "-"], check=True, capture_output=True,
                       input=b"".join(entry(number) for number in range(first, first + count)), timeout=60 * PATIENCE)

    def directory(self):
        """Where the journal files lie."""
        return os.path.dirname(glob.glob(f"{self.journal}/**/*.journal", recursive=True)[0])

    def begin_upload(self, name="node-1", follow="no"):
        """One run of systemd-journal-upload, to the end of the journal, or on and on."""
        return subprocess.Popen([UPLOAD, "-u", f"https://127.0.0.1:{self.port}", "-D", self.directory(),
                                 f"--save-state={self.state}", f"--follow={follow}", f"--key={self.path('pki', name)}.key",
                                 f"--cert={self.path('pki', name)}.pem", f"--trust={self.path('pki/ca.pem')}"],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def upload(self, name="node-1"):
        """Its exit code, and what it said."""
        process = self.begin_upload(name)
        try:
            said = process.communicate(timeout=60 * PATIENCE)[0].decode("utf-8", "replace")
        finally:
            process.kill()
        return process.returncode, said

    def context(self, name="node-1"):
        context = ssl.create_default_context(cafile=self.path("pki/ca.pem"))
        if name:
            context.load_cert_chain(self.path(f"pki/{name}.pem"), self.path(f"pki/{name}.key"))
        return context

    def connect(self, name="node-1"):
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=20 * PATIENCE)
        return self.context(name).wrap_socket(raw, server_hostname="127.0.0.1")

    def post(self, body, path="/upload", method="POST", name="node-1", **headers):
        """One request; returns status, text and headers."""
        client = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context(name), timeout=20 * PATIENCE)
        headers = {"Content-Type": TYPE, **{key.replace("_", "-"): value for key, value in headers.items()}}
        client.request(method, path, body, headers)
        answer = client.getresponse()
        text = answer.read().decode()
        client.close()
        return answer.status, text, answer.headers

    def texts(self):
        """How often each text is stored."""
        return collections.Counter(record.get("log", record.get("log_b64")) for record in self.records())

    def settle(self, collector, count=0):
        """All that is stored, once the output has written it; a stop waits 10 s for that, so count may wait before."""
        wait_until(lambda: self.stored_lines() >= count, 60, lambda: f"{self.stored_lines()} of {count}\n{collector.tail()}")
        need(collector.stop() == 0, collector.tail())
        return self.texts()


def check_exactly(texts, first, count, label="aaaa"):
    wanted = {f"entry {number} of {label}" for number in range(first, first + count)}
    missing = sorted(wanted - set(texts))
    doubled = sorted(text for text, times in texts.items() if times > 1)
    need(not missing, f"{len(missing)} entries are missing: {missing[:3]}")
    need(not doubled, f"{len(doubled)} entries are doubled: {doubled[:3]}")
    need(len(texts) == count, f"{len(texts)} entries, not {count}")


def case_fixtures(scene):
    """Real journals, field by field as journalctl shows them."""
    scene.configure()
    collector = scene.start("collector")
    wanted = []
    for name in ("journal-dir-252-compact", "journal-dir-257"):
        scene.unpack(name)
        if os.path.exists(scene.state):
            os.unlink(scene.state)
        code, said = scene.upload()
        need(code == 0, f"{name}: {code}: {said}")
        shown = subprocess.run(["journalctl", "-D", scene.directory(), "-o", "json", "--all"], check=True,
                               capture_output=True, timeout=60 * PATIENCE).stdout
        wanted += [json.loads(line) for line in shown.splitlines()]
    scene.settle(collector)
    records = scene.records()
    need(len(records) == len(wanted) > 80, f"{len(records)} records of {len(wanted)} entries")
    for record, item in zip(records, wanted):
        need(record["identity"] == IDENTITY and record["host"] == item["_HOSTNAME"], str(record))
        fields = record["journald"]
        for key, value in item.items():
            if isinstance(value, str) and key in fields:
                need(fields[key] == value, f"{key}: {fields[key]} is not {value}")
        need(isinstance(item.get("MESSAGE", []), list) or record["log"] == item["MESSAGE"], str(record))


def case_goes_on(scene):
    """What was sent is not sent again; a lost state of the sender doubles nothing."""
    scene.configure()
    collector = scene.start("collector")
    scene.generate(1, 500)
    need(scene.upload()[0] == 0, collector.tail())
    scene.generate(501, 500, "second.journal")
    need(scene.upload()[0] == 0, collector.tail())
    os.unlink(scene.state)
    need(scene.upload()[0] == 0, collector.tail())
    check_exactly(scene.settle(collector), 1, 1000)
    collector = scene.start("collector")
    os.unlink(scene.state)
    need(scene.upload()[0] == 0, collector.tail())
    check_exactly(scene.settle(collector), 1, 1000)


def case_follows(scene):
    """A sender that stays sends what is written later, in posts of its own."""
    scene.configure()
    collector = scene.start("collector")
    scene.generate(1, 100)
    sender = scene.begin_upload(follow="yes")
    try:
        for count in (100, 200, 300):
            wait_until(lambda count=count: scene.stored_lines() >= count, 15, lambda: f"not {count}\n{collector.tail()}")
            scene.generate(count + 1, 100, f"{count}.journal")
        wait_until(lambda: scene.stored_lines() >= 400, 15, lambda: f"not 400\n{collector.tail()}")
        need(sender.poll() is None, "the sender ended")
    finally:
        sender.kill()
        sender.communicate()
    check_exactly(scene.settle(collector), 1, 400)


def wait_for_more(scene, sender, seed):
    """Until a random number of further entries is stored, or the sender ends; true: it still sends."""
    target = scene.stored_lines() + random.Random(seed).randrange(ENTRIES // 10)
    wait_until(lambda: scene.stored_lines() >= target or sender.poll() is not None, 30, "nothing is stored")
    return sender.poll() is None


def case_receiver_killed(scene):
    """SIGKILL of the agent in the middle of a post, again and again."""
    scene.configure()
    scene.generate(1, ENTRIES)
    kills = 0
    for seed in range(8):
        collector = scene.start("collector", wait="listening")
        sender = scene.begin_upload()
        kills += wait_for_more(scene, sender, seed)
        collector.kill()
        sender.communicate(timeout=60 * PATIENCE)
    need(kills > 4, "the kills came too late")
    collector = scene.start("collector")
    need(scene.upload()[0] == 0, collector.tail())
    check_exactly(scene.settle(collector, ENTRIES), 1, ENTRIES)
    print(f"      {kills} kills in mid-post", flush=True)


def case_sender_killed(scene):
    """SIGKILL of the sender in the middle of a post, and another at once."""
    scene.configure()
    scene.generate(1, ENTRIES)
    collector = scene.start("collector")
    kills = 0
    for seed in range(8):
        sender = scene.begin_upload()
        kills += wait_for_more(scene, sender, seed)
        sender.kill()
        sender.communicate()
    need(kills > 4, "the kills came too late")
    code, said = scene.upload()
    need(code == 0, f"{said}\n{collector.tail()}")
    check_exactly(scene.settle(collector, ENTRIES), 1, ENTRIES)
    print(f"      {kills} kills in mid-post", flush=True)


def case_captured(scene):
    """A captured request, byte for byte, and once more."""
    scene.configure()
    collector = scene.start("collector")
    with open(f"{FIXTURES}/export/journal-upload-252.http", "rb") as file:
        request = file.read()
    entries = request.count(b"\n__CURSOR=")
    for _ in range(2):
        with scene.connect() as link:
            link.sendall(request)
            answer = b""
            while b"\r\n\r\nOK.\n" not in answer:
                piece = link.recv(65536)
                need(piece, f"no answer: {answer}\n{collector.tail()}")
                answer += piece
        need(answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 "), str(answer))
    texts = scene.settle(collector)
    need(sum(texts.values()) == entries > 10, f"{sum(texts.values())} records of {entries}")


def case_requests(scene):
    """What is not a journal's upload is refused, and says why."""
    scene.configure()
    collector = scene.start("collector")
    one = entry(1)
    need(scene.post(one, path="/")[0] == 404, "another path")
    status, _, headers = scene.post(None, method="GET")
    need(status == 405 and headers["Allow"] == "POST", "another method")
    need(scene.post(one, Content_Type="text/plain")[0] == 415, "another type")
    status, text, _ = scene.post(one, Content_Encoding="zstd")
    need(status == 415 and "ForceCompression" in text, f"compressed: {status} {text}")
    status, text, _ = scene.post(one + entry(2)[:-1])
    need(status == 400 and "within an entry" in text, f"cut: {status} {text}")
    status, text, _ = scene.post(b"\x00\x01\x02 no journal\n" * 1000)
    need(status == 400, f"junk: {status} {text}")
    need(scene.post(b"")[0] == 202, "an empty body")
    need(scene.post(one + entry(2), Content_Type=TYPE + "; charset=x", Content_Encoding="identity")[0] == 202, "plain")
    body = entry(7, cursor=False)
    need(scene.post(body)[0] == 202 and scene.post(body)[0] == 202, "without a cursor")
    texts = scene.settle(collector)
    need(texts == {"entry 1 of aaaa": 1, "entry 2 of aaaa": 1, "entry 7 of aaaa": 2}, str(texts))


def case_numbers(scene):
    """Repeats are told within each journal's own numbers, also when many are mixed."""
    scene.configure()
    collector = scene.start("collector")
    ids = [f"{number:02x}" * 16 for number in range(16)]
    body = b"".join(entry(number, ids[number % 16]) for number in range(1, 3000))
    need(scene.post(body[:len(body) // 2])[0] == 400, "cut")
    need(scene.post(body)[0] == 202, "whole")
    collector.kill()
    collector = scene.start("collector")
    need(scene.post(body)[0] == 202, "again")
    texts = scene.settle(collector)
    need(len(texts) == 2999 and set(texts.values()) == {1}, f"{len(texts)} {collections.Counter(texts.values())}")


def case_two_at_once(scene):
    """A newer connection of an identity ends the older one, and takes over."""
    scene.configure()
    collector = scene.start("collector")
    body = b"".join(entry(number) for number in range(1, 4001))
    head = f"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for round_ in range(3):
        with scene.connect() as older:
            older.sendall(head + body[:len(body) * (round_ + 1) // 4])
            if round_ == 1:
                time.sleep(0.3)
            need(scene.post(body)[0] == 202, "the newer one")
            try:
                need(older.recv(100) == b"", "an answer to the older one")
            except (ssl.SSLError, ConnectionError):
                pass
    check_exactly(scene.settle(collector), 1, 4000)


def case_full(scene):
    """While the spool is full nothing is answered and nothing read; later all is there, once."""
    dead = f"  - forward: {{hosts: [\"127.0.0.1:1\"], tls: {scene.tls('node-1')}}}\n"
    scene.configure(spool=", max_size: 16MiB, on_full: pause", outputs=dead)
    collector = scene.start("collector")
    noise = random.Random(1)
    count = 12000
    body = b"".join(entry(number)[:-1] + b"PAD=" + noise.randbytes(4096).hex().encode() + b"\n\n"
                    for number in range(1, count + 1))
    head = f"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with scene.connect() as link:
        link.settimeout(4)
        sent = 0
        try:
            link.sendall(head)
            while sent < len(body):
                sent += link.send(body[sent:sent + 65536])
            raise Failed("all of it was read")
        except (TimeoutError, ssl.SSLWantWriteError, socket.timeout):
            pass
        with open(f"/proc/{collector.pid}/status", encoding="ascii") as file:
            resident = next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
        need(resident < 200 * 1024, f"{resident} KiB")
    need(collector.stop() == 0, collector.tail())
    scene.configure(spool=", max_size: 1GiB")
    collector = scene.start("collector")
    need(scene.post(body)[0] == 202, "with room")
    scene.settle(collector, count)
    collector = scene.start("collector")
    check_exactly(scene.settle(collector, count), 1, count)
    print(f"      {sent >> 20} of {len(body) >> 20} MiB were read while it was full", flush=True)


def case_refused(scene):
    """Another CA, no certificate, an identity that is not allowed."""
    own, other = authorities(scene)
    issue(scene, "stranger", other, uri=IDENTITY)
    issue(scene, "unlisted", own, uri="spiffe://elsewhere/node/7")
    scene.configure()
    scene.generate(1, 10)
    collector = scene.start("collector")
    for name, word in (("stranger", "other CA"), ("unlisted", "no allow entry has its identity")):
        code, said = scene.upload(name)
        need(code != 0, f"{name}: it was taken: {said}")
        wait_until(lambda word=word: word in collector.text(), 10, lambda name=name: f"{name}\n{collector.tail()}")
    try:
        scene.post(entry(1), name=None)
        raise Failed("nobody was let in")
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        pass
    need("refused" in collector.text() and "spiffe://elsewhere/node/7" in collector.text(), collector.tail())
    need(scene.upload()[0] == 0, collector.tail())
    check_exactly(scene.settle(collector), 1, 10)


def case_check(scene):
    """A configuration that lets nobody in, or anybody, is refused with the mend."""
    scene.write("wrong.yaml", "inputs: [journald: {mode: upload, listen: here}]\nspool: {path: spool}\n"
                "outputs: [stdout: {}]\n")
    said = scene.run("check", "-c", scene.path("wrong.yaml"), check=False)
    text = (said.stdout + said.stderr).decode()
    for word in ('listen "here" is not an address and port', "allow is empty", "needs tls"):
        need(said.returncode == 1 and word in text, f"{word}: {said.returncode} {text}")


CASES = {name[5:]: function for name, function in list(globals().items()) if name.startswith("case_")}


def main():
    binary, wanted = sys.argv[1], sys.argv[2:] or list(CASES)
    for name in wanted:
        began = time.monotonic()
        with Scene(binary) as scene:
            CASES[name](scene)
        print(f"ok    {name} ({time.monotonic() - began:.1f} s): {CASES[name].__doc__}", flush=True)


if __name__ == "__main__":
    main()
