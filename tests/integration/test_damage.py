#!/usr/bin/python3
"""test_damage.py TAFFRAIL [STEP] - a spool that was cut or has rotted, at every STEP-th byte (1).

An agent takes lines and is killed before any output had them. Then, on a copy each time: the newest
segment is cut at each of these bytes of its last frame; each is flipped; and bytes of a frame before it. The agent must start, say what it found, and deliver: all lines once in the
first two cases (the file still has them), all but those of the rotten frame, with a gap that tells
their number, in the third.
"""

import concurrent.futures
import json
import os
import shutil
import sys

from harness import CriFile, Failed, House, Program, need, wait_until
from test_witness import read_frames

WORKERS = 2
LINES = 6


def line_frames(spool):
    """(offset, size) of each frame with a line; an output that is down gives the agent a record of its own."""
    return [(frame["at"], frame["after"] - frame["at"]) for _, frame in read_frames(spool)
            if frame["type"] == "data" and frame["tag"] == "container"]


def newest_segment(spool):
    return os.path.join(spool, max(name for name in os.listdir(spool) if name.endswith(".seg")))


def prepare(house):
    """A killed agent's spool with one frame for each of LINES lines, the last one at its end, none delivered."""
    spool = house.path("agent/spool")
    file = CriFile(house, "shop", "pay-0", "11111111")
    house.configure_agent(spool=", sync: always")
    agent = house.start("agent")
    for number in range(LINES):
        file.write([f"line {number}"])
        wait_until(lambda count=number: len(line_frames(spool)) > count, 10, lambda: "no frame for a line\n" + agent.tail())
    agent.kill()
    before, last = line_frames(spool)[-2:]
    os.truncate(newest_segment(spool), sum(last))
    return before, last


def try_one(house, name, damage, lost):
    """Copies the spool, damages its newest segment, starts; checks what is said and delivered."""
    folder = house.path("tries", name)
    os.makedirs(folder)
    shutil.copytree(house.path("agent/spool"), os.path.join(folder, "spool"))
    shutil.copy(house.path("agent/spool.key"), os.path.join(folder, "spool.key"))
    damage(newest_segment(os.path.join(folder, "spool")))
    out = os.path.join(folder, "out.ndjson")
    house.write(f"tries/{name}/{name}.yaml", """
agent: {host: node-1, log: {level: debug}}
inputs: [container: {paths: [../../logs/pods/*/*/*.log], link_roots: [../../logs/pods]}]
spool: {path: spool, keep_free: 0, sync: always}
outputs: [file: {path: out.ndjson}]
""")
    log = os.path.join(folder, "log")
    agent = start(house, name, log)
    records = []

    def delivered():
        nonlocal records
        if not os.path.exists(out):
            return False
        with open(out, encoding="utf-8") as file:
            records = [json.loads(line) for line in file if line.endswith("\n")]
        return sum(record["tag"] != "taffrail.audit" for record in records) >= LINES - lost
    wait_until(delivered, 10, lambda: f"{name}: {len(records)} records\n{agent.tail()}")
    need(agent.stop() == 0, f"{name}: {agent.tail()}")
    delivered()
    texts = sorted(record["log"] for record in records if record["tag"] != "taffrail.audit")
    wanted = [f"line {number}" for number in range(LINES) if not (lost and number == LINES - 2)]
    need(texts == wanted, f"{name}: {texts}")
    gaps = [record for record in records if record.get("event") == "gap"]
    need(len(gaps) == lost, f"{name}: {len(gaps)} gap records")
    need(not lost or gaps[0]["records"] in (0, lost), f"{name}: {gaps}")
    text = agent.text()
    need(lost or "torn_bytes=0" not in text, f"{name}: torn bytes are not told:\n{text}")
    shutil.rmtree(folder)


def start(house, name, log):
    program = Program([house.binary, "run", "-c", house.path("tries", name, f"{name}.yaml")], log)
    house.programs.append(program)
    return program


def cut_at(offset):
    def damage(path):
        os.truncate(path, offset)
    return damage


def flip_at(offset):
    def damage(path):
        with open(path, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 0xFF]))
    return damage


def main(binary, step="1"):
    step = int(step)
    with House(binary) as house:
        house.make_pki()
        before, last = prepare(house)
        cases = [(f"cut-{at}", cut_at(last[0] + at), 0) for at in range(1, last[1], step)]
        cases += [(f"flip-{at}", flip_at(last[0] + at), 0) for at in range(0, last[1], step)]
        cases += [(f"rot-{at}", flip_at(before[0] + at), 1) for at in range(0, before[1], 7 * step)]
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda case: try_one(house, *case), cases))
        print(f"{len(cases)} damaged spools: all started, said what they found, delivered what there was")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
