"""The worker: runs a program of which nothing is known, with its hands tied.

It is started by its path, and must import nothing of the package before it knows where that lies.
What ties the hands is the kernel: Landlock for files, a seccomp filter for everything else that
reaches beyond the process (sockets, other programs, signals, mounts, clocks, attributes of files),
resource limits for what is left. All three hold for root as well, and cannot be taken off again.

Source of the numbers: Linux 6.12, ``arch/x86/entry/syscalls/syscall_64.tbl``,
``include/uapi/asm-generic/unistd.h``, ``include/uapi/linux/{seccomp,landlock,audit}.h``.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import platform
import resource
import struct
import sys
from contextlib import suppress
from typing import Any

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""The kernel's word for each, and its column below."""

_DENIED: dict[str, tuple[int | None, int | None]] = {
    # The network, and other processes by way of it.
    "socket": (41, 198),
    "socketpair": (53, 199),
    "io_uring_setup": (425, 425),
    # Other programs. Threads are made by clone, which is looked at; clone3 hides what it is for.
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    # Other processes.
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgctl": (71, 187),
    "semget": (64, 190),
    "semctl": (66, 191),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # Memory and files that no limit counts.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    # What Landlock leaves alone of files.
    "truncate": (76, 45),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "sync": (162, 81),
    # The machine, for whoever is root.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "personality": (135, 92),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setgroups": (116, 159),
    "capset": (126, 91),
    "setrlimit": (160, 164),
}
_ABSENT = {"clone3": 435, "openat2": 437}
"""Said to be unknown, so that the C library does what it does on older kernels."""

_CLONE = (56, 220)
_OPEN = ((2, 1), (None, 1))
_OPENAT = (257, 56)
_PRLIMIT = (302, 261)
_NEWEST = 450
"""Calls beyond are unknown to this table, and so to the program."""

_CLONE_THREAD = 0x10000
_O_ACCMODE, _O_TRUNC = 3, 0o1000

_LOAD, _EQUAL, _GREATER, _AND, _ANY, _RETURN = 0x20, 0x15, 0x25, 0x54, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ = 0b1100
"""Read a file, read a directory."""
_ALL = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights over files that a version of Landlock knows; 4 brought none."""
_FILE_RIGHTS = 0b111 | 1 << 14
_WRITABLE = _READ | 0b10 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 14
"""Write, remove and make files and directories, cut files."""

_MOST_BYTES = 1 << 20
_MOST_FILES = 64
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_SET_PDEATHSIG = 38, 22, 1
_SIGKILL = 9


class NoSandbox(Exception):
    """This machine has no way to tie a program's hands."""


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _called(result: int, what: str) -> int:
    if result < 0:
        raise NoSandbox(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def landlock_version() -> int:
    """Which version of Landlock the kernel has.

    Raises:
        NoSandbox: It has none, or this is another system or processor.
    """
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        raise NoSandbox(f"{sys.platform} on {platform.machine()} is not known here")
    return _called(_libc().syscall(_LANDLOCK_CREATE, None, 0, 1), "Landlock")


def _instruction(code: int, value: int, then: int = 0, other: int = 0) -> bytes:
    return struct.pack("<HBBI", code, then, other, value)


def _filter(arch: int, column: int) -> bytes:
    """The seccomp filter, as the kernel reads it."""
    allow = _instruction(_RETURN, _ALLOW)
    deny = _instruction(_RETURN, _ERRNO | errno.EPERM)
    unknown = _instruction(_RETURN, _ERRNO | errno.ENOSYS)
    program = [
        _instruction(_LOAD, _ARCH),
        _instruction(_EQUAL, arch, 1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_GREATER, _NEWEST, 0, 1),
        unknown,
    ]
    for number in _ABSENT.values():
        program += [_instruction(_EQUAL, number, 0, 1), unknown]
    for numbers in _DENIED.values():
        if (denied := numbers[column]) is not None:
            program += [_instruction(_EQUAL, denied, 0, 1), deny]

    def argument(index: int, *, high: bool = False) -> bytes:
        return _instruction(_LOAD, _ARGUMENTS + 8 * index + 4 * high)

    program += [
        _instruction(_EQUAL, _CLONE[column], 0, 4),
        argument(0),
        _instruction(_ANY, _CLONE_THREAD, 0, 1),
        allow,
        deny,
        # What is asked may be told, and nothing set.
        _instruction(_EQUAL, _PRLIMIT[column], 0, 6),
        argument(2),
        _instruction(_EQUAL, 0, 0, 3),
        argument(2, high=True),
        _instruction(_EQUAL, 0, 0, 1),
        allow,
        deny,
    ]
    # Early versions of Landlock let a file be emptied that is opened to be read.
    for opening, flags in (_OPEN[column], (_OPENAT[column], 2)):
        if opening is not None:
            program += [
                _instruction(_EQUAL, opening, 0, 7),
                argument(flags),
                _instruction(_ANY, _O_TRUNC, 1),
                allow,
                _instruction(_AND, _O_ACCMODE),
                _instruction(_EQUAL, 0, 0, 1),
                deny,
                allow,
            ]
    return b"".join([*program, allow])


def _limit(bytes_of_memory: int, seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    for what, most in (
        (resource.RLIMIT_AS, bytes_of_memory),
        (resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds),
        (resource.RLIMIT_FSIZE, _MOST_BYTES),
        (resource.RLIMIT_NOFILE, _MOST_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))


def _lock_files(readable: list[str], writable: list[str]) -> None:
    libc, version = _libc(), landlock_version()
    handled = _ALL[max(each for each in _ALL if each <= version)]
    attribute = ctypes.create_string_buffer(struct.pack("<Q", handled), 8)
    rules = _called(libc.syscall(_LANDLOCK_CREATE, attribute, 8, 0), "Landlock")
    wanted = [(each, _READ) for each in readable] + [(each, _WRITABLE) for each in writable]
    for path, rights in wanted:
        with suppress(FileNotFoundError, NotADirectoryError):
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed = rights & handled & (~0 if os.path.isdir(path) else _FILE_RIGHTS)  # noqa: PTH112 - starts fast
            rule = ctypes.create_string_buffer(struct.pack("<Qi", allowed, opened), 12)
            _called(libc.syscall(_LANDLOCK_ADD, rules, 1, rule, 0), f"Landlock for {path}")
            os.close(opened)
    _called(libc.syscall(_LANDLOCK_RESTRICT, rules, 0), "Landlock")
    os.close(rules)


def confine(readable: list[str], writable: list[str], memory: int, seconds: int) -> None:
    """Tie this process's hands, for good.

    Args:
        readable: Paths below which it may read.
        writable: Paths below which it may write as well, files of at most 1 MiB.
        memory: Bytes of address space.
        seconds: Processor time, from now on.

    Raises:
        NoSandbox: This machine cannot.
    """
    arch, column = _ARCHITECTURES[platform.machine()]
    libc = _libc()
    _called(libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0), "prctl")
    _called(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _lock_files(readable, writable)
    _limit(memory, seconds)
    text = _filter(arch, column)
    code = ctypes.create_string_buffer(text, len(text))
    program = ctypes.create_string_buffer(
        struct.pack("<HxxxxxxQ", len(text) // 8, ctypes.addressof(code)), 16
    )
    _called(libc.prctl(_PR_SET_SECCOMP, 2, program, 0, 0), "seccomp")


def main() -> None:
    """Do what stdin asks."""
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    module = importlib.import_module(request["module"])
    # All that a library wants of the machine while it is loaded.
    module.prepare()
    try:
        confine(**request["limits"])
    except (NoSandbox, OSError, ValueError) as error:
        sys.stderr.write(f"no sandbox: {error}\n")
        raise SystemExit(request["no_sandbox"]) from None
    module.run(request["asked"], request["report"])


if __name__ == "__main__":
    main()
