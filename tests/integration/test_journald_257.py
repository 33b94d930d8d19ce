#!/usr/bin/python3
"""test_journald_257.py TAFFRAIL TREE [CASE…] - mode export_socket beside a real journald of systemd 257.

ForwardToSocket= came with systemd 256. TREE is a folder with a Debian 13 of its own, made once by debootstrap (root,
about 75 s and 270 MB, from the mirror that apt uses here). journald runs in it (chroot, tests/journald/lab), the agent
outside; between them is a folder that both have. Where that cannot be had the cases are skipped by name; with
JOURNALD_257=required that is a failure.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from harness import Failed, PATIENCE, Program, need, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
LAB = os.path.join(HERE, "../journald")
# In a mount namespace of its own: TREE is its root, SHARED is /mnt there. The tree is mounted on itself, so that
# the lab may make it private.
ENTER = """tree=$1 shared=$2 lab=$3; shift 3
mount --bind "$tree" "$tree"; mount --rbind /dev "$tree/dev"; mount --rbind /sys "$tree/sys"
mount -t proc proc "$tree/proc"; mount --bind "$shared" "$tree/mnt"; mount --bind "$lab" "$tree/opt"
exec chroot "$tree" env JOURNALD_CONF="ForwardToSocket=/mnt/sock" bash /opt/lab /mnt/state bash -euc "$@"
"""
LOG = "logger -u /run/systemd/journal/dev-log -t demo"


class Skipped(Exception):
    """This machine does not permit it."""


def make_tree(tree):
    """Half a tree, of a run that was ended, is made again."""
    if os.path.exists(os.path.join(tree, "whole")):
        return
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise Skipped("wants root and debootstrap (apt-get install debootstrap)")
    shutil.rmtree(tree, ignore_errors=True)
    sources = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
                             capture_output=True, text=True, check=False).stdout.split()
    mirrors = [source for source in sorted(set(sources)) if "security" not in source]
    if not mirrors:
        raise Skipped("apt knows no mirror")
    print(f"making {tree}, once", flush=True)
    done = subprocess.run(["debootstrap", "--variant=minbase", "--include=systemd,libsystemd0,bsdutils", "trixie", tree,
                           mirrors[0]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=1800, check=False)
    if done.returncode != 0:
        raise Skipped(f"debootstrap: {done.stderr.decode().strip().splitlines()[-1:]}")
    with open(os.path.join(tree, "whole"), "w", encoding="ascii"):
        pass


class Machine:
    def __init__(self, binary, tree, folder):
        self.binary, self.tree, self.folder = binary, tree, folder
        self.agent = None
        os.makedirs(self.path("shared"))
        self.configure()

    def configure(self, spool="", output="file: {path: records.ndjson}"):
        with open(self.path("agent.yaml"), "w", encoding="utf-8") as file:
            file.write(f"inputs: [journald: {{mode: export_socket, listen: 'unix:{self.path('shared/sock')}'}}]\n"
                       f"spool: {{path: spool, keep_free: 0{spool}}}\noutputs: [{output}]\n")

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self):
        self.agent = Program([self.binary, "run", "-c", self.path("agent.yaml")], self.path("agent.log"))
        self.agent.wait_event("ready")

    def journald(self, script):
        """A shell script beside journald, started."""
        return subprocess.Popen(["unshare", "--mount", "--propagation", "private", "bash", "-euc", ENTER, "enter",
                                 self.tree, self.path("shared"), LAB, script],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, script):
        running = self.journald(script)
        try:
            text = running.communicate(timeout=120 * PATIENCE)[0].decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            running.kill()
            raise Failed("journald or a client of it stood still") from None
        if running.returncode == 77:
            raise Skipped(text.strip().splitlines()[-1])
        need(running.returncode == 0, f"exit {running.returncode}: {text}")

    def records(self, tag="journald"):
        try:
            with open(self.path("records.ndjson"), "rb") as file:
                found = [json.loads(line) for line in file if line.endswith(b"\n")]
        except FileNotFoundError:
            return []
        return [record for record in found if record["tag"] == tag]

    def gaps(self):
        return [record for record in self.records("taffrail.audit") if record["event"] == "gap"]

    def logs(self, start):
        return [record["log"] for record in self.records() if str(record.get("log")).startswith(start)]

    def wait_logs(self, start, count):
        wait_until(lambda: len(self.logs(start)) >= count, 60,
                   lambda: f"{len(self.logs(start))} of {count}\n{self.agent.tail()}")


def stored_by_journald(machine):
    with open(machine.path("shared/want"), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def case_same_as_the_journal(machine):
    """Every entry that journald stored since its connection, with every field."""
    machine.start()
    machine.run(f"""for i in $(seq 100); do {LOG} "entry $i"; done
        printf 'MESSAGE=native\\nFOO=bar\\nFOO=baz\\nPRIORITY=3\\n' | logger --journald
        echo of a stream | systemd-cat -t cat
        journalctl --sync
        journalctl -D /var/log/journal -o json --all >/mnt/want""")
    machine.wait_logs("entry ", 100)
    machine.wait_logs("of a stream", 1)
    need(machine.agent.stop() == 0, machine.agent.tail())
    wanted = [entry for entry in stored_by_journald(machine) if entry["MESSAGE"].startswith("entry ")]
    found = [record for record in machine.records() if record["log"].startswith("entry ")]
    need([entry["MESSAGE"] for entry in wanted] == [record["log"] for record in found], "not the same entries")
    for entry, record in zip(wanted, found):
        for name, value in entry.items():
            stored = {**record["journald"], "MESSAGE": record["log"]}
            need(name.startswith("__") or name in ("PRIORITY", "SYSLOG_IDENTIFIER", "_BOOT_ID", "_PID")
                 or stored.get(name) == value, f"{name}: {value} is {stored.get(name)}")
    native = [record for record in machine.records() if record["log"] == "native"][0]
    need(native["severity"] == "error" and native["journald"]["FOO"] == ["bar", "baz"], f"{native}")
    need(not machine.gaps(), f"{machine.gaps()}")


def case_agent_killed(machine):
    """journald lives on, and comes back at its next entry; what it sent meanwhile is lost, as the page says."""
    machine.start()
    running = machine.journald(f"""for i in $(seq 20); do {LOG} "early $i"; done; touch /mnt/early
        while [ ! -e /mnt/down ]; do sleep 0.05; done
        for i in $(seq 20); do {LOG} "meanwhile $i"; done; journalctl --sync; touch /mnt/meanwhile
        while [ ! -e /mnt/up ]; do sleep 0.05; done
        for i in $(seq 20); do {LOG} "late $i"; sleep 0.01; done; journalctl --sync
        journalctl -D /var/log/journal -o json --all >/mnt/want""")
    try:
        wait_until(lambda: running.poll() is not None or os.path.exists(machine.path("shared/early")), 60, "no entry")
        machine.wait_logs("early ", 20)
        machine.agent.kill()
        with open(machine.path("shared/down"), "w", encoding="ascii"):
            pass
        wait_until(lambda: os.path.exists(machine.path("shared/meanwhile")), 60, "journald stands still")
        machine.start()
        with open(machine.path("shared/up"), "w", encoding="ascii"):
            pass
        text = running.communicate(timeout=120 * PATIENCE)[0].decode("utf-8", "replace")
    finally:
        running.kill()
    if running.returncode == 77:
        raise Skipped(text.strip().splitlines()[-1])
    need(running.returncode == 0, text)
    machine.wait_logs("late 20", 1)
    need(machine.agent.stop() == 0, machine.agent.tail())
    need(machine.logs("early ") == [f"early {i}" for i in range(1, 21)], f"{machine.logs('early ')}")
    late = machine.logs("late ")
    need(late == [f"late {i}" for i in range(21 - len(late), 21)] and len(late) >= 18, f"{late}")
    need(len([entry for entry in stored_by_journald(machine) if entry["MESSAGE"].startswith("meanwhile")]) == 20,
         "journald itself lost entries")


def case_agent_slow(machine):
    """An agent that has no room never stops the logging of the host: it drops, and its gaps and records add up."""
    for words in (["init", "--name", "Test", machine.path("pki")], ["agent", machine.path("pki"), "node-1"]):
        subprocess.run([machine.binary, "pki", *words], check=True, capture_output=True, timeout=60 * PATIENCE)
    machine.configure(spool=", max_size: 16MiB", output="forward: {hosts: ['127.0.0.1:1'], tls: {ca: pki/ca.pem, "
                      "cert: pki/node-1.pem, key: pki/node-1.key}}")
    machine.start()
    count = 1500
    machine.run(f"""for i in $(seq {count}); do
            printf 'MESSAGE=flood %s\\nFILL=%s\\n' $i "$(head -c 22000 /dev/urandom | base64 -w0)" | timeout 60 logger --journald
        done
        timeout 60 journalctl --sync""")
    machine.agent.stop()
    machine.configure()
    machine.start()
    machine.wait_logs("flood ", 100)
    wait_until(machine.gaps, 60, machine.agent.tail)
    need(machine.agent.stop() == 0, machine.agent.tail())
    numbers = [int(text.split()[1]) for text in machine.logs("flood ")]
    missing = sum(int(gap["log"].split()[0]) for gap in machine.gaps())
    need(numbers == sorted(set(numbers)) and missing > 0, f"{len(numbers)} records, {missing} in gaps")
    need(len(numbers) + missing >= count, f"{len(numbers)} records and {missing} in gaps of {count}")


CASES = {name.removeprefix("case_"): case for name, case in globals().items() if name.startswith("case_")}


def run_case(name, binary, tree):
    folder = tempfile.mkdtemp(prefix="taffrail-test-")
    machine = Machine(binary, tree, folder)
    began = time.monotonic()
    result = "ok"
    try:
        CASES[name](machine)
        print(f"ok    {name} ({time.monotonic() - began:.0f} s)", flush=True)
    except Skipped as reason:
        result = "skip"
        print(f"skip  {name}: {reason}", flush=True)
    except Failed as error:
        result = "FAIL"
        print(f"FAIL  {name} (kept: {folder})\n{error}", flush=True)
    if machine.agent is not None:
        machine.agent.kill()
    if result != "FAIL":
        shutil.rmtree(folder, ignore_errors=True)
    return result


def main():
    binary, tree = map(os.path.abspath, sys.argv[1:3])
    try:
        make_tree(tree)
        results = [run_case(name, binary, tree) for name in sys.argv[3:] or CASES]
    except Skipped as reason:
        print(f"skipped: journald_257: {reason}")
        results = ["skip"]
    print(", ".join(f"{results.count(word)} {name}" for word, name in
                    (("ok", "passed"), ("FAIL", "failed"), ("skip", "skipped"))))
    return 1 if "FAIL" in results or ("skip" in results and os.environ.get("JOURNALD_257") == "required") else 0


if __name__ == "__main__":
    sys.exit(main())
