"""Each page checks itself, in a real browser: what is as it was signed holds, and what is altered shows as false."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from playwright.sync_api import Error

from relay.log.note import NoteKey, sign_note
from relay.records.cose import X5CHAIN, read_sign1, sign1
from relay.records.encoding import decode, encode
from relay.records.identifiers import sha256
from relay.records.notice import Revocation, Revocations, sign_notice
from relay.trust.certificates import make_root, read_certificate
from relay.trust.enrolment import Enrolment, read_pem_block, write_enrolment
from tests.factory import ELECTION, ISSUED_AT, make_election, make_node
from tests.site.election import BUPATI, KETAPANG, LONG
from tests.site.story import OLD_CHECKPOINT

STEPS = ("statement", "root", "certificate", "signature", "shown", "receipt", "checkpoint", "inclusion")
FORM_PAGE = f"tps/{LONG}/{BUPATI}.html"
CURRENT = ".statement >> nth=0"
"""The statement that stands comes first; what it corrects stands below."""

Alter = Callable[[bytes], bytes]


def outcomes(page: Any, address: str, path: str = FORM_PAGE, *, photographs: bool = False) -> dict[str, str]:
    """Open a station's page, let it check itself, and read what it says of each step of the first statement."""
    page.goto(address + path)
    article = page.locator(CURRENT)
    article.locator("[data-verdict][data-outcome]").wait_for()
    if photographs:
        article.locator("[data-photos] > summary").click()
        article.locator("[data-step=photographs]:not([data-outcome=unknown])").wait_for(state="attached")
    found = {
        one.get_attribute("data-step"): one.get_attribute("data-outcome")
        for one in article.locator("li[data-step]").all()
    }
    found["verdict"] = article.locator("[data-verdict]").get_attribute("data-outcome")
    return found


def alter(page: Any, pattern: str, change: Alter) -> None:
    """Let the server answer with something else."""

    def answer(route: Any) -> None:
        with suppress(Error):  # the page was left meanwhile
            response = route.fetch()
            route.fulfill(response=response, body=change(response.body()))

    page.route(pattern, answer)


def flip(at: int) -> Alter:
    """Change one bit."""

    def change(content: bytes) -> bytes:
        altered = bytearray(content)
        altered[at] ^= 1
        return bytes(altered)

    return change


def test_what_is_as_signed_holds(page: Any, address: str) -> None:
    found = outcomes(page, address, photographs=True)
    assert found == {**dict.fromkeys((*STEPS, "photographs"), "ok"), "verdict": "ok"}


def test_every_statement_on_a_page_is_checked(page: Any, address: str) -> None:
    page.goto(address + FORM_PAGE)
    page.locator("[data-verdict][data-outcome]").nth(1).wait_for()
    assert [one.get_attribute("data-outcome") for one in page.locator("[data-verdict]").all()] == ["ok", "ok"]


@pytest.mark.parametrize("entry", [3, 127, 128, 254, 255, 256, -1])
def test_entries_everywhere_in_the_log_hold(page: Any, address: str, published: Path, entry: int) -> None:
    size = int((published / "checkpoint").read_text().splitlines()[1])
    assert size > 257  # more than one tile
    documents = [json.loads(path.read_bytes()) for path in published.glob("tps/*/*.json")]
    (document,) = [one for one in documents if entry % size in [each["entry"] for each in one["statements"]]]
    found = outcomes(page, address, f"tps/{document['tps']}/{document['form']}.html")
    assert {found[step] for step in STEPS} == {"ok"}


def test_an_altered_photograph(page: Any, address: str) -> None:
    alter(page, "**/object/*", flip(-10))
    found = outcomes(page, address, photographs=True)
    assert found["photographs"] == "wrong"
    assert found["verdict"] == "bad"
    assert page.locator(f"{CURRENT} >> img").count() == 0  # what is not what was signed is not shown


def test_an_altered_tally(page: Any, address: str) -> None:
    def swap(content: bytes) -> bytes:
        altered = content.replace(b'Paslon 1</th><td class="n">', b'Paslon 1</th><td class="n">9', 1)
        assert altered != content
        return altered

    alter(page, f"**/{FORM_PAGE}", swap)
    found = outcomes(page, address)
    assert (found["shown"], found["signature"], found["verdict"]) == ("wrong", "ok", "bad")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b">Suara sah</th>", b">Pemilih</th>"),  # a number twice, another one missing
        (b"Paslon 1</th>", b"Paslon 9</th>"),  # the right number beside a wrong name
        (b"</tbody>", b"<tr><th>Paslon 3</th><td>900</td></tr></tbody>"),  # one more
        (b'Paslon 1</th><td class="n">', b'Paslon 1</th><td>900</td><td class="n" hidden>'),  # the signed one hidden
        (b"</table>", b"</table><table><tr><th>Paslon 1</th><td>900</td></tr></table>"),
        (b'<table class="tally">', b'<div hidden><table class="tally">'),
        (b">Suara sah salah ketik<", b">Perintah atasan<"),  # the reason of the correction
        (b'data-shown="device">tps-', b'data-shown="device">TPS-'),
    ],
)
def test_other_things_shown_that_were_not_signed(page: Any, address: str, old: bytes, new: bytes) -> None:
    def change(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new, 1)

    alter(page, f"**/{FORM_PAGE}", change)
    found = outcomes(page, address)
    assert (found["shown"], found["verdict"]) == ("wrong", "bad")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rb"<details class=\"photos\".*?</details>", b""),  # all of them, and their place
        (rb"<figure .*?</figure>", b""),  # one of two
        (rb"data-photos(?=>)", b"data-others"),  # where they are never opened as photographs
        (rb'class="photos"', b"hidden"),
        (rb'(?<=data-object=")\w{64}', b"ab" * 32),  # another one in its place
        (rb'<img src="../../object.*?>', b""),  # its name, without the picture
    ],
)
def test_photographs_that_are_not_in_the_page_do_not_hold_though_nobody_opens_any(
    page: Any, address: str, old: bytes, new: bytes
) -> None:
    """Whether a statement has photographs is what was signed, and not what the page says of it."""

    def change(content: bytes) -> bytes:
        altered = re.sub(old, new, content, count=1, flags=re.DOTALL)
        assert altered != content
        return altered

    alter(page, f"**/{FORM_PAGE}", change)
    found = outcomes(page, address)
    assert (found["signature"], found["shown"], found["verdict"]) == ("ok", "wrong", "bad")
    assert "Foto" in page.locator(f"{CURRENT} >> [data-verdict] >> [role=status]").inner_text()


def test_photographs_that_are_hidden_where_they_are_opened_do_not_hold(page: Any, address: str) -> None:
    def hide(content: bytes) -> bytes:
        altered = content.replace(b"<figure ", b"<figure hidden ", 1)
        assert altered != content
        return altered

    alter(page, f"**/{FORM_PAGE}", hide)
    found = outcomes(page, address, photographs=True)
    assert (found["photographs"], found["verdict"]) == ("wrong", "bad")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<tr><th", b"<tr hidden><th"),
        (rb'(?<=<td class="n">)(\d)(\d+)', rb"\1<i hidden>\2</i>"),
    ],
)
def test_what_is_shown_is_what_was_signed_also_where_it_was_hidden(
    page: Any, address: str, old: bytes, new: bytes
) -> None:
    outcomes(page, address)
    shown = page.locator(f"{CURRENT} >> table").inner_text()
    hidden = []

    def hide(content: bytes) -> bytes:
        hidden.append(re.sub(old, new, content) != content)
        return re.sub(old, new, content)

    alter(page, f"**/{FORM_PAGE}", hide)
    assert outcomes(page, address)["verdict"] == "ok"
    assert page.locator(f"{CURRENT} >> table").inner_text() == shown
    assert hidden == [True]


def test_line_ends_of_a_reason_are_read_as_a_page_reads_them(page: Any, address: str) -> None:
    ids: dict[bytes, bytes] = {}
    forge = _signed_by_a_stranger(ids, lambda package: {**package, "reason": "Satu\r\nDua\rTiga"})
    shown = (b">Suara sah salah ketik<", b">Satu\r\nDua\rTiga<")
    _forged_page(page, address, forge, ids, shown)
    found = outcomes(page, address)
    assert (found["statement"], found["shown"]) == ("ok", "ok")


def test_a_photograph_of_another_size_than_its_signer_gave_is_still_the_one_that_was_signed(
    page: Any, address: str
) -> None:
    ids: dict[bytes, bytes] = {}
    forge = _signed_by_a_stranger(
        ids, lambda package: {**package, "files": [{**one, "size": one["size"] + 1} for one in package["files"]]}
    )
    _forged_page(page, address, forge, ids)
    found = outcomes(page, address, photographs=True)
    assert (found["statement"], found["photographs"]) == ("ok", "ok")
    told = page.locator(f"{CURRENT} >> figure [data-outcome]").all_inner_texts()
    assert set(told) == {"Fotonya memang yang ditandatangani; penanda tangannya menulis ukuran lain."}
    assert page.locator(f"{CURRENT} >> li[data-step=photographs] >> text=ukuran lain").count() == 1


def test_a_page_about_another_entry(page: Any, address: str) -> None:
    alter(page, f"**/{FORM_PAGE}", lambda content: content.replace(b'data-entry="1"', b'data-entry="2"', 1))
    found = outcomes(page, address)
    assert (found["receipt"], found["inclusion"], found["verdict"]) == ("wrong", "wrong", "bad")


@pytest.mark.parametrize("at", [0, 3, 40, 400, -1])
def test_an_altered_statement(page: Any, address: str, at: int) -> None:
    alter(page, "**/statement/*", flip(at))
    found = outcomes(page, address)
    assert (found["statement"], found["signature"], found["verdict"]) == ("wrong", "wrong", "bad")


def test_another_statement_under_the_page_of_this_one(page: Any, address: str, published: Path) -> None:
    """A whole and true statement, but of another station."""
    document = json.loads((published / f"tps/{KETAPANG}/C-HASIL-KWK-GUBERNUR.json").read_bytes())
    mine = json.loads((published / f"tps/{LONG}/{BUPATI}.json").read_bytes())
    other = document["statements"][0]["id"].encode()
    own = mine["statements"][1]["id"].encode()
    alter(
        page, f"**/{FORM_PAGE}", lambda content: content.replace(b'data-statement="' + own, b'data-statement="' + other)
    )
    found = outcomes(page, address)
    assert (found["statement"], found["verdict"]) == ("wrong", "bad")


def test_the_whole_page_of_another_station_under_the_address_of_this_one(page: Any, address: str) -> None:
    """Everything in it is true, of another station; the heading is this one's."""
    other: bytes = page.request.get(f"{address}tps/{KETAPANG}/C-HASIL-KWK-GUBERNUR.html").body()
    article = other[other.index(b"<article") : other.index(b"</article>")]

    def change(content: bytes) -> bytes:
        return content[: content.index(b"<article")] + article + content[content.index(b"</article>") :]

    alter(page, f"**/{FORM_PAGE}", change)
    found = outcomes(page, address)
    assert (found["statement"], found["verdict"]) == ("wrong", "bad")


def test_the_address_of_this_station_over_the_code_of_another(page: Any, address: str) -> None:
    code = f'data-shown="station">{LONG}'.encode()
    other = f'data-shown="station">{KETAPANG}'.encode()
    alter(page, f"**/{FORM_PAGE}", lambda content: content.replace(code, other))
    found = outcomes(page, address)
    assert (found["statement"], found["shown"], found["verdict"]) == ("ok", "wrong", "bad")


@pytest.mark.parametrize(
    "other",
    [
        b'<img srcset="../../static/other.svg 1x" ',
        b'<svg><image href="../../static/other.svg"/></svg><img ',
        b'<img alt="" src="../../static/other.svg"><img ',
    ],
)
def test_another_picture_beside_a_photograph_is_not_shown(page: Any, address: str, other: bytes) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    alter(page, f"**/{FORM_PAGE}", lambda content: content.replace(b"<img ", other))
    found = outcomes(page, address, photographs=True)
    assert (found["photographs"], found["verdict"]) == ("ok", "ok")
    pictures = page.locator(f"{CURRENT} >> :is(img, svg, image, picture, source)").all()
    assert pictures
    for picture in pictures:
        assert str(picture.evaluate("one => one.currentSrc")).startswith("blob:")


def test_a_negative_number_that_was_signed_holds(page: Any, address: str) -> None:
    ids: dict[bytes, bytes] = {}

    def negative(package: dict[str, Any]) -> dict[str, Any]:
        return {**package, "tally": {**package["tally"], "invalid": -1_234}} if package.get("tally") else package

    forge = _signed_by_a_stranger(ids, negative)
    label = b'Suara tidak sah</th><td class="n">'
    content = page.request.get(address + FORM_PAGE).body()
    own = content[content.index(label) :].partition(b"</td>")[0]
    _forged_page(page, address, forge, ids, (own, label + b"-1.234"))
    found = outcomes(page, address)
    assert (found["statement"], found["shown"]) == ("ok", "ok")


def test_a_statement_signed_by_somebody_else(page: Any, address: str) -> None:
    """The whole page, made for a statement whose signer has a certificate of another root."""
    ids: dict[bytes, bytes] = {}
    forge = _signed_by_a_stranger(ids, lambda package: package)
    _forged_page(page, address, forge, ids)
    found = outcomes(page, address)
    assert (found["statement"], found["certificate"], found["signature"]) == ("ok", "wrong", "wrong")
    assert found["verdict"] == "bad"


def test_an_altered_certificate(page: Any, address: str) -> None:
    """One more polling station in the certificate: the root never signed that."""
    ids: dict[bytes, bytes] = {}

    def forge(content: bytes) -> bytes:
        envelope = read_sign1(content)
        own = LONG.encode()
        assert own in envelope.certificate
        forged = content.replace(
            envelope.certificate, envelope.certificate.replace(b"/tps/" + own, b"/tps/" + own[:-1] + b"7")
        )
        ids[sha256(content).hex().encode()] = sha256(forged).hex().encode()
        return forged

    _forged_page(page, address, forge, ids)
    found = outcomes(page, address)
    assert (found["statement"], found["certificate"], found["verdict"]) == ("ok", "wrong", "bad")


def _signed_by_a_stranger(ids: dict[bytes, bytes], change: Callable[[dict[str, Any]], dict[str, Any]]) -> Alter:
    """Sign statements anew, their packages changed, with a certificate of another root; notes their ids."""
    stranger = make_node(make_election(99), "tps-stranger", tps=[LONG])

    def forge(content: bytes) -> bytes:
        envelope = read_sign1(content)
        header = {**envelope.header, X5CHAIN: stranger.identity.certificate}
        package = encode(change(decode(envelope.payload or b"", 60_000)))
        forged = sign1({**header, 15: {1: stranger.identity.uri, 2: envelope.subject}}, package, stranger.key)
        ids[sha256(content).hex().encode()] = sha256(forged).hex().encode()
        return forged

    return forge


def _forged_page(
    page: Any, address: str, forge: Alter, ids: dict[bytes, bytes], shown: tuple[bytes, bytes] = (b"", b"")
) -> None:
    """Serve forged statements under their own ids, on pages that name those, and show what else they say."""
    response = page.request.get(address + FORM_PAGE.replace(".html", ".json"))
    records = {}
    for one in response.json()["statements"]:
        raw = page.request.get(f"{address}statement/{one['id']}").body()
        records[sha256(forge(raw)).hex()] = forge(raw)

    def page_with(content: bytes) -> bytes:
        for old, new in ids.items():
            content = content.replace(old, new)
        return content.replace(*shown) if shown[0] else content

    alter(page, f"**/{FORM_PAGE}", page_with)
    page.route("**/statement/*", lambda route: route.fulfill(body=records[route.request.url.rpartition("/")[2]]))


@pytest.mark.parametrize("at", [5, 300, -1, -40])
def test_an_altered_receipt(page: Any, address: str, at: int) -> None:
    alter(page, "**/receipt/*", flip(at))
    found = outcomes(page, address)
    assert (found["receipt"], found["inclusion"], found["verdict"]) == ("wrong", "ok", "bad")


def test_an_altered_proof(page: Any, address: str) -> None:
    """The path in another order: the receipt's signature is over the root that it leads to."""

    def change(content: bytes) -> bytes:
        tag, body = content[:1], decode(content[1:], 60_000)
        size, index, path = decode(body[1][396][-1][0], 60_000)
        return tag + encode([body[0], {396: {-1: [encode([size, index, path[::-1]])]}}, *body[2:]])

    alter(page, "**/receipt/*", change)
    assert outcomes(page, address)["receipt"] == "wrong"


def test_an_altered_tile(page: Any, address: str) -> None:
    alter(page, "**/tile/0/**", flip(70))
    found = outcomes(page, address)
    assert (found["checkpoint"], found["inclusion"], found["verdict"]) == ("ok", "wrong", "bad")


def test_an_altered_checkpoint(page: Any, address: str) -> None:
    alter(page, "**/checkpoint", lambda content: content.replace(b"test-2024/receiver\n", b"test-2024/receiver\n1", 1))
    found = outcomes(page, address)
    assert (found["checkpoint"], found["inclusion"], found["verdict"]) == ("wrong", "wrong", "bad")


def test_a_receiver_that_was_revoked(page: Any, address: str, published: Path) -> None:
    """What it signed no longer counts, also where the notice that revoked it is taken away again."""
    election = make_election(7)  # as `tests.site.election` has it
    receiver = read_certificate(read_pem_block((published / "receiver.pem").read_bytes(), "CERTIFICATE"))
    body = Revocations((Revocation(receiver.node, receiver.name, "stolen"),))
    raw = sign_notice(ELECTION, 0, 9, body, election.root, election.root_key)
    assert outcomes(page, address)["verdict"] == "ok"
    alter(page, "**/notices.pem", lambda served: served + write_enrolment(Enrolment(None, None, (raw,))))
    for _ in range(2):
        found = outcomes(page, address)
        assert (found["receipt"], found["checkpoint"], found["verdict"]) == ("wrong", "wrong", "bad")
        assert "stolen" in page.locator(CURRENT).inner_text()
        page.unroute("**/notices.pem")


def test_a_checkpoint_signed_with_another_key(page: Any, address: str) -> None:
    key = Ed25519PrivateKey.generate()
    name = f"{ELECTION}/receiver"

    def change(content: bytes) -> bytes:
        text = content.partition(b"\n\n")[0].decode() + "\n"
        return sign_note(text, NoteKey(name, key.public_key().public_bytes_raw()), key).to_bytes()

    alter(page, "**/checkpoint", change)
    assert outcomes(page, address)["checkpoint"] == "wrong"


def remembered(page: Any) -> dict[str, Any]:
    """What the browser remembers of the log."""
    found: dict[str, Any] = json.loads(
        page.evaluate(
            "localStorage.getItem(Object.keys(localStorage).find((key) => key.startsWith('relay log ')))",
        )
    )
    return found


def remember(page: Any, size: int, root: str) -> None:
    """Let the browser remember something else of the log."""
    page.evaluate(
        "(text) => { for (const key of Object.keys(localStorage)) if (key.startsWith('relay log ')) "
        "localStorage.setItem(key, text); }",
        json.dumps({"size": size, "root": root}),
    )


@pytest.mark.parametrize("more", [-255, -256, -1, 0, 1, 9_000])
def test_a_log_that_is_not_the_one_seen_before(page: Any, address: str, more: int) -> None:
    outcomes(page, address)
    remember(page, remembered(page)["size"] + more, "00" * 32)
    found = outcomes(page, address)
    assert (found["checkpoint"], found["verdict"]) == ("wrong", "bad")


def old_copy(published: Path) -> Alter:
    """What a cache serves that kept the checkpoint of the first entry."""
    content = (published.parents[1] / OLD_CHECKPOINT).read_bytes()
    return lambda _content: content


def test_an_old_copy_of_the_checkpoint_is_no_fault(page: Any, address: str, published: Path) -> None:
    outcomes(page, address)
    size = remembered(page)["size"]
    alter(page, "**/checkpoint", old_copy(published))
    assert outcomes(page, address)["verdict"] == "ok"  # what is remembered covers the entry
    assert page.locator("li[data-step=checkpoint] >> text=salinan lama").count()
    assert remembered(page)["size"] == size


def test_a_checkpoint_that_is_behind_a_fresh_page_is_not_yet_there(page: Any, address: str, published: Path) -> None:
    alter(page, "**/checkpoint", old_copy(published))
    found = outcomes(page, address)
    assert (found["checkpoint"], found["inclusion"], found["verdict"]) == ("ok", "pending", "pending")
    page.unroute("**/checkpoint")
    assert outcomes(page, address)["verdict"] == "ok"  # its growth since is proved
    assert page.locator("li[data-step=checkpoint] >> text=1 entri yang pernah").count()


def test_a_checkpoint_that_is_behind_is_asked_for_again(page: Any, address: str, published: Path) -> None:
    page.route("**/checkpoint", lambda route: route.fulfill(body=old_copy(published)(b"")), times=1)
    assert outcomes(page, address)["verdict"] == "ok"


def test_another_root(page: Any, address: str) -> None:
    """A server that brings its own root with it: everything in this election was issued by another one."""
    key = Ed25519PrivateKey.generate()
    der = make_root(ELECTION, key, 7, ISSUED_AT)
    pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    alter(page, "**/root.pem", lambda _content: pem)
    found = outcomes(page, address)
    assert (found["certificate"], found["receipt"], found["checkpoint"]) == ("wrong", "wrong", "wrong")


def test_a_root_that_is_no_root(page: Any, address: str) -> None:
    letters = base64.b64encode(make_node(make_election(3), "km-bahari").identity.certificate)
    pem = b"-----BEGIN CERTIFICATE-----\n" + letters + b"\n-----END CERTIFICATE-----\n"
    alter(page, "**/root.pem", lambda _content: pem)
    assert outcomes(page, address)["root"] == "wrong"


def test_the_visitors_own_root(page: Any, address: str, published: Path) -> None:
    """A fingerprint that the visitor knows from elsewhere is compared, remembered, and told when it differs."""
    assert outcomes(page, address)["verdict"] == "ok"
    field = page.get_by_label("Sidik jari yang Anda percaya")
    field.fill("ab" * 32)
    field.press("Tab")
    page.locator(f"{CURRENT} >> [data-verdict][data-outcome=bad]").wait_for()
    assert "BERBEDA" in page.locator("[data-root-outcome]").inner_text()
    assert outcomes(page, address)["root"] == "wrong"  # the next page knows it still
    page.locator("[data-root-file]").set_input_files(published / "root.pem")
    page.locator(f"{CURRENT} >> [data-verdict][data-outcome=ok]").wait_for()
    assert "Sama" in page.locator("[data-root-outcome]").inner_text()


@pytest.mark.parametrize("missing", ["**/statement/*", "**/receipt/*", "**/checkpoint", "**/root.pem", "**/tile/**"])
def test_what_cannot_be_fetched_is_not_taken_for_good(page: Any, address: str, missing: str) -> None:
    page.route(missing, lambda route: route.fulfill(status=404, body=b"gone"))
    assert outcomes(page, address)["verdict"] == "bad"


def test_a_browser_without_ed25519_says_so(page: Any, address: str) -> None:
    page.add_init_script("crypto.subtle.importKey = () => Promise.reject(new DOMException('', 'NotSupportedError'))")
    page.goto(address + FORM_PAGE)
    verdict = page.locator(f"{CURRENT} >> [data-verdict][data-outcome=unable]")
    verdict.wait_for()
    assert "Ed25519" in verdict.inner_text()


def test_a_page_that_is_not_secure_says_so(page: Any, address: str) -> None:
    page.add_init_script("Object.defineProperty(globalThis, 'isSecureContext', {value: false})")
    page.goto(address + f"en/{FORM_PAGE}")
    verdict = page.locator(f"{CURRENT} >> [data-verdict][data-outcome=unable]")
    verdict.wait_for()
    assert "https" in verdict.inner_text()
