#!/usr/bin/python3
"""test_multiline.py TAFFRAIL [TRACES [KILLS]] - traces arrive whole and once, whatever happens to the agent.

Each of a few files, docker and CRI, gets numbered traces, a line at a time with pauses, on one stream,
and ordinary lines on both; the agent is ended by SIGKILL meanwhile, KILLS times. In the end the
collector's file has each trace as one record and each ordinary line as another, exactly once, in order.
Then a trace is begun, seen as held in the books, and the agent stopped: the next one reads the
beginning again, and joins the rest. The seed is printed, TAFFRAIL_SEED repeats it.
"""

import os
import random
import signal
import sys
import threading
import time

from harness import CriFile, DockerFile, Failed, House, check_books, need, read_books, wait_until

FILES = 3
MAX_DELAY_S = 8  # longer than any pause of a writer or a start of the agent, also on a busy machine


def trace(number):
    """The lines of a trace."""
    return ([f"java.lang.IllegalStateException: trace {number}"]
            + [f"\tat com.example.Job{number}.step{frame}(Job.java:{frame})" for frame in range(number % 7)]
            + [f"Caused by: java.io.IOException: cause of {number}", "\t... 12 more"])


class Writer(threading.Thread):
    def __init__(self, file, traces, seconds, seed):
        super().__init__(daemon=True)
        self.file = file
        self.traces = traces
        self.random = random.Random(seed)
        self.pause_s = seconds / sum(len(trace(number)) for number in range(traces))
        self.wanted = {"stdout": [], "stderr": []}  # records, in their order

    def ordinary(self, stream, number):
        text = f"{stream} line {len(self.wanted[stream])} after trace {number}"
        self.file.write([text], stream)
        self.wanted[stream].append(text)

    def run(self):
        for number in range(self.traces):
            for line in trace(number):
                self.file.write([line], "stderr")
                if self.random.random() < 0.4:
                    self.ordinary("stdout", number)
                time.sleep(self.random.uniform(0, 2 * self.pause_s))
            self.wanted["stderr"].append("\n".join(trace(number)))
            if number % 3 == 0:
                self.ordinary("stderr", number)
        self.ordinary("stderr", self.traces)


def pod_name(number):
    return f"pod-{number}"


def make_files(house):
    return [(DockerFile if number % 2 else CriFile)(house, "shop", pod_name(number),
                                                    f"{number:08x}-2222-4222-8222-{number:012x}")
            for number in range(FILES)]


def check(house, writers):
    """What the collector has of each stream is what was written, joined."""
    found = {}
    for record in house.records():
        found.setdefault((record["kubernetes"]["pod_name"], record["stream"]), []).append(record["log"])
    for number, writer in enumerate(writers):
        for stream, wanted in writer.wanted.items():
            texts = found.pop((pod_name(number), stream), [])
            for at, (text, right) in enumerate(zip(texts, wanted)):
                need(text == right, f"{pod_name(number)} {stream}, record {at}:\n{text}\nand not\n{right}")
            need(len(texts) == len(wanted),
                 f"{pod_name(number)} {stream}: {len(texts)} records of {len(wanted)}")
    need(not found, f"records of nobody: {list(found)}")


def kill_while_writing(house, writers, kills, chance):
    agent = house.start("agent")
    for writer in writers:
        writer.start()
    for _ in range(kills):
        time.sleep(chance.uniform(0.1, 0.9))
        agent.kill()
        agent = house.start("agent", wait=None)
    for writer in writers:
        writer.join()
    return agent


def wait_held(agent, count):
    """Until the books say so."""
    def asked():
        agent.process.send_signal(signal.SIGUSR1)
        time.sleep(0.05)
        return read_books(agent).get("", {}).get("held") == count

    wait_until(asked, 10, lambda: f"not {count} lines held: {read_books(agent)}\n{agent.tail()}")


def stop_in_the_middle(house, agent, writer):
    """A stop in order, too, leaves a trace that is not whole to the next start."""
    lines = trace(5)
    writer.file.write(lines[:3], "stderr")
    wait_held(agent, 3)
    need(agent.stop() == 0, agent.tail())
    check_books(agent)
    agent = house.start("agent")
    wait_held(agent, 3)
    writer.file.write(lines[3:], "stderr")
    writer.wanted["stderr"].append("\n".join(lines))
    writer.ordinary("stderr", 5)
    return agent


def main(binary, traces="60", kills="8"):
    seed = int(os.environ.get("TAFFRAIL_SEED", random.SystemRandom().getrandbits(32)))
    print(f"seed {seed}, {traces} traces in each of {FILES} files, {kills} kills", flush=True)
    began = time.monotonic()
    chance = random.Random(seed)
    with House(binary) as house:
        house.make_pki()
        house.configure_collector()
        house.configure_agent(filters=f"[multiline: {{presets: [java, python, go], max_delay: {MAX_DELAY_S}s}}]")
        collector = house.start("collector")
        writers = [Writer(file, int(traces), int(kills) * 0.7, chance.random()) for file in make_files(house)]
        agent = kill_while_writing(house, writers, int(kills), chance)
        agent.wait_event("ready")
        agent = stop_in_the_middle(house, agent, writers[0])
        wanted = sum(len(texts) for writer in writers for texts in writer.wanted.values())
        wait_until(lambda: len(house.records()) >= wanted, 30,
                   lambda: f"{len(house.records())} of {wanted} records\n{agent.tail()}")
        for program in (agent, collector):
            need(program.stop() == 0, program.tail())
            check_books(program)
        check(house, writers)
    print(f"{wanted} records, each once and whole, {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
