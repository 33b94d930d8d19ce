#!/usr/bin/python3
"""test_power_loss.py TAFFRAIL SHIM [ROUNDS [LINES]] - a kill, and then a power loss, at either end.

Agent and collector write through the shim, which records every write and sync below their folders.
In each round one of them is killed at a random instant. Often it then loses power as well: its folder
is made anew from what was synced, plus any subset of what was not, whole, absent or cut at 512 bytes,
names included. It may also have run for a while between the kill and the loss. The lines' files and the
other end stay. In the end each line is in the collector's file exactly once, and the seals of both spools
have numbers without hole or repeat, with the state one past them. The seed is printed;
TAFFRAIL_SEED repeats it.
"""

import os
import random
import struct
import sys
import time

from harness import Failed, House, check_numbers, need, read_spool, verify_spool, wait_until
from test_exactly_once import Writer, check, settle

HEAD = struct.Struct("<cQQI")
SECTOR = 512


class Disk:
    """A folder, what of it is safe, and what was done since."""

    def __init__(self, folder, record):
        self.folder, self.record = folder, record
        self.settle()

    def settle(self):
        """All that is there now counts as safe."""
        self.safe = {}
        for top, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(top, name)
                with open(path, "rb") as file:
                    self.safe[path] = file.read()
        if os.path.exists(self.record):
            os.remove(self.record)

    def entries(self):
        """What the shim recorded; a sync's end names how many entries it covered."""
        found, begun = [], {}
        data = open(self.record, "rb").read() if os.path.exists(self.record) else b""
        at = 0
        while at + HEAD.size <= len(data):
            op, offset, size, path_bytes = HEAD.unpack_from(data, at)
            path_at = at + HEAD.size
            at = path_at + path_bytes + (size if op == b"W" else 0)
            if at > len(data):
                break
            path = data[path_at:path_at + path_bytes].decode().removesuffix(" (deleted)")
            if op == b"B":
                begun[offset] = len(found)
            found.append((op, path, begun.get(offset, 0) if op == b"E" else offset, size,
                          data[path_at + path_bytes:at] if op == b"W" else b""))
        return found

    def lose_power(self, chance):
        entries = self.entries()
        covered, named = {}, {}
        for op, path, first, _, _ in entries:
            if op == b"E" and os.path.isdir(path):
                named[path] = max(named.get(path, 0), first)
            elif op == b"E":
                covered[path] = max(covered.get(path, 0), first)
        files = {path: bytearray(data) for path, data in self.safe.items()}
        keep = chance.choice([0.0, 0.5, 0.9, 1.0])
        for number, (op, path, offset, size, data) in enumerate(entries):
            is_name = op in (b"C", b"U")
            is_safe = number < (named if is_name else covered).get(os.path.dirname(path) if is_name else path, 0)
            if op in (b"B", b"E") or not (is_safe or chance.random() < keep):
                continue
            self.apply(files, op, path, offset, size, data if is_safe else self.torn(data, chance))
        self.write(files)
        self.settle()

    @staticmethod
    def torn(data, chance):
        if len(data) > SECTOR and chance.random() < 0.3:
            return data[:chance.randrange(1, len(data) // SECTOR + 1) * SECTOR]
        return data

    @staticmethod
    def apply(files, op, path, offset, size, data):
        if op == b"U":
            files.pop(path, None)
        elif op == b"C":
            files.setdefault(path, bytearray())
        elif path not in files:
            return  # its name was lost
        elif op == b"T":
            files[path] = files[path][:size].ljust(size, b"\0")
        elif op == b"A":
            files[path] = files[path].ljust(offset + size, b"\0")
        else:
            files[path] = files[path].ljust(offset + len(data), b"\0")
            files[path][offset:offset + len(data)] = data

    def write(self, files):
        """In place: a file that survives keeps its inode."""
        for top, _, names in os.walk(self.folder):
            for name in names:
                if os.path.join(top, name) not in files:
                    os.remove(os.path.join(top, name))
        for path, data in files.items():
            with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
                file.truncate(0)
                file.write(data)


class End:
    """One of the two programs, with the folder that loses power."""

    def __init__(self, house, role, shim):
        self.house, self.role = house, role
        self.folder = house.path(role, "data")
        self.record = house.path(role, "record")
        self.env = {"LD_PRELOAD": shim, "TAFFRAIL_RECORD": self.record, "TAFFRAIL_RECORD_ROOT": self.folder}
        self.program = house.start(role)  # makes the spool; what the first start does is tested alone
        self.program.stop()
        self.seal_key = house.path(role, "seal.key")
        house.run("pki", "seal", "--out", self.seal_key, os.path.join(self.folder, "spool"))
        self.disk = Disk(self.folder, self.record)
        self.start()

    def start(self):
        self.program = self.house.start(self.role, env=self.env)

    def kill(self):
        self.program.kill()


def check_one_number_one_frame(known, events):
    """Invariant over all runs: no number ever stands for two frames (docs/guarantees.md A1, A4)."""
    frames = {}
    for event in events:
        frames.setdefault(event["frame"], []).append(event)
    for number, content in frames.items():
        need(known.setdefault(number, content) == content, f"frame {number} was another one before")


def rounds(house, shim, count, lines, chance):
    for role in ("collector", "agent"):
        os.makedirs(house.path(role, "data"))
    house.configure_collector(outputs="  - file: {path: data/records.ndjson}\n")
    house.configure_agent()
    for role in ("collector", "agent"):
        name = house.path(role, f"{role}.yaml")
        text = open(name, encoding="utf-8").read().replace(
            "path: spool,", "path: data/spool, retain: {age: 1h, size: 10GiB},")
        house.write(f"{role}/{role}.yaml", text)
    ends = [End(house, "collector", shim), End(house, "agent", shim)]
    writer = Writer(house, lines, count * 0.7, chance.random())
    writer.start()
    losses, known = 0, {end: {} for end in ends}
    for _ in range(count):
        end = chance.choice(ends)
        time.sleep(chance.uniform(0.05, 0.9))
        end.kill()
        if chance.random() < 0.4:  # a kill, some life, and then a power loss
            end.start()
            time.sleep(chance.uniform(0, 0.3))
            end.kill()
        if chance.random() < 0.75:
            end.disk.lose_power(chance)
            losses += 1
        before = read_spool(os.path.join(end.folder, "spool"))
        verify_spool(house.binary, os.path.join(end.folder, "spool"), end.seal_key)
        end.start()
        accepted = read_spool(os.path.join(end.folder, "spool"))
        check_one_number_one_frame(known[end], before)
        check_one_number_one_frame(known[end], accepted)
        need(accepted[:len(before)] == before, f"{end.role}: a start takes other frames than the page says")
    writer.join()
    wait_until(lambda: house.stored_lines() >= lines, 60,
               lambda: f"{house.stored_lines()} lines\n" + "\n".join(end.program.tail() for end in ends))
    settle(house, [ends[1].program, ends[0].program], lines, 60)
    for end in ends:
        check_numbers(read_spool(os.path.join(end.folder, "spool"), end.seal_key))
    print(f"{losses} power losses")


class PowerHouse(House):
    @property
    def records_path(self):
        return self.path("collector/data/records.ndjson")


def main(binary, shim, count="30", lines="20000"):
    seed = int(os.environ.get("TAFFRAIL_SEED", random.SystemRandom().getrandbits(32)))
    print(f"seed {seed}, {count} rounds, {lines} lines", flush=True)
    with PowerHouse(binary) as house:
        house.make_pki()
        rounds(house, os.path.abspath(shim), int(count), int(lines), random.Random(seed))
        check(house, int(lines))
    print(f"each of {lines} lines exactly once")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
