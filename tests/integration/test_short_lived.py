#!/usr/bin/python3
"""test_short_lived.py TAFFRAIL [SECONDS] - logs of containers that live for 50 ms.

For SECONDS (20), 200 times a second: the folders of a pod and its container are made and a log with
some lines; others follow, the last one 50 ms later, and then all is deleted at once. Each line is at
the collector once, none is told to be lost, and the agent holds nothing of them in the end.
"""

import collections
import contextlib
import os
import sys
import time

from harness import CriFile, Failed, House, Stored, check_books, need, wait_until

PER_SECOND = 200
LIFE_S = 0.05
LINES = 5  # two at once, two half way, one just before the end


class Container:
    def __init__(self, house, number, now):
        self.name = f"job{number}"
        self.file = CriFile(house, "batch", self.name, f"{number:08x}-2222-4222-8222-{number:012x}")
        self.written = 0
        self.steps = collections.deque([(now + LIFE_S / 2, 2), (now + LIFE_S, 1)])
        self.write(2)

    def write(self, count):
        self.file.write([f"{self.name} line {self.written + i} done" for i in range(count)])
        self.written += count

    def step(self, now):
        """Writes what is due; true while it lives."""
        while self.steps and self.steps[0][0] <= now:
            self.write(self.steps.popleft()[1])
        if not self.steps:
            self.file.close()
            os.unlink(self.file.path)
            os.rmdir(self.file.folder)
            os.rmdir(os.path.dirname(self.file.folder))
        return bool(self.steps)


def live_and_die(house, seconds):
    """Returns how many lived."""
    began = time.monotonic()
    alive, count = [], 0
    while count < seconds * PER_SECOND or alive:
        now = time.monotonic()
        while count < min((now - began) * PER_SECOND, seconds * PER_SECOND):
            alive.append(Container(house, count, now))
            count += 1
        alive = [container for container in alive if container.step(now)]
        time.sleep(0.001)
    return count


def open_logs(pid):
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it is closed by now
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return [path for path in found if "/logs/pods/batch_" in path]


def ranges(names):
    """job3 to job5 and job9 as 3-5, 9; not more than ten of these."""
    numbers = sorted(int(name[3:]) for name in names)
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    return ", ".join(f"{start}-{end}" if end > start else str(start) for start, end in list(zip(starts, ends))[:10])


def main(binary, seconds="20"):
    with House(binary) as house:
        house.make_pki()
        house.configure_collector()
        house.configure_agent()
        collector, agent = house.start("collector"), house.start("agent")
        began = time.monotonic()
        count = live_and_die(house, float(seconds))
        took_s = time.monotonic() - began
        stored, lines = Stored(house), {f"job{number}": LINES for number in range(count)}
        try:
            wait_until(lambda: not stored.look().missing(lines), 15, "")
        except Failed:
            missing = stored.missing(lines)
            names = {name for name, _ in missing}
            raise Failed(f"lost {len(missing)} of {count * LINES} lines, of {len(names)} of {count} containers, "
                         f"of {len(names - set(stored.order))} all: {ranges(names)}\n{agent.tail()}") from None
        wait_until(lambda: not open_logs(agent.pid), 25, lambda: f"still open: {open_logs(agent.pid)[:3]}")
        need(agent.stop() == 0, agent.tail())
        check_books(agent)
        need(collector.stop() == 0, collector.tail())
        need(not stored.look().doubled(), f"doubled: {stored.doubled()[:5]}")
        need(not stored.gaps, f"gaps where nothing was lost: {stored.gaps[:2]}")
        print(f"{count} containers of {LIFE_S * 1000:.0f} ms in {took_s:.1f} s: each of {count * LINES} lines exactly once")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
