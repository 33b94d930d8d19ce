#!/usr/bin/python3
"""test_strict.py TAFFRAIL [derive] - `sandbox.mode: strict`: the calls that are allowed are those that are made.

Agent and collector do what they are for (tails with rotation, gz siblings and links, also of logs that the opener opens; TLS; every
way into the journal; labels from an API server; names; admin, reload, stop) under strace, twice. In mode normal, where little is refused, each call that a main
makes behind its filter must stand in agent/sandbox/allowed.c, and each that stands there must be made, unless it is
marked RARELY with its reason: so the list is derived, and stays small. In mode strict all of it works, and nothing that
is not on the list is tried. `derive` prints what was made instead. Root.
"""

import collections
import ctypes
import fcntl
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys

from harness import (CriFile, DockerFile, Failed, House, PATIENCE, Program, children_of, free_port, gzip_by_kubelet,
                     need, wait_until)
from mock_kubernetes import MockApi, pod
from test_admin import metrics_of, status_of
from test_journald_upload import TYPE, entry

HERE = os.path.dirname(os.path.abspath(__file__))
LIST = os.path.join(HERE, "../../agent/sandbox/allowed.c")
JOURNAL_REMOTE = "/lib/systemd/systemd-journal-remote"
EXPORT = os.path.join(HERE, "../fixtures/journald/export/journalctl-252.export")
CONFINED = re.compile(r"^seccomp\(SECCOMP_SET_MODE_FILTER, .*SECCOMP_FILTER_FLAG_TSYNC.*= 0$")
CALL = re.compile(r"^([a-z0-9_]+)\(")
MADE = re.compile(r"^(?:clone|clone3|fork|vfork)\(.* = (\d+)$")
RUNS = re.compile(r'^execve\("([^"]*)".* = 0$')

REFUSED = re.compile(r"= -1 EPERM ")
ASKED_IN_VAIN = "SO_RCVBUFFORCE"  # the kernel's answer to who has no CAP_NET_ADMIN
OPENER = re.compile(r'^prctl\(PR_SET_NAME, "taffrail-opener"')
LAUNCHER = re.compile(r'^prctl\(PR_SET_NAME, "taffrail-launch"')
NOBODY = 65534
ARCHITECTURES = (0xC000003E, 0xC00000B7)  # AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64: linux/audit.h
UNKNOWN = -1  # __NR_SCMP_ERROR
NOT_LISTED = {"clone3": "answered with ENOSYS: calls.c", "unshare": "the layer is tried from inside: sandbox.c"}

PARENTS = "no_new_privs, capabilities"
ALL = f"{PARENTS}, landlock, seccomp"

Listed = collections.namedtuple("Listed", "all rarely")
Made = collections.namedtuple("Made", "main programs opener launcher")  # {call: an example} each; what it starts is the launcher's


def read_list():
    """{table: Listed} of allowed.c."""
    with open(LIST, encoding="utf-8") as file:
        text = file.read()
    tables = {}
    for name, body in re.findall(r"struct tf_call (\w+)\[\] = \{\n(.*?)\n\};", text, re.S):
        rarely = dict(re.findall(r'RARELY\((\w+),\s*((?:"[^"]*"\s*)+)\)', body))
        need(all(len(reason) > 10 for reason in rarely.values()), f"RARELY without a reason: {rarely}")
        tables[name] = Listed(set(re.findall(r"(?:CALL|SOME|SOME_BOTH|RARELY)\((\w+)", body)), set(rarely))
    need(set(tables) == {"of_main", "of_programs", "of_opener", "of_launcher"}, f"tables: {set(tables)}")
    return tables


def check_names(tables):
    """Both processors know each name, whether they have the call or not. Returns the calls that this one has."""
    seccomp = ctypes.CDLL("libseccomp.so.2")
    names = set().union(*(listed.all for listed in tables.values()))
    for name in names:
        for architecture in ARCHITECTURES:
            need(seccomp.seccomp_syscall_resolve_name_arch(architecture, name.encode()) != UNKNOWN, f"no call: {name}")
    return {name for name in names if seccomp.seccomp_syscall_resolve_name(name.encode()) >= 0}


def nothing_made():
    return Made({}, {}, {}, {})


class Trace:
    """What strace wrote, a file for each thread: calls behind a filter, of mains, openers, launchers and the programs that these start."""

    def __init__(self, house, name):
        self.folder = house.path("trace", name)
        os.makedirs(self.folder)
        self.words = ["strace", "-qq", "-ff", "-s", "32", "-o", os.path.join(self.folder, "of")]

    def lines(self, pid):
        path = os.path.join(self.folder, f"of.{pid}")
        if not os.path.exists(path):
            return []
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()

    def follow(self, lines, calls, programs):
        """Adds the calls of lines to calls, also of threads and children; once a program runs, to programs."""
        for line in lines:
            call, made = CALL.match(line), MADE.match(line)
            if call and (call[1] not in calls or REFUSED.search(line)):
                calls[call[1]] = line
            if made:
                self.follow(self.lines(made[1]), calls, programs)
            if RUNS.match(line):
                calls = programs

    def made(self):
        made, mains = nothing_made(), 0
        for name in os.listdir(self.folder):
            lines = self.lines(name.rsplit(".", 1)[1])
            at = next((i for i, line in enumerate(lines) if CONFINED.match(line)), None)
            if at is None:
                continue
            if any(LAUNCHER.match(line) for line in lines[:at]):
                self.follow(lines[at + 1:], made.launcher, made.launcher)
            elif any(OPENER.match(line) for line in lines[:at]):
                self.follow(lines[at + 1:], made.opener, made.opener)
            else:
                mains += 1
                self.follow(lines[at + 1:], made.main, made.programs)
        need(mains > 0, "no main loaded a filter")
        return made


def add(house, role, text):
    with open(house.path(role, f"{role}.yaml"), "a", encoding="utf-8") as file:
        file.write(text)


class Scene:
    """A house whose programs are traced."""

    def __init__(self, house, mode):
        self.house, self.mode = house, mode
        self.traces = []
        house.make_pki()
        house.configure_collector()

    def start(self, role):
        trace = Trace(self.house, f"{role}-{len(self.traces)}")
        self.traces.append(trace)
        program = Program([*trace.words, self.house.binary, "run", "-c", self.house.path(role, f"{role}.yaml")],
                          self.house.path(role, f"{role}.log"))
        self.house.programs.append(program)
        program.wait_event("ready", 60)
        need(f" seccomp={self.mode} " in program.text(), program.tail())
        return program

    def signal(self, program, number):
        os.kill(program.children()[0], number)  # strace has one child, the parent

    def reload(self, program):
        readies = program.text().count("event=ready ")
        self.signal(program, signal.SIGHUP)
        wait_until(lambda: program.text().count("event=ready ") > readies, 60, program.tail)

    def stop(self, program):
        self.signal(program, signal.SIGTERM)
        need(program.process.wait(120 * PATIENCE) == 0, program.tail())

    def arrived(self, count):
        wait_until(lambda: len(self.house.records()) >= count, 60,
                   lambda: f"{len(self.house.records())} of {count}\n{self.house.programs[-1].tail()}")
        need(len(self.house.records()) == count, f"{len(self.house.records())} instead of {count}")

    def look(self, role, *others):
        """Status and metrics tell which list holds, and the layers of the other processes."""
        admin, is_strict = self.house.path(role, "admin.sock"), self.mode == "strict"
        metrics = metrics_of(admin)
        need(metrics['taffrail_sandbox_layer{layer="seccomp"}'] == 1, "the layer is off")
        need(metrics["taffrail_sandbox_strict"] == is_strict, "the metric's mode")
        sandbox = status_of(admin)["sandbox"]
        need(sandbox["seccomp"] == self.mode, "the status' mode")
        roles = {item["role"]: item["layers"] for item in sandbox["roles"]}
        need(roles == {"parent": PARENTS, **dict.fromkeys(others, ALL)}, f"{roles}")
        screen = self.house.run("status", "--socket", f"unix:{admin}", "--once").stdout.decode()
        need(("seccomp strict\n" in screen) == is_strict, screen)
        need(all(re.search(rf"^  {name} +{layers}$", screen, re.M) for name, layers in roles.items()), screen)


def make_journal(house):
    folder = house.path("journal")
    os.makedirs(folder)
    subprocess.run([JOURNAL_REMOTE, "-o", f"{folder}/a.journal", EXPORT], check=True, capture_output=True)
    with open(EXPORT, "rb") as file:
        return folder, file.read().count(b"__CURSOR=")


def deliver(house, mode, helper=None):
    """Agent and collector: logs of two kinds over rotation and gz, files of the journal, TLS, a collector that goes away."""
    scene = Scene(house, mode)
    count, inputs = 0, """  - container:
      paths: [../logs/pods/*/*/*.log]
      link_roots: [../logs/pods, ../logs/docker/containers]
      rescan: 200ms
"""
    if helper:
        folder, count = make_journal(house)
        inputs += f"  - journald: {{paths: [{folder}], start_at: oldest, helper: {helper}}}\n"
    house.configure_agent(inputs=inputs, outputs=f"""  - forward:
      hosts: ["localhost:{house.port}"]
      tls: {house.tls("node-1")}
""")
    for role in ("collector", "agent"):
        add(house, role, f"admin: {{listen: ['unix:{house.path(role, 'admin.sock')}']}}\n"
                         f"sandbox: {{mode: {mode}, required: true}}\n")
    collector, agent = scene.start("collector"), scene.start("agent")
    logs = [CriFile(house, "shop", "pay", "1111"), DockerFile(house, "shop", "cart", "2222")]
    for turn in range(3):
        for log in logs:
            log.write([f"turn {turn} line {i} password=hunter{i}" for i in range(50)])
            count += 50
        scene.arrived(count)
        if turn < 2:
            for log in logs:
                log.rotate()
            gzip_by_kubelet(f"{logs[0].path}.20261124-{turn + 1:06d}")
    others = ["opener", *(["journal-reader"] if helper == "reader" else [])]
    for role, program, processes in (("collector", collector, []), ("agent", agent, others)):
        scene.look(role, *processes)
        scene.reload(program)
    logs[0].write(["behind the reload"])
    count += 1
    scene.arrived(count)
    if helper == "reader":
        wait_until(lambda: agent.text().count(" event=journal-sandbox ") == 2, 30, agent.tail)  # two mains, a reader each
    need(agent.text().count(" event=sandbox-parent ") == 2, agent.tail())
    scene.look("agent", *others)
    scene.stop(collector)
    logs[0].write(["while it was away"])
    agent.wait_event("output-down", 60)
    collector = scene.start("collector")
    scene.arrived(count + 1)
    for program in (agent, collector):
        scene.stop(program)
    return scene


def post_entries(house, port, count):
    context = ssl.create_default_context(cafile=house.path("pki/ca.pem"))
    context.load_cert_chain(house.path("pki/node-1.pem"), house.path("pki/node-1.key"))
    client = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60 * PATIENCE)
    client.request("POST", "/upload", b"".join(entry(number) for number in range(count)), {"Content-Type": TYPE})
    need(client.getresponse().status == 202, "the upload")
    client.close()


def listen(house, mode):
    """An agent that opens logs by itself, asks the API server, and has a socket for each way into the journal."""
    scene = Scene(house, mode)
    api = MockApi(house.path("pki/127.0.0.1.pem"), house.path("pki/127.0.0.1.key"))
    api.add(pod("shop", "pay", "1111", {"app": "pay"}))
    house.write("token", "token-1\n")
    port = free_port()
    ways = "".join(f"  - journald: {{name: {way}, mode: {way}, listen: 'unix:{house.path(way)}'}}\n"
                   for way in ("native", "syslog", "export_socket"))
    house.write("collector/collector.yaml", f"""
agent: {{host: node-1}}
inputs:
  - container: {{paths: [../logs/pods/*/*/*.log]}}
{ways}  - journald: {{name: upload, mode: upload, listen: "127.0.0.1:{port}", tls: {house.tls("127.0.0.1")},
               allow: [{{identity: "spiffe://demo/node/*"}}]}}
filters: [kubernetes: {{server: "https://localhost:{api.port}", ca: ../pki/ca.pem, token: ../token}}]
spool: {{path: spool, keep_free: 0}}
admin: {{listen: ["unix:{house.path("collector/admin.sock")}"]}}
sandbox: {{mode: {mode}, required: true, opener: off}}
outputs: [file: {{path: records.ndjson}}]
""")
    agent = scene.start("collector")
    CriFile(house, "shop", "pay", "1111").write(["a line"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"MESSAGE=native\n", house.path("native"))
        sender.sendto(b"<13>Nov 24 10:00:00 app: syslog", house.path("syslog"))
        memory = os.memfd_create("entry", os.MFD_ALLOW_SEALING)
        os.write(memory, b"MESSAGE=large\n")
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
        sender.connect(house.path("native"))
        socket.send_fds(sender, [b""], [memory])
        os.close(memory)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as journald:
        journald.connect(house.path("export_socket"))
        journald.sendall(b"MESSAGE=forwarded\n__REALTIME_TIMESTAMP=1795000000000000\n\n")
        post_entries(house, port, 10)
        scene.arrived(15)
    need(any(record.get("kubernetes", {}).get("labels") == {"app": "pay"} for record in house.records()), "no labels")
    scene.look("collector")
    scene.reload(agent)
    scene.stop(agent)
    api.close()
    return scene


def open_as_another(house, mode):
    """Who is not root has logs of root's opened, and watched, by the opener; a planted link is told."""
    scene = Scene(house, mode)
    house.write("collector/collector.yaml", f"""
inputs: [container: {{paths: [../hidden/*.log], format: plain, rescan: 200ms}}]
spool: {{path: spool, keep_free: 0}}
admin: {{listen: off}}
sandbox: {{mode: {mode}, required: true, user: nobody}}
outputs: [file: {{path: records.ndjson}}]
""")
    for folder in ("collector", "hidden"):
        os.makedirs(house.path(folder), exist_ok=True)
    os.chmod(house.folder, 0o755)
    os.chown(house.path("collector"), NOBODY, NOBODY)
    os.chmod(house.path("hidden"), 0o770)
    os.symlink("/etc/shadow", house.path("hidden/shadow.log"))
    house.write("hidden/a.log", "one\n")
    os.chmod(house.path("hidden/a.log"), 0o660)
    agent = scene.start("collector")
    scene.arrived(1)
    house.write("hidden/b.log", "two\n")
    scene.arrived(2)
    agent.wait_event("unreadable")
    scene.stop(agent)
    return scene


def read_as_another(house, mode):
    """Who is not root has a journal of root's read by a program that the launcher starts; that is killed, and started again."""
    scene = Scene(house, mode)
    folder, count = make_journal(house)
    os.chmod(folder, 0o750)
    os.chmod(f"{folder}/a.journal", 0o640)
    house.write("collector/collector.yaml", f"""
inputs: [journald: {{paths: [{folder}], start_at: oldest}}]
spool: {{path: spool, keep_free: 0}}
admin: {{listen: ["unix:{house.path("collector/admin.sock")}"]}}
sandbox: {{mode: {mode}, required: true, user: nobody}}
outputs: [file: {{path: records.ndjson}}]
""")
    os.chmod(house.folder, 0o755)
    os.chown(house.path("collector"), NOBODY, NOBODY)
    agent = scene.start("collector")
    scene.arrived(count)
    scene.look("collector", "launcher", "journal-reader")
    main = children_of(agent.children()[0])[0]
    launcher = children_of(main)[0]
    reader = children_of(launcher)
    os.kill(reader[0], signal.SIGKILL)
    wait_until(lambda: children_of(launcher) not in ([], reader), 60, agent.tail)
    scene.stop(agent)
    scene.arrived(count)
    return scene


def helpers(binary):
    """Ways to read files of the journal that can be tried here."""
    ways = {"reader": os.path.exists(os.path.join(os.path.dirname(binary), "taffrail-journal")),
            "journalctl": shutil.which("journalctl")}
    for way, is_there in ways.items():
        if not is_there or not os.path.exists(JOURNAL_REMOTE):
            print(f"skipped: the calls of {way} (it is not there, or no systemd-journal-remote)")
        else:
            yield way


def gather(binary, mode, live, *words):
    """Made, of one scene."""
    with House(binary) as house:
        made = nothing_made()
        for trace in live(house, mode, *words).traces:
            for into, found in zip(made, trace.made()):
                into.update(found)
        return made


def gather_all(binary, mode):
    """Made by agents that start no program; by those that do."""
    alone, starting = nothing_made(), nothing_made()
    ways = list(helpers(binary))
    scenes = [(alone, deliver, ()), (alone, listen, ()), (alone, open_as_another, ()), *((starting, deliver, (way,)) for way in ways)]
    if "reader" in ways:
        scenes.append((alone, read_as_another, ()))
    for into, live, words in scenes:
        for calls, found in zip(into, gather(binary, mode, live, *words)):
            calls.update(found)
        print(f"ok    mode {mode}: {live.__name__} {' '.join(words)}")
    return alone, starting


def check_listed(mode, what, made, allowed):
    """A program may be refused some things: what it asks a terminal, what it lays down by itself."""
    refused = [line for name, line in made.items()
               if REFUSED.search(line) and name not in NOT_LISTED and ASKED_IN_VAIN not in line]
    need(mode == "normal" or what == "a program" or not refused, f"{what}: refused:\n" + "\n".join(refused))
    lacking = {name: example for name, example in made.items() if name not in allowed | set(NOT_LISTED)}
    need(not lacking, f"mode {mode}, {what}: not in agent/sandbox/allowed.c:\n" + "\n".join(lacking.values()))


def check(binary):
    tables = read_list()
    here = check_names(tables)
    allowed = {name: listed.all for name, listed in tables.items()}
    both = allowed["of_main"] | allowed["of_programs"]
    seen = {name: set() for name in tables}
    for mode in ("normal", "strict"):
        alone, starting = gather_all(binary, mode)
        check_listed(mode, "main", alone.main, allowed["of_main"])
        check_listed(mode, "main that starts a program", starting.main, both)
        check_listed(mode, "a program", starting.programs, both)
        check_listed(mode, "opener", {**alone.opener, **starting.opener}, allowed["of_opener"])
        check_listed(mode, "a program", alone.launcher, allowed["of_launcher"])
        seen["of_main"] |= set(alone.main)
        seen["of_programs"] |= set(starting.main) | set(starting.programs)
        seen["of_opener"] |= set(alone.opener) | set(starting.opener)
        seen["of_launcher"] |= set(alone.launcher)
    for name, listed in tables.items():
        idle = (listed.all - listed.rarely - seen[name]) & here
        need(not idle or name in ("of_programs", "of_launcher") and not seen[name],
             f"{name}: allowed and never made; take them out, or say why they may be: {sorted(idle)}")
        print(f"ok    {name}: {len(listed.all & here)} calls, {len(listed.rarely & here)} of them rare")


def main():
    if os.geteuid() != 0 or shutil.which("strace") is None:
        print("skipped: the calls of mode strict (not root, or no strace)")
        return
    binary = os.path.abspath(sys.argv[1])
    if sys.argv[2:] == ["derive"]:
        for made in gather_all(binary, "normal"):
            for name, calls in zip(made._fields, made):
                print(name, *(f"    {call:20} {example[:110]}" for call, example in sorted(calls.items())), sep="\n")
        return
    check(binary)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAIL  {failure}")
