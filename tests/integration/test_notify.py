#!/usr/bin/python3
"""test_notify.py TAFFRAIL - what a service manager hears of the agent (sd_notify(3)), and gives it.

READY=1 comes once it reads, not before; WATCHDOG=1 as long as its loop turns: a process that is stopped sends
none, and goes on with it; RELOADING=1 and READY=1 around a reload; STOPPING=1 with the time that it takes. An agent that cannot start is never ready.
A capability that the manager gave is the agent's alone: no child inherits it.
"""

import os
import re
import signal
import socket
import sys
import time

from harness import Failed, House, PATIENCE, Program, need, stand_still

WATCHDOG_S = 0.2
CAP_DAC_READ_SEARCH = 2  # linux/capability.h


class Manager:
    """The manager's end of the socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.env = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}

    def hear(self, timeout_s):
        """The next message as {name: value}, or {}."""
        self.socket.settimeout(timeout_s)
        try:
            return dict(line.split("=", 1) for line in self.socket.recv(65536).decode().split("\n"))
        except socket.timeout:
            return {}

    def hear_until(self, name, timeout_s=15):
        end = time.monotonic() + timeout_s * PATIENCE
        while time.monotonic() < end:
            message = self.hear(1)
            if name in message:
                return message
        raise Failed(f"no {name} in {timeout_s} s")

    def drain(self):
        while self.hear(0.001):
            pass


def configure(house):
    return house.configure_agent(outputs="  - file: {path: records.ndjson}\n", agent="host: node-1, stop_timeout: 30s")


def check_life(house):
    manager = Manager(house.path("notify"))
    configure(house)
    agent = house.start("agent", manager.env, wait=None)
    first = manager.hear(15 * PATIENCE)
    need(first == {"READY": "1", "STATUS": "reads container; ships to file"}, f"first: {first}")
    need(agent.has_event("ready"), "ready before it was")
    for _ in range(3):
        manager.hear_until("WATCHDOG")
    stand_still(agent.pid)
    time.sleep(WATCHDOG_S)  # its parent passes on what it said before
    manager.drain()
    silence = manager.hear(5 * WATCHDOG_S)
    need(silence == {}, f"a process that stands still sent {silence}")
    os.kill(agent.pid, signal.SIGCONT)
    manager.hear_until("WATCHDOG")
    agent.process.send_signal(signal.SIGTERM)
    last = manager.hear_until("STOPPING")
    need(last["EXTEND_TIMEOUT_USEC"] == "40000000", f"last: {last}")
    need(agent.process.wait(15 * PATIENCE) == 0, "it did not stop well")
    print("ok    ready, signs of life, silence when stopped, stopping")


def check_reload(house):
    """The manager is told that it lasts, and is patient until the loop of the next main turns."""
    manager = Manager(house.path("notify"))
    configure(house)
    agent = house.start("agent", manager.env)
    manager.hear_until("READY")
    agent.process.send_signal(signal.SIGHUP)
    began = manager.hear_until("RELOADING")
    need(0 <= time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6 - int(began["MONOTONIC_USEC"]) < 15e6 * PATIENCE, f"{began}")
    need(int(manager.hear_until("WATCHDOG_USEC")["WATCHDOG_USEC"]) == 600 * 10**6, "no patience")
    manager.hear_until("READY")
    need(int(manager.hear_until("WATCHDOG_USEC")["WATCHDOG_USEC"]) == int(WATCHDOG_S * 1e6), "the watchdog is not as before")
    manager.hear_until("WATCHDOG")
    stand_still(agent.pid)
    time.sleep(WATCHDOG_S)
    manager.drain()
    need(manager.hear(5 * WATCHDOG_S) == {}, "the next main's signs of life do not come from its loop")
    os.kill(agent.pid, signal.SIGCONT)
    with open(house.path("agent/agent.yaml"), "a", encoding="utf-8") as file:
        file.write("kafka: {}\n")
    agent.process.send_signal(signal.SIGHUP)
    manager.hear_until("RELOADING")
    last = manager.hear_until("READY")
    need(last["STATUS"] == "reads container; ships to file" and agent.has_event("reload-refused"), f"refused: {last}")
    need(agent.stop() == 0, agent.tail())
    print("ok    a reload begins and ends, taken or refused")


def check_failed_start(house):
    manager = Manager(house.path("notify"))
    configure(house)
    with open(house.path("agent/spool.key"), "wb") as file:
        file.write(b"no key\n")
    agent = house.start("agent", manager.env, wait=None)
    need(agent.process.wait(15 * PATIENCE) != 0, "it started with a key that is none")
    heard = []
    while message := manager.hear(0.001):
        heard.append(message)
    need(not any("READY" in message for message in heard), f"not started, and said {heard}")
    print("ok    an agent that cannot start is never ready")


def check_nobody_there(house):
    configure(house)
    house.start("agent", {"NOTIFY_SOCKET": house.path("nobody")}).wait_event("notify")
    print("ok    it runs, and says so, when the manager cannot be told")


def check_capability(house):
    if os.geteuid() != 0:
        print("skip  capabilities: not root")
        return
    words = ["setpriv", "--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search", house.binary, "run"]
    agent = Program([*words, "-c", configure(house)], house.path("agent/agent.log"))
    house.programs.append(agent)
    agent.wait_event("ready")
    opener = re.search(r"event=opener .* pid=(\d+)", agent.text())[1]
    for pid, permitted in ((agent.pid, 0), (opener, 1 << CAP_DAC_READ_SEARCH)):
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        need(int(status["CapPrm"], 16) == permitted, f"{status['Name']}: {status['CapPrm']}")
        for set_name in ("CapAmb", "CapInh", "CapBnd"):
            need(int(status[set_name], 16) == 0, f"children inherit {set_name} {status[set_name]}")
    print("ok    a capability of the agent's is the opener's alone")


def main():
    for check in (check_life, check_reload, check_failed_start, check_nobody_there, check_capability):
        with House(sys.argv[1]) as house:
            check(house)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAIL  {failure}")
