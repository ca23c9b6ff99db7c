"""What this machine can do. Each row of PROBES tries the thing itself, once; what is missing is said loudly by those who
ask, and their part is skipped.

    missing("namespaces", "fuse") -> "" or why not"""

import functools
import glob
import os
import shutil
import subprocess
import tempfile

LOOP_MAJOR = "7"


def _succeeds(*argv, text_in=None):
    try:
        done = subprocess.run(argv, input=text_in, stdin=None if text_in is not None else subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stdout.strip().split("\n")[-1] or f"{argv[0]} failed")


def _root():
    return "" if os.geteuid() == 0 else "not root"


def _namespaces():
    return _root() or _succeeds("unshare", "-n", "ip", "link", "add", "br0", "type", "bridge")


def _nft():
    return _succeeds("unshare", "-n", "nft", "-f", "-", text_in="""
        table bridge probe {
            chain relay { type filter hook forward priority 0; }
        }""")


def _tap():
    return _succeeds("unshare", "-n", "ip", "tuntap", "add", "dev", "probe", "mode", "tap")


def _loop():
    return _root() or _succeeds("losetup", "-f")


def _file_system(kind):
    return _succeeds("which", f"mkfs.{kind}") and f"no mkfs.{kind}"


def _ext4():
    return _loop() or _file_system("ext4")


def _xfs():
    return _loop() or _file_system("xfs") or _succeeds("which", "xfs_io") and "no xfs_io" or _mounts_xfs()


def _mounts_xfs():
    """Debian has the tools on every kernel, but not every kernel has the file system."""
    with tempfile.TemporaryDirectory() as directory:
        image, where = os.path.join(directory, "image"), os.path.join(directory, "mnt")
        os.mkdir(where)
        with open(image, "wb") as file:
            file.truncate(320 << 20)
        trouble = _succeeds("mkfs.xfs", "-q", image) or _succeeds("mount", "-o", "loop", image, where)
        if not trouble:
            _succeeds("umount", where)
        return trouble


def _fuse():
    if not os.path.exists("/dev/fuse"):
        return "no /dev/fuse"
    if _succeeds("pkg-config", "--exists", "fuse3"):
        return "no libfuse3-dev"
    return _ext4()


def _faketime():
    return "" if glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1") else "no libfaketime"


def _cgroup(controller):
    """cgroup v1: the parent directory of a controller's groups."""
    path = f"/sys/fs/cgroup/{controller}"
    try:
        probe = tempfile.mkdtemp(prefix="coterie-probe-", dir=path)
        os.rmdir(probe)
        return ""
    except OSError as error:
        return f"no cgroup controller {controller}: {error.strerror}"


def _socket_kill():
    return _succeeds("unshare", "-n", "ss", "-K", "dst", "192.0.2.1")


PROBES = {    # name: (what it is, how to try it)
    "namespaces": ("network namespaces", _namespaces),
    "nft": ("nftables on a bridge", _nft),
    "tap": ("TAP devices", _tap),
    "ext4": ("loop devices with ext4", _ext4),
    "xfs": ("loop devices with xfs", _xfs),
    "fuse": ("FUSE", _fuse),
    "faketime": ("libfaketime", _faketime),
    "cpu": ("the cpu controller of cgroups", lambda: _cgroup("cpu")),
    "memory": ("the memory controller of cgroups", lambda: _cgroup("memory")),
    "ss": ("ss -K", _socket_kill),
    "prlimit": ("prlimit", lambda: "" if shutil.which("prlimit") else "no prlimit"),
}


@functools.lru_cache(None)
def _probe(name):
    return PROBES[name][1]()


def missing(*names):
    """Why what is named is not there, or ""."""
    for name in names:
        reason = _probe(name)
        if reason:
            return f"{PROBES[name][0]}: {reason}"
    return ""
