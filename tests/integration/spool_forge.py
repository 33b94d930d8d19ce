"""spool_forge.py - spools made and remade by docs/spool-format.md alone; shares no code with the agent.

A Forge holds a spool as what it says: segments, each a list of frames. write() makes its bytes: nonces, tags,
chain, checksums, what headers say of the segment before, seals. So a test can change what it says and have
everything made anew that an attacker could make: `known_from` is the number of the first seal whose key he
has; earlier seals keep the MAC that they had. remake() does the same to a segment that an agent wrote, as far
as checksums and the chain go.
"""

import copy
import gzip
import hashlib
import hmac
import os
import struct

import msgpack
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from read_segment import crc32c, expand, h

DATA, POSITIONS, GAP, SEAL, FOOTER, NOTICE, INDEX = range(1, 8)
CLEAR = (SEAL, FOOTER, NOTICE)
BASE_NS = 1_790_000_000 * 10**9
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def seq_of(run, n):
    return run << 40 | n


def crc(data):
    return struct.pack("<I", crc32c(data))


def deltas(*items):
    return b"".join(msgpack.packb([op, key, value], use_bin_type=True) for op, key, value in items)


def events(count, first=0):
    """The gzip of so many events."""
    out = b""
    for number in range(first, first + count):
        time = msgpack.ExtType(0, struct.pack(">II", BASE_NS // 10**9 + number, 0))
        out += msgpack.packb([time, {"log": f"line {number}"}])
    return gzip.compress(out, 1, mtime=0)


class Frame:
    def __init__(self, kind, flags=None, count=0, pos=b"", payload=b"", times=(0, 0), content=b"", tag=""):
        self.kind, self.pos, self.payload, self.content, self.tag = kind, pos, payload, content, tag
        self.flags = flags if flags is not None else 0 if kind in CLEAR else 1
        self.count, self.times = count, times
        self.seq = None        # None: the next one
        self.number = None     # of a seal; None: the next one
        self.receipts = []
        self.mac = None        # of a seal made before: kept when its key is gone
        self.durable = None


class Segment:
    def __init__(self, run, flags=0):
        self.id, self.run, self.flags = os.urandom(16), run, flags
        self.dek, self.run_id = os.urandom(32), None
        self.frames = []
        self.tail = b""        # behind the last frame
        self.prev_end = None   # None: where the one before ends
        self.no = self.first_n = None
        self.is_gone = False   # expired: not written, its successor builds on it
        self.is_shredded = False
        self.spool_id = self.k0 = None  # None: the forge's; else a new lineage, a new series from here on


class Forge:
    def __init__(self):
        self.spool_id, self.kek, self.k0 = os.urandom(16), os.urandom(32), os.urandom(32)
        self.segments = []
        self.is_sealed = True
        self.receipt_key = Ed25519PrivateKey.generate()
        self.chains = {}       # seq: chain value, of the last write
        self.digests = {}
        self.places = {}       # (segment, index of the frame): offset and size, of the last write
        self.known_from = 0

    def copy(self):
        key, self.receipt_key = self.receipt_key, None
        other = copy.deepcopy(self)
        self.receipt_key = other.receipt_key = key
        return other

    # ---- what it says ---------------------------------------------------------------------------

    def segment(self, run=None, first=False):
        run = run or self.segments[-1].run
        segment = Segment(run, (1 if self.is_sealed else 0) | (2 if first else 0))
        before = self.segments[-1] if self.segments else None
        segment.run_id = os.urandom(16) if first or before is None else before.run_id
        segment.frames.append(Frame(POSITIONS, 3, pos=deltas((1, b"a", b"1"))))
        self.segments.append(segment)
        return self

    def add(self, frame):
        self.segments[-1].frames.append(frame)
        return self

    def data(self, count=3):
        begin = sum(frame.count for segment in self.segments for frame in segment.frames)
        times = (BASE_NS + begin * 10**9, BASE_NS + (begin + count - 1) * 10**9)
        return self.add(Frame(DATA, count=count, pos=deltas((1, b"a", b"%d" % begin)), times=times, tag="t",
                              payload=events(count, begin)))

    def gap(self):
        begin = sum(frame.count for segment in self.segments for frame in segment.frames)
        return self.add(Frame(GAP, count=1, payload=events(1, begin), tag="taffrail.audit",
                              times=(BASE_NS + begin * 10**9,) * 2))

    def seal(self, footer=False, receipts=()):
        frame = Frame(FOOTER if footer else SEAL)
        frame.receipts = list(receipts)
        return self.add(frame)

    def notice(self, kind, a=0, b=0, c=0, ident=b""):
        return self.add(Frame(NOTICE, content=struct.pack("<H6xqQQQ32s", kind, BASE_NS, a, b, c, ident)))

    def index(self):
        return self.add(Frame(INDEX, pos=b"index"))

    def receipt(self, seq, chain=None, key=None, time_ns=BASE_NS):
        key = key or self.receipt_key
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        statement = (b"taffrail/1 rcpt\0" + h(public)[:8] + self.spool_id + struct.pack("<Q", seq) +
                     (chain or self.chains[seq]) + h(b"spiffe://demo/node/1") + struct.pack("<qQ", time_ns, 1))
        return statement + key.sign(statement)

    # ---- keys -----------------------------------------------------------------------------------

    def seal_key(self, number, k0=None):
        key = k0 or self.k0
        for _ in range(number):
            key = expand(key, b"taffrail/1 seal next\0")
        return key

    def seal_id(self, k0=None):
        return expand(k0 or self.k0, b"taffrail/1 seal id\0")[:8]

    def key_text(self, k0=None):
        raw = self.spool_id + (k0 or self.k0)
        raw += h(raw)[:4]
        bits = "".join(f"{byte:08b}" for byte in raw)
        bits += "0" * (-len(bits) % 5)
        letters = "".join(CROCKFORD[int(bits[at:at + 5], 2)] for at in range(0, len(bits), 5))
        return "TFS1-" + "-".join(letters[at:at + 5] for at in range(0, len(letters), 5)) + "\n"

    # ---- bytes ----------------------------------------------------------------------------------

    def id_of(self, segment):
        return segment.spool_id or self.spool_id

    def head(self, segment, state):
        prev = state["segment"]
        prev_spool_id = self.id_of(prev) if segment.flags & 8 else bytes(16)
        sector = struct.pack(
            "<8sHHI16s16s16sQQqQ16s32s32s16sQQ", b"TFSEG\r\n\x1a", 1, 1, segment.flags, self.id_of(segment), segment.id,
            segment.run_id, segment.no, seq_of(segment.run, segment.first_n), BASE_NS,
            state["end"] if segment.prev_end is None else segment.prev_end, prev.id if prev else bytes(16),
            state["chain"], expand(segment.dek, b"taffrail/1 dek id\0" + segment.id), prev_spool_id, state["seq"],
            state["events"])
        sector += bytes(508 - len(sector))
        sector += crc(sector)
        slot = bytes(512)
        if not segment.is_shredded:
            info = b"taffrail/1 kek wrap\0" + self.id_of(segment) + struct.pack("<Q", segment.no)
            wrapping = HKDF(algorithm=hashes.SHA256(), length=32, salt=segment.id, info=info).derive(self.kek)
            slot = b"TFKS\1\0\0\0" + expand(self.kek, b"taffrail/1 kek id\0")[:8] + bytes(32)
            slot += aes_key_wrap(wrapping, segment.dek)
            slot += bytes(508 - len(slot))
            slot += crc(slot)
        return sector + slot + bytes(6 * 512)

    def body(self, segment, frame, seq):
        """(header to byte 52, body)"""
        ke = expand(segment.dek, b"taffrail/1 frame key\0")
        kn = expand(segment.dek, b"taffrail/1 frame nonce\0")
        meta = msgpack.packb({"tag": frame.tag, "pos": frame.pos, "d": h(frame.payload)}, use_bin_type=True)
        plain = struct.pack("<I", len(meta)) + meta + frame.payload
        size = (len(frame.content) if frame.kind in CLEAR else len(plain)) + 16
        header = b"TFRM" + struct.pack("<BBHQqqII", frame.kind, frame.flags, 0, seq, *frame.times, frame.count, size)
        aad = b"taffrail/1 frame\0" + self.id_of(segment) + segment.id + header
        self.digests[seq] = h(frame.payload)
        if frame.kind in CLEAR:
            nonce = hmac.new(kn, aad + frame.content, hashlib.sha256).digest()[:12]
            return header + nonce, frame.content + AESGCM(ke).encrypt(nonce, b"", aad + frame.content)
        nonce = hmac.new(kn, aad + plain[:4 + len(meta)], hashlib.sha256).digest()[:12]
        return header + nonce, AESGCM(ke).encrypt(nonce, plain, aad)

    def seal_content(self, segment, frame, seq, state):
        k0 = segment.k0 or self.k0
        if state["k0"] != k0:
            state.update(number=0, mac=bytes(32), k0=k0)
            state["from"], state["gaps"], state["times"] = seq - 1, 0, (0, 0)
        number = state["number"] if frame.number is None else frame.number
        fixed = struct.pack("<Q8sQQ32sQIIqq32s", number, self.seal_id(k0), state["from"], state["seq"], state["chain"],
                            state["events"], state["gaps"], len(frame.receipts), *state["times"], state["mac"])
        fixed += b"".join(frame.receipts)
        if number >= self.known_from or frame.mac is None:
            size = len(fixed) + 32 + 16
            header = b"TFRM" + struct.pack("<BBHQqqII", frame.kind, 0, 0, seq, 0, 0, 0, size)
            key = expand(self.seal_key(max(number, self.known_from), k0), b"taffrail/1 seal mac\0")
            frame.mac = hmac.new(key, b"taffrail/1 seal\0" + self.id_of(segment) + segment.id + header + fixed,
                                 hashlib.sha256).digest()
        state.update(number=number + 1, mac=frame.mac, gaps=0, times=(0, 0))
        state["from"] = seq + 1
        return fixed + frame.mac

    def frame(self, segment, at, frame, state, entries):
        """The bytes of one frame; state moves on."""
        seq = state["next"] if frame.seq is None else frame.seq
        if state["from"] is None:
            state["from"] = seq
        if frame.kind in (SEAL, FOOTER):
            frame.content = self.seal_content(segment, frame, seq, state)
        if frame.kind == INDEX:
            frame.pos = b"".join(entries)
        header, body = self.body(segment, frame, seq)
        durable = struct.pack("<Q", min(state["durable"], seq - 1) if frame.durable is None else frame.durable)
        leaf = h(b"taffrail/1 leaf\0", segment.id, header, body)
        state["chain"] = h(b"taffrail/1 chain\0", state["chain"], leaf, durable)
        if frame.kind in (DATA, GAP):
            entries.append(struct.pack("<QQqqQ", seq, at, *frame.times, state["events"]))
            state["events"] += frame.count
            state["gaps"] += frame.kind == GAP
            low, high = state["times"]
            state["times"] = ((min(low, frame.times[0]) if low else frame.times[0]), max(high, frame.times[1]))
        state["seq"], state["next"] = seq, seq + 1
        state["durable"] = max(state["durable"], seq - 1)
        self.chains[seq] = state["chain"]
        header += durable
        return header + crc(header) + body + state["chain"] + crc(body + state["chain"])

    def write(self, folder, known_from=0):
        """Writes all files; an attacker's first key is that of seal known_from."""
        self.known_from = known_from
        os.makedirs(folder, exist_ok=True)
        state = {"segment": None, "end": 0, "chain": bytes(32), "seq": 0, "events": 0, "number": 0, "from": None,
                 "gaps": 0, "times": (0, 0), "mac": bytes(32), "durable": 0, "next": 0, "k0": self.k0}
        for index, segment in enumerate(self.segments):
            segment.no = segment.no or index + 1
            if segment.flags & 2 or state["segment"] is None:
                segment.first_n = 1
            else:
                segment.first_n = (state["next"] & (1 << 40) - 1)
            data, entries = self.head(segment, state), []
            state["next"] = seq_of(segment.run, segment.first_n)
            state["chain"] = h(b"taffrail/1 open\0", state["chain"], h(data[:512]))
            for number, frame in enumerate(segment.frames):
                raw = self.frame(segment, len(data), frame, state, entries)
                self.places[(index, number)] = len(data), len(raw)
                data += raw
            state["segment"], state["end"] = segment, len(data)
            if not segment.is_gone:
                with open(os.path.join(folder, f"{segment.no:020d}.seg"), "wb") as file:
                    file.write(data + segment.tail)
        meta = b"TFSPL\r\n\x1a\1\0" + bytes(6) + self.id_of(self.segments[-1]) + bytes(28)
        with open(os.path.join(folder, "spool.meta"), "wb") as file:
            file.write(meta + crc(meta))
        if self.is_sealed:
            self.write_state(folder, state["number"], state["mac"], state["seq"])
        with open(folder + ".key", "w", opener=lambda path, flags: os.open(path, flags, 0o600),
                  encoding="ascii") as file:
            file.write("taffrail-kek-1:" + __import__("base64").b64encode(self.kek).decode() + "\n")
        self.state = state
        return folder

    def write_state(self, folder, number, mac, seq, key=None, ident=None):
        sealed = [segment for segment in self.segments
                  if any(frame.kind in (SEAL, FOOTER) for frame in segment.frames)]
        slot = struct.pack("<4sI16s8sQ32s32sQI", b"TFSS", 1, self.id_of((sealed or self.segments)[-1]),
                           ident or self.seal_id(self.segments[-1].k0), number,
                           key or self.seal_key(number, self.segments[-1].k0), mac if number else bytes(32), seq, 0)
        slot += crc(slot)
        with open(os.path.join(folder, "seal.state"), "wb") as file:
            file.write(bytes(4096) + slot + bytes(8192 - 4096 - len(slot)))


# ---- edits of bytes --------------------------------------------------------------------------------


def read(path):
    with open(path, "rb") as file:
        return bytearray(file.read())


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def frames_of(data):
    """[(offset, size, type)] of a segment."""
    at, found = 4096, []
    while data[at:at + 4] == b"TFRM":
        size = 64 + struct.unpack_from("<I", data, at + 36)[0] + 36
        found.append((at, size, data[at + 4]))
        at += size
    return found


def fix_sector(data, at=0):
    data[at + 508:at + 512] = crc(bytes(data[at:at + 508]))


def fix_frame(data, at, size):
    """Both checksums of a frame."""
    data[at + 60:at + 64] = crc(bytes(data[at:at + 60]))
    data[at + size - 4:at + size] = crc(bytes(data[at + 64:at + size - 4]))


def fix_chain(data):
    """The chain of a whole segment, and all checksums: what needs no key."""
    fix_sector(data)
    sector = bytes(data[:512])
    chain = h(b"taffrail/1 open\0", sector[112:144], h(sector))
    for at, size, _ in frames_of(data):
        leaf = h(b"taffrail/1 leaf\0", sector[32:48], bytes(data[at:at + 52]), bytes(data[at + 64:at + size - 36]))
        chain = h(b"taffrail/1 chain\0", chain, leaf, bytes(data[at + 52:at + 60]))
        data[at + size - 36:at + size - 4] = chain
        fix_frame(data, at, size)
    return chain
