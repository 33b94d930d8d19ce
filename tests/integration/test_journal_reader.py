"""test_journal_reader.py - taffrail-journal: every entry once, as journalctl has it, or its loss is told.

Against the captured journal folders of tests/fixtures/journald/files, whole and damaged; and beside a
real journald (tests/journald/lab): through kills, rotation and vacuuming. What the machine does not
permit is skipped by name; with JOURNALD_LAB=required a skip is a failure.

usage: test_journal_reader.py TAFFRAIL-JOURNAL JOURNAL-SEND
       (inside the lab: --inside CASE TAFFRAIL-JOURNAL JOURNAL-SEND FOLDER)
"""

import os
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time

from harness import Failed, PATIENCE, need, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(HERE, "../fixtures/journald")
LAB = os.path.join(HERE, "../journald/lab")
SYSTEM = "/var/log/journal"
KILLS = 30
TRANSPORTS = ["--match", "_TRANSPORT=journal", "--match", "_TRANSPORT=syslog", "--match", "_TRANSPORT=stdout"]


class Skipped(Exception):
    """This machine does not permit it."""


# ---- export format ------------------------------------------------------------------------------

def split_entries(data):
    """[(raw bytes, [(name, value)…])] of the whole entries in data."""
    entries, begin, at, fields = [], 0, 0, []
    while True:
        end = data.find(b"\n", at)
        if end < 0:
            return entries
        line = data[at:end]
        at = end + 1
        if not line:
            entries.append((data[begin:at], fields))
            begin, fields = at, []
        elif b"=" in line:
            fields.append(tuple(line.split(b"=", 1)))
        else:
            if len(data) < at + 8:
                return entries
            size = struct.unpack_from("<Q", data, at)[0]
            if len(data) < at + 8 + size + 1:
                return entries
            fields.append((line, data[at + 8:at + 8 + size]))
            at += 8 + size + 1


class Output:
    """What a reader wrote: entries, and its own words as dictionaries."""

    def __init__(self, data):
        self.raw, self.entries, self.words = b"", [], []
        for raw, fields in split_entries(data):
            if fields[0][0].startswith(b"__READER_"):
                self.words.append({name.decode(): value.decode() for name, value in fields})
            else:
                self.raw += raw
                self.entries.append(fields)

    def values(self, name):
        return [value.decode() for fields in self.entries for key, value in fields if key == name.encode()]

    def cursors(self):
        return self.values("__CURSOR")

    def told(self, name):
        return [word[name] for word in self.words if name in word]


class Reader:
    """A reader that follows; output() is what it has written so far."""

    def __init__(self, binary, *words):
        self.process = subprocess.Popen([binary, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.data = b""

    def output(self):
        while select.select([self.process.stdout], [], [], 0)[0]:
            got = os.read(self.process.stdout.fileno(), 1 << 16)
            if not got:
                break
            self.data += got
        return Output(self.data)

    def wait_for(self, condition, timeout_s, what):
        wait_until(lambda: condition(self.output()), timeout_s, lambda: f"{what}; its words: {self.output().words}")

    def ended(self, timeout_s=10):
        """Its exit code, when it ends by itself."""
        wait_until(lambda: (self.output(), self.process.poll())[1] is not None, timeout_s, "the reader does not end")
        return self.process.returncode

    def end(self):
        self.process.stdin.close()
        rc = self.ended()
        need(rc == 0, f"end of stdin: exit {rc}: {self.process.stderr.read()}")


def read_once(binary, *words, prefix=(), rc=0):
    done = subprocess.run([*prefix, binary, "--once", *words], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=30 * PATIENCE)
    need(done.returncode == rc, f"{words}: exit {done.returncode}: {done.stderr.decode()}")
    return Output(done.stdout)


# ---- captured folders ---------------------------------------------------------------------------

def unpack(folder, name="252-compact"):
    with tarfile.open(os.path.join(FIXTURES, f"files/journal-dir-{name}.tar.gz")) as tar:
        tar.extractall(folder)
    os.chmod(folder, 0o755)
    machine = os.path.join(folder, os.listdir(folder)[0])
    return os.path.join(machine, os.listdir(machine)[0])


def patch(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def fixture(name):
    with open(os.path.join(FIXTURES, "export", name), "rb") as file:
        return file.read()


def has_seqnum(binary):
    version = subprocess.run([binary, "--version"], capture_output=True, check=True).stdout
    return int(re.search(rb"libsystemd (\d+)", version)[1]) >= 254


def without_seqnum(data):
    return re.sub(rb"__SEQNUM(_ID)?=[^\n]*\n", b"", data)


def test_bytes(binary, folder):
    """As journalctl wrote them, whatever libsystemd reads the files."""
    for name, export in (("252-compact", "journalctl-252"), ("257", "journalctl-257")):
        here = os.path.join(folder, name)
        os.mkdir(here)
        unpack(here, name)
        got = read_once(binary, "--directory", here, *TRANSPORTS)
        want = fixture(export + ".export")
        if not (has_seqnum(binary) and b"__SEQNUM" in want):
            want, got.raw = without_seqnum(want), without_seqnum(got.raw)
        need(got.raw == want, f"{export}: {len(got.entries)} entries, {len(got.raw)} bytes of {len(want)}")
        need(not got.told("__READER_ERROR") and not got.told("__READER_GAP"), f"{export}: {got.words}")
    os.mkdir(os.path.join(folder, "old"))
    unpack(os.path.join(folder, "old"), "252-not-compact")
    need(len(read_once(binary, "--directory", os.path.join(folder, "old")).entries) > 40, "not compact: entries lack")


def test_resume(binary, folder):
    unpack(folder)
    whole = read_once(binary, "--directory", folder)
    raws = [raw for raw, _ in split_entries(whole.raw)]
    need(len(raws) == 47, f"{len(raws)} entries, not 47")
    for i, cursor in enumerate(whole.cursors()):
        for words in ([], TRANSPORTS + ["--match", "_TRANSPORT=driver"]):
            rest = read_once(binary, "--directory", folder, "--after", cursor, *words)
            need(rest.raw == b"".join(raws[i + 1:]), f"behind entry {i}, {words}: other entries")
            need(not rest.told("__READER_GAP"), f"behind entry {i}: {rest.words}")


def number_of(cursor):
    return int(re.search(";i=([0-9a-f]+)", cursor)[1], 16)


def invent_cursor(cursor, steps, shift_usec, family=None):
    """A cursor so many entries and microseconds behind another one, of an entry that never was."""
    parts = dict(part.split("=") for part in cursor.split(";"))
    parts["i"] = f"{number_of(cursor) + steps:x}"
    parts["x"] = "0"
    for key in "mt":
        parts[key] = f"{int(parts[key], 16) + shift_usec:x}"
    return ";".join(f"{key}={value}" for key, value in {**parts, "s": family or parts["s"]}.items())


def test_gap(binary, folder):
    """A cursor whose entry is gone: told, with the number that is lost, and nothing else is lost."""
    unpack(folder)
    whole = read_once(binary, "--directory", folder)
    first, last = whole.cursors()[0], whole.cursors()[-1]
    behind = read_once(binary, "--directory", folder, "--after", invent_cursor(first, -1, -1))
    need(behind.raw == whole.raw and not behind.words, f"nothing lies between: {behind.words}")
    behind = read_once(binary, "--directory", folder, "--after", invent_cursor(first, -1, -1, "f" * 32))
    need(behind.raw == whole.raw, "numbered apart: entries lack")
    need(behind.told("__READER_GAP") == ["vacuumed"] and not behind.told("__READER_ENTRIES"),
         f"numbered apart, it cannot be counted: {behind.words}")
    behind = read_once(binary, "--directory", folder, "--after", invent_cursor(last, 1000, 10**9))
    need(not behind.entries and not behind.words, f"nothing follows yet: {behind.words}")
    read_once(binary, "--directory", folder, "--after", "no cursor", rc=2)


def test_filter_is_no_gap(binary, folder):
    """The cursor's entry exists, but not in the filtered view; and how far was read is told."""
    unpack(folder)
    whole = read_once(binary, "--directory", folder)
    tail = whole.cursors()[-1]
    for i, cursor in enumerate(whole.cursors()):
        got = read_once(binary, "--directory", folder, "--after", cursor, "--match", "_TRANSPORT=stdout")
        want = [c for c, t in zip(whole.cursors()[i + 1:], whole.values("_TRANSPORT")[i + 1:]) if t == "stdout"]
        need(got.cursors() == want, f"behind entry {i}: {len(got.entries)} of {len(want)}")
        need(got.words == [{"__READER_CURSOR": tail}], f"behind entry {i}: {got.words}")


def test_matches(binary, folder):
    unpack(folder)
    whole = read_once(binary, "--directory", folder)

    def wanted(condition):
        return [dict(fields)[b"__CURSOR"].decode() for fields in whole.entries if condition(set(fields))]

    def ask(*words):
        return read_once(binary, "--directory", folder, *words).cursors()

    journal, six, five = (b"_TRANSPORT", b"journal"), (b"PRIORITY", b"6"), (b"PRIORITY", b"5")
    stdout = (b"_TRANSPORT", b"stdout")
    both = ["--match", "_TRANSPORT=journal", "--match", "PRIORITY=6"]
    need(ask(*both) == wanted(lambda f: journal in f and six in f), "two names: and")
    need(ask("--match", "PRIORITY=6", "--match", "PRIORITY=5") == wanted(lambda f: six in f or five in f),
         "one name twice: or")
    need(ask(*both, "--or", "--match", "_TRANSPORT=stdout")
         == wanted(lambda f: (journal in f and six in f) or stdout in f), "--or")
    need(ask("--match", "PRIORITY=6", "--or", "--match", "_TRANSPORT=stdout", "--and", "--match", "PRIORITY=5")
         == wanted(lambda f: (six in f or stdout in f) and five in f), "--and")
    for limit in range(8):
        low = {(b"PRIORITY", b"%d" % priority) for priority in range(limit + 1, 8)}
        want = wanted(lambda f: not low & f)  # without PRIORITY, or with one that is none: kept
        got = read_once(binary, "--directory", folder, "--priority", str(limit))
        need(got.cursors() == want, f"--priority {limit}: {len(got.entries)} of {len(want)}")
        last = whole.cursors()[-1]
        need(got.told("__READER_CURSOR") == ([] if last in want else [last]), f"--priority {limit}: {got.words}")
    need(len(wanted(lambda f: journal in f and six in f)) > 3, "the fixture has too few entries to tell")


def test_damaged_files(binary, folder):
    """A file that libsystemd passes over is told, once, with its reason and the mend."""
    def told(change, reason, is_empty=True):
        here = tempfile.mkdtemp(dir=folder)
        path = unpack(here)
        change(path)
        got = read_once(binary, "--directory", here)
        errors = got.told("__READER_ERROR")
        need(len(errors) == 1 and errors[0].startswith(path + ": ") and reason in errors[0] and "; " in errors[0],
             f"{reason}: {errors}")
        need(not got.entries or not is_empty, f"{reason}: {len(got.entries)} entries")

    def shorten(path):
        os.truncate(path, 100)
        os.utime(path, (0, 0))

    told(lambda path: os.truncate(path, 1 << 20), "cut short")
    told(shorten, "too short to be a journal file")
    told(lambda path: patch(path, 12, struct.pack("<I", 28 | 64)), "unknown incompatible flags 0x40")
    told(lambda path: (patch(path, 0, b"NOTSIGNS"), os.utime(path, (0, 0))), "not a journal file")


def test_young_file(binary, folder):
    """A file that journald is making is no fault."""
    path = os.path.join(os.path.dirname(unpack(folder)), "system@new.journal")
    with open(path, "wb"):
        pass
    os.utime(path, (time.time() + 60,) * 2)  # as old as it is to be, however long the reader takes to start
    need(not read_once(binary, "--directory", folder).words, "a file of this second is told")


def test_unreadable(binary, folder):
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        raise Skipped("wants root and setpriv")
    path = unpack(os.path.join(folder, "journal"))
    copy = os.path.join(folder, "reader")
    shutil.copy(binary, copy)
    for at, mode in ((folder, 0o755), (copy, 0o755), (path, 0o640)):
        os.chmod(at, mode)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    got = read_once(copy, "--directory", os.path.join(folder, "journal"), prefix=nobody)
    need(not got.entries and got.told("__READER_ERROR")
         == [path + ": permission denied; add the agent's user to the group systemd-journal, or start it with CAP_DAC_READ_SEARCH"], f"{got.words}")
    os.chmod(path, 0o644)
    got = read_once(copy, "--directory", os.path.join(folder, "journal"), prefix=nobody)
    need(len(got.entries) == 47 and not got.words, f"readable: {len(got.entries)} entries, {got.words}")


def object_of(path, payload):
    """Offset of the data object (header of 72 bytes in a compact file) that holds the payload."""
    with open(path, "rb") as file:
        return file.read().index(payload) - 72


def test_damaged_data(binary, folder):
    """libsystemd leaves a damaged field out without a word: the entry comes, the damage is told."""
    for offset, data in ((0, b"\xff"), (72 + len("MESSAGE=pl"), b"u")):
        here = tempfile.mkdtemp(dir=folder)
        path = unpack(here)
        before = read_once(binary, "--directory", here)
        patch(path, object_of(path, b"MESSAGE=plain one-line message") + offset, data)
        got = read_once(binary, "--directory", here)
        need(got.cursors() == before.cursors(), "other entries")
        need(got.raw != before.raw, "the damage did nothing")
        errors = got.told("__READER_ERROR")
        need(len(errors) == 1 and "damaged" in errors[0], f"at {offset}: {got.words}")


def test_unreadable_data(binary, folder):
    """A field that cannot be unpacked: its entry is a gap, the others come."""
    path = unpack(folder)
    before = read_once(binary, "--directory", folder)
    patch(path, object_of(path, b"MESSAGE=plain one-line message") + 1, b"\x03")  # by two packers
    got = read_once(binary, "--directory", folder)
    at = [i for i, fields in enumerate(before.entries) if (b"MESSAGE", b"plain one-line message") in fields]
    lost = [before.cursors()[i] for i in at]
    need(got.told("__READER_GAP") == ["unreadable"] * len(lost), f"{got.words}")
    need(got.told("__READER_CURSOR") == lost and set(got.told("__READER_ENTRIES")) == {"1"}, f"{got.words}")
    need(got.cursors() == [c for c in before.cursors() if c not in lost], "other entries")


def test_cut_while_mapped(binary, folder):
    """SIGBUS ends the reader; it never hangs."""
    path = unpack(folder)
    reader = Reader(binary, "--directory", folder)
    reader.wait_for(lambda got: len(got.entries) == 47, 10, "47 entries do not come")
    with open(path, "rb") as file:
        header = file.read(4096)
    entries = struct.unpack_from("<Q", header, 152)[0]
    os.truncate(path, 4096)
    patch(path, 152, struct.pack("<Q", entries + 1))  # so that it looks for one more
    rc = reader.ended()
    need(rc != 0, "it ended as if all was well")
    need(len(reader.output().entries) == 47, "it made an entry up")


def cpu_seconds(reader):
    with open(f"/proc/{reader.process.pid}/stat", encoding="ascii") as file:
        user, system = file.read().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_folder(binary, folder):
    """A folder that is not there is waited for; one that is replaced makes it start again."""
    there = os.path.join(folder, "journal")
    read_once(binary, "--directory", there, rc=1)
    reader = Reader(binary, "--directory", there)
    reader.wait_for(lambda got: got.words, 5, "a missing folder is not told")
    need(reader.output().told("__READER_ERROR")[0].startswith(there + ": No such file"), f"{reader.output().words}")
    new = os.path.join(folder, "new")
    unpack(new)
    os.rename(new, there)
    reader.wait_for(lambda got: len(got.entries) == 47, 10, "the folder is not noticed")
    need(len(reader.output().words) == 1, "it told it again")
    need(cpu_seconds(reader) < 0.3, f"waiting took {cpu_seconds(reader)} s of CPU")
    os.rename(there, new)
    time.sleep(0.1)
    shutil.copytree(new, there)
    need(reader.ended() == 3, f"a replaced folder: exit {reader.process.returncode}")
    reader = Reader(binary, "--directory", there)
    reader.wait_for(lambda got: len(got.entries) == 47, 10, "47 entries do not come")
    reader.end()


def status_of(reader):
    with open(f"/proc/{reader.process.pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def test_sandbox(binary, folder):
    """No right is left that reading does not need; seen from outside."""
    path = unpack(os.path.join(folder, "journal"))
    outside = os.path.join(folder, "outside.journal")
    shutil.copy(path, outside)
    os.symlink(outside, os.path.join(os.path.dirname(path), "linked.journal"))
    reader = Reader(binary, "--directory", os.path.join(folder, "journal"), "--verbose")
    reader.wait_for(lambda got: len(got.entries) >= 47, 10, "no entries")
    line = reader.process.stderr.readline().decode()
    status = status_of(reader)
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") + (("CapBnd",) if os.geteuid() == 0 else ()):
        need(int(status[name], 16) == 0, f"{name} is {status[name]}")
    need(status["NoNewPrivs"] == "1", "no_new_privs is not set")
    with open(f"/proc/{reader.process.pid}/limits", encoding="ascii") as file:
        limits = file.read()
    need(re.search(r"Max core file size +0 +0", limits) and re.search(r"Max file size +0 +0", limits), limits)
    need("no_new_privs capabilities limits" in line, line)
    need(("seccomp" in line) == (status["Seccomp"] == "2"), f"{line} but Seccomp is {status['Seccomp']}")
    errors = [text for text in reader.output().told("__READER_ERROR") if "linked.journal" in text]
    reader.end()
    if "landlock" not in line:
        raise Skipped("this kernel has no Landlock")
    need(errors and "permission denied" in errors[0], f"a file outside the folders was opened: {errors}")


def test_command_line(binary, folder):
    for words in (["--start", "middle"], ["--priority", "8"], ["--since", "-1"], ["--match", "x"], ["word"],
                  ["--directory", folder, "--namespace", "n"], ["--start", "oldest", "--since", "1"], ["--bad"]):
        read_once(binary, *words, rc=2)


# ---- beside a real journald ---------------------------------------------------------------------

def run(*words):
    return subprocess.run(words, check=True, capture_output=True, timeout=60 * PATIENCE).stdout


def journal_files(folder):
    return [os.path.join(at, name) for at, _, names in os.walk(os.path.join(folder, "journal")) for name in names]


def sync():
    run("journalctl", "--sync")


def lab_same_as_journalctl(binary, send, _folder):
    run(send, "cases")
    subprocess.run(["systemd-cat", "-t", "cat", "echo", "by stdout"], check=True)
    subprocess.run(["logger", "-u", "/run/systemd/journal/dev-log", "-t", "app", "by syslog"], check=True)
    sync()
    want = run("journalctl", "-o", "export")
    for words in ([], ["--directory", SYSTEM]):
        got = read_once(binary, *words)
        need(got.raw == want and len(got.entries) > 15, f"{words}: {len(got.raw)} bytes of {len(want)}")
        need(not got.words, f"{words}: {got.words}")
    run(send, "value", "3000000")
    sync()
    note = [dict(fields)[b"NOTE"] for fields in read_once(binary).entries if b"NOTE" in dict(fields)][-1]
    need(len(note) == (1 << 20) + 1, f"a value of 3,000,000 bytes has {len(note)}; the agent keeps 1 MiB")
    run(send, "values", "30", "900000")
    sync()
    large = read_once(binary).entries[-1]
    need(dict(large)[b"__CURSOR"] and (4 << 20) < sum(len(value) for _, value in large) < (6 << 20),
         "an entry of 27 MB; the agent keeps 4 MiB, and is to see that there was more")
    # Without a machine id, as in a container.
    empty = os.path.join("/run", "empty")
    with open(empty, "wb"):
        pass
    run("mount", "--bind", empty, "/etc/machine-id")
    need(len(read_once(binary).entries) > 15, "without a machine id there are no entries")


def lab_killed(binary, send, folder):
    """Killed at any byte while journald rotates at full speed, and resumed: every entry once, in order."""
    count = 60000
    flood = subprocess.Popen([send, "flood", str(count), "100"])
    cursor, numbers, kills, quiet = None, [], 0, 0
    while quiet < 2:
        wanted = random.randrange(1, 1500000) if kills < KILLS else 1 << 40
        process = subprocess.Popen([binary, "--once", *(["--after", cursor] if cursor else [])],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        data = b""
        while len(data) < wanted:
            got = process.stdout.read1(min(65536, wanted - len(data)))
            if not got:
                break
            data += got
        kills += process.poll() is None
        process.kill()
        process.wait()
        got = Output(data)
        need(not got.told("__READER_GAP"), f"{got.words}")
        numbers += [int(number) for number in got.values("SEQ")]
        cursor = got.cursors()[-1] if got.entries else cursor
        quiet = quiet + 1 if not got.entries and flood.poll() is not None else 0
        if flood.poll() is not None:
            sync()
    need(flood.wait() == 0, "the flood failed")
    need(numbers == list(range(count)), f"{len(numbers)} of {count}, {len(set(numbers))} different")
    files = len(journal_files(folder))
    need(kills >= KILLS and files > 3, f"{kills} kills, {files} files: too few to tell")
    print(f"    {kills} kills, {files} files")


def lab_vacuumed(binary, send, _folder):
    """The cursor's entry is deleted: how many are lost with it is told, exactly."""
    run(send, "flood", "300")
    sync()
    before = read_once(binary)
    cursor = [dict(fields)[b"__CURSOR"].decode() for fields in before.entries if b"SEQ" in dict(fields)][99]
    run(send, "flood", "4000", "300")
    run("journalctl", "--rotate")
    run("journalctl", "--vacuum-files=1")
    run(send, "flood", "10")
    sync()
    got = read_once(binary, "--after", cursor)
    lost = number_of(got.cursors()[0]) - number_of(cursor) - 1
    need(lost > 4000, f"only {lost} entries were vacuumed")
    need(got.told("__READER_GAP") == ["vacuumed"] and got.told("__READER_ENTRIES") == [str(lost)], f"{got.words}")
    need(got.raw == read_once(binary).raw, "what is left does not come whole")
    got = read_once(binary, "--after", cursor, "--match", "SYSLOG_IDENTIFIER=flood")
    need(got.told("__READER_GAP") == ["vacuumed"] and not got.told("__READER_ENTRIES"), f"filtered: {got.words}")
    need(got.values("SEQ")[-1] == "9", "filtered: what is left does not come")


def lab_follow(binary, send, _folder):
    """Live, through a rotation; a filter without entries says how far it is; it lives."""
    began = time.monotonic()
    run(send, "flood", "10000", "300")
    sync()
    stuck = Reader(binary, "--priority", "6")  # its pipe is full, and nobody reads it for a while
    quiet = Reader(binary, "--match", "SYSLOG_IDENTIFIER=nobody")
    all_of_it = Reader(binary, "--start", "newest")
    flood = Reader(binary, "--start", "newest", "--match", "SYSLOG_IDENTIFIER=flood")
    flood.wait_for(lambda got: got.told("__READER_CURSOR"), 5, "newest does not say where it begins")
    all_of_it.wait_for(lambda got: got.told("__READER_CURSOR"), 5, "newest does not say where it begins")
    need(not all_of_it.output().entries, "newest has entries of before")
    run(send, "flood", "500")
    run("journalctl", "--rotate")
    run(send, "flood", "500")
    all_of_it.wait_for(lambda got: len(got.values("SEQ")) == 1000, 5, "1000 entries do not come")
    flood.wait_for(lambda got: len(got.values("SEQ")) == 1000, 5, "filtered, 1000 entries do not come")
    for reader in (all_of_it, flood):
        need(reader.output().values("SEQ") == [str(i) for i in range(500)] * 2, "out of order")
    tail = all_of_it.output().cursors()[-1]
    quiet.wait_for(lambda got: got.told("__READER_CURSOR")[-1:] == [tail], 5, "a quiet filter does not go on")
    need(not quiet.output().entries, "the filter lets entries through")
    for reader in (quiet, all_of_it, flood):
        reader.wait_for(lambda got: got.told("__READER_HEARTBEAT"), 15, "no heartbeat")
    need(time.monotonic() - began > 9, "heartbeats come too often")
    stuck.wait_for(lambda got: len(got.values("SEQ")) == 11000, 10, "11000 entries do not come")
    heartbeat, last = (stuck.data.find(text) for text in (b"__READER_HEARTBEAT", b"SEQ=9999"))
    need(0 < heartbeat < last, "no heartbeat on a long way")
    for reader in (quiet, all_of_it, flood, stuck):
        reader.end()


def lab_filtered(binary, send, folder):
    """How far a filter has read is never told as less than what it has written: that would come twice."""
    path = os.path.join(folder, "filtered")

    def written():
        with open(path, "rb") as file:
            return file.read()

    with open(path, "wb") as file:
        process = subprocess.Popen([binary, "--match", "SYSLOG_IDENTIFIER=flood"], stdin=subprocess.PIPE, stdout=file)
    run(send, "flood", "30000")
    wait_until(lambda: b"SEQ=29999\n" in written(), 60, "30000 entries do not come")
    process.stdin.close()
    need(process.wait(10 * PATIENCE) == 0, "end of stdin")
    newest = 0
    for _raw, fields in split_entries(written()):
        cursor = dict(fields).get(b"__CURSOR") or dict(fields).get(b"__READER_CURSOR")
        if cursor is not None:
            number = int(re.search(rb";i=([0-9a-f]+);", cursor)[1], 16)
            need(number >= newest, f"told {number} behind {newest}: {fields[0]}")
            newest = number


def lab_starts(binary, send, _folder):
    """Two boots are in the journal, the one that runs is the second; then a third without entries."""
    first = "11111111222243338444555555555555"
    whole = read_once(binary)
    boots = [dict(fields)[b"_BOOT_ID"].decode() for fields in whole.entries]
    need(boots == sorted(boots) and boots[0] == first and boots[-1] != first, f"the lab has boots {set(boots)}")
    at = boots.index(boots[-1])
    got = read_once(binary, "--start", "boot")
    need(got.cursors() == whole.cursors()[at:], "boot: other entries")
    times = [int(value) for value in whole.values("__REALTIME_TIMESTAMP")]
    got = read_once(binary, "--since", str(times[at]))
    need(got.cursors() == [c for c, t in zip(whole.cursors(), times) if t >= times[at]], "since: other entries")
    third = os.path.join("/run", "boot-3")
    with open(third, "w", encoding="ascii") as file:
        file.write("33333333-2222-4333-8444-555555555555\n")
    run("mount", "--bind", third, "/proc/sys/kernel/random/boot_id")
    reader = Reader(binary, "--start", "boot")
    reader.wait_for(lambda got: got.told("__READER_CURSOR"), 5, "a boot without entries does not begin")
    run(send, "flood", "3")
    reader.wait_for(lambda got: len(got.values("SEQ")) == 3, 5, "what comes now does not come")
    need(reader.output().values("SEQ") == ["0", "1", "2"], "entries of before came")
    reader.end()


def lab_crashed(binary, send, _folder):
    """The host crashed and lost the cursor's entry: wait for what follows, then tell it."""
    run(send, "flood", "5")
    sync()
    lost = invent_cursor(read_once(binary).cursors()[-1], 2, 1, "f" * 32)
    reader = Reader(binary, "--after", lost)
    filtered = Reader(binary, "--after", lost, "--match", "SYSLOG_IDENTIFIER=flood")
    time.sleep(0.5)
    need(not reader.output().words, "it judged before anything follows")
    run(send, "flood", "3")
    for reader in (reader, filtered):
        reader.wait_for(lambda got: got.values("SEQ") == ["0", "1", "2"], 5, "what follows does not come")
        need(reader.output().told("__READER_GAP") == ["vacuumed"], f"{reader.output().words}")
        reader.end()


def lab_flushed(binary, send, _folder):
    """journald moves its entries from /run to /var, numbered anew: none is lost, none comes twice."""
    run(send, "flood", "100")
    sync()
    follows = Reader(binary)
    follows.wait_for(lambda got: len(got.values("SEQ")) == 100, 5, "100 entries do not come")
    cursor = [dict(fields)[b"__CURSOR"].decode() for fields in read_once(binary).entries if b"SEQ" in dict(fields)][39]
    run("journalctl", "--flush")
    sync()
    run(send, "flood", "5")
    sync()
    follows.wait_for(lambda got: len(got.values("SEQ")) >= 105, 5, "what comes behind the move does not come")
    need(follows.output().values("SEQ") == [str(i) for i in [*range(100), *range(5)]], "following: twice, or lost")
    follows.end()
    for words in ([], ["--match", "SYSLOG_IDENTIFIER=flood"]):
        got = read_once(binary, "--after", cursor, *words)
        need(cursor[:34] not in got.cursors()[0] and not got.told("__READER_GAP"), f"{words}: {got.words}")
        need(got.values("SEQ") == [str(i) for i in [*range(40, 100), *range(5)]], f"{words}: {got.values('SEQ')}")


def lab_cut(binary, send, folder):
    """A large file is cut while it is read."""
    run(send, "flood", "30000", "200")
    sync()
    process = subprocess.Popen([binary, "--once"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    process.stdout.read(1000)
    for path in journal_files(folder):
        os.truncate(path, 65536)
    process.stdout.read()
    need(process.wait(timeout=10 * PATIENCE) != 0, "it ended as if all was well")


LAB_CASES = {
    "same_as_journalctl": (lab_same_as_journalctl, "", []),
    "killed": (lab_killed, "SystemMaxFileSize=4M", []),
    "vacuumed": (lab_vacuumed, "SystemMaxFileSize=1M", []),
    "follow": (lab_follow, "", []),
    "filtered": (lab_filtered, "", []),
    "starts": (lab_starts, "", ["11111111-2222-4333-8444-555555555555", "22222222-2222-4333-8444-555555555555"]),
    "crashed": (lab_crashed, "", []),
    "flushed": (lab_flushed, "", []),
    "cut": (lab_cut, "", []),
}


def run_in_lab(name, binary, send, folder):
    _, conf, boots = LAB_CASES[name]
    env = {**os.environ, "JOURNALD_CONF": conf, "LAB_VOLATILE": "1" if name == "flushed" else ""}
    for boot in boots[:-1]:  # boots of before: journald starts, and an entry is written
        subprocess.run([LAB, folder, send, "flood", "3"], env={**env, "LAB_BOOT_ID": boot}, capture_output=True, check=False)
    if boots:
        env["LAB_BOOT_ID"] = boots[-1]
    done = subprocess.run([LAB, folder, sys.executable, os.path.abspath(__file__), "--inside", name, binary, send,
                           folder], env=env, capture_output=True, text=True, check=False, timeout=120 * PATIENCE)
    if done.returncode == 77:
        raise Skipped(done.stderr.strip().removeprefix("skip: "))
    need(done.returncode == 0, done.stdout + done.stderr)
    print(done.stdout, end="")


def main():
    if sys.argv[1] == "--inside":
        LAB_CASES[sys.argv[2]][0](*sys.argv[3:])
        return 0
    binary, send = (os.path.abspath(path) for path in sys.argv[1:3])
    tests = {name.removeprefix("test_"): function for name, function in globals().items() if name.startswith("test_")}
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for name in [*tests, *(f"lab_{case}" for case in LAB_CASES)]:
        with tempfile.TemporaryDirectory(prefix="taffrail-test-journal-") as folder:
            try:
                if name in tests:
                    tests[name](binary, folder)
                else:
                    run_in_lab(name.removeprefix("lab_"), binary, send, folder)
                outcome, text = "passed", f"ok    {name}"
            except Skipped as reason:
                outcome, text = "skipped", f"skip  {name}: {reason}"
            except (Failed, subprocess.SubprocessError) as error:
                outcome, text = "failed", f"FAIL  {name}: {error}"
        counts[outcome] += 1
        print(text, flush=True)
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    if counts["skipped"] and os.environ.get("JOURNALD_LAB") == "required":
        print("FAIL  JOURNALD_LAB=required, but tests were skipped")
        return 1
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
