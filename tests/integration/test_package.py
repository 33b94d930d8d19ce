#!/usr/bin/python3
"""test_package.py DEB CACHE - the Debian package: installed in a small Debian, run as its unit would, taken out.

The Debian is made by mmdebstrap from the mirror that this machine's apt uses, with what the package depends on and
nothing else, and is kept as a tarball in CACHE. The service runs with the unit's user, groups, capability, filters
and read-only system (unit_runner.py). A line of a container's log, 0600 and root's, and the entries of a journal arrive
in a file; the journal's reader has no capability and its own filter on top of the unit's. The spool's key is a
credential. Where there is no root, no mmdebstrap or no mirror to be reached it says so, and is skipped; without
lintian its part is.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

from harness import PATIENCE, Failed, children_of, need, wait_until
from test_sandbox import resting_status
from unit_runner import Unit

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
JOURNAL = os.path.join(TESTS, "fixtures/journald/files/journal-dir-252-compact.tar.gz")
POD = "var/log/pods/shop_pay-0_0a1b2c3d-0000-4000-8000-000000000000/app"
CONFIG = """
agent: {host: node-1}
inputs:
  - container: {}
  - journald: {helper: reader, start_at: oldest}
spool: {keep_free: 0, keys: ["${CREDENTIALS_DIRECTORY}/spool.key"]}
outputs: [file: {path: /var/log/taffrail/records.ndjson}]
"""


class Skipped(Exception):
    """What the test needs is not here."""


def run(*words, **options):
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    need(done.returncode == 0, f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"[-4000:])
    return done.stdout


# ---- a small Debian -----------------------------------------------------------------------------

def find_mirror():
    """Mirror and suite of the machine's own release."""
    with open("/etc/os-release", encoding="utf-8") as file:
        suite = re.search(r"^VERSION_CODENAME=(\w+)", file.read(), re.MULTILINE)[1]
    lines = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)",
                "Created-By: Packages").splitlines()
    mirrors = [line.split()[0] for line in lines if line.split()[1:] == [suite, "main"]]
    need(mirrors, f"apt knows no mirror of {suite} main")
    return mirrors[0], suite


def dependencies(deb):
    depends = run("dpkg-deb", "--field", deb, "Depends")
    return sorted({choice.split("|")[0].split("(")[0].strip() for choice in depends.split(",")})


def make_debian(deb, cache):
    """The tarball of a Debian with what the package depends on."""
    mirror, suite = find_mirror()
    names = dependencies(deb)
    key = hashlib.sha256(" ".join([suite, *names]).encode()).hexdigest()[:16]
    path = os.path.join(cache, f"debian-{suite}-{key}.tar")
    if not os.path.exists(path):
        os.makedirs(cache, exist_ok=True)
        try:
            run("mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", f"--include={','.join(names)}", suite,
                f"{path}.tmp", mirror)
        except Failed as failure:
            if re.search("Could not (connect|resolve)|Unable to connect|Temporary failure", str(failure)):
                raise Skipped("the mirror cannot be reached") from None
            raise
        os.rename(f"{path}.tmp", path)
    return path


class Debian:
    def __init__(self, tarball, deb):
        self.folder = tempfile.mkdtemp(prefix="taffrail-test-")
        self.root = os.path.join(self.folder, "root")
        os.mkdir(self.root)
        os.chmod(self.folder, 0o755)
        run("tar", "-xf", tarball, "-C", self.root, "--exclude=./dev/*")
        os.mknod(self.path("dev/null"), 0o666 | 0o020000, os.makedev(1, 3))
        os.chmod(self.path("dev/null"), 0o666)
        shutil.copy(deb, self.path("taffrail.deb"))

    def path(self, name):
        return os.path.join(self.root, name)

    def run(self, *words):
        return run("unshare", "--mount", "--pid", "--fork", f"--mount-proc={self.path('proc')}", "chroot", self.root, "env", "-i", "PATH=/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", *words)

    def write(self, name, text, mode):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, mode), "w", encoding="utf-8") as file:
            file.write(text)

    def remove(self):
        shutil.rmtree(self.folder)


# ---- what is promised ---------------------------------------------------------------------------

def check_lintian(deb):
    if shutil.which("lintian") is None:
        print("skip  lintian is not here")
        return
    found = run("lintian", "--allow-root", "--tag-display-limit", "0", deb)
    need(not found, f"lintian: {found}")
    print("ok    lintian: nothing that is not explained")


def check_installed(debian):
    debian.run("dpkg", "-i", "/taffrail.deb")
    need(", release)" in debian.run("taffrail", "--version"), "no release build")
    need("libsystemd" in debian.run("/usr/libexec/taffrail/taffrail-journal", "--version"), "no reader of the journal")
    groups = debian.run("id", "-nG", "taffrail").split()
    need(groups[0] == "taffrail" and set(groups[1:]) == {"adm", "systemd-journal"}, f"groups {groups}")
    need(debian.run("stat", "-c", "%a %U %G", "/var/lib/taffrail").split() == ["700", "taffrail", "taffrail"],
         "/var/lib/taffrail")
    need(debian.run("stat", "-c", "%a %U %G", "/etc/taffrail/taffrail.yaml").split() == ["644", "root", "root"],
         "taffrail.yaml")
    need(not os.path.lexists(debian.path("etc/systemd/system/multi-user.target.wants/taffrail.service")),
         "it is enabled before it is configured")
    debian.run("systemd-analyze", "verify", "--man=no", "taffrail.service")
    debian.run("systemd-analyze", "security", "--offline=true", "--threshold=15", "taffrail.service")
    print("ok    installed: release build, user, modes, unit sound and not above 1.6")


def prepare(debian):
    debian.write("etc/taffrail/taffrail.yaml", "", 0o644)
    with open(debian.path("etc/taffrail/taffrail.yaml"), "w", encoding="utf-8") as file:
        file.write(CONFIG)
    debian.write(f"{POD}/0.log", "2026-11-23T10:15:04.120000000Z stdout F before the start\n", 0o600)
    with tarfile.open(JOURNAL) as archive:
        archive.extractall(debian.path("var/log/journal"))
    debian.run("chown", "-R", "root:systemd-journal", "/var/log/journal")
    debian.run("chmod", "-R", "u=rwX,g=rX,o=", "/var/log/journal")
    debian.run("taffrail", "pki", "spool", "/root/spool.key")
    debian.run("runuser", "-u", "taffrail", "--", "taffrail", "pki", "seal", "/var/lib/taffrail/spool")


def records(debian):
    path = debian.path("var/log/taffrail/records.ndjson")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def check_reader(unit):
    children = {status["Name"]: status for status in (resting_status(pid, pid) for pid in children_of(unit.main_pid))}
    need(sorted(children) == ["taffrail-journa", "taffrail-opener"], f"children: {sorted(children)}")
    status, opener = children["taffrail-journa"], children["taffrail-opener"]
    need(int(status["CapPrm"], 16) == 0, f"the journal's reader has capabilities {status['CapPrm']}")
    need(status["Seccomp_filters"] == "3", f"filters on the journal's reader: {status['Seccomp_filters']}")
    need((int(opener["CapPrm"], 16), int(opener["CapEff"], 16)) == (4, 0), "CAP_DAC_READ_SEARCH alone, and not in effect")
    need(opener["Seccomp_filters"] == "2", f"filters on the opener: {opener['Seccomp_filters']}")


def check_run(debian):
    prepare(debian)
    log = os.path.join(debian.folder, "service.log")
    unit = Unit(debian.root, "taffrail.service")
    with open(debian.path("root/spool.key"), "rb") as file:
        unit.add_credential("spool.key", file.read())

    def told(what):
        with open(log, encoding="utf-8") as file:
            return f"{what}\n{file.read()}"

    unit.start(log)
    try:
        first = unit.hear(15 * PATIENCE)
        need(first.get("READY") == "1", told(f"the manager heard {first}"))
        need(unit.hear(5 * PATIENCE) == {"WATCHDOG": "1"}, "no sign of life")
        debian.write(f"{POD}/0.log", "2026-11-23T10:15:05.120000000Z stdout F password=hunter22\n", 0o600)
        wait_until(lambda: len([record for record in records(debian) if record["tag"] == "container"]) == 2, 15,
                   lambda: told("no line of the container"))
        wait_until(lambda: len([record for record in records(debian) if record["tag"] == "journald"]) >= 40, 15,
                   lambda: told("no entries of the journal"))
        texts = [record["log"] for record in records(debian) if record["tag"] == "container"]
        need(texts == ["before the start", "password=[REDACTED:assigned-password]"], f"{texts}")
        for pid, permitted in ((unit.pid, 4), (unit.main_pid, 0)):
            status = status_of(pid)
            need((int(status["CapPrm"], 16), int(status["CapEff"], 16)) == (permitted, 0), "CAP_DAC_READ_SEARCH is the parent's, not in effect")
        need("4 of 4 layers on" in told(""), told("the unit takes a layer from the sandbox"))
        need("jit=true" in told(""), told("the unit forbids PCRE2's JIT"))
        need("sealed=true" in told(""), told("the seal key of `pki seal` is not used"))
        check_reader(unit)
        code = unit.stop()
        need(code == 0, told(f"exit {code}"))
    finally:
        unit.kill()
    print("ok    run as the unit: root's log and the journal arrive, redacted; only the opener has a capability")


def check_removed(debian):
    debian.run("dpkg", "-i", "/taffrail.deb")  # over itself, as an upgrade
    with open(debian.path("etc/taffrail/taffrail.yaml"), encoding="utf-8") as file:
        need(file.read() == CONFIG, "an upgrade changed the configuration")
    debian.run("dpkg", "-r", "taffrail")
    need(not os.path.exists(debian.path("usr/sbin/taffrail")), "removed, and still there")
    need(os.path.exists(debian.path("etc/taffrail/taffrail.yaml")), "a removal took the configuration")
    debian.run("dpkg", "-P", "taffrail")
    need(not os.path.exists(debian.path("etc/taffrail")), "a purge left the configuration")
    need(os.listdir(debian.path("var/lib/taffrail/spool")), "a purge took the spool")
    print("ok    upgraded, removed, purged: the spool is kept")


def main():
    deb, cache = sys.argv[1:]
    check_lintian(deb)
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        raise Skipped("it needs root and mmdebstrap")
    debian = Debian(make_debian(deb, cache), deb)
    check_installed(debian)
    check_run(debian)
    check_removed(debian)
    debian.remove()


if __name__ == "__main__":
    try:
        main()
    except Skipped as reason:
        print(f"skip  {reason}")
    except Failed as failure:
        sys.exit(f"FAIL  {failure}")
