#!/usr/bin/python3
"""test_retention.py TAFFRAIL - a spool's past, with a whole agent and collector.

drop     the collector is down, the spool is small: the oldest lines are dropped, and the collector is
         told exactly how many it will never see
rotate   a new key is put first; when the log says so, the old one's file is removed, and every line
         still arrives once
auditor  what is delivered and kept opens with the auditor's key only; an independent reader opens it
"""

import os
import re
import secrets
import subprocess
import sys

from harness import CriFile, Failed, House, check_books, need, wait_until

READER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "read_segment.py")
LINE_BYTES = 600  # of hex: two bytes of it compress to one


def write_lines(house, count):
    """Lines with their number in front; rotated names would be another test."""
    file = CriFile(house, "shop", "pay-0", "11111111")
    for begin in range(0, count, 1000):
        file.write([f"line {number} {secrets.token_hex(LINE_BYTES // 2)}"
                    for number in range(begin, min(count, begin + 1000))])
    file.close()


def line_numbers(house):
    return [int(record["log"].split(" ")[1]) for record in house.all_records() if record["log"].startswith("line ")]


def gap_records(house):
    """Records that gaps tell of, and how many gaps there are."""
    gaps = [record for record in house.all_records()
            if record["tag"] == "taffrail.audit" and record.get("event") == "gap"]
    need(all(gap["reason"] == "drop-oldest" for gap in gaps), f"reasons of {gaps}")
    return sum(gap["records"] for gap in gaps), len(gaps)


def oldest_segment(house):
    return min(int(name[:20]) for name in os.listdir(house.path("agent/spool")) if name.endswith(".seg"))


def drop(house):
    total = 30000
    house.configure_collector()
    house.configure_agent(spool=", max_size: 4MiB, on_full: drop_oldest")
    agent = house.start("agent")
    write_lines(house, total)
    wait_until(lambda: oldest_segment(house) > 4, 60, lambda: "nothing was dropped\n" + agent.tail())
    collector = house.start("collector")

    def told():
        return line_numbers(house)[-1:] == [total - 1]
    wait_until(told, 60, lambda: "the last line did not come\n" + agent.tail())
    agent.stop()
    collector.stop()
    numbers = line_numbers(house)
    lost, gaps = gap_records(house)
    need(numbers == sorted(set(numbers)), "a line came twice, or out of order")
    need(gaps > 0 and lost > 0, "no gap")
    need("drop_oldest made room; the output is told" in agent.text() and "damaged or gone" not in agent.text(),
         "the log says why they are gone: " + agent.tail())
    # Among what was dropped are the agent's own records: of its start, its sandbox, and of what was dropped before.
    own = int(re.search(r"event=books .* spooled=(\d+)", agent.text())[1]) - total
    need(total <= len(numbers) + lost <= total + own, f"{len(numbers)} lines and {lost} in gaps, of {total}")
    check_books(agent)
    print(f"drop: {len(numbers)} lines, {lost} records in {gaps} gaps")


def rotate(house):
    total = 6000
    house.run("pki", "spool", house.path("agent/old.key"))
    house.run("pki", "spool", house.path("agent/new.key"))
    house.configure_collector()
    house.configure_agent(spool=", segment_size: 1MiB, keys: [old.key]")
    agent = house.start("agent")
    write_lines(house, total)
    spool = house.path("agent/spool")
    wait_until(lambda: len([name for name in os.listdir(spool) if name.endswith(".seg")]) > 2, 30, agent.tail)
    agent.kill()
    house.configure_agent(spool=", segment_size: 1MiB, keys: [new.key, old.key]")
    agent = house.start("agent")
    wait_until(lambda: "no segment needs this key" in agent.text(), 30, agent.tail)
    agent.kill()
    os.unlink(house.path("agent/old.key"))
    house.configure_agent(spool=", segment_size: 1MiB, keys: [new.key]")
    agent = house.start("agent")
    collector = house.start("collector")
    wait_until(lambda: len(line_numbers(house)) >= total, 60, agent.tail)
    agent.stop()
    collector.stop()
    need(line_numbers(house) == list(range(total)), "lines are missing or doubled")
    check_books(agent)
    print(f"rotate: {total} lines")


def auditor(house):
    total = 6000
    key, public = house.path("auditor.key"), house.path("agent/auditor.pem")
    subprocess.run(["openssl", "genpkey", "-algorithm", "x25519", "-out", key], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    os.chmod(public, 0o644)
    house.configure_collector()
    house.configure_agent(spool=", segment_size: 1MiB, auditor: auditor.pem, retain: {age: 1h}")
    collector = house.start("collector")
    agent = house.start("agent")
    write_lines(house, total)
    wait_until(lambda: len(line_numbers(house)) >= total, 60, agent.tail)
    spool = house.path("agent/spool")

    def read(words):
        return subprocess.run([sys.executable, READER, spool, *words], capture_output=True, check=False)
    wait_until(lambda: b"no slot for this key" in read([]).stderr, 20, lambda: "the node still reads its past")
    agent.stop()
    collector.stop()
    done = read([key])
    need(done.returncode == 0, done.stderr.decode())
    numbers = sorted(int(line.split(b"line ")[1].split(b" ")[0]) for line in done.stdout.splitlines()
                     if b'line ' in line)
    need(numbers == list(range(total)), "the auditor does not read every line")
    print(f"auditor: {total} lines")


def main(arguments):
    for test in (drop, rotate, auditor):
        with House(arguments[0]) as house:
            house.make_pki()
            test(house)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Failed as failure:
        print(f"FAIL {failure}")
        sys.exit(1)
