#!/usr/bin/python3
"""test_kubernetes.py TAFFRAIL - labels from the Kubernetes API, by an agent and a mock API server (mock_kubernetes.py).

One agent, one server, scene after scene: labels and owners on records; a label changed by the watch; a pod that the
watch brings while its log waits; a watch that ends, breaks, and is too old (410); the token replaced (401); answers that are huge, malformed, or an
error; the server down, when records of an unknown pod go on without labels after `wait`, and are counted; a
restart in that time, which knows the pods from the file beside the spool; a pod that was deleted while its log was not
read; reloads. Redaction goes over labels. In the end the books add up, the token stands nowhere, and the file is no clear text.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

from harness import CriFile, Failed, House, PATIENCE, check_books, free_port, need, wait_until
from mock_kubernetes import MockApi, pod

WAIT_S = 2 * PATIENCE
SECRET = "AKIA" + "Q3EGRIJ4ZMXT7PWN"
TOKENS = ["token-one-5d41402abc4b2a76", "token-two-7d793037a0760186"]


def uid(number):
    return f"{number:08x}-3333-4333-8333-{number:012x}"


class Scene:
    def __init__(self, house):
        self.house = house
        self.port = free_port()
        self.admin_port = free_port()
        self.api = None
        self.agent = None
        self.written = self.tokens = 0
        house.make_pki()
        house.configure_collector()
        self.write_token(TOKENS[0])
        self.configure("kubernetes")

    def configure(self, *names, annotations="team/*", node=""):
        filters = "".join(f"""
  - kubernetes: {{name: {name}, server: "https://127.0.0.1:{self.port}", ca: ../pki/ca.pem, token: ../account/token,
                 wait: {WAIT_S}s, annotations: ["{annotations}"]{node}}}""" for name in names)
        self.house.configure_agent(
            inputs="  - container: {paths: [../logs/pods/*/*/*.log], rescan: 1s}\n", spool=", retain: {age: 1d}",
            filters=f"""{filters}
  - select: {{drop: [{{name: quiet, where: {{kubernetes.labels.logs: "^no$"}}}}]}}
""")
        with open(self.house.path("agent/agent.yaml"), "a", encoding="utf-8") as file:
            file.write(f"admin: {{listen: ['127.0.0.1:{self.admin_port}']}}\n")

    def write_token(self, token):
        """As the kubelet does: a new folder, and a link to it renamed over the old one."""
        self.tokens += 1
        os.makedirs(self.house.path(f"account/..{self.tokens}"))
        self.house.write(f"account/..{self.tokens}/token", token + "\n")
        os.symlink(f"..{self.tokens}", self.house.path("account/..data.new"))
        os.rename(self.house.path("account/..data.new"), self.house.path("account/..data"))
        if self.tokens == 1:
            os.symlink("..data/token", self.house.path("account/token"))
        else:
            shutil.rmtree(self.house.path(f"account/..{self.tokens - 1}"))

    def start_api(self, pods=None):
        self.api = MockApi(self.house.path("pki/127.0.0.1.pem"), self.house.path("pki/127.0.0.1.key"), self.port,
                           TOKENS[0])
        for item in pods or []:
            self.api.add(item)

    def stop_api(self):
        self.api.close()

    def start_agent(self):
        self.agent = self.house.start("agent", env={"KUBERNETES_SERVICE_HOST": "192.0.2.1", "https_proxy": "http://192.0.2.1:1"})

    def metric(self, name, default=None):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=20 * PATIENCE) as answer:
            text = answer.read().decode()
        match = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
        need(match or default is not None, f"no metric {name}")
        return float(match[1]) if match else default

    def kubernetes_metric(self, name):
        return self.metric(f'taffrail_kubernetes_{name}{{filter="kubernetes"}}')

    def record_of(self, text):
        found = [record for record in self.house.records() if record["log"] == text]
        need(len(found) < 2, f"{text}: {len(found)} times")
        return found[0] if found else None

    def arrives(self, file, what):
        """Writes a line, and returns what the collector has under `kubernetes` of it."""
        self.written += 1
        text = f"line {self.written}: {what}"
        file.write([text])
        wait_until(lambda: self.record_of(text), 20, lambda: f"{text}: not there\n{self.agent.tail()}")
        return self.record_of(text)["kubernetes"]

    def arrives_with(self, file, labels, what):
        """As soon as the agent has heard of a change, lines have these labels."""
        end = time.monotonic() + 60 * PATIENCE
        while True:
            found = self.arrives(file, what).get("labels")
            if found == labels:
                return
            need(time.monotonic() < end, f"{what}: labels are {found}, not {labels}\n{self.agent.tail()}")


def owner(kind, name):
    return [{"apiVersion": "apps/v1", "kind": "Other", "name": "no", "uid": "x"},
            {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "y", "controller": True}]


def check_labels(scene, files):
    """What the list has, on the first line of each log."""
    found = scene.arrives(files["pay"], "labels of the list")
    need(found["labels"] == {"app": "pay", "pod-template-hash": "5f7c9d8b6d"}, str(found))
    need((found["owner_kind"], found["owner_name"]) == ("Deployment", "pay"), str(found))
    need(found["annotations"] == {"team/name": "shop é", "team/key": "[REDACTED:aws-access-key]"}, str(found))
    need(found["pod_name"] == "pay-5f7c9d8b6d-x2x4z" and found["pod_id"] == uid(1), str(found))
    found = scene.arrives(files["job"], "labels of the list")
    need((found["owner_kind"], found["owner_name"]) == ("CronJob", "backup"), str(found))
    need("labels" not in found, str(found))
    found = scene.arrives(files["static"], "labels of a static pod")
    need(found["labels"] == {"tier": "control-plane"}, str(found))
    kind, query, headers = scene.api.requests[0]
    need(kind == "list" and query["resourceVersion"] == "0", str(query))
    need(headers["Accept"].startswith("application/json;as=PartialObjectMetadataList;"), str(headers))
    wait_until(lambda: scene.api.count("watch") == 1, 10, "no watch")
    kind, query, headers = scene.api.requests[1]
    need(query["allowWatchBookmarks"] == "true" and 290 <= int(query["timeoutSeconds"]) <= 320, str(query))
    need(headers["Accept"].startswith("application/json;as=PartialObjectMetadata;"), str(headers))


def check_change(scene, files):
    """A label that the watch changes; one that drops, by a rule of select; a pod that comes later than its log."""
    scene.api.add(pod("shop", "job-1", uid(2), {"run": "second"}))
    scene.arrives_with(files["job"], {"run": "second"}, "a label changed")
    scene.api.add(pod("shop", "job-1", uid(2), {"run": "third", "logs": "no"}))
    wait_until(lambda: scene.metric('taffrail_filtered_records_total{filter="select",rule="quiet"}', 0) > 0
               or files["job"].write(["dropped by a label"]), 20, "nothing was dropped")
    scene.api.add(pod("shop", "job-1", uid(2), {"run": "fourth"}))
    wait_until(lambda: any(record["log"] == "kept again" for record in scene.house.records())
               or files["job"].write(["kept again"]), 20, "all is dropped")
    scene.arrives_with(files["job"], {"run": "fourth"}, "kept again")
    late = CriFile(scene.house, "shop", "late", uid(9))
    late.write(["first line of a pod that is not known yet"])
    wait_until(lambda: scene.kubernetes_metric("waiting_sources") == 1, 20, "its log does not wait")
    scene.api.add(pod("shop", "late", uid(9), {"app": "late"}))
    wait_until(lambda: scene.record_of("first line of a pod that is not known yet"), 20, "its first line is not there")
    found = scene.record_of("first line of a pod that is not known yet")["kubernetes"]
    need(found["labels"] == {"app": "late"}, str(found))
    need(scene.kubernetes_metric("unknown_records_total") == 0, "a record went without labels")
    other = CriFile(scene.house, "shop", "other-name", uid(1))  # claims the uid of another pod
    need("labels" not in scene.arrives(other, "of nobody"), "labels of another pod")
    need(scene.kubernetes_metric("unknown_records_total") == 1, "it is not counted")


def check_watch(scene, files):
    """A watch that ends goes on from its bookmark; so does one that breaks; one that is too old lists again."""
    def next_request(before):
        wait_until(lambda: len(scene.api.requests) > before and scene.api.watches == 1, 30, "no other request")
        return scene.api.requests[before]

    scene.api.change(version=scene.api.version + 50)  # other pods changed: only a bookmark tells
    wait_until(lambda: scene.api.told_version == scene.api.version, 10, "no bookmark")
    for name in ("watch_ends", "watch_breaks"):
        before, version = len(scene.api.requests), scene.api.version
        scene.api.change(**{name: 1})
        kind, query, _ = next_request(before)
        need(kind == "watch" and int(query["resourceVersion"]) == version, f"{name}: {kind} {query}")
    before = len(scene.api.requests)
    with scene.api.lock:
        scene.api.events.append((0, "ADDED", scene.api.pods.pop(uid(2))))  # it goes, and nobody is told
    scene.api.add(pod("shop", "pay-5f7c9d8b6d-x2x4z", uid(1), {"app": "pay"}))
    scene.api.forget()
    scene.api.change(watch_ends=2)
    wait_until(lambda: [r[0] for r in scene.api.requests[before:]].count("list") == 1
               and scene.api.watches == 1, 30, "410: no list")
    kinds = [request[0] for request in scene.api.requests[before:]]
    need(kinds in (["watch", "list", "watch"], ["list", "watch"]), str(kinds))
    need("resourceVersion" not in [r for r in scene.api.requests[before:] if r[0] == "list"][0][1], "an old list")
    scene.arrives_with(files["pay"], {"app": "pay"}, "after 410")
    # And an error inside of a watch.
    before, watches = scene.api.count("list"), scene.api.count("watch")
    scene.api.change(watch_lines=[b'{"type":"ERROR","object":{"kind":"Status","code":410}}\n'])
    wait_until(lambda: scene.api.count("list") == before + 1 and scene.api.count("watch") > watches
               and scene.api.watches == 1, 30, "ERROR 410: no list")


def check_token(scene, files):
    """The token is replaced: 401, and the next request has the new one."""
    scene.write_token(TOKENS[1])
    scene.api.change(tokens={TOKENS[1]}, watch_ends=3)
    wait_until(lambda: scene.api.watches == 1 and scene.api.requests[-1][2]["Authorization"] == f"Bearer {TOKENS[1]}", 30,
               "no watch by the new token")
    need("event=sandbox " in scene.agent.text(), "it is not confined")
    scene.api.change(tokens={"another"}, watch_ends=4)
    wait_until(lambda: scene.kubernetes_metric("up") == 0, 30, "it is up")
    scene.arrives_with(files["pay"], {"app": "pay"}, "with a token that is refused")
    scene.api.change(tokens={TOKENS[1]})
    wait_until(lambda: scene.api.watches == 1 and scene.kubernetes_metric("up") == 1, 30, "no watch again")


def check_hostile(scene, files):
    """Objects that are huge, malformed and strange are passed over; a watch goes on."""
    before = scene.kubernetes_metric("left_out_total")
    huge = b'{"type":"ADDED","object":{"metadata":{"name":"' + b"a" * (3 << 20) + b'"}}}\n'
    lines = [huge, b'{"type":"ADDED","object":{"metadata":{"name":1}}}\n', b'{"type":["x"],"object":7}\n',
             b'{"type":"ADDED","object":{"metadata":{"name":"n","namespace":"m","uid":"u",}}}\n', b"\n\n"]
    scene.api.change(watch_lines=lines)
    wait_until(lambda: scene.kubernetes_metric("left_out_total") == before + 4, 30,
               lambda: f"left out: {scene.kubernetes_metric('left_out_total') - before}\n{scene.agent.tail()}")
    many = {f"label-{number:04}": "x" * 60 for number in range(500)}
    scene.api.add(pod("shop", "pay-5f7c9d8b6d-x2x4z", uid(1), many))
    wait_until(lambda: scene.kubernetes_metric("left_out_total") > before + 400, 30, "no label is left out")
    wait_until(lambda: len(scene.arrives(files["pay"], "many labels").get("labels", {})) == 64, 30, "not 64 labels")
    scene.api.add(pod("shop", "pay-5f7c9d8b6d-x2x4z", uid(1), {"app": "pay"}))
    scene.arrives_with(files["pay"], {"app": "pay"}, "after all that")
    # Lists that are no lists: known labels stay, and it is asked again, ever later.
    scene.api.forget()
    for body in (b"[1,2", b'{"metadata":{},"items":[]}', b"[" * (1 << 20)):
        before = scene.api.count("list")
        scene.api.change(list_body=body, watch_ends=scene.api.watch_ends + 1)
        wait_until(lambda: scene.api.count("list") > before, 60, f"{body[:20]}: no list")
    scene.arrives_with(files["pay"], {"app": "pay"}, "while lists are no lists")
    scene.api.change(list_body=None)
    wait_until(lambda: scene.api.watches == 1, 60, "no watch after a sound list")
    need(scene.kubernetes_metric("pods") >= 3, "pods are gone")


def check_down(scene, files):
    """Nobody answers: known pods keep their labels, over a restart too; unknown ones wait, and go without."""
    scene.stop_api()
    wait_until(lambda: scene.kubernetes_metric("up") == 0, 30, "it is up")
    need(scene.agent.stop() == 0, "exit code")
    check_books(scene.agent)
    scene.start_agent()
    began = time.monotonic()
    scene.arrives_with(files["pay"], {"app": "pay"}, "after a restart without the server")
    need(time.monotonic() - began < 60 * PATIENCE, "it took too long")
    before = scene.kubernetes_metric("unknown_records_total")
    new = CriFile(scene.house, "shop", "unknown", uid(20))
    began = time.monotonic()
    found = scene.arrives(new, "of a pod that nobody knows")
    need(time.monotonic() - began > WAIT_S * 0.9, f"it did not wait: {time.monotonic() - began:.2f} s")
    need("labels" not in found and found["pod_name"] == "unknown", str(found))
    wait_until(lambda: scene.kubernetes_metric("unknown_records_total") == before + 1, 20, "it is not counted")
    scene.arrives(new, "no second wait")
    return new


def check_deleted(scene, files, pods, unknown):
    """A pod that is deleted while nobody looks, and whose log is not read yet, keeps its labels; and one that was not
    known gets them as soon as it is."""
    pods = [item for item in pods if item["metadata"]["uid"] != uid(1)] + [pod("shop", "unknown", uid(20), {"app": "new"})]
    scene.start_api(pods)
    scene.api.change(tokens={TOKENS[1]})
    wait_until(lambda: scene.api.watches == 1, 90, "no watch after the server came back")
    scene.arrives_with(unknown, {"app": "new"}, "known at last")
    scene.arrives_with(files["pay"], {"app": "pay"}, "of a pod that was deleted")
    scene.api.delete(uid(20))
    time.sleep(1)
    scene.arrives_with(unknown, {"app": "new"}, "deleted by the watch")


def check_reload(scene, files):
    """Another main takes over, with the pods of the one before; a configuration that is wrong does not."""
    scene.api.add(pod("shop", "job-1", uid(2), {"run": "last"}, {"more/x": "1"}))
    scene.arrives_with(files["job"], {"run": "last"}, "before the reload")
    scene.configure("kubernetes", node=", node: a/b")
    scene.agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "event=reload-refused " in scene.agent.text(), 30, "it was not refused")
    need("is no node's name" in scene.agent.text(), "not for its node")
    scene.configure("kubernetes", annotations="more/*")
    scene.agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "event=reload " in scene.agent.text(), 30, lambda: f"no reload\n{scene.agent.tail()}")
    need(scene.arrives(files["job"], "after the reload")["labels"] == {"run": "last"}, "no labels")
    wait_until(lambda: scene.arrives(files["job"], "by the new choice").get("annotations") == {"more/x": "1"}, 30,
               "the old choice of annotations")


def check_cache(scene):
    """It is no clear text; a damaged one is left out, and told."""
    path = scene.house.path("agent/spool/kubernetes-kubernetes")
    need(os.stat(path).st_mode & 0o777 == 0o600, oct(os.stat(path).st_mode))
    with open(path, "rb") as file:
        data = bytearray(file.read())
    for text in (b"pay", b"shop", b"app", SECRET.encode()):
        need(text not in data, f"{text} in clear")
    need(data[:4] == b"TFB1", "another form")
    data[len(data) // 2] ^= 1
    with open(path, "wb") as file:
        file.write(data)
    scene.start_agent()
    need("event=kubernetes-cache " in scene.agent.text(), "a damaged file is not told")
    need(scene.agent.stop() == 0, "exit code")


def check_refusals(house):
    """What is wrong with a configuration, in a sentence."""
    def refusal(options, command, env=None):
        house.configure_agent(filters=f"[kubernetes: {{{options}}}]")
        env = {**os.environ, **(env or {})}
        env.pop("KUBERNETES_SERVICE_HOST", None)
        done = subprocess.run([house.binary, command, "-c", house.path("agent/agent.yaml")], capture_output=True,
                              check=False, timeout=60 * PATIENCE, env=env)
        need(done.returncode != 0, f"{options}: taken")
        return (done.stdout + done.stderr).decode()

    need("mode: kubelet is not there yet; write mode: api" in refusal("mode: kubelet", "check"), "kubelet")
    need("is not https://HOST:PORT" in refusal("server: 'http://127.0.0.1:1'", "check"), "http")
    need("is no node's name" in refusal("server: 'https://127.0.0.1:1', node: 'a/b'", "run"), "node")
    need("KUBERNETES_SERVICE_HOST is not set" in refusal("wait: 1s", "run"), "no server")


def check_impostors(scene):
    """A server whose certificate is for another name, or from another authority, gets no token."""
    house = scene.house
    house.run("pki", "collector", house.path("pki"), "other.example.com")
    house.run("pki", "init", "--name", "Other", house.path("other"))
    house.run("pki", "collector", house.path("other"), "127.0.0.1")
    for name in ("pki/other.example.com", "other/127.0.0.1"):
        api = MockApi(house.path(f"{name}.pem"), house.path(f"{name}.key"), scene.port, TOKENS[1])
        scene.start_agent()
        wait_until(lambda: "event=kubernetes-down" in scene.agent.text(), 30, "it is not down")
        need(api.requests == [], f"{name} was asked: {api.requests}")
        scene.agent.stop()
        api.close()


def check_two_filters(scene, files):
    """Both know the pod; its labels stand on the record once."""
    scene.configure("kubernetes", "again")
    scene.start_api([pod("shop", "job-1", uid(2), {"run": "last"})])
    scene.api.change(tokens={TOKENS[1]})
    scene.start_agent()
    scene.arrives_with(files["job"], {"run": "last"}, "by two filters")
    with open(scene.house.records_path, "rb") as file:
        lines = [line for line in file if b"by two filters" in line]
    need(lines[-1].count(b'"labels"') == 1, lines[-1].decode())
    need(scene.agent.stop() == 0, "exit code")
    scene.stop_api()


def main():
    binary = sys.argv[1]
    with House(binary) as house:
        scene = Scene(house)
        collector = house.start("collector")
        pods = [pod("shop", "pay-5f7c9d8b6d-x2x4z", uid(1), {"app": "pay", "pod-template-hash": "5f7c9d8b6d"},
                    {"team/name": "shop \u00e9", "team/key": SECRET, "other/key": "not chosen"},
                    owner("ReplicaSet", "pay-5f7c9d8b6d")),
                pod("shop", "job-1", uid(2), None, None, owner("Job", "backup-29412345")),
                pod("kube-system", "api-node-1", "0000-mirror", {"tier": "control-plane"},
                    {"kubernetes.io/config.mirror": "5d41402abc4b2a76b9719d911017c592"})]
        files = {"pay": CriFile(house, "shop", "pay-5f7c9d8b6d-x2x4z", uid(1)),
                 "job": CriFile(house, "shop", "job-1", uid(2)),
                 "static": CriFile(house, "kube-system", "api-node-1", "5d41402abc4b2a76b9719d911017c592")}
        scene.start_api(pods)
        scene.start_agent()
        for check in (check_labels, check_change, check_watch, check_token, check_hostile):
            began = time.monotonic()
            check(scene, files)
            print(f"ok {check.__name__} {time.monotonic() - began:.1f} s", flush=True)
        unknown = check_down(scene, files)
        print("ok check_down")
        check_deleted(scene, files, pods, unknown)
        print("ok check_deleted")
        check_reload(scene, files)
        print("ok check_reload")
        need(scene.agent.stop() == 0, "exit code")
        check_books(scene.agent)
        scene.stop_api()
        check_impostors(scene)
        check_two_filters(scene, files)
        check_cache(scene)
        replayed = house.run("replay", house.path("agent/spool"), "--grep", "labels of the list").stdout
        owners = [json.loads(line)["kubernetes"].get("owner_name") for line in replayed.splitlines()]
        need(sorted(map(str, owners)) == ["backup", "pay"], f"replayed with the owners {owners}")
        need(collector.stop() == 0, "exit code")
        for log in (house.path("agent/agent.log"), house.records_path):
            with open(log, "rb") as file:
                text = file.read()
            need(not any(token.encode() in text for token in TOKENS), f"{log}: a token")
            need(SECRET.encode() not in text, f"{log}: a secret")
        check_refusals(house)
        print("ok")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        print(failure)
        sys.exit(1)
