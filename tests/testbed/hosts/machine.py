"""One host: a systemd-nspawn machine that can be used, broken, and made anew."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.hosts.inventory import kept_connection
from tests.testbed.hosts.network import Link

_BOOT_SECONDS = 60.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.05
_HERE = Path(__file__).parent
_ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")


class HostError(RuntimeError):
    """A host did not do what it was told; carries what it said."""


@dataclass(frozen=True)
class Setup:
    """What a host is made of.

    Attributes:
        image: Root directory that it starts from.
        seed: Files laid over it before the first boot.
        place: Empty directory for its mounts; nothing shows there outside of it.
        log: Takes the output of systemd-nspawn.
        disk: Size of its disk as mount takes it, ``4g``.
        group: The bed's control group.
        machine_id: 32 hexadecimal digits.
        ssh_config: Knows the host by its name.
        link: Makes its network link anew.
    """

    image: Path
    seed: Path
    place: Path
    log: Path
    disk: str
    group: str
    machine_id: str
    ssh_config: Path
    link: Callable[[], Link]


class Host:
    """One host; :class:`~tests.testbed.hosts.Hosts` makes and removes it.

    Attributes:
        name: Its name, in the inventory too.
        address: Its address, as seen from the controller.
    """

    def __init__(self, name: str, address: str, setup: Setup) -> None:
        self.name = name
        self.address = address
        self._setup = setup
        self._shell: subprocess.Popen[bytes] | None = None
        self._link: Link | None = None
        self._on = False
        self._cut_off = False

    def __repr__(self) -> str:
        return f"Host({self.name!r}, {self.address!r})"

    # -- Using it

    def run(
        self,
        command: str,
        *,
        check: bool = True,
        timeout: float = 60,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Runs a shell command as root, past the network; works on a host that is cut off.

        Args:
            command: For ``/bin/sh -c``.
            check: Whether an exit code other than 0 is an error.
            timeout: Seconds until ``subprocess.TimeoutExpired`` is raised.
            stdin: What it reads.

        Raises:
            HostError: When it fails and ``check`` is set, or when the host is off.
        """
        enter = ["nsenter", f"--target={self._init()}", "--all", "--root", "--wd"]
        inside = ["env", "-i", *_ENVIRONMENT, "/bin/sh", "-c", command]
        return self._finish([*enter, *inside], check, timeout, stdin)

    def ssh(
        self,
        command: str,
        *,
        check: bool = True,
        timeout: float = 60,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Runs a shell command over ssh, as the user that Ansible logs in as.

        Args:
            command: For the user's shell.
            check: Whether an exit code other than 0 is an error; 255 is ssh's own.
            timeout: Seconds until ``subprocess.TimeoutExpired`` is raised.
            stdin: What it reads.

        Raises:
            HostError: When it fails and ``check`` is set.
        """
        login = ["ssh", "-F", str(self._setup.ssh_config), self.name, "--", command]
        return self._finish(login, check, timeout, stdin)

    @property
    def root(self) -> Path:
        """The running host's root directory; links in it that are absolute lead astray.

        Raises:
            HostError: When the host is off.
        """
        return Path(f"/proc/{self._init()}/root")

    @property
    def is_on(self) -> bool:
        """Whether it is switched on, or on its way up."""
        return self._on and not self._has_gone_off(0)

    # -- On and off

    def connect(self) -> None:
        """Lays its network cable; :meth:`start` does where it was not done before."""
        if self._link is None:
            self._link = self._setup.link()

    def start(self) -> float:
        """Boots it and waits until it is up; nothing happens to a host that is on.

        Returns:
            How many seconds that took.

        Raises:
            HostError: When it does not come up.
        """
        begin = time.monotonic()
        if not self.is_on:
            if self._shell is None:
                self._make()
            self._on = True
            # Plugged in before it boots, so that its services find the network.
            self._plug()
            self._tell("boot")
            self._wait_until_up(previous=None)
        return time.monotonic() - begin

    def stop(self) -> None:
        """Shuts it down in good order; its disk stays. Afterwards it does not answer at all."""
        if self.is_on:
            self._tell("shutdown")
            if not self._has_gone_off(_STOP_SECONDS):
                self.kill()
        self._hang_up()
        self._plug()

    def kill(self) -> None:
        """Takes its power away; its disk stays."""
        if self.is_on:
            self._tell("kill")
            if not self._has_gone_off(_STOP_SECONDS):
                raise HostError(f"{self.name} cannot be killed\n{self._log_tail()}")
        self._hang_up()
        self._plug()

    def reboot(self) -> float:
        """Reboots it from within and waits until it is up again.

        Returns:
            How many seconds that took.

        Raises:
            HostError: When it does not come up.
        """
        begin = time.monotonic()
        previous = self._init()
        self.run("systemctl reboot", check=False)
        self._wait_until_up(previous)
        self._hang_up()
        return time.monotonic() - begin

    def reset(self) -> float:
        """Throws its disk, its processes and its network away and boots it from the image.

        Name, address and host key stay. A host that was cut off is reachable again.

        Returns:
            How many seconds that took.

        Raises:
            HostError: When it does not come up.
        """
        begin = time.monotonic()
        self.remove()
        self.start()
        return time.monotonic() - begin

    def remove(self) -> None:
        """Removes it and everything of it; :meth:`start` would make it anew."""
        shell, self._shell = self._shell, None
        if shell is not None:
            _close(shell)
            try:
                shell.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                # unshare takes its child with it.
                os.kill(shell.pid, signal.SIGKILL)
                shell.wait()
        self._hang_up()
        link, self._link = self._link, None
        if link is not None:
            link.close()
        self._on = self._cut_off = False

    # -- Breaking it

    def cut_off(self) -> None:
        """Pulls its network cable: it goes on, and cannot be reached and reaches nobody."""
        self._cut_off = True
        self._plug()

    def restore(self) -> None:
        """Puts the cable that :meth:`cut_off` pulled in again."""
        self._cut_off = False
        self._plug()

    @contextlib.contextmanager
    def full_disk(self, leave_bytes: int = 0) -> Iterator[None]:
        """Leaves so many bytes of its disk free, for as long as the context lasts."""
        shell = self._shell_pid()
        place = self._setup.place
        space = os.statvfs(f"/proc/{shell}/root{place}")
        used = (space.f_blocks - space.f_bfree) * space.f_frsize
        remount = ["nsenter", f"--target={shell}", "--mount", "mount", "-o"]
        size = f"remount,size={used + leave_bytes}"
        self._finish([*remount, size, str(place)], check=True, seconds=10, stdin="")
        try:
            yield
        finally:
            size = f"remount,size={self._setup.disk}"
            self._finish([*remount, size, str(place)], check=True, seconds=10, stdin="")

    @contextlib.contextmanager
    def small_disk(self, path: str, size_bytes: int) -> Iterator[None]:
        """Mounts an empty file system of that size over a directory, made where there is none."""
        self.run(f"mkdir -p {path} && mount -t tmpfs -o size={size_bytes},mode=0755 tmpfs {path}")
        try:
            yield
        finally:
            self.run(f"umount --lazy {path}")

    # -- Inner workings

    def _make(self) -> None:
        setup = self._setup
        link = self._link = self._link or setup.link()
        setup.place.mkdir(exist_ok=True)
        own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        what: list[str | Path] = [
            self.name,
            setup.image,
            setup.seed,
            setup.place,
            setup.disk,
            setup.group,
        ]
        with setup.log.open("ab") as log:
            self._shell = subprocess.Popen(
                [
                    "nsenter",
                    f"--net={link.namespace}",
                    *own,
                    "/bin/sh",
                    _HERE / "machine.sh",
                    *what,
                    setup.machine_id,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
            )

    def _hang_up(self) -> None:
        """Ends Ansible's kept connection, over which the next task would fail or wait."""
        socket = self._setup.ssh_config.parent / kept_connection(self.address)
        if socket.exists():
            exit_ = ["-o", f"ControlPath={socket}", "-O", "exit", self.name]
            command = ["ssh", "-F", str(self._setup.ssh_config), *exit_]
            subprocess.run(command, capture_output=True, check=False)

    def _tell(self, command: str) -> None:
        shell = self._shell
        if shell is None or shell.stdin is None:
            raise HostError(f"{self.name} is not there")
        try:
            shell.stdin.write(f"{command}\n".encode())
        except BrokenPipeError as error:
            raise HostError(f"{self.name} is gone\n{self._log_tail()}") from error

    def _has_gone_off(self, seconds: float) -> bool:
        if self._on and self._shell is not None and self._shell.stdout is not None:
            readable, _, _ = select.select([self._shell.stdout], [], [], seconds)
            # It says "off", or nothing more because it ended.
            if readable:
                self._shell.stdout.read(64)
                self._on = False
        return not self._on

    def _plug(self) -> None:
        if self._link is not None:
            self._link.switch(self._on and not self._cut_off)

    def _wait_until_up(self, previous: int | None) -> None:
        deadline = time.monotonic() + _BOOT_SECONDS
        state = "nothing"
        while time.monotonic() < deadline:
            if not self.is_on:
                raise HostError(f"{self.name} went off while booting\n{self._log_tail()}")
            init = self._find_init()
            if init is not None and init != previous:
                # Fails until systemd listens, and when it is about to be another one's turn.
                with contextlib.suppress(HostError):
                    answer = self.run("systemctl is-system-running --wait", check=False)
                    state = (answer.stdout + answer.stderr).strip()
                    if answer.stdout.strip() in {"running", "degraded"}:
                        return
            time.sleep(_POLL_SECONDS)
        raise HostError(f"{self.name} did not come up, says {state!r}\n{self._log_tail()}")

    def _init(self) -> int:
        init = self._find_init()
        if init is None:
            raise HostError(f"{self.name} is off\n{self._log_tail()}")
        return init

    def _find_init(self) -> int | None:
        """Our id of the host's systemd: process 1 of a namespace below that of our shell."""
        if self._shell is None:
            return None
        for pid in _descendants(self._shell.pid):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
                # Until it is systemd it is nspawn, still busy with the namespaces.
                if fields["Name"] == "systemd" and fields["NSpid"].split()[2:] == ["1"]:
                    return pid
        return None

    def _shell_pid(self) -> int:
        for pid in _descendants(self._shell.pid) if self._shell is not None else ():
            return pid
        raise HostError(f"{self.name} is not there")

    def _finish(
        self, command: list[str], check: bool, seconds: float, stdin: str
    ) -> subprocess.CompletedProcess[str]:
        answer = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )
        if check and answer.returncode:
            raise HostError(
                f"{self.name}: exit code {answer.returncode} from {command[-1]}\n"
                f"{answer.stdout}{answer.stderr}"
            )
        return answer

    def _log_tail(self) -> str:
        if not self._setup.log.exists():
            return ""
        return self._setup.log.read_text(errors="replace")[-2000:]


def _descendants(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from _descendants(child)


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
