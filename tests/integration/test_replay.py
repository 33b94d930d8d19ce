#!/usr/bin/python3
"""test_replay.py TAFFRAIL - what a spool has kept is found again, and shipped again.

A real agent writes three stretches of records into small segments, stopped in between, with a collector behind it.
Then: spans touch only the segments that they need; conditions, regex and limit; a copy on another path, read-only and
with its key elsewhere; an index that is lost; damage; segments that expire while they are read; a live agent that is
followed over a roll; and jobs: stopped, resumed, killed, done, refused with other options, at a file output.
"""

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

from harness import CriFile, Failed, House, PATIENCE, need, rfc3339, wait_until

SUMMARY = re.compile(r"^([\d,]+) of ([\d,]+) records(?: shipped to \S+)?, (\d+) of (\d+) segments read, [\d.]+ s", re.M)
PAYS = 3000   # lines a stretch, of shop/pay-0


def number(text):
    return int(text.replace(",", ""))


class AuditedFile(CriFile):
    ROOT = "logs/audit/pods"


class Replay:
    """One run of `taffrail replay` that has ended."""

    def __init__(self, house, *words, spool=None, code=0, cwd=None):
        done = subprocess.run([house.binary, "replay", spool or house.path("agent/spool"), *words], cwd=cwd or house.folder,
                              capture_output=True, timeout=120 * PATIENCE, check=False)
        self.text = done.stdout.decode()
        self.stderr = done.stderr.decode()
        need(done.returncode == code, f"replay {words}: exit {done.returncode}, not {code}\n{self.stderr}")
        match = SUMMARY.search(self.stderr)
        self.found, self.total, self.read, self.segments = map(number, match.groups()) if match else (None,) * 4

    @property
    def records(self):
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def logs(self):
        return [record["log"] for record in self.records if record["tag"] != "taffrail.audit"]


def random_text(count):
    return os.urandom(count // 2).hex()


def write_stretch(house, pods, stretch):
    """Two pods; every hundredth line of pay-0 says failed. Lines do not compress, so that segments roll."""
    pay, dns = pods
    for step in range(PAYS // 250):
        first = stretch * PAYS + step * 250
        pay.write([f"pay line {n} charge {'failed' if n % 100 == 0 else 'done'} {random_text(1200)}"
                   for n in range(first, first + 250)])
        dns.write([f"dns line {n}" for n in range(first // 10, first // 10 + 25)])
        time.sleep(0.02)


def fill(house):
    """Three stretches; the times between them. What the agent keeps is all of it."""
    house.configure_collector()
    house.configure_agent(spool=", segment_size: 1MiB, retain: {age: 1h, size: 1GiB}")
    pods = (CriFile(house, "shop", "pay-0", "11111111-1111-1111-1111-111111111111"),
            CriFile(house, "kube-system", "dns-0", "22222222-2222-2222-2222-222222222222"))
    collector = house.start("collector")
    marks = []
    for stretch in range(3):
        agent = house.start("agent")
        write_stretch(house, pods, stretch)
        lines = (stretch + 1) * (PAYS + PAYS // 10)
        wait_until(lambda wanted=lines: house.stored_lines() >= wanted, 30, "the collector has not stored all")
        need(agent.stop() == 0, agent.tail())
        time.sleep(0.1)
        marks.append(rfc3339(time.time_ns()))
        time.sleep(0.1)
    return collector, pods, marks


def pays(first, last):
    return list(range(first * PAYS, last * PAYS))


def pay_numbers(logs):
    return sorted(int(log.split(" ")[2]) for log in logs if log.startswith("pay "))


def segments_of(spool):
    return sorted(name for name in os.listdir(spool) if name.endswith(".seg"))


def state_of(folder):
    """Names, sizes, times of all that is there: what reading must not change."""
    return {name: (os.stat(os.path.join(folder, name)).st_size, os.stat(os.path.join(folder, name)).st_mtime_ns)
            for name in os.listdir(folder)}


def finds(house, marks):
    before = state_of(house.path("agent/spool"))
    everything = Replay(house)
    need(pay_numbers(everything.logs) == pays(0, 3), "not every line came back, or one twice")
    need(everything.read == everything.segments, everything.stderr)
    need(everything.found == everything.total, everything.stderr)
    need(len(everything.records) == everything.found, "the summary counts otherwise")

    stored = {record["log"] for record in house.records()}
    need(stored == set(everything.logs), "replay and collector have other records")

    middle = Replay(house, "--from", marks[0], "--to", marks[1])
    need(pay_numbers(middle.logs) == pays(1, 2), "the span is not the second stretch")
    need(0 < middle.read < middle.segments * 0.6, f"too many segments were read: {middle.stderr}")
    need(Replay(house, "--from", marks[2]).read == 0, "a span behind all of it reads segments")
    need(Replay(house, "--to", "2001-01-01").read == 0, "a span before all of it reads segments")
    need(pay_numbers(Replay(house, "--from", "-1h", "--to", "+72h").logs) == pays(0, 3), "relative times")

    failed = Replay(house, "--where", "kubernetes.namespace_name=shop", "--grep", r"charge failed\b")
    need(pay_numbers(failed.logs) == [n for n in pays(0, 3) if n % 100 == 0], "conditions and regex")
    dns = Replay(house, "--where", "kubernetes.pod_name=dns-*", "--where", "stream=stdout")
    need(len(dns.logs) == 3 * PAYS // 10, "globs in conditions")
    need(Replay(house, "--where", "kubernetes.pod_name=none").found == 0, "a pod that is not there")
    few = Replay(house, "--limit", "3", "--grep", "^pay ")
    need(few.found == 3 and pay_numbers(few.logs) == [0, 1, 2], "the limit")
    text = Replay(house, "--text", "--limit", "2", "--grep", "^pay ").text.splitlines()
    need(len(text) == 2 and "shop/pay-0/app" in text[0] and "pay line 0 charge failed" in text[0], f"--text: {text}")
    need("intact" in Replay(house, "--verify", "--limit", "1").stderr, "--verify says nothing")
    need(state_of(house.path("agent/spool")) == before, "reading changed the spool")

    for words, code, wanted in ((["--from", "soon"], 2, "--from"), (["--grep", "("], 2, "--grep"), (["--wher", "x"], 2, "no option"),
                                (["--limit", "0"], 2, "--limit"), (["--job", "x"], 2, "--to-output"),
                                (["--key", "/does/not/exist"], 2, "exist")):
        need(wanted in Replay(house, *words, code=code).stderr, f"{words}: not said")
    print("ok    found by span, condition, regex and limit; nothing changed", flush=True)


def copies(house, marks):
    copy = house.path("elsewhere/evidence")
    shutil.copytree(house.path("agent/spool"), copy)
    for name in os.listdir(copy):
        os.chmod(os.path.join(copy, name), 0o400)
    os.chmod(copy, 0o500)
    key = house.path("agent/spool.key")
    need("--key" in Replay(house, spool=copy, code=2).stderr, "a copy without its key")
    whole = Replay(house, "--key", key, spool=copy)
    need(pay_numbers(whole.logs) == pays(0, 3), "a copy with its key elsewhere")
    config = house.write("elsewhere/forensic.yaml", "inputs: []\nspool: {keys: [../agent/spool.key]}\n"
                         "outputs: [stdout: {}]\n")
    need(Replay(house, "-c", config, spool=copy).found == whole.found, "keys of a configuration")
    other = house.path("elsewhere/other.key")
    house.run("pki", "spool", other)
    need("no key opens" in Replay(house, "--key", other, spool=copy, code=1).stderr, "another key")
    os.chmod(copy, 0o700)
    print("ok    a read-only copy, its key by --key and by -c", flush=True)
    return copy, key


def find_frames(path):
    """(offset, type, body bytes) of a segment's frames, by docs/spool-format.md."""
    with open(path, "rb") as file:
        data = file.read()
    offset = 4096
    while data[offset:offset + 4] == b"TFRM":
        body = struct.unpack_from("<I", data, offset + 36)[0]
        yield offset, data[offset + 4], body
        offset += 64 + body + 36


def data_frames(path):
    return [frame for frame in find_frames(path) if frame[1] == 1]


def flip(path, offset):
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def damage(house, marks, copy, key):
    """Indexes lost first, then a frame."""
    lost = 0
    for name in segments_of(copy):
        for offset, kind, body in find_frames(os.path.join(copy, name)):
            if kind == 7:
                flip(os.path.join(copy, name), offset + 64 + body // 2)
                lost += 1
    need(lost > 4, "the agent wrote no indexes")
    middle = Replay(house, "--key", key, "--from", marks[0], "--to", marks[1], spool=copy)
    need(pay_numbers(middle.logs) == pays(1, 2) and 0 < middle.read < middle.segments * 0.6,
         f"without indexes: {middle.stderr}")
    victim, frames = next((name, frames) for name, frames in ((name, data_frames(os.path.join(copy, name)))
                                                              for name in segments_of(copy)) if len(frames) > 1)
    offset, _, body = frames[1]
    flip(os.path.join(copy, victim), offset + 64 + body // 2)
    rest = Replay(house, "--key", key, spool=copy, code=1)
    told = re.search(rf"^damaged: segment {int(victim[:20])}, frames \d+/\d+ to \d+/\d+, ([\d,]+) records?$", rest.stderr, re.M)
    need(told, f"damage is not told: {rest.stderr}")
    need(rest.found + number(told[1]) == rest.total, f"damage is not counted: {rest.stderr}")
    need(not Replay(house, "--key", key, "--verify", spool=copy, code=1).text, "--verify printed of a damaged spool")
    print(f"ok    {lost} indexes lost cost headers only; a damaged frame is passed over and told", flush=True)


def expiry(house, copy, key):
    """Nobody takes the output while the oldest segments go; the reader holds one of them open."""
    process = subprocess.Popen([house.binary, "replay", copy, "--key", key], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    head = process.stdout.read(1)
    gone = segments_of(copy)[3:6]  # of nine or more
    for name in gone:
        os.unlink(os.path.join(copy, name))
    _, stderr = process.communicate(timeout=60 * PATIENCE)
    text = stderr.decode()
    need(head == b"{" and process.returncode == 1, f"exit {process.returncode}: {text}")
    first, last = (int(name.split(".")[0]) for name in (gone[0], gone[-1]))
    need(f"segments {first}..{last} expired while reading" in text, text)
    after = Replay(house, "--key", key, spool=copy, code=1).stderr
    need(re.search(rf"^missing before segment {last + 1}: ", after, re.M), after)
    print("ok    segments that expire while they are read are told", flush=True)


def follow(house, pods):
    """A live agent, over a roll. Returns how many lines were written until one came: then it is past its `now`."""
    agent = house.start("agent")
    known = len(segments_of(house.path("agent/spool")))
    out = house.path("followed.ndjson")
    with open(out, "wb") as to:
        process = subprocess.Popen([house.binary, "replay", house.path("agent/spool"), "--follow", "--grep", "^(pay|begun) ",
                                    "--from", "now"], stdout=to, stderr=subprocess.PIPE)

    def arrived(what):
        with open(out, "rb") as file:
            return file.read().count(b'"log":"%s ' % what)

    begun = 0

    def has_begun():
        nonlocal begun
        pods[1].write([f"begun {begun}"])
        begun += 1
        return arrived(b"begun") > 0
    wait_until(has_begun, 15, "it follows nothing")
    write_stretch(house, pods, 3)
    wait_until(lambda: arrived(b"pay") >= PAYS, 30, lambda: f"followed {arrived(b'pay')} of {PAYS}")
    need(len(segments_of(house.path("agent/spool"))) > known + 1, "nothing was rolled")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20 * PATIENCE)
    need(process.returncode == 128 + signal.SIGINT, f"exit {process.returncode}")
    need(SUMMARY.search(stderr.decode()), stderr.decode())
    with open(out, encoding="utf-8") as file:
        need(pay_numbers([json.loads(line)["log"] for line in file]) == pays(3, 4), "not each line once, in follow")
    need(agent.stop() == 0, agent.tail())
    print("ok    a live agent is followed over rolls, each line once", flush=True)
    return begun


class Job:
    """A job of the house, started again and again in one folder."""

    def __init__(self, house, job, *words):
        self.house = house
        self.command = [house.binary, "replay", house.path("agent/spool"), "-c", house.path("agent/agent.yaml"),
                        "--to-output", "forward", "--job", job, *words]
        self.folder = house.path("jobs")
        os.makedirs(self.folder, exist_ok=True)
        self.job = job

    def start(self, *words):
        return subprocess.Popen([*self.command, *words], cwd=self.folder, stderr=subprocess.PIPE)

    def end(self, process, code):
        _, stderr = process.communicate(timeout=60 * PATIENCE)
        text = stderr.decode()
        need(process.returncode == code, f"job {self.job}: exit {process.returncode}, not {code}\n{text}")
        return text

    def run(self, *words, code=0):
        return self.end(self.start(*words), code)

    def stored(self):
        found = {}
        for record in self.house.records():
            if record.get("taffrail", {}).get("replayed") == self.job:
                key = record["log"]
                found[key] = found.get(key, 0) + 1
        return found

    def said(self):
        """Steps of the job's audit events, as the collector stored them."""
        return [record["step"] for record in self.house.all_records()
                if record.get("event") == "replay" and record["job"] == self.job]

    def need_once(self, wanted, what):
        wait_until(lambda: sum(self.stored().values()) >= wanted, 20,
                   lambda: f"{what}: {sum(self.stored().values())} of {wanted} arrived")
        found = self.stored()
        need(set(found.values()) == {1} and len(found) == wanted, f"{what}: {len(found)} of {wanted}, or one twice")


def jobs(house, collector, begun):
    wanted = 4 * PAYS
    job = Job(house, "case-42", "--where", "kubernetes.namespace_name=shop")
    for number in range(2):
        before = len(job.stored())
        process = job.start("--max-rate", "700KiB/s")
        wait_until(lambda: len(job.said()) == number + 1 and len(job.stored()) > before, 20,  # pylint: disable=cell-var-from-loop
                   "nothing is shipped")
        process.send_signal(signal.SIGINT)
        told = job.end(process, 128 + signal.SIGINT)
        need(re.search(r"^stopped at \d+% \(SIGINT\); the same command goes on from there \(case-42\.job\)$", told, re.M),
             told)
        need(0 < len(job.stored()) < wanted, f"stopped at {len(job.stored())} of {wanted}")
    told = job.run()
    need(f"{wanted:,} of " in told and "job case-42 is done (case-42.job)" in told, told)
    job.need_once(wanted, "a job stopped twice")
    wait_until(lambda: "end" in job.said(), 20, "the collector was not told of the end")
    need(job.said() == ["begin", "resume", "resume", "end"], f"said to the collector: {job.said()}")
    need("job case-42 is done: 12,000 records were shipped" in job.run(), "a done job does not say so")
    need("with other options" in job.run("--grep", "x", code=2), "other options are not refused")
    need(len(job.stored()) == wanted, "a done job shipped")
    need("contradiction" not in collector.text(), "a replay was taken for a contradiction")
    originals = sum("taffrail" not in record for record in house.records())
    need(originals == 4 * (PAYS + PAYS // 10) + begun, f"{originals} records are not marked")
    print("ok    a job stopped twice and resumed: each record once more, marked", flush=True)


def job_without_collector(house, collector):
    """The collector goes and comes back while a job runs: at least once, and the job ends."""
    job = Job(house, "case-43", "--grep", "charge failed")
    need(collector.stop() == 0, collector.tail())
    process = job.start()
    wait_until(lambda: os.path.exists(os.path.join(job.folder, "case-43.job")), 15, "no job file")
    time.sleep(1)
    need(process.poll() is None, "a job gave up without its collector")
    busy = subprocess.run(job.command, cwd=job.folder, capture_output=True, check=False)
    need(busy.returncode == 2 and b"another process" in busy.stderr, busy.stderr.decode())
    again = house.start("collector")
    job.end(process, 0)
    job.need_once(4 * PAYS // 100, "a job that waited for its collector")
    killed = Job(house, "case-44")
    process = killed.start("--max-rate", "2MiB/s")
    wait_until(killed.stored, 20, "nothing is shipped")
    time.sleep(1)  # how far it has come is saved
    process.kill()
    process.communicate()
    killed.run()
    total = 4 * (PAYS + PAYS // 10)
    wait_until(lambda: len(killed.stored()) >= total, 20, lambda: f"killed: {len(killed.stored())} of {total}")
    need(sum(killed.stored().values()) < 2 * total, "a killed job began anew")
    print("ok    a job waits for its collector, and goes on after a kill", flush=True)
    return again


def job_to_file(house):
    """Exactly once at a file output too: its cursor lies in the job file."""
    config = house.write("elsewhere/file.yaml", "inputs: []\nspool: {keys: [../agent/spool.key]}\n"
                         "outputs: [file: {name: case, path: case.ndjson}]\n")
    command = [house.binary, "replay", house.path("agent/spool"), "-c", config, "--to-output", "case", "--job", "file.1"]
    folder = house.path("jobs")
    process = subprocess.Popen([*command, "--max-rate", "1MiB/s"], cwd=folder, stderr=subprocess.PIPE)
    shipped = house.path("elsewhere/case.ndjson")
    wait_until(lambda: os.path.exists(shipped) and os.path.getsize(shipped) > 500_000, 20, "nothing is shipped")
    process.kill()
    process.communicate()
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60 * PATIENCE, check=False)
    need(done.returncode == 0, done.stderr.decode())
    with open(shipped, encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    need(all(record["taffrail"]["replayed"] == "file.1" for record in records), "a record is not marked")
    logs = [record["log"] for record in records if record["tag"] != "taffrail.audit"]
    need(pay_numbers(logs) == pays(0, 4), "not each line once in the file of a killed job")
    print("ok    a killed job to a file: each record once", flush=True)


def job_over_damage(house, copy, key):
    """What a job found damaged before it was stopped is not forgotten when it goes on."""
    config = house.write("elsewhere/damage.yaml", f"inputs: []\nspool: {{keys: [{key}]}}\n"
                         "outputs: [file: {name: case, path: damage.ndjson}]\n")
    command = [house.binary, "replay", copy, "-c", config, "--to-output", "case", "--job", "file.2"]
    folder, shipped = house.path("jobs"), house.path("elsewhere/damage.ndjson")
    process = subprocess.Popen([*command, "--max-rate", "700KiB/s"], cwd=folder, stderr=subprocess.PIPE)
    wait_until(lambda: os.path.exists(shipped) and os.path.getsize(shipped) > 2_000_000, 20, "nothing is shipped")
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60 * PATIENCE)[1].decode()
    need(process.returncode == 130 and "\ndamaged: segment " in told, f"stopped behind damage: {told}")
    before = "incomplete: 1 loss was told before"
    for end in ("is done (file.2.job)", "choose another --job"):
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60 * PATIENCE, check=False)
        told = done.stderr.decode()
        is_again = end.startswith("is done") and "\ndamaged: segment " in told  # what was saved lies before it
        need(done.returncode == 1 and end in told and (before in told or is_again), told)
    print("ok    a job keeps in mind what was damaged before it was stopped", flush=True)


def auditor(house):
    """What is delivered and kept, only the auditor's key reads: not the node's, not the rest of the machine's."""
    key, public = house.path("elsewhere/auditor.key"), house.path("elsewhere/auditor.pem")
    for words in (["genpkey", "-algorithm", "X25519", "-out", key], ["pkey", "-in", key, "-pubout", "-out", public]):
        subprocess.run(["openssl", *words], check=True, capture_output=True)
    os.chmod(key, 0o600)
    house.write("agent/agent.yaml", f"""
agent: {{host: node-1}}
inputs: [container: {{paths: [../logs/audit/pods/*/*/*.log]}}]
spool: {{path: audited, keep_free: 0, segment_size: 1MiB, retain: {{age: 1h, size: 1GiB}}, auditor: {public}}}
outputs: [file: {{path: audited.ndjson}}]
""")
    agent = house.start("agent")
    file = AuditedFile(house, "shop", "pay-1", "33333333-3333-3333-3333-333333333333")
    for first in range(0, 6000, 500):
        file.write([f"pay line {n} {random_text(1200)}" for n in range(first, first + 500)])
        time.sleep(0.05)

    def delivered():
        with open(house.path("agent/audited.ndjson"), "rb") as records:
            return records.read().count(b"pay line ")
    wait_until(lambda: os.path.exists(house.path("agent/audited.ndjson")) and delivered() == 6000, 30, "not delivered")
    spool = house.path("agent/audited")
    wait_until(lambda: "no key opens" in subprocess.run(
        [house.binary, "replay", spool, "--limit", "1", "--grep", "nothing"], capture_output=True, check=False
    ).stderr.decode(), 20, "the node still reads what it delivered")
    need(agent.stop() == 0, agent.tail())
    node = Replay(house, spool=spool, code=1)
    need(len(node.logs) < 6000, "the node reads all that it delivered")
    whole = Replay(house, "--key", key, "--key", house.path("agent/audited.key"), spool=spool)
    need(pay_numbers(whole.logs) == list(range(6000)), "the auditor does not read all of it")
    print(f"ok    the node reads {node.read} of {node.segments} segments, the auditor all", flush=True)


def main():
    with House(sys.argv[1]) as house:
        house.make_pki()
        os.makedirs(house.path("elsewhere"), exist_ok=True)
        collector, pods, marks = fill(house)
        finds(house, marks)
        copy, key = copies(house, marks)
        damage(house, marks, copy, key)
        os.makedirs(house.path("jobs"), exist_ok=True)
        job_over_damage(house, copy, key)
        expiry(house, copy, key)
        begun = follow(house, pods)
        wait_until(lambda: house.stored_lines() >= 4 * (PAYS + PAYS // 10) + begun, 30, "the collector has not stored all")
        jobs(house, collector, begun)
        collector = job_without_collector(house, collector)
        job_to_file(house)
        auditor(house)
        need(collector.stop() == 0, collector.tail())


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        print(f"FAIL  {failure}")
        sys.exit(1)
