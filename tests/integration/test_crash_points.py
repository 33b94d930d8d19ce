#!/usr/bin/python3
"""test_crash_points.py TAFFRAIL [PAIRS] - the named crash points of docs/guarantees.md, end to end.

TAFFRAIL is a build with test hooks: TAFFRAIL_CRASH=NAME:N kills it at the N-th pass of NAME. Each point
is hit once alone, at either end where it exists, then in random pairs (one at each end). After each
crash both ends are started again; in the end each line is at the collector exactly once. The seed is
printed, TAFFRAIL_SEED repeats it.
"""

import os
import random
import sys
import time

from harness import (CriFile, DockerFile, Failed, House, PATIENCE, check_books, check_numbers, need, read_spool,
                     verify_spool, wait_until)

BOTH = ["frame.half", "frame.written", "sync.begun", "sync.done", "roll.old_synced", "roll.created", "roll.header",
        "roll.synced", "start.folded", "start.synced", "cursor.written", "cursor.synced"]
AGENT = ["ship.sent", "ack.received"]
COLLECTOR = ["recv.decoded", "recv.appended", "ack.sent", "file.half", "file.written", "file.synced"]
PASSES = {"start": 1, "roll": 2}  # one start passes them so often; else three
SEGMENT = ", segment_size: 1MiB, retain: {age: 1h, size: 10GiB}"


class Run:
    def __init__(self, house, chance):
        self.house, self.chance = house, chance
        self.files = [DockerFile(house, "shop", "cart", "1111"), CriFile(house, "shop", "pay", "2222")]
        self.lines = 0
        self.programs = {role: house.start(role) for role in ("collector", "agent")}

    def write(self, count, text_bytes):
        """Text that does not compress well, so that segments fill."""
        for _ in range(count):
            text = self.chance.randbytes(self.chance.randint(0, text_bytes // 2)).hex()
            self.chance.choice(self.files).write([f"line {self.lines} {text}"])
            self.lines += 1

    def crash(self, points):
        """points: {role: name}. Restarts each with its point armed, and feeds lines until it died. A collector
        may die of its start's own notice, time after time: then the agent waits up to 30 s for the next try."""
        for role, name in points.items():
            self.programs[role].kill()
            self.programs[role] = self.house.start(
                role, env={"TAFFRAIL_CRASH": f"{name}:{self.chance.randint(1, PASSES.get(name.split('.')[0], 3))}"}, wait=None)
        died = set()
        begun = time.monotonic()
        end = begun + 60 * PATIENCE
        while len(died) < len(points):
            need(time.monotonic() < end, f"never passed: {points}, died {died}")
            self.write(40 if time.monotonic() < begun + 15 else 1, 6000 if any(name.startswith("roll.") for name in points.values()) else 100)
            for role in points:
                if role not in died and self.programs[role].process.poll() is not None:
                    code = self.programs[role].process.returncode
                    need(code == -9, f"{role} {points[role]}: exit {code}\n{self.programs[role].tail()}")
                    died.add(role)
                    verify_spool(self.house.binary, self.house.path(role, "spool"))
                    self.programs[role] = self.house.start(role)
            time.sleep(0.02)

    def settle(self):
        wait_until(lambda: self.house.stored_lines() >= self.lines, 60,
                   lambda: f"{self.house.stored_lines()} of {self.lines} lines\n" +
                   "\n".join(program.tail() for program in self.programs.values()))
        for role in ("agent", "collector"):
            need(self.programs[role].stop() == 0, self.programs[role].tail())
            check_books(self.programs[role])
            check_numbers(read_spool(self.house.path(role, "spool")))
        numbers = sorted(int(record["log"].split()[1]) for record in self.house.records())
        need(numbers == list(range(self.lines)), f"{len(numbers)} of {self.lines} lines, "
             f"{len(numbers) - len(set(numbers))} doubled")


def main(binary, pairs="12"):
    seed = int(os.environ.get("TAFFRAIL_SEED", random.SystemRandom().getrandbits(32)))
    print(f"seed {seed}", flush=True)
    chance = random.Random(seed)
    with House(binary) as house:
        house.make_pki()
        house.configure_collector(spool=SEGMENT + ", sync: 20ms")
        house.configure_agent(spool=SEGMENT + ", sync: 20ms")
        run = Run(house, chance)
        for name in BOTH + AGENT:
            run.crash({"agent": name})
        for name in BOTH + COLLECTOR:
            run.crash({"collector": name})
        for _ in range(int(pairs)):
            run.crash({"agent": chance.choice(BOTH + AGENT), "collector": chance.choice(BOTH + COLLECTOR)})
        run.settle()
        print(f"{len(BOTH) * 2 + len(AGENT) + len(COLLECTOR)} points, {pairs} pairs: each of {run.lines} lines exactly once")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
