#!/usr/bin/python3
"""test_rotation.py TAFFRAIL [MODE…] - logs that are rotated as the kubelet, docker and logrotate do it, under load.

One thread goes on writing numbered lines to all logs while each is rotated again and again: renamed,
compressed, copied and cut, its oldest files deleted. That is done with the agent up, up with its
default `rescan`, down, and killed at random instants. In the end each line is at the collector once.
Only of a log that was copied and cut the lines written between copy and cut may be missing: which
these were is known from the copies. Needs the program logrotate. The seed is printed; TAFFRAIL_SEED
repeats it. What was rotated while no agent ran arrives in the order of writing.
"""

import glob
import gzip
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
import zlib

from harness import (CriFile, DockerFile, Failed, House, PATIENCE, PlainFile, Stored, check_books, gzip_by_docker,
                     gzip_by_kubelet, need, wait_until)

KEPT = 5
LOGROTATE_PATH = shutil.which("logrotate", path=os.environ["PATH"] + ":/usr/sbin")
LOGROTATE = {
    "create": "create 0644",
    "nocreate": "nocreate",
    "compress": "create 0644\ncompress",
    "delaycompress": "create 0644\ncompress\ndelaycompress",
    "dateext": "create 0644\ndateext\ndateformat -%Y%m%d-%s",
    "size": "create 0644\nsize 2k",
    "copy": "copytruncate",
    "copy-compress": "copytruncate\ncompress",
    "copy-delayed": "copytruncate\ncompress\ndelaycompress",
}
INPUTS = """  - container:
      name: pods
      paths: [../logs/pods/*/*/*.log]
      link_roots: [../logs/pods, ../logs/docker/containers]{rescan}
  - container: {{name: docker, paths: [../logs/direct/containers/*/*-json.log]{rescan_too}}}
  - container: {{name: plain, paths: [../logs/plain/pods/*/*/*.log], format: plain{rescan_too}}}
"""


class DirectDockerFile(DockerFile):
    """A container's log without Kubernetes."""

    ROOT = "logs/direct/containers"
    IS_LINKED = False


class Log:
    """Numbered lines in one log. The writer's thread calls write(), the main thread all else."""

    def __init__(self, house, name, kind):
        self.house, self.name = house, name
        self.file = kind(house, "shop", name, f"{zlib.crc32(name.encode()):08x}")
        self.path = self.file.path
        self.lock = threading.Lock()
        self.count = 0
        self.rotations = 0
        self.maybe_lost = set()

    def write(self, count, chance):
        with self.lock:
            texts = [f"{self.name} line {number} " + f"{number} " * int(2 ** chance.uniform(0, 6))
                     for number in range(self.count, self.count + count)]
            if chance.random() < 0.01:
                texts[0] += f"{self.count} " * 10000  # in pieces
            self.count += count
            self.file.write(texts)

    def reopen(self):
        """What a runtime does when it is told that its file was renamed."""
        self.file.file.close()
        self.file.file = open(self.path, "ab", buffering=0)


class Kubelet(Log):
    """0.log -> 0.log.TIME; at the next rotation the older ones are compressed; KEPT in all."""

    kept = KEPT

    def siblings(self):
        return sorted(glob.glob(f"{glob.escape(self.path)}.*"))

    def rotate(self):
        for path in self.siblings():
            if not path.endswith(".gz"):
                gzip_by_kubelet(path)
        for path in self.siblings()[:-(self.kept - 1)]:
            os.unlink(path)
        hours, seconds = divmod(self.rotations, 3600)
        os.rename(self.path, f"{self.path}.20260101-{10 + hours:02}{seconds // 60:02}{seconds % 60:02}")
        self.rotations += 1
        time.sleep(0.003)  # the runtime writes to the old file until it is told
        with self.lock:
            self.reopen()


class Burst(Kubelet):
    """Rotated several times between two looks of the agent."""

    kept = 30

    def rotate(self):
        for _ in range(3):
            self.write(2, random)
            super().rotate()


class Docker(Log):
    """X-json.log -> .1 -> .2 …, KEPT in all."""

    ending = ""

    def rotate(self):
        with self.lock:
            for number in range(KEPT, 0, -1):
                path = f"{self.path}.{number}{self.ending}"
                if os.path.exists(path) and number == KEPT:
                    os.unlink(path)
                elif os.path.exists(path):
                    os.rename(path, f"{self.path}.{number + 1}{self.ending}")
            os.rename(self.path, f"{self.path}.1")
            self.reopen()
        self.rotations += 1


class DockerCompress(Docker):
    """The same with `compress`: .1 becomes .1.gz at once."""

    ending = ".gz"

    def rotate(self):
        super().rotate()
        gzip_by_docker(f"{self.path}.1")


class Logrotate(Log):
    """The real one, with the options of LOGROTATE. The writer is told to reopen by a file, as daemons are by a signal."""

    def __init__(self, house, name, kind):
        super().__init__(house, name, kind)
        self.options = LOGROTATE[name]
        self.told = house.path(f"{name}.reopen")
        self.next_s = 0
        self.config = house.write(f"{name}.logrotate", f"""
"{self.path}" {{
{self.options}
rotate {KEPT}
postrotate
    touch {self.told}
    for i in $(seq 2000); do test -e {self.told} || exit 0; sleep 0.01; done
    exit 1
endscript
}}
""")

    def write(self, count, chance):
        if os.path.exists(self.told):
            with self.lock:
                if "copytruncate" not in self.options:
                    self.reopen()
                os.unlink(self.told)
        super().write(count, chance)

    def rotate(self):
        if "dateext" in self.options and time.time() < self.next_s:
            return  # the names would be the same
        if "copytruncate" in self.options:  # of nothing there is no copy
            wait_until(lambda: os.path.getsize(self.path) > 0, 10, f"{self.name}: nothing is written")
        before = self.copied() if "copytruncate" in self.options else set()
        force = [] if "size" in self.options else ["-f"]
        done = subprocess.run([LOGROTATE_PATH, *force, "-s", f"{self.config}.state", self.config],
                              capture_output=True, timeout=30 * PATIENCE, check=False)
        need(done.returncode == 0, f"logrotate of {self.name}: {done.stderr.decode()}")
        self.next_s = time.time() + 1.1
        self.rotations += 1
        if "copytruncate" in self.options:
            self.note_cut(before)

    def copied(self):
        """The numbers in the newest copy, or none."""
        for path, opener in ((f"{self.path}.1", open), (f"{self.path}.1.gz", gzip.open)):
            if os.path.exists(path):
                with opener(path, "rb") as file:
                    return self.numbers(file.read())
        return set()

    def numbers(self, data):
        return {int(number) for number in re.findall(rb"^%s line (\d+) " % self.name.encode(), data, re.M)}

    def note_cut(self, before):
        """What is in neither the copy nor the file stood only between copy and cut."""
        copied = self.copied()
        need(copied and copied != before, f"{self.name} was not copied")
        with self.lock, open(self.path, "rb") as file:
            here = self.numbers(file.read())
            first = max(before, default=-1) + 1
            self.maybe_lost |= set(range(first, self.count)) - copied - here


def make_logs(house):
    logs = [Kubelet(house, "kubelet", CriFile), Burst(house, "burst", CriFile),
            Docker(house, "docker", DirectDockerFile), DockerCompress(house, "docker-gz", DirectDockerFile),
            Docker(house, "linked", DockerFile), DockerCompress(house, "linked-gz", DockerFile)]
    return logs + [Logrotate(house, name, PlainFile) for name in LOGROTATE]


class Writer(threading.Thread):
    def __init__(self, logs, chance):
        super().__init__(daemon=True)
        self.logs, self.chance = logs, chance
        self.is_done = False

    def run(self):
        while not self.is_done:
            for log in self.logs:
                log.write(self.chance.randint(1, 4), self.chance)
            time.sleep(0.01)

    def stop(self):
        self.is_done = True
        self.join(20 * PATIENCE)
        need(not self.is_alive(), "the writer hangs")


class Killer(threading.Thread):
    """Kills the agent at random instants and starts it again. Each second time it comes to reading before: else, on a
    machine that is busy, the oldest files are deleted before anything could have read them."""

    def __init__(self, house, chance):
        super().__init__(daemon=True)
        self.house, self.chance = house, chance
        self.agent = house.start("agent")
        self.kills = 0
        self.is_done = False

    def run(self):
        while not self.is_done:
            if self.kills % 2 == 0:
                self.agent.wait_event("ready")
            time.sleep(self.chance.uniform(0.05, 0.6))
            self.agent.kill()
            self.kills += 1
            time.sleep(self.chance.choice([0, 0, 0.1]))
            self.agent = self.house.start("agent", wait=None)


def rotate(logs, cycles, pause_s):
    for _ in range(cycles):
        for log in logs:
            log.rotate()
        time.sleep(pause_s)


def with_agent_up(house, logs, _):
    agent = house.start("agent")
    rotate(logs, 9, 0.2)
    return agent


def with_agent_down(house, logs, _):
    agent = house.start("agent")
    stored = Stored(house)
    wait_until(lambda: len(stored.look().order) == len(logs), 20, lambda: f"only lines of {list(stored.order)}\n{agent.tail()}")
    rotate(logs, 1, 0.1)
    agent.kill()
    time.sleep(0.2)  # all have lines that no agent saw
    rotate(logs, 4, 0.1)
    return house.start("agent")


def with_agent_killed(house, logs, chance):
    killer = Killer(house, chance)
    killer.start()
    try:
        rotate(logs, 9, 0.3)
    finally:
        killer.is_done = True
        killer.join()
    need(killer.kills > 4, f"only {killer.kills} kills: this proves nothing")
    return killer.agent


def check(house, logs, agent, mode):
    """Waits for all lines, and for none that should not come; returns what was cut away unread."""
    stored = Stored(house)

    def missing():
        stored.look()
        return [(log.name, number) for log in logs for number in range(log.count)
                if not stored.has(log.name, number) and number not in log.maybe_lost]

    try:
        wait_until(lambda: not missing(), 20, "")
    except Failed:
        lost = missing()
        names = {name: [number for log, number in lost if log == name] for name, _ in lost}
        raise Failed(f"{mode}: lost {len(lost)}: " + ", ".join(
            f"{name} {len(numbers)} of {next(log.count for log in logs if log.name == name)} ({numbers[0]}…{numbers[-1]})"
            for name, numbers in names.items()) + f"\n{agent.tail()}") from None
    time.sleep(0.5)
    need(agent.stop() == 0, agent.tail())
    check_books(agent)
    doubled = stored.look().doubled()
    need(not doubled, f"{mode}: doubled {len(doubled)}: {doubled[:5]}, of {sorted({name for name, _ in doubled})}\n{agent.tail()}")
    need(not stored.others, f"{mode}: nobody wrote {stored.others[:1]}")
    cut = [(log.name, number) for log in logs for number in log.maybe_lost if not stored.has(log.name, number)]
    told = [(gap["reason"], gap.get("kubernetes", {}).get("pod_name")) for gap in stored.gaps]
    told = [gap for gap in told if gap[1] not in {name for name, _ in cut}]
    need(not told or mode == "killed", f"{mode}: gaps where nothing was lost: {told}\n{agent.tail()}")
    if mode == "down":
        mixed = [f"{log.name} ({before} before {after})" for log in logs if not isinstance(log, Burst)
                 for before, after in zip(stored.order[log.name], stored.order[log.name][1:]) if before > after]
        need(not mixed, f"{mode}: siblings were not read oldest first, of {mixed}")
    return len(cut)


def run_mode(binary, mode, seed):
    began = time.monotonic()
    chance = random.Random(seed)
    is_default = mode == "default"
    with House(binary) as house:
        house.make_pki()
        house.configure_collector(spool=", sync: 20ms")
        house.configure_agent(spool=", sync: 20ms", inputs=INPUTS.format(
            rescan="" if is_default else "\n      rescan: 200ms", rescan_too="" if is_default else ", rescan: 200ms"))
        collector = house.start("collector")
        logs = make_logs(house)
        writer = Writer(logs, chance)
        writer.start()
        try:
            agent = {"up": with_agent_up, "default": with_agent_up, "down": with_agent_down,
                     "killed": with_agent_killed}[mode](house, logs, chance)
        finally:
            writer.stop()
        cut = check(house, logs, agent, mode)
        need(collector.stop() == 0, collector.tail())
        check_books(collector)
        print(f"ok    {mode}: {sum(log.count for log in logs)} lines, {sum(log.rotations for log in logs)} rotations of {len(logs)} "
              f"logs, {cut} lines cut before they were copied, {time.monotonic() - began:.1f} s", flush=True)
        return sum(log.count for log in logs)


def main(binary, *modes):
    need(LOGROTATE_PATH, "logrotate is not installed: ./dev setup")
    seed = int(os.environ.get("TAFFRAIL_SEED", random.SystemRandom().getrandbits(32)))
    print(f"seed {seed}", flush=True)
    lines = sum(run_mode(binary, mode, seed) for mode in modes or ("up", "default", "down", "killed"))
    print(f"each of {lines} lines of rotated logs exactly once")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
