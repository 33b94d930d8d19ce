#!/usr/bin/env python3
"""What `taffrail tap --format journal` makes of real entries is all that the journal has of them.

The captures of tests/fixtures/journald are shown, each record is turned back into fields by the
rules of docs/records.md alone, and compared with `journalctl -o json --all` of the same entries, and
with what a reader of the export format in this file finds. Redaction with its defaults changes none
of them: cursors and ids are no secrets.
usage: test_journal_fixtures.py TAFFRAIL
"""
import base64
import json
import os
import subprocess
import sys
import tempfile

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "journald", "export")
SEVERITIES = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"]


def read_export(data):
    """Entries as lists of (name, value), in order."""
    entries, entry, at = [], [], 0
    while at < len(data):
        end = data.index(b"\n", at)
        line, at = data[at:end], end + 1
        if not line:
            entries.append(entry)
            entry = []
        elif b"=" in line:
            entry.append(tuple(line.split(b"=", 1)))
        else:
            size = int.from_bytes(data[at : at + 8], "little")
            entry.append((line, data[at + 8 : at + 8 + size]))
            assert data[at + 8 + size : at + 9 + size] == b"\n"
            at += 9 + size
    assert not entry
    return entries


def values_of_entry(entry):
    values = {}
    for name, value in entry:
        list_of_name = values.setdefault(name.decode(), [])
        if value not in list_of_name:
            list_of_name.append(value)
    return values


def value_of_journalctl(value):
    return bytes(value) if isinstance(value, list) else value.encode()


def values_of_journalctl(entry):
    """An array of numbers is one value of bytes, an array of others has several values."""
    values = {}
    for name, value in entry.items():
        is_many = isinstance(value, list) and not all(isinstance(item, int) for item in value)
        values[name] = [value_of_journalctl(item) for item in (value if is_many else [value])]
    return values


def value_of_record(name, value):
    if isinstance(value, dict):
        assert list(value) == ["_b64"], value
        return base64.b64decode(value["_b64"], validate=True)
    return base64.b64decode(value, validate=True) if name.endswith("_b64") else value.encode()


def values_of_record(record):
    values = {}
    fields = dict(record["journald"])
    for name, value in fields.items():
        items = value if isinstance(value, list) else [value]
        values[name.removesuffix("_b64")] = [value_of_record(name, item) for item in items]
    for name in "log", "log_b64":
        if name in record:
            values["MESSAGE"] = [value_of_record(name, record[name])] + values.get("MESSAGE", [])
    return values


def sorted_values(values):
    return {name: sorted(items) for name, items in values.items()}


def tap(taffrail, data, *options):
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        shown = subprocess.run(
            [taffrail, "tap", *options, "--format", "journal", file.name], capture_output=True, check=True
        )
    assert b" 0 redactions" in shown.stderr, shown.stderr
    assert b"malformed" not in shown.stderr, shown.stderr
    return [json.loads(line) for line in shown.stdout.splitlines()]


def check_mapping(record, values):
    def first(*names):
        found = [values[name][0] for name in names if values.get(name, [b""])[0]]
        return found[0] if found else None

    def equal(name, wanted):
        got = record.get(name)
        assert got == (wanted.decode() if isinstance(wanted, bytes) else wanted), (name, got, wanted)

    priority = first("PRIORITY")
    is_known = priority is not None and len(priority) == 1 and priority in b"01234567"
    equal("severity", SEVERITIES[int(priority)] if is_known else None)
    equal("unit", first("_SYSTEMD_UNIT", "_SYSTEMD_USER_UNIT"))
    equal("identifier", first("SYSLOG_IDENTIFIER", "_COMM"))
    equal("pid", int(first("_PID", "SYSLOG_PID")))
    equal("boot_id", first("_BOOT_ID"))
    us = int(first("_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP"))
    assert record["time"].endswith(f"{us % 10**6:06}000Z"), (record["time"], us)
    assert record["tag"] == "journald"
    assert "stream" not in record


def check(taffrail, name, data):
    entries = [values_of_entry(entry) for entry in read_export(data)]
    records = tap(taffrail, data)
    assert len(records) == len(entries) > 0, (name, len(records), len(entries))
    for record, entry in zip(records, entries):
        assert values_of_record(record) == entry, (name, record, entry)
        check_mapping(record, entry)
    return records


def read(name):
    with open(os.path.join(FIXTURES, name), "rb") as file:
        return file.read()


def upload_body(data):
    """Without the head and the chunks of HTTP/1.1."""
    rest, body = data.split(b"\r\n\r\n", 1)[1], b""
    while True:
        size, rest = rest.split(b"\r\n", 1)
        size = int(size, 16)
        if size == 0:
            return body
        body, rest = body + rest[:size], rest[size + 2 :]


def main():
    taffrail = sys.argv[1]
    total = 0
    for name in "journalctl-252", "journalctl-257", "suppressed-252":
        records = check(taffrail, name, read(name + ".export"))
        wanted = [values_of_journalctl(json.loads(line)) for line in read(name + ".json").splitlines() if line]
        assert len(wanted) == len(records), name
        for record, values in zip(records, wanted):
            assert sorted_values(values_of_record(record)) == sorted_values(values), (name, record, values)
        total += len(records)
    for name, data in (
        ("forward-to-socket-257", read("forward-to-socket-257.export")),
        ("journal-upload-252", upload_body(read("journal-upload-252.http"))),
    ):
        total += len(check(taffrail, name, data))
    print(f"{total} entries, all fields as the journal has them")


main()
