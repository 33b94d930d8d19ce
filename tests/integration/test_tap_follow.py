"""test_tap_follow.py - `taffrail tap -f`: what is appended is printed, over rotation, until it is ended.

usage: test_tap_follow.py TAFFRAIL
"""

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import termios

from harness import PATIENCE, need, process_file, wait_until

BINARY = os.path.abspath(sys.argv[1])


class Tap:
    """One `tap -f`, its output in files."""

    def __init__(self, folder, *words):
        self.out, self.err = os.path.join(folder, "out"), os.path.join(folder, "err")
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen([BINARY, "tap", "-f", *words], cwd=folder, stdout=out, stderr=err)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def logs(self):
        with open(self.out, "rb") as file:
            data = file.read()
        return [json.loads(line)["log"] for line in data[:data.rfind(b"\n") + 1].splitlines()]

    def told(self):
        with open(self.err, encoding="utf-8") as file:
            return file.read()

    def wait(self, *wanted, timeout_s=10):
        def ended_or_there():
            return self.process.poll() is not None or self.logs() == list(wanted)
        wait_until(ended_or_there, timeout_s, lambda: f"wanted {wanted}, got {self.logs()}: {self.told()}")
        need(self.logs() == list(wanted), f"wanted {wanted}, got {self.logs()}: {self.told()}")

    def end(self, number=signal.SIGINT):
        """Its exit code and summary."""
        self.process.send_signal(number)
        return self.process.wait(10 * PATIENCE), self.told().splitlines()[-1]


def append(path, text):
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def test_appended(folder):
    path = os.path.join(folder, "a.log")
    append(path, "one\n")
    with Tap(folder, "--format", "plain", "a.log") as tap:
        tap.wait("one")
        append(path, "two\nhalf")
        tap.wait("one", "two")
        append(path, " whole\nlast without end")
        tap.wait("one", "two", "half whole")
        code, summary = tap.end()
        need(code == 0, f"exit {code}")
        tap.wait("one", "two", "half whole", "last without end")
        need(summary == "tap: 1 file (plain), 4 lines, 4 records, 0 redactions; nothing was sent or stored", summary)


def test_rotation(folder):
    path = os.path.join(folder, "a.log")
    append(path, "one\n")
    with Tap(folder, "--format", "plain", "a.log") as tap:
        tap.wait("one")
        os.rename(path, path + ".1")
        append(path + ".1", "late\n")
        append(path, "new\n")
        tap.wait("one", "late", "new")
        os.truncate(path, 0)
        append(path, "x\n")  # shorter than what was read
        tap.wait("one", "late", "new", "x")
        os.unlink(path)
        append(path + ".tmp", "again\n")
        os.rename(path + ".tmp", path)
        tap.wait("one", "late", "new", "x", "again")
        code, summary = tap.end(signal.SIGTERM)
        need(code == 0, f"exit {code}")
        need(summary.startswith("tap: 4 files (plain), 5 lines, 5 records,"), summary)


def test_waits_for_file(folder):
    append(os.path.join(folder, "a.log"), "one\n")
    with Tap(folder, "--format", "plain", "later.log", "a.log") as tap:
        tap.wait("one")
        append(os.path.join(folder, "later.log"), "came\n")
        tap.wait("one", "came")
        append(os.path.join(folder, "a.log"), "two\n")
        tap.wait("one", "came", "two")
        need(tap.end()[0] == 0, "exit")
        need(tap.told().count("tap: later.log: No such file or directory; waited for\n") == 1, tap.told())


def configure_multiline(folder, max_delay):
    append(os.path.join(folder, "tap.yaml"), f"""
inputs: [container: {{paths: [a.log]}}]
filters: [multiline: {{continue: '^ ', max_delay: {max_delay}}}]
spool: {{path: spool}}
outputs: [stdout: {{}}]
""")


def test_held(folder):
    configure_multiline(folder, "1s")
    path = os.path.join(folder, "a.log")
    append(path, "head\n first\n")
    with Tap(folder, "-c", "tap.yaml", "--format", "plain", "a.log") as tap:
        tap.wait("head\n first")  # by time alone
        append(path, "next\n")
        tap.wait("head\n first", "next")
        need(tap.end()[0] == 0, "exit")


def test_held_to_the_end(folder):
    configure_multiline(folder, "60s")
    path = os.path.join(folder, "a.log")
    append(path, "one\nhead\n first\n")
    with Tap(folder, "-c", "tap.yaml", "--format", "plain", "a.log") as tap:
        tap.wait("one")
        os.rename(path, path + ".1")
        append(path, "two\nlast\n of all\n")
        tap.wait("one", "head\n first", "two")  # it is not held over the end of its file
        need(tap.end()[0] == 0, "exit")
        tap.wait("one", "head\n first", "two", "last\n of all")


def test_piece(folder):
    """The agent's own bound of 30 s: the longest of these tests."""
    append(os.path.join(folder, "a.log"), "2026-11-23T10:15:05Z stdout P piece\n")
    with Tap(folder, "a.log") as tap:
        tap.wait("piece", timeout_s=40)
        need(tap.end()[0] == 0, "exit")


def test_journal(folder):
    path = os.path.join(folder, "a.export")
    append(path, "__REALTIME_TIMESTAMP=7\nMESSAGE=one\n\nMESS")
    with Tap(folder, "--format", "journal", "a.export") as tap:
        tap.wait("one")
        append(path, "AGE=two\n\nMESSAGE=thr")
        tap.wait("one", "two")
        code, summary = tap.end()
        need(code == 0 and ", 2 entries, 2 records," in summary, f"{code} {summary}")


def test_given_up(folder):
    """A file that cannot be read on is told; others go on, and the exit code says it."""
    broken, fine = os.path.join(folder, "broken.export"), os.path.join(folder, "fine.export")
    append(broken, "MESSAGE=one\n\n")
    with Tap(folder, "--format", "journal", broken, fine) as tap:
        tap.wait("one")
        append(broken, "MESSAGE=two\n\nno field\n\0\n\n" * 3)
        wait_until(lambda: "broken.export: not the journal's export format" in tap.told(), 10, tap.told)
        before = tap.logs()
        append(fine, "MESSAGE=fine\n\n")
        tap.wait(*before, "fine")
        need(tap.end()[0] == 3, "exit")


def test_reader_goes_away(folder):
    path = os.path.join(folder, "a.log")
    append(path, "one\n")
    words = [BINARY, "tap", "-f", "--format", "plain", path]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        need(b'"log":"one"' in process.stdout.readline(), "no line")
        process.stdout.close()  # and nothing is appended
        code = process.wait(10 * PATIENCE)
        need((code, process.stderr.read()) == (0, b""), f"exit {code}")


def catches(pid, number):
    caught = next(line for line in process_file(pid, "status").splitlines() if line.startswith("SigCgt:"))
    return int(caught.split()[1], 16) >> (number - 1) & 1 == 1


def test_second_signal(folder):
    """The first waits for stdout's reader, who does not read; the second does not."""
    path = os.path.join(folder, "a.log")
    append(path, "one\n" * 20000)
    words = [BINARY, "tap", "-f", "--format", "plain", path]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        capacity = fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ)

        def waiting():
            return struct.unpack("i", fcntl.ioctl(process.stdout, termios.FIONREAD, b"\0" * 4))[0]
        wait_until(lambda: waiting() > capacity - 4096, 10, lambda: f"{waiting()} of {capacity} bytes")
        process.send_signal(signal.SIGINT)
        wait_until(lambda: not catches(process.pid, signal.SIGINT), 10, "the first signal is not taken")
        need(process.poll() is None, "the first one ends it in the middle of a write")
        process.send_signal(signal.SIGINT)
        need(process.wait(10 * PATIENCE) == -signal.SIGINT, f"{process.returncode}")


def test_idle(folder):
    """It waits, it does not spin: five looks take little of the processor."""
    append(os.path.join(folder, "a.log"), "one\n")
    with Tap(folder, "--format", "plain", "a.log", "later.log") as tap:
        tap.wait("one")

        def looks():
            with open(f"/proc/{tap.process.pid}/status", encoding="utf-8") as file:
                return int(file.read().split("\nvoluntary_ctxt_switches:")[1].split()[0])
        first = looks()
        wait_until(lambda: looks() >= first + 5, 10, "does not look")
        with open(f"/proc/{tap.process.pid}/stat", encoding="utf-8") as file:
            ticks = sum(map(int, file.read().rsplit(")", 1)[1].split()[11:13]))
        need(ticks <= os.sysconf("SC_CLK_TCK") // 2, f"{ticks} ticks")
        need(tap.end()[0] == 0, "exit")


def main():
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            with tempfile.TemporaryDirectory(prefix="taffrail-test-") as folder:
                test(folder)
            print(f"{name}: fine")


main()
