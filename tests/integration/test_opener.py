#!/usr/bin/python3
"""test_opener.py TAFFRAIL PROBE - the process that opens logs (docs/opener.md), with the whole agent.

Lines come through it, over rotation and links, also from folders that only root enters; what a hostile container plants
is not read, and counted; main opens no log (strace); the process is confined, by /proc and by a probe that tries from
inside; it survives signals to all, and ends with its main, also at a reload. When it is killed, or asked what is no request, the agent stops
with 3, and another start goes on without a line lost or doubled. Root.
"""

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

from harness import CriFile, DockerFile, Failed, House, PATIENCE, Program, children_of, free_port, is_alive, need, wait_until
from test_sandbox import READ, check_confined, resting_status

NOBODY = 65534
SECRET = "outside of all roots"


class Logs:
    """An agent with logs of two kinds and a file of its own."""

    def __init__(self, house, sandbox="{}", owner=0, owners="[]"):
        self.house = house
        self.port = free_port()
        os.chmod(house.folder, 0o755)
        os.makedirs(house.path("own"), exist_ok=True)
        os.chown(house.path("own"), owner, owner)
        house.write("secret", SECRET + "\n")
        self.config = house.write("own.yaml", f"""
inputs:
  - container:
      paths: [logs/pods/*/*/*.log, logs/plain/*.log]
      link_roots: [logs/docker/containers]
      owners: {owners}
      rescan: 100ms
spool: {{path: own/spool, keep_free: 0}}
sandbox: {sandbox}
admin: {{listen: "127.0.0.1:{self.port}"}}
outputs: [file: {{path: own/out.ndjson}}]
""")
        os.makedirs(house.path("logs/plain"), exist_ok=True)

    def start(self, *words):
        agent = Program([*words, self.house.binary, "run", "-c", self.config], self.house.path("own.log"))
        self.house.programs.append(agent)
        agent.wait_event("ready")
        return agent

    def texts(self):
        path = self.house.path("own/out.ndjson")
        if not os.path.exists(path):
            return []
        with open(path, encoding="utf-8") as file:
            records = [json.loads(line) for line in file if line.endswith("\n")]
        return sorted(record["log"] for record in records if record["tag"] != "taffrail.audit")

    def wait_for(self, texts, agent):
        wait_until(lambda: len(self.texts()) >= len(texts), 15, lambda: f"{self.texts()[-5:]}\n{agent.tail()}")
        need(self.texts() == sorted(texts), f"{self.texts()}")

    def errors(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10 * PATIENCE) as reply:
            text = reply.read().decode()
        return int(re.search(r'^taffrail_input_errors_total{input="container",reason="open"} (\d+)$', text, re.M)[1])


def opener_of(agent):
    """Its pid, found as a child of that name."""
    wait_until(lambda: len(children_of(agent.pid, "taffrail-opener")) == 1, 15,
               lambda: f"openers: {children_of(agent.pid, 'taffrail-opener')}")
    return children_of(agent.pid, "taffrail-opener")[0]


def check_lines(house, _):
    """Logs of three kinds, present and new ones, over rotation."""
    logs = Logs(house)
    cri, docker = CriFile(house, "shop", "pay", "1111"), DockerFile(house, "shop", "cart", "2222")
    cri.write([f"cri {i}" for i in range(10)])
    docker.write([f"docker {i}" for i in range(10)])
    agent = logs.start()
    logs.wait_for([f"cri {i}" for i in range(10)] + [f"docker {i}" for i in range(10)], agent)
    for file in (cri, docker):
        file.rotate()
    cri.write([f"cri {i}" for i in range(10, 20)])
    docker.write([f"docker {i}" for i in range(10, 20)])
    late = CriFile(house, "shop", "late", "3333")
    late.write(["late"])
    house.write("logs/plain/new.log", "plain\n")
    logs.wait_for([f"cri {i}" for i in range(20)] + [f"docker {i}" for i in range(20)] + ["late", "plain"], agent)
    need(logs.errors() == 0, "errors without a reason")
    need(agent.stop() == 0, agent.tail())
    need(not agent.has_event("gap") and not agent.has_event("watches"), agent.tail())
    print("ok    lines arrive through it, over rotation, links and new folders")


def plant(house):
    """What a container could plant that may write to a log folder; and how the log tells of each."""
    outside, plain = house.path("secret"), house.path("logs/plain")
    os.symlink(outside, f"{plain}/link.log")
    os.symlink("../../secret", f"{plain}/up.log")
    os.symlink("link.log", f"{plain}/twice.log")
    os.symlink("/proc/self/environ", f"{plain}/magic.log")
    os.symlink("loop.log", f"{plain}/loop.log")
    os.link(outside, f"{plain}/hard.log")
    os.mkfifo(f"{plain}/fifo.log")
    os.mknod(f"{plain}/device.log", 0o600 | 0o020000, os.makedev(1, 3))
    for name in ("foreign.log", "named.log"):
        with open(f"{plain}/{name}", "w", encoding="utf-8") as file:
            file.write(f"{name}\n")
    os.chown(f"{plain}/foreign.log", 12345, 12345)
    os.chown(f"{plain}/named.log", 23456, 23456)
    writable = CriFile(house, "evil", "writable", "4444")
    writable.write(["from a folder that others may write to"])
    os.chmod(writable.folder, 0o777)
    return {"link.log": "out of link_roots", "up.log": "out of link_roots", "twice.log": "out of link_roots",
            "magic.log": "out of link_roots", "loop.log": "too many links", "hard.log": "several names",
            "fifo.log": "not a regular file", "device.log": "not a regular file",
            "foreign.log": "belongs to another user", "writable_4444/app": "others may write"}


def check_planted(house, _):
    logs = Logs(house, owners='["23456"]')
    planted = plant(house)
    house.write("logs/plain/good.log", "good\n")
    agent = logs.start()
    logs.wait_for(["good", "named.log"], agent)
    wait_until(lambda: logs.errors() >= len(planted), 15, lambda: f"{logs.errors()} errors were counted")

    def untold():
        told = [line for line in agent.text().splitlines() if "event=unreadable" in line]
        return [name for name, reason in planted.items() if not any(f"{name} " in f"{line} " and reason in line for line in told)]

    wait_until(lambda: not untold(), 15, lambda: f"not told: {untold()}\n{agent.text()}")
    house.write("logs/plain/second.log", "second\n")
    logs.wait_for(["good", "named.log", "second"], agent)
    need(agent.stop() == 0, agent.tail())
    print(f"ok    {len(planted)} planted things are not read, are told and counted")


def check_strace(house, _):
    """No thread of main opens anything below the logs; what it looks at (O_PATH) it cannot read."""
    logs = Logs(house)
    trace = house.path("trace")
    house.write("logs/plain/a.log", "a\n")
    cri = CriFile(house, "shop", "pay", "1111")
    cri.write(["b"])
    calls = "trace=open,openat,openat2,creat,open_by_handle_at"
    agent = logs.start("strace", "-f", "-qq", "-e", calls, "-o", trace)
    logs.wait_for(["a", "b"], agent)
    cri.rotate()
    cri.write(["c"])
    logs.wait_for(["a", "b", "c"], agent)
    main = int(re.search(r"event=start .* pid=(\d+)", agent.text())[1])
    opener = int(re.search(r"event=opener .* pid=(\d+)", agent.text())[1])
    os.kill(main, signal.SIGTERM)
    need(agent.process.wait(60 * PATIENCE) == 0, agent.tail())
    with open(trace, encoding="utf-8", errors="replace") as file:
        lines = [line.split(None, 1) for line in file]
    of_opener = [call for pid, call in lines if int(pid) == opener]
    of_main = [call for pid, call in lines if int(pid) != opener]
    need(any('"a.log"' in call for call in of_opener), "the opener's calls are not there")
    looks = [call for call in of_main if "O_PATH" in call]
    wrong = [call for call in of_main if "O_PATH" not in call and ("/logs" in call or ".log" in call or "openat2" in call)]
    need(of_main and not wrong, f"main's calls: {wrong[:5]}")
    print(f"ok    of {len(of_main) - len(looks)} files that main opens, none is a log")


def check_proc(house, _):
    """As root, and as another user who reads what only root may enter."""
    for user, owner in (("", 0), ("user: nobody", NOBODY)):
        logs = Logs(house, f"{{{user}}}", owner)
        hidden = CriFile(house, "shop", "hidden", f"{owner}")
        os.chmod(hidden.folder, 0o700)
        os.chmod(hidden.path, 0o600)
        hidden.write(["one"])
        agent = logs.start()
        logs.wait_for(["one"], agent)
        hidden.rotate()
        os.chmod(hidden.path, 0o600)
        hidden.write(["two"])
        logs.wait_for(["one", "two"], agent)
        check_confined(agent.pid, owner)
        pid = opener_of(agent)
        status = resting_status(pid, pid)
        need(len(os.listdir(f"/proc/{pid}/task")) == 1, "it has several threads")
        need(int(status["CapPrm"], 16) == READ, status["CapPrm"])
        for name in ("CapEff", "CapInh", "CapAmb", "CapBnd"):
            need(int(status[name], 16) == 0, f"{name}: {status[name]}")
        need((status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), f"{status}")
        need(status["Uid"].split() == [str(owner)] * 4, f"it runs as {status['Uid']}")
        need(os.stat(f"/proc/{pid}/maps").st_uid == 0, "dumpable")
        wait_until(lambda: sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "2"], 1,  # but for a log that it opens at this moment
                   lambda: f"{os.listdir(f'/proc/{pid}/fd')}")  # pylint: disable=cell-var-from-loop
        need(os.readlink(f"/proc/{pid}/fd/0").startswith("socket:"), "stdin is no socket")
        with open(f"/proc/{pid}/limits", encoding="ascii") as file:
            limits = {line[:26].strip(): line[26:].split()[:2] for line in file}
        need(limits["Max processes"] == limits["Max core file size"] == ["0", "0"], f"{limits}")
        need(limits["Max open files"] == ["256", "256"], f"{limits}")
        need("with 4 of 4 layers on" in agent.text() and " opener=true " in agent.text(), agent.tail())
        need(agent.stop() == 0, agent.tail())
        wait_until(lambda: not is_alive(pid), 15, "it outlives main")  # pylint: disable=cell-var-from-loop
        shutil.rmtree(house.path("own"))
        shutil.rmtree(hidden.folder)
    print("ok    it has one capability, out of effect, one socket, and no other thread; main has no capability")


def check_probe(house, binary):
    refused, closed = 1, 13  # EPERM by seccomp, EACCES by Landlock
    for name in ("in", "out"):
        os.makedirs(house.path(name))
        house.write(f"{name}/file", "x")
    done = subprocess.run([binary, "opener", house.path("in"), house.path("out")], capture_output=True, text=True,
                          check=False)
    need(done.returncode == 0, f"{done}")
    found = {name: int(result) for name, result in (line.split() for line in done.stdout.splitlines())}
    wanted = {"layers": 4, "open_inside": 0, "list_inside": 0}
    wanted.update(dict.fromkeys(("write_inside", "cut_inside", "make_inside", "open_outside", "make_outside",
                                 "open_shadow", "open_proc"), closed))
    wanted.update(dict.fromkeys(("read", "pread", "map", "remove", "socket", "internet", "fork", "execute", "signal",
                                 "ptrace", "capget", "setuid"), refused))
    need(found == wanted, f"(found, wanted): {set(found.items()) ^ set(wanted.items())}")
    print(f"ok    {len(wanted) - 1} trials from inside: it reads nothing, and opens only below its roots")


def check_ends(house, _):
    """Signals, and how each of the two ends by the other."""
    logs = Logs(house)
    cri = CriFile(house, "shop", "pay", "1111")
    written = []

    def write(count=100):
        new = [f"line {len(written) + i}" for i in range(count)]
        written.extend(new)
        cri.write(new)

    write()
    agent = logs.start()
    pid = opener_of(agent)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # as a service manager, or a terminal
        os.kill(pid, number)
    logs.wait_for(written, agent)
    agent.process.send_signal(signal.SIGHUP)  # another main, with an opener of its own
    agent.wait_event("reload")
    wait_until(lambda: not is_alive(pid), 15, "it outlives a main that left")
    write()
    logs.wait_for(written, agent)
    pid = opener_of(agent)
    agent.kill()
    wait_until(lambda: not is_alive(pid), 15, "it outlives a main that was killed")
    write()
    agent = logs.start()
    logs.wait_for(written, agent)
    os.kill(opener_of(agent), signal.SIGKILL)
    need(agent.process.wait(60 * PATIENCE) == 3, agent.tail())
    need(agent.has_event("opener-ended") and agent.has_event("stopped"), agent.tail())
    cri.rotate()
    write()
    agent = logs.start()
    logs.wait_for(written, agent)
    ask_nonsense(agent)
    need(agent.process.wait(60 * PATIENCE) == 3, agent.tail())
    need("what was asked for is no request" in agent.text() and agent.has_event("opener-ended"), agent.tail())
    write()
    agent = logs.start()
    logs.wait_for(written, agent)
    pid = opener_of(agent)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(1)  # a scan asks it
    need(agent.stop() == 0, agent.tail())
    need(not is_alive(pid), "it outlives main")
    print(f"ok    reloaded, killed, asked nonsense, left alone, stopped: each of {len(written)} lines once")


def ask_nonsense(agent):
    """Takes main's end of the socket (pidfd_getfd(2)), and sends what is no request."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = libc.syscall(434, agent.pid, 0)  # pidfd_open
    need(pidfd >= 0, "pidfd_open")
    for name in os.listdir(f"/proc/{agent.pid}/fd"):
        fd = libc.syscall(438, pidfd, int(name), 0)  # pidfd_getfd
        if fd < 0 or not os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
            continue
        with socket.socket(fileno=fd) as end:
            if end.family == socket.AF_UNIX and end.type == socket.SOCK_SEQPACKET:
                end.send(b"nonsense")
                os.close(pidfd)
                return
    raise Failed("main has no such socket")


def check_off(house, _):
    logs = Logs(house, "{opener: off}")
    house.write("logs/plain/a.log", "a\n")
    os.symlink(house.path("secret"), house.path("logs/plain/link.log"))
    agent = logs.start()
    logs.wait_for(["a"], agent)
    need(" opener=false " in agent.text() and not agent.has_event("opener"), agent.tail())
    check_confined(agent.pid, permitted=READ)
    need(agent.stop() == 0, agent.tail())
    print("ok    with `opener: off` main opens logs by itself, by the same rules")


def main():
    if os.geteuid() != 0:
        print("skip  not root")
        return
    binary = os.path.abspath(sys.argv[2])
    for check in (check_lines, check_planted, check_strace, check_proc, check_probe, check_ends, check_off):
        with House(sys.argv[1]) as house:
            check(house, binary)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAIL  {failure}")
