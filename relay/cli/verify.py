"""`relay verify`: check an exported bundle or a receipt offline, and say what it proved.

Needs nothing but the election's root.pem: no node, no network, no clock. Whoever does not want to trust this program
finds the formats, to the byte, in docs/reference/formats.md, and the same checks with openssl and sha256sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from relay.cli.language import told, told_in_parts
from relay.cli.options import json_option, print_json
from relay.cli.terminal import counting, paint
from relay.errors import BadInput, Malformed, Refused, RelayError, on_one_line
from relay.limits import MAX_FILE, MAX_RECORD
from relay.log.merkle import leaf_hash
from relay.node.byhand import FOLDERS, OBJECTS, read_plain
from relay.node.home import read_pem_certificate
from relay.records.identifiers import HASH_SIZE, Kind, StatementId, sha256
from relay.records.receipt import Receipt
from relay.records.statement import Statement
from relay.trust.admission import Admission, Admitted

_PATH = click.Path(path_type=Path)


@dataclass(slots=True)
class Findings:
    """What a check proved, and what it found false or missing."""

    proved: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    foreign: int = 0
    """How many of the wrong are of another election."""
    step: Callable[[], None] = lambda: None
    """Called after each file, for the progress shown."""


@click.command()
@click.option("--root", required=True, type=_PATH, help="The election's root.pem.")
@click.argument("path", type=_PATH)
@json_option
def verify(root: Path, path: Path, as_json: bool) -> int:
    """Check PATH, an exported folder or one of its files, against the election's root."""
    if not path.exists():
        raise BadInput(f"{path} does not exist", "Give a folder that `relay export` wrote, or a file of it.")
    admission = Admission(read_pem_certificate(root))
    findings = Findings()
    if path.is_dir():
        total = sum(1 for name in (*(name for name, _ in FOLDERS.values()), OBJECTS) for _ in (path / name).glob("*"))
        with counting(told("files"), total) as findings.step:
            _check_folder(admission, path, findings)
    else:
        _check_file(admission, path, findings)
    if not as_json and not findings.proved and findings.wrong and findings.foreign == len(findings.wrong):
        raise Refused(
            "foreign-election",
            f"{path} is of another election than {root}: none of its {len(findings.wrong)} records is signed under it",
            "Give the root.pem of its own election, from the election office.",
        )
    if not findings.proved and not findings.wrong:
        raise BadInput(f"{path} holds nothing that can be checked", "Give a folder that `relay export` wrote.")
    _show(findings, as_json)
    return 1 if findings.wrong else 0


def _check_folder(admission: Admission, folder: Path, findings: Findings) -> None:
    for kind in (Kind.NOTICE, Kind.CHECKPOINT):
        for admitted, name in _admit_all(admission, folder, kind, findings):
            admission.install(admitted)
            findings.proved.append(f"{name}: {kind.name.lower()} signed for election {admission.election}")
    receipts = {
        admitted.body.statement: admitted.body
        for admitted, _ in _admit_all(admission, folder, Kind.RECEIPT, findings)
        if isinstance(admitted.body, Receipt)
    }
    statements: set[StatementId] = set()
    for admitted, name in _admit_all(admission, folder, Kind.STATEMENT, findings):
        if isinstance(admitted.body, Statement):
            statements.add(admitted.body.id)
            _say_statement(admission, admitted.body, name, findings)
            _check_objects(folder, admitted.body, findings)
            _check_receipt(admitted.body, receipts.get(admitted.body.id), findings)
    for statement, receipt in receipts.items():
        if statement not in statements:
            findings.proved.append(_receipt_line(admission, receipt))


def _check_file(admission: Admission, path: Path, findings: Findings) -> None:
    raw = _read(path)
    if sha256(raw).hex() == path.name:
        findings.proved.append(f"{path.name}: an object whose content has this SHA-256")
        return
    troubles: list[RelayError] = []
    for kind in Kind:
        try:
            admitted = admission.admit(kind, raw)
        except RelayError as error:
            troubles.append(error)
            continue
        _say_record(admission, admitted, path, findings)
        return
    telling = next((error for error in troubles if not isinstance(error, Malformed)), troubles[0])
    findings.wrong.append(f"{path.name}: {telling.what}")


def _say_record(admission: Admission, admitted: Admitted, path: Path, findings: Findings) -> None:
    match admitted.body:
        case Statement() as statement:
            _say_statement(admission, statement, path.name, findings)
            beside = path.parent.parent
            if (beside / OBJECTS).is_dir():
                _check_objects(beside, statement, findings)
        case Receipt() as receipt:
            findings.proved.append(_receipt_line(admission, receipt))
        case _:
            kind = admitted.kind.name.lower()
            findings.proved.append(f"{path.name}: {kind} signed for election {admission.election}")


def _admit_all(admission: Admission, folder: Path, kind: Kind, findings: Findings) -> list[tuple[Admitted, str]]:
    name, suffix = FOLDERS[kind]
    admitted: list[tuple[Admitted, str]] = []
    for file in sorted((folder / name).glob(f"*{suffix}")):
        try:
            admitted.append((admission.admit(kind, _read(file)), f"{name}/{file.name}"))
        except RelayError as error:
            findings.wrong.append(f"{name}/{file.name}: {error.what}")
            findings.foreign += isinstance(error, Refused) and error.foreign
        findings.step()
    return admitted


def _say_statement(admission: Admission, statement: Statement, name: str, findings: Findings) -> None:
    package = statement.package
    signer = admission.identify(statement.envelope.certificate)
    findings.proved.append(
        f"{name}: {package.form} of polling station {package.tps}, signed by {signer.name} as its no. {package.seq}"
    )
    if package.flags:
        findings.proved.append(f"{name}: its device flagged {', '.join(package.flags)}")


def _check_objects(folder: Path, statement: Statement, findings: Findings) -> None:
    for entry in statement.package.files:
        file = folder / OBJECTS / entry.sha256.hex()
        if not file.is_file():
            findings.missing.append(f"{OBJECTS}/{entry.sha256.hex()} ({entry.name}) is not in this export")
            continue
        findings.step()
        if _hash(file) == entry.sha256:
            findings.proved.append(f"{OBJECTS}/{entry.sha256.hex()}: {entry.name}, {entry.size} bytes, as signed")
        else:
            findings.wrong.append(f"{OBJECTS}/{entry.sha256.hex()}: {entry.name} is not what was signed")


def _check_receipt(statement: Statement, receipt: Receipt | None, findings: Findings) -> None:
    if receipt is None:
        findings.missing.append(f"{statement.id.hex()} has no receipt here: nothing shows that it was delivered")
    elif receipt.leaf != leaf_hash(statement.raw):
        findings.wrong.append(f"receipts/{statement.id.hex()}.cose proves another entry than this statement")
    else:
        findings.proved.append(
            f"{statement.id.hex()}: entry {receipt.entry} of the public log, which had {receipt.inclusion.size} entries"
        )


def _receipt_line(admission: Admission, receipt: Receipt) -> str:
    signer = admission.identify(receipt.envelope.certificate)
    return (
        f"receipt by {signer.name}: statement {receipt.statement.hex()} is entry {receipt.entry} "
        f"of the public log, which had {receipt.inclusion.size} entries"
    )


def _hash(file: Path) -> bytes:
    return sha256(read_plain(file, MAX_FILE))


def _read(file: Path) -> bytes:
    """A record, or an object by its name; a link or a pipe on a stick is not followed."""
    return read_plain(file, MAX_FILE if len(file.name) == 2 * HASH_SIZE else MAX_RECORD)


def _show(findings: Findings, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {
            "ok": not findings.wrong,
            "proved": findings.proved,
            "wrong": findings.wrong,
            "missing": findings.missing,
        }
        print_json(document)
        return
    parts = (
        ("ok", "green", findings.proved),
        ("missing", "yellow", findings.missing),
        ("WRONG", "red", findings.wrong),
    )
    width = 2 + max(len(told(mark)) for mark, _, _ in parts)
    for mark, colour, lines in parts:
        for line in lines:
            click.echo(f"{paint(f'{told(mark):{width}}', colour)}{told_in_parts(on_one_line(line))}")
    proved, missing, wrong = (len(lines) for _, _, lines in parts)
    click.echo(told(f"{proved} proved, {missing} missing, {wrong} wrong"))
