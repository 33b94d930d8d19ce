#!/usr/bin/env python3
"""taffrail delivers to a Forward receiver that taffrail did not write, over mutual TLS.

usage: test_fluent_server.py TAFFRAIL

The receiver is fluent_server/server.js; node and npm are needed. It is shown that every line of two
containers arrives once and is acknowledged (a second start sends only what is new), that a receiver
of another CA is sent nothing, and that a client of another CA gets nothing through. Everything
lives in a temporary folder; all processes are ended by their own pid.
"""

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from harness import PATIENCE

HERE = os.path.dirname(os.path.abspath(__file__))
SERVER = os.path.join(HERE, "fluent_server")
LIMIT_S = 60 * PATIENCE  # of all waiting together, npm not counted
LINES = 1000  # of each container
DEADLINE = time.monotonic() + LIMIT_S


def seconds_left():
    left = DEADLINE - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"not done in {LIMIT_S} s")
    return left


def install():
    """The receiver's one dependency, by its lock file, without its scripts."""
    if not os.path.isdir(os.path.join(SERVER, "node_modules")):
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=SERVER, check=True, timeout=300, stdout=subprocess.DEVNULL)


class Receiver:
    """server.js, and the events that it printed."""

    def __init__(self, cert, key, ca):
        command = ["node", os.path.join(SERVER, "server.js"), "--cert", cert, "--key", key, "--ca", ca]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        self.port = json.loads(self.lines.get(timeout=seconds_left()))["port"]

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)

    def events(self, count):
        """The next count events; waits for them."""
        return [json.loads(self.lines.get(timeout=seconds_left())) for _ in range(count)]

    def more_events(self, wait_s):
        """What comes in wait_s."""
        time.sleep(min(wait_s, seconds_left()))
        found = []
        while not self.lines.empty():
            found.append(json.loads(self.lines.get()))
        return found

    def stop(self):
        end(self.process)


def end(process):
    """SIGTERM, and SIGKILL when that is not enough; returns the exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=15 * PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


class Agent:
    """taffrail run, its log in a file."""

    def __init__(self, taffrail, folder, name, port, certificate):
        self.log_path = os.path.join(folder, f"{name}.log")
        config = os.path.join(folder, f"{name}.yaml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(
                "agent: {host: test-node, stop_timeout: 2s}\n"
                f"inputs: [container: {{paths: [{name}-logs/*.log]}}]\n"
                f"spool: {{path: {name}-spool, keep_free: 0}}\n"
                f"outputs: [forward: {{match: [container], hosts: ['127.0.0.1:{port}'], "
                f"tls: {{ca: pki/ca.pem, cert: {certificate}.pem, key: {certificate}.key}}}}]\n"
            )
        self.log = open(self.log_path, "ab")
        self.process = subprocess.Popen([taffrail, "run", "-c", config], stderr=self.log)

    def log_text(self):
        with open(self.log_path, encoding="utf-8") as file:
            return file.read()

    def wait_log(self, word):
        while word not in self.log_text():
            if self.process.poll() is not None:
                raise AssertionError(f"the agent ended by itself: {self.process.returncode}")
            seconds_left()
            time.sleep(0.05)

    def stop(self):
        code = end(self.process)
        self.log.close()
        return code


def write_cri(folder, name, first, count):
    """Lines as containerd writes them."""
    with open(os.path.join(folder, name), "a", encoding="utf-8") as file:
        for number in range(first, first + count):
            file.write(f"2026-11-23T10:15:04.{number:09d}Z stdout F {name} line {number}\n")


def write_docker(folder, name, first, count):
    """Lines as docker's json-file writes them."""
    with open(os.path.join(folder, name), "a", encoding="utf-8") as file:
        for number in range(first, first + count):
            moment = f"2026-11-23T10:15:04.{number:09d}Z"
            line = {"log": f"{name} line {number}\n", "stream": "stderr", "time": moment}
            file.write(json.dumps(line) + "\n")


def make_certificates(taffrail, folder):
    """Two authorities, each with a collector and a node."""

    def pki(*words):
        subprocess.run([taffrail, "pki", *words], cwd=folder, check=True, timeout=seconds_left(),
                       stdout=subprocess.DEVNULL)

    for authority in ("pki", "other"):
        pki("init", "--name", f"Test {authority}", authority)
        pki("collector", authority, "localhost", "127.0.0.1")
        pki("agent", authority, "node-1")


def expect(what, wanted, got):
    if wanted != got:
        raise AssertionError(f"{what}: wanted {wanted!r}, got {got!r}")


def expect_lines(name, count, events):
    """All lines of a file, once and in order; says where it goes wrong."""
    got = [event["record"]["log"] for event in events]
    got = [line for line in got if line.startswith(name)]
    for number, line in enumerate(got):
        expect(f"event {number}", f"{name} line {number}", line)
    expect(f"lines of {name}", count, len(got))


def delivers(taffrail, folder):
    """Every line once; what was acknowledged is not sent again by the next start."""
    logs = os.path.join(folder, "good-logs")
    os.mkdir(logs)
    write_cri(logs, "cri.log", 0, LINES // 2)
    write_docker(logs, "docker.log", 0, LINES)
    receiver = Receiver(*(os.path.join(folder, "pki", name)
                          for name in ("localhost.pem", "localhost.key", "ca.pem")))
    agent = None
    try:
        agent = Agent(taffrail, folder, "good", receiver.port, "pki/node-1")
        agent.wait_log("event=output-up")
        write_cri(logs, "cri.log", LINES // 2, LINES - LINES // 2)  # while it runs
        events = receiver.events(2 * LINES)
        for name in ("cri.log", "docker.log"):
            expect_lines(name, LINES, events)
        expect("tags", {"container"}, {event["tag"] for event in events})
        expect("hosts", {"test-node"}, {event["record"].get("host") for event in events})
        expect("exit", 0, agent.stop())
        expect("failures", 0, agent.log_text().count("event=output-down"))
        write_cri(logs, "cri.log", LINES, 1)
        agent = Agent(taffrail, folder, "good", receiver.port, "pki/node-1")
        expect("what is new", [f"cri.log line {LINES}"],
               [event["record"]["log"] for event in receiver.events(1)])
        expect("what was acknowledged", [], receiver.more_events(1))
        expect("exit of the second run", 0, agent.stop())
    finally:
        if agent is not None:
            agent.stop()
        receiver.stop()


def refuses(taffrail, folder, name, receiver_pki, certificate):
    """Nothing gets through, and the log says that records wait."""
    logs = os.path.join(folder, f"{name}-logs")
    os.mkdir(logs)
    write_cri(logs, "cri.log", 0, 10)
    receiver = Receiver(*(os.path.join(folder, path) for path in
                          (f"{receiver_pki}/localhost.pem", f"{receiver_pki}/localhost.key",
                           "pki/ca.pem")))
    agent = None
    try:
        agent = Agent(taffrail, folder, name, receiver.port, certificate)
        agent.wait_log("event=output-down")
        expect(f"{name}: events", [], receiver.more_events(1))
        expect(f"{name}: records wait", True, "records wait in the spool" in agent.log_text())
    finally:
        if agent is not None:
            agent.stop()
        receiver.stop()


def main():
    if len(sys.argv) != 2:
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    taffrail = os.path.abspath(sys.argv[1])
    global DEADLINE
    install()
    DEADLINE = time.monotonic() + LIMIT_S
    folder = tempfile.mkdtemp(prefix="taffrail-fluent-")
    try:
        make_certificates(taffrail, folder)
        delivers(taffrail, folder)
        refuses(taffrail, folder, "stranger", "pki", "other/node-1")
        refuses(taffrail, folder, "imposter", "other", "pki/node-1")
    except Exception as error:  # told with the logs, which go with the folder
        print(f"FAIL {type(error).__name__}: {error}")
        for name in sorted(os.listdir(folder)):
            if name.endswith(".log"):
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    print(f"--- {name}\n" + "".join(file.readlines()[-20:]), end="")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
