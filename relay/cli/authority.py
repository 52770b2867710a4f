"""`relay authority`: the election office's commands, and its folder.

    root.pem        the election's root certificate, public     notices/<topic>-<part>.cose   in force
    root-key.pem    its key, encrypted under the passphrase      nodes.json                    whom it enrolled

What the office decides is in `relay.trust.authority`; here are its files and its passphrase. The folder belongs on a
machine, or a stick, that stays offline.
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
from relay.cli.options import json_option, message, print_json
from relay.cli.terminal import working
from relay.errors import BadInput, StoreError
from relay.limits import MAX_ENROLMENT, MAX_REGISTER, MAX_REQUEST
from relay.node.home import read_pem_certificate
from relay.records.identifiers import is_drill
from relay.records.notice import parse_register
from relay.store.durable import write_durably
from relay.trust import authority as office_acts
from relay.trust.authority import Office, read_ledger, write_ledger
from relay.trust.certificates import node_id
from relay.trust.enrolment import Enrolment, pem_block, read_pem_block, write_enrolment
from relay.trust.roles import NODE_ROLES, Role

DEFAULT_FORMS = ("C-HASIL-KWK-GUBERNUR", "C-HASIL-KWK-BUPATI")
_PATH = click.Path(path_type=Path)
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
    stations = parse_register(_read(register, MAX_REGISTER + 1))
    key = Ed25519PrivateKey.generate()
    with working("The register is signed …"):
        office = office_acts.found(election, forms, stations, key, x509.random_serial_number(), datetime.now(UTC))
    encryption = BestAvailableEncryption(_passphrase(confirm=True))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    write_durably(folder / "root-key.pem", pem, mode=0o600)
    _save(folder, office)
    write_durably(folder / "root.pem", pem_block("CERTIFICATE", office.root).encode())
    for code in unlike_the_others([station.tps for station in stations]):
        message(f"warning: the register has polling station {code}, whose code is unlike the others")
    many = f"{len(stations)} polling stations" if len(stations) > 1 else "1 polling station"
    message(f"Election {election} is made, with {many}. Keep {folder} offline, and a backup of it.")
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
    office = _load(folder)
    _check_output(output)
    request_pem = _read(request, MAX_REQUEST + 1)
    key = _root_key(folder)
    office, enrolment = office_acts.enrol(
        office,
        request_pem,
        Role(role),
        tps,
        urls,
        key,
        x509.random_serial_number(),
        datetime.now(UTC),
        change_role=change_role,
    )
    _publish(folder, office, enrolment, output)
    message(f"Enrolled {office.ledger[-1].name} as {role}. Carry the file to the device and run `relay join`.")
    click.echo(str(output))


@authority.command()
@click.argument("folder", type=_PATH, metavar="DIR")
@click.argument("name")
@click.option("--reason", required=True, help="Why; every node will see it.")
@click.option("-o", "--output", required=True, type=_PATH, help="Where to write the revocation.")
def revoke(folder: Path, name: str, reason: str, output: Path) -> None:
    """Revoke a node's key. Take the file to any node with `relay import`; nodes spread it."""
    office = _load(folder)
    _check_output(output)
    office, enrolment = office_acts.revoke(office, name, reason, _root_key(folder))
    _publish(folder, office, enrolment, output)
    message(f"Revoked {name}.")
    click.echo(str(output))


@authority.command()
@click.argument("folder", type=_PATH, metavar="DIR")
@click.argument("name")
@click.argument("public_key", type=_PATH)
@click.option("-o", "--output", required=True, type=_PATH, help="Where to write the notices.")
def seal(folder: Path, name: str, public_key: Path, output: Path) -> None:
    """Have packages sealed to the receiver NAME, whose `relay receiver sealing-key` wrote PUBLIC_KEY."""
    public = read_pem_block(_read(public_key, MAX_REQUEST), "RELAY SEALING PUBLIC KEY")
    office = _load(folder)
    _check_output(output)
    office, enrolment = office_acts.seal_to(office, name, public, _root_key(folder))
    _publish(folder, office, enrolment, output)
    message(f"Packages are sealed to {name} on every node that has these notices.")
    click.echo(str(output))


@authority.command()
@click.argument("folder", type=_PATH, metavar="DIR")
@click.argument("vkey")
@click.option("-o", "--output", required=True, type=_PATH, help="Where to write the notices.")
def witness(folder: Path, vkey: str, output: Path) -> None:
    """Make an independent witness known, by its verifier key (C2SP signed-note) as its owner gives it."""
    office = _load(folder)
    _check_output(output)
    office, enrolment = office_acts.add_witness(office, vkey, _root_key(folder))
    _publish(folder, office, enrolment, output)
    click.echo(str(output))


@authority.command(name="list")
@click.argument("folder", type=_PATH, metavar="DIR")
@json_option
def list_nodes(folder: Path, as_json: bool) -> None:
    """List the nodes that were enrolled."""
    ledger = _load(folder).ledger
    if as_json:
        print_json(
            [
                {"name": one.name, "node": one.node, "role": one.role, "tps": list(one.tps), "revoked": one.revoked}
                for one in ledger
            ]
        )
        return
    for one in ledger:
        revoked = f"  {told('revoked')}: {one.revoked}" if one.revoked is not None else ""
        click.echo(f"{one.name:24} {told(one.role):9} {one.node[:16]}  {' '.join(one.tps)}{revoked}")


@authority.command()
@click.argument("folder", type=_PATH, metavar="DIR")
@click.option("-o", "--output", required=True, type=_PATH, help="Where to write the notices.")
def notices(folder: Path, output: Path) -> None:
    """Write the notices in force, for `relay import` on any node."""
    write_durably(output, write_enrolment(Enrolment(None, None, tuple(_load(folder).notices.values()))))
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


def _publish(folder: Path, office: Office, enrolment: Enrolment, output: Path) -> None:
    """Keep what was decided, and write it for those it concerns."""
    _save(folder, office)
    try:
        write_durably(output, write_enrolment(enrolment))
    except StoreError as error:
        again = "It is decided all the same: enrol again, or write the notices with `relay authority notices`."
        raise StoreError(error.what, again) from error


def _load(folder: Path) -> Office:
    if not (folder / "root.pem").exists() or not (folder / "nodes.json").exists():
        if (folder / "request.pem").exists():
            raise BadInput(f"{folder} is a node, and not the election office's folder", "Name the office's folder.")
        raise BadInput(f"{folder} holds no election", "Make one with `relay authority init`, or name its folder.")
    root = read_pem_certificate(folder / "root.pem")
    files = sorted((folder / "notices").glob("*.cose"))
    notices = {file.stem.replace("-", "/"): _read(file, MAX_ENROLMENT) for file in files}
    return Office(root, notices, read_ledger(_read(folder / "nodes.json", MAX_ENROLMENT)))


def _save(folder: Path, office: Office) -> None:
    """Write notices, then the ledger: after a failure in between, enrolling again repairs it."""
    (folder / "notices").mkdir(exist_ok=True, mode=0o700)
    for slot, raw in office.notices.items():
        path = folder / "notices" / f"{slot.replace('/', '-')}.cose"
        if not path.exists() or path.read_bytes() != raw:
            write_durably(path, raw)
    write_durably(folder / "nodes.json", write_ledger(office.ledger))


def _root_key(folder: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(_read(folder / "root-key.pem", MAX_REQUEST), password=_passphrase(confirm=False))
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


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror})", "Check the name and its permissions.") from error
