"""A small world of hosts and links, in network namespaces: islands, a ferry, a harbour.

    with Lab(folder) as lab:
        island, ferry = lab.host("island"), lab.host("ferry")
        wifi = lab.link(island, ferry, rate_mbit=20)
        wifi.ready()
        island.popen([...])
        wifi.down(ferry)  # the ferry has sailed

Every link is a bridge in a namespace of its own, with one veth pair per host: two hosts or ten, it is the same, and a
host leaves without the others' carrier noticing, as on Wi-Fi. Hosts get IPv6 link-local addresses and nothing else,
unless a link is given an IPv4 network. Needs `ip` and `tc` (iproute2), and root or a user namespace that maps to it
(`why_not` names the command). Leaving the lab ends every process and removes every namespace, whatever happened.
"""

from __future__ import annotations

import atexit
import ipaddress
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.processes import Failed, Place, eventually

__all__ = ["Host", "Lab", "Link", "eventually", "why_not"]

PREFIX = "relay-lab"
DAD_SECONDS = 10.0
"""More than duplicate address detection takes until an address may be used (a second or two)."""
TBF_BURST = 16_000
"""Bytes that a limited link lets through at once: some full frames."""


class Host(Place):
    """A network namespace: a machine of its own as far as the network goes. Files are shared with this one."""

    def __init__(self, name: str, folder: Path, namespace: str) -> None:
        super().__init__(name, folder, prefix=("ip", "netns", "exec", namespace))
        self.namespace = namespace
        self._interfaces = 0
        ip("-n", namespace, "link", "set", "lo", "up")

    def next_interface(self) -> str:
        """A name for one more interface: wlan0, wlan1, …; never given twice."""
        self._interfaces += 1
        return f"wlan{self._interfaces - 1}"


class Link:
    """A Wi-Fi: hosts that hear each other. Make one with `Lab.link`."""

    def __init__(self, air: str, *, rate_mbit: float | None = None, ipv4: str | None = None, dad: bool = True) -> None:
        """`air` is the namespace of the bridge. `rate_mbit` holds per host and direction; `ipv4` is a network.

        Without `dad`, duplicate address detection, an address is usable at once: for tests that are not about that.
        """
        self._air = air
        self._dad = dad
        self._rate = rate_mbit
        self._network = ipaddress.IPv4Network(ipv4) if ipv4 else None
        self._interfaces: dict[Host, str] = {}
        self._ports: dict[Host, str] = {}
        self._ports_made = 0
        # The air says nothing itself, and holds no multicast back until somebody asks for it.
        for which in ("all", "default"):
            quiet = f"echo 1 > /proc/sys/net/ipv6/conf/{which}/disable_ipv6"
            ip("netns", "exec", air, "sh", "-c", quiet)
        ip("-n", air, "link", "add", "air", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        ip("-n", air, "link", "set", "air", "up")

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The hosts that have an interface here, in reach or not."""
        return tuple(self._interfaces)

    def join(self, host: Host) -> str:
        """Give the host an interface here, up and in reach; its name in the host."""
        if host in self._interfaces:
            raise Failed(f"{host.name} is on this link already")
        interface, port = host.next_interface(), f"port{self._ports_made}"
        self._ports_made += 1
        peer = ("peer", "name", port, "netns", self._air)
        ip("link", "add", interface, "netns", host.namespace, "type", "veth", *peer)
        self._interfaces[host], self._ports[host] = interface, port
        if self._rate is not None:
            limit(host.namespace, interface, self._rate)
            limit(self._air, port, self._rate)
        self._begin(host, interface)
        return interface

    def _begin(self, host: Host, interface: str) -> None:
        """Give the interface what addresses it is to have, and bring the host into reach."""
        if self._network is not None:
            address = f"{self._network[self._ports_made]}/{self._network.prefixlen}"
            ip("-n", host.namespace, "address", "add", address, "dev", interface)
        if not self._dad:
            at_once = f"echo 0 > /proc/sys/net/ipv6/conf/{interface}/accept_dad"
            ip("netns", "exec", host.namespace, "sh", "-c", at_once)
        ip("-n", host.namespace, "link", "set", interface, "up")
        self.up(host)

    def leave(self, host: Host) -> None:
        """Take the host's interface away, as when its Wi-Fi is switched off."""
        ip("-n", host.namespace, "link", "delete", self._interfaces.pop(host))
        del self._ports[host]

    def up(self, *hosts: Host) -> None:
        """Bring these hosts (all when none is named) into reach."""
        for host in hosts or self.hosts:
            ip("-n", self._air, "link", "set", self._ports[host], "master", "air", "up")

    def down(self, *hosts: Host, carrier: bool = False) -> None:
        """Take these hosts (all when none is named) out of reach, silently: no FIN, no RST, no ICMP error.

        Their interfaces lose their carrier, the others' do not: an access point does not feel a boat sail. With
        `carrier` theirs keep it too, and only frames are lost: the very edge of reach, or a bridge box that hangs.
        """
        for host in hosts or self.hosts:
            ip("-n", self._air, "link", "set", self._ports[host], *(("nomaster",) if carrier else ("down",)))

    def ready(self, *hosts: Host, within: float = DAD_SECONDS) -> None:
        """Wait until these hosts (all when none is named) can use their link-local addresses."""
        for host in hosts or self.hosts:
            eventually(lambda host=host: self._link_local(host), within, f"{host.name} has a link-local address")  # type: ignore[misc]

    def interface(self, host: Host) -> str:
        """The host's interface on this link."""
        return self._interfaces[host]

    def address(self, host: Host, *, seen_from: Host | None = None) -> str:
        """The host's link-local address; with the zone that another host on this link needs to reach it.

        Raises `Failed` while it has none, or none that may be used yet (see `ready`).
        """
        address = self._link_local(host)
        if address is None:
            raise Failed(f"{host.name} has no usable link-local address yet")
        return address if seen_from is None else f"{address}%{self._interfaces[seen_from]}"

    def traffic(self, host: Host) -> tuple[int, int]:
        """Frames, and bytes of frames, that a host has heard on this link."""
        (found,) = json.loads(ip("-n", host.namespace, "-j", "-s", "link", "show", "dev", self.interface(host)))
        heard = found["stats64"]["rx"]
        return int(heard["packets"]), int(heard["bytes"])

    def ipv4(self, host: Host) -> str:
        """The host's IPv4 address on this link. Raises `Failed` where the link has none."""
        if self._network is None:
            raise Failed("this link has no IPv4")
        return str(self._network[int(self._ports[host].removeprefix("port")) + 1])

    def _link_local(self, host: Host) -> str | None:
        shown = ip("-n", host.namespace, "-6", "-j", "address", "show", "dev", self._interfaces[host], "scope", "link")
        for entry in json.loads(shown or "[]"):
            for address in entry.get("addr_info", ()):
                if address.get("local") and not address.get("tentative"):
                    return str(address["local"])
        return None


class Radio(Link):
    """A link with delay and loss, whose air is a process of its own (`tests.netns.air`): TAP devices, no bridge."""

    def __init__(
        self,
        air: str,
        *,
        rate_mbit: float,
        delay_ms: float,
        loss_percent: float = 0.0,
        shared: bool = False,
        ipv4: str | None = None,
        dad: bool = True,
        seed: int = 1,
    ) -> None:
        """`rate_mbit` holds per host and direction or, when `shared`, for all together; the delay is one way."""
        super().__init__(air, ipv4=ipv4, dad=dad)
        options = ["--rate", str(rate_mbit), "--delay", str(delay_ms), "--loss", str(loss_percent)]
        options += ["--seed", str(seed), *(["--shared"] if shared else [])]
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", air, sys.executable, "-m", "tests.netns.air", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def join(self, host: Host) -> str:
        """See `Link.join`."""
        if host in self._interfaces:
            raise Failed(f"{host.name} is on this link already")
        interface, port = host.next_interface(), f"port{self._ports_made}"
        self._ports_made += 1
        self._command(f"join {port}")
        ip("-n", self._air, "link", "set", port, "netns", host.namespace, "name", interface)
        self._interfaces[host], self._ports[host] = interface, port
        self._begin(host, interface)
        return interface

    def leave(self, host: Host) -> None:
        """Take the host's interface away for good."""
        self.down(host)
        ip("-n", host.namespace, "link", "delete", self._interfaces.pop(host))
        del self._ports[host]

    def up(self, *hosts: Host) -> None:
        """See `Link.up`. The interface gets its carrier back, and with it new addresses."""
        for host in hosts or self.hosts:
            self._command(f"up {self._ports[host]}")
            ip("-n", host.namespace, "link", "set", self._interfaces[host], "up")

    def down(self, *hosts: Host, carrier: bool = False) -> None:
        """See `Link.down`."""
        for host in hosts or self.hosts:
            self._command(f"down {self._ports[host]}")
            if not carrier:
                ip("-n", host.namespace, "link", "set", self._interfaces[host], "down")

    def heard(self, host: Host) -> int:
        """Bytes of frames that the host has received here."""
        return int(self._command(f"heard {self._ports[host]}"))

    @property
    def pid(self) -> int:
        """The process that is the air."""
        return self._process.pid

    def close(self) -> None:
        """End the air."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _command(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if not answer:
            raise Failed(f"the air ended at {line!r}")
        return answer


class Lab:
    """The world of one test. Processes write their outputs to files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts: list[Host] = []
        self._token = secrets.token_hex(4)
        self._clean_up = ExitStack()
        self._links = 0
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def host(self, name: str) -> Host:
        """A new host, on no link yet."""
        namespace = self._namespace(name)
        host = Host(name, self.folder / name, namespace)
        self._clean_up.callback(host.close)
        self.hosts.append(host)
        return host

    def link(self, *hosts: Host, rate_mbit: float | None = None, ipv4: str | None = None, dad: bool = True) -> Link:
        """A new link, and these hosts on it, in reach of each other."""
        self._links += 1
        link = Link(self._namespace(f"air{self._links}"), rate_mbit=rate_mbit, ipv4=ipv4, dad=dad)
        for host in hosts:
            link.join(host)
        return link

    def radio(
        self,
        *hosts: Host,
        rate_mbit: float,
        delay_ms: float,
        loss_percent: float = 0.0,
        shared: bool = False,
        ipv4: str | None = None,
        dad: bool = True,
    ) -> Radio:
        """A new link with delay and loss, and these hosts on it, in reach of each other. See `Radio`."""
        self._links += 1
        air = self._namespace(f"air{self._links}")
        radio = Radio(
            air, rate_mbit=rate_mbit, delay_ms=delay_ms, loss_percent=loss_percent, shared=shared, ipv4=ipv4, dad=dad
        )
        self._clean_up.callback(radio.close)
        for host in hosts:
            radio.join(host)
        return radio

    def namespaces(self) -> list[str]:
        """The names of this lab's namespaces that exist now."""
        return [line.split()[0] for line in ip("netns", "list").splitlines() if self._token in line]

    def report(self) -> list[tuple[str, str]]:
        """Title and end of each process's output."""
        return [section for host in self.hosts for section in host.report()]

    def close(self) -> None:
        """End all processes, remove all namespaces. Does it all even when a part fails, then raises what failed."""
        atexit.unregister(self.close)
        self._clean_up.close()

    def _namespace(self, name: str) -> str:
        namespace = f"{PREFIX}-{self._token}-{name}"
        ip("netns", "add", namespace)
        self._clean_up.callback(remove_namespace, namespace)
        return namespace


def ip(*arguments: str) -> str:
    """Run ip(8); what it printed. Raises `Failed` with its message."""
    return _run("ip", *arguments)


def limit(namespace: str, interface: str, rate_mbit: float) -> None:
    """Let no more than this leave by the interface; what is over waits, and is dropped after 100 ms."""
    bits = int(rate_mbit * 1_000_000)
    burst = max(TBF_BURST, bits // 8 // 100)
    shape = ("rate", f"{bits}bit", "burst", str(burst), "latency", "100ms")
    _run("tc", "-n", namespace, "qdisc", "replace", "dev", interface, "root", "tbf", *shape)


def remove_namespace(namespace: str) -> None:
    """Remove a namespace and end what still runs in it, such as a daemon's forgotten child."""
    for pid in ip("netns", "pids", namespace).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    ip("netns", "delete", namespace)


def why_not() -> str | None:
    """Why no lab can be made here, and the command that helps; None where one can."""
    command = f"{sys.executable} -m pytest -m netns"
    rootless = f"unshare --user --map-root-user --net --mount sh -c 'mount -t tmpfs tmpfs /run && {command}'"
    if not (shutil.which("ip") and shutil.which("tc")):
        return "network namespaces need ip and tc: apt-get install iproute2"
    if os.geteuid() != 0:
        return f"network namespaces need root: sudo {command}, or {rootless}"
    namespace = f"{PREFIX}-{secrets.token_hex(4)}-probe"
    try:
        ip("netns", "add", namespace)
        try:
            ip("-n", namespace, "link", "add", "air", "type", "bridge")
            ip("-n", namespace, "link", "add", "wlan0", "type", "veth", "peer", "name", "port0")
            ip("netns", "exec", namespace, "true")
        finally:
            ip("netns", "delete", namespace)
    except Failed as failure:
        return f"no network namespaces ({failure}); in a container start it with --privileged, or try {rootless}"
    return None


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip() or f'exit {done.returncode}'}")
    return done.stdout
