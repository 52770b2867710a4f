"""`relay audit`: check a published log from its first entry to its last, with no trust in who serves it.

Needs the election's root.pem and the log's address, and no node. What is checked, and in what order, is
`relay.receiver.auditing`'s.

A timer has to tell a log that is wrong from one that could not be looked at: each has its exit status.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from relay.cli.help import show_error
from relay.cli.language import told
from relay.cli.options import json_option, print_json
from relay.cli.remembered import Places, lines_of_before, tell_older
from relay.cli.terminal import paint, shares
from relay.errors import BadInput, Refused, RelayError, StoreError, Unreachable
from relay.limits import AUDIT_PATIENCE_SECONDS, MAX_ENROLMENT
from relay.net.source import Source, open_source
from relay.node.home import read_pem_certificate
from relay.receiver.auditing import OLD_COPY, Audit, Report, Scope, admit_notices, read_checkpoint, read_notices
from relay.receiver.chains import Finding, Gap
from relay.receiver.ledger import Ledger
from relay.receiver.memory import Memory
from relay.trust.admission import Admission
from relay.trust.enrolment import read_enrolment
from relay.web.site.audit.compared import Compared
from relay.web.site.audit.course import OTHER_JUDGING, ResultsAudit

_PATH = click.Path(path_type=Path)
_HOUR = 3_600

RIGHT, WRONG, UNUSABLE, NOT_CHECKED = 0, 1, 2, os.EX_TEMPFAIL
"""How the command ends: all is right; the log is not; what it was given is not; it could not be checked now."""
_OUTCOMES = {RIGHT: "right", WRONG: "wrong", UNUSABLE: "unusable", NOT_CHECKED: "not-checked"}


@click.command()
@click.argument("url")
@click.option("--root", required=True, type=_PATH, help="The election's root.pem.")
@click.option("--state", type=_PATH, help="File in which the audit remembers what it checked.")
@click.option("--no-state", is_flag=True, help="Remember nothing.")
@click.option("--notices", type=_PATH, help="The notices in force, where you have them from the election office.")
@click.option("--objects/--no-objects", default=True, help="Fetch and hash every photograph.  [default: yes]")
@click.option("--receipts/--no-receipts", default=True, help="Check the receipt of every entry.  [default: yes]")
@click.option("--results", is_flag=True, help="Compare the results that the site shows with what its log says.")
@click.option("--hashes-only", is_flag=True, help="Check the tree and its growth alone, no signatures of entries.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=AUDIT_PATIENCE_SECONDS // _HOUR,
    help="Hours from when an entry was first seen until it must be published whole.  [default: 12]",
)
@click.option("--complete", is_flag=True, help="All must be published: the same as --patience 0.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Processes that check signatures.  [default: all processors]")
@json_option
def audit(
    url: str,
    root: Path,
    state: Path | None,
    no_state: bool,
    notices: Path | None,
    objects: bool,
    receipts: bool,
    results: bool,
    hashes_only: bool,
    patience: float,
    complete: bool,
    jobs: int | None,
    as_json: bool,
) -> int:
    """Check the whole log that is published at URL, against the election's root; the first thing wrong is named.

    URL is the receiver's public address, or file:///FOLDER. The audit remembers what it checked: a later one proves
    that the log only grew since, and one that was interrupted goes on.

    It ends with 0 where all is right, 1 where the log is wrong, 2 where the command was used wrongly, and 75 where it
    could not be checked now.
    """
    processors = jobs or len(os.sched_getaffinity(0))
    scope = Scope(not hashes_only, receipts, objects, processors, 0 if complete else patience * _HOUR)
    began = time.monotonic()
    try:
        if state is not None and no_state:
            raise BadInput("--state and --no-state exclude each other", "Give one of them.")
        if results and hashes_only:
            raise BadInput("--results and --hashes-only exclude each other", "Give one of them.")
        certificate = _read_root(root)
        places = None if no_state else Places(state, certificate)
        report, compared = asyncio.run(_audit(url, certificate, places, notices, scope, results, time.time))
    except RelayError as error:
        status = _status(error)
        if as_json:
            print_json(_failure(error, status))
        else:
            show_error(error)
        return status
    document = _document(report, scope, compared, time.monotonic() - began)
    if as_json:
        print_json(document)
    else:
        click.echo("\n".join(_lines(document)))
    return RIGHT


def _status(error: RelayError) -> int:
    """How the command ends for this."""
    if isinstance(error, Unreachable | StoreError) or (
        isinstance(error, Refused) and error.reason in (OLD_COPY, OTHER_JUDGING)
    ):
        return NOT_CHECKED
    return UNUSABLE if isinstance(error, BadInput) else WRONG


def _failure(error: RelayError, status: int) -> dict[str, Any]:
    reason = error.reason if isinstance(error, Refused) else error.kind
    outcome = {"ok": False, "outcome": _OUTCOMES[status], "status": status}
    return {**outcome, "reason": reason, "wrong": error.what, "advice": error.advice}


def _read_root(file: Path) -> bytes:
    try:
        return read_pem_certificate(file)
    except StoreError as error:  # a name mistyped is no trouble that passes
        raise BadInput(error.what, "Give the election's root.pem.") from error


async def _audit(
    url: str,
    root: bytes,
    places: Places | None,
    notices: Path | None,
    scope: Scope,
    results: bool,
    clock: Callable[[], float],
) -> tuple[Report, Compared | None]:
    admission = Admission(root)
    async with open_source(url) as source:
        with closing(Memory(places.memory(admission.election) if places else None, root)) as memory:
            memory.recall(admission)
            served = await _notices(source, notices)
            if results and notices:  # flags follow from what is in force now, and a file may be older
                served = (*served, *await read_notices(source))
            admit_notices(admission, served)
            older = memory.keep(served)
            tell_older(older)
            signed = await read_checkpoint(source, admission)
            origin = signed.checkpoint.origin
            before = memory.follow(admission, source.place, origin)
        ledger = Ledger(places.ledger(origin) if places else None, root, origin)
        try:
            with shares() as progress:
                report = await Audit(source, admission, signed, ledger, scope, progress, clock).run()
                compared = None
                if results:
                    audited = ResultsAudit(source, admission, ledger, report.size, progress, clock)
                    compared = await audited.run(scope.patience)
            report.older, report.before = older, before
            if places and before and scope.signatures:
                report.missing = ledger.missing_of(places.known(before[-1]))
            return report, compared
        finally:
            ledger.close()


async def _notices(source: Source, file: Path | None) -> tuple[bytes, ...]:
    if file is None:
        return await read_notices(source)
    if not file.is_file():
        raise BadInput(f"{file} does not exist", "Give a file of notices, such as an enrolment or a revocation.")
    return read_enrolment(file.read_bytes()[: MAX_ENROLMENT + 1]).notices


def _document(report: Report, scope: Scope, compared: Compared | None, seconds: float) -> dict[str, Any]:
    return {
        "ok": True,
        "outcome": _OUTCOMES[RIGHT],
        "status": RIGHT,
        "election": report.election,
        "log": report.origin,
        "size": report.size,
        "root": report.root.hex(),
        "grown_from": report.growth_from,
        "cosigned_by": report.cosigned_by,
        "cosigned_entries": report.cosigned,
        "checked": {
            "entries": report.entries,
            "signatures": scope.signatures,
            "receipts": report.receipts,
            "objects": report.objects,
            "object_bytes": report.object_bytes,
        },
        "older_notices": [asdict(one) for one in report.older],
        "shown_before": report.before,
        "missing_of_before": report.missing,
        "not_published_from": report.unpublished,
        "not_published_seconds": None if report.unpublished is None else round(report.unpublished_for),
        "patience_seconds": round(scope.patience),
        "revoked_signers": report.revoked,
        "missized_objects": report.missized,
        "chain_findings": report.findings_total,
        "chains": [_finding(one) for one in report.findings],
        "results": _results(compared) if compared else None,
        "seconds": round(seconds, 3),
    }


def _results(compared: Compared) -> dict[str, Any]:
    return {
        "forms": compared.forms,
        "regions": compared.regions,
        "tables": compared.tables,
        "site_entries": compared.entries,
        "register": compared.has_register,
        "same_version": compared.same_pages,
        "not_shown_from": compared.behind,
        "newer": compared.newer,
        "not_judged_again": compared.rewritten,
        "without_entry": compared.unnamed,
        "waiting_seconds": {what: round(seconds) for what, seconds in compared.waiting.items()},
    }


def _finding(finding: Finding) -> dict[str, Any]:
    if isinstance(finding, Gap):
        named = [one.hex() for one in finding.named]
        return {"gap": finding.node.hex(), "first": finding.first, "last": finding.last, "named": named}
    ids = [one.hex() for one in (*finding.held, *finding.named)]
    return {"fork": finding.node.hex(), "seq": finding.seq, "statements": ids}


def _lines(document: dict[str, Any]) -> list[str]:
    checked = document["checked"]
    rate = checked["entries"] / max(document["seconds"], 0.001)
    right = told(f"The log {document['log']} is right: {document['size']} entries, root {document['root']}")
    now = told(
        f"checked now: {checked['entries']} entries ({rate:.0f}/s), {checked['receipts']} receipts, "
        f"{checked['objects']} objects ({checked['object_bytes']} bytes)"
    )
    lines = [paint(right, "green"), f"  {now}"]
    if not checked["signatures"]:
        lines.append(_warning("signatures of entries, receipts and objects were not asked for"))
    lines += _lines_of_results(document["results"], document["patience_seconds"] / _HOUR)
    if document["not_published_from"] is not None:
        first, hours = document["not_published_from"], document["patience_seconds"] / _HOUR
        lines.append(
            _warning(f"receipts or objects from entry {first} on are not published yet: the next audit checks them")
        )
        lines.append(_warning(f"what is not published {hours:g} hours after it was first seen will be a fault"))
    if document["grown_from"]:
        before = f"it begins with the log of {document['grown_from']} entries that was seen before"
        lines.append(f"  {told(before)}")
    lines += [_warning(one) for one in lines_of_before(document["shown_before"], document["missing_of_before"])]
    witnesses = ", ".join(document["cosigned_by"])
    seen = f"its first {document['cosigned_entries']} entries are cosigned by: {witnesses}"
    lines.append(f"  {told(seen if witnesses else 'nobody cosigned it yet')}")
    for name, count in document["revoked_signers"].items():
        lines.append(_warning(f"{count} entries were signed by {name}, revoked since"))
    if document["missized_objects"]:
        lines.append(_warning(f"{document['missized_objects']} objects have another size than their signer gave"))
    for one in document["chains"]:
        if "gap" in one:
            what = f"no. {one['first']} to {one['last']} of device {one['gap'][:16]} exist and are not in the log"
        else:
            what = f"more than one statement is no. {one['seq']} of device {one['fork'][:16]}: its key was used twice"
        lines.append(_warning(what))
    if document["chain_findings"] > len(document["chains"]):
        more = f"and {document['chain_findings'] - len(document['chains'])} more such gaps and forks"
        lines.append(f"  {told(more)}")
    return lines


def _lines_of_results(found: dict[str, Any] | None, hours: float) -> Iterator[str]:
    if found is None:
        yield f"  {told('the results that the site shows were not compared with the log: --results does')}"
        return
    shown = (
        f"results: {found['forms']} forms, {found['regions']} regions, {found['tables']} tables: all as the log says"
    )
    yield f"  {paint(told(shown), 'green')}"
    if not found["register"]:
        yield _warning(
            "names and registered voters of polling stations were taken from the site: --notices FILE, with the "
            "register, has them compared too"
        )
    if not found["same_version"]:
        yield _warning("the site says that another version of relay wrote its pages")
    if found["not_shown_from"] is not None:
        yield _warning(f"the site is behind its log: entry {found['not_shown_from']} is not shown everywhere yet")
        yield _warning(f"what is not shown {hours:g} hours after it was first missed will be a fault")
    if found["newer"]:
        yield _warning(
            f"{found['newer']} documents are newer than the log that was checked: audit again to compare them"
        )
    if found["not_judged_again"]:
        yield _warning(
            f"{found['not_judged_again']} documents were not judged again yet: the site says that it is written again"
        )
    if found["without_entry"]:
        yield _warning(f"{found['without_entry']} regions do not say how many entries they show")


def _warning(text: str) -> str:
    return paint(f"  {told(text)}", "yellow")
