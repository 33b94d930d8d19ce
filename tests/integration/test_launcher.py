#!/usr/bin/python3
"""test_launcher.py TAFFRAIL PROBE - the process that starts the journal's reader (docs/launcher.md), with the whole agent.

Another user than root, whose programs have CAP_DAC_READ_SEARCH permitted as in a container, reads a journal of root's:
each entry once, over kills of the reader. The reader has that capability in effect, and reads the journal's folders
alone: a probe in its place tries others. Main can neither read them nor start a program. Nothing outlives main; when
the launcher is killed, or stopped, or the journal's folder was made again, the agent stops with 3. Where the user may read the journal by himself, or the capability or
Landlock is not there, there is no launcher, and what cannot be read is said; root reads it without any of that. Root.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tarfile

from harness import Failed, House, PATIENCE, Program, children_of, is_alive, need, wait_until
from test_sandbox import NOBODY, READ, STRANGER, check_confined, check_parent, status_of

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURE = os.path.join(HERE, "../fixtures/journald/files/journal-dir-252-not-compact.tar.gz")
AS_STRANGER = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "--inh-caps=-all"]
WITH = [*AS_STRANGER, "--bounding-set=-all,+dac_read_search"]
WITHOUT = [*AS_STRANGER, "--bounding-set=-all"]


class Journal:
    """An agent with a copy of the programs, and a journal of root's in a folder of root's."""

    def __init__(self, house, sandbox="{}", owner=STRANGER, inputs=""):
        self.house = house
        os.chmod(house.folder, 0o755)
        for name in ("own", "bin"):
            os.makedirs(house.path(name))
        os.chown(house.path("own"), owner, owner)
        self.binary = shutil.copy(house.binary, house.path("bin/taffrail"))
        self.reader = shutil.copy(os.path.join(os.path.dirname(house.binary), "taffrail-journal"),
                                  house.path("bin/taffrail-journal"))
        os.setxattr(self.binary, "security.capability", struct.pack("<5I", 0x02000000, READ, 0, 0, 0))
        self.folder = house.path("hidden/journal")
        os.makedirs(self.folder)
        with tarfile.open(FIXTURE) as tar:
            tar.extractall(self.folder)
        for folder, _, files in os.walk(house.path("hidden")):
            os.chown(folder, 0, 0)
            os.chmod(folder, 0o750)
            for name in files:
                os.chown(f"{folder}/{name}", 0, 0)
                os.chmod(f"{folder}/{name}", 0o640)
        done = subprocess.run([self.reader, "--directory", self.folder, "--once"], capture_output=True, check=True)
        self.count = done.stdout.count(b"__CURSOR=")
        need(self.count > 40, f"the fixture has {self.count} entries")
        self.config = house.write("own.yaml", f"""
inputs: [journald: {{paths: [hidden/journal], start_at: oldest}}{inputs}]
spool: {{path: own/spool, keep_free: 0}}
admin: {{listen: off}}
sandbox: {sandbox}
outputs: [file: {{path: own/out.ndjson}}]
""")

    def start(self, *words, wait="ready"):
        agent = Program([*words, self.binary, "run", "-c", self.config], self.house.path("own.log"))
        self.house.programs.append(agent)
        if wait:
            agent.wait_event(wait)
        return agent

    def records(self):
        path = self.house.path("own/out.ndjson")
        if not os.path.exists(path):
            return []
        with open(path, encoding="utf-8") as file:
            records = [json.loads(line) for line in file if line.endswith("\n")]
        return [record for record in records if record["tag"] != "taffrail.audit"]

    def wait_all(self, agent):
        """Each entry once."""
        wait_until(lambda: len(self.records()) >= self.count, 15, lambda: f"{len(self.records())}\n{agent.tail()}")
        cursors = [record["cursor"] if "cursor" in record else json.dumps(record, sort_keys=True) for record in self.records()]
        need(len(cursors) == len(set(cursors)) == self.count, f"{len(cursors)} records, {len(set(cursors))} different")


def launcher_of(agent):
    wait_until(lambda: len(children_of(agent.pid, "taffrail-launch")) == 1, 15,
               lambda: f"launchers: {children_of(agent.pid, 'taffrail-launch')}")
    return children_of(agent.pid, "taffrail-launch")[0]


def reader_of(agent):
    launcher = launcher_of(agent)
    wait_until(lambda: children_of(launcher, "taffrail-journa"), 15, agent.tail)
    return children_of(launcher, "taffrail-journa")[0]


def check_rights(pid, owner, effective, ambient):
    status = status_of(pid, pid)
    found = {name: int(status[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")}
    need(found == {"CapPrm": READ, "CapEff": effective, "CapInh": ambient, "CapAmb": ambient}, f"{found}")
    need((status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), f"{status}")
    need(status["Uid"].split() == [str(owner)] * 4, f"it runs as {status['Uid']}")
    need(os.stat(f"/proc/{pid}/maps").st_uid == 0, "dumpable")


def check_reading(house, _):
    """As in a container; and root that becomes another user. In both modes of the sandbox, over a reload."""
    for words, user, owner in ((WITH, "", STRANGER), ([], "user: nobody, ", NOBODY)):
        for mode in ("normal", "strict"):
            journal = Journal(house, f"{{{user}mode: {mode}, required: true}}", owner)
            agent = journal.start(*words)
            journal.wait_all(agent)
            agent.wait_event("journal-sandbox")
            need(f'with 4 of 4 layers on" pid={launcher_of(agent)} ' in agent.text(), agent.tail())
            told = next(line for line in agent.text().splitlines() if "event=journal-sandbox" in line)
            need('"the journal is read by a process with 4 of 4 layers on"' in told and "reads_all_logs=true" in told, told)
            need(re.search(r"event=sandbox .* reads_all_logs=false opener=false ", agent.text()), "what main has: " + agent.tail())
            check_confined(agent.pid, owner)
            if not user:
                check_parent(agent.process.pid, owner, permitted=READ)
            check_rights(launcher_of(agent), owner, 0, READ)
            check_rights(reader_of(agent), owner, READ, 0)
            signals = status_of(reader_of(agent), reader_of(agent))
            ignored = int(signals["SigIgn"], 16) & ~(3 << 31)  # but for two that are the C library's
            need((int(signals["SigBlk"], 16), ignored) == (0, 1 << signal.SIGPIPE - 1), f"{signals}")
            need(sorted(os.listdir(f"/proc/{launcher_of(agent)}/fd"), key=int) == ["0", "1", "2", "3", "4", "5"], "descriptors")
            old = launcher_of(agent), reader_of(agent)
            agent.process.send_signal(signal.SIGHUP)
            agent.wait_event("reload")
            wait_until(lambda: not any(map(is_alive, old)), 15, "they outlive a main that left")
            reader_of(agent)
            need(agent.stop() == 0, agent.tail())
            journal.wait_all(agent)
            for name in ("own", "bin", "hidden"):
                shutil.rmtree(house.path(name))
    print("ok    each entry of a journal of root's, by the capability in the reader alone; also in mode strict")


def check_main(house, _):
    """Main has no folder of the journal in its sandbox, and starts no program: the launcher does (strace)."""
    journal = Journal(house, "{user: nobody}", NOBODY)
    trace = house.path("trace")
    calls = "trace=openat,execve,landlock_restrict_self"
    agent = journal.start("strace", "-ff", "-qq", "-e", calls, "-o", trace)
    journal.wait_all(agent)
    parent = agent.children()[0]
    main = children_of(parent)[0]
    launcher = next(pid for pid in children_of(main))
    lines = {}
    for name, pid in (("main", main), ("launcher", launcher)):
        with open(f"{trace}.{pid}", encoding="utf-8", errors="replace") as file:
            lines[name] = file.read().splitlines()
    rules = {name: any("O_PATH" in line and f'"{journal.folder}"' in line for line in found) for name, found in lines.items()}
    need(rules == {"main": False, "launcher": True}, f"whose Landlock has the journal's folder: {rules}")
    confined = next(i for i, line in enumerate(lines["main"]) if line.startswith("landlock_restrict_self"))
    behind = [line for line in lines["main"][confined:] if "execve" in line or "/journal" in line]
    need(not behind, f"{behind}")
    os.kill(parent, signal.SIGTERM)
    need(agent.process.wait(60 * PATIENCE) == 0, agent.tail())
    print("ok    main's own sandbox has no folder of the journal, and it starts no program")


def check_ends(house, _):
    journal = Journal(house)
    agent = journal.start(*WITH)
    journal.wait_all(agent)
    for _ in range(3):
        reader = reader_of(agent)
        os.kill(reader, signal.SIGKILL)
        wait_until(lambda pid=reader: not is_alive(pid) and children_of(launcher_of(agent), "taffrail-journa"), 15, agent.tail)
    need("the journal reader died of signal 9" in agent.text(), agent.tail())
    launcher, reader = launcher_of(agent), reader_of(agent)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # as a service manager, or a terminal
        os.kill(launcher, number)
    agent.kill()
    wait_until(lambda: not is_alive(launcher) and not is_alive(reader), 15, "they outlive a main that was killed")
    agent = journal.start(*WITH)
    launcher, reader = launcher_of(agent), reader_of(agent)
    os.kill(launcher, signal.SIGKILL)
    need(agent.process.wait(60 * PATIENCE) == 3, agent.tail())
    need(agent.has_event("launcher-ended") and agent.has_event("stopped"), agent.tail())
    wait_until(lambda: not is_alive(reader), 15, "the reader outlives the launcher")
    agent = journal.start(*WITH)
    reader_of(agent)
    need(agent.stop() == 0, agent.tail())
    journal.wait_all(agent)
    print("ok    reader, main and launcher killed: each entry once, and nothing is left running")


def check_stopped(house, _):
    """A launcher that is stopped is killed: when main stops, and when it does not tell the end of a reader."""
    journal = Journal(house, "{mode: strict}")
    agent = journal.start(*WITH)
    journal.wait_all(agent)
    launcher, reader = launcher_of(agent), reader_of(agent)
    os.kill(launcher, signal.SIGSTOP)
    need(agent.stop() == 0, agent.tail())
    need("is stopped, or hangs; it is killed" in agent.text() and agent.has_event("launcher-killed"), agent.tail())
    wait_until(lambda: not is_alive(launcher) and not is_alive(reader), 15, "they outlive main")
    agent = journal.start(*WITH)
    launcher, reader = launcher_of(agent), reader_of(agent)
    os.kill(launcher, signal.SIGSTOP)
    os.kill(reader, signal.SIGKILL)
    need(agent.process.wait(120) == 3, agent.tail())
    need(agent.has_event("launcher-ended") and agent.has_event("stopped"), agent.tail())
    need(not is_alive(launcher), "it outlives main")
    agent = journal.start(*WITH)
    reader_of(agent)
    need(agent.stop() == 0, agent.tail())
    journal.wait_all(agent)
    print("ok    a launcher that is stopped is killed, though main may send no signal, and the agent asks to be started again")


def make_again(path):
    """Another folder with the same files, under the same name."""
    os.rename(path, f"{path}.kept")
    shutil.copytree(f"{path}.kept", path)
    os.chmod(path, 0o750)
    shutil.rmtree(f"{path}.kept")


def make_link(machine, disk):
    shutil.copytree(machine, disk)
    os.chmod(disk, 0o750)
    shutil.rmtree(machine)
    os.symlink(disk, machine)


def check_made_again(house, _):
    """What the sandbox does not know is put in the place of a folder: the agent stops with 3, and a new start reads; also as root, without a
    launcher. The folder is the journal's, or a machine's in it, which is a link to another disk, or becomes one."""
    disk = house.path("disk")
    ways = {"made again": (None, lambda folder, _: make_again(folder)),
            "a link, its target made again": (lambda machine: make_link(machine, disk), lambda *_: make_again(disk)),
            "becomes a link": (None, lambda _, machine: make_link(machine, disk))}
    for words, owner in ((WITH, STRANGER), ([], 0)):
        for way, (before, change) in ways.items():
            journal = Journal(house, owner=owner)
            machine = f"{journal.folder}/{os.listdir(journal.folder)[0]}"
            os.chmod(house.path("hidden"), 0o755)
            os.chmod(journal.folder, 0o755)
            if before:
                before(machine)
            agent = journal.start(*words)
            journal.wait_all(agent)
            need(agent.has_event("launcher") == bool(words), agent.tail())
            reader = reader_of(agent) if words else children_of(agent.pid, "taffrail-journa")[0]
            change(journal.folder, machine)
            with contextlib.suppress(ProcessLookupError):  # it has seen that the folder is another
                os.kill(reader, signal.SIGKILL)
            need(agent.process.wait(60 * PATIENCE) == 3, f"{way}: {agent.tail()}")
            need(agent.has_event("sandbox-outdated") and agent.has_event("stopped"), agent.tail())
            agent = journal.start(*words)
            agent.wait_event("journal-sandbox")
            need(not agent.text().count("event=sandbox-outdated") > 1 and agent.stop() == 0, agent.tail())
            journal.wait_all(agent)
            for name in ("own", "bin", "hidden", "disk"):
                shutil.rmtree(house.path(name), ignore_errors=True)
    print("ok    where the journal's folder, or a machine's, was made again, the agent asks to be started again")


REFUSED, CLOSED = 1, 13  # EPERM by seccomp, EACCES by Landlock


def check_inside(house, probe):
    """A probe in the reader's place, before any sandbox of its own, tries what it is not to do."""
    for mode in ("normal", "strict"):
        # A folder that is missing, in whose place none above it is to be read.
        journal = Journal(house, f"{{mode: {mode}}}", inputs=", journald: {name: later, paths: [hidden/later]}")
        for name, bits in (("hidden/secret", 0o600), ("hidden/public", 0o644), ("hidden/journal/file", 0o600)):
            os.chmod(house.write(name, "x"), bits)
        shutil.copy(probe, journal.reader)
        agent = journal.start(*WITH)
        wait_until(lambda: " done\" input=journald" in agent.text(), 15, agent.tail)
        line = re.search(r'event=journal-reader msg="(.*) done" input=journald', agent.text())[1]
        found = {name: int(result) for name, result in re.findall(r"(\w+) (\d+)", line)}
        wanted = {"effective": READ, "open_inside": 0, "list_inside": 0, "unshare": REFUSED, "mount": REFUSED,
                  "execute": CLOSED, "connect": CLOSED}
        wanted.update(dict.fromkeys(("write_inside", "make_inside", "open_secret", "open_public", "open_shadow", "open_proc"),
                                    CLOSED))
        if mode == "strict":
            del found["connect"]  # there is no socket to connect
            del wanted["connect"]
        need(found == wanted, f"{mode}: (found, wanted): {set(found.items()) ^ set(wanted.items())}")
        need(agent.has_event("sandbox-missing"), agent.tail())
        need(agent.stop() == 0, agent.tail())
        for name in ("own", "bin", "hidden"):
            shutil.rmtree(house.path(name))
    print(f"ok    {len(wanted)} trials from inside: with the capability it opens nothing but the journal's folder")


def check_none(house, probe):
    """Where it is not needed, or cannot be."""
    journal = Journal(house)
    agent = journal.start(*WITHOUT)
    wait_until(lambda: "hidden/journal: Permission denied; " in agent.text(), 15, agent.tail)
    need(not agent.has_event("launcher") and not journal.records(), agent.tail())
    need("CAP_DAC_READ_SEARCH" in agent.text() and "systemd-journal" in agent.text(), agent.tail())
    need(agent.stop() == 0, agent.tail())
    os.chown(house.path("hidden"), 0, STRANGER)
    for folder, _, files in os.walk(journal.folder):
        for path in (folder, *(f"{folder}/{name}" for name in files)):
            os.chown(path, 0, STRANGER)
    agent = journal.start(*WITH)
    journal.wait_all(agent)
    agent.wait_event("journal-sandbox")
    need(not agent.has_event("launcher") and "reads_all_logs=false" in agent.text(), agent.tail())
    need(agent.stop() == 0, agent.tail())
    os.chown(house.path("hidden"), 0, 0)
    agent = journal.start(probe, "without", "landlock", shutil.which(WITH[0]), *WITH[1:])
    agent.wait_event("launcher")
    need("that takes Landlock" in agent.text() and not children_of(agent.pid, "taffrail-launch"), agent.tail())
    need(agent.stop() == 0, agent.tail())
    words = [*AS_STRANGER[:-1], "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    done = subprocess.run([*words, journal.reader, "--directory", journal.folder, "--once", "--verbose"],
                          capture_output=True, check=False, timeout=60 * PATIENCE)
    need(b"without Landlock the right to read all files is given up" in done.stderr, f"{done}")
    need(b"ermission denied" in done.stdout and b"__CURSOR" not in done.stdout, f"{done}")
    print("ok    no launcher where the group suffices, or without the capability or Landlock; what cannot be read is said")


def check_root(house, _):
    """As by the chart's values-root.yaml: root without any capability, who owns the journal, whatever its group."""
    journal = Journal(house, owner=0)
    for folder, _, files in os.walk(house.path("hidden")):
        for path in (folder, *(f"{folder}/{name}" for name in files)):
            os.chown(path, 0, STRANGER)
    agent = journal.start("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--clear-groups")
    journal.wait_all(agent)
    status = status_of(agent.pid, agent.pid)
    need((status["Uid"].split()[0], int(status["CapPrm"], 16)) == ("0", 0), f"{status}")
    need(not agent.has_event("launcher"), agent.tail())
    need(agent.stop() == 0, agent.tail())
    print("ok    root reads it without a capability, and without a launcher")


def main():
    if os.geteuid() != 0:
        print("skip  not root")
        return
    if not os.path.exists(os.path.join(os.path.dirname(os.path.abspath(sys.argv[1])), "taffrail-journal")):
        print("skipped: the launcher (taffrail-journal is not built)")
        return
    probe = os.path.abspath(sys.argv[2])
    for check in (check_reading, check_main, check_inside, check_ends, check_stopped, check_made_again, check_none, check_root):
        with House(sys.argv[1]) as house:
            check(house, probe)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAIL  {failure}")
