"""`relay doctor`: what is wrong with this node, and what to do about it.

Each check is one function that yields findings; none of them changes anything but a probe file in the store's folder.
"""

from __future__ import annotations

import asyncio
import socket
import stat
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import click

from relay.cli.language import told, told_in_parts
from relay.cli.options import home_option, json_option, print_json
from relay.cli.status import (
    FAILING_DISK_ADVICE,
    OVER_QUOTA,
    OVER_QUOTA_ADVICE,
    bring_on,
    cannot_be_read,
    revoked_advice,
    still_here,
)
from relay.cli.terminal import paint
from relay.errors import RelayError, Unreachable
from relay.limits import GIB, MIB
from relay.net.client import HttpPeer
from relay.net.interfaces import list_interfaces
from relay.net.sockets import listen
from relay.net.tls import client_context
from relay.node.config import Config
from relay.node.health import bytes_free
from relay.node.home import Home, Member
from relay.node.overquota import is_over_quota
from relay.node.restoring import check_may_sign
from relay.node.unreadable import count_unreadable
from relay.receiver.moving import check_place
from relay.sync.alarm import read_alarms
from relay.sync.messages import Greeting, Hello
from relay.trust.admission import Admission
from relay.trust.roles import Role

ALARM = "ALARM"
_INTERFACES = "Correct `interfaces` in config.toml, or connect it: relay looks for neighbours only there."
_PLAUSIBLE_CLOCK = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: `level` is ok, warning or wrong."""

    level: str
    check: str
    what: str
    advice: str = ""


@click.command()
@home_option
@click.option("--removal", is_flag=True, help="Check only whether anything would be lost with this folder.")
@json_option
def doctor(home: Home, removal: bool, as_json: bool) -> int:
    """Check clock, disk, permissions, certificate, ports, multicast and uplink."""
    findings = asyncio.run(_removal(home) if removal else _examine(home))
    if as_json:
        print_json(
            [{"level": one.level, "check": one.check, "what": one.what, "advice": one.advice} for one in findings]
        )
    else:
        colours = {"ok": "green", "warning": "yellow", "wrong": "red"}
        for one in findings:
            mark = one.level if one.level == "ok" else told(one.level).upper()
            click.echo(f"{paint(f'{mark:9}', colours[one.level])} {told(one.check):12} {told_in_parts(one.what)}")
            if one.advice:
                click.echo(f"{'':23}{told(one.advice)}")
    return 1 if any(one.level == "wrong" for one in findings) else 0


async def _examine(home: Home) -> list[Finding]:
    findings = [*_clock(), *_files(home), *_disk(home)]
    try:
        config = home.config()
        findings.append(Finding("ok", "config", "config.toml can be read" if home.config_file.exists() else "defaults"))
    except RelayError as error:
        findings.append(Finding("wrong", "config", error.what, error.advice))
        config = Config()
    try:
        member = home.member()
        identity = member.identity
        what = f"this node is {identity.name}, {identity.role} of {identity.election}"
        if identity.tps:
            stations = ", ".join(sorted(identity.tps))
            what = f"this node is {identity.name}, {identity.role} of {identity.election}, for {stations}"
        findings.append(Finding("ok", "certificate", what))
    except RelayError as error:
        return [*findings, Finding("wrong", "certificate", error.what, error.advice)]
    findings += _ports(home, config, member)
    findings += _page(config, member)
    findings += _multicast(config)
    findings += [one async for one in _membership(home, config, member)]
    return sorted(findings, key=lambda one: one.check != ALARM)


async def _removal(home: Home) -> list[Finding]:
    """Whether this folder may be deleted (promise 4): the Debian package asks before it purges."""
    from relay.node.drafts import Drafts

    check = "removal"
    if not home.certificate_file.exists() and not home.store_folder.exists():
        return [Finding("ok", check, "nothing was ever stored here")]
    try:
        member = home.member()
        if member.identity.role is Role.RECEIVER:
            what = "this is the receiver: its log, its key and the published objects are here and nowhere else"
            return [Finding("wrong", check, what, "Keep the folder as long as anybody may ask for the results.")]
        async with home.custody(reading=True) as custody:
            drafts = Drafts(home, member, custody)
            await drafts.load()
            counts = await custody.store.counts()
            hidden = await custody.store.withhold(custody.admission.revoked)
    except RelayError as error:
        return [Finding("wrong", check, error.what, error.advice)]
    if home.daemon_runs():
        return [Finding("wrong", check, "the daemon runs", "Stop it first: what it holds may change.")]
    if left := counts.waiting + counts.partial + hidden:
        advice = "Let it meet the receiver or a boat once more, or `relay export` them to a stick."
        return [Finding("wrong", check, f"{left} packages here have no receipt: this may be the only copy", advice)]
    if drafts.under_way():
        what = f"{len(drafts.under_way())} forms were begun on the operator's page and not sent"
        return [Finding("wrong", check, what, "Send or discard them on that page.")]
    return [Finding("ok", check, "every package here was delivered")]


def _clock() -> Iterator[Finding]:
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M", time.gmtime(now)) + " UTC"
    if now < _PLAUSIBLE_CLOCK:
        advice = "relay works without a clock; set it anyway, so that the time shown with a package makes sense."
        yield Finding("warning", "clock", f"{shown} cannot be right", advice)
    else:
        yield Finding("ok", "clock", shown)


def _files(home: Home) -> Iterator[Finding]:
    if not home.key_file.exists():
        yield Finding("wrong", "permissions", f"{home.path} holds no node", "Make one with `relay init`.")
        return
    mode = stat.S_IMODE(home.key_file.stat().st_mode)
    if mode & 0o077:
        advice = f"chmod 600 {home.key_file}"
        yield Finding("wrong", "permissions", f"key.pem can be read by others (mode {mode:o})", advice)
    elif not home.writable():
        error = home.read_only()
        yield Finding("wrong", "permissions", error.what, error.advice)
    else:
        yield Finding("ok", "permissions", "the key is this user's alone")


def _disk(home: Home) -> Iterator[Finding]:
    if not home.path.exists():
        return
    free = bytes_free(home.path)
    if free < 64 * MIB:
        yield Finding("wrong", "disk", f"only {free // MIB} MiB are free", "Free space, or use a larger card.")
    elif free < GIB:
        yield Finding("warning", "disk", f"{free // MIB} MiB are free", "A package is about 3 MiB.")
    else:
        yield Finding("ok", "disk", f"{free // GIB} GiB are free")


def _ports(home: Home, config: Config, member: Member) -> Iterator[Finding]:
    if home.daemon_runs():
        yield Finding("ok", "ports", f"the daemon runs, on {config.listen}")
        return
    endpoints = {"listen": config.listen, "console": config.console}
    if config.board is not None:
        endpoints["board"] = config.board
    if member.identity.role is Role.RECEIVER:
        endpoints["public"] = config.public
    elif member.identity.role is Role.OPERATOR and config.operator is not None:
        endpoints["operator"] = config.operator
    for key, endpoint in endpoints.items():
        try:
            listen(endpoint).close()
            yield Finding("ok", "ports", f"nobody else listens on {endpoint} ({key})")
        except RelayError as error:
            yield Finding("wrong", "ports", f"{key}: {error.what}", error.advice)


def _page(config: Config, member: Member) -> Iterator[Finding]:
    if member.identity.role is not Role.OPERATOR:
        if config.operator is not None:
            what = f"operator is set in config.toml, and a {member.identity.role} has no page for phones"
            yield Finding("warning", "page", what, "Remove it, or have this node enrolled as an operator.")
        return
    if config.operator is None:
        advice = 'For phones, set operator = "[::]:8472" in config.toml and start it again.'
        yield Finding("ok", "page", "the operator's page is for this device alone", advice)
    else:
        yield Finding("ok", "page", f"phones reach the operator's page on {config.operator}")


def _multicast(config: Config) -> Iterator[Finding]:
    if not config.discovery:
        yield Finding("ok", "multicast", "discovery is switched off in config.toml")
        return
    interfaces = list_interfaces(config.interfaces)
    for name in sorted(set(config.interfaces) - {one.name for one in interfaces}):
        yield Finding("warning", "multicast", f"there is no interface {name}, or it is down", _INTERFACES)
    if not interfaces and not config.interfaces:
        yield Finding("warning", "multicast", "no interface is up", "Connect to the Wi-Fi; relay notices by itself.")
    for interface in interfaces:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            try:
                group = socket.inet_pton(socket.AF_INET6, "ff02::fb") + interface.index.to_bytes(4, "little")
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
                yield Finding("ok", "multicast", f"{interface.name} ({', '.join(interface.addresses)})")
            except OSError as error:
                advice = "Switch IPv6 on for it, or set `peers` in config.toml."
                yield Finding("warning", "multicast", f"{interface.name}: {error.strerror}", advice)


async def _membership(home: Home, config: Config, member: Member) -> AsyncIterator[Finding]:
    try:
        async with home.custody(config, reading=True) as custody:
            admission = custody.admission
            notes, counts = await custody.store.notes(), await custody.store.counts()
            left = counts.waiting + counts.partial
            for alarm in read_alarms(notes):
                yield Finding(
                    "wrong", ALARM, alarm["what"], "Tell the election office; status --json has the evidence."
                )
            yield Finding("ok", "store", f"{len(custody.store.members)} records")
            if unreadable := count_unreadable(custody.store, notes):
                yield Finding("wrong", "disk", cannot_be_read(unreadable), FAILING_DISK_ADVICE)
            if is_over_quota(notes):
                yield Finding("warning", "quota", OVER_QUOTA, OVER_QUOTA_ADVICE)
            try:
                await (check_place if member.identity.role is Role.RECEIVER else check_may_sign)(custody.store)
            except RelayError as error:
                yield Finding("wrong", "store", error.what, error.advice)
    except RelayError as error:
        yield Finding("wrong", "store", error.what, error.advice)
        return
    if member.identity.node in admission.revoked:
        reason = admission.revoked[member.identity.node].reason
        yield Finding("wrong", "certificate", f"This node is revoked ({reason})", revoked_advice(member.identity.role))
        if left:
            yield Finding("wrong", "store", still_here(left), bring_on(home.path))
    if member.identity.role is not Role.RECEIVER:
        async for finding in _uplink(home, config, member, admission):
            yield finding


async def _uplink(home: Home, config: Config, member: Member, admission: Admission) -> AsyncIterator[Finding]:
    urls = config.receivers or tuple(url for one in admission.receivers for url in one.urls)
    if not urls:
        advice = "Boats still carry; a newer enrolment, or `receivers` in config.toml, names it."
        yield Finding("warning", "uplink", "no receiver is known", advice)
    context = client_context(home.certificate_file, home.key_file, member.root, admission.identify)
    identity = member.identity
    hello = Hello(identity.node, identity.name, identity.role, identity.election, bytes_free(home.path))
    for url in urls:
        try:
            async with HttpPeer(url, context) as peer:
                reply = (await peer.hello(Greeting(hello))).hello
            yield Finding("ok", "uplink", f"{url} answers as {reply.name}")
        except Unreachable:
            yield Finding(
                "warning", "uplink", f"{url} is out of reach", "Without internet here this is as it should be."
            )
        except RelayError as error:
            yield Finding("wrong", "uplink", error.what, error.advice)
