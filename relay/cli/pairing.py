"""`relay pair`: let a phone use the operator's page: a code on the screen or on a sheet; list and unpair."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from ipaddress import ip_address
from pathlib import Path

import click

from relay.cli.language import told
from relay.cli.options import home_option, json_option, message, print_json
from relay.cli.sheet import Sheet
from relay.errors import BadInput, NotHeld
from relay.limits import PAIRING_SECONDS
from relay.node.config import Config
from relay.node.home import Home
from relay.node.pairing import Offer, Pairing
from relay.node.report import own_revocation
from relay.store.durable import write_durably
from relay.trust.roles import Role

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", re.ASCII)
MAX_HOST = 253
_ANY = ("::", "0.0.0.0")  # noqa: S104 - compared, not bound


@click.command()
@home_option
@click.option("--sheet", type=click.Path(path_type=Path), help="Write a sheet to print (HTML); valid until it is used.")
@click.option("--address", help="The address under which phones reach this device.")
@click.option("--ssid", default="", metavar="NAME", help="The name of the box's Wi-Fi, for the sheet.")
@click.option("--list", "listing", is_flag=True, help="List the paired phones.")
@click.option("--unpair", metavar="ID", help="Forget a phone.")
@click.option("--withdraw", is_flag=True, help="End every code that was not used.")
@json_option
def pair(
    home: Home,
    sheet: Path | None,
    address: str | None,
    ssid: str,
    listing: bool,
    unpair: str | None,
    withdraw: bool,
    as_json: bool,
) -> None:
    """Pair a phone with this device: shows a QR code to scan and a code to type."""
    pairing = Pairing(home.path)
    identity = home.member().identity
    if identity.role is not Role.OPERATOR:
        raise BadInput(f"This node is a {identity.role}", "Only an operator's device has a page for phones.")
    if listing:
        _list(pairing, as_json)
    elif unpair is not None:
        if not pairing.unpair(unpair):
            raise NotHeld(f"No phone {unpair[:40]!r} is paired", "See: relay pair --list")
    elif withdraw:
        pairing.withdraw()
    else:
        _offer(home, pairing, sheet, address, ssid, as_json)


def _offer(home: Home, pairing: Pairing, sheet: Path | None, address: str | None, ssid: str, as_json: bool) -> None:
    if not home.daemon_runs():
        raise BadInput("The daemon does not run: no phone could pair", "Start it: relay run (or its service).")
    if address is not None and not _is_host(address):
        raise BadInput(f"{address[:80]!r} is no address", "Give a name or an IP address, without https:// and port.")
    if (reason := asyncio.run(_revocation(home))) is not None:
        message(f"This node is revoked ({reason}): a phone that is paired with it sends nothing. Use another box.")
    config = home.config()
    pages, mark = _pages(home, config, address)
    offer = pairing.offer(sheet=sheet is not None)
    links = [f"{page}/operator/pair?code={offer.link}" for page in pages]
    if as_json:
        document = {"link": links[0], "links": links, "code": offer.spoken, "fingerprint": mark}
        print_json({**document, "seconds": None if sheet else PAIRING_SECONDS})
    if sheet is not None:
        printed = Sheet(home.member().identity.name, pages[0], offer, ssid, mark).html(links[0])
        write_durably(sheet, printed.encode(), mode=0o600)
        if len(pages) > 1:
            message(f"The sheet says {pages[0]}. Choose another one with --address: {', '.join(pages[1:])}")
        message(f"Whoever has {sheet} can pair one phone: keep it like a key. `relay pair --withdraw` ends it.")
    elif not as_json:
        _show(links, pages, offer, mark)


async def _revocation(home: Home) -> str | None:
    async with home.custody(looking=True) as custody:
        return own_revocation(home.member(), custody)


def _show(links: list[str], pages: list[str], offer: Offer, mark: str) -> None:
    click.echo(_terminal_code(links[0]))
    labels = ("Scan it, or open", *("or" for _ in pages[1:]), "and type")
    for label, value in zip(labels, (*(f"{page}/operator" for page in pages), offer.spoken), strict=True):
        click.echo(f"  {told(label):>22}   {value}")
    click.echo(f"  {told(f'One phone, within {PAIRING_SECONDS // 60} minutes.')}")
    if mark:
        warned = "The browser warns once, since this box is not known on the internet: go on. Its certificate is"
        click.echo(f"  {told(warned)}\n  {mark}")


def _list(pairing: Pairing, as_json: bool) -> None:
    phones = [{"id": one.id, "name": one.name, "paired_at": one.paired_at} for one in pairing.phones()]
    if as_json:
        print_json(phones)
        return
    for phone in phones:
        click.echo(f"{phone['id']}  {phone['name']}")
    if not phones:
        message("No phone is paired.")


def _pages(home: Home, config: Config, address: str | None) -> tuple[list[str], str]:
    """Where phones find the page, best first; and the fingerprint of a certificate that they will not know."""
    from relay.net.interfaces import list_interfaces
    from relay.net.sockets import parse_endpoint
    from relay.web.operator.certificate import fingerprint, names, page_certificate

    if config.operator is None:
        message('Phones cannot reach this device: set operator = "[::]:8472" in config.toml and start it again.')
        where = parse_endpoint(config.console)
        host = "127.0.0.1" if where.host in _ANY else where.host
        return [f"http://{_in_url(host)}:{where.port}"], ""
    where = parse_endpoint(config.operator)
    certificate, _ = page_certificate(home, config)
    known_as = sorted(names(certificate)) if config.operator_certificate else []
    hosts = [address] if address else known_as
    if not hosts and where.host not in _ANY:
        hosts = [where.host]
    if not hosts:
        found = [one for interface in list_interfaces() for one in interface.addresses if "%" not in one]
        hosts = sorted(found, key=lambda one: ip_address(one).version) or ["127.0.0.1"]
    return [f"https://{_in_url(host)}:{where.port}" for host in hosts], "" if known_as else fingerprint(certificate)


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return len(text) <= MAX_HOST and _HOST.fullmatch(text) is not None
    return True


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _terminal_code(link: str) -> str:
    import segno

    out = io.StringIO()
    segno.make(link, error="l", micro=False).terminal(
        out, compact=sys.stdout.encoding.lower().startswith("utf"), border=2
    )
    return out.getvalue()
