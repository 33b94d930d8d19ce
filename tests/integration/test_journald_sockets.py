#!/usr/bin/python3
"""test_journald_sockets.py TAFFRAIL [CASE…] - the whole agent on the sockets of modes native, syslog and export_socket.

Clients are python, logger(1) and journald itself. What was stored before a kill comes once, a killed agent's socket is
replaced, and clients see that nobody listens meanwhile. Cases that want private namespaces, logger or journald are
skipped by name where those are not to be had; with JOURNALD_LAB=required that is a failure.
(Inside: --inside CASE TAFFRAIL FOLDER.)
"""

import errno
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from harness import Failed, PATIENCE, Program, need, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
LAB = [os.path.join(HERE, "../journald/lab")]
JOURNAL = "/run/systemd/journal"


class Skipped(Exception):
    """This machine does not permit it."""


class Machine:
    """The agent, its socket, and what it stored."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.socket = self.path("sock")
        self.agent = None

    def path(self, name):
        return os.path.join(self.folder, name)

    def configure(self, mode, listen=None):
        listen = f", listen: 'unix:{listen}'" if listen else ""
        with open(self.path("agent.yaml"), "w", encoding="utf-8") as file:
            file.write(f"inputs: [journald: {{mode: {mode}{listen}}}]\nspool: {{path: spool, keep_free: 0}}\n"
                       "outputs: [file: {path: records.ndjson}]\n")

    def start(self, wait="ready"):
        self.agent = Program([self.binary, "run", "-c", self.path("agent.yaml")], self.path("agent.log"))
        if wait:
            self.agent.wait_event(wait)

    def stop(self):
        need(self.agent.stop() == 0, f"the agent's exit code\n{self.agent.tail()}")

    def records(self, tag="journald"):
        try:
            with open(self.path("records.ndjson"), "rb") as file:
                found = [json.loads(line) for line in file if line.endswith(b"\n")]
        except FileNotFoundError:
            return []
        return [record for record in found if record["tag"] == tag]

    def numbers(self):
        return [int(record["journald"]["SEQ"]) for record in self.records() if "SEQ" in record.get("journald", {})]

    def wait_logs(self, *texts):
        def lacking():
            logs = [record.get("log") for record in self.records()]
            return [text for text in texts if text not in logs]

        wait_until(lambda: not lacking(), 30, lambda: f"lacking: {lacking()}\n{self.agent.tail()}")

    def need_no_gap(self):
        gaps = [record for record in self.records("taffrail.audit") if record["event"] == "gap"]
        need(not gaps, f"gaps: {gaps[:3]}")


def send_native(path, first, last):
    """Returns the first number that could not be sent, or last."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for number in range(first, last):
            value = bytes([number % 256, 10, 0, 255])
            data = b"MESSAGE=native %d\nSEQ=%d\nBINARY\n%s%s\n" % (number, number, struct.pack("<Q", 4), value)
            try:
                sender.sendto(data, path)
            except OSError as error:
                need(error.errno in (errno.ECONNREFUSED, errno.ENOENT, errno.EPIPE), f"send: {error}")
                return number
    return last


def logger(*words, text=None):
    if shutil.which("logger") is None:
        raise Skipped("no logger (apt-get install bsdutils)")
    subprocess.run(["logger", *words], input=text, check=True, timeout=30 * PATIENCE)


# ---- cases ---------------------------------------------------------------------------------------

def case_native_killed(machine):
    """What was stored comes once; the socket of a killed agent is stale, and then replaced."""
    machine.configure("native", machine.socket)
    machine.start()
    for round_ in range(4):
        first = round_ * 500
        need(send_native(machine.socket, first, first + 500) == first + 500, "the agent listens, and nobody could send")
        wait_until(lambda: len(machine.numbers()) >= first + 500, 30, machine.agent.tail)
        machine.agent.kill()
        need(send_native(machine.socket, 0, 1) == 0, "nobody listens, and a client is not told")
        machine.start()
    machine.stop()
    need(machine.numbers() == list(range(2000)), "not each once and in order")
    need(not os.path.exists(machine.socket), "the socket is still there")
    record = machine.records()[7]["journald"]
    need(record["_PID"] == str(os.getpid()) and record["_UID"] == str(os.getuid()), f"{record}")
    machine.need_no_gap()


def case_native_killed_at_work(machine):
    """Killed while clients send: what was on its way may be lost (docs/journald.md), and nothing is doubled."""
    machine.configure("native", machine.socket)
    machine.start()
    done = threading.Event()
    sent = []

    def send():
        number = 0
        while not done.is_set():
            if send_native(machine.socket, number, number + 1) > number:
                sent.append(number)
                number += 1
                time.sleep(0.0002)
            else:
                time.sleep(0.002)

    thread = threading.Thread(target=send)
    thread.start()
    for _ in range(4):
        time.sleep(0.7)
        wait_until(lambda: len(machine.numbers()) > len(sent) // 2, 30, machine.agent.tail)  # or it would prove nothing
        machine.agent.kill()
        machine.start()
    done.set()
    thread.join()
    first = len(sent)
    need(send_native(machine.socket, first, first + 100) == first + 100, "the agent listens")
    wait_until(lambda: set(range(first, first + 100)) <= set(machine.numbers()), 30, machine.agent.tail)
    machine.stop()
    numbers = machine.numbers()
    need(numbers == sorted(set(numbers)), "doubled, or not in order")
    need(len(numbers) > len(sent) // 4, f"{len(numbers)} of {len(sent)}")


def case_stopped(machine):
    """A clean stop stores all that was sent."""
    machine.configure("native", machine.socket)
    machine.start()
    sent = []
    thread = threading.Thread(target=lambda: sent.append(send_native(machine.socket, 0, 10**9)))
    thread.start()
    time.sleep(1)
    try:
        machine.stop()
    finally:
        thread.join(30 * PATIENCE)
    need(machine.numbers() == list(range(sent[0])), f"{len(machine.numbers())} of {sent[0]}")
    machine.need_no_gap()


def case_syslog(machine):
    machine.configure("syslog", machine.socket)
    machine.start()
    logger("-u", machine.socket, "-t", "demo", "-p", "daemon.err", "of old form")
    logger("-u", machine.socket, "--rfc5424", "-t", "modern", "-p", "user.info", "of new form")
    machine.wait_logs("of old form", "of new form")
    machine.stop()
    records = {record["log"]: record for record in machine.records()}
    need(records["of old form"]["identifier"] == "demo" and records["of old form"]["severity"] == "error", f"{records}")
    need(records["of new form"]["identifier"] == "modern" and records["of new form"]["severity"] == "info", f"{records}")
    machine.need_no_gap()


def case_in_place_of_journald(machine):
    """Where there is none, as in a container: the agent has journald's own name."""
    os.makedirs(JOURNAL)
    machine.configure("native")
    machine.start()
    logger("--journald", text=b"MESSAGE=by logger\nPRIORITY=3\nFOO=bar\nTWO=1\nTWO=2\n")
    machine.wait_logs("by logger")
    machine.stop()
    record = machine.records()[0]
    need(record["severity"] == "error" and record["journald"]["FOO"] == "bar", f"{record}")
    need(record["journald"]["TWO"] == ["1", "2"], f"{record}")
    need(not os.path.exists(f"{JOURNAL}/socket"), "the socket is still there")


case_in_place_of_journald.beside = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                                    "mount -t tmpfs tmpfs /run || exit 77; exec \"$@\"", "sh"]


def case_beside_journald(machine):
    """journald's own socket is left alone, and the start says what is wrong."""
    machine.configure("native")
    machine.start(wait=None)
    need(machine.agent.process.wait(30 * PATIENCE) != 0, "it started")
    need("somebody listens on /run/systemd/journal/socket already" in machine.agent.text(), machine.agent.tail())
    logger("--journald", text=b"MESSAGE=journald still gets it\n")
    subprocess.run(["journalctl", "--sync"], check=True, timeout=60 * PATIENCE)
    found = subprocess.run(["journalctl", "-D", "/var/log/journal", "-o", "cat"], check=True, capture_output=True,
                           timeout=60 * PATIENCE).stdout
    need(b"journald still gets it" in found, f"{found}")


case_beside_journald.beside = LAB


def case_forward_to_syslog(machine):
    """What journald forwards in syslog's form."""
    machine.configure("syslog")
    machine.start()
    for i in range(20):
        logger("-u", f"{JOURNAL}/dev-log", "-t", "demo", f"by way of journald {i}")
    logger("--journald", text=b"MESSAGE=made by journald\nSYSLOG_IDENTIFIER=app\nPRIORITY=4\n")
    machine.wait_logs("made by journald", *(f"by way of journald {i}" for i in range(20)))
    machine.stop()
    record = [record for record in machine.records() if record["log"] == "made by journald"][0]
    need(record["identifier"] == "app" and record["severity"] == "warning", f"{record}")


case_forward_to_syslog.beside = LAB
case_forward_to_syslog.conf = "ForwardToSyslog=yes"


def case_export_socket(machine):
    """A client that writes as journald does, over kills of the agent: nothing is doubled."""
    machine.configure("export_socket", machine.socket)
    machine.start()
    for round_ in range(3):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as journald:
            journald.connect(machine.socket)
            for number in range(round_ * 1000, round_ * 1000 + 1000):
                journald.sendall(b"MESSAGE=forwarded %d\nSEQ=%d\n__REALTIME_TIMESTAMP=%d\n\n"
                                 % (number, number, time.time_ns() // 1000))
            wait_until(lambda: len(machine.numbers()) >= round_ * 1000 + 1000, 30, machine.agent.tail)
            machine.agent.kill()
        machine.start()
    machine.stop()
    need(machine.numbers() == list(range(3000)), "not each once and in order")
    machine.need_no_gap()


# ---- running them --------------------------------------------------------------------------------

CASES = {name.removeprefix("case_"): case for name, case in globals().items() if name.startswith("case_")}


def run_inside(name, binary, folder):
    try:
        CASES[name](Machine(binary, folder))
    except Skipped as reason:
        print(f"skip: {reason}", file=sys.stderr)
        return 77
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def run_case(name, binary):
    folder = tempfile.mkdtemp(prefix="taffrail-test-")
    beside = list(getattr(CASES[name], "beside", []))
    if beside == LAB:
        beside.append(folder)
    words = beside + [sys.executable, os.path.abspath(__file__), "--inside", name, binary, folder]
    env = {**os.environ, "JOURNALD_CONF": getattr(CASES[name], "conf", "")}
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, timeout=120 * PATIENCE, env=env, check=False)
    text = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
    rc = done.returncode
    if rc == 1 and "unshare" in text.rpartition("\n")[2]:
        rc = 77
    if rc == 0:
        print(f"ok    {name} ({time.monotonic() - began:.0f} s)", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
    elif rc == 77:
        print(f"skip  {name}: {text.splitlines()[-1] if text else 'not permitted here'}", flush=True)
    else:
        print(f"FAIL  {name} (kept: {folder})\n{text[-6000:]}", flush=True)
    return rc


def main():
    binary = os.path.abspath(sys.argv[1])
    results = [run_case(name, binary) for name in sys.argv[2:] or CASES]
    skipped = results.count(77)
    failed = len(results) - results.count(0) - skipped
    print(f"{results.count(0)} passed, {failed} failed, {skipped} skipped")
    if skipped and os.environ.get("JOURNALD_LAB") == "required":
        print("FAIL  a case was skipped, and JOURNALD_LAB=required")
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        sys.exit(run_inside(*sys.argv[2:5]))
    sys.exit(main())
