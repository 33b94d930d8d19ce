#!/usr/bin/python3
"""test_fairness.py TAFFRAIL [MEGABYTES_A_SECOND] - a log that shouts does not delay one that whispers.

A log grows by MEGABYTES_A_SECOND (100) for 5 s, another by a line each 100 ms: each of these lines is read within
1 s (a plain line's `time` is that of reading). Delivery is another matter: a spool is a queue, so when more
is read than agent and collector can carry, all that comes later waits. At a tenth of that rate, which
they can carry, each quiet line stands in the collector's file 1 s after it was written. Then `max_rate`:
a log that is larger than its rate is read no faster than that, the rest waits in its file, `lag` says
how much, the quiet log is not delayed, and all arrives.
"""

import datetime
import json
import os
import signal
import sys
import threading
import time

from harness import Failed, House, PATIENCE, PlainFile, check_books, need, wait_until

LOUD_S = 5
LATE_MAX_S = 1.0
PAUSE_S = 0.1
RATE_BYTES = 2 << 20
RATED_BYTES = 8 << 20
QUIET, LOUD = b'"log":"quiet line ', b'"log":"loud GET '
INPUTS = """  - container: {{name: plain, paths: [../logs/plain/pods/*/*/*.log], format: plain{rate}}}
"""


class Quiet(threading.Thread):
    """Writes a line each PAUSE_S, and watches the collector's file for it."""

    def __init__(self, house):
        super().__init__(daemon=True)
        self.file = PlainFile(house, "shop", "quiet", "11111111")
        self.path = house.records_path
        self.written, self.read, self.stored = {}, {}, {}  # when, by number
        self.loud_lines = 0
        self.is_done = False

    def run(self):
        next_s = time.time()
        offset, rest = 0, b""
        while not self.is_done or len(self.stored) < len(self.written):
            if time.time() >= next_s and not self.is_done:
                self.written[len(self.written)] = time.time()
                self.file.write([f"quiet line {len(self.written) - 1} x"])
                next_s += PAUSE_S
            data = b""
            if os.path.exists(self.path):
                with open(self.path, "rb") as file:
                    file.seek(offset)
                    data = file.read(4 << 20)
            offset += len(data)
            rest += data
            cut = rest.rfind(b"\n") + 1
            self.take(rest[:cut])
            rest = rest[cut:]
            time.sleep(0 if data else 0.005)

    def take(self, lines):
        self.loud_lines += lines.count(LOUD)
        at = lines.find(QUIET)
        while at >= 0:
            record = json.loads(lines[lines.rfind(b"\n", 0, at) + 1:lines.find(b"\n", at)])
            number = int(record["log"].split(" ")[2])
            self.stored[number] = time.time()
            whole, fraction = record["time"].rstrip("Z").split(".")
            self.read[number] = datetime.datetime.fromisoformat(whole + "+00:00").timestamp() + float("0." + fraction)
            at = lines.find(QUIET, at + 1)

    def stop(self, agent):
        """Waits until every line has come."""
        self.is_done = True
        self.join(30 * PATIENCE)
        need(not self.is_alive(), f"quiet lines are lost: {len(self.stored)} of {len(self.written)}\n{agent.tail()}")
        need(sorted(self.stored) == list(range(len(self.written))), "lines that nobody wrote")

    def delays_s(self, when):
        return sorted(when[number] - written for number, written in self.written.items())


def block_of_lines(size_bytes):
    """Lines of about 200 bytes, not all alike."""
    lines = [f"loud GET /api/v1/orders/{number} HTTP/1.1 200 {number * 7 % 4096} took={number % 97}ms " + "abcdefgh " * 15
             for number in range(size_bytes // 190)]
    return ("\n".join(lines) + "\n").encode(), len(lines)


def shown(delays_s):
    return f"{delays_s[len(delays_s) // 2] * 1000:.0f} ms in the middle, {delays_s[-1] * 1000:.0f} ms at most"


def shout(house, agent, quiet, megabytes_a_second):
    """Big blocks in time; what the machine cannot write is not caught up."""
    file = PlainFile(house, "shop", "loud", "22222222")
    block, lines = block_of_lines(1 << 20)
    began, blocks = time.monotonic(), 0
    while time.monotonic() - began < LOUD_S:
        file.put(block)
        blocks += 1
        time.sleep(max(0, began + blocks * len(block) / (megabytes_a_second * 1e6) - time.monotonic()))
    written_s = time.monotonic() - began
    wait_until(lambda: quiet.loud_lines >= blocks * lines, 120,
               lambda: f"{quiet.loud_lines} of {blocks * lines} lines are stored\n{agent.tail()}")
    need(quiet.loud_lines == blocks * lines, f"{quiet.loud_lines} of {blocks * lines} lines are stored")
    return f"{blocks * len(block) / 1e6 / written_s:.0f} MB/s written, all of {blocks * len(block) / 1e6:.0f} MB stored after {time.monotonic() - began:.1f} s"


def lag(agent):
    """What SIGUSR1 says of the input `plain`, as {word: value}."""
    before = agent.text().count("event=lag")
    agent.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: agent.text().count("event=lag") > before, 5, lambda: f"SIGUSR1 tells no lag\n{agent.tail()}")
    wait_until(lambda: agent.text().endswith("\n"), 1, "half a line")
    lines = [line for line in agent.text().splitlines() if " event=lag " in line and "input=plain sources=" in line]
    need(lines, f"no lag of the input plain\n{agent.tail()}")
    return dict(word.split("=", 1) for word in lines[-1].split(" ") if "=" in word)


def rated(house, agent, quiet):
    file = PlainFile(house, "shop", "rated", "33333333")
    block, lines = block_of_lines(RATED_BYTES)
    began = time.monotonic()
    file.put(block)
    time.sleep(RATED_BYTES / RATE_BYTES / 2)
    told = lag(agent)
    unread = int(told["lag_bytes"])
    need(RATED_BYTES / 8 < unread < RATED_BYTES * 3 / 4, f"half way {unread} of {RATED_BYTES} bytes are unread: {told}")
    wait_until(lambda: quiet.loud_lines >= lines, 30, lambda: f"{quiet.loud_lines} of {lines} lines\n{agent.tail()}")
    took_s = time.monotonic() - began
    exact_s = RATED_BYTES / RATE_BYTES
    need(exact_s - 1.2 < took_s < exact_s + 2, f"{RATED_BYTES >> 20} MiB at {RATE_BYTES >> 20} MiB/s took {took_s:.1f} s")
    told = lag(agent)
    need(int(told["lag_bytes"]) == 0, f"all is read, and {told} is told")
    return f"{RATED_BYTES >> 20} MiB at {RATE_BYTES >> 20} MiB/s took {took_s:.1f} s, {unread} bytes told unread half way"


def play(binary, what, rate, scenario, is_carried=True):
    """is_carried: agent and collector can carry it all as fast as it comes."""
    with House(binary) as house:
        house.make_pki()
        house.configure_collector()
        house.configure_agent(spool=", max_size: 4GiB", inputs=INPUTS.format(rate=rate))
        os.makedirs(house.path("logs/plain/pods"))
        collector, agent = house.start("collector"), house.start("agent")
        quiet = Quiet(house)
        quiet.start()
        more = scenario(house, agent, quiet)
        quiet.stop(agent)
        for program in (agent, collector):
            need(program.stop() == 0, program.tail())
            check_books(program)
        read_s, stored_s = quiet.delays_s(quiet.read), quiet.delays_s(quiet.stored)
        text = f"{what}: {len(read_s)} quiet lines, read after {shown(read_s)}, at the collector after {shown(stored_s)}; {more}"
        need(read_s[-1] < LATE_MAX_S, f"read too late: {text}")
        need(not is_carried or stored_s[-1] < LATE_MAX_S, f"at the collector too late: {text}")
        print(f"ok    {text}", flush=True)


def main(binary, megabytes_a_second="100"):
    rate = float(megabytes_a_second)
    play(binary, f"a log of {rate:.0f} MB/s", "", lambda *known: shout(*known, rate), is_carried=False)
    play(binary, f"a log of {rate / 10:.0f} MB/s", "", lambda *known: shout(*known, rate / 10))
    play(binary, "max_rate", ", max_rate: 2MiB/s", rated)
    print("a quiet log is not delayed by a loud one")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
