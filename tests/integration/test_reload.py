#!/usr/bin/python3
"""test_reload.py TAFFRAIL [NAME...] - SIGHUP: another main takes over when it is sound, without losing a byte (docs/reload.md).

Agent and collector are reloaded under load, together with a collector that is down, with wider roots, with new certificates: each
line arrives exactly once. A configuration that is not sound, a next main that dies or hangs, changes nothing. Who ends when the
other does; what is seen of it all in log, audit and metrics.
"""

import contextlib
import os
import resource
import shutil
import signal
import socket
import sys
import threading
import time

from harness import (CriFile, Failed, House, PATIENCE, Program, Stored, check_books, check_numbers, children_of,
                     is_alive, need, read_spool, wait_until)
from test_admin import metrics_of, status_of

LOADING_S = 30  # LOADING_MS of agent/commands/run.c
PATIENT = "host: node-1, stop_timeout: 10m"  # longer than any wait of a test


class Scene:
    """A house at work, with a pod that writes; `lines` counts what must arrive."""

    def __init__(self, house, **options):
        self.house = house
        house.make_pki()
        house.configure_collector()
        for role in ("collector", "agent"):
            if role == "agent":
                house.configure_agent(**options)
            self.listen(role)
        self.collector, self.agent = house.start("collector"), house.start("agent")
        self.pod = CriFile(house, "shop", "pay", "0001")
        self.lines = 0
        self.stored = Stored(house)

    def listen(self, role):
        with open(self.house.path(role, f"{role}.yaml"), "a", encoding="utf-8") as file:
            file.write(f"admin: {{listen: ['unix:{self.admin(role)}']}}\n")

    def admin(self, role="agent"):
        return self.house.path(role, "admin.sock")

    def write(self, count):
        self.pod.write([f"pay line {number}" for number in range(self.lines, self.lines + count)])
        self.lines += count

    def arrived(self):
        wait_until(lambda: not self.stored.look().missing({"pay": self.lines}), 60,
                   lambda: f"missing {self.stored.missing({'pay': self.lines})[:5]}\n{self.agent.tail()}")
        need(not self.stored.doubled(), f"doubled: {self.stored.doubled()[:5]}")

    def edit(self, before, after, role="agent"):
        path = self.house.path(role, f"{role}.yaml")
        with open(path, encoding="utf-8") as file:
            text = file.read()
        need(before in text, f"{before} is not in {text}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace(before, after))

    def reload(self, program=None, event="reload"):
        """Returns when another main works, or was refused."""
        program = program or self.agent
        seen = count_events(program, event)
        readies = count_events(program, "ready")
        program.process.send_signal(signal.SIGHUP)
        wait_until(lambda: count_events(program, event) > seen and (event != "reload" or count_events(program, "ready") > readies),
                   60, lambda: f"no {event}\n{program.tail()}")

    def end(self):
        """All stops well, and all adds up."""
        self.arrived()
        for program in (self.agent, self.collector):
            need(program.stop() == 0, program.tail())
            check_books(program)
        for role in ("agent", "collector"):
            check_numbers(read_spool(self.house.path(role, "spool")))
        self.arrived()


def count_events(program, event):
    return program.text().count(f" event={event} ")


def wait_refused(program, number, why, timeout_s=15):
    wait_until(lambda: f" refused={number} " in program.text(), timeout_s, program.tail)
    line = next(line for line in program.text().splitlines() if f" refused={number} " in line)
    need(why in line, line)


def reload_under_load(house):
    """Agent and collector in turn, while a pod writes and is rotated."""
    scene = Scene(house)
    is_over = threading.Event()

    def write():
        while not is_over.is_set():
            scene.write(200)
            if scene.lines % 5000 == 0:
                scene.pod.rotate()
            time.sleep(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(4):
            time.sleep(0.3)
            scene.reload(scene.agent)
            time.sleep(0.2)
            scene.reload(scene.collector)
            need(metrics_of(scene.admin())['taffrail_config_reloads_total{result="taken"}'] == number + 1, "reloads counted")
    finally:
        is_over.set()
        writer.join()
    need(count_events(scene.agent, "start") == 1 and count_events(scene.agent, "stop") == 4, scene.agent.tail())
    scene.end()
    return f"{scene.lines} lines, 8 reloads"


def wider_roots(house):
    """A folder that the sandbox of the old main refuses is read by the next one (T44)."""
    scene = Scene(house)
    scene.write(10)
    scene.arrived()
    os.makedirs(house.path("elsewhere"))
    with open(house.path("elsewhere/a.log"), "w", encoding="utf-8") as file:
        file.write("other line 0\nother line 1\n")
    digest = status_of(scene.admin())["digest"]
    scene.edit("filters:", "  - container: {name: elsewhere, paths: [../elsewhere/*.log], format: plain}\nfilters:")
    scene.reload()
    scene.write(10)
    wait_until(lambda: not scene.stored.look().missing({"other": 2}), 30, scene.agent.tail)
    status = status_of(scene.admin())
    need(status["digest"] != digest and status["reloads"] == {"taken": 1, "refused": 0, "certificates": {"taken": 0, "refused": 0}}, f"{status}")
    line = next(line for line in scene.agent.text().splitlines() if " event=reload " in line)
    need(f" digest={status['digest']} was={digest} changed=inputs took_ms=" in line, line)
    need(f'taffrail_config_info{{digest="{status["digest"]}"}}' in metrics_of(scene.admin()), "the digest as a metric")
    scene.end()
    with open(house.records_path, encoding="utf-8") as file:
        record = next(line for line in file if '"event":"reload"' in line)
    need(f'"digest":"{status["digest"]}"' in record and '"changed":"inputs"' in record, record)
    return "a folder that was closed is read"


UNSOUND = (
    ("no yaml", "filters: []", "filters: [", "1 error"),
    ("unknown keys", "filters: []", "filters: []\nimputs: []\nkafka: {}", "2 errors"),
    ("a seal that is not there", "keep_free: 0", "keep_free: 0, seal: required", "1 error"),
    ("a missing key", "keep_free: 0", "keep_free: 0, keys: [nowhere.key]", "1 error"),
    ("a bad rule", "filters: []", "filters: [redact: {rules: [bad.yaml]}]", "4 errors"),
    ("a missing certificate", "node-1.pem", "node-2.pem", "1 error"),
    ("a user that is not there", "filters: []", "filters: []\nsandbox: {user: nobodyatall}", "1 error"),
)


def unsound(house):
    scene = Scene(house)
    house.write("agent/bad.yaml", "rules: [{id: x, regex: '(', match: [y]}]\n")
    with open(house.path("agent/agent.yaml"), encoding="utf-8") as file:
        sound = file.read()
    digest, pid = status_of(scene.admin())["digest"], scene.agent.pid
    for number, (name, before, after, errors) in enumerate(UNSOUND, 1):
        scene.write(10)
        house.write("agent/agent.yaml", sound)
        scene.edit(before, after)
        scene.agent.process.send_signal(signal.SIGHUP)
        wait_refused(scene.agent, number, f"{errors}; the old configuration goes on; run taffrail check")
        need(scene.agent.pid == pid, f"{name}: another main")
        need(f" error={errors[0]}/{errors[0]} at=" in scene.agent.text(), f"{name}: not all are told\n{scene.agent.tail()}")
    scene.write(10)
    scene.arrived()
    metrics = metrics_of(scene.admin())
    need(metrics['taffrail_config_reloads_total{result="refused"}'] == len(UNSOUND), "refusals counted")
    need(metrics['taffrail_config_reloads_total{result="taken"}'] == 0, "none was taken")
    need(status_of(scene.admin())["digest"] == digest, "another digest")
    house.write("agent/agent.yaml", sound)
    scene.reload()
    need(metrics_of(scene.admin())['taffrail_config_reloads_total{result="refused"}'] == len(UNSOUND), "the next main knows them")
    scene.end()
    with open(house.records_path, encoding="utf-8") as file:
        need(sum('"event":"reload-refused"' in line for line in file) == len(UNSOUND), "the audit of refusals")
    return f"{len(UNSOUND)} kinds change nothing"


def other_paths(house):
    """A file that `paths` names no more is told once, and goes on where it was when it is named again."""
    scene = Scene(house)
    scene.write(100)
    scene.arrived()
    scene.edit("../logs/pods/*/*/*.log", "../logs/other/*.log")
    scene.reload()
    scene.agent.wait_event("unnamed")
    need("1 file once read that `paths` does not name" in scene.agent.text(), scene.agent.tail())
    scene.write(100)
    scene.edit("../logs/other/*.log", "../logs/pods/*/*/*.log")
    scene.reload()
    scene.arrived()
    need(count_events(scene.agent, "unnamed") == 1 and not scene.agent.has_event("gap"), scene.agent.tail())
    scene.end()
    return "a file is left for a time, and nothing of it is lost or comes twice"


def two_in_a_row(house):
    scene = Scene(house)
    scene.write(100)
    scene.edit("host: node-1", "host: node-2")
    scene.agent.process.send_signal(signal.SIGHUP)
    scene.edit("host: node-2", "host: node-3")
    for _ in range(3):
        scene.agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: os.path.exists(scene.admin()) and is_host(scene, "node-3"), 30, scene.agent.tail)
    scene.write(100)
    time.sleep(1)  # there may be another reload
    wait_until(lambda: len(scene.agent.children()) == 1, 30, "two mains are left")
    need(1 <= count_events(scene.agent, "reload") <= 3, scene.agent.tail())
    scene.end()
    return f"{count_events(scene.agent, 'reload')} reloads for 4 signals, the newest file counts"


def is_host(scene, host):
    with contextlib.suppress(OSError):
        return status_of(scene.admin())["host"] == host
    return False


def dies_or_hangs(house):
    """A pipe where a file of rules should be, whose other end nobody opens: the next main waits for it."""
    scene = Scene(house)
    os.mkfifo(house.path("agent/pipe.yaml"))
    scene.edit("filters: []", "filters: [redact: {rules: [pipe.yaml]}]")
    pid = scene.agent.pid

    def begin():
        scene.agent.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(scene.agent.children()) == 2, 15, "no next main")
        time.sleep(0.2)
        scene.write(10)

    begin()
    os.kill(next(child for child in scene.agent.children() if child != pid), signal.SIGKILL)
    wait_refused(scene.agent, 1, "died of signal 9")
    begun = time.monotonic()
    begin()
    os.kill(next(child for child in scene.agent.children() if child != pid), signal.SIGSTOP)  # nor would it end by itself
    wait_refused(scene.agent, 2, "was not loaded within 30000 ms", LOADING_S + 10)
    need(time.monotonic() - begun > LOADING_S - 5, "too early")
    need(scene.agent.children() == [pid], "it is still there")
    begin()
    need(scene.agent.stop() == 0, "a stop waits for what loads")

    def begin_first():
        scene.agent = house.start("agent", wait=None)
        wait_until(scene.agent.children, 15, "no main")  # before that a signal ends the parent as any program
        time.sleep(0.2)

    begin_first()
    need(scene.agent.stop() == 0, "a stop of a first start that hangs")
    begin_first()
    pid = scene.agent.pid
    scene.agent.process.kill()
    scene.agent.process.wait()
    wait_until(lambda: not is_alive(pid), 15, "one that loads outlives its parent")
    scene.edit("filters: [redact: {rules: [pipe.yaml]}]", "filters: []")
    scene.agent = house.start("agent")
    scene.end()
    return "it is killed, in time, and the old one works on"


def not_to_be_had(house):
    """What shows only once the old main has left: the agent ends as at a start, and the next one loses nothing."""
    scene = Scene(house)
    scene.write(100)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        listens = f"['unix:{scene.admin()}'"
        scene.edit(listens, f"{listens}, '127.0.0.1:{other.getsockname()[1]}'")
        scene.agent.process.send_signal(signal.SIGHUP)
        need(scene.agent.process.wait(60 * PATIENCE) == 3, scene.agent.tail())
        need("address already in use; another program has it" in scene.agent.text(), scene.agent.tail())
        need(count_events(scene.agent, "reload") == 1, "it took over, and the audit says so")
        scene.write(100)
    scene.agent = house.start("agent")
    scene.end()
    return "a port of others ends it with 3"


def refused_by_the_machine(house):
    """The next main has no descriptor for its opener; the pipe where its configuration should be is there to find it in time."""
    scene = Scene(house)
    config, real, main_pid = house.path("agent/agent.yaml"), house.path("agent/real.yaml"), scene.agent.pid
    os.rename(config, real)
    os.mkfifo(config)
    scene.agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(scene.agent.children()) == 2, 15, "no next main")
    next_main = next(child for child in scene.agent.children() if child != main_pid)
    resource.prlimit(next_main, resource.RLIMIT_NOFILE, (4, 4))
    with open(config, "wb") as pipe, open(real, "rb") as file:
        pipe.write(file.read())
    wait_refused(scene.agent, 1, 'msg="this machine refuses it; the old configuration goes on"')
    line = next(line for line in scene.agent.text().splitlines() if " event=reload-refused " in line)
    need("the process that opens logs cannot start: too many open files" in line, line)
    need(scene.agent.pid == main_pid, "another main")
    os.rename(real, config)
    scene.write(10)
    scene.reload()
    scene.end()
    return "an opener that cannot start is told, and changes nothing"


def warnings(house):
    """What a start prints, a reload logs."""
    scene = Scene(house)
    scene.edit("keep_free: 0", "keep_free: 0, sync: never")
    scene.reload()
    line = next(line for line in scene.agent.text().splitlines() if " event=reload-warning " in line)
    need("level=warn" in line and "sync" in line and " warning=1/" in line and "agent.yaml:" in line, line)
    scene.end()
    return "of the new configuration are in the log"


def collector_down(house):
    scene = Scene(house, agent=PATIENT)
    scene.write(100)
    scene.arrived()
    need(scene.collector.stop() == 0, scene.collector.tail())
    scene.write(2000)
    time.sleep(0.5)
    begun = time.monotonic()
    scene.reload()
    need(time.monotonic() - begun < 8 * PATIENCE, "it waited for acknowledgements that cannot come")
    scene.write(2000)
    scene.reload()
    scene.collector = house.start("collector")
    scene.end()
    return "what waits in the spool arrives once"


def new_certificates(house):
    scene = Scene(house)
    scene.write(10)
    scene.arrived()
    house.run("pki", "agent", house.path("pki"), "node-2")
    for kind in ("pem", "key"):
        shutil.move(house.path("pki", f"node-2.{kind}"), house.path("pki", f"node-1.{kind}"))
    scene.reload()
    scene.write(10)
    scene.arrived()
    identities = {record.get("identity") for record in house.records()}
    need(identities == {"spiffe://demo/node/node-1", "spiffe://demo/node/node-2"}, f"{identities}")
    scene.end()
    return "the next main proves another identity"


def ends(house):
    """The parent ends with main, and main with the parent."""
    scene = Scene(house, agent=PATIENT)
    main, parent = scene.agent.pid, scene.agent.process
    scene.write(10)
    scene.arrived()
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_alive(main), 30, "main outlives its parent")
    need(scene.agent.has_event("stopped"), scene.agent.tail())
    scene.agent = house.start("agent")
    scene.write(10)
    os.kill(scene.agent.pid, signal.SIGKILL)
    need(scene.agent.process.wait(30 * PATIENCE) == -signal.SIGKILL and scene.agent.has_event("main-died"), scene.agent.tail())
    scene.agent = house.start("agent")
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):  # as a terminal would, to both
        os.kill(scene.agent.pid, number)
    scene.write(10)
    scene.arrived()
    os.kill(scene.agent.pid, signal.SIGTERM)  # as a manager would that sends it to all of a service
    need(scene.agent.stop() == 0, scene.agent.tail())
    need(scene.collector.stop() == 0, scene.collector.tail())
    scene.agent = house.start("agent")
    scene.write(10)
    time.sleep(0.5)
    scene.agent.process.send_signal(signal.SIGINT)
    scene.agent.wait_event("stop")
    scene.agent.process.send_signal(signal.SIGINT)  # at once, though what was written has no acknowledgement
    need(scene.agent.process.wait(5 * PATIENCE) == 128 + signal.SIGINT, scene.agent.tail())
    scene.collector, scene.agent = house.start("collector"), house.start("agent")
    scene.end()
    return "neither stays without the other"


def first_process(house):
    """As a container's: no signal has an effect of its own, and others leave it their children."""
    if os.geteuid() != 0:
        return "skipped: not root"
    house.configure_agent(outputs="  - file: {path: records.ndjson}\n")
    script = '(sleep 0.2 &) ; exec "$0" run -c "$1"'
    agent = Program(["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", script, house.binary, house.path("agent/agent.yaml")],
                    house.path("agent/agent.log"))
    house.programs.append(agent)
    agent.wait_event("ready")
    parent = agent.children()[0]

    wait_until(lambda: len(children_of(parent)) == 1, 15, lambda: f"what sleeps is not taken in: {children_of(parent)}")
    before = children_of(parent)
    os.kill(parent, signal.SIGHUP)
    agent.wait_event("reload")
    wait_until(lambda: len(children_of(parent)) == 1 and children_of(parent) != before, 15, agent.tail)
    os.kill(parent, signal.SIGTERM)
    need(agent.process.wait(30 * PATIENCE) == 0, agent.tail())
    agent = Program(["unshare", "--pid", "--fork", "--kill-child", house.binary, "run", "-c", house.path("agent/agent.yaml")],
                    house.path("agent/agent.log"))
    agent.wait_event("ready")
    parent = agent.children()[0]
    os.kill(children_of(parent)[0], signal.SIGKILL)
    need(agent.process.wait(30 * PATIENCE) == 128 + signal.SIGKILL, f"{agent.process.returncode}\n{agent.tail()}")
    return "signals, children of others, and a code for a main that died"


CHECKS = (reload_under_load, wider_roots, other_paths, unsound, two_in_a_row, dies_or_hangs, not_to_be_had, refused_by_the_machine, warnings, collector_down, new_certificates, ends, first_process)


def main():
    wanted = sys.argv[2:]
    for check in CHECKS:
        if not wanted or check.__name__ in wanted:
            with House(sys.argv[1]) as house:
                begun = time.monotonic()
                print(f"ok    {check.__name__}: {check(house)} ({time.monotonic() - begun:.1f} s)", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"FAIL  {failure}")
