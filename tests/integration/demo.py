#!/usr/bin/python3
"""demo.py TAFFRAIL FOLDER - the main job, end to end, on this machine; `./dev demo` runs it.

2,000 lines, as two runtimes would write them, some with secrets in them: agent -> sealed spool ->
mutual TLS -> collector. The agent is killed in between. What the collector stored is shown and
counted, the secrets are looked for in every byte that was written, the agent's spool is proved
against its seals and the collector's record, and a line is found in it again. A step that fails
prints the last lines of its log, and exits 1. Nothing is left running.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time

from harness import CriFile, DockerFile, Failed, House, need, wait_until

LINES = 2000
SECRET_LINES = 40
KEY_BODY = "MHcCAQEEIBkg4LVWM9nuwNSk3yByxZpYRTBnVJk5GkMhZpBhb2bGoAoGCCqGSM49AwEHoUQDQgAE"


def secrets(chance):
    """Kinds of secrets: (the line, the bytes that must be found nowhere)."""
    def word(size, alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"):
        return "".join(chance.choice(alphabet) for _ in range(size))

    small = "abcdefghijkmnpqrstuvwxyz23456789"
    token, key, password, claim = word(40, small), "AKIA" + word(16), word(14, small), word(24, small)
    jwt = f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOi{claim}.{word(43, small)}"
    return [
        (f"charge failed: Authorization: Bearer {token}", token),
        (f"s3 upload with {key} was refused", key),
        (f"connecting to postgres://shop:{password}@db.internal:5432/orders", password),
        (f"session {jwt} resumed", claim),
        (f"-----BEGIN EC PRIVATE KEY-----\\n{KEY_BODY}\\n-----END EC PRIVATE KEY-----", KEY_BODY),
    ]


def say(name, text):
    print(f"{name:<10} {text}", flush=True)


def write_lines(files, chance, planted, first, last):
    for number in range(first, last):
        file = files[number % len(files)]
        if number % (LINES // SECRET_LINES) == 7:
            kinds = secrets(chance)
            text, secret = kinds[len(planted) % len(kinds)]
            planted.append(secret)
        elif number % 400 == 11:
            text = f"checkout {number} basket " + "x" * 20000
        else:
            text = f"checkout {number} done in {chance.randint(3, 90)} ms"
        file.write([text], chance.choice(["stdout", "stdout", "stderr"]))


def show(records):
    print("what the collector stored:")
    for record in records[:2] + [next(r for r in records if "[REDACTED" in r["log"])]:
        place = record["kubernetes"]
        who = f"{place['namespace_name']}/{place['pod_name']}/{place['container_name']}"
        print(f"  {record['time'][11:23]} {who:<20} {record['stream'][3:]}  {record['log'][:90]}")
    print(f"  … {len(records) - 3:,} more")


def search(house, planted):
    """How many planted secrets are in any byte of the spool, its payloads, the collector or the logs."""
    paths = [os.path.join(top, name) for part in ("agent", "collector") for top, _, names in os.walk(house.path(part))
             for name in names]
    data = [open(path, "rb").read() for path in paths]
    reader = os.path.join(os.path.dirname(os.path.abspath(__file__)), "read_segment.py")
    for role in ("agent", "collector"):
        done = subprocess.run([sys.executable, reader, house.path(role, "spool")], capture_output=True, check=False)
        need(done.returncode == 0 and done.stdout, f"spool of the {role}: {done.stderr.decode()}")
        data.append(done.stdout)
    return sum(any(secret.encode() in text for text in data) for secret in planted)


def verify(house, agent_id):
    """The agent's spool by its seals, against what the collector recorded; its first line and what it proves."""
    witness = house.run("verify", "--receipts", agent_id, house.path("collector/spool")).stdout
    with open(house.path("receipts.ndjson"), "wb") as file:
        file.write(witness)
    done = house.run("verify", house.path("agent/spool"), "--seal-key", house.path("seal.key"),
                     "--witness", house.path("receipts.ndjson"))
    lines = done.stdout.decode().splitlines()
    need(lines[0].startswith("intact"), done.stdout.decode())
    say("verify", lines[0])
    for line in lines[1:]:
        print(f"           {line.strip()}")


def replay(house, text, wanted):
    done = house.run("replay", house.path("agent/spool"), "--grep", text, "--text")
    lines = done.stdout.decode().splitlines()
    need(len(lines) == wanted, f"replay found {len(lines)} lines, not {wanted}")
    say("replay", f"--grep '{text}': {lines[0][:100]}")


def books(program):
    """The program's own books, from its log: {subject: {name: number}}; of the newest lines."""
    found = {}
    for line in program.text().splitlines():
        if " event=books " not in line:
            continue
        words = dict(word.split("=", 1) for word in line.split(" ") if "=" in word)
        subject = words.get("output") or words.get("rule") or "read"
        found[subject] = {name: int(value) for name, value in words.items() if value.isdigit()}
    return found


def demo(house):
    chance = random.Random(2026)
    began = time.monotonic()
    house.make_pki()
    say("pki", f"CA, collector and agent certificates in {house.path('pki')}")
    house.configure_collector(spool=", retain: {age: 1h, size: 1GiB}")
    house.configure_agent(spool=", retain: {age: 1h, size: 1GiB}")
    house.run("pki", "seal", house.path("agent/spool"), "--out", house.path("seal.key"))
    say("seal", f"the first key of the agent's seals, kept away from its spool: {house.path('seal.key')}")
    collector = house.start("collector")
    say("collector", f"127.0.0.1:{house.port}, writes {house.records_path}")
    files = [DockerFile(house, "shop", "cart-5f7c", "3a6c1e52-0001-4000-8000-000000000001"),
             CriFile(house, "shop", "pay-0", "3a6c1e52-0002-4000-8000-000000000002")]
    planted = []
    agent = house.start("agent")
    agent.wait_event("output-up")
    write_lines(files, chance, planted, 0, 900)
    time.sleep(0.3)
    agent.kill()
    agent = house.start("agent")
    write_lines(files, chance, planted, 900, LINES)
    say("write", f"{LINES:,} lines as two runtimes would: shop/cart (docker), shop/pay (CRI); {len(planted)} of them hold a secret")
    up = next((line for line in agent.text().splitlines() if "event=output-up" in line), "")
    identity = up.split("identity=")[1].split()[0].strip('"') if "identity=" in up else "a verified collector"
    say("agent", f"spool encrypted and sealed, connected to {identity} by mutual TLS; SIGKILL at line 900, started again")
    wait_until(lambda: len(house.records()) >= LINES, 20, lambda: f"{len(house.records())} of {LINES} lines stored\n{agent.tail()}")
    need(agent.stop() == 0, agent.tail())
    need(collector.stop() == 0, collector.tail())
    records = house.records()
    show(records)
    texts = [record["log"] for record in records]
    numbers = [text.split(" ")[1] for text in texts if text.startswith("checkout ")]
    doubled = len(numbers) - len(set(numbers))
    lost = LINES - len(records)
    book = books(agent)
    say("books", f"{LINES:,} lines written · stored {len(records):,} · doubled {doubled} · lost {lost} · "
                 f"since its second start the agent read {book['read']['decoded']:,}, joined {book['read']['joined']} pieces, "
                 f"had {book['forward']['acked']:,} acknowledged, {book['forward']['pending']} wait")
    hits = {}
    for text in texts:
        for part in text.split("[REDACTED:")[1:]:
            rule = part.split("]")[0]
            hits[rule] = hits.get(rule, 0) + 1
    say("redacted", " · ".join(f"{rule} {count}" for rule, count in sorted(hits.items(), key=lambda hit: -hit[1])))
    found = search(house, planted)
    say("secrets", f"{len(planted)} written, {found} found in both spools (encrypted and decrypted), at the collector and in both logs")
    with open(house.path("agent/spool/spool.meta"), "rb") as meta:
        verify(house, meta.read()[16:20].hex())
    replay(house, "^checkout 1234 ", 1)
    need(not lost and not doubled and not found and sum(hits.values()) >= len(planted), "the books do not add up")
    print(f"done in {time.monotonic() - began:.0f} s; nothing is left running. Try next:")
    binary = os.path.relpath(house.binary)
    print(f"  echo 'password=hunter22' | {binary} redact --explain")
    print(f"  {binary} tap --text {os.path.relpath(house.path('logs/pods'))}/*/*/*.log     # what would be shipped, from any log file")
    print(f"  {binary} replay {os.path.relpath(house.path('agent/spool'))} --grep checkout --text")
    print(f"  {binary} verify {os.path.relpath(house.path('agent/spool'))} --seal-key {os.path.relpath(house.path('seal.key'))}")
    print(f"  $EDITOR conf/taffrail.yaml && {binary} check -c conf/taffrail.yaml --connect")


def main(binary, folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    try:
        with House(binary, os.path.abspath(folder)) as house:
            demo(house)
    except (Failed, OSError, subprocess.SubprocessError, json.JSONDecodeError) as failed:
        print(f"the demo failed: {failed}\nits logs: {folder}/agent/agent.log, {folder}/collector/collector.log", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
