#!/usr/bin/env python3
"""A condition has one word everywhere: in the log, in the audit, as a metric, in status and page, as a heading of the docs.

usage: test_words.py TAFFRAIL

The set of conditions.c is that of docs/conditions.md and of a running agent's metric. Each of them is logged and audited: by the
admin room when it says so, else by whoever finds it, which is looked for in the sources. Each event of the audit that is in
the sources is in docs/records.md, and the other way round. The page and `taffrail status` show the word that /status has.
"""

import os
import re
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "integration"))
from harness import House, PATIENCE, free_port, need

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
FOREIGN = {"replay"}  # made by a command, which writes its records by itself
RECORD = re.compile(r"tf_pipeline_audit\(\s*[a-z>-]+,\s*\"([a-z-]+)\"|on_event\([^;\"]*\"([a-z-]+)\"|tf_spool_event\([^;\"]*\"([a-z-]+)\"|"
                    r"->event = \"([a-z-]+)\"|\"event\", (?:tf_slice_text\()?\"([a-z-]+)\"")
LOGGED = re.compile(r"tf_log\([^;\"]*((?:\"[a-z-]+\"\s*:\s*)?\"[a-z-]+\"),")


def read(name):
    with open(os.path.join(TOP, name), encoding="utf-8") as file:
        return file.read()


def sources():
    for folder in ("agent", "filters", "outputs"):
        for where, _, names in os.walk(os.path.join(TOP, folder)):
            for name in names:
                if name.endswith(".c"):
                    yield read(os.path.relpath(os.path.join(where, name), TOP))


def conditions():
    """{code: what conditions.c says of it}"""
    table = read("agent/admin/conditions.c")
    return {code: rest for code, rest in re.findall(r"\.code = \"([a-z-]+)\"((?:[^}]|\"[^\"]*\")*)}", table)}


def metric_codes(binary):
    with House(binary) as house:
        port = free_port()
        path = house.configure_agent(inputs="  - container: {paths: [../logs/pods/*/*/*.log]}\n", outputs="  - file: {path: records.ndjson}\n")
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"admin: {{listen: ['127.0.0.1:{port}']}}\n")
        agent = house.start("agent")
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10 * PATIENCE).read().decode()
        need(agent.stop() == 0, "a stop")
    return set(re.findall(r'^taffrail_condition{code="([a-z-]+)"}', text, re.M))


def main():
    codes = conditions()
    need(len(codes) > 12, f"only {sorted(codes)}")
    headings = set(re.findall(r"^## ([a-z-]+)$", read("docs/conditions.md"), re.M))
    need(set(codes) == headings, f"only here or in docs/conditions.md: {set(codes) ^ headings}")
    need(set(codes) == metric_codes(sys.argv[1]), "the metric has others")

    whole = "\n".join(sources())
    logged = {word for found in LOGGED.findall(whole) for word in re.findall(r"[a-z-]+", found)}
    silent = {code for code, rest in codes.items() if "is_logged = true" not in rest and code not in logged}
    need(not silent, f"in no log: {silent}")

    audited = {word for found in RECORD.findall(whole) for word in found if word}
    unaudited = {code for code, rest in codes.items() if "is_audited = true" not in rest and code not in audited}
    need(not unaudited, f"in no audit: {unaudited}")
    events = audited | {code for code, rest in codes.items() if "is_audited = true" in rest} | FOREIGN
    table = read("docs/records.md").partition("## Events of the audit")[2].partition("\n## ")[0]
    told = {word for row in re.findall(r"^\| (`.*?) \|", table, re.M) for word in re.findall(r"`([a-z-]+)`", row)} - {"event"}
    need(events == told, f"in the sources and not in docs/records.md: {events - told}; the other way round: {told - events}")

    for place in ("agent/admin/page.html", "agent/commands/status.c"):
        own = {code for code in codes if f'"{code}"' in read(place)} - {"books", "withheld"}  # those are keys of /status, too
        need(not own, f"{place} knows {own} by itself")
    print(f"{len(codes)} conditions and {len(events)} events have their one word everywhere")


if __name__ == "__main__":
    main()
