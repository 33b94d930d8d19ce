#!/usr/bin/python3
"""test_verify.py TAFFRAIL - a corpus of altered spools: each alteration is caught, and named with its place.

Spools are made by docs/spool-format.md alone (spool_forge.py) and, for what an attacker without keys may do, by
the agent itself. Every field of every frame type is changed, with and without mending the checksums; frames
and segments are dropped, doubled, swapped, moved; history is written anew with all keys that a root may have
at that time. Then a live spool is verified again and again, under writing, rolling and expiry: no alarm.
"""

import concurrent.futures
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import spool_forge
from harness import CriFile, Failed, House, PATIENCE, need, wait_until
from read_segment import crc32c
from spool_forge import (DATA, FOOTER, GAP, INDEX, NOTICE, POSITIONS, SEAL, Forge, Frame, crc, fix_chain, fix_frame,
                         fix_sector, frames_of, read, write)

WORKERS = 2
NAMES = {DATA: "data", POSITIONS: "positions", GAP: "gap", SEAL: "seal", FOOTER: "footer", NOTICE: "notice",
         INDEX: "index"}
FIELDS = {"magic": 0, "type": 4, "flags": 5, "zero": 6, "seq": 8, "time_min": 16, "time_max": 24, "events": 32,
          "size": 36, "nonce": 40, "durable": 52, "header crc": 60}
SECTOR = {"magic": 0, "version": 8, "suite": 10, "flags": 12, "spool": 16, "id": 32, "run": 48, "number": 64,
          "first_seq": 72, "created": 80, "prev_end": 88, "prev_id": 96, "prev_chain": 112, "dek_id": 144,
          "prev_spool": 176, "prev_last_seq": 192, "events": 200, "zero": 208, "crc": 508}
# By which code each is told when chains and checksums are mended behind it; flags and created by a seal alone.
SECTOR_CODES = {"spool": "segment-foreign", "id": "data-key", "run": "boundary-run", "number": "segment-name",
                "prev_id": "segment-missing", "prev_chain": "boundary-chain", "dek_id": "data-key",
                "prev_spool": "boundary-spool", "events": "boundary-events"}


def verify(binary, folder, *options):
    done = subprocess.run([binary, "verify", folder, "--json", *options], capture_output=True, check=False, timeout=60 * PATIENCE)
    need(done.returncode in (0, 1), f"{folder}: exit {done.returncode}: {done.stderr.decode()}")
    found = json.loads(done.stdout)
    need(found["exit"] == done.returncode, f"{folder}: exit {done.returncode}: {found}")
    return found


class Corpus:
    """Cases on copies of one spool: (what, verdict, codes that may lead, place, options)."""

    def __init__(self, binary, folder, base, options=()):
        self.binary, self.folder, self.base, self.options = binary, folder, base, list(options)
        self.cases = []

    def path(self, spool, no):
        return os.path.join(spool, f"{no:020d}.seg")

    def add(self, name, edit, verdict, codes, place=None, options=()):
        self.cases.append((name, edit, verdict, codes, place or {}, options))

    def try_one(self, number, name, edit, verdict, codes, place, options):
        spool = os.path.join(self.folder, f"case-{number}")
        shutil.copytree(self.base, spool)
        shutil.copy(self.base + ".key", spool + ".key")
        edit(spool)
        found = verify(self.binary, spool, *self.options, *options)
        need(found["verdict"] == verdict, f"{name}: {found['verdict']}, not {verdict}: {found['findings']}")
        if codes:
            lead = found["findings"][0]
            need(lead["code"] in codes.split("|"), f"{name}: {lead['code']}, not {codes}: {found['findings']}")
            for key, value in place.items():
                need(lead.get(key) == value, f"{name}: {key} is {lead.get(key)}, not {value}: {found['findings']}")
        shutil.rmtree(spool)
        os.unlink(spool + ".key")

    def run(self):
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            tries = [pool.submit(self.try_one, number, *case) for number, case in enumerate(self.cases)]
            failures = [str(one.exception()) for one in tries if one.exception()]
        need(not failures, f"{len(failures)} of {len(self.cases)} cases: " + "\n".join(failures[:20]))
        return len(self.cases)


def flip(at, bits=0xFF):
    def edit(data):
        data[at] ^= bits
    return edit


def on(no, *edits):
    """Edits of one segment's bytes."""
    def edit(spool):
        path = os.path.join(spool, f"{no:020d}.seg")
        data = read(path)
        for one in edits:
            one(data)
        write(path, data)
    return edit


def frame_name(data, at):
    seq = int.from_bytes(data[at + 8:at + 16], "little")
    return f"{seq >> 40}/{seq & (1 << 40) - 1}"


# ---- what needs no key --------------------------------------------------------------------------------


def add_frames(corpus, no, is_newest):
    """Each field of each frame, once as rot, once with mended checksums, once with a mended chain."""
    data = read(corpus.path(corpus.base, no))
    frames = frames_of(data)
    for at, size, kind in frames:
        what, end = f"segment {no}, {NAMES[kind]} at {at}", at + size
        spots = {**{name: at + offset for name, offset in FIELDS.items()}, "body": at + 64, "tag": end - 37,
                 "chain": end - 36, "body crc": end - 1}
        is_last = is_newest and end == frames[-1][0] + frames[-1][1]
        place = {"segment": no, "frame": frame_name(data, at), "byte": at}
        for name, spot in spots.items():
            rot = "cut" if is_last and kind in (SEAL, FOOTER) else "torn tail" if is_last else "damaged"
            corpus.add(f"{what}: {name} rots", on(no, flip(spot)), rot, None if rot != "damaged" else "frame-damaged",
                       place if rot == "damaged" else None)
            if name in ("magic", "header crc", "body crc"):
                continue
            bits = {"size": 0, "seq": 0x40}.get(name, 1)
            if bits:
                edit = on(no, flip(spot, bits), lambda data, at=at, size=size: fix_frame(data, at, size))
                corpus.add(f"{what}: {name}, checksums mended", edit, "forged",
                           "chain|frame-header|frame-order|frames-missing|seal-format|notice|tag", {"segment": no})
            if name not in ("type", "flags", "zero", "size", "chain", "seq", "durable"):
                edit = on(no, flip(spot), fix_chain)
                corpus.add(f"{what}: {name}, chain mended", edit, "forged", "tag|boundary-chain", {"segment": no})


def drop(index):
    def edit(data):
        at, size, _ = frames_of(data)[index]
        del data[at:at + size]
    return edit


def double(index):
    def edit(data):
        at, size, _ = frames_of(data)[index]
        data[at + size:at + size] = data[at:at + size]
    return edit


def swap(index):
    def edit(data):
        (at, size, _), (_, second, _) = frames_of(data)[index:index + 2]
        data[at:at + size + second] = data[at + size:at + size + second] + data[at:at + size]
    return edit


def move(spool_from, no_from, index_from, index):
    """A frame of another segment or spool takes the place of one here."""
    def edit(data):
        source = read(os.path.join(spool_from, f"{no_from:020d}.seg"))
        at, size, _ = frames_of(source)[index_from]
        to, old, _ = frames_of(data)[index]
        moved = source[at:at + size]
        moved[8:16] = data[to + 8:to + 16]
        fix_frame(moved, 0, size)
        data[to:to + old] = moved
    return edit


def add_places(corpus, no, foreign):
    """Frames and segments in the wrong place."""
    forged = "frames-missing|frame-order|frame-header|chain|boundary-number|boundary-end|segment-short|tag"
    place = {"segment": no}
    for index in range(1, 3):
        corpus.add(f"frame {index} of {no} dropped", on(no, drop(index)), "forged", forged, place)
        corpus.add(f"frame {index} of {no} doubled", on(no, double(index)), "forged", forged, place)
        corpus.add(f"frame {index} of {no} swapped", on(no, swap(index)), "forged", forged, place)
    corpus.add("frame moved between segments", on(no, move(corpus.base, no + 1, 1, 1)), "forged", forged, place)
    corpus.add("frame moved between spools", on(no, move(foreign, no, 1, 1)), "forged", forged, place)
    corpus.add("the same, chain mended", on(no, move(foreign, no, 1, 1), fix_chain), "forged", "tag|boundary-end", place)
    corpus.add("segment cut by its last frame", lambda spool: cut_last(corpus.path(spool, no)), "forged",
               "segment-short", place)
    corpus.add("segment of another spool", lambda spool: shutil.copy(corpus.path(foreign, no), corpus.path(spool, no)),
               "forged", "segment-foreign|segment-missing", None)
    corpus.add("segment removed", lambda spool: os.unlink(corpus.path(spool, no)), "forged", "segment-missing",
               {"segment": no + 1})
    corpus.add("segment renamed", lambda spool: os.rename(corpus.path(spool, no), corpus.path(spool, 90)), "forged",
               "segment-name|segment-missing")
    corpus.add("segment doubled", lambda spool: shutil.copy(corpus.path(spool, no), corpus.path(spool, 90)), "forged",
               "segment-name", {"segment": 90})
    corpus.add("first segment removed", lambda spool: os.unlink(corpus.path(spool, 1)), "forged", "start-missing",
               {"segment": 2})


def cut_last(path):
    data = read(path)
    at, _, _ = frames_of(data)[-1]
    write(path, data[:at])


def add_sector(corpus, no):
    """Sector 0 of a segment in the middle, and its key slots."""
    for name, offset in SECTOR.items():
        corpus.add(f"sector 0 of {no}: {name} rots", on(no, flip(offset)), "damaged", "header", {"segment": no})
        if name in (*SECTOR_CODES, "flags", "created"):
            corpus.add(f"sector 0 of {no}: {name}, checksum mended", on(no, flip(offset, 1), fix_sector), "forged",
                       "chain|" + SECTOR_CODES.get(name, "chain"))
    for offset, name in ((0, "magic"), (4, "kind"), (8, "key id"), (48, "wrapped"), (90, "zero"), (508, "crc")):
        corpus.add(f"slot of {no}: {name} rots", on(no, flip(512 + offset)), "damaged", "slot", {"segment": no})
    corpus.add(f"slot of {no}: wrapped, checksum mended", on(no, flip(512 + 48), lambda data: fix_sector(data, 512)),
               "forged", "data-key", {"segment": no})
    corpus.add(f"slots of {no} and the next swapped", lambda spool: swap_slots(corpus, spool, no), "forged", "data-key",
               {"segment": no})
    corpus.add(f"slots of {no} zeroed", on(no, lambda data: data.__setitem__(slice(512, 4096), bytes(3584))), "damaged",
               "slots-empty", {"segment": no})
    corpus.add("spool.meta rots", lambda spool: write(os.path.join(spool, "spool.meta"),
                                                      bytes(64)), "damaged", "meta")


def mend_from(no, last):
    """What needs no key, of this segment and of all behind it: chains, what builds on them, checksums."""
    def edit(spool):
        chain = None
        for number in range(no, last + 1):
            path = os.path.join(spool, f"{number:020d}.seg")
            data = read(path)
            if chain is not None:
                data[112:144] = chain
            chain = fix_chain(data)
            write(path, data)
    return edit


def check_header(binary, folder, _):
    """Each field of sector 0 has a check of its own: the chain is mended up to the spool's end, so that no other tells."""
    for name, sealed in (("header", False), ("header-sealed", True)):
        make(folder, name, sealed=sealed)
    base = os.path.join(folder, "header")
    count = 0

    def expect(what, no, offset, codes, bits=1, base=base):
        spool = os.path.join(folder, "header-case")
        shutil.copytree(base, spool)
        shutil.copy(base + ".key", spool + ".key")
        on(no, flip(offset, bits))(spool)
        mend_from(no, 4)(spool)
        found = [finding["code"] for finding in verify(binary, spool)["findings"]]
        need(found == codes, f"sector 0 of {no}: {what}, all mended: {found}, not {codes}")
        shutil.rmtree(spool)
        nonlocal count
        count += 1
    for name, code in SECTOR_CODES.items():
        if name != "run":  # segment 4 begins one
            expect(name, 4, SECTOR[name], [code])
    for name in ("version", "suite", "zero"):
        expect(name, 4, SECTOR[name], ["header"])
    expect("first_seq, so that one is missing", 4, SECTOR["first_seq"], ["frames-missing"])
    expect("first_seq, not above what it builds on", 2, SECTOR["first_seq"], ["header"])
    expect("prev_last_seq, one more", 4, SECTOR["prev_last_seq"], ["boundary-number"])
    expect("prev_last_seq, not below the first", 2, SECTOR["prev_last_seq"], ["header"])
    expect("prev_end, one less", 4, SECTOR["prev_end"], ["boundary-end", "superseded"])
    expect("prev_end, one more", 2, SECTOR["prev_end"], ["segment-short"])
    expect("run", 2, SECTOR["run"], ["boundary-run", "boundary-run"])
    expect("flags, the first of a run", 4, SECTOR["flags"], ["boundary-run"], 2)
    expect("flags, not the first of a run", 2, SECTOR["flags"], ["boundary-run"], 2)
    expect("flags, a new lineage", 2, SECTOR["flags"], ["segment-foreign", "start-missing"], 8)
    expect("flags, an unknown one", 4, SECTOR["flags"], ["header"], 16)
    for name in ("prev_end", "prev_chain", "prev_last_seq"):
        expect(name, 1, SECTOR[name], ["boundary-first"])
    expect("events", 1, SECTOR["events"], ["boundary-first", "boundary-events"])
    for name in ("flags", "created"):
        expect(name, 4, SECTOR[name], [])
        expect(name, 4, SECTOR[name], ["seal-chain"], 1, base + "-sealed")
    return count


def check_meta_spool(binary, folder, key):
    """spool.meta of another spool, whose checksum holds."""
    forge = make(folder, "meta")
    write(key, forge.key_text().encode())
    meta = b"TFSPL\r\n\x1a\1\0" + bytes(6) + os.urandom(16) + bytes(28)
    write(os.path.join(folder, "meta", "spool.meta"), meta + crc(meta))
    found = verify(binary, os.path.join(folder, "meta"), "--seal-key", key)
    need([finding["code"] for finding in found["findings"]] == ["meta-spool"], f"another spool's meta: {found}")
    return 1


def add_large(path, count):
    """Frames of the largest size behind the last one, made without a key: nobody opens them."""
    data = read(path)
    at, size, _ = frames_of(data)[-1]
    seq, chain = int.from_bytes(data[at + 8:at + 16], "little"), bytes(data[at + size - 36:at + size - 4])
    body = bytes(16 << 20)
    body_crc = crc32c(body)
    with open(path, "ab") as file:
        for number in range(seq + 1, seq + 1 + count):
            header = b"TFRM" + spool_forge.struct.pack("<BBHQqqII12sQ", DATA, 1, 0, number, spool_forge.BASE_NS,
                                                       spool_forge.BASE_NS, 1, len(body), bytes(12), seq)
            leaf = spool_forge.h(b"taffrail/1 leaf\0", data[32:48], header[:52], body)
            chain = spool_forge.h(b"taffrail/1 chain\0", chain, leaf, header[52:60])
            file.write(header + crc(header) + body + chain)
            file.write(spool_forge.struct.pack("<I", crc32c(chain, body_crc)))


def check_seals_end(binary, folder, _):
    """No agent writes so much behind its last seal: who can make no seal goes on without."""
    make(folder, "seals-end")
    base = os.path.join(folder, "seals-end")
    os.unlink(base + ".key")
    newest = os.path.join(base, f"{4:020d}.seg")
    add_large(newest, 5)
    found = verify(binary, base)
    need(found["verdict"] == "intact", f"80 MiB behind the last seal: {found}")
    add_large(newest, 1)
    found = verify(binary, base)
    need([finding["code"] for finding in found["findings"]] == ["seals-end"], f"96 MiB behind the last seal: {found}")
    shutil.rmtree(base)
    return 2


def swap_slots(corpus, spool, no):
    first, second = read(corpus.path(spool, no)), read(corpus.path(spool, no + 1))
    first[512:4096], second[512:4096] = second[512:4096], first[512:4096]
    write(corpus.path(spool, no), first)
    write(corpus.path(spool, no + 1), second)


# ---- seals -------------------------------------------------------------------------------------------


def make(folder, name, **options):
    """Three segments in two runs, sealed; the newest ends with a seal unless `open_end`."""
    forge = Forge()
    forge.is_sealed = options.get("sealed", True)

    def seal(**words):
        if forge.is_sealed:
            forge.seal(**words)
    forge.segment(1, first=True).data().data()
    seal()
    forge.gap().data().index()
    seal(footer=True)
    forge.segment().data().data()
    seal()
    forge.data().index()
    seal(footer=True)
    forge.segment().data().data()
    seal()
    forge.segment(2, first=True).notice(1, 640).data()
    seal()
    forge.data(2)
    if not options.get("open_end"):
        seal()
    forge.write(os.path.join(folder, name))
    return forge


def reseal(forge, known_from, change):
    """What an attacker writes who has the key of seal known_from and all other keys."""
    def edit(spool):
        other = forge.copy()
        change(other)
        for entry in os.listdir(spool):
            os.unlink(os.path.join(spool, entry))
        other.write(spool, known_from)
        if getattr(other, "is_state_kept", True):
            other.write_state(spool, max(other.state["number"], known_from), other.state["mac"], other.state["seq"])
    return edit


def add_seals(corpus, forge):
    """An attacker with every data key, and the seal's key from seal 6 on (the newest but one is 5)."""
    now = forge.state["number"]

    def payload(segment, index):
        def change(other):
            other.segments[segment].frames[index].payload = spool_forge.events(3, 700)
        return change

    def without(segment, index):
        def change(other):
            frames = other.segments[segment].frames
            del frames[index]
        return change

    def numbered(segment, index, number):
        def change(other):
            other.segments[segment].frames[index].number = number
            other.segments[segment].frames[index].mac = None
        return change

    def cut_and_go_on(count, number=None):
        def change(other):
            other.segments = other.segments[:2]
            other.segments[1].frames = other.segments[1].frames[:count]
            other.segment(3, first=True).data().data().seal()
            other.segments[2].frames[-1].number = number
        return change

    mac = "seal-mac|seal-chain|seal-content"
    corpus.add("payload written anew under the seal", reseal(forge, now, payload(0, 1)), "forged", mac, {"segment": 1})
    corpus.add("payload written anew, second segment", reseal(forge, now, payload(1, 1)), "forged", mac, {"segment": 2})
    corpus.add("frame dropped under the seal", reseal(forge, now, without(1, 2)), "forged", mac, {"segment": 2})
    corpus.add("gap frame dropped under the seal", reseal(forge, now, without(0, 4)), "forged", mac, {"segment": 1})
    corpus.add("seal dropped", reseal(forge, now, without(1, 3)), "forged", "seal-number|" + mac)
    corpus.add("seal number skipped", reseal(forge, now, numbered(1, 3, 9)), "forged", "seal-number|" + mac, {"segment": 2})
    corpus.add("seal number doubled", reseal(forge, now, numbered(1, 3, 1)), "forged", "seal-number|" + mac, {"segment": 2})
    for count in (1, 2, 3, 4, 5, 6):
        corpus.add(f"cut after {count} frames, continued with the key that is left",
                   reseal(forge, now, cut_and_go_on(count, now)), "forged", "seal-number|" + mac)
        corpus.add(f"cut after {count} frames, continued with the next number",
                   reseal(forge, now, cut_and_go_on(count)), "forged", mac)

    def all_new(other):
        other.segments = []
        other.segment(1, first=True).data().seal().data().seal()
    corpus.add("all written anew", reseal(forge, now, all_new), "forged", mac + "|seal-number")

    def unsealed(other):
        other.is_sealed = other.is_state_kept = False
        for segment in other.segments:
            segment.flags &= ~1
            segment.frames = [frame for frame in segment.frames if frame.kind not in (SEAL, FOOTER)]

    def unsealed_with_state(other):
        unsealed(other)
        other.is_state_kept = True
    corpus.add("all seals removed, state too", reseal(forge, now, unsealed), "forged", "seals-absent")
    corpus.add("all seals removed, state kept", reseal(forge, now, unsealed_with_state), "cut", "state-ahead")
    add_states(corpus, forge)


def add_states(corpus, forge):
    now, mac, seq = forge.state["number"], forge.state["mac"], forge.state["seq"]

    def state(number=now, key=None, ident=None):
        return lambda spool: forge.write_state(spool, number, mac, seq, key, ident)
    corpus.add("state removed", lambda spool: os.unlink(os.path.join(spool, "seal.state")), "forged", "state-absent")
    corpus.add("state rotten", lambda spool: write(os.path.join(spool, "seal.state"), b"\x55" * 8192), "damaged",
               "state-damaged")
    corpus.add("state before evolving", state(now - 1), "intact", None)
    corpus.add("state put back", state(now - 2), "forged", "state-behind")
    corpus.add("state put back to the first", state(0), "forged", "state-behind")
    corpus.add("state ahead", state(now + 1), "cut", "state-ahead")
    corpus.add("state with another key", state(now, os.urandom(32)), "forged", "state-key")
    corpus.add("state before evolving, with another key", state(now - 1, os.urandom(32)), "forged", "state-key")
    corpus.add("state of another series", state(now, ident=b"another!"), "forged", "state-series")

    def of_another_spool(spool):
        other = forge.copy()
        other.spool_id = os.urandom(16)
        other.write_state(spool, now, mac, seq)
    corpus.add("state of another spool", of_another_spool, "forged", "state-spool")


def add_tails(corpus, forge):
    """The newest segment cut at each frame, and within frames."""
    no = len(forge.segments)
    data = read(corpus.path(corpus.base, no))
    for at, size, _ in frames_of(data)[1:]:
        for keep, what in ((at, "before"), (at + size // 2, "in")):
            corpus.add(f"cut {what} the frame at {at}", lambda spool, keep=keep: os.truncate(corpus.path(spool, no), keep),
                       "cut", "state-ahead", {"frame": frame_before(data, at)})
    corpus.add("newest segment removed", lambda spool: os.unlink(corpus.path(spool, no)), "cut", "state-ahead")


def frame_before(data, at):
    return frame_name(data, [place for place, _, _ in frames_of(data) if place < at][-1])


def declare_void(forge):
    """A new run that builds on a place before the last seal."""
    def edit(spool):
        other = forge.copy()
        kept = other.segments[3].frames
        other.segments[3].frames = kept[:2]
        other.segment(3, first=True).data()
        other.write(spool, forge.state["number"])
        path = os.path.join(spool, f"{4:020d}.seg")
        write(path, read(path) + forge.newest_tail)
        other.write_state(spool, forge.state["number"], forge.state["mac"], forge.state["seq"])
    return edit


# ---- other kinds of spools --------------------------------------------------------------------------------


def check_expired(binary, folder, key):
    """Retained: the first segment expired behind a notice; then what is said of it is altered."""
    forge = Forge()
    forge.segment(1, first=True).data().seal().data().seal(footer=True)
    forge.segment().data().seal(footer=True)
    forge.segment().data()
    last = forge.copy()
    last.write(os.path.join(folder, "measure"))
    forge.notice(2, 1, last_seq(last, 0), 2, b"\x01").seal().data().seal()
    forge.segments[0].is_gone = True
    base = os.path.join(folder, "expired")
    forge.write(base)
    write(key, forge.key_text().encode())
    corpus = Corpus(binary, folder, base, ["--seal-key", key])
    corpus.add("expired, as it should be", lambda spool: None, "gap", "expired", {"segment": 2})
    corpus.add("a second one removed", lambda spool: os.unlink(corpus.path(spool, 2)), "forged", "start-missing",
               {"segment": 3})
    corpus.add("--expect a frame that is kept", lambda spool: None, "gap", "expired", None, ("--expect", "1/7"))
    corpus.add("--expect a frame that expired", lambda spool: None, "cut", "expect", {"frame": "1/2"},
               ("--expect", "1/2"))
    corpus.add("--expect a number between two runs", lambda spool: None, "cut", "expect", {"frame": "1/9000"},
               ("--expect", "1/9000"))
    corpus.add("--expect a frame that never was", lambda spool: None, "cut", "expect", None, ("--expect", "9/9"))

    def shredded(spool):
        other = forge.copy()
        other.segments[1].is_shredded = True
        other.write(spool)
    corpus.add("shredded, and no notice", shredded, "damaged", "slots-empty", {"segment": 2})

    def wrong_number(other):
        for frame in other.segments[2].frames:
            if frame.kind == NOTICE:
                frame.content = frame.content[:32] + (1).to_bytes(8, "little") + frame.content[40:]
    corpus.add("the notice names another seal",
               reseal(forge, 0, wrong_number), "forged", "expire-seal", None)
    return corpus.run()


def check_grown(binary, folder, _):
    """The notice stands in a segment that is made while reading: no alarm, begin again. A witness that is a pipe
    holds the reading up behind the walk."""
    def reading(forge, base, late):
        pipe, kept = base + ".pipe", os.path.join(folder, "late.seg")
        os.mkfifo(pipe)
        os.rename(late, kept)
        with subprocess.Popen([binary, "verify", base, "--json", "--witness", pipe], stdout=subprocess.PIPE) as child:
            with open(pipe, "wb") as file:  # once the child has it open
                os.rename(kept, late)
                file.write(witness_line(forge, 1, flags=1).encode())  # of no number: nothing to compare
            found = json.loads(child.stdout.read())
        need(child.returncode == 1 and found["exit"] == 1, f"grown: exit {child.returncode}: {found}")
        return found
    for name, lead in (("absent", "start-missing"), ("shredded", "slots-empty")):
        forge = Forge()
        forge.is_sealed = False
        forge.segment(1, first=True).data()
        forge.segment().data()
        forge.segment().data()
        last = forge.copy()
        last.write(os.path.join(folder, "measure"))
        notice = (2, 1, last_seq(last, 0), 0, b"\x01")
        forge.segments[0].is_gone, forge.segments[0].is_shredded = name == "absent", name == "shredded"
        base = forge.write(os.path.join(folder, "quiet-" + name))
        need(verify(binary, base)["findings"][0]["code"] == lead, f"{name}, and no notice")
        forge.segment().notice(*notice).data()
        base = forge.write(os.path.join(folder, "grown-" + name))
        found = reading(forge, base, os.path.join(base, f"{4:020d}.seg"))
        codes = [finding["code"] for finding in found["findings"]]
        need(codes == ["expired-while-reading"], f"{name}, the notice came meanwhile: {found}")
        need(verify(binary, base)["exit"] == 0, f"{name}, read again")
    return 6


def last_seq(forge, index):
    """The last number of a segment, as it was written."""
    total = len(forge.segments[index].frames)
    return (forge.segments[index].run << 40) + forge.segments[index].first_n + total - 1


def check_torn(binary, folder, key):
    """What crashes leave is no alarm: torn tails, superseded frames, attempts that came to nothing."""
    forge = make(folder, "torn", open_end=True)
    base = os.path.join(folder, "torn")
    write(key, forge.key_text().encode())
    corpus = Corpus(binary, folder, base, ["--seal-key", key])
    data = read(corpus.path(base, 4))
    at, size, _ = frames_of(data)[-1]
    for keep in (1, 63, 64, 65, size // 2, size - 37, size - 1):
        corpus.add(f"last frame cut to {keep} bytes", lambda spool, keep=keep: os.truncate(corpus.path(spool, 4),
                                                                                           at + keep),
                   "torn tail", "torn-tail", {"segment": 4, "frame": frame_name(data, at), "byte": at})
    corpus.add("zeros behind it", on(4, lambda data: data.extend(bytes(70000))), "intact", None)
    corpus.add("an empty file behind it", lambda spool: write(corpus.path(spool, 5), b""), "intact", None)
    corpus.add("an allocated file behind it", lambda spool: write(corpus.path(spool, 5), bytes(50000)), "intact", None)
    corpus.add("a header without its snapshot behind it",
               lambda spool: write(corpus.path(spool, 5), read(corpus.path(spool, 4))[:512] + bytes(9000)),
               "forged", "segment-name")
    corpus.add("superseded frames in front of a new run", on(3, lambda data: data.extend(data[-300:])), "torn tail",
               "superseded", {"segment": 3})
    corpus.add("the newest header rots", on(4, flip(20)), "damaged", "header")
    return corpus.run()


def check_nothing(binary, folder, key):
    """No segment is not intact: a spool that was emptied looks like one in which nothing was written. Only
    seal.state, by its key, can tell a new one."""
    base = os.path.join(folder, "nothing")
    forge = make(folder, "nothing", sealed=False)
    write(key, forge.key_text().encode())

    def lead(what, verdict, code, exit_code, *options):
        found = verify(binary, base, *options)
        need((found["verdict"], found["exit"]) == (verdict, exit_code), f"{what}: {found}")
        need(found["findings"][0]["code"] == code and found["proved"] == [], f"{what}: {found}")
        shown = subprocess.run([binary, "verify", base, *options], capture_output=True, check=False).stdout.decode()
        need("intact" not in shown and "consistent" not in shown, f"{what}: {shown}")
    for name in os.listdir(base):
        if name.endswith(".seg"):
            os.unlink(os.path.join(base, name))
    lead("emptied, never sealed", "nothing here", "nothing", 1)
    write(os.path.join(base, f"{1:020d}.seg"), bytes(50000))
    lead("a file that is allocated only", "nothing here", "nothing", 1)
    os.unlink(os.path.join(base, f"{1:020d}.seg"))
    lead("and a key, but no state", "forged", "seals-absent", 1, "--seal-key", key)
    forge.write_state(base, 0, bytes(32), 1 << 40)
    lead("new, no key given", "nothing here", "nothing", 1)
    lead("new", "nothing here yet", "nothing-yet", 0, "--seal-key", key)
    lead("new, and a frame is expected", "cut", "expect", 1, "--seal-key", key, "--expect", "1/1")
    forge.write_state(base, 0, bytes(32), 3 << 40)
    lead("sealed in mid-life, then emptied", "nothing here", "nothing", 1, "--seal-key", key)
    forge.write_state(base, 0, bytes(32), 1 << 40, os.urandom(32))
    lead("a state that was made up", "forged", "seals-absent", 1, "--seal-key", key)
    forge.write_state(base, 1, bytes(32), 1 << 40)
    lead("a seal was made", "cut", "state-ahead", 1, "--seal-key", key)
    return 9


def drop_override():
    """For root: file modes count, from the next exec on."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def check_unreadable(binary, folder, key):
    """A file that may not be opened is no finding: exit 3, with its name and why."""
    forge = make(folder, "unreadable")
    base = os.path.join(folder, "unreadable")
    write(key, forge.key_text().encode())
    for name in ("seal.state", "spool.meta"):
        os.chmod(os.path.join(base, name), 0)
        for options in ((), ("--seal-key", key)):
            done = subprocess.run([binary, "verify", base, *options], capture_output=True, check=False,
                                  preexec_fn=drop_override)
            text = done.stderr.decode()
            need(done.returncode == 3 and done.stdout == b"", f"{name} of mode 0: {done.returncode}: {done.stdout}{text}")
            need(f'{name}": cannot be read: permission denied' in text, f"{name} of mode 0: {text}")
        os.chmod(os.path.join(base, name), 0o600)
    need(verify(binary, base, "--seal-key", key)["verdict"] == "intact", "and readable again")
    return 5


def check_report(binary, folder, key):
    """What is damaged is not said to be proved; seventy small findings do not hide the one that counts."""
    forge = make(folder, "report")
    base = os.path.join(folder, "report")
    write(key, forge.key_text().encode())
    on(1, flip(frames_of(read(os.path.join(base, f"{1:020d}.seg")))[1][0] + 70))(base)
    found = verify(binary, base, "--seal-key", key)
    need("but for what is damaged" in found["proved"][0], f"a proof over what rots: {found}")
    text = found["findings"][0]["text"]
    need(" bytes, 1 frame: a checksum does not hold" in text, f"one frame that rots: {text}")
    forge.write(base)
    on(1, drop(1), fix_chain)(base)
    text = verify(binary, base)["findings"][0]["text"]
    need(text == "1 frame missing before it, and no bytes in place of it", f"one frame dropped: {text}")
    forge.write(base)
    on(1, drop(1), drop(1), fix_chain)(base)
    text = verify(binary, base)["findings"][0]["text"]
    need(text == "2 frames missing before it, and no bytes in place of them", f"two frames dropped: {text}")
    forge.write(base)
    on(1, flip(frames_of(read(os.path.join(base, f"{1:020d}.seg")))[1][0] + 70))(base)
    os.unlink(base + ".key")
    need(verify(binary, base)["proved"] == [], "what is damaged is not consistent")
    forge = Forge()
    for run in range(1, 72):
        forge.segment(run, first=True).data()
        forge.segments[-1].tail = b"torn"
    base = forge.write(os.path.join(folder, "many"))
    at, size, _ = frames_of(read(os.path.join(base, f"{71:020d}.seg")))[1]
    on(71, flip(at + size - 36), lambda data: fix_frame(data, at, size))(base)
    found = verify(binary, base)
    need(found["findings"][0]["code"] == "chain" and found["findings_dropped"] > 0, f"many findings: {found}")
    return 4


def check_payload(binary, folder, key):
    """What only the key's holder can write wrongly: a payload that is not one gzip of the events that are told."""
    three = spool_forge.events(3)
    for what, payload, code in (("as it should be", three, None), ("two events of three", spool_forge.events(2), "payload"),
                                ("two gzips", spool_forge.events(1) + spool_forge.events(2, 1), "payload"),
                                ("bytes behind it", three + b"\0", "payload"), ("cut", three[:-1], "payload"),
                                ("no gzip", b"events", "payload"), ("none", b"", "payload")):
        forge = make(folder, "payload")
        forge.segments[1].frames[1].payload = payload
        base = forge.write(os.path.join(folder, "payload"))
        write(key, forge.key_text().encode())
        found = [finding["code"] for finding in verify(binary, base, "--seal-key", key)["findings"]]
        need(found == ([] if code is None else [code]), f"a payload, {what}: {found}")
    return 7


def check_renewed(binary, folder, key):
    """A lost state and a new series: proved with both keys, forged with one."""
    forge, k0 = make(folder, "before-renewed"), os.urandom(32)
    forge.segment(3, first=True).notice(6, (3 << 40) | 3, ident=forge.seal_id(k0)).data().seal().data().seal()
    forge.segments[-1].k0 = k0
    base, second = forge.write(os.path.join(folder, "renewed")), key + ".second"
    write(key, forge.key_text().encode())
    write(second, forge.key_text(k0).encode())
    found = verify(binary, base, "--seal-key", key, "--seal-key", second)
    need(found["verdict"] == "intact" and found["seal_proves_to"] == found["last"], f"both keys: {found}")
    found = verify(binary, base, "--seal-key", key)
    need(found["findings"][0]["code"] == "seal-renewed", f"the first key alone: {found}")
    need(verify(binary, base)["exit"] == 0, "no key")
    forge.segments[-1].frames[1].content = forge.segments[-1].frames[1].content[:32] + bytes(40)
    forge.write(base)
    found = verify(binary, base, "--seal-key", key, "--seal-key", second)
    need(found["findings"][0]["code"] == "seal-series", f"a series that no notice began: {found}")
    found = verify(binary, renewed_behind_expired(folder, k0, second), "--seal-key", second)
    need([finding["code"] for finding in found["findings"]] == ["expired"], f"the old series expired: {found}")
    return 5


def renewed_behind_expired(folder, k0, key):
    """All sealed segments expire while sealing is off; the notice names the next seal, but a new series begins."""
    forge = Forge()
    forge.segment(1, first=True).data().seal().data().seal(footer=True)
    forge.segment().data()
    last = forge.copy()
    last.write(os.path.join(folder, "measure-renewed"))
    forge.notice(2, 1, last_seq(last, 0), 2, b"\x01")
    forge.segment(2, first=True).notice(6, (2 << 40) | 2, ident=forge.seal_id(k0)).data().seal()
    forge.segments[-1].k0 = k0
    forge.segments[0].is_gone = True
    base = forge.write(os.path.join(folder, "renewed-behind-expired"))
    write(key, forge.key_text(k0).encode())
    return base


def check_lineage(binary, folder, key):
    """A new lineage: seals and chain run on under another spool id; the fork that caused it is told."""
    forge = make(folder, "before-fork")
    forge.segment(3, first=True).data().seal()
    forge.segments[-1].flags |= 8
    forge.segments[-1].spool_id = os.urandom(16)
    base = forge.write(os.path.join(folder, "lineage"))
    write(key, forge.key_text().encode())
    found = verify(binary, base, "--seal-key", key)
    need(found["verdict"] == "intact" and found["segments"] == 5, f"a new lineage: {found}")
    meta = b"TFSPL\r\n\x1a\1\0" + bytes(6) + forge.spool_id + bytes(28)  # a crash before it follows
    write(os.path.join(base, "spool.meta"), meta + crc(meta))
    found = verify(binary, base, "--seal-key", key)
    need(found["verdict"] == "intact" and found["segments"] == 5, f"spool.meta of the lineage before: {found}")
    sealed = forge.segments[-1].frames.pop()
    forge.write(base)
    number, mac, seq = forge.state["number"], forge.state["mac"], forge.state["seq"]
    own, forge.segments[-1].spool_id = forge.segments[-1].spool_id, None
    forge.write_state(base, number, mac, seq)  # no seal yet in the new one
    forge.segments[-1].spool_id = own
    found = verify(binary, base, "--seal-key", key)
    need(found["verdict"] == "intact", f"seal.state of the lineage before: {found}")
    forge.segments[-1].frames.append(sealed)
    unsealed = forge.segments[-1].frames.pop()
    forge.write(base)
    found = verify(binary, base, "--seal-key", key)
    need(found["verdict"] == "intact", f"a new lineage before its first seal: {found}")
    forge.segments[-1].frames.append(unsealed)
    forge.write(base)
    meta = b"TFSPL\r\n\x1a\1\0" + bytes(6) + forge.spool_id + bytes(28)
    write(os.path.join(base, "spool.meta"), meta + crc(meta))
    found = verify(binary, base, "--seal-key", key)
    need(found["verdict"] == "intact", f"a crash before spool.meta followed: {found}")
    forge.segments[-1].frames.insert(1, Frame(NOTICE, content=spool_forge.struct.pack(
        "<H6xqQQQ32s", 4, 1, 9 << 40 | 1, 2 << 40 | 6, 0, bytes(32))))
    forge.write(base)
    need(verify(binary, base, "--seal-key", key)["findings"][0]["code"] == "fork-notice", "the notice of a fork")
    del forge.segments[-1].frames[1]
    forge.segments[-1].flags &= ~8
    forge.write(base)
    found = verify(binary, base, "--seal-key", key)
    need(found["verdict"] == "forged", f"another spool id without a new lineage: {found}")
    return 5


def check_receipts(binary, folder, key):
    """Receipts in seals: the right one, a false signature, another chain, one from the future."""
    forge = make(folder, "receipts")
    write(key, forge.key_text().encode())
    seq = (1 << 40) | 3
    pem = os.path.join(folder, "receipt.pem")
    public = forge.receipt_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    write(pem, forge.receipt_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    sound = forge.receipt(seq)
    flipped = bytearray(sound)
    flipped[150] ^= 1
    cases = [("sound", sound, "intact", None), ("false signature", bytes(flipped), "forged", "receipt-signature"),
             ("another chain", forge.receipt(seq, os.urandom(32)), "forked", "receipt-chain"),
             ("a frame that is yet to come", forge.receipt(9 << 40 | 1, os.urandom(32)), "forged", "receipt"),
             ("a number between runs", forge.receipt((1 << 40) | 9000, os.urandom(32)), "forked", "receipt-chain")]
    for name, receipt, verdict, code in cases:
        for known in (True, False):
            other = forge.copy()
            seals = [frame for segment in other.segments for frame in segment.frames if frame.kind == SEAL]
            seals[-1].receipts = [receipt]
            if not known:  # the spool itself says whose key it is
                other.segments[3].frames.insert(1, Frame(NOTICE, content=spool_forge.struct.pack(
                    "<H6xqQQQ32s", 7, 1, 0, 0, 0, public)))
            for frame in (frame for segment in other.segments for frame in segment.frames):
                frame.mac = None
            spool = os.path.join(folder, "receipt-case")
            other.write(spool)
            found = verify(binary, spool, "--seal-key", key, *(("--receipt-key", pem) if known else ()))
            need(found["verdict"] == verdict, f"receipt, {name}: {found}")
            need(code is None or found["findings"][0]["code"] == code, f"receipt, {name}: {found}")
            need(verdict != "intact" or found["receipt_to"] == "1/3", f"receipt, {name}: {found}")
            if verdict == "intact" and not known:  # and a key that is given is another's
                stranger = Ed25519PrivateKey.generate().public_key()
                write(pem + ".other", stranger.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
                found = verify(binary, spool, "--seal-key", key, "--receipt-key", pem + ".other")
                need("receipt_to" not in found and found["receipts_checked"] == 0, f"the spool's own key: {found}")
            shutil.rmtree(spool)
    return 2 * len(cases) + 1


def key_of(forge):
    return forge.receipt_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def check_receipt_words(binary, folder, key):
    """Each receipt is told once: as proof, as forged, as one without a key, or as one that was not followed."""
    def shown(forge):
        spool = forge.write(os.path.join(folder, "receipt-words"))
        write(key, forge.key_text().encode())
        found = verify(binary, spool, "--seal-key", key)
        shutil.rmtree(spool)
        return found, " ".join(found["not_proved"])

    def with_receipts(*places):
        forge = make(folder, "receipt-words")
        seals = [frame for segment in forge.segments for frame in segment.frames if frame.kind in (SEAL, FOOTER)]
        receipt = forge.receipt((1 << 40) | 3)
        for place in places:
            seals[place].receipts = [receipt]
        for seal in seals:
            seal.mac = None
        return forge
    found, words = shown(with_receipts(1))
    need("1 receipt: no key for it" in words and found["receipts_unkeyed"] == 1, f"no key: {found}")
    found, words = shown(with_receipts(1, 2))
    need("2 receipts: no key for them" in words, f"no key for two: {found}")
    forge = with_receipts(1, -1)
    forge.notice(7, ident=key_of(forge))
    found, words = shown(forge)
    need(found["receipts_checked"] == 2 and "receipt" not in words, f"the key comes behind the first: {found}")
    false = bytearray(forge.receipt((1 << 40) | 3))
    false[150] ^= 1
    forge.seal(receipts=[bytes(false)])
    found, words = shown(forge)
    need(found["findings"][0]["code"] == "receipt-signature" and "no key" not in words, f"a false one: {found}")
    forge = Forge()
    forge.segment(1, first=True).notice(7, ident=key_of(forge))
    for _ in range(3000):
        forge.data(1)
    forge.write(os.path.join(folder, "receipt-words"))
    there_and_back = [forge.receipt(1 << 40 | 3), forge.receipt(1 << 40 | 2990)] * 4
    for _ in range(500):
        forge.data(1).seal(receipts=there_and_back)
    found, words = shown(forge)
    need(0 < found["receipts_checked"] < found["receipts"] == 4000, f"too far: {found}")
    need("receipts: the frames that receipts name jump to and fro" in words and "no key" not in words, f"too far: {found}")
    return 5


def witness_line(forge, seq, chain=None, digest=None, flags=0):
    """What a collector recorded of a frame, as it was written unless said."""
    return json.dumps({"identity": "spiffe://demo/node/1", "spool": forge.spool_id.hex(),
                       "seq": f"{seq >> 40}/{seq & (1 << 40) - 1}", "prev": "0/0",
                       "chain": (chain or forge.chains.get(seq) or os.urandom(32)).hex(),
                       "d": (digest or forge.digests.get(seq) or os.urandom(32)).hex(),
                       "received": "2026-11-23T10:14:44.000000000Z", "flags": flags}) + "\n"


def check_witness(binary, folder, key):
    """A collector's record: the same, another, beyond the end, of what is gone."""
    forge = make(folder, "witness")
    base = os.path.join(folder, "witness")
    write(key, forge.key_text().encode())
    sent = [segment.run << 40 | segment.first_n + index for segment in forge.segments
            for index, frame in enumerate(segment.frames) if frame.kind in (DATA, GAP)]

    def line(*words, **more):
        return witness_line(forge, *words, **more)
    lines = [line(seq) for seq in sent]
    beyond, lines_to = sent[-1] + 50, f"{sent[-1] >> 40}/{sent[-1] & 0xffffffff}"
    cases = [("the same", lines, "intact", None, lines_to),
             ("backwards", lines[::-1], "intact", None, lines_to),
             ("another chain", lines + [line(sent[2], os.urandom(32))], "forked", "witness-chain", None),
             ("another payload", lines + [line(sent[2], None, os.urandom(32))], "forked", "witness-content", None),
             ("a frame that is not here", lines + [line(sent[0] + 9000)], "forked", "witness-frame", None),
             ("beyond the end", lines + [line(beyond), line(beyond + 1)], "cut", "witness-beyond", None),
             ("a gap of no number", lines + [line(beyond, flags=1)], "intact", None, None),
             ("replayed", lines + [line(beyond, flags=2)], "intact", None, None)]
    path = os.path.join(folder, "witness.ndjson")
    for name, content, verdict, code, reach in cases:
        write(path, "".join(content).encode())
        found = verify(binary, base, "--seal-key", key, "--witness", path)
        need(found["verdict"] == verdict, f"witness, {name}: {found}")
        need(code is None or found["findings"][0]["code"] == code, f"witness, {name}: {found}")
        need(reach is None or found["witness_to"] == reach, f"witness, {name}: {found}")
    write(path, "".join(lines).encode())  # what rots was no other history
    at, size, _ = frames_of(read(os.path.join(base, f"{1:020d}.seg")))[1]
    for spot in (at + 20, at + 70, at + size - 36):
        forge.write(base)
        on(1, flip(spot))(base)
        found = verify(binary, base, "--seal-key", key, "--witness", path)
        need(found["verdict"] == "damaged" and found["witness_to"] == lines_to, f"a witness, and rot at {spot}: {found}")
    forge.write(base)
    on(2, flip(20))(base)
    found = verify(binary, base, "--seal-key", key, "--witness", path)
    need(found["verdict"] == "damaged" and found["witness_to"] == lines_to, f"a witness, and a header that rots: {found}")
    forge.write(base)
    for bad in (b"{}\n", b"not json\n", line(5).encode()[:-1], b"{" * 9000 + b"\n"):
        write(path, bad)
        done = subprocess.run([binary, "verify", base, "--witness", path], capture_output=True, check=False)
        need(done.returncode == 2, f"a malformed witness: exit {done.returncode}")
    return len(cases) + 8


def check_witness_order(binary, folder, key):
    """Numbers that go to and fro are followed up to a bound, and then it is said; damage costs no part of it."""
    forge = Forge()
    forge.is_sealed = False
    forge.segment(1, first=True)
    for _ in range(3000):
        forge.data(1)
    base = forge.write(os.path.join(folder, "order"))

    def line(n):
        return witness_line(forge, 1 << 40 | n)

    def run(lines):
        write(key, "".join(lines).encode())
        return subprocess.run([binary, "verify", base, "--json", "--witness", key], capture_output=True, check=False)
    there, back = line(3001), line(2)
    done = run([there, back] * 500 + [line(seq) for seq in range(3001, 1, -1)])
    need(done.returncode == 0 and json.loads(done.stdout)["witness_compared"] == 4000, f"to and fro: {done}")
    done = run([there, back] * 3000)
    need(done.returncode == 2 and f"{key}:".encode() in done.stderr and b"jump to and fro" in done.stderr,
         f"too far, with its line: {done}")
    path = os.path.join(base, f"{1:020d}.seg")
    data = read(path)
    at, end = frames_of(data)[20][0], frames_of(data)[-2][0]
    data[at:end] = os.urandom(end - at)  # each name there is in one hole
    write(path, data)
    done = run([line(seq) for seq in range(2, 3002)])
    need(done.returncode == 1 and json.loads(done.stdout)["verdict"] == "damaged", f"rot is no jump: {done}")
    return 3


# ---- the agent's own spools -----------------------------------------------------------------------------


def seal_spool(house, spool):
    """The first key of a spool's seals, as a file outside it."""
    shown = house.run("pki", "seal", spool).stdout.decode()
    text = next(line.strip() for line in shown.splitlines() if line.strip().startswith("TFS1-"))
    return house.write("seal.key", text + "\n")


def make_agent_spool(house, name):
    """Four segments in four runs, by the agent, killed twice; sealed from the second run on."""
    house.configure_agent(spool=", segment_size: 1MiB, sync: always")
    file = CriFile(house, "shop", "pay-0", "11111111")
    spool = house.path("agent/spool")
    for run in range(4):
        if run == 1:
            seal_spool(house, spool)
        agent = house.start("agent")
        for burst in range(3):
            before = newest_frames(spool)
            file.write([f"{run} {burst} {number} " + os.urandom(30).hex() for number in range(60)])
            wait_until(lambda before=before: newest_frames(spool) > before, 10, agent.tail)
        if run < 2:
            agent.kill()
        else:
            need(agent.stop() == 0, agent.tail())
    file.close()
    shutil.copytree(spool, house.path(name))
    shutil.copy(spool + ".key", house.path(name + ".key"))
    return house.path(name)


def newest_frames(spool):
    return len(frames_of(read(os.path.join(spool, f"{max(segments_of(spool)):020d}.seg"))))


def segments_of(spool):
    return sorted(int(name[:20]) for name in os.listdir(spool) if name.endswith(".seg"))


def check_agent(binary, folder):
    with House(binary) as house:
        house.make_pki()
        base, foreign = make_agent_spool(house, "one"), os.path.join(folder, "unsealed-foreign")
        make(folder, "unsealed-foreign", sealed=False)
        key = house.path("seal.key")
        found = verify(binary, base, "--seal-key", key)
        need(found["exit"] == 0 and found["segments"] == 4 and found["seals"] >= 3, f"the agent's own spool: {found}")
        need(found["seal_proves_to"] == found["last"], f"an agent that stops seals its end: {found}")
        corpus = Corpus(binary, folder, base, ["--seal-key", key])
        add_places(corpus, 2, foreign)
        add_sector(corpus, 2)
        for no in (2, 4):
            add_frames(corpus, no, no == 4)
        newest = corpus.path(base, 4)
        for at, _, _ in frames_of(read(newest))[1:]:
            corpus.add(f"the agent's end cut at {at}", lambda spool, at=at: os.truncate(corpus.path(spool, 4), at),
                       "cut", "state-ahead")
        count = corpus.run()
        check_single(binary, corpus.path(base, 2), house.path("one.key"), key)
        shutil.rmtree(house.path("agent/spool"))
        os.unlink(house.path("agent/spool.key"))
        check_live(house)
        return count


def check_single(binary, segment, data_key, seal_key):
    """One segment by itself: its content, and its own seals."""
    found = verify(binary, segment, "--key", data_key, "--seal-key", seal_key)
    need(found["verdict"] == "intact" and found["segments_opened"] == 1, f"one segment: {found}")


def check_live(house):
    """Verified while it is written to, seals, rolls and expires: never an alarm. Then its collector's record."""
    collector_yaml = house.configure_collector(spool=", retain: {size: 1GiB}")
    house.start("collector")
    house.configure_agent(spool=", segment_size: 1MiB, sync: 20ms, retain: {size: 2MiB}")
    spool = house.path("agent/spool")
    key = seal_spool(house, spool)
    file = CriFile(house, "shop", "live-0", "22222222")
    agent = house.start("agent")
    seen, end, number = {}, time.monotonic() + 6, 0
    while time.monotonic() < end:
        file.write([f"{number} {line} " + os.urandom(2000).hex() for line in range(100)])
        number += 1
        found = verify(house.binary, spool, "--seal-key", key)
        codes = {finding["code"] for finding in found["findings"]}
        need(codes <= LIVE_CODES, f"a live spool: {found}")
        for code in codes or {"none"}:
            seen[code] = seen.get(code, 0) + 1
    wait_until(lambda: house.stored_lines() >= 100 * number, 60, agent.tail)  # the collector knows all frames
    need(agent.stop() == 0, agent.tail())
    print(f"live: {number} times verified, {seen}")
    check_collector(house, spool, key, collector_yaml)


def check_collector(house, spool, key, collector_yaml):
    """What the collector recorded, exported while it runs, is what the agent has."""
    agent_id = verify(house.binary, spool)["spool"]
    done = house.run("verify", "--receipts", agent_id[:8], house.path("collector/spool"), "-c", collector_yaml)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    need(lines and all(line["spool"] == agent_id for line in lines), f"{len(lines)} records: {done.stderr}")
    need(lines[0]["identity"] == "spiffe://demo/node/node-1", f"{lines[0]}")
    path = house.path("receipts.ndjson")
    write(path, done.stdout)
    found = verify(house.binary, spool, "--seal-key", key, "--witness", path)
    need(found["exit"] == 0 and found["witness_compared"] > 0 and found["witness_digests"] > 0, f"witness: {found}")
    segments = segments_of(spool)
    data = read(os.path.join(spool, f"{segments[-1]:020d}.seg"))
    sent = [frame for frame in frames_of(data) if frame[2] == DATA]
    if sent:  # cut, and the state with it: only the witness tells
        os.truncate(os.path.join(spool, f"{segments[-1]:020d}.seg"), sent[-1][0])
        found = verify(house.binary, spool, "--witness", path)
        need(found["verdict"] == "cut", f"a cut that only a witness sees: {found}")


LIVE_CODES = {"torn-tail", "superseded", "expired", "expired-while-reading"}


def main(binary):
    began = time.monotonic()
    binary = os.path.abspath(binary)
    count = 0
    with tempfile.TemporaryDirectory(prefix="taffrail-test-") as folder:
        key = os.path.join(folder, "seal.key")
        forge = make(folder, "sealed")
        base = os.path.join(folder, "sealed")
        write(key, forge.key_text().encode())
        data = read(os.path.join(base, f"{4:020d}.seg"))
        forge.newest_tail = bytes(data[frames_of(data)[2][0]:])
        make(folder, "foreign")
        corpus = Corpus(binary, folder, base, ["--seal-key", key])
        corpus.add("as it is", lambda spool: None, "intact", None)
        for no in (1, 2, 4):
            add_frames(corpus, no, no == 4)
        add_places(corpus, 2, os.path.join(folder, "foreign"))
        add_sector(corpus, 2)
        add_seals(corpus, forge)
        add_tails(corpus, forge)
        corpus.add("sealed frames declared void", declare_void(forge), "forged", "sealed-void", {"segment": 4})
        count += corpus.run()
        for check in (check_header, check_meta_spool, check_seals_end, check_expired, check_grown, check_torn,
                      check_nothing, check_unreadable, check_report, check_payload, check_renewed, check_lineage, check_receipts,
                      check_receipt_words, check_witness, check_witness_order):
            count += check(binary, folder, os.path.join(folder, f"{check.__name__}.key"))
        count += check_agent(binary, folder)
    print(f"{count} altered spools: each caught and named, in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
