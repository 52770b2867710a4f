"""Nobody who is not paired reads or writes anything: strangers on the Wi-Fi, other sites, guesses, rebound names."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import expect

from relay.limits import MAX_OFFERS
from tests.boxes import NodeBox
from tests.e2e.world import OTHER_TPS
from tests.operator.conftest import FORM, TPS, Island, Phones, make_island

READS = (
    "/operator",
    "/operator/",
    "/operator/drafts/{draft}/pictures",
    "/operator/drafts/{draft}/pictures/{picture}",
    "/operator/drafts/{draft}/numbers",
    "/operator/drafts/{draft}/review",
    "/operator/packages/{package}",
    "/operator/packages/{package}/files/0",
    "/operator/nothing",
    "/operator/pair/../drafts/{draft}/numbers",
    "/operator%2Fdrafts/{draft}/numbers",
    "//operator/drafts/{draft}/numbers",
)
WRITES = (
    ("POST", "/operator/begin"),
    ("POST", "/operator/unpair"),
    ("POST", "/operator/drafts/{draft}/announce"),
    ("POST", "/operator/drafts/{draft}/pictures"),
    ("PATCH", "/operator/drafts/{draft}/pictures/00112233445566aa"),
    ("POST", "/operator/drafts/{draft}/pictures/{picture}/remove"),
    ("POST", "/operator/drafts/{draft}/numbers"),
    ("POST", "/operator/drafts/{draft}/review"),
    ("POST", "/operator/drafts/{draft}/discard"),
    ("POST", "/operator/packages/{package}/correct"),
)
JPEG = b"\xff\xd8\xff\xda" + bytes(2000) + b"\xff\xd9"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: str


class Client:
    """A program that speaks HTTP as it likes. With `cookie` it is a paired phone's."""

    def __init__(self, url: str, cookie: str = "") -> None:
        where = urlsplit(url)
        self.secure = where.scheme == "https"
        self.host = where.netloc
        self.origin = url
        self.cookie = cookie

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request; underscores in names of headers are hyphens; an empty header is left out."""
        context = ssl._create_unverified_context() if self.secure else None
        connection = (
            http.client.HTTPSConnection(self.host, timeout=10, context=context)
            if context
            else http.client.HTTPConnection(self.host, timeout=10)
        )
        try:
            sent = {"Host": self.host, "Accept": "text/html", "Cookie": self.cookie}
            sent |= {name.replace("_", "-"): value for name, value in headers.items()}
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, text)
        finally:
            connection.close()

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Answer:
        """A form, as our own pages would post it."""
        form = {"Origin": self.origin, "Content-Type": "application/x-www-form-urlencoded", **headers}
        return self.ask("POST", path, urlencode(fields).encode(), **form)

    def token(self) -> str:
        """The page's token, as a paired phone sees it."""
        match = re.search(r'data-token="([0-9a-f]{64})"', self.ask("GET", "/operator").body)
        assert match is not None
        return match[1]


@dataclass
class Scene:
    """A box with a draft, a picture in it, and a package; a paired client and its token."""

    island: Island
    phone: Client
    token: str
    names: dict[str, str]

    def secrets(self) -> tuple[str, ...]:
        """What a stranger must not see."""
        return (*self.names.values(), "pulau-long", "e2e-2024", TPS, FORM)


def paired(island: Island, url: str = "") -> Client:
    """A client that took a code."""
    client = Client(url or island.url)
    answer = client.post("/operator/pair", {"code": island.offer()["code"]})
    assert answer.status == 303, answer
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
    assert not client.secure or (cookie.startswith("__Host-relay=") and "Secure" in cookie)
    client.cookie = cookie.partition(";")[0]
    return client


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One box for the whole module: these tests change nothing, which is what they show."""
    for island in make_island(tmp_path_factory.mktemp("strangers")):
        phone = paired(island)
        token = phone.token()
        begun = phone.post("/operator/begin", {"token": token, "tps": TPS, "form": FORM})
        draft = begun.headers["location"].split("/")[3]
        path, picture = f"/operator/drafts/{draft}/pictures/", "aabbccddeeff0011"
        part = {"Upload-Offset": "0", "Upload-Length": str(len(JPEG)), "Upload-Complete": "?1", "Relay-Token": token}
        assert phone.ask("PATCH", path + picture, JPEG, Origin=phone.origin, **part).status == 204
        file = tmp_path_factory.mktemp("package") / "form.jpg"
        file.write_bytes(JPEG)
        package = island.box.submit(file, tps=OTHER_TPS, form=FORM)
        yield Scene(island, phone, token, {"draft": draft, "picture": picture, "package": package})


def state(box: NodeBox) -> dict[str, bytes]:
    """Everything that a write could change."""
    folders = [box.home / "drafts"]
    files = {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
    return files | {"phones": box.relay("pair", "--list", "--json").stdout, "list": box.relay("list", "--json").stdout}


def test_a_stranger_reads_nothing(scene: Scene) -> None:
    """Every path leads to the page that tells nothing; so do false cookies."""
    for cookie in ("", "__Host-relay=", "__Host-relay=" + "A" * 43, "__Host-relay=" + "a" * 5000, "relay=x"):
        stranger = Client(scene.island.url, cookie)
        for path in READS:
            for accept in ("text/html", "application/json"):
                answer = stranger.ask("GET", path.format(**scene.names), Accept=accept)
                assert answer.status in (303, 401, 404), (path, answer)
                assert not any(secret in answer.body for secret in scene.secrets()), path
        head = stranger.ask("HEAD", READS[3].format(**scene.names), Accept="")
        assert head.status == 401
        assert "upload-offset" not in head.headers
    page = Client(scene.island.url).ask("GET", "/operator/pair")
    assert page.status == 200
    assert not any(secret in page.body for secret in scene.secrets())


def test_a_stranger_writes_nothing(scene: Scene) -> None:
    """Neither without a cookie nor with a guessed one, however well the rest is made."""
    before = state(scene.island.box)
    for cookie in ("", "__Host-relay=" + "A" * 43):
        stranger = Client(scene.island.url, cookie)
        for method, path in WRITES:
            headers = {"Upload-Offset": "0", "Upload-Length": "3", "Relay-Token": scene.token}
            fields = urlencode({"token": scene.token, "tps": TPS, "form": FORM, "voters": "1"}).encode()
            form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": stranger.origin, "Accept": ""}
            answer = stranger.ask(method, path.format(**scene.names), fields, **headers, **form)
            assert answer.status == 401, (method, path, answer)
    assert state(scene.island.box) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://{host}"},
        {"Origin": "https://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_other_sites_cannot_use_a_paired_phone(scene: Scene, headers: dict[str, str]) -> None:
    """A request with the phone's cookie and even its token, made by another site, is refused."""
    before = state(scene.island.box)
    sent = {"Origin": scene.phone.origin, **{k: v.format(host=scene.phone.host) for k, v in headers.items()}}
    for method, path in WRITES:
        fields = urlencode({"token": scene.token}).encode()
        form = {"Content-Type": "application/x-www-form-urlencoded", "Relay-Token": scene.token}
        answer = scene.phone.ask(method, path.format(**scene.names), fields, **form, **sent)
        assert answer.status == 403, (method, path, answer)
    assert Client(scene.island.url).post("/operator/pair", {"code": "x"}, **sent).status == 403
    assert state(scene.island.box) == before


def test_a_change_needs_the_token_of_the_page(scene: Scene) -> None:
    """The cookie alone is not enough, in any kind of body."""
    before = state(scene.island.box)
    multipart = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n--b--\r\n'
    for token in ("", "0" * 64, "é" * 64):
        for method, path in WRITES:
            name = path.format(**scene.names)
            ours = {"Origin": scene.phone.origin, "Accept": "text/html"}
            form = urlencode({"token": token}).encode()
            typed = {"Content-Type": "application/x-www-form-urlencoded"}
            assert scene.phone.ask(method, name, form, **ours, **typed).status == 403
            assert scene.phone.ask(method, name, b"{}", **ours, Content_Type="application/json").status == 403
        body = multipart % (b"token", token.encode())
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        pictures = f"/operator/drafts/{scene.names['draft']}/pictures"
        assert scene.phone.ask("POST", pictures, body, Origin=scene.phone.origin, **kind).status == 403
        files = body.replace(b'"token"', b'"pictures"; filename="a.jpg"')
        assert scene.phone.ask("POST", pictures, files, Origin=scene.phone.origin, **kind).status == 403
    for method, path in (one for one in WRITES if not one[1].endswith("/pictures")):
        kind = {"Content-Type": "multipart/form-data; boundary=b", "Origin": scene.phone.origin}
        body = multipart % (b"token", scene.token.encode())
        assert scene.phone.ask(method, path.format(**scene.names), body, **kind).status == 403, (method, path)
    assert state(scene.island.box) == before


def test_another_site_cannot_read_with_a_paired_browser(scene: Scene) -> None:
    """Subresources for others are refused, and nothing may frame or embed the page."""
    for site in ("cross-site", "same-site"):
        answer = scene.phone.ask("GET", "/operator", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors")
        assert answer.status == 403
    page = scene.phone.ask("GET", "/operator")
    assert page.status == 200
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in page.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8472", "127.0.0.1.evil.example", "relay", "localhost.", ""]
)
def test_a_rebound_name_reads_nothing(scene: Scene, host: str) -> None:
    """DNS rebinding: a page under its own name that came to this address, cookie or not, phones' page and console."""
    for client in (scene.phone, Client(scene.island.url), Client(scene.island.console)):
        for path in ("/operator", "/operator/pair", "/", "/board", "/status.json", "/operator/operator.js"):
            answer = client.ask("GET", path, Host=host)
            assert answer.status in (400, 403, 404), (path, answer)
            assert not any(secret in answer.body for secret in scene.secrets())
        origin = f"{'https' if client.secure else 'http'}://{host}"
        assert client.post("/operator/pair", {"code": "x"}, Host=host, Origin=origin).status in (400, 403)


@pytest.mark.parametrize(("lang", "said"), [("id-ID", "Tidak berhasil"), ("en-GB", "That did not work")])
def test_who_is_refused_reads_why(scene: Scene, lang: str, said: str) -> None:
    """A page in their language, with our headers; to a program a problem in it; from a console as well."""
    token = {"token": "0" * 64, "tps": TPS, "form": FORM}
    for client in (scene.phone, Client(scene.island.console)):
        answers = [client.ask("GET", "/operator/pair", Host="evil.example", Accept_Language=lang)]
        answers.append(
            client.post("/operator/pair", {"code": "x"}, Origin="https://evil.example", Accept_Language=lang)
        )
        if client is scene.phone:
            answers.append(client.post("/operator/begin", token, Accept_Language=lang))
            answers.append(client.post("/operator/begin", {"x": "y" * 70_000}, Accept_Language=lang))
            answers.append(client.ask("PUT", "/operator", Accept_Language=lang))
        for answer in answers:
            assert said in answer.body, answer
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert not any(secret in answer.body for secret in scene.secrets())
    answer = Client(scene.island.url).ask("GET", "/operator", Accept="application/json", Accept_Language=lang)
    problem = json.loads(answer.body)
    assert (problem["type"], problem["status"]) == ("relay:problem/not-paired", 401)
    assert ("dipasangkan" in problem["title"]) == (lang == "id-ID")


def test_codes_cannot_be_guessed(tmp_path: Path) -> None:
    """Wrong codes slow down whoever tries them, the right one included; a scanned link still pairs."""
    for island in make_island(tmp_path):
        offer = island.offer()
        stranger = Client(island.url)
        answers = [stranger.post("/operator/pair", {"code": f"AAAAAAA{n}"}) for n in range(8)]
        assert answers[0].status == 403
        assert answers[1].status == 429
        assert int(answers[1].headers["retry-after"]) >= 1
        assert stranger.post("/operator/pair", {"code": offer["code"]}).status == 429
        assert all(answer.status in (403, 429) for answer in answers)
        link = urlsplit(offer["link"]).query.removeprefix("code=")
        assert stranger.post("/operator/pair", {"code": link}).status == 303
        again = stranger.post("/operator/pair", {"code": link})
        assert again.status == 403, "a code is for one phone"


def test_only_hashes_are_kept(scene: Scene) -> None:
    """Whoever reads the folder's pairing.json can neither pair nor use a phone's cookie."""
    offer = scene.island.offer()
    kept = (scene.island.box.home / "pairing.json").read_text()
    assert offer["code"].replace("-", "") not in kept
    assert urlsplit(offer["link"]).query.removeprefix("code=") not in kept
    assert scene.phone.cookie.partition("=")[2] not in kept
    assert (scene.island.box.home / "pairing.json").stat().st_mode & 0o077 == 0


def test_an_unpaired_phone_is_out_at_once(tmp_path: Path, phones: Phones) -> None:
    """By `relay pair --unpair`, and by the phone's own button."""
    for island in make_island(tmp_path):
        page = island.pair(phones().new_page())
        (phone,) = island.box.relay("pair", "--list", "--json").json()
        assert phone["name"] == "Android Redmi Note 8"
        island.box.relay("pair", "--unpair", phone["id"])
        page.reload()
        expect(page.get_by_role("heading", name="Pasangkan ponsel ini")).to_be_visible()
        island.pair(page)
        page.get_by_text("Ponsel ini:").click()
        page.get_by_role("button", name="Lepaskan ponsel ini").click()
        expect(page.get_by_role("heading", name="Pasangkan ponsel ini")).to_be_visible()
        assert island.box.relay("pair", "--list", "--json").json() == []


def test_a_sheet_has_the_address_that_was_named(scene: Scene, tmp_path: Path) -> None:
    """And the Wi-Fi; of too many sheets the next one is refused, and none of the earlier ones ends."""
    box, file = scene.island.box, tmp_path / "sheet.html"
    named = ("pair", "--sheet", file, "--address", "10.55.0.1", "--ssid", "relay-pulau-long")
    for _ in range(MAX_OFFERS):
        box.relay(*named)
    text = file.read_text()
    assert f"https://10.55.0.1:{scene.island.port}/operator" in text and "<b>relay-pulau-long</b>" in text
    refused = box.relay(*named, check=False)
    assert refused.status == 1 and "relay pair --withdraw" in refused.stderr
    assert file.read_text() == text
    code = re.search("<code>(.*)</code>", text)
    assert code is not None
    assert Client(scene.island.url).post("/operator/pair", {"code": code[1]}).status == 303
    box.relay("pair", "--withdraw")


def test_a_link_alone_pairs_nothing(scene: Scene) -> None:
    """Programs that look at links (previews, scanners) use no code up."""
    link = scene.island.offer()["link"]
    where = urlsplit(link)
    assert Client(scene.island.url).ask("GET", f"{where.path}?{where.query}").status == 200
    assert Client(scene.island.url).post("/operator/pair", dict([where.query.split("=")])).status == 303


def test_the_page_on_the_device_itself_needs_pairing_too(scene: Scene) -> None:
    """On the console, over loopback: the same page behind the same guard."""
    stranger = Client(scene.island.console)
    for path in READS[:7]:
        assert stranger.ask("GET", path.format(**scene.names)).status == 303
    local = paired(scene.island, scene.island.console)
    assert "TPS Anda" in local.ask("GET", "/operator").body


def test_large_and_broken_bodies_are_refused(scene: Scene) -> None:
    """Bounds before allocation, and words instead of tracebacks."""
    ours = {"Origin": scene.phone.origin, "Relay-Token": scene.token}
    draft = f"/operator/drafts/{scene.names['draft']}"
    typed = {"Content-Type": "application/x-www-form-urlencoded", **ours}
    assert scene.phone.ask("POST", f"{draft}/numbers", b"a=" + b"1" * 100_000, **typed).status == 413
    assert scene.phone.ask("POST", f"{draft}/numbers", b"\xff\xfe=1&token=" + scene.token.encode(), **typed).status in (
        303,
        400,
    )
    for offset, length in (("x", "1"), ("0", "99999999999999"), ("-1", "1"), ("0", str(40 << 20)), ("7", "100")):
        part = {"Upload-Offset": offset, "Upload-Length": length, **ours}
        answer = scene.phone.ask("PATCH", f"{draft}/pictures/0000000000000001", b"1234", **part)
        assert answer.status in (400, 409), (offset, length, answer)
    for path in ("/operator/drafts/nothing/review", "/operator/packages/zz", f"/operator/packages/{'0' * 64}"):
        assert scene.phone.ask("GET", path).status in (400, 404)
    assert "Traceback" not in scene.island.box.log
