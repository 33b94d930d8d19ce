#!/usr/bin/python3
"""test_witness.py BINARY - the collector as a witness, with the real programs.

1. What the collector notes of each frame is what the agent's spool has: number, chain value, digest.
   Its receipts are in the agent's seals, with its key in a notice, and hold by docs/protocol.md alone.
2. The agent's spool is put back to an older copy: a receipt shows it, the agent says so and goes on
   in a new lineage, the collector flags what contradicts, and every line arrives.
3. So it does after every start: the agent stays in its new lineage, and nothing is told again.
Needs python3-cryptography and python3-msgpack.
"""

import hashlib
import os
import shutil
import struct
import sys
import time

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

import read_segment
from harness import CriFile, Failed, House, Stored, check_books, need, wait_until

KEPT = ", retain: {age: 1h}"
IDENTITY = b"spiffe://demo/node/node-1"


def read_frames(spool):
    """All frames of a spool, each with its segment."""
    damage = []

    def say(text, harmless=False):
        if not harmless:
            damage.append(text)

    kek = read_segment.read_key(spool + ".key")
    found = []
    for segment in read_segment.accepted(spool, read_segment.read_spool_id(spool), say):
        segment.open_keys(kek)
        found += [(segment, frame) for frame in read_segment.frames(segment, say)]
    need(not damage, f"{spool}: {damage}")
    return found


def read_notes(spool):
    """What the collector noted: seq, prev, chain, D, flags by spool id, in order."""
    notes = {}
    for _, frame in read_frames(spool):
        unpacker = msgpack.Unpacker(raw=False)
        unpacker.feed(frame.get("pos", b"") if frame["type"] in ("data", "gap") else b"")
        for op, key, value in unpacker:
            if op == 4 and key.startswith(b"recv/" + IDENTITY + b"/"):
                need(len(value) == 105, "size of a note")
                spool_id, seq, prev, chain, digest, at, flags = struct.unpack("<16sQQ32s32sQB", value)
                need(key.endswith(spool_id.hex().encode()) and at > 1 << 60, "a note's spool or time")
                notes.setdefault(spool_id, []).append((seq, prev, chain, digest, flags))
    return notes


def read_receipt(data, public, spools):
    """By docs/protocol.md, section 6; returns seq and chain."""
    need(len(data) == 192 and data[:16] == b"taffrail/1 rcpt\0", "a receipt")
    key_id, spool_id, seq, chain, identity, at, counter = struct.unpack("<8s16sQ32s32sQQ", data[16:128])
    need(key_id == hashlib.sha256(public).digest()[:8], "a receipt's key")
    need(spool_id in spools and identity == hashlib.sha256(IDENTITY).digest(), "a receipt's spool or identity")
    need(at > 1 << 60 and counter > 0, "a receipt's time or counter")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(data[128:], data[:128])
    except InvalidSignature:
        raise Failed("a receipt's signature") from None
    return seq, chain


def public_key(house):
    path = house.path("collector/spool.receipt-key")
    need(os.stat(path).st_mode & 0o777 == 0o600, "mode of the receipt key")
    with open(path, "rb") as file:
        key = load_pem_private_key(file.read(), None)
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def check_notes(house):
    """Each frame of the agent's spool is noted in the collector's, and is the same."""
    sent = {}
    for segment, frame in read_frames(house.path("agent/spool")):
        if frame["type"] in ("data", "gap"):
            sent[segment.spool_id, frame["seq"]] = frame["chain"], hashlib.sha256(frame["payload"]).digest()
    compared = 0
    for spool_id, notes in read_notes(house.path("collector/spool")).items():
        for seq, _, chain, digest, flags in notes:
            need(flags == 0 and (spool_id, seq) in sent, f"a note of a frame that is not there: {seq >> 40}/{seq}")
            need(sent[spool_id, seq] == (chain, digest), f"frame {seq} differs from its note")
            compared += 1
    need(compared == len(sent) > 0, f"{compared} notes of {len(sent)} frames")
    return compared


def check_receipts(house):
    """Receipts in the agent's seals hold, name frames of the spool, and their key is noted once a segment."""
    public, seqs = public_key(house), []
    frames = read_frames(house.path("agent/spool"))
    spools = {segment.spool_id for segment, _ in frames}
    chains = {frame["seq"]: frame["chain"] for _, frame in frames}
    keys = [(segment.number, frame["content"][40:72]) for segment, frame in frames
            if frame["type"] == "notice" and frame["content"][:2] == b"\x07\0"]
    need({key for _, key in keys} == {public} and len(keys) == len(set(keys)), f"notices of keys: {keys}")
    for _, frame in frames:
        if frame["type"] in ("seal", "footer"):
            content = frame["content"]
            count = struct.unpack_from("<I", content, 76)[0]
            for at in range(128, 128 + 192 * count, 192):
                seq, chain = read_receipt(content[at:at + 192], public, spools)
                need(chains.get(seq) == chain and seq < frame["seq"], "a receipt's chain value")
                seqs.append(seq)
    need(seqs and seqs == sorted(set(seqs)), f"receipts in seals: {seqs}")
    last = max(seq for _, frame in frames if frame["type"] == "data" for seq in [frame["seq"]])
    need(seqs[-1] == last, "the last frame that was acked has no receipt")
    return len(seqs)


def fork_of(house):
    """The notice of a fork in the agent's spool, and what is written under each spool id."""
    frames = read_frames(house.path("agent/spool"))
    notices = [frame["content"] for _, frame in frames
               if frame["type"] == "notice" and frame["content"][:2] == b"\x04\0"]
    need(len(notices) == 1, f"{len(notices)} notices of a fork")
    seq, own = struct.unpack_from("<QQ", notices[0], 16)
    ids = list(dict.fromkeys(segment.spool_id for segment, _ in frames))
    need(len(ids) == 2, f"{len(ids)} lineages")
    runs = [max(frame["seq"] >> 40 for segment, frame in frames if segment.spool_id == one) for one in ids]
    need(runs[1] > max(runs[0], seq >> 40), "the run of the new lineage")
    need(read_segment.read_spool_id(house.path("agent/spool")) == ids[1], "spool.meta")
    return seq, own, notices[0][40:72], ids


def newest_sent(spool):
    return max(frame["seq"] for _, frame in read_frames(spool) if frame["type"] in ("data", "gap"))


def saved_seq(spool):
    """How far the one output has come, by the file of cursors (agent/spool/cursors.c); it never goes back."""
    with open(os.path.join(spool, "cursors"), "rb") as file:
        data = file.read()
    return max(struct.unpack_from("<Q", data, at + 8 + 64)[0] for at in (0, 4096))


def start_logging(house, name, lines):
    file = CriFile(house, "shop", name, "11111111")
    file.write([f"{name} line {number} " + "x" * 200 for number in range(lines)])
    return file


def more(file, name, lines):
    file.write([f"{name} line {file.lines + number} " + "x" * 200 for number in range(lines)])


def wait_lines(house, name, lines):
    stored = Stored(house)
    wait_until(lambda: stored.look().missing({name: lines}) == [], 30,
               lambda: f"missing: {stored.missing({name: lines})[:5]}")
    return stored


def audit_events(house):
    """Events of the agents' audit records, as the collector stored them."""
    events = {}
    for record in house.all_records():
        if record["tag"] == "taffrail.audit" and "event" in record:
            events.setdefault(record["event"], []).append(record)
    return events


def honest(house):
    collector, file = house.start("collector"), start_logging(house, "pay-0", 500)
    for round_ in range(3):
        agent = house.start("agent")
        more(file, "pay-0", 100)
        wait_lines(house, "pay-0", file.lines)
        need(agent.stop() == 0, agent.tail())
        check_books(agent)
        need("event=fork" not in agent.text() and "event=receipt-bad" not in agent.text(), agent.tail())
        if round_ == 1:
            need(collector.stop() == 0, collector.tail())
            collector = house.start("collector")
    need(collector.stop() == 0, collector.tail())
    need("event=contradiction" not in collector.text(), collector.tail())
    frames = check_notes(house)
    receipts = check_receipts(house)
    print(f"ok    an honest agent: {frames} frames as the collector noted them, {receipts} receipts in seals", flush=True)
    return file


def restored(house, file, live):
    """An older copy of the spool is put back, which has neither the newest frames nor their positions. One that was
    made of a live spool begins a run of its own, so no number is used twice: only what lies between tells."""
    spool, copy = house.path("agent/spool"), house.path("agent/copy")
    collector = house.start("collector")
    if live:
        agent = house.start("agent")
        more(file, "pay-0", 100)
        wait_lines(house, "pay-0", file.lines)
        wait_until(lambda: saved_seq(spool) == newest_sent(spool), 15, "the cursor is not saved")  # nothing is sent again
        time.sleep(1.5)  # and nothing is written any more
        shutil.copytree(spool, copy)
    else:
        shutil.copytree(spool, copy)
        agent = house.start("agent")
    more(file, "pay-0", 200)
    wait_lines(house, "pay-0", file.lines)
    need(agent.stop() == 0, agent.tail())
    shutil.rmtree(spool)
    os.rename(copy, spool)
    agent = house.start("agent")
    more(file, "pay-0", 200)
    agent.wait_event("fork")
    stored = wait_lines(house, "pay-0", file.lines)
    wait_until(lambda: "fork" in audit_events(house), 15, "no audit record of the fork")
    agent.wait_event("new-lineage")
    more(file, "pay-0", 200)
    wait_lines(house, "pay-0", file.lines)
    need(agent.stop() == 0, agent.tail())
    check_books(agent)
    need("event=receipt-bad" not in agent.text(), agent.tail())
    need(collector.stop() == 0, collector.tail())
    kinds = {record["kind"] for record in audit_events(house)["contradiction"]}
    need(kinds == {"new-spool", "between" if live else "fork"}, f"contradictions: {kinds}")
    seq, own, chain, ids = fork_of(house)
    notes = read_notes(house.path("collector/spool"))
    need((seq, chain) in [(note[0], note[2]) for note in notes[ids[0]]], "the fork is of no frame that was noted")
    need((seq, chain) not in [(frame["seq"], frame["chain"]) for _, frame in read_frames(house.path("agent/spool"))],
         "the fork is of our own frame")
    need(set(notes) == set(ids) and own > 0, "the collector's spools")
    print(f"ok    {'a live' if live else 'a'} spool that was put back: a fork, a new lineage, every line ({', '.join(sorted(kinds))})", flush=True)
    return stored


def goes_on(house, file):
    collector, agent = house.start("collector"), house.start("agent")
    more(file, "pay-0", 100)
    wait_lines(house, "pay-0", file.lines)
    need(agent.stop() == 0 and collector.stop() == 0, agent.tail())
    need("event=fork" not in agent.text() and "event=contradiction" not in collector.text(), agent.tail())
    fork_of(house)
    print("ok    the new lineage goes on", flush=True)


def main(binary):
    for live in False, True:
        with House(binary) as house:
            house.make_pki()
            house.run("pki", "seal", house.path("agent/spool"))
            house.configure_collector(KEPT)
            house.configure_agent(spool=KEPT)
            file = honest(house)
            restored(house, file, live)
            goes_on(house, file)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
