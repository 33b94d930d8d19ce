#!/usr/bin/env python3
"""The container image holds what it should and nothing else, and runs with as few rights as the chart gives it.

usage: test_image.py TAFFRAIL ARCHIVE

TAFFRAIL is the collector, on this machine; ARCHIVE is what `./dev image` built. The layer is looked at as it is: size, modes,
the one file capability, user, labels, no shell. With the two libraries that the image has of its own, TAFFRAIL passes the test
of Kubernetes labels. The Dockerfile's HEALTHCHECK is run by hand in a running agent, for an image in OCI's format has no place
for it. Podman writes real CRI logs, and the agent reads them in a container: root of it read-only, no capabilities, no new
privileges, the seccomp profile of conf/seccomp. Where podman or the rights for it are missing, that half is skipped by name.
"""

import io
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request

from harness import Failed, House, PATIENCE, Program, check_books, free_port, need, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
SECCOMP = os.path.join(HERE, "../../conf/seccomp/taffrail.json")
DOCKERFILE = os.path.join(HERE, "../../conf/container/Dockerfile")
CAP_DAC_READ_SEARCH = 1 << 2  # linux/capability.h
REVISION_MASK, REVISION_2, EFFECTIVE = 0xFF000000, 0x02000000, 1  # the same, struct vfs_cap_data
SIZE_MAX_BYTES = 15 * 1000 * 1000
SIZE_MAX_BYTES_WITH_READER = 16 * 1000 * 1000
AGENT = "65532:65532"
JOURNAL_REMOTE = "/lib/systemd/systemd-journal-remote"
JOURNAL_GROUP = 4242  # that of systemd-journal on a node; any number


# ---- what is in it ------------------------------------------------------------------------------

class Archive:
    """An OCI archive: its configuration, and the entries of its layers."""

    def __init__(self, path):
        self.tar = tarfile.open(path)
        manifest = self.blob(self.read("index.json")["manifests"][0]["digest"])
        self.config = self.blob(manifest["config"]["digest"])
        self.layers = [tarfile.open(fileobj=io.BytesIO(self.bytes(layer["digest"]))) for layer in manifest["layers"]]
        self.entries = [entry for layer in self.layers for entry in layer.getmembers()]

    def bytes(self, digest):
        return self.tar.extractfile("blobs/" + digest.replace(":", "/")).read()

    def blob(self, digest):
        return json.loads(self.bytes(digest))

    def read(self, name):
        return json.loads(self.tar.extractfile(name).read())

    def has_reader(self):
        return any(entry.name.endswith("/taffrail-journal") for entry in self.entries)

    def extract(self, name, folder):
        """The file of that name, wherever it is."""
        for layer in self.layers:
            for entry in layer.getmembers():
                if os.path.basename(entry.name) == name and entry.isreg():
                    with open(os.path.join(folder, name), "wb") as file:
                        shutil.copyfileobj(layer.extractfile(entry), file)
                    return
        raise Failed(f"no {name}")


def file_capabilities(archive):
    """{path: (permitted, whether effective too)}"""
    found = {}
    for entry in archive.entries:
        value = entry.pax_headers.get("SCHILY.xattr.security.capability")
        if value is not None:
            words = struct.unpack("<5I", value.encode("utf-8", "surrogateescape"))
            need(words[0] & REVISION_MASK == REVISION_2, f"{entry.name}: capabilities of another revision")
            need(words[2:] == (0, 0, 0), f"{entry.name}: inheritable or higher capabilities {words}")
            found[entry.name] = words[1], bool(words[0] & EFFECTIVE)
    return found


def check_contents(archive):
    size = sum(entry.size for entry in archive.entries)
    size_max = SIZE_MAX_BYTES_WITH_READER if archive.has_reader() else SIZE_MAX_BYTES
    need(size < size_max, f"{size} bytes; {size_max} are the bound")
    special = [entry.name for entry in archive.entries if entry.mode & 0o7000]
    need(not special, f"setuid, setgid or sticky: {special}")
    loose = [entry.name for entry in archive.entries if entry.mode & 0o022]
    need(not loose, f"others may write: {loose}")
    odd = [entry.name for entry in archive.entries if not (entry.isreg() or entry.isdir())]
    need(not odd, f"neither file nor folder: {odd}")
    programs = {entry.name for entry in archive.entries
                if entry.isreg() and entry.mode & 0o111 and ".so" not in os.path.basename(entry.name)}
    allowed = {"usr/sbin/taffrail", "usr/libexec/taffrail/own-folder", "usr/libexec/taffrail/taffrail-journal"}
    need({"usr/sbin/taffrail"} <= programs <= allowed, f"programs: {sorted(programs)}")
    keys = [entry.name for entry in archive.entries if entry.name.endswith((".key", ".pem", ".crt"))]
    need(not keys, f"keys or certificates: {keys}")
    capabilities = file_capabilities(archive)
    need(capabilities == {"usr/sbin/taffrail": (CAP_DAC_READ_SEARCH, False)}, f"file capabilities: {capabilities}")
    return size


def check_config(archive):
    config = archive.config["config"]
    need(config["User"] == AGENT, f"user {config['User']}")
    need(config["Entrypoint"] == ["/usr/sbin/taffrail"], f"entrypoint {config['Entrypoint']}")
    for label in ("title", "description", "licenses", "version", "revision"):
        value = config["Labels"].get(f"org.opencontainers.image.{label}", "")
        need(value not in ("", "unknown"), f"label {label} is missing")
    need(not any("=" in word and "PATH=" not in word for word in config.get("Env", [])), f"environment {config['Env']}")


# ---- how it runs --------------------------------------------------------------------------------

class Podman:
    """Containers in a storage of their own, without control groups: a build machine has them in many ways."""

    def __init__(self, folder):
        self.words = ["podman", "--root", os.path.join(folder, "storage"), "--runroot", os.path.join(folder, "run"),
                      "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "crun",
                      "--events-backend", "file"]

    def run_words(self, *more):
        return [*self.words, "run", "--rm", "--cgroups=disabled", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
                *more]

    def call(self, *more, text=None):
        done = subprocess.run([*self.words, *more], input=text, capture_output=True, text=True, timeout=300, check=False)
        need(done.returncode == 0, f"podman {' '.join(more)}: {done.stderr}")
        return done.stdout

    def run(self, *more, text=None):
        done = subprocess.run(self.run_words(*more), input=text, capture_output=True, text=True, timeout=300, check=False)
        need(done.returncode == 0, f"podman run {' '.join(more)}: {done.stderr}")
        return done.stdout

    def pid_of(self, name):
        return int(self.call("inspect", "--format", "{{.State.Pid}}", name))


def enter_own_mounts():
    """podman wants control groups of one version; in a mount namespace of our own nobody else sees the change."""
    if os.environ.get("TAFFRAIL_TEST_MOUNTS") != "own":
        os.environ["TAFFRAIL_TEST_MOUNTS"] = "own"
        os.execvp("unshare", ["unshare", "-m", sys.executable, *sys.argv])
    subprocess.run("umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup", shell=True, check=False,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def skip(what):
    need(os.environ.get("SKIPS") != "forbidden", f"left out: {what}")
    print(f"skipped: {what}")


def missing_for_podman():
    if os.geteuid() != 0:
        return "wants root"
    absent = [name for name in ("podman", "crun", "conmon", "unshare") if shutil.which(name) is None]
    return f"no {', '.join(absent)}" if absent else ""


def log_path(house, pod):
    folder = house.path("logs/pods", f"shop_{pod}_0001", "app")
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, "0.log")


def write_real_log(podman, house, pod, text):
    """A container prints text, and conmon writes its log: CRI format, mode 0600, owner root."""
    path = log_path(house, pod)
    podman.run("--network", "none", "--read-only", "--cap-drop", "all", "--log-driver", "k8s-file", "--log-opt", f"path={path}",
               "-i", "taffrail", "redact", text=text)
    need(" F " in open(path, encoding="utf-8").read(), f"{path} is not CRI")
    return path


def configure(house, user, inputs="[container: {}]", listen="off"):
    """The agent's folders as the chart mounts them, readable by user."""
    house.write("agent/taffrail.yaml", f"""
agent: {{host: node-1}}
admin: {{listen: {listen}}}
inputs: {inputs}
spool: {{path: /var/lib/taffrail/spool, keep_free: 0}}
outputs:
  - forward:
      hosts: ["127.0.0.1:{house.port}"]
      tls: {{ca: tls/ca.pem, cert: tls/node-1.pem, key: tls/node-1.key}}
""")
    os.makedirs(house.path("agent/tls"), exist_ok=True)
    for name in ("ca.pem", "node-1.pem", "node-1.key"):
        shutil.copy(house.path("pki", name), house.path("agent/tls", name))
        os.chown(house.path("agent/tls", name), user, -1)
    os.chmod(house.path("agent/taffrail.yaml"), 0o644)


class Agent:
    """One run of the image as an agent; ends with the block."""

    def __init__(self, podman, house, name, user, spool, *more):
        self.podman, self.name = podman, name
        self.program = Program(podman.run_words(
            "--name", name, "--network", "host", "--read-only", "--user", user, "--cap-drop", "all", *more,
            "--security-opt", "no-new-privileges", "--security-opt", f"seccomp={SECCOMP}",
            "-v", f"{house.path('agent')}:/etc/taffrail:ro", "-v", f"{house.path('logs/pods')}:/var/log/pods:ro",
            "-v", f"{spool}:/var/lib/taffrail", "taffrail"), house.path(f"{name}.log"))
        house.programs.append(self.program)
        self.program.wait_event("ready", 30)

    def status(self):
        """The kernel's view of the agent's rights: {name: value}."""
        with open(f"/proc/{self.podman.pid_of(self.name)}/status", encoding="ascii") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)

    def exec_code(self, words):
        """What a program that is started in the container exits with."""
        return subprocess.run([*self.podman.words, "exec", self.name, *words], capture_output=True, check=False).returncode

    def stop(self):
        need(self.program.stop() == 0, f"{self.name} did not stop well:\n{self.program.tail()}")


def has_line(house, text):
    return any(record.get("log") == text for record in house.records())


def check_rights(status, permitted):
    need(int(status["CapPrm"], 16) == permitted, f"permitted capabilities {status['CapPrm']}")
    need(int(status["CapBnd"], 16) == permitted, f"bounding set {status['CapBnd']}")
    need(status["NoNewPrivs"] == "1", "new privileges are possible")
    need(status["Seccomp"] == "2", "no seccomp filter")


def healthcheck():
    """The command of the Dockerfile's HEALTHCHECK."""
    with open(DOCKERFILE, encoding="utf-8") as file:
        found = re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", file.read(), re.M)
    need(found is not None, "the Dockerfile has no HEALTHCHECK")
    return json.loads(found[1])


def probe(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10 * PATIENCE) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def answers_probes(podman, house):
    """The chart's port, on all addresses: healthy and ready; status is not for all. Then the default, a socket in /run/taffrail."""
    port = free_port()
    for name, listen, folder in (("probes", f"['0.0.0.0:{port}', '127.0.0.1:{free_port()}']", []), ("socket", "['unix:/run/taffrail/admin.sock']",
                                                                         ["--tmpfs", "/run/taffrail:mode=0700,U"])):
        spool = house.path(f"{name}-spool")
        os.makedirs(spool, 0o700)
        os.chown(spool, 65532, 65532)
        configure(house, 65532, listen=listen)
        agent = Agent(podman, house, name, "65532:0", spool, *folder)
        need(agent.exec_code(healthcheck()) == 0, f"{name}: the healthcheck fails\n{agent.program.tail()}")
        need(agent.exec_code([*healthcheck(), "--socket", "127.0.0.1:1"]) == 1, "a healthcheck that nobody answers")
        need(agent.exec_code(["/usr/sbin/taffrail", "status", "--once"]) == 0, "no status from inside")
        if not folder:
            codes = {path: probe(port, path) for path in ("/healthz", "/readyz", "/metrics", "/status", "/")}
            need(codes == {"/healthz": 200, "/readyz": 200, "/metrics": 200, "/status": 404, "/": 404}, f"probes: {codes}")
        agent.stop()


def runs_as_in_the_chart(podman, house):
    """uid 65532, group 0, no capability; the spool given by own-folder; a log as containerd leaves it, 0640 root:root."""
    spool = house.path("node-spool")
    os.makedirs(spool)
    podman.run("--network", "none", "--read-only", "--user", "0:0", "--cap-drop", "all", "--cap-add", "CHOWN",
               "--security-opt", "no-new-privileges", "--entrypoint", "/usr/libexec/taffrail/own-folder",
               "-v", f"{spool}:/var/lib/taffrail", "taffrail", "/var/lib/taffrail")
    os.chmod(write_real_log(podman, house, "cart", "cart line 1\npassword=hunter22\n"), 0o640)
    configure(house, 65532)
    agent = Agent(podman, house, "chart", "65532:0", spool)
    check_rights(agent.status(), 0)
    wait_until(lambda: has_line(house, "cart line 1"), 20, lambda: f"no line arrived\n{agent.program.tail()}")
    agent.stop()
    check_books(agent.program)
    need("hunter22" not in open(house.records_path, encoding="utf-8").read(), "a secret went out")


def runs_as_root_without_capabilities(podman, house):
    """values-root.yaml: conmon's own mode, 0600 root."""
    spool = house.path("root-spool")
    os.makedirs(spool, 0o700)
    write_real_log(podman, house, "pay", "pay line 1\n")
    configure(house, 0)
    agent = Agent(podman, house, "root", "0:0", spool)
    check_rights(agent.status(), 0)
    wait_until(lambda: has_line(house, "pay line 1"), 20, lambda: f"no line arrived\n{agent.program.tail()}")
    agent.stop()


def is_granted_the_capability(podman, house):
    """uid and group 65532 with DAC_READ_SEARCH: the file capability makes it permitted, and only that."""
    spool = house.path("cap-spool")
    os.makedirs(spool, 0o700)
    os.chown(spool, 65532, 65532)
    write_real_log(podman, house, "mail", "mail line 1\n")
    configure(house, 65532)
    agent = Agent(podman, house, "capability", AGENT, spool, "--cap-add", "DAC_READ_SEARCH")
    status = agent.status()
    check_rights(status, CAP_DAC_READ_SEARCH)
    need(int(status["CapEff"], 16) == 0 and int(status["CapAmb"], 16) == 0, f"effective {status['CapEff']}, ambient {status['CapAmb']}")
    wait_until(lambda: has_line(house, "mail line 1"), 20, lambda: f"no line arrived\n{agent.program.tail()}")
    agent.stop()


def documented_run():
    """The words of `podman run` in docs/container-security.md."""
    with open(os.path.join(HERE, "../../docs/container-security.md"), encoding="utf-8") as file:
        block = re.search(r"^    podman run -d (?:.*\\\n)*.*$", file.read(), re.M)
    need(block is not None, "the docs have no podman run")
    return shlex.split(block[0].replace("\\\n", ""))[2:]


def runs_as_the_docs_say(podman, house):
    """That command with this machine's folders; limits want control groups, which it is run without. Then its health."""
    write_real_log(podman, house, "docs", "docs line 1\n")
    configure(house, 0, "[container: {paths: [/var/lib/docker/containers/*/*/*.log]}]", listen="['unix:/run/taffrail/admin.sock']")
    folders = {"/etc/taffrail": house.path("agent"), "/var/lib/docker/containers": house.path("logs/pods"),
               "/var/lib/taffrail": house.path("docs-spool")}
    os.makedirs(folders["/var/lib/taffrail"], 0o700)
    words = iter(documented_run())
    given = []
    for word in words:
        if word in ("--memory", "--pids-limit"):
            next(words)
        elif word == "-v":
            source, _, rest = next(words).partition(":")
            given += [word, f"{folders.pop(source)}:{rest}"]
        elif word.startswith("seccomp="):
            given.append(f"seccomp={SECCOMP}")
        else:
            given.append(word)
    need(not folders, f"not mounted: {folders}")
    podman.call("run", "--cgroups=disabled", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--network", "host", *given)
    wait_until(lambda: has_line(house, "docs line 1"), 20, lambda: f"no line arrived\n{podman.call('logs', 'taffrail')}")
    podman.call("healthcheck", "run", "taffrail")
    podman.call("stop", "taffrail")
    podman.call("rm", "taffrail")


def read_journal(podman, house, name, group, *how):
    """Reads a journal of root and that group on the node, mode 0640 in a folder of 0750."""
    journal, spool = house.path("logs", name), house.path(f"{name}-spool")
    os.makedirs(journal)
    os.makedirs(spool, 0o700)
    os.chown(spool, 65532, 65532)
    entry = f"__REALTIME_TIMESTAMP=1795428904120000\n__MONOTONIC_TIMESTAMP=1000\n_BOOT_ID={'1' * 32}\nMESSAGE={name} line 1\n\n"
    path = os.path.join(journal, "system.journal")
    subprocess.run([JOURNAL_REMOTE, "-o", path, "-"], input=entry.encode(), check=True, capture_output=True)
    for item, mode in ((path, 0o640), (journal, 0o750)):
        os.chown(item, 0, group)
        os.chmod(item, mode)
    configure(house, 65532, "[journald: {paths: [/var/log/journal], start_at: oldest, helper: reader}]")
    agent = Agent(podman, house, name, AGENT, spool, *how, "-v", f"{journal}:/var/log/journal:ro")
    wait_until(lambda: has_line(house, f"{name} line 1"), 20, lambda: f"no entry arrived\n{agent.program.tail()}")
    agent.stop()
    return agent.program


def reads_the_journal(podman, house):
    """taffrail-journal, by the group that owns the journal on the node; its own confinement holds within the container's."""
    program = read_journal(podman, house, "journal", JOURNAL_GROUP, "--group-add", str(JOURNAL_GROUP))
    need(not program.has_event("launcher"), program.tail())


def reads_the_journal_by_the_capability(podman, house):
    """values-capability.yaml: of whatever group, by a launcher (docs/launcher.md)."""
    program = read_journal(podman, house, "closed-journal", 0, "--cap-add", "DAC_READ_SEARCH")
    need(program.has_event("launcher") and "reads_all_logs=true" in program.text(), program.tail())


def check_running(binary, archive, revision, has_reader):
    with House(binary) as house:
        podman = Podman(house.path("podman"))
        podman.call("load", "-i", os.path.abspath(archive))
        podman.call("tag", podman.call("images", "-q").split()[0], "localhost/taffrail")
        version = podman.run("--network", "none", "--user", AGENT, "--cap-drop", "all", "taffrail", "--version")
        need(version.startswith("taffrail "), f"it does not start without capabilities: {version}")
        need(f"({revision[:12]}, release)" in version, f"not of the revision that its label tells, {revision}: {version}")
        house.make_pki()
        house.configure_collector()
        house.start("collector")
        checks = [answers_probes, runs_as_in_the_chart, runs_as_root_without_capabilities, runs_as_the_docs_say, is_granted_the_capability]
        if has_reader and os.path.exists(JOURNAL_REMOTE):
            checks += [reads_the_journal, reads_the_journal_by_the_capability]
        elif has_reader:
            skip("reading the journal (no systemd-journal-remote)")
        try:
            for check in checks:
                check(podman, house)
                print(f"ok    {check.__name__.replace('_', ' ')}")
        finally:
            podman.call("stop", "--all", "--time", "5")  # a container outlives the podman that started it


def check_own_libraries(binary, archive):
    """What conf/container/libraries built serves this machine's taffrail, too: labels from the Kubernetes API, and metrics."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("libcurl.so.4", "libmicrohttpd.so.12"):
            archive.extract(name, folder)
        env = {**os.environ, "LD_LIBRARY_PATH": folder}
        linked = subprocess.run(["ldd", binary], capture_output=True, text=True, env=env, check=True).stdout
        need(linked.count(folder) == 2 and "gnutls" not in linked, f"linked with others:\n{linked}")
        words = [sys.executable, os.path.join(HERE, "test_kubernetes.py"), binary]
        done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
        need(done.returncode == 0, f"labels with the image's libraries:\n{done.stdout}{done.stderr}")


def main():
    binary, path = sys.argv[1], sys.argv[2]
    why = missing_for_podman()
    if not why:
        enter_own_mounts()
    archive = Archive(path)
    size = check_contents(archive)
    check_config(archive)
    print(f"ok    contents: {size:,} bytes, one file capability, no setuid, no shell")
    check_own_libraries(binary, archive)
    print("ok    its libcurl and libmicrohttpd")
    if why:
        skip(f"running it ({why})")
    else:
        revision = archive.config["config"]["Labels"]["org.opencontainers.image.revision"]
        check_running(binary, path, revision, archive.has_reader())


if __name__ == "__main__":
    main()
