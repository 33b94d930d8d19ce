#!/usr/bin/python3
"""read_segment.py [--seal-key FILE] SPOOL [KEYFILE] - decrypts a spool by docs/spool-format.md alone.

Shares no code with the agent: when both agree, the page is right. Checks CRC, chain, nonce, D and
dek_id of all that counts, contents of notices, indexes and seals, with a verification key the MACs of
the seals and seal.state too; prints each event as a line of JSON, and what is torn or damaged on
stderr, at the end how many seals and up to which frame. Exit 0: all sound (a torn tail is no damage), 1: damage, 2: usage.
KEYFILE is a key of spool.keys, or the private key of spool.auditor. Needs python3-cryptography and python3-msgpack.
"""

import base64
import gzip
import hashlib
import hmac
import json
import os
import re
import struct
import sys

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

HEADER = 4096
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
TYPES = {1: "data", 2: "positions", 3: "gap", 4: "seal", 5: "footer", 6: "notice", 7: "index"}


class Bad(Exception):
    """What was read is not what the page says."""


def crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC = crc_table()


def crc32c(data, before=0):
    """Of data behind what has the checksum `before`."""
    crc = before ^ 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def h(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def expand(key, info):
    return HKDFExpand(algorithm=hashes.SHA256(), length=32, info=info).derive(key)


def need(condition, text):
    if not condition:
        raise Bad(text)


def read_key(path):
    """A KEK, or an auditor's private key."""
    with open(path, "rb") as file:
        line = file.read().rstrip(b"\r\n")
    if line.startswith(b"-----BEGIN "):
        key = load_pem_private_key(line, None)
        need(isinstance(key, X25519PrivateKey), "not an X25519 key")
        return key
    need(line.startswith(b"taffrail-kek-1:"), "not a key file")
    key = base64.b64decode(line[15:], validate=True)
    need(len(key) == 32, "a key has 32 bytes")
    return key


def hpke_open(key, enc, info, sealed):
    """RFC 9180, base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; one message, no AAD."""
    def extract(suite, salt, label, ikm):
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")

    def stretch(suite, prk, label, context, size):
        info = struct.pack(">H", size) + b"HPKE-v1" + suite + label + context
        return HKDFExpand(algorithm=hashes.SHA256(), length=size, info=info).derive(prk)

    kem, suite = b"KEM\0\x20", b"HPKE\0\x20\0\1\0\2"
    ours = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    prk = extract(kem, b"", b"eae_prk", key.exchange(X25519PublicKey.from_public_bytes(enc)))
    shared = stretch(kem, prk, b"shared_secret", enc + ours, 32)
    context = b"\0" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
    secret = extract(suite, shared, b"secret", b"")
    nonce = stretch(suite, secret, b"base_nonce", context, 12)
    return AESGCM(stretch(suite, secret, b"key", context, 32)).decrypt(nonce, sealed, None)


def read_spool_id(spool):
    with open(os.path.join(spool, "spool.meta"), "rb") as file:
        data = file.read()
    need(len(data) == 64 and data[:8] == b"TFSPL\r\n\x1a", "spool.meta: magic")
    need(struct.unpack_from("<I", data, 60)[0] == crc32c(data[:60]), "spool.meta: CRC")
    need(data[8:16] == b"\1" + bytes(7) and not any(data[32:60]), "spool.meta: zero fields")
    return data[16:32]


def read_seal_key(path):
    """Spool id and K_0 out of the text of a verification key."""
    with open(path, "r", encoding="ascii") as file:
        letters = re.sub(r"[\s-]", "", file.read()).upper().translate(str.maketrans("OIL", "011"))
    need(letters.startswith("TFS1") and len(letters) == 88, "not a verification key")
    number = 0
    for letter in letters[4:]:
        need(letter in CROCKFORD, "not a verification key")
        number = number << 5 | CROCKFORD.index(letter)
    need(number & 15 == 0, "padding of the verification key")
    data = (number >> 4).to_bytes(52, "big")
    need(h(data[:48])[:4] == data[48:], "check of the verification key")
    return data[:16], data[16:48]


class Seals:
    """Seals in order; checks each against the frames before it."""

    def __init__(self, key):
        self.key = key  # spool id, K_0; or None
        self.current = key[1] if key else None
        self.id = expand(key[1], b"taffrail/1 seal id\0")[:8] if key else None
        self.number, self.mac, self.sealed = None, bytes(32), 0
        self.count = 0
        self.spool_id = key[0] if key else None  # of the lineage that the newest seal is in
        self.frames = []  # since the last seal: seq, is it a gap, times or None

    def add(self, segment, frame, events, before):
        """events and chain (before): up to this frame. Raises Bad."""
        if frame["type"] not in ("seal", "footer"):
            times = frame["times"] if frame["type"] in ("data", "gap") and frame["events"] else None
            self.frames.append((frame["seq"], frame["type"] == "gap", times))
            return
        covered, self.frames = self.frames, []
        content = frame["content"]
        need(len(content) >= 160, "size of a seal")
        number, seal_id, first, last, chain, total, gaps, receipts, low, high, prev = struct.unpack_from(
            "<Q8sQQ32sQIIqq32s", content)
        if self.key and seal_id != self.id and self.count == 0:
            return  # of an older series, which another key checks
        need(receipts <= 8 and len(content) == 160 + 192 * receipts, "receipts of a seal")
        need(covered, "a seal over nothing")
        if self.number is None or (number == 0 and self.key is None):
            need(number == 0 or self.key is None, "the first seal is not number 0")
            covered = [entry for entry in covered if entry[0] >= first]  # it may begin in mid-life
            self.mac = bytes(32) if number == 0 else prev
        else:
            need(number == self.number + 1, "number of a seal")
        need(covered and first == covered[0][0], "from_seq")
        self.number = number
        times = [entry[2] for entry in covered if entry[2]]
        times = (min(t[0] for t in times), max(t[1] for t in times)) if times else (0, 0)
        need(prev == self.mac, "the MAC of the seal before it")
        need((last, chain, total) == (frame["seq"] - 1, before, events), "to_seq, C or events of a seal")
        need((gaps, (low, high)) == (sum(entry[1] for entry in covered), times), "gaps or times of a seal")
        if self.key:
            need(seal_id == self.id, "a seal of another series")
            mac_key = expand(self.current, b"taffrail/1 seal mac\0")
            signed = b"taffrail/1 seal\0" + segment.spool_id + segment.id + frame["head"][:40] + content[:-32]
            need(hmac.new(mac_key, signed, hashlib.sha256).digest() == content[-32:], "MAC: forged")
            self.current = expand(self.current, b"taffrail/1 seal next\0")
        self.mac, self.sealed, self.spool_id = content[-32:], frame["seq"], segment.spool_id
        self.count += 1

    def check_state(self, spool):
        """seal.state: one past the newest seal, one key alone."""
        with open(os.path.join(spool, "seal.state"), "rb") as file:
            data = file.read()
        need(len(data) == 8192, "size of seal.state")
        slots = [data[at:at + 120] for at in (0, 4096) if any(data[at:at + 120])]
        need(not any(data[120:4096]) and not any(data[4216:]), "bytes beside the slots of seal.state")
        need(len(slots) == 1, "seal.state has more than one key, or none")
        slot = slots[0]
        need(slot[:8] == b"TFSS\1\0\0\0" and not any(slot[112:116]), "a slot of seal.state")
        need(struct.unpack_from("<I", slot, 116)[0] == crc32c(slot[:116]), "CRC of seal.state")
        spool_id, seal_id, number, key, mac, sealed = struct.unpack_from("<16s8sQ32s32sQ", slot, 8)
        need(spool_id == self.spool_id and seal_id == self.id, "seal.state is of another series")
        need(number == self.count and key == self.current, "seal.state is not one past the newest seal")
        need(mac == self.mac and (number == 0 or sealed == self.sealed), "seal.state: MAC or seq")


def check_notice(content):
    need(len(content) == 72 and not any(content[2:8]), "size or zero fields of a notice")
    need(1 <= struct.unpack_from("<H", content)[0] <= 7, "kind of a notice")


def check_index(frame, seen, size_min):
    """seen: seq, offset, times or None, events before, of each frame of the segment so far."""
    data, known = frame["pos"], {entry[0]: entry for entry in seen}
    need(len(data) % 40 == 0 and len(data) <= 40 * 1024, "size of an index")
    entries = [struct.unpack_from("<QQqqQ", data, at) for at in range(0, len(data), 40)]
    whole = []
    for i, (seq, offset, low, high, events) in enumerate(entries):
        need(seq in known and known[seq][1] == offset and known[seq][3] == events, "an entry of the index")
        end = entries[i + 1][0] if i + 1 < len(entries) else frame["seq"]
        need(i + 1 == len(entries) or entries[i + 1][1] - offset >= size_min, "stretch of the index")
        times = [entry[2] for entry in seen if seq <= entry[0] < end and entry[2]]
        whole += times
        want = (min(t[0] for t in times), max(t[1] for t in times)) if times else (0, 0)
        need((low, high) == want, "times of the index")
    want = (min(t[0] for t in whole), max(t[1] for t in whole)) if whole else (0, 0)
    need(frame["times"] == want, "times of the index frame")


class Segment:
    def __init__(self, path, number):
        self.path = path
        with open(path, "rb") as file:
            self.data = file.read()
        sector = self.sector = self.data[:512]
        need(len(self.data) >= HEADER and sector[:8] == b"TFSEG\r\n\x1a", "magic")
        need(struct.unpack_from("<I", sector, 508)[0] == crc32c(sector[:508]), "CRC of sector 0")
        version, suite, self.flags = struct.unpack_from("<HHI", sector, 8)
        need((version, suite) == (1, 1) and self.flags < 16, "version, suite or flags")
        self.spool_id, self.id = sector[16:32], sector[32:48]
        self.number, self.first_seq, self.created, self.prev_end = struct.unpack_from("<QQqQ", sector, 64)
        self.prev_id, self.prev_chain, self.dek_id = sector[96:112], sector[112:144], sector[144:176]
        self.prev_spool_id = sector[176:192]
        need(bool(self.flags & 8) == any(self.prev_spool_id), "prev_spool_id, or none")
        self.prev_last_seq, self.events_before = struct.unpack_from("<QQ", sector, 192)
        need(not any(sector[208:508]), "zero fields of sector 0")
        need(self.number == number and self.first_seq > self.prev_last_seq, "numbers of sector 0")
        self.end = len(self.data)
        self.newest = True

    def unwrap(self, key, slot):
        """The DEK; key is a KEK, or an auditor's private key."""
        if isinstance(key, X25519PrivateKey):
            return hpke_open(key, slot[16:48], b"taffrail/1 recipient\0" + h(self.sector), slot[48:96])
        info = b"taffrail/1 kek wrap\0" + self.spool_id + struct.pack("<Q", self.number)
        wrapping = HKDF(algorithm=hashes.SHA256(), length=32, salt=self.id, info=info).derive(key)
        return aes_key_unwrap(wrapping, slot[48:88])

    def open_keys(self, key):
        if isinstance(key, X25519PrivateKey):
            kind, key_id = 2, h(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))[:8]
        else:
            kind, key_id = 1, expand(key, b"taffrail/1 kek id\0")[:8]
        for at in range(512, HEADER, 512):
            slot = self.data[at:at + 512]
            if not any(slot):
                continue
            need(slot[:4] == b"TFKS" and struct.unpack_from("<I", slot, 508)[0] == crc32c(slot[:508]),
                 "key slot")
            need(not any(slot[5:8]) and not any(slot[96:508]), "zero fields of a key slot")
            if slot[4] != kind or slot[8:16] != key_id:
                continue
            try:
                dek = self.unwrap(key, slot)
            except (InvalidUnwrap, InvalidTag):
                raise Bad("the key does not unwrap the DEK") from None
            need(expand(dek, b"taffrail/1 dek id\0" + self.id) == self.dek_id, "dek_id")
            self.ke = expand(dek, b"taffrail/1 frame key\0")
            self.kn = expand(dek, b"taffrail/1 frame nonce\0")
            return
        raise Bad("no slot for this key")

    def frame(self, at, seq, chain):
        """The frame at offset `at`, which must be number seq (None: any) and follow chain (None)."""
        data = self.data
        need(at + 64 <= self.end and data[at:at + 4] == b"TFRM", "no frame")
        head = data[at:at + 64]
        need(struct.unpack_from("<I", head, 60)[0] == crc32c(head[:60]), "CRC of a frame header")
        kind, flags, zero, number, time_min, time_max, events, size = struct.unpack_from("<BBHQqqII", head, 4)
        durable = struct.unpack_from("<Q", head, 52)[0]
        need(kind in TYPES and zero == 0 and 16 <= size <= 16 << 20 and durable < number, "frame header")
        need(seq is None or number == seq, "number")
        body_at, after = at + 64, at + 64 + size + 36
        need(after <= self.end, "cut")
        body, stored = data[body_at:body_at + size], data[body_at + size:after - 4]
        need(struct.unpack_from("<I", data, after - 4)[0] == crc32c(body + stored), "CRC of a body")
        if chain is not None:
            leaf = h(b"taffrail/1 leaf\0", self.id, head[:52], body)
            need(h(b"taffrail/1 chain\0", chain, leaf, head[52:60]) == stored, "chain")
        frame = {"type": TYPES[kind], "seq": number, "flags": flags, "durable": durable, "events": events,
                 "after": after, "chain": stored, "at": at, "head": head, "times": (time_min, time_max)}
        need(bool(flags & 1) != (kind in (4, 5, 6)), "clear, or not")
        frame.update(self.decrypt(head, body, kind) if flags & 1 else self.check_clear(head, body))
        return frame

    def check_clear(self, head, body):
        aad = b"taffrail/1 frame\0" + self.spool_id + self.id + head[:40] + body[:-16]
        need(hmac.new(self.kn, aad, hashlib.sha256).digest()[:12] == head[40:52], "nonce: forged")
        need(AESGCM(self.ke).encrypt(head[40:52], b"", aad) == body[-16:], "GCM tag")
        return {"content": body[:-16]}

    def decrypt(self, head, body, kind):
        aad = b"taffrail/1 frame\0" + self.spool_id + self.id + head[:40]
        try:
            plain = AESGCM(self.ke).decrypt(head[40:52], body, aad)
        except InvalidTag:
            raise Bad("GCM tag") from None
        need(len(plain) >= 4, "plaintext")
        size = struct.unpack_from("<I", plain)[0]
        need(size <= 1 << 20 and 4 + size <= len(plain), "meta length")
        nonce = hmac.new(self.kn, aad + plain[:4 + size], hashlib.sha256).digest()[:12]
        need(nonce == head[40:52], "nonce: forged")
        meta, payload = msgpack.unpackb(plain[4:4 + size], raw=False), plain[4 + size:]
        need(list(meta) == ["tag", "pos", "d"], "keys of meta")
        need(meta["d"] == h(payload), "D: forged")
        need(kind not in (2, 7) or not payload, "payload where none belongs")
        return {"tag": meta["tag"], "pos": meta["pos"], "payload": payload}


def lineages(segments, spool_id):
    """The ids of a spool: each first segment of a new lineage names the one before it."""
    known = {spool_id}
    for segment in segments + segments[::-1]:
        if segment.flags & 8 and known & {segment.spool_id, segment.prev_spool_id}:
            known |= {segment.spool_id, segment.prev_spool_id}
    return known


def accepted(spool, spool_id, say):
    """The segments that count, oldest first, each with its end."""
    found = []
    for name in sorted(os.listdir(spool)):
        if re.fullmatch(r"\d{20}\.seg", name):
            try:
                found.append(Segment(os.path.join(spool, name), int(name[:20])))
            except Bad as bad:  # void, unless a successor misses it
                say(f"{name}: {bad}", True)
    known = lineages(found, spool_id)
    for segment in [segment for segment in found if segment.spool_id not in known]:
        say(f"{os.path.basename(segment.path)}: of another spool", True)
        found.remove(segment)
    chosen = []
    for segment in reversed(found):
        after = chosen[-1] if chosen else None
        if after and segment.first_seq > after.prev_last_seq:
            say(f"{os.path.basename(segment.path)}: void, an attempt that came to nothing")
            continue
        if after and after.prev_id == segment.id:
            segment.end = after.prev_end
        elif after:
            say(f"{os.path.basename(after.path)}: the segment before it is missing")
        segment.newest = after is None
        chosen.append(segment)
    return chosen[::-1]


def next_good(segment, at, seq):
    for hit in re.finditer(b"TFRM", segment.data[at:segment.end]):
        try:
            frame = segment.frame(at + hit.start(), None, None)
            if frame["seq"] > seq:
                return frame, at + hit.start()
        except Bad:
            pass
    return None, 0


def frames(segment, say):
    """Good frames in order; damage is said, a torn tail of the newest segment is no damage."""
    at, seq = HEADER, segment.first_seq
    chain = h(b"taffrail/1 open\0", segment.prev_chain, h(segment.sector))
    name = os.path.basename(segment.path)
    while at < segment.end:
        try:
            frame = segment.frame(at, seq, chain)
        except Bad as bad:
            frame, begin = next_good(segment, at + 1, seq)
            last, probe, probe_at = None, frame, begin
            while probe:  # the highest `durable` behind the damage decides (rot or torn tail)
                last = max(last or 0, probe["durable"])
                probe, probe_at = next_good(segment, probe_at + 1, probe["seq"])
            if frame is None or (segment.newest and last < frame["seq"] - 1):
                if any(segment.data[at:segment.end]):
                    say(f"{name}: torn tail at byte {at}", segment.newest)
                return
            say(f"{name}: damaged at byte {at}: {bad}; on at byte {begin}")
        yield frame
        at, seq, chain = frame["after"], frame["seq"] + 1, frame["chain"]


def fold(state, deltas):
    unpacker = msgpack.Unpacker(raw=False, use_list=True)
    unpacker.feed(deltas)
    for op, key, value in unpacker:
        if op == 1:
            state[key] = value
        elif op == 2:
            state.pop(key, None)
        elif op == 3:
            old = state.get(key)
            state[key] = ((old if isinstance(old, list) else []) + [value])[-64:]


def printable(value):
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, msgpack.ExtType) and value.code == 0 and len(value.data) == 8:
        return "%d.%09d" % struct.unpack(">II", value.data)
    if isinstance(value, dict):
        return {str(key): printable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [printable(entry) for entry in value]
    return value


def print_events(frame):
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False)
    unpacker.feed(gzip.decompress(frame["payload"]))
    for event in unpacker:
        run, n = frame["seq"] >> 40, frame["seq"] & (1 << 40) - 1
        print(json.dumps({"frame": f"{run}/{n}", "type": frame["type"], "tag": frame["tag"],
                          "event": printable(event)}, ensure_ascii=True))


def look_into(frame, segment, seals, seen, total, before):
    """What is beside events and positions: seals, notices, index. Raises Bad."""
    seals.add(segment, frame, total, before)
    if frame["type"] == "notice":
        check_notice(frame["content"])
    elif frame["type"] == "index":
        check_index(frame, seen, 1 << 20)
    times = frame["times"] if frame["type"] in ("data", "gap") and frame["events"] else None
    seen.append((frame["seq"], frame["at"], times, total))


def main(arguments):
    seal_key = None
    if arguments[:1] == ["--seal-key"] and len(arguments) > 1:
        seal_key, arguments = arguments[1], arguments[2:]
    if len(arguments) not in (1, 2):
        print(__doc__, file=sys.stderr)
        return 2
    spool = arguments[0].rstrip("/")
    damage, state, total = [], {}, 0

    def say(text, harmless=False):
        print(text, file=sys.stderr)
        if not harmless:
            damage.append(text)

    try:
        kek = read_key(arguments[1] if len(arguments) == 2 else spool + ".key")
        seals = Seals(read_seal_key(seal_key) if seal_key else None)
        segments = accepted(spool, read_spool_id(spool), say)
        for before, segment in zip([None] + segments, segments):
            segment.open_keys(kek)
            if before and segment.events_before != total:
                say(f"segment {segment.number}: {segment.events_before} events before it, counted {total}")
            total, snapshot = segment.events_before, {}
            in_snapshot = True
            seen, chain = [], h(b"taffrail/1 open\0", segment.prev_chain, h(segment.sector))
            for frame in frames(segment, say):
                try:
                    look_into(frame, segment, seals, seen, total, chain)
                except Bad as bad:
                    say(f"segment {segment.number} at byte {frame['at']}: {bad}")
                chain = frame["chain"]
                in_snapshot = in_snapshot and bool(frame["flags"] & 2)
                if in_snapshot:
                    fold(snapshot, frame["pos"])
                    if frame["flags"] & 4:
                        continue
                    if before and snapshot != state:
                        say(f"segment {segment.number}: snapshot differs from what the one before adds up to")
                    state = snapshot
                    in_snapshot = False
                    continue
                if frame["type"] in ("data", "gap"):
                    total += frame["events"]
                    print_events(frame)
                if frame["type"] != "index":
                    fold(state, frame.get("pos", b""))
        if seal_key:
            seals.check_state(spool)
        print(f"{seals.count} seals, sealed to {seals.sealed >> 40}/{seals.sealed & (1 << 40) - 1}",
              file=sys.stderr)
    except (Bad, OSError) as error:
        say(f"{spool}: {error}")
    print(f"{len(damage)} damages, {total} events", file=sys.stderr)
    return 1 if damage else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
