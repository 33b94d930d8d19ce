#!/usr/bin/python3
"""test_admin.py BINARY - what a running agent and collector tell of themselves.

1. After 10,000 lines, metrics and status of both agree with what was written and with each other; the
   books balance; promtool, where it is there, finds the metrics sound. What alerts and dashboard of the
   chart ask for is there, with the labels by which they sum.
2. The collector goes down: the agent has the condition output-down, in log, audit, metric, status and
   for eyes, and stays ready; when it is up again the condition is over.
3. Lines that filters join, drop and hold back: the ledger holds over the metrics alone.
4. `taffrail status` once, as JSON, as a check, and live on a terminal, which is left as it was.
"""

import http.client
import json
import os
import pty
import re
import shutil
import select
import socket
import subprocess
import sys
import time

from harness import CriFile, House, PATIENCE, check_books, need, wait_until

LINES = 10000
SECRETS = 100
FILTERS = ("[multiline: {presets: [java], max_delay: 10s}, select: {drop: [{name: probes, where: {log: healthz}}]},"
           " redact: {modes: {bearer-token: drop}}]")
CHART = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../conf/kubernetes/taffrail")


class Admin(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=10 * PATIENCE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10 * PATIENCE)
        self.sock.connect(self.path)


def get(path, what):
    connection = Admin(path)
    connection.request("GET", what)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def metrics_of(path):
    """{name{labels}: value}"""
    code, text = get(path, "/metrics")
    need(code == 200, f"/metrics: {code}")
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            need(re.fullmatch(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? \S+', line), f"a sample: {line}")
            name, value = line.rsplit(" ", 1)
            need(name not in found, f"twice: {name}")
            found[name] = float(value)
    return found


def status_of(path):
    code, text = get(path, "/status")
    need(code == 200, f"/status: {code}")
    return json.loads(text)


def check_promtool(path):
    promtool = shutil.which("promtool")
    if promtool is None:
        print("skipped: the metrics, as Prometheus reads them (no promtool)")
        return
    done = subprocess.run([promtool, "check", "metrics"], input=get(path, "/metrics")[1].encode(),
                          capture_output=True, check=False)
    need(done.returncode == 0 and done.stdout + done.stderr == b"", f"promtool: {(done.stdout + done.stderr).decode()}")


def chart_expressions():
    """All that alerts and dashboard ask Prometheus for."""
    with open(f"{CHART}/dashboards/taffrail.json", encoding="utf-8") as file:
        found = [target["expr"] for panel in json.load(file)["panels"] for target in panel.get("targets", [])]
    with open(f"{CHART}/alerts.yaml", encoding="utf-8") as file:
        found += re.findall(r"expr: (?:>-\n)?((?:.|\n          )*)", file.read())
    need(len(found) > 30, f"only {len(found)} expressions")
    return found


def check_chart(samples):
    """samples: {name{labels}: value} of an agent and its collector."""
    labels = {}
    for sample in samples:
        name, _, rest = sample.partition("{")
        labels.setdefault(name, {"instance"}).update(re.findall(r'([a-z]+)="', rest))
    for expression in chart_expressions():
        names = set(re.findall(r"\b(?:taffrail|process)_[a-z_]+", expression))
        missing = names - set(labels)
        need(not missing, f"{missing} is asked for by {expression}")
        summed = {word for words in re.findall(r"by \(([a-z, ]+)\)", expression) for word in words.split(", ")}
        for name in names:
            chosen = re.findall(rf"\b{name}{{([^}}]*)}}", expression)
            wanted = summed | {word for words in chosen for word in re.findall(r'([a-z]+)=~?"', words)}
            need(wanted <= labels[name], f"{name} has no {wanted - labels[name]} for {expression}")


def configure(house, role, path):
    with open(house.path(role, f"{role}.yaml"), "a", encoding="utf-8") as file:
        file.write(f"admin: {{listen: ['unix:{path}']}}\n")


def check_numbers(agent, collector):
    ours, theirs = metrics_of(agent), metrics_of(collector)
    own = ours['taffrail_input_records_total{input="taffrail"}']
    need(own >= 2, "no records of the start and the sandbox")  # a busy machine may add some: an output was down for seconds
    acked = LINES + own
    for name, value in {
            'taffrail_input_records_total{input="container"}': LINES,
            'taffrail_input_sources{input="container"}': 1,
            'taffrail_input_lag_bytes{input="container"}': 0,
            "taffrail_redacted_records_total": SECRETS,
            'taffrail_redactions_total{rule="assigned-password"}': SECRETS,
            "taffrail_ledger_missing_records": 0,
            'taffrail_output_up{output="forward"}': 1,
            'taffrail_output_pending_records{output="forward"}': 0,
            'taffrail_output_acked_records_total{output="forward"}': acked,
            'taffrail_condition{code="output-down"}': 0,
            'taffrail_condition{code="sandbox-partial"}': 0,
            'taffrail_sandbox_layer{layer="seccomp"}': 1,
            'taffrail_sandbox_layer{layer="landlock"}': 1}.items():
        need(ours[name] == value, f"agent: {name} is {ours[name]}, not {value}")
    need(ours['taffrail_input_bytes_total{input="container"}'] > 20 * LINES, "bytes read")
    need(ours['taffrail_output_ack_seconds_count{output="forward"}'] > 0, "no ack was timed")
    need(ours['taffrail_delivery_seconds_count{output="forward"}'] ==
         ours['taffrail_output_ack_seconds_count{output="forward"}'], "a delivery that was not timed")
    need(ours["process_open_fds"] > 5 and ours["process_resident_memory_bytes"] > 1 << 20, "/proc/self is closed")
    need(ours["taffrail_spool_sync_seconds_count"] > 0 and ours["taffrail_loop_delay_seconds_count"] > 0, "no times")
    need(theirs['taffrail_input_records_total{input="forward"}'] == acked, "what the collector received")
    need(theirs['taffrail_input_connections{input="forward"}'] == 1, "the collector's senders")
    need(theirs["taffrail_ledger_missing_records"] == 0, "the collector's books")
    for metrics, use in ((ours, "output/forward"), (theirs, "input/forward")):
        days = (metrics[f'taffrail_certificate_expiry_timestamp_seconds{{use="{use}"}}'] - time.time()) / 86400
        need(88 < days <= 90, f"{use}: {days} days")


def total(samples, name):
    """Over all labels."""
    found = [value for sample, value in samples.items() if sample.partition("{")[0] == f"taffrail_{name}"]
    need(found, f"no {name}")
    return sum(found)


def is_balanced(path):
    """The ledger of docs/architecture.md, from the metrics; what is on its way to the disk is in neither side yet."""
    samples, at_start = metrics_of(path), status_of(path)["outputs"][0]["pending_at_start"]
    need(samples["taffrail_ledger_missing_records"] == 0, "the books do not balance")
    read = total(samples, "input_records_total")
    spooled = total(samples, "spooled_records_total")
    gone = sum(total(samples, name) for name in ("output_acked_records_total", "output_skipped_records_total", "expired_records_total",
                                                 "output_rejected_records_total", "output_pending_records"))
    return (read == spooled + total(samples, "joined_records_total") + total(samples, "filtered_records_total") and
            at_start + spooled == gone)


def check_ledger(house, path, pod):
    """FILTERS at work: 3 traces of 4 lines, a line in 3 pieces, 10 probes, a token; then a trace that is open."""
    before = metrics_of(path)
    trace = ["java.lang.IllegalStateException: no stock"] + [f"\tat shop.Cart.take(Cart.java:{line})" for line in (7, 8, 9)]
    pod.write([*trace * 3, "x" * 20000, *["GET /healthz"] * 10, "Authorization: Bearer abcdefghijklmnopqrstuvwxyz012345", *trace])
    wanted = {'taffrail_held_records{filter="multiline"}': 4, 'taffrail_joined_records_total{filter="multiline"}': 9,
              'taffrail_joined_records_total{filter="taffrail"}': 2, 'taffrail_filtered_records_total{filter="select",rule="probes"}': 10,
              'taffrail_filtered_records_total{filter="redact",rule="bearer-token"}': 1,
              'taffrail_input_records_total{input="container"}': 12 + 3 + 10 + 1}

    def gained():
        now = metrics_of(path)
        return {name: now[name] - before[name] for name in wanted}

    wait_until(lambda: gained() == wanted, 5, lambda: f"{gained()} instead of {wanted}")
    wait_until(lambda: is_balanced(path), 5, "the ledger does not hold while records are held")
    pod.write(["the trace is over"])
    wait_until(lambda: gained()['taffrail_joined_records_total{filter="multiline"}'] == 12, 15, "the open trace is not joined")
    wait_until(lambda: is_balanced(path), 5, "the ledger does not hold")
    need(before['taffrail_filtered_records_total{filter="select",rule="probes"}'] == 0, "no zero from the start")


def check_status(agent, port):
    status = status_of(agent)
    output, books = status["outputs"][0], status["books"]
    need(status["state"] == "healthy" and status["ready"] and status["conditions"] == [], f"{status}")
    need(output["up"] and output["peer"] == f"127.0.0.1:{port}", f"{output}")
    need(books["balanced"] and books["decoded"] == books["spooled"] + books["joined"] + books["filtered"], f"{books}")
    gone = sum(output[name] for name in ("acked", "skipped", "expired", "rejected", "pending"))
    need(output["pending_at_start"] + books["spooled"] == gone, f"{output} of {books}")
    need(get(agent, "/readyz") == (200, "ready\n") and get(agent, "/healthz") == (200, "ok\n"), "probes")


def live(house, path):
    """The live view, on a terminal of 24 lines, ended by q."""
    master, slave = pty.openpty()
    process = subprocess.Popen([house.binary, "status", "--socket", f"unix:{path}"], stdin=slave, stdout=slave,
                               stderr=slave, close_fds=True)
    seen = b""
    end = time.monotonic() + 20 * PATIENCE
    while seen.count(b"OUTPUT") < 2 and time.monotonic() < end:
        if select.select([master], [], [], 0.2)[0]:
            seen += os.read(master, 65536)
    os.write(master, b"q")
    code = process.wait(20 * PATIENCE)
    while select.select([master], [], [], 0.2)[0]:
        seen += os.read(master, 65536)
    os.close(master)
    os.close(slave)
    need(code == 0 and seen.count(b"OUTPUT") >= 2, f"live: {code}, {seen[-500:]}")
    need(seen.startswith(b"\x1b[?1049h") and seen.endswith(b"\x1b[?1049l"), "the terminal is not as it was")
    need(b"\x1b[2J" not in seen, "it clears the screen between two looks")


def check_command(house, path):
    once = house.run("status", "--socket", f"unix:{path}").stdout.decode()
    for word in ("node-1", "healthy, ready", "container", "forward", "balanced", "reloads taken 0, refused 0",
                 "SANDBOX        no_new_privs, capabilities, landlock, seccomp"):
        need(word in once, f"{word} is not in {once}")
    from_file = house.run("status", "-c", house.path("agent/agent.yaml"), "--once").stdout.decode()
    need("node-1" in from_file, f"{from_file}")
    parsed = json.loads(house.run("status", "--socket", f"unix:{path}", "--json").stdout)
    need(parsed["host"] == "node-1", "--json")
    done = house.run("status", "--socket", f"unix:{path}", "--check")
    need(done.stdout + done.stderr == b"", "--check says something")
    live(house, path)


def conditions_of(path):
    return [condition["code"] for condition in status_of(path)["conditions"]]


def check_down(house, collector, agent_path, agent):
    need(collector.stop() == 0, "the collector's stop")
    wait_until(lambda: "output-down" in conditions_of(agent_path), 15, "no condition output-down")
    need(metrics_of(agent_path)['taffrail_condition{code="output-down"}'] == 1, "the metric of the condition")
    need(agent.has_event("output-down"), "the log of the condition")
    need(get(agent_path, "/readyz")[0] == 200, "an agent whose collector is down can still work")
    once = house.run("status", "--socket", f"unix:{agent_path}").stdout.decode()
    need("! output-down" in once and "records wait in the spool" in once, f"{once}")
    house.run("status", "--socket", f"unix:{agent_path}", "--check")
    again = house.start("collector")
    wait_until(lambda: conditions_of(agent_path) == [], 60, "the condition is not over")

    def audited():
        with open(house.records_path, "rb") as file:
            text = file.read()
        return b'"event":"output-down"' in text and b'"event":"output-up"' in text

    wait_until(audited, 15, "down and up are not in the audit")
    return again


def main():
    with House(sys.argv[1]) as house:
        house.make_pki()
        house.configure_collector()
        house.configure_agent(filters=FILTERS)
        paths = {role: house.path(role, "admin.sock") for role in ("agent", "collector")}
        for role, path in paths.items():
            configure(house, role, path)
        pod = CriFile(house, "shop", "pay-0", "6c1e2d3a-0000-4000-8000-000000000001")
        collector, agent = house.start("collector"), house.start("agent")
        pod.write([f"pay line {i}" + (" password=hunter22" if i % (LINES // SECRETS) == 0 else "")
                   for i in range(LINES)])
        wait_until(lambda: len(house.records()) == LINES, 60, "the lines did not arrive")
        wait_until(lambda: status_of(paths["agent"])["outputs"][0]["pending"] == 0, 15, "acks did not come")
        wait_until(lambda: metrics_of(paths["agent"])["taffrail_loop_delay_seconds_count"] > 0, 15, "the loop's delay is not measured")
        check_numbers(paths["agent"], paths["collector"])
        check_status(paths["agent"], house.port)
        for path in paths.values():
            check_promtool(path)
        check_chart({**metrics_of(paths["agent"]), **metrics_of(paths["collector"])})
        check_command(house, paths["agent"])
        check_ledger(house, paths["agent"], pod)
        need(is_balanced(paths["collector"]), "the ledger of the collector")
        collector = check_down(house, collector, paths["agent"], agent)
        need(agent.stop() == 0 and collector.stop() == 0, "a stop")
        need(not os.path.exists(paths["agent"]), "the socket is left behind")
        check_books(agent)
        check_books(collector)
        need(house.run("status", "--socket", f"unix:{paths['agent']}", "--check", check=False).returncode == 1 and
             house.run("status", "--socket", f"unix:{paths['agent']}", check=False).returncode == 3, "nobody there")
    print("numbers agree, conditions begin and end, the command shows them")


if __name__ == "__main__":
    main()
