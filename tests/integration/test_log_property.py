#!/usr/bin/python3
"""test_log_property.py TAFFRAIL [SEQUENCES [SEED]] - random lives of logs, and a model of what must arrive.

Each of SEQUENCES (200) is the life of one log: lines written one by one, in crowds, in pieces and in halves;
rotated, compressed, copied and cut, cut without a copy, cut in the middle, deleted, deleted and made
anew. 20 logs live at once, docker's, CRI and plain ones, while the one agent is killed, stopped and
started, in the middle of a copy and between copy and cut too. After each life each line must be at
the collector once. The model knows the exceptions:

    a file that was deleted, or cut without a copy   what had not arrived by then may be missing. When the
                                                     agent had a position behind what was cut away, or in
                                                     what was deleted (known by a line that had arrived), a
                                                     gap record of that log must tell
    one that was cut in the middle                   what is before the cut may be there twice, when a gap
                                                     record tells that it is read anew
    one that was copied and cut, then compressed or  what is in the copy, if that is compressed too and lacks
    deleted, while no agent ran                      lines that were read; a gap record tells that the file is gone

Then the books add up, frame numbers rise, and another start adds nothing. A failure prints the seed,
what was done to the log in its order, and the difference; SEED repeats the choices, not the timing.
TAFFRAIL_WITHOUT=compress,cut leaves these steps out, to see which of them matters.
"""

import os
import random
import sys
import time

from harness import (CriFile, DockerFile, Failed, House, PlainFile, Stored, check_books, check_numbers, gzip_by_docker,
                     gzip_by_kubelet, need, read_spool, wait_until)

LOGS = 20
STEPS = 30
KEPT = 6
SETTLE_S = 20
WITHOUT = os.environ.get("TAFFRAIL_WITHOUT", "").split(",")
INPUTS = """  - container:
      name: pods
      paths: [../logs/pods/*/*/*.log]
      link_roots: [../logs/pods, ../logs/docker/containers]
      rescan: 100ms
  - container: {name: plain, paths: [../logs/plain/pods/*/*/*.log], format: plain, rescan: 100ms}
"""


class Content:
    """Lines that stand in one file, wherever its name goes: rotation moves a content, a copy takes it along."""

    def __init__(self, path):
        self.path = path
        self.ends = []  # (number, offset behind it)
        self.size = 0
        self.proof = 0  # the least number whose arrival proves that the agent has a position in it
        self.is_short = False  # a copy that lacks lines of its file
        self.followed_since = None  # the agent's start, when a line written since then has arrived: it has the file open

    def add(self, number, size):
        self.size += size
        self.ends.append((number, self.size))

    def numbers(self):
        return [number for number, _ in self.ends]


class Loss:
    """Lines that may be missing since `when`; with a gap to be told, or not."""

    def __init__(self, what, when, numbers, must_tell):
        self.what, self.when, self.numbers, self.must_tell = what, when, set(numbers), must_tell


class Life:
    """One log, its files, and the model of them."""

    def __init__(self, world, number, chance):
        self.world, self.chance = world, chance
        kind = (CriFile, DockerFile, PlainFile)[number % 3]
        self.name = f"{kind.__name__[:-4].lower()}-{number}"
        self.file = kind(world.house, "shop", self.name, f"{number:08x}-3333-4333-8333-{number:012x}")
        self.path = self.file.path
        self.by_number = chance.random() < 0.5
        self.now = Content(self.path)
        self.siblings = []  # oldest first
        self.deleted = []   # with the agent's descriptor open on them
        self.losses = []
        self.may_double = []  # (when, numbers)
        self.count = 0
        self.rotations = 0
        self.half = b""
        self.told = []

    def tell(self, text):
        self.told.append(f"{self.world.clock():6.2f} {text}")

    # ---- writing

    def text(self, size):
        number = self.count
        self.count += 1
        return number, f"{self.name} line {number} " + (f"{number} " * (size // 2))[:size]  # nowhere alike

    def put_lines(self, count, size):
        data = b""
        for _ in range(count):
            number, text = self.text(size)
            line = self.file.line(text, self.chance.choice(["stdout", "stderr"]))
            self.now.add(number, len(line))
            data += line
        self.file.put(data)

    def write_one(self):
        self.put_lines(1, self.chance.randint(0, 200))
        self.tell("one line")

    def write_many(self):
        count = self.chance.randint(2, 60)
        self.put_lines(count, self.chance.randint(0, 300))
        self.tell(f"{count} lines, to {self.count}")

    def write_long(self):
        size = self.chance.randint(17000, 60000)
        self.put_lines(1, size)
        self.tell(f"a line of {size} bytes")

    def write_half(self):
        number, text = self.text(self.chance.randint(20, 400))
        line = self.file.line(text)
        cut = self.chance.randint(1, len(line) - 1)
        self.now.add(number, len(line))
        self.file.put(line[:cut])
        self.half = line[cut:]
        self.tell(f"{cut} of {len(line)} bytes of line {number}")

    def finish_half(self):
        if self.half:
            self.file.put(self.half)
            self.half = b""
            self.tell("the rest of the line")

    # ---- files

    def reopen(self):
        self.file.file.close()
        self.file.file = open(self.path, "ab", buffering=0)

    def next_sibling(self):
        """The path that the newest sibling gets; those with numbers make room."""
        self.rotations += 1
        if not self.by_number:
            return f"{self.path}.20260101-{self.rotations:06}"
        for at, content in enumerate(self.siblings):  # the oldest has the highest number
            ending = ".gz" if content.path.endswith(".gz") else ""
            new = f"{self.path}.{len(self.siblings) - at + 1}{ending}"
            os.rename(content.path, new)
            content.path = new
        return f"{self.path}.1"

    def rotate(self):
        path = self.next_sibling()
        os.rename(self.path, path)
        self.finish_half()  # the writer has the old file until it is told
        if self.chance.random() < 0.5:
            self.put_lines(self.chance.randint(1, 3), 20)
        self.now.path = path
        self.siblings.append(self.now)
        self.now = Content(self.path)
        self.reopen()
        self.tell(f"renamed to {os.path.basename(path)}, lines to {self.count}")
        self.remove_oldest()

    def copytruncate(self):
        """Not behind a cut that the agent has not noticed yet: a copy of another content holds nothing that it knows."""
        self.finish_half()
        if not self.now.ends or self.now.proof and not self.is_proved(self.now):
            return
        path = self.next_sibling()
        with open(self.path, "rb") as source, open(path, "wb", buffering=0) as target:
            data = source.read()
            half = self.chance.randint(0, len(data))
            target.write(data[:half])
            self.world.meddle(self.chance)
            target.write(data[half:])
        copied = self.now
        kept, size = len(copied.ends), copied.size
        if self.chance.random() < 0.4:
            self.put_lines(self.chance.randint(1, 30), 20)  # between copy and cut
        self.world.meddle(self.chance)
        os.truncate(self.path, 0)
        lost = [number for number, _ in copied.ends[kept:] if not self.world.has(self.name, number)]
        if lost:
            self.losses.append(Loss("written between copy and cut", time.time(), lost, False))
        copied.is_short = len(copied.ends) > kept
        copied.ends, copied.size, copied.path = copied.ends[:kept], size, path
        copied.followed_since = None
        self.siblings.append(copied)
        self.now = Content(self.path)
        self.tell(f"copied to {os.path.basename(path)} and cut, lines to {self.count}, between copy and cut {lost}")
        self.remove_oldest()

    def is_proved(self, content):
        return any(number >= content.proof and self.world.has(self.name, number) for number in content.numbers())

    def lose(self, what, content, numbers):
        """numbers may be missing from now on; when one that is a proof had arrived, a gap must tell what is missing of them."""
        self.world.look()
        missing = [number for number in numbers if not self.world.has(self.name, number)]
        if missing:
            must_tell = any(number >= content.proof for number in set(numbers) - set(missing))
            self.losses.append(Loss(what, time.time(), missing, must_tell))

    def cut(self):
        """To nothing, by its owner."""
        self.finish_half()
        if not self.now.ends:
            return
        self.lose("cut", self.now, self.now.numbers())
        os.truncate(self.path, 0)
        self.tell(f"cut, lines to {self.count}")
        self.now = Content(self.path)

    def cut_in_the_middle(self):
        self.finish_half()
        if len(self.now.ends) < 4:
            return
        at = self.chance.randint(1, len(self.now.ends) - 2)
        kept, gone = self.now.ends[:at], [number for number, _ in self.now.ends[at:]]
        self.lose("cut in the middle", self.now, gone)
        self.may_double.append((time.time(), {number for number, _ in kept}))
        os.truncate(self.path, kept[-1][1])
        last, self.now.size = kept[-1]
        self.now.ends = kept
        self.now.proof = self.count  # the agent may go back to its start
        self.put_lines(self.chance.randint(1, 5), 50)  # at once, as after a power loss
        self.tell(f"cut behind line {last}, then lines to {self.count}")

    def forget(self, content):
        """content was deleted. Only when this agent has it open, all of it must arrive."""
        if self.world.is_up and content.followed_since == self.world.starts:
            self.deleted.append(content)
        else:
            self.lose("deleted", content, content.numbers())

    def note_followed(self):
        """Called now and then: which files the agent has open."""
        for content in [self.now] + self.siblings:
            if self.world.is_up and not content.path.endswith(".gz") and any(
                    self.world.has(self.name, number) and number >= self.world.first_since_start[self.name]
                    for number in content.numbers()[-200:]):
                content.followed_since = self.world.starts

    def agent_ends(self):
        for content in self.deleted:
            self.lose("deleted, and the agent ended", content, content.numbers())
        self.deleted = []

    def delete_and_go_on(self):
        self.note_followed()
        os.unlink(self.path)
        self.finish_half()
        self.put_lines(self.chance.randint(0, 5), 50)  # into the deleted file
        self.forget(self.now)
        self.now = Content(self.path)
        self.reopen()
        self.tell(f"deleted and made anew, lines to {self.count}")

    def delete_sibling(self):
        if self.siblings:
            self.note_followed()
            content = self.siblings.pop(0)
            os.unlink(content.path)
            self.forget(content)
            self.tell(f"deleted {os.path.basename(content.path)}")

    def remove_oldest(self):
        while len(self.siblings) > KEPT:
            self.delete_sibling()

    def compress(self):
        whole = [content for content in self.siblings if not content.path.endswith(".gz")]
        if whole:
            content = self.chance.choice(whole)
            way = self.chance.choice([gzip_by_kubelet, gzip_by_docker])
            way(content.path)
            self.tell(f"{way.__name__} of {os.path.basename(content.path)}")
            if content.is_short:
                self.may_double.append((time.time(), set(content.numbers())))
            content.path += ".gz"
            content.followed_since = None

    def rest(self):
        self.tell("rests")

    def step(self):
        if self.half and self.chance.random() < 0.7:
            return self.finish_half()
        ways = {self.write_one: 5, self.write_many: 6, self.write_long: 1, self.write_half: 2, self.rotate: 3,
                self.copytruncate: 1.5, self.cut: 0.3, self.cut_in_the_middle: 0.3, self.delete_and_go_on: 0.4,
                self.delete_sibling: 0.5, self.compress: 2, self.rest: 4}
        ways = {way: weight for way, weight in ways.items()
                if way.__name__ not in WITHOUT and not (self.half and way.__name__.startswith("write"))}
        return self.chance.choices(list(ways), list(ways.values()))[0]()

    # ---- judging

    def maybe_lost(self):
        return set().union(*(loss.numbers for loss in self.losses))

    def missing(self):
        return [number for number in range(self.count) if not self.world.has(self.name, number)]

    def gap_since(self, when):
        return any(gap_time(gap) >= when - 0.001 for gap in self.world.stored.gaps_of(self.name))

    def untold(self):
        """Losses that a gap should tell, and none does."""
        missing = set(self.missing())
        return [loss for loss in self.losses if loss.must_tell and loss.numbers & missing and not self.gap_since(loss.when)]

    def wrong(self):
        """What differs from the model, as text; "" when nothing does."""
        counts = self.world.stored.counts
        lost = sorted(set(self.missing()) - self.maybe_lost())
        allowed = set().union(*(numbers for when, numbers in self.may_double if self.gap_since(when)))
        doubled = [number for number in range(self.count) if counts.get((self.name, number), 0) > 1 and number not in allowed]
        parts = [f"lost {len(lost)}: {lost[:20]}"] * bool(lost)
        if doubled:
            again = self.world.stored.again[self.name, doubled[0]] - self.world.began
            parts.append(f"doubled {len(doubled)}: {doubled[:20]}, seen again at {again:.2f}")
        strange = [record["log"][:60] for record in self.world.stored.others if record["kubernetes"]["pod_name"] == self.name]
        # What is read on after a cut, which a gap told, may begin between the pieces of a line.
        parts += [f"nobody wrote {strange[:3]}"] * (strange != [] and not self.gap_since(0))
        parts += [f"{loss.what}: no gap tells that {sorted(loss.numbers & set(self.missing()))[:10]} are lost" for loss in self.untold()]
        return "; ".join(parts)


def gap_time(gap):
    """The gap's time, in seconds of the system's clock."""
    text = gap["time"]
    whole = time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")
    return (time.mktime(whole) - time.timezone) + float("0." + text[20:29])


class World:
    """A house with LOGS lives in it."""

    def __init__(self, house, first, chance):
        self.house, self.chance = house, chance
        self.began = time.monotonic()
        self.stored = Stored(house)
        self.starts = 0
        self.is_up = False
        self.agent = None
        self.events = []
        self.lives = []
        self.first_since_start = {}
        for number in range(first, first + LOGS):
            self.lives.append(Life(self, number, random.Random(chance.random())))
        self.start()

    def clock(self):
        return time.monotonic() - self.began

    def look(self):
        self.stored.look()

    def has(self, name, number):
        return self.stored.has(name, number)

    def tell(self, text):
        self.events.append(f"{self.clock():6.2f} agent {text}")

    def start(self):
        self.agent = self.house.start("agent", wait=None)
        self.starts += 1
        self.is_up = True
        self.first_since_start = {life.name: life.count for life in self.lives}
        self.tell("started")

    def end(self, how):
        if how == "kill":
            self.agent.kill()
        else:
            self.agent.wait_event("ready")  # before that a signal ends it without a word
            need(self.agent.stop() == 0, self.agent.tail())
            check_books(self.agent)
        self.is_up = False
        self.tell("killed" if how == "kill" else "stopped")
        for life in self.lives:
            life.agent_ends()

    def meddle(self, chance):
        """In the middle of something: the agent gets time, or is killed, or started."""
        if chance.random() < 0.2:
            time.sleep(chance.uniform(0, 0.06))
            self.look()
        if chance.random() < 0.1:
            if self.is_up:
                self.end("kill")
            else:
                self.start()

    def live(self):
        for _ in range(STEPS):
            for life in self.lives:
                life.step()
            dice = self.chance.random()
            if self.is_up and dice < 0.2:
                self.end("kill" if dice < 0.14 else "stop")
                if dice < 0.05:
                    self.start()
            elif not self.is_up and dice < 0.5:
                self.start()
            time.sleep(self.chance.choice([0, 0.01, 0.05, 0.1, 0.25]))
            self.look()
            for life in self.lives:
                life.note_followed()

    def settle(self):
        """Until all is there that must be; the rest is judged."""
        for life in self.lives:
            life.finish_half()
        if not self.is_up:
            self.start()

        def is_whole():
            self.look()
            return all(set(life.missing()) <= life.maybe_lost() and not life.untold() for life in self.lives)

        try:
            wait_until(is_whole, SETTLE_S, "")
        except Failed:
            pass  # judge() says what is wrong
        time.sleep(0.5)
        self.end("stop")
        self.start()
        self.agent.wait_event("ready")
        time.sleep(0.5)
        self.end("stop")
        self.look()

    def judge(self):
        """Once the collector has stopped, so that a gap has come with what it tells of."""
        self.look()
        failures = []
        for life in self.lives:
            wrong = life.wrong()
            if wrong:
                log = sorted(life.told + self.events, key=lambda line: float(line.split()[0]))
                gaps = [f"{gap['time']} {gap['reason']} {gap['log']}" for gap in self.stored.gaps_of(life.name)]
                failures.append("\n    ".join([f"{life.name}: {wrong}"] + log + [f"gap: {gap}" for gap in gaps]))
        check_numbers(read_spool(self.house.path("agent/spool")))
        return failures


def run_round(binary, first, chance):
    with House(binary) as house:
        house.make_pki()
        house.configure_collector(spool=", sync: 20ms")
        house.configure_agent(spool=", sync: 20ms, retain: {age: 1h, size: 10GiB}", inputs=INPUTS)
        collector = house.start("collector")
        world = World(house, first, chance)
        world.live()
        world.settle()
        need(collector.stop() == 0, collector.tail())
        check_books(collector)
        failures = world.judge()
        need(not failures, f"{len(failures)} of {LOGS} logs:\n" + "\n".join(failures))
        return (sum(life.count for life in world.lives), sum(len(life.missing()) for life in world.lives),
                world.starts, len(world.stored.gaps))


def main(binary, sequences="200", seed=""):
    seed = int(seed or os.environ.get("TAFFRAIL_SEED", random.SystemRandom().getrandbits(32)))
    print(f"seed {seed}, {sequences} sequences", flush=True)
    began = time.monotonic()
    chance = random.Random(seed)
    totals = [0, 0, 0, 0]
    for first in range(0, int(sequences), LOGS):
        totals = [total + one for total, one in zip(totals, run_round(binary, first, chance))]
    print(f"{sequences} sequences, {totals[2]} starts: {totals[0]} lines, each once but {totals[1]} that were deleted or cut unread, "
          f"{totals[3]} gaps, {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
