#!/usr/bin/python3
"""test_faults.py TAFFRAIL SHIM - disks that fail for a while, under the agent's spool and the collector's.

While lines are written and shipped, the calls of one fault fail with one error at one end, for a
while; or the spool's folder is moved away and comes back. The agent goes on or waits, says what is
wrong, and when the cause ends it recovers by itself: each line is at the collector exactly once, and
the books add up. A stop that comes while the disk is full loses nothing either.
"""

import errno
import os
import sys
import time

from harness import (CriFile, Failed, House, check_books, check_numbers, need, read_spool, wait_until)

SPOOL = ", segment_size: 1MiB, sync: 20ms, retain: {age: 1h, size: 1GiB}"
FULL = (errno.ENOSPC, "create pwrite fallocate")
ALLOCATE = (errno.ENOSPC, "fallocate")
BROKEN = (errno.EIO, "pwrite fdatasync fsync")
SYNCS = (errno.EIO, "fdatasync")
READ_ONLY = (errno.EROFS, "create pwrite fallocate ftruncate unlinkat fdatasync fsync")
READS = (errno.EIO, "pread")
QUOTA = (errno.EDQUOT, "fallocate pwrite")
FAULT_S = 1.5
SAID = {FULL: "spool-full", BROKEN: "disk-error"}


class Disk:
    def __init__(self, house, role, shim):
        self.switch = house.path(role, "spool", "fault")  # the agent reads nowhere else (docs/sandbox.md)
        self.env = {"LD_PRELOAD": os.path.abspath(shim), "TAFFRAIL_FAULT_SWITCH": self.switch,
                    "TAFFRAIL_FAULT_ROOT": house.path(role, "spool")}

    def fail(self, fault):
        with open(f"{self.switch}.new", "w", encoding="utf-8") as file:
            file.write(f"{fault[0]} {fault[1]} ")
        os.rename(f"{self.switch}.new", self.switch)

    def heal(self):
        os.unlink(self.switch)


class Run:
    def __init__(self, house, shim):
        self.house = house
        self.file = CriFile(house, "shop", "pay", "2222")
        self.lines = 0
        self.disks = {role: Disk(house, role, shim) for role in ("collector", "agent")}
        self.programs = {}
        for role in ("collector", "agent"):
            self.start(role)

    def start(self, role):
        self.programs[role] = self.house.start(role, env=self.disks[role].env)

    def write_for(self, seconds):
        """Text that compresses to the half at most, some MiB a second, so that segments fill."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.file.write([f"line {self.lines + i} {os.urandom(8000).hex()}" for i in range(16)])
            self.lines += 16
            time.sleep(0.05)

    def settle(self, what):
        wait_until(lambda: self.house.stored_lines() >= self.lines, 60, lambda: (
            f"{what}: {self.house.stored_lines()} of {self.lines} lines\n" +
            "\n".join(program.tail() for program in self.programs.values())))

    def fault(self, role, fault):
        program = self.programs[role]
        self.write_for(0.3)
        self.disks[role].fail(fault)
        self.write_for(FAULT_S)
        if fault in SAID:
            wait_until(lambda: self.write_for(0.1) or program.has_event(SAID[fault]), 15,
                       lambda: f"{role}: no {SAID[fault]}\n{program.text()}")
        need(program.process.poll() is None, f"{role} ended: {program.tail()}")
        self.disks[role].heal()
        self.write_for(0.3)
        self.settle(f"{role} {errno.errorcode[fault[0]]} {fault[1]}")

    def stop_while_failing(self, role, fault):
        self.disks[role].fail(fault)
        self.write_for(0.5)
        need(self.programs[role].stop(40) == 0, self.programs[role].tail())
        self.disks[role].heal()
        self.start(role)
        self.settle(f"{role} stopped while {fault[1]} failed")

    def start_while_failing(self, role, fault):
        need(self.programs[role].stop(40) == 0, self.programs[role].tail())
        self.disks[role].fail(fault)
        program = self.programs[role] = self.house.start(role, env=self.disks[role].env, wait=None)
        wait_until(lambda: "cannot read a part of it" in program.text(), 15, program.text)
        self.disks[role].heal()
        program.wait_event("ready")
        self.write_for(0.3)
        self.settle(f"{role} started while {fault[1]} failed")

    def move_away(self, role):
        spool = self.house.path(role, "spool")
        self.write_for(0.3)
        os.rename(spool, f"{spool}.away")
        self.write_for(FAULT_S)
        os.rename(f"{spool}.away", spool)
        self.settle(f"{role}'s spool was away")

    def end(self):
        for role in ("agent", "collector"):
            need(self.programs[role].stop() == 0, self.programs[role].tail())
            check_books(self.programs[role])
            check_numbers(read_spool(self.house.path(role, "spool")))
        numbers = sorted(int(record["log"].split()[1]) for record in self.house.records())
        need(numbers == list(range(self.lines)), f"{len(numbers)} of {self.lines} lines, "
             f"{len(numbers) - len(set(numbers))} doubled")


def main(binary, shim):
    with House(binary) as house:
        house.make_pki()
        house.configure_collector(spool=SPOOL)
        house.configure_agent(spool=SPOOL, agent="host: node-1, stop_timeout: 2s")
        run = Run(house, shim)
        for fault in (FULL, ALLOCATE, BROKEN, SYNCS, READ_ONLY, QUOTA, READS):
            run.fault("agent", fault)
        for fault in (FULL, BROKEN, READ_ONLY, READS):
            run.fault("collector", fault)
        for role in ("agent", "collector"):
            run.stop_while_failing(role, FULL)
            run.move_away(role)
        run.start_while_failing("agent", READS)
        run.end()
        print(f"16 faults: each of {run.lines} lines exactly once")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
