"""harness.py - what the integration tests share: a house of one collector and one agent on loopback.

A House is a folder with certificates made by `taffrail pki`, a collector and an agent, each the real
binary with a configuration of its own. Programs are started with their log in a file, waited for by
the events that they log, and ended by their pid. Writers imitate the runtimes: docker's json-file
(rotated X.log -> X.log.1), the kubelet's CRI files (rotated 0.log -> 0.log.TIME) and programs' plain lines. Stored
reads what the collector wrote, while it writes.
"""

import contextlib
import gzip
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib


AUDIT = b'"tag":"taffrail.audit"'  # of a record; in a text the quotes are escaped
PATIENCE = 4  # deadlines say how long a thing takes at most; tests run side by side, on small machines too


class Failed(Exception):
    """What was promised did not come."""


def need(condition, text):
    if not condition:
        raise Failed(text)


HELD_PORTS = []  # sockets, open as long as this process: their names say whose these ports are


def free_port():
    """None that the kernel gives to a connection: it must be free again when a collector is started again. Nor one
    that another test was given: until that listens, and between two of its starts, nobody is bound to it."""
    while True:
        port = random.randint(10000, 32000)
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0taffrail-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            name.close()
            continue
        HELD_PORTS.append(name)
        return port


def wait_until(condition, timeout_s, what):
    """Polls until condition() is true; fails with the text `what`, or what() if it is a function."""
    end = time.monotonic() + timeout_s * PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise Failed(what() if callable(what) else what)
        time.sleep(0.02)


def whole_lines(path):
    """Of a file that may grow while it is read: waits until the line that is being written is whole."""
    data = b""

    def is_whole():
        nonlocal data
        with open(path, "rb") as file:
            data = file.read()
        return data == b"" or data.endswith(b"\n")

    wait_until(is_whole, 10, lambda: f"{path}: it ends within a line: {data[-200:]}")
    return data.split(b"\n")[:-1]


def process_file(pid, name):
    """Of /proc; empty once the process is gone, which open() and read() both can find."""
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def state_of(pid):
    """A letter of proc(5), or "" of one that is gone."""
    stat = process_file(pid, "stat")
    return stat.rsplit(")", 1)[1].split()[0] if stat else ""


def is_alive(pid):
    return state_of(pid) not in ("", "Z")


def stand_still(pid):
    """SIGSTOP; returns when it has."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state_of(pid) == "T", 10, f"{pid} does not stand still")


def children_of(pid, name=None):
    """Their pids; with a name only those that have it (the first 15 bytes are a process's name)."""
    children = map(int, process_file(pid, f"task/{pid}/children").split())
    return [child for child in children if name is None or process_file(child, "comm") == f"{name}\n"]


class Program:
    """One run of the binary: the pid of its main process, and its log from this start on."""

    def __init__(self, words, log, env=None):
        self.log = log
        self.begin = os.path.getsize(log) if os.path.exists(log) else 0
        with open(log, "ab") as to:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=to, stderr=to,
                                            env={**os.environ, **(env or {})})

    def children(self):
        """Of the process that was started, which of `taffrail run` is the parent (docs/reload.md)."""
        return children_of(self.process.pid)

    @property
    def pid(self):
        """Of the main process, the older one in a reload."""
        return (self.children() or [self.process.pid])[0]

    def text(self):
        with open(self.log, "rb") as file:
            file.seek(self.begin)
            return file.read().decode("utf-8", "replace")

    def tail(self):
        return "\n".join(self.text().splitlines()[-20:])

    def has_event(self, event):
        return f"event={event} " in self.text()

    def wait_event(self, event, timeout_s=15):
        def seen():
            need(self.process.poll() is None or self.has_event(event),
                 f"{self.log}: ended with {self.process.returncode} before {event}:\n{self.tail()}")
            return self.has_event(event)

        wait_until(seen, timeout_s, lambda: f"{self.log}: no event {event} in {timeout_s} s:\n{self.tail()}")

    def stop(self, timeout_s=30):
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s * PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"{self.log}: did not stop in {timeout_s} s:\n{self.tail()}") from None

    def kill(self):
        """SIGKILL to the main process, of which the parent dies too."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended just now
                os.kill(self.pid, signal.SIGKILL)
        self.process.wait()


class House:
    def __init__(self, binary, folder=None):
        self.binary = os.path.abspath(binary)
        self.folder = folder or tempfile.mkdtemp(prefix="taffrail-test-")
        self.is_own_folder = folder is None
        self.port = free_port()
        self.programs = []
        for name in ("pki", "collector", "agent", "logs/pods", "logs/docker/containers"):
            os.makedirs(self.path(name), exist_ok=True)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        for program in self.programs:
            program.kill()
        if self.is_own_folder and kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif kind is not None:
            print(f"kept: {self.folder}")

    def run(self, *words, check=True, **options):
        done = subprocess.run([self.binary, *words], capture_output=True, timeout=60 * PATIENCE, check=False, **options)
        if check and done.returncode != 0:
            raise Failed(f"taffrail {' '.join(words)}: exit {done.returncode}\n{done.stderr.decode()}")
        return done

    def make_pki(self):
        self.run("pki", "init", "--name", "Demo", self.path("pki"))
        self.run("pki", "collector", self.path("pki"), "127.0.0.1", "localhost")
        self.run("pki", "agent", self.path("pki"), "node-1")

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def tls(self, name):
        return f"{{ca: ../pki/ca.pem, cert: ../pki/{name}.pem, key: ../pki/{name}.key}}"

    def configure_collector(self, spool="", outputs="  - file: {path: records.ndjson}\n"):
        return self.write("collector/collector.yaml", f"""
agent: {{host: collector}}
inputs:
  - forward:
      listen: 127.0.0.1:{self.port}
      allow: [{{identity: "spiffe://demo/node/*"}}]
      tls: {self.tls("127.0.0.1")}
spool: {{path: spool, keep_free: 0{spool}}}
outputs:
{outputs}""")

    def configure_agent(self, port=None, spool="", inputs=None, outputs=None, agent="host: node-1", filters="[]"):
        inputs = inputs or """  - container:
      paths: [../logs/pods/*/*/*.log]
      link_roots: [../logs/pods, ../logs/docker/containers]
"""
        outputs = outputs or f"""  - forward:
      hosts: ["127.0.0.1:{port or self.port}"]
      tls: {self.tls("node-1")}
"""
        return self.write("agent/agent.yaml", f"""
agent: {{{agent}}}
inputs:
{inputs}
filters: {filters}
spool: {{path: spool, keep_free: 0{spool}}}
outputs:
{outputs}""")

    def start(self, role, env=None, wait="ready"):
        program = Program([self.binary, "run", "-c", self.path(role, f"{role}.yaml")],
                          self.path(role, f"{role}.log"), env)
        self.programs.append(program)
        if wait:
            program.wait_event(wait)
        return program

    @property
    def records_path(self):
        return self.path("collector/records.ndjson")

    def records(self):
        """What the collector stored, without the agents' own audit records."""
        return [record for record in self.all_records() if record["tag"] != "taffrail.audit"]

    def all_records(self):
        if not os.path.exists(self.records_path):
            return []
        return [json.loads(line) for line in whole_lines(self.records_path)]

    def stored_lines(self):
        """A cheap count of records() while the collector runs."""
        if not os.path.exists(self.records_path):
            return 0
        with open(self.records_path, "rb") as file:
            return sum(AUDIT not in line and line.endswith(b"\n") for line in file)


def read_spool(spool, seal_key=None):
    """All events of a spool, as (frame number, type, event), by docs/spool-format.md alone: CRC, chain, nonces,
    digests, snapshots and seals are checked on the way (docs/guarantees.md C1, C4, G3)."""
    reader = os.path.join(os.path.dirname(os.path.abspath(__file__)), "read_segment.py")
    words = ["--seal-key", seal_key] if seal_key else []
    done = subprocess.run([sys.executable, reader, *words, spool], capture_output=True, check=False)
    need(done.returncode == 0, f"{spool}: {done.stderr.decode()[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def verify_spool(binary, spool, seal_key=None):
    """What a crash leaves is intact, or a torn tail, or has expired with a notice: never an alarm."""
    words = ["--seal-key", seal_key] if seal_key else []
    done = subprocess.run([binary, "verify", spool, *words], capture_output=True, check=False)
    need(done.returncode == 0, f"{spool}: verify: {done.stdout.decode()}{done.stderr.decode()}")


def check_numbers(events):
    """Frame numbers only rise: none stands for two frames."""
    numbers = [tuple(map(int, event["frame"].split("/"))) for event in events]
    need(numbers == sorted(numbers), "frame numbers do not rise")


def read_books(program):
    """The last books of a program: {output, rule, or "" for what was read: {name: number}}."""
    books = {}
    for line in program.text().splitlines():
        words = dict(word.split("=", 1) for word in line.split(" ") if "=" in word)
        if words.get("event") == "books":
            books[words.get("output", words.get("rule", ""))] = {
                name: int(value) for name, value in words.items() if value.isdigit()}
    return books


def check_books(program):
    """The last books of a program that stopped add up, for each output."""
    books = read_books(program)
    need("" in books, f"no books\n{program.tail()}")
    read = books[""]
    need(read["decoded"] == sum(read[name] for name in ("spooled", "joined", "filtered", "held")),
         f"{program.log}: {read}")
    for output in (book for book in books.values() if "acked" in book):
        gone = sum(output[name] for name in ("acked", "skipped", "expired", "rejected", "pending"))
        need(output["pending_at_start"] + read["spooled"] == gone, f"{program.log}: {output} of {read}")


class Stored:
    """What stands in the collector's file, each look going on where the last one ended.

    Lines are known by their text, "NAME line NUMBER …": counts has how often each is there, order their first
    arrivals by name, again when one was seen another time. gaps are the agent's records of losses.
    """

    LINE = re.compile(r"^([a-z0-9.-]+) line (\d+)(?: |$)")

    def __init__(self, house):
        self.path = house.records_path
        self.offset = 0
        self.counts = {}
        self.order = {}
        self.again = {}
        self.gaps = []
        self.others = []

    def look(self):
        if os.path.exists(self.path):
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                data = file.read()
            data = data[:data.rfind(b"\n") + 1]  # the last line may be half written
            self.offset += len(data)
            for line in data.splitlines():
                self.take(json.loads(line))
        return self

    def take(self, record):
        match = self.LINE.match(record.get("log", ""))
        if record["tag"] == "taffrail.audit":
            if record.get("event") == "gap":
                self.gaps.append(record)
        elif match:
            key = match[1], int(match[2])
            self.counts[key] = self.counts.get(key, 0) + 1
            if self.counts[key] == 1:
                self.order.setdefault(match[1], []).append(key[1])
            else:
                self.again[key] = time.monotonic()
        else:
            self.others.append(record)

    def has(self, name, number):
        return (name, number) in self.counts

    def gaps_of(self, pod):
        return [gap for gap in self.gaps if gap.get("kubernetes", {}).get("pod_name") == pod]

    def missing(self, lines):
        """Of lines, {name: count}, those that are not there."""
        return [(name, number) for name, count in lines.items() for number in range(count)
                if (name, number) not in self.counts]

    def doubled(self):
        return sorted(key for key, times in self.counts.items() if times > 1)


def rfc3339(time_ns):
    seconds, fraction = divmod(time_ns, 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{fraction:09d}Z"


class CriFile:
    """A pod's container log as the kubelet writes it."""

    ROOT = "logs/pods"
    PIECE = 8192

    def __init__(self, house, namespace, pod, uid, container="app"):
        self.folder = house.path(self.ROOT, f"{namespace}_{pod}_{uid}", container)
        os.makedirs(self.folder, exist_ok=True)
        self.path = os.path.join(self.folder, "0.log")
        self.file = open(self.path, "ab", buffering=0)
        self.rotations = 0
        self.lines = 0

    def line(self, text, stream="stdout"):
        data = text if isinstance(text, bytes) else text.encode()
        out = b""
        while len(data) > self.PIECE:
            out += b"%s %s P %s\n" % (rfc3339(time.time_ns()).encode(), stream.encode(), data[:self.PIECE])
            data = data[self.PIECE:]
        return out + b"%s %s F %s\n" % (rfc3339(time.time_ns()).encode(), stream.encode(), data)

    def write(self, texts, stream="stdout"):
        self.lines += len(texts)
        self.put(b"".join(self.line(text, stream) for text in texts))

    def put(self, data):
        view = memoryview(data)
        while view:
            view = view[self.file.write(view):]

    def rotate(self):
        self.file.close()
        self.rotations += 1
        os.rename(self.path, f"{self.path}.20261124-{self.rotations:06d}")
        self.file = open(self.path, "ab", buffering=0)

    def close(self):
        self.file.close()


class DockerFile(CriFile):
    """A container's json-file log, and the kubelet's link to it."""

    ROOT = "logs/docker/containers"
    PIECE = 16384
    IS_LINKED = True

    def __init__(self, house, namespace, pod, uid, container="app"):
        self.id = (uid.replace("-", "") * 8)[:64]
        self.folder = house.path(self.ROOT, self.id)
        os.makedirs(self.folder, exist_ok=True)
        self.path = os.path.join(self.folder, f"{self.id}-json.log")
        self.file = open(self.path, "ab", buffering=0)
        self.rotations = 0
        self.lines = 0
        if not self.IS_LINKED:
            return
        pod_folder = house.path("logs/pods", f"{namespace}_{pod}_{uid}", container)
        os.makedirs(pod_folder, exist_ok=True)
        if not os.path.lexists(os.path.join(pod_folder, "0.log")):
            os.symlink(self.path, os.path.join(pod_folder, "0.log"))

    def line(self, text, stream="stdout"):
        text += "\n"
        pieces = [text[at:at + self.PIECE] for at in range(0, len(text), self.PIECE)]
        return b"".join(json.dumps({"log": piece, "stream": stream, "time": rfc3339(time.time_ns())},
                                   separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
                        for piece in pieces)

    def rotate(self):
        self.file.close()
        self.rotations += 1
        for number in range(self.rotations - 1, 0, -1):
            os.rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        os.rename(self.path, f"{self.path}.1")
        self.file = open(self.path, "ab", buffering=0)


class PlainFile(CriFile):
    """A log of plain lines, in a folder that tells pod and container as the kubelet's do."""

    ROOT = "logs/plain/pods"

    def line(self, text, stream="stdout"):
        return (text if isinstance(text, bytes) else text.encode()) + b"\n"


def gzip_by_kubelet(path):
    """PATH becomes PATH.gz through PATH.tmp, as the kubelet compresses what it rotated."""
    with open(path, "rb") as source, open(f"{path}.tmp", "wb") as temporary:
        temporary.write(gzip.compress(source.read()))
    os.rename(f"{path}.tmp", f"{path}.gz")
    os.unlink(path)


def gzip_by_docker(path):
    """PATH becomes PATH.gz, which grows under that name and has an extra field in its head, as docker writes it."""
    with open(path, "rb") as source, open(f"{path}.gz", "wb", buffering=0) as target:
        data = source.read()
        extra = b'{"lastTime":"2026-01-01T10:10:10Z"}'
        packer = zlib.compressobj(wbits=-15)
        target.write(b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff" + struct.pack("<H", len(extra)) + extra)
        target.write(packer.compress(data))
        target.write(packer.flush() + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF))
    os.unlink(path)
