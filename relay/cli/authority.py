"""`relay authority`: the election office's commands.

What the office decides is in `relay.trust.authority`, its folder in `relay.cli.office`; here are its commands and its
passphrase. The folder belongs on a machine, or a stick, that stays offline.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from relay.cli.help import Group
from relay.cli.language import told
from relay.cli.office import OfficeFolder, make_office, open_office, read_file
from relay.cli.options import json_option, message, print_json
from relay.cli.terminal import working
from relay.errors import BadInput, StoreError
from relay.limits import MAX_REGISTER, MAX_REQUEST, MIB
from relay.node.home import read_pem_certificate
from relay.records.identifiers import is_drill
from relay.records.notice import parse_register, write_register
from relay.store.durable import write_durably
from relay.trust import authority as office_acts
from relay.trust.authority import Office
from relay.trust.certificates import node_id
from relay.trust.enrolment import Enrolment, read_pem_block, write_enrolment
from relay.trust.roles import NODE_ROLES, Role

DEFAULT_FORMS = ("C-HASIL-KWK-GUBERNUR", "C-HASIL-KWK-BUPATI")
_PATH = click.Path(path_type=Path)
_LARGE = 1 * MIB
"""Bytes of a register that a boat in reach for half a minute should not have to move."""
_FEW = 5
"""Doubtful codes of a register that are named."""


@click.group(cls=Group)
def authority() -> None:
    """The election office. Keep its folder offline: whoever has its key and passphrase is the election."""


@authority.command()
@click.argument("folder", type=_PATH, metavar="DIR")
@click.option("--election", required=True, help="Id of the election, for example belitung-timur-2024.")
@click.option("--register", "register", required=True, type=_PATH, help="The polling stations (CSV).")
@click.option("--form", "forms", multiple=True, default=DEFAULT_FORMS, show_default=True, help="Forms of each station.")
def init(folder: Path, election: str, register: Path, forms: tuple[str, ...]) -> None:
    """Make a new election: root key, register notice, public root.pem."""
    if is_drill(election):
        raise BadInput(f"{election} is a name for drills", "Choose another, or practise with `relay drill new`.")
    make_election(folder, election, register, forms)


def make_election(folder: Path, election: str, register: Path, forms: tuple[str, ...]) -> None:
    """Make an election in a folder that holds none; asks for the passphrase. Raises `BadInput`."""
    if (folder / "root.pem").exists() or (folder / "root-key.pem").exists():
        raise BadInput(f"{folder} holds an election already", "Choose another folder.")
    stations = parse_register(read_file(register, MAX_REGISTER + 1))
    key = Ed25519PrivateKey.generate()
    with working("The register is signed …"):
        office = office_acts.found(election, forms, stations, key, x509.random_serial_number(), datetime.now(UTC))
    encryption = BestAvailableEncryption(_passphrase(confirm=True))
    with working("The election is written …"):
        make_office(folder, office, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    _tell_unlike([station.tps for station in stations])
    many = f"{len(stations)} polling stations" if len(stations) > 1 else "1 polling station"
    message(f"Election {election} is made, with {many}. Keep {folder} offline, and a backup of it.")
    _tell_large(office)
    click.echo(str(folder / "root.pem"))


@authority.command()
@click.argument("folder", type=_PATH, metavar="DIR")
@click.argument("request", type=_PATH)
@click.option("--role", required=True, type=click.Choice([str(role) for role in NODE_ROLES]))
@click.option("--tps", multiple=True, metavar="CODE", help="A polling station that an operator signs for; repeatable.")
@click.option("--url", "urls", multiple=True, help="Address of a receiver's intake, https://host:8470; repeatable.")
@click.option("--change-role", is_flag=True, help="Give a node that is enrolled another role.")
@click.option("-o", "--output", required=True, type=_PATH, help="Where to write the enrolment.")
def enrol(
    folder: Path,
    request: Path,
    role: str,
    tps: tuple[str, ...],
    urls: tuple[str, ...],
    change_role: bool,
    output: Path,
) -> None:
    """Enrol a node from the REQUEST that `relay init` wrote: certificate, root and notices in one file."""
    with open_office(folder) as kept:
        _check_output(output)
        request_pem = read_file(request, MAX_REQUEST + 1)
        office, enrolment = office_acts.enrol(
            kept.office,
            request_pem,
            Role(role),
            tps,
            urls,
            _root_key(folder),
            x509.random_serial_number(),
            datetime.now(UTC),
            change_role=change_role,
        )
        _publish(kept, office, enrolment, output)
    (line,) = office.ledger.decided.values()
    message(f"Enrolled {line.name} as {role}. Carry the file to the device and run `relay join`.")
    click.echo(str(output))


@authority.command()
@click.argument("folder", type=_PATH, metavar="DIR")
@click.argument("name")
@click.option("--reason", required=True, help="Why; every node will see it.")
@click.option("-o", "--output", required=True, type=_PATH, help="Where to write the revocation.")
def revoke(folder: Path, name: str, reason: str, output: Path) -> None:
    """Revoke a node's key. Take the file to any node with `relay import`; nodes spread it."""
    with open_office(folder) as kept:
        _check_output(output)
        office, enrolment = office_acts.revoke(kept.office, name, reason, _root_key(folder))
        _publish(kept, office, enrolment, output)
    message(f"Revoked {name}.")
    click.echo(str(output))


@authority.command()
@click.argument("folder", type=_PATH, metavar="DIR")
@click.argument("name")
@click.argument("public_key", type=_PATH)
@click.option("-o", "--output", required=True, type=_PATH, help="Where to write the notices.")
def seal(folder: Path, name: str, public_key: Path, output: Path) -> None:
    """Have packages sealed to the receiver NAME, whose `relay receiver sealing-key` wrote PUBLIC_KEY."""
    public = read_pem_block(read_file(public_key, MAX_REQUEST), "RELAY SEALING PUBLIC KEY")
    with open_office(folder) as kept:
        _check_output(output)
        office, enrolment = office_acts.seal_to(kept.office, name, public, _root_key(folder))
        _publish(kept, office, enrolment, output)
    message(f"Packages are sealed to {name} on every node that has these notices.")
    click.echo(str(output))


@authority.command()
@click.argument("folder", type=_PATH, metavar="DIR")
@click.argument("vkey")
@click.option("-o", "--output", required=True, type=_PATH, help="Where to write the notices.")
def witness(folder: Path, vkey: str, output: Path) -> None:
    """Make an independent witness known, by its verifier key (C2SP signed-note) as its owner gives it."""
    with open_office(folder) as kept:
        _check_output(output)
        office, enrolment = office_acts.add_witness(kept.office, vkey, _root_key(folder))
        _publish(kept, office, enrolment, output)
    click.echo(str(output))


@authority.command(name="list")
@click.argument("folder", type=_PATH, metavar="DIR")
@json_option
def list_nodes(folder: Path, as_json: bool) -> None:
    """List the nodes that were enrolled."""
    with open_office(folder, reading=True) as kept:
        if as_json:
            print_json(
                [
                    {"name": one.name, "node": one.node, "role": one.role, "tps": list(one.tps), "revoked": one.revoked}
                    for one in kept.office.ledger
                ]
            )
            return
        for one in kept.office.ledger:
            revoked = f"  {told('revoked')}: {one.revoked}" if one.revoked is not None else ""
            click.echo(f"{one.name:24} {told(one.role):9} {one.node[:16]}  {' '.join(one.tps)}{revoked}")


@authority.command()
@click.argument("folder", type=_PATH, metavar="DIR")
@click.argument("file", type=_PATH, metavar="[CSV]", required=False)
@click.option("--remove", is_flag=True, help="Remove the polling stations that the file leaves out.")
@click.option("-o", "--output", type=_PATH, help="Where to write the notices of what changed.")
def register(folder: Path, file: Path | None, remove: bool, output: Path | None) -> None:
    """Publish a corrected register, the whole of it as CSV; without CSV, print the register in force.

    Take the file that is written to any node with `relay import`; nodes spread it.
    """
    if file is None:
        with open_office(folder, reading=True) as kept:
            parts = kept.office.register().values()
            click.echo(write_register([one for body in parts for one in body.stations]), nl=False)
        return
    if output is None:
        raise BadInput("It is not said where the notices are to be written", "Give -o the name of a file.")
    stations = parse_register(read_file(file, MAX_REGISTER + 1))
    with open_office(folder) as kept:
        _check_output(output)
        office, correction = office_acts.correct_register(kept.office, stations, _root_key(folder), remove=remove)
        _publish(kept, office, Enrolment(None, None, correction.notices), output)
    _tell_unlike([station.tps for station in stations])
    message(
        f"Polling stations: {correction.added} added, {correction.corrected} corrected, {correction.removed} removed."
    )
    click.echo(str(output))


@authority.command()
@click.argument("folder", type=_PATH, metavar="DIR")
@click.option("-o", "--output", required=True, type=_PATH, help="Where to write the notices.")
def notices(folder: Path, output: Path) -> None:
    """Write the notices in force, the whole register among them, for `relay import` on any node."""
    with open_office(folder, reading=True) as kept:
        write_durably(output, write_enrolment(Enrolment(None, None, tuple(kept.office.notices.values()))))
    click.echo(str(output))


def _check_output(output: Path) -> None:
    """Check that a file can be written there, before anything is decided that it is to tell."""
    if output.is_dir():
        raise BadInput(f"{output} is a folder", "Give -o the name of a file. Nothing was changed.")
    try:
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise BadInput(
            f"{output} cannot be written ({error.strerror})", "Give -o another place. Nothing was changed."
        ) from error


def _publish(kept: OfficeFolder, office: Office, enrolment: Enrolment, output: Path) -> None:
    """Keep what was decided, and write it for those it concerns."""
    kept.keep(office)
    try:
        write_durably(output, write_enrolment(enrolment))
    except StoreError as error:
        again = "It is decided all the same: enrol again, or write the notices with `relay authority notices`."
        raise StoreError(error.what, again) from error


def _root_key(folder: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(read_file(folder / "root-key.pem", MAX_REQUEST), password=_passphrase(confirm=False))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadInput("The passphrase does not open the root key", "Try again; nothing was changed.") from error
    root = read_pem_certificate(folder / "root.pem")
    public = x509.load_der_x509_certificate(root).public_key()
    if not isinstance(key, Ed25519PrivateKey) or node_id(key.public_key()) != node_id(public):  # type: ignore[arg-type]
        raise BadInput("The root key is not that of root.pem", "Restore the folder from its backup.")
    return key


def _passphrase(*, confirm: bool) -> bytes:
    text = os.environ.get("RELAY_PASSPHRASE")
    if text is None:
        if not sys.stdin.isatty():
            raise BadInput("The passphrase cannot be asked for: this is no terminal", "Set RELAY_PASSPHRASE.")
        text = click.prompt(told("Passphrase of the root key"), hide_input=True, confirmation_prompt=confirm, err=True)
    if not text:
        raise BadInput("An empty passphrase protects nothing", "Choose one, or set RELAY_PASSPHRASE.")
    return str(text).encode()


def unlike_the_others(codes: list[str]) -> list[str]:
    """The few codes that are not digits of the same number as most are: typing errors, more often than not."""
    shapes = Counter((len(code), code.isdecimal()) for code in codes)
    ((usual, count),) = shapes.most_common(1)
    few = [code for code in codes if (len(code), code.isdecimal()) != usual]
    return few[:_FEW] if count > len(codes) // 2 else []


def _tell_unlike(codes: list[str]) -> None:
    for code in unlike_the_others(codes):
        message(f"warning: the register has polling station {code}, whose code is unlike the others")


def _tell_large(office: Office) -> None:
    size = sum(len(raw) for raw in office.notices.values())
    if size > _LARGE:
        message(f"The register takes {size // MIB} MB. Nodes hand it on to each other, at sea as well:")
        message("`relay import` what `relay authority notices` writes on each box while it is ashore.")
