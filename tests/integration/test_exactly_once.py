#!/usr/bin/python3
"""test_exactly_once.py TAFFRAIL [kill|late|drop] [LINES [KILLS]] - promises 1 and 2, from file to collector.

Numbered lines over 20 rotated files, docker and CRI. In `kill` agent and collector are each ended by
SIGKILL at random instants, KILLS times; in `late` the collector is down for the first half; in `drop`
every connection dies after a random number of bytes. In the end the collector's file has each line
exactly once. The seed is printed, TAFFRAIL_SEED repeats it.
"""

import os
import random
import re
import select
import socket
import struct
import sys
import threading
import time

from harness import CriFile, DockerFile, Failed, House, PATIENCE, check_books, need, wait_until

FILES = 20
ROTATIONS = 4
LINE = re.compile(r"^file (\d+) line (\d+) ")


class Writer(threading.Thread):
    """Writes every file's lines in turn over about `seconds`, and rotates each ROTATIONS times."""

    def __init__(self, house, lines, seconds, seed):
        super().__init__(daemon=True)
        self.random = random.Random(seed)
        self.per_file = lines // FILES
        self.seconds = seconds
        uids = [f"{number:08x}-1111-4111-8111-{number:012x}" for number in range(1, FILES + 1)]
        self.files = [(DockerFile if number % 2 else CriFile)(house, "shop", f"pod-{number}", uid)
                      for number, uid in enumerate(uids)]

    def text(self, number, line):
        return f"file {number} line {line} " + "x" * self.random.randint(0, 200)

    def run(self):
        steps = 100
        for step in range(steps):
            began = time.monotonic()
            for number, file in enumerate(self.files):
                first, last = (self.per_file * at // steps for at in (step, step + 1))
                file.write([self.text(number, line) for line in range(first, last)],
                           self.random.choice(["stdout", "stderr"]))
                if step % (steps // (ROTATIONS + 1)) == (number + 1) % (steps // (ROTATIONS + 1)) and step > 10:
                    file.rotate()
            time.sleep(max(0, self.seconds / steps - (time.monotonic() - began)))


class Network(threading.Thread):
    """A proxy whose connections die, with FIN or RST, after a random number of bytes."""

    def __init__(self, to_port, seed):
        super().__init__(daemon=True)
        self.random = random.Random(seed)
        self.to_port = to_port
        self.is_broken = True
        self.cuts = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def run(self):
        while True:
            near, _ = self.listener.accept()
            threading.Thread(target=self.carry, args=(near,), daemon=True).start()

    def carry(self, near):
        budget = int(2 ** self.random.uniform(12, 18)) if self.is_broken else 1 << 62
        try:
            far = socket.create_connection(("127.0.0.1", self.to_port))
        except OSError:
            near.close()
            return
        ends = {near: far, far: near}
        try:
            while budget > 0:
                for end in select.select(list(ends), [], [])[0]:
                    data = end.recv(min(budget, 65536))
                    if not data:
                        return
                    ends[end].sendall(data)
                    budget -= len(data)
            self.cuts += 1
        except OSError:
            pass
        finally:
            if self.random.random() < 0.5:
                for end in ends:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            near.close()
            far.close()


def check(house, lines):
    """Each line once, none else, in order within a file."""
    seen = {}
    for record in house.records():
        match = LINE.match(record["log"])
        need(match, f"a record that nobody wrote: {record['log'][:80]!r}")
        need(record["kubernetes"]["pod_name"] == f"pod-{match[1]}", f"wrong pod: {record['kubernetes']}")
        key = int(match[1]), int(match[2])
        seen[key] = seen.get(key, 0) + 1
    wanted = {(number, line) for number in range(FILES) for line in range(lines // FILES)}
    lost = sorted(wanted - seen.keys())
    doubled = sorted(key for key, count in seen.items() if count > 1)
    need(not lost and not doubled, f"lost {len(lost)} {lost[:5]}, doubled {len(doubled)} {doubled[:5]}")


def settle(house, programs, lines, timeout_s):
    wait_until(lambda: house.stored_lines() >= lines, timeout_s,
               lambda: f"only {house.stored_lines()} lines stored\n" + "\n".join(p.tail() for p in programs))
    for program in programs:
        code = program.stop()
        need(code == 0, f"{program.log}: exit {code}\n{program.tail()}")
        check_books(program)


def kill_both(house, lines, kills, chance):
    house.configure_collector()
    house.configure_agent()
    programs = {"collector": house.start("collector"), "agent": house.start("agent")}
    writer = Writer(house, lines, kills * 0.9, chance.random())
    writer.start()
    plan = ["agent", "collector"] * kills
    chance.shuffle(plan)
    for role in plan:
        time.sleep(chance.uniform(0.02, 0.8))
        programs[role].kill()
        time.sleep(chance.choice([0, 0, 0.1]))
        programs[role] = house.start(role, wait=None)
    writer.join()
    settle(house, [programs["agent"], programs["collector"]], lines, 90)


def late_collector(house, lines, _, chance):
    house.configure_collector()
    house.configure_agent()
    agent = house.start("agent")
    writer = Writer(house, lines, 8, chance.random())
    writer.start()
    time.sleep(4)
    collector = house.start("collector")
    writer.join()
    settle(house, [agent, collector], lines, 90)


def dropping_network(house, lines, _, chance):
    network = Network(house.port, chance.random())
    network.start()
    house.configure_collector()
    house.configure_agent(port=network.port)
    collector, agent = house.start("collector"), house.start("agent")
    writer = Writer(house, lines, 15, chance.random())
    writer.start()
    writer.join()
    end = time.monotonic() + 20 * PATIENCE  # backoff grows while it is broken: then the rest must arrive
    while network.cuts < 10 and house.stored_lines() < lines and time.monotonic() < end:
        time.sleep(0.1)
    network.is_broken = False
    settle(house, [agent, collector], lines, 120)
    need(network.cuts >= 3, f"only {network.cuts} cuts: this proves nothing")
    print(f"{network.cuts} connections cut")


def main(binary, kind="kill", lines="200000", kills="20"):
    seed = int(os.environ.get("TAFFRAIL_SEED", random.SystemRandom().getrandbits(32)))
    print(f"{kind}: seed {seed}, {lines} lines", flush=True)
    began = time.monotonic()
    with House(binary) as house:
        house.make_pki()
        {"kill": kill_both, "late": late_collector, "drop": dropping_network}[kind](
            house, int(lines), int(kills), random.Random(seed))
        check(house, int(lines))
    print(f"{kind}: each of {lines} lines exactly once, {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
