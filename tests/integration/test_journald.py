#!/usr/bin/python3
"""test_journald.py TAFFRAIL JOURNAL-SEND [CASE…] - the whole agent beside a real journald, mode reader.

Every entry arrives once, field by field as journalctl has it, whatever is killed, cut, rotated or vacuumed; what is
lost is a gap record. Each case runs in a lab of its own (tests/journald/lab). Where private namespaces are not
permitted the cases are skipped by name; with JOURNALD_LAB=required a skip is a failure.
(Inside the lab: --inside CASE TAFFRAIL JOURNAL-SEND FOLDER.)
"""

import base64
import collections
import glob
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
import threading
import time

from harness import Failed, PATIENCE, Program, check_books, children_of, need, process_file, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
LAB = os.path.join(HERE, "../journald/lab")
JOURNAL = "/var/log/journal"
MOVED = {"MESSAGE"}   # to `log`


class Machine:
    """What a case has: the agent, journald, and the record file."""

    def __init__(self, binary, send, folder):
        self.binary, self.send_program, self.folder = binary, send, folder
        self.agent = None

    def path(self, name):
        return os.path.join(self.folder, name)

    def configure(self, options="start_at: oldest", spool="", output="file: {path: records.ndjson}"):
        with open(self.path("agent.yaml"), "w", encoding="utf-8") as file:
            file.write(f"inputs: [journald: {{{options}}}]\n"
                       f"spool: {{path: spool, keep_free: 0{spool}}}\noutputs: [{output}]\n")

    def start(self, prefix=(), env=None):
        self.agent = Program([*prefix, self.binary, "run", "-c", self.path("agent.yaml")], self.path("agent.log"), env)
        self.agent.wait_event("ready")

    def stop(self):
        need(self.agent.stop() == 0, f"the agent's exit code\n{self.agent.tail()}")

    def reader_pid(self):
        """Of the agent's child; None while there is none."""
        return next(iter(children_of(self.agent.pid)), None)

    def wait_reader(self):
        wait_until(lambda: self.reader_pid() is not None, 15, lambda: f"no reader\n{self.agent.tail()}")
        return self.reader_pid()

    def reader_words(self):
        """What the reader was called with; between fork and exec it is still the agent."""
        words = []

        def has_words():
            try:
                with open(f"/proc/{self.wait_reader()}/cmdline", "rb") as file:
                    words[:] = file.read().decode().split("\0")
            except OSError:
                return False
            return words[0] not in ("", self.binary)

        wait_until(has_words, 15, "no reader")
        return words

    def kill_reader(self, number=signal.SIGKILL):
        pid = self.reader_pid()
        if pid is not None:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def send(self, *words):
        subprocess.run([self.send_program, *map(str, words)], check=True, stdout=subprocess.DEVNULL, timeout=120 * PATIENCE)

    @staticmethod
    def sync():
        subprocess.run(["journalctl", "--sync"], check=True, timeout=30 * PATIENCE)

    def records(self, tag="journald"):
        try:
            with open(self.path("records.ndjson"), "rb") as file:
                found = [json.loads(line) for line in file if line.endswith(b"\n")]
        except FileNotFoundError:
            return []
        return [record for record in found if record["tag"] == tag]

    def gaps(self, reason):
        return [record for record in self.records("taffrail.audit")
                if record["event"] == "gap" and record["reason"] == reason]

    def numbers(self):
        """The SEQ of what the sender has flooded, as it arrived."""
        return [int(record["journald"]["SEQ"]) for record in self.records() if "SEQ" in record["journald"]]

    def wait_numbers(self, count, timeout_s=60):
        wait_until(lambda: len(self.numbers()) >= count, timeout_s,
                   lambda: f"{len(self.numbers())} of {count} came\n{self.agent.tail()}")

    def wait_position(self, cursor):
        """Until another start reads from there on."""
        def is_there():
            time.sleep(2)
            self.stop()
            check_books(self.agent)
            self.start()
            return f"--after={cursor}" in self.reader_words()

        wait_until(is_there, 30, lambda: f"{self.reader_words()}, not after {cursor}")

    def need_each_once(self, count):
        numbers = self.numbers()
        twice = [number for number, times in collections.Counter(numbers).items() if times > 1]
        lacks = sorted(set(range(count)) - set(numbers))
        need(not twice and not lacks, f"doubled: {twice[:5]} ({len(twice)}), lost: {lacks[:5]} ({len(lacks)})")
        need(numbers == sorted(numbers), "not in order")

    def need_calm(self):
        """No gap of any kind, and the reader was never started again."""
        gaps = [record for record in self.records("taffrail.audit") if record["event"] == "gap"]
        need(not gaps, f"gaps: {gaps[:3]}")
        need(not self.agent.has_event("journal-reader"), self.agent.tail())


# ---- what an entry is ---------------------------------------------------------------------------

def journalctl(*words):
    done = subprocess.run(["journalctl", "-D", JOURNAL, "-o", "json", "--all", *words], check=True,
                          capture_output=True, timeout=60 * PATIENCE)
    return [json.loads(line) for line in done.stdout.splitlines()]


def as_bytes(value):
    """Of one value of journalctl's JSON: a text, or numbers."""
    return value.encode() if isinstance(value, str) else bytes(value)


def values_of(value):
    """Of a field of journalctl's JSON: one text, one array of numbers, or an array of values."""
    if isinstance(value, list) and value and not isinstance(value[0], int):
        return {as_bytes(item) for item in value}
    return {as_bytes(value)}


def our_values(name, value):
    items = value if isinstance(value, list) else [value]
    found = set()
    for item in items:
        if isinstance(item, dict):
            found.add(base64.b64decode(item["_b64"]))
        else:
            found.add(base64.b64decode(item) if name.endswith("_b64") else item.encode())
    return found


def our_fields(record):
    fields = {name.removesuffix("_b64"): our_values(name, value) for name, value in record["journald"].items()}
    for name in ("log", "log_b64"):
        if name in record:
            fields["MESSAGE"] = our_values(name, record[name])
    return fields


def need_equal(records, entries):
    need(len(records) == len(entries), f"{len(records)} records of {len(entries)} entries")
    for record, entry in zip(records, entries):
        want = {name: values_of(value) for name, value in entry.items()}
        got = our_fields(record)
        need(got == want, f"differs in {[name for name in want | got if want.get(name) != got.get(name)]}:\n"
                          f"{record}\n{entry}")


# ---- cases --------------------------------------------------------------------------------------

def case_equal(machine):
    """Every field of every entry, as journalctl has it; the usual ones under our names."""
    machine.configure()
    machine.start()
    machine.send("cases")
    machine.send("value", 70000)
    subprocess.run(["logger", "-u", "/run/systemd/journal/dev-log", "-t", "demo", "-p", "user.warning", "hello"], check=True)
    subprocess.run(["systemd-cat", "-t", "cat", "echo", "by stdout"], check=True)
    machine.sync()
    entries = journalctl()
    wait_until(lambda: len(machine.records()) >= len(entries), 30, "the entries do not come")
    machine.stop()
    check_books(machine.agent)
    need_equal(machine.records(), entries)
    by_log = {record.get("log"): record for record in machine.records()}
    hello = by_log["hello"]
    need((hello["severity"], hello["identifier"], hello["host"]) == ("warning", "demo", "ci-host"), f"{hello}")
    need(hello["boot_id"] == "11111111222243338444555555555555" and isinstance(hello["pid"], int), f"{hello}")
    need(by_log["by stdout"]["identifier"] == "cat", f"{by_log['by stdout']}")
    machine.need_calm()


# Logs, and lives until its stdin ends: journald finds no _CMDLINE of a process that has gone.
LOGIN = """if 1:
    import socket, sys
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.sendto(b"<14>demo: login " + sys.argv[1].encode(), "/run/systemd/journal/dev-log")
    sys.stdin.read()
"""


def case_redaction(machine):
    """No field is left out, _CMDLINE before all: neither at the output nor in the spool is a secret."""
    secret = "hunter2Secret9"
    machine.configure()
    machine.start()
    subprocess.run(["logger", "-u", "/run/systemd/journal/dev-log", "-t", "demo", f"--password={secret}"], check=False,
                   stderr=subprocess.DEVNULL)
    subprocess.run(["logger", "--journald"], input=f"MESSAGE=native\nDB_PASSWORD={secret}\n".encode(), check=True)
    with subprocess.Popen([sys.executable, "-c", LOGIN, f"password={secret}"], stdin=subprocess.PIPE):
        wait_until(lambda: any(r.get("log", "").startswith("login") for r in machine.records()), 30, "no login comes")
    wait_until(lambda: any(r.get("log") == "native" for r in machine.records()), 30, "the entries do not come")
    machine.stop()
    with open(machine.path("records.ndjson"), "rb") as file:
        text = file.read()
    need(secret.encode() not in text and b"[REDACTED:" in text, "a secret came through")
    login = [record for record in machine.records() if record.get("log", "").startswith("login")][0]
    need("REDACTED" in login["log"] and "REDACTED" in login["journald"]["_CMDLINE"], f"{login}")


def flood_in_background(machine, count, rate=0, size=100):
    thread = threading.Thread(target=machine.send, args=("flood", count, size, rate))
    thread.start()
    return thread


def case_kills(machine):
    """The reader is killed at random bytes, and twice the agent, through rotations at full speed."""
    count = 40000
    machine.configure()
    machine.start()
    flood = flood_in_background(machine, count, 10000)
    kills = 0
    while flood.is_alive() or kills < 10:  # on a busy machine the last ones meet a reader that catches up
        time.sleep(random.uniform(0.02, 0.25))
        if kills % 12 == 11:
            machine.agent.kill()
            machine.start()
        else:
            machine.kill_reader()
        if kills % 5 == 0:
            subprocess.run(["journalctl", "--rotate"], check=True, timeout=30 * PATIENCE)
        kills += 1
    flood.join()
    machine.sync()
    machine.wait_numbers(count)
    machine.stop()
    check_books(machine.agent)
    machine.need_each_once(count)
    need(not machine.gaps("vacuumed") and not machine.gaps("unreadable"),
         f"{kills} kills, {machine.records('taffrail.audit')[:5]}")
    print(f"    {kills} kills, {count} entries")


def case_reloads(machine):
    """Main and its reader are replaced while entries come (docs/reload.md); the last main is of another configuration."""
    count = 12000
    machine.configure()
    machine.start()
    flood = flood_in_background(machine, count, 5000)
    for number in range(1, 5):
        if number == 4:
            machine.configure("start_at: oldest, helper: journalctl")
        time.sleep(random.uniform(0.1, 0.4))
        machine.agent.process.send_signal(signal.SIGHUP)
        wait_until(lambda: machine.agent.text().count(" event=reload ") == number, 30, machine.agent.tail)  # pylint: disable=cell-var-from-loop
    flood.join()
    machine.sync()
    machine.wait_numbers(count)
    wait_until(lambda: len(machine.agent.children()) == 1, 15, "the old main is still there")
    need(machine.reader_words()[0].endswith("journalctl"), f"{machine.reader_words()}")
    machine.stop()
    check_books(machine.agent)
    machine.need_each_once(count)


def case_journalctl(machine):
    """The fallback keeps the same promise."""
    count = 12000
    machine.configure("start_at: oldest, helper: journalctl")
    machine.start()
    need(machine.reader_words()[0].endswith("journalctl"), f"{machine.reader_words()}")
    flood = flood_in_background(machine, count, 5000)
    for _ in range(8):
        time.sleep(random.uniform(0.1, 0.4))
        machine.kill_reader()
    flood.join()
    machine.sync()
    machine.wait_numbers(count)
    need(not machine.gaps("vacuumed"), f"{machine.gaps('vacuumed')[:1]}")
    vacuum_unread(machine)
    need(len(machine.gaps("vacuumed")) == 1, f"{machine.gaps('vacuumed')}")
    machine.stop()
    numbers = machine.numbers()
    need(len(numbers) == len(set(numbers)), "doubled")


def vacuum_unread(machine):
    """While the agent is down entries come and their files go; then some stay."""
    machine.agent.kill()
    machine.send("flood", 3000, 4000)
    machine.sync()
    subprocess.run(["journalctl", "--rotate"], check=True, timeout=30 * PATIENCE)
    machine.send("value", 10)
    machine.sync()
    for path in glob.glob(f"{JOURNAL}/*/*@*.journal") + glob.glob(f"{JOURNAL}/*@*.journal"):
        os.unlink(path)
    machine.start()
    wait_until(lambda: machine.gaps("vacuumed"), 30, lambda: f"no gap\n{machine.agent.tail()}")
    wait_until(lambda: any("NOTE" in r["journald"] for r in machine.records()[-5:]), 30, "what stayed does not come")


def case_vacuumed(machine):
    """Gone before they were read: a gap with their exact number, and what stayed comes whole."""
    machine.configure()
    machine.start()
    machine.send("flood", 500)
    machine.sync()
    machine.wait_numbers(500)
    before = machine.records()[-1]["journald"]["__CURSOR"]
    vacuum_unread(machine)
    after = next(r for r in machine.records() if "NOTE" in r["journald"])["journald"]["__CURSOR"]
    machine.stop()
    number = [int(re.search(";i=([0-9a-f]+)", cursor)[1], 16) for cursor in (before, after)]
    gap = machine.gaps("vacuumed")
    need(len(gap) == 1, f"{gap}")
    told = int(re.search(r"([\d,]+)", gap[0]["log"])[1].replace(",", ""))
    cursors = [r["journald"]["__CURSOR"] for r in machine.records()]
    arrived = cursors.index(after) - cursors.index(before)
    need(told == number[1] - number[0] - arrived, f"told {told}; {number}, {arrived} came: {gap[0]['log']}")


def case_cut_file(machine):
    """A file is cut while it is mapped (SIGBUS): the reader dies, the agent does not, and goes on."""
    machine.configure()
    machine.start()
    machine.send("flood", 3000)
    machine.sync()
    machine.wait_numbers(3000)
    path = glob.glob(f"{JOURNAL}/*/system.journal")[0] if glob.glob(f"{JOURNAL}/*/system.journal") else f"{JOURNAL}/system.journal"
    with open(path, "rb") as file:
        header = file.read(4096)
    os.truncate(path, 8192)
    with open(path, "r+b") as file:   # so that the reader looks for one more
        file.seek(152)
        file.write(struct.pack("<Q", struct.unpack_from("<Q", header, 152)[0] + 1))
    wait_until(lambda: machine.agent.has_event("journal-reader"), 30, lambda: f"it noticed nothing\n{machine.agent.tail()}")
    os.unlink(path)
    subprocess.run(["journalctl", "--rotate"], check=False, timeout=30 * PATIENCE)
    machine.send("value", 10)   # journald begins a new file
    machine.sync()
    wait_until(lambda: any("NOTE" in r["journald"] for r in machine.records()), 60,
               lambda: f"it does not go on\n{machine.agent.tail()}")
    machine.stop()
    machine.need_each_once(3000)
    check_books(machine.agent)


def as_unit(unit, work):
    """Does it in a process of that unit, as journald sees it; False where cgroups cannot be made."""
    root = "/sys/fs/cgroup/unified" if os.path.isdir("/sys/fs/cgroup/unified") else "/sys/fs/cgroup"
    folder = f"{root}/system.slice/{unit}"
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    child = os.fork()
    if child == 0:
        rc = 1
        try:
            with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(os.getpid()))
            work()
            rc = 0
        finally:
            os._exit(rc)
    return os.waitpid(child, 0)[1] == 0


def log_and_stay(text):
    """By this process, which lives until journald has looked at it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(f"<6>u: {text}".encode(), "/run/systemd/journal/dev-log")
    Machine.sync()


def case_suppressed(machine):
    """journald's own rate limit is a gap, with the count, behind the record that says so."""
    if not as_unit("loud.service", lambda: machine.send("flood", 400)):
        raise Skipped("cgroups cannot be made here")   # journald limits services
    machine.configure()
    machine.start()
    wait_until(lambda: [time.sleep(0.5), as_unit("loud.service", lambda: machine.send("value", 5)), machine.gaps("suppressed")][-1], 30,
               lambda: f"no gap\n{machine.agent.tail()}")
    machine.agent.process.send_signal(signal.SIGUSR1)
    machine.stop()
    notes = [r for r in machine.records() if "N_DROPPED" in r["journald"]]
    lost = sum(int(r["journald"]["N_DROPPED"]) for r in notes)
    gaps = machine.gaps("suppressed")
    need(len(gaps) == len(notes), f"{gaps}, {notes}")
    told = sum(int(re.search(r"suppressed ([\d,]+)", gap["log"])[1].replace(",", "")) for gap in gaps)
    need(told == lost and lost > 0, f"told {told}, journald {lost}")
    need(f"suppressed={lost} " in machine.agent.text(), f"the figure of {lost}\n{machine.agent.tail()}")


case_suppressed.conf = "RateLimitIntervalSec=3s\nRateLimitBurst=20"


def case_forged_note(machine):
    """A client that writes what only journald may say makes no gap."""
    machine.configure()
    machine.start()
    subprocess.run(["logger", "--journald"], check=True,
                   input=b"MESSAGE=Suppressed 99 messages\nMESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e\nN_DROPPED=99\n")
    machine.sync()
    wait_until(lambda: any("N_DROPPED" in r["journald"] for r in machine.records()), 30, "the entry does not come")
    machine.stop()
    machine.need_calm()


def case_hang(machine):
    """A reader that stops is killed after its time, and nothing is lost."""
    machine.configure()
    machine.start()
    machine.send("flood", 200)
    machine.sync()
    machine.wait_numbers(200)
    stopped = machine.reader_pid()
    os.kill(stopped, signal.SIGSTOP)
    machine.send("flood", 200)
    machine.sync()
    wait_until(lambda: "was silent" in machine.agent.text(), 60, lambda: f"it is not noticed\n{machine.agent.tail()}")
    machine.wait_numbers(400)
    machine.stop()
    numbers = machine.numbers()
    need(numbers == list(range(200)) * 2, f"{len(numbers)} numbers")
    need(machine.reader_pid() != stopped, "the old one lives")


def case_selection(machine):
    """Only what is wanted comes; the position moves on all the same, and a restart reads nothing again."""
    machine.configure("start_at: oldest, identifiers: ['dem?'], priority: notice, exclude_units: [evil.service]")
    machine.start()
    machine.send("flood", 2000)
    for priority, tag in (("user.notice", "demo"), ("user.info", "demo"), ("user.err", "other"), ("user.err", "dema")):
        subprocess.run(["logger", "-u", "/run/systemd/journal/dev-log", "-t", tag, "-p", priority, f"{tag} {priority}"], check=True)
    machine.send("flood", 2000)
    machine.sync()
    tail = journalctl("-n", "1")[0]["__CURSOR"]
    wait_until(lambda: len(machine.records()) >= 2, 30, "the entries do not come")
    machine.wait_position(tail)
    need([r["log"] for r in machine.records()] == ["demo user.notice", "dema user.err"], f"{machine.records()}")
    machine.stop()
    # Exact words are selected in the reader, which then tells how far it is.
    machine.configure("start_at: oldest, identifiers: [demo]")
    machine.start()
    machine.send("flood", 2000)
    machine.sync()
    tail = journalctl("-n", "1")[0]["__CURSOR"]
    need("--match=SYSLOG_IDENTIFIER=demo" in machine.reader_words(), f"{machine.reader_words()}")
    machine.wait_position(tail)
    machine.stop()
    need(len(machine.records()) == 2, "the position moved back")


def case_units(machine):
    """Units by their trusted field, exact and as globs."""
    def log_as(unit, text):
        return as_unit(unit, lambda: log_and_stay(text))

    if not log_as("sshd.service", "probe"):
        raise Skipped("cgroups cannot be made here")
    machine.configure("start_at: newest, units: [sshd.service], name: exact")
    with open(machine.path("agent.yaml"), encoding="utf-8") as file:
        text = file.read()
    with open(machine.path("agent.yaml"), "w", encoding="utf-8") as file:
        file.write(text.replace("inputs: [", "inputs: [journald: {name: globs, start_at: newest, units: ['ss*.service'], "
                                "exclude_units: [ssx.service]}, "))
    machine.start()

    def texts(name):
        return [(r["log"], r["unit"]) for r in machine.records(name) if r["log"] != "begun"]

    def both_read():
        need(log_as("sshd.service", "begun"), "begun")
        return all(any(r["log"] == "begun" for r in machine.records(name)) for name in ("exact", "globs"))

    wait_until(both_read, 30, machine.agent.tail)
    for unit in ("sshd.service", "ssx.service", "ssy.service", "cron.service"):
        need(log_as(unit, f"by {unit}"), unit)
    subprocess.run(["logger", "--journald"], input=b"MESSAGE=claimed\n_SYSTEMD_UNIT=sshd.service\nUNIT=sshd.service\n", check=True)
    machine.sync()
    wait_until(lambda: len(texts("exact")) + len(texts("globs")) >= 3, 30, machine.agent.tail)
    time.sleep(0.5)
    machine.stop()
    exact, globs = texts("exact"), texts("globs")
    need(exact == [("by sshd.service", "sshd.service")], f"{exact}")
    need(globs == [("by sshd.service", "sshd.service"), ("by ssy.service", "ssy.service")], f"{globs}")


def case_start_at(machine):
    """Where reading begins without a position."""
    machine.send("flood", 5)
    machine.sync()
    time.sleep(1.1)
    middle = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    time.sleep(1.1)
    machine.send("value", 3)
    machine.sync()

    def log_by(tag):
        subprocess.run(["logger", "-u", "/run/systemd/journal/dev-log", "-t", tag, tag], check=True)
        machine.sync()

    def has_come(tag):
        return any(r.get("identifier") == tag for r in machine.records())

    for start, wanted in (("oldest", (5, 1)), ("boot", (5, 1)), (f"'{middle}'", (0, 1)), ("newest", (0, 0))):
        machine.configure(f"start_at: {start}")
        for name in ("spool", "spool.key", "records.ndjson"):
            path = machine.path(name)
            shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.unlink(path)
        machine.start()
        if start == "newest":  # which is where it comes to read
            wait_until(lambda: log_by("begun") or has_come("begun"), 30, machine.agent.tail)
        log_by("end")
        wait_until(lambda: has_come("end"), 30, machine.agent.tail)
        machine.stop()
        fields = [r["journald"] for r in machine.records()]
        got = (sum("SEQ" in f for f in fields), sum("NOTE" in f for f in fields))
        need(got == wanted, f"start_at {start}: {got}, not {wanted}")
        need(sum(r.get("identifier") == "end" for r in machine.records()) == 1 or start != "newest", "not only what is new")


def case_full_spool(machine):
    """While the spool is full the pipe is not read: nothing is lost, and journald does not wait."""
    count = 60000
    for words in (("init", "--name", "X", "pki"), ("agent", "pki", "node")):
        subprocess.run([machine.binary, "pki", *words], cwd=machine.folder, check=True, stdout=subprocess.DEVNULL)
    nobody = "forward: {hosts: ['127.0.0.1:9'], tls: {ca: pki/ca.pem, cert: pki/node.pem, key: pki/node.key}}"
    bounds = ", max_size: 1MiB, segment_size: 1MiB"
    machine.configure(spool=bounds, output=nobody)
    machine.start()
    began = time.monotonic()
    machine.send("flood", count, 300)
    took = time.monotonic() - began
    machine.sync()

    def waits_in():
        return process_file(machine.reader_pid(), "wchan")

    wait_until(lambda: waits_in().startswith(("sock_alloc", "pipe_")) or waits_in() == "0", 15,
               lambda: f"the reader does not wait: {waits_in()}")
    print(f"    sent in {took:.1f} s")
    with open(f"/proc/{machine.agent.pid}/status", encoding="ascii") as file:
        rss_kb = int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])
    machine.agent.kill()
    machine.configure(spool=bounds)
    machine.start()
    machine.wait_numbers(count)
    machine.stop()
    machine.need_each_once(count)
    need(rss_kb < 300 * 1024, f"{rss_kb} KiB resident")


def case_unreadable(machine):
    """Files that may not be read are told by name, with the mend."""
    if shutil.which("setpriv") is None or os.geteuid() != 0:
        raise Skipped("wants root and setpriv")
    machine.send("flood", 10)
    machine.sync()
    for at in (machine.folder, machine.path("bin")):
        os.makedirs(at, exist_ok=True)
        os.chmod(at, 0o777)
    for name in (machine.binary, os.path.join(os.path.dirname(machine.binary), "taffrail-journal")):
        shutil.copy(name, machine.path("bin"))
    machine.binary = machine.path("bin/taffrail")
    for path in glob.glob(f"{JOURNAL}/**/*.journal", recursive=True):
        os.chmod(path, 0o640)
    machine.configure()
    machine.start(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"])
    machine.agent.wait_event("unreadable", 30)
    need("permission denied" in machine.agent.text() and "systemd-journal" in machine.agent.text(), machine.agent.tail())
    machine.stop()


def case_namespace(machine):
    """The journal of a namespace, and not the system's, by either program."""
    conf = "/run/systemd/journald@ci.conf.d"
    os.makedirs(conf)
    with open(f"{conf}/test.conf", "w", encoding="ascii") as file:
        file.write("[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n")
    own = subprocess.Popen(["/lib/systemd/systemd-journald", "ci"])
    try:
        wait_until(lambda: os.path.exists("/run/systemd/journal.ci/socket"), 15, "no journald of the namespace")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(b"MESSAGE=inside\n", "/run/systemd/journal.ci/socket")
        subprocess.run(["logger", "--journald"], input=b"MESSAGE=outside\n", check=True)
        machine.sync()
        for helper in ("reader", "journalctl"):
            machine.configure(f"start_at: oldest, namespace: ci, helper: {helper}, name: {helper}")
            machine.start()
            wait_until(lambda: any(r.get("log") == "inside" for r in machine.records(helper)), 30, machine.agent.tail)
            machine.stop()
            need(not any(r.get("log") == "outside" for r in machine.records(helper)), f"{helper}: the system's entries come")
    finally:
        own.terminate()
        own.wait()


def case_own_entries(machine):
    """What the agent itself logs to the journal is left out; other services' is not."""
    fields = b"__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=" + b"1" * 32 + b"\n"
    own, other = b"a" * 32, b"b" * 32
    text = b"".join(fields % (time.time_ns() // 1000 + i, 1000 + i) + b"MESSAGE=by %c\n_SYSTEMD_INVOCATION_ID=%s\n\n"
                    % (run[:1], run) for i, run in enumerate((own, other)))
    remote = "/lib/systemd/systemd-journal-remote"
    if not os.path.exists(remote):
        raise Skipped("no systemd-journal-remote")
    os.mkdir(machine.path("own"))
    subprocess.run([remote, "-o", machine.path("own/x.journal"), "-"], input=text, check=True, capture_output=True)
    machine.configure("start_at: oldest, paths: [own]")
    machine.start(env={"INVOCATION_ID": own.decode()})
    wait_until(lambda: machine.records(), 30, machine.agent.tail)
    time.sleep(0.5)
    machine.stop()
    need([r["log"] for r in machine.records()] == ["by b"], f"{machine.records()}")


# ---- running them -------------------------------------------------------------------------------

class Skipped(Exception):
    """This machine does not permit it."""


CASES = {name.removeprefix("case_"): case for name, case in globals().items() if name.startswith("case_")}


def run_inside(name, binary, send, folder):
    try:
        CASES[name](Machine(binary, send, folder))
    except Skipped as reason:
        print(f"skip: {reason}", file=sys.stderr)
        return 77
    return 0


def run_case(name, binary, send):
    folder = tempfile.mkdtemp(prefix="taffrail-test-")
    words = [LAB, folder, sys.executable, os.path.abspath(__file__), "--inside", name, binary, send, folder]
    env = {**os.environ, "JOURNALD_CONF": getattr(CASES[name], "conf", "")}
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, timeout=150 * PATIENCE, env=env, check=False)
    took = time.monotonic() - began
    text = (done.stdout + done.stderr).decode("utf-8", "replace")
    if done.returncode == 0:
        print(f"ok    {name} ({took:.0f} s)\n{done.stdout.decode()}", end="", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
    elif done.returncode == 77:
        print(f"skip  {name}: {text.strip().splitlines()[-1]}", flush=True)
    else:
        print(f"FAIL  {name} (kept: {folder})\n{text[-6000:]}", flush=True)
    return done.returncode


def main():
    binary, send = map(os.path.abspath, sys.argv[1:3])
    results = [run_case(name, binary, send) for name in sys.argv[3:] or CASES]
    skipped = results.count(77)
    failed = len(results) - results.count(0) - skipped
    print(f"{results.count(0)} passed, {failed} failed, {skipped} skipped")
    if skipped and os.environ.get("JOURNALD_LAB") == "required":
        print("FAIL  a case was skipped, and JOURNALD_LAB=required")
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        sys.exit(run_inside(*sys.argv[2:6]))
    sys.exit(main())
