"""unit_runner.py - runs a unit's ExecStart in a root folder as systemd would, as far as that goes without it.

Taken from the unit: User and its groups, UMask, LimitCORE, AmbientCapabilities, CapabilityBoundingSet,
NoNewPrivileges, SystemCallFilter, RestrictAddressFamilies, RestrictNamespaces (unshare and setns), ProtectSystem=strict
with StateDirectory and LogsDirectory, ProtectProc, WatchdogSec, NOTIFY_SOCKET. Credentials are given as systemd
gives them: root's files, 0400, with an access list entry for the user. Not here: devices, cgroups, the other Protect
and Private switches. Needs root, libseccomp, and systemd-analyze, which knows the sets of system calls.
"""

import ctypes
import os
import resource
import signal
import socket
import struct
import subprocess

from harness import children_of

LIBC = ctypes.CDLL(None, use_errno=True)
CAPABILITIES = {"CAP_DAC_READ_SEARCH": 2}
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
CLONE_NEWNS = 0x20000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
PR_CAPBSET_DROP, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 24, 8, 38, 47, 2
SCMP_ACT_ALLOW, SCMP_ACT_EPERM, SCMP_CMP_EQ = 0x7FFF0000, 0x00050001, 4


def check(rc, what):
    if rc != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def read_unit(path):
    """[Service]'s keys: the list of all that was written for each, in order."""
    keys = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            if "=" in line and line[0].isupper():
                name, value = line.rstrip("\n").split("=", 1)
                keys.setdefault(name, []).append(value)
    return keys


class Calls:
    """The system calls that SystemCallFilter leaves."""

    def __init__(self):
        text = subprocess.run(["systemd-analyze", "syscall-filter"], check=True, capture_output=True, text=True).stdout
        self.sets = {}
        for line in text.splitlines():
            if line.startswith("@"):
                current = self.sets.setdefault(line.strip(), [])
            elif line.startswith("    ") and not line.strip().startswith("#"):
                current.append(line.strip())

    def expand(self, words):
        found = set()
        for word in words:
            found |= self.expand(self.sets[word]) if word.startswith("@") else {word}
        return found

    def allowed(self, filters):
        calls = self.expand(["@default"])
        for line in filters:
            if line.startswith("~"):
                calls -= self.expand(line[1:].split())
            else:
                calls |= self.expand(line.split())
        return calls


class Comparison(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def load_filter(calls, families):
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint,
                                           ctypes.POINTER(Comparison)]
    lib.seccomp_load.argtypes = [ctypes.c_void_p]
    context = lib.seccomp_init(SCMP_ACT_EPERM)
    for name in sorted(calls - {"socket"}):
        number = lib.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # else this machine has no such call
            lib.seccomp_rule_add_array(context, SCMP_ACT_ALLOW, number, 0, None)
    for family in families:
        lib.seccomp_rule_add_array(context, SCMP_ACT_ALLOW, lib.seccomp_syscall_resolve_name(b"socket"), 1,
                                   ctypes.byref(Comparison(0, SCMP_CMP_EQ, FAMILIES[family], 0)))
    check(lib.seccomp_load(context), "seccomp_load")


def set_capabilities(numbers):
    mask = sum(1 << number for number in numbers)
    header = struct.pack("Ii", 0x20080522, 0)
    check(LIBC.capset(header, struct.pack("6I", mask, mask, mask, 0, 0, 0)), "capset")
    for number in numbers:
        check(LIBC.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0), "ambient")


class Unit:
    """One start of a unit. root is the folder that holds a whole system, with the package in it."""

    def __init__(self, root, name):
        self.root = root
        self.keys = read_unit(os.path.join(root, "usr/lib/systemd/system", name))
        self.credentials = f"/run/credentials/{name}"
        os.makedirs(root + self.credentials, exist_ok=True)
        self.user, self.uid, self.gid, self.groups = self.find_user(self.keys["User"][0])
        self.allowed = Calls().allowed(self.keys["SystemCallFilter"]) - {"unshare", "setns"}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(os.path.join(root, "run/notify"))
        os.chmod(os.path.join(root, "run/notify"), 0o666)
        self.pid = None

    def find_user(self, name):
        with open(os.path.join(self.root, "etc/passwd"), encoding="utf-8") as file:
            fields = next(line.split(":") for line in file if line.startswith(f"{name}:"))
        with open(os.path.join(self.root, "etc/group"), encoding="utf-8") as file:
            groups = [line.rstrip("\n").split(":") for line in file]
        members = [int(group[2]) for group in groups if name in group[3].split(",")]
        return name, int(fields[2]), int(fields[3]), [int(fields[3]), *members]

    def add_credential(self, name, content):
        path = f"{self.root}{self.credentials}/{name}"
        with open(path, "wb") as file:
            file.write(content)
        entries = [(1, 4, -1), (2, 4, self.uid), (4, 0, -1), (16, 4, -1), (32, 0, -1)]
        os.chmod(path, 0o400)
        os.setxattr(path, "system.posix_acl_access",
                    struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries))

    def mount(self):
        def mount(source, target, kind, flags, data=None):
            check(LIBC.mount(source.encode(), target.encode(), kind, flags, data), f"mount {target}")

        check(LIBC.unshare(CLONE_NEWNS), "unshare")
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        mount(self.root, self.root, None, MS_BIND)
        for folder in ("var/lib/" + self.keys["StateDirectory"][0], "var/log/" + self.keys["LogsDirectory"][0],
                       "run/" + self.keys["RuntimeDirectory"][0]):
            path = os.path.join(self.root, folder)
            os.makedirs(path, exist_ok=True)
            os.chown(path, self.uid, self.gid)
            mount(path, path, None, MS_BIND)
        if self.keys["ProtectSystem"] == ["strict"]:
            mount("none", self.root, None, MS_REMOUNT | MS_BIND | MS_RDONLY)
        mount("proc", os.path.join(self.root, "proc"), b"proc", 0, b"hidepid=" + self.keys["ProtectProc"][0].encode())

    def become(self):
        bound = {CAPABILITIES[name] for name in self.keys["CapabilityBoundingSet"][0].split()}
        os.umask(int(self.keys["UMask"][0], 8))
        resource.setrlimit(resource.RLIMIT_CORE, (int(self.keys["LimitCORE"][0]),) * 2)
        self.mount()
        os.chroot(self.root)
        os.chdir("/")
        for number in set(range(41)) - bound:
            LIBC.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
        LIBC.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        set_capabilities([CAPABILITIES[name] for name in self.keys["AmbientCapabilities"][0].split()])
        check(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")

    def start(self, log):
        words = self.keys["ExecStart"][0].split()
        env = {"PATH": "/usr/sbin:/usr/bin", "USER": self.user, "NOTIFY_SOCKET": "/run/notify",
               "CREDENTIALS_DIRECTORY": self.credentials, "INVOCATION_ID": "0" * 32,
               "WATCHDOG_USEC": str(int(self.keys["WatchdogSec"][0]) * 1000000)}
        self.pid = os.fork()
        if self.pid == 0:
            try:
                out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                self.become()
                os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
                os.dup2(out, 1)
                os.dup2(out, 2)
                env["WATCHDOG_PID"] = str(os.getpid())
                load_filter(self.allowed, self.keys["RestrictAddressFamilies"][0].split())
                os.execve(words[0], words, env)
            except BaseException as error:  # pylint: disable=broad-except
                os.write(2, f"unit_runner: {error}\n".encode())
            finally:
                os._exit(126)

    def hear(self, timeout_s):
        """The next message to the service manager, as {name: value}; {} when none comes."""
        self.socket.settimeout(timeout_s)
        try:
            return dict(line.split("=", 1) for line in self.socket.recv(65536).decode().split("\n"))
        except socket.timeout:
            return {}

    @property
    def main_pid(self):
        return children_of(self.pid)[0]

    def stop(self):
        """KillMode=mixed: SIGTERM to it alone. Returns the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        pid, self.pid = self.pid, None
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def kill(self):
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = None
