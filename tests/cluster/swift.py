"""S3 of its own: OpenStack Swift with its `s3api` filter, all of it real, started by hand in a folder.

One replica on one device that is a plain folder: a proxy, an account, a container and an object server, a process
each, and the memcached that the proxy keeps tokens and container facts in. Objects are synced before they are
acknowledged, as everywhere. Listings are as Swift's are: an object is in them once its container server was told,
which here is before the put is answered, unless that server is away.

What to know of it (2.30): no put is conditional (501); of two puts to one name at once the later one wins, and the
other is answered without an ETag, which `obstore` reports as an error; a put costs 10 ms of processor time, a delete
about as much, also in bulk; a put that was cut off may be found in a listing later.

Swift keeps its metadata in extended attributes, so the folder's file system must have them (ext4, xfs and btrfs do;
tmpfs since Linux 6.6).
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.boxes import free_port
from tests.processes import Failed, Place, Process, eventually

PACKAGES = ("swift-proxy", "swift-account", "swift-container", "swift-object", "memcached")
PYTHON = ("/usr/bin/python3", "-I")
"""The one that Debian's packages are for, untouched by what is set up for the one that runs the tests."""

START_SECONDS = 60.0
REQUEST_SECONDS = 10.0
ACCOUNT, USER = "election", "receiver"
PARTITION_POWER = 4

RINGS = """
import sys
from swift.common.ring import RingBuilder

power, folder = int(sys.argv[1]), sys.argv[2]
for ring, port in zip(("account", "container", "object"), map(int, sys.argv[3:])):
    builder = RingBuilder(power, 1, 1)
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1", "weight": 1,
                     "replication_ip": "127.0.0.1", "replication_port": port})
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{ring}.ring.gz")
"""
"""What `swift-ring-builder` does by nine commands, each as slow to start as this one."""

COMMON = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
fallocate_reserve = 0
log_level = WARNING
# It always logs to syslog, too: here to nobody.
log_udp_host = 127.0.0.1
log_udp_port = 9
# One replica has no other to go to: an error is no reason to leave it alone for a minute.
error_suppression_interval = 0
"""

STORAGE = """
[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
# The listing is told before the put is answered. No updater runs that would tell it later.
container_update_timeout = 20
conn_timeout = 5
"""

PROXY = """
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache s3api tempauth copy slo dlo proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
conn_timeout = 5

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:gatekeeper]
use = egg:swift#gatekeeper

[filter:healthcheck]
use = egg:swift#healthcheck

[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
error_suppression_interval = 0

[filter:s3api]
use = egg:swift#s3api
location = {region}

[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{name} = {secret} .admin

[filter:copy]
use = egg:swift#copy

[filter:slo]
use = egg:swift#slo

[filter:dlo]
use = egg:swift#dlo
"""


@dataclass(frozen=True, slots=True)
class _Server:
    """One of the four: which one, where it listens."""

    kind: str
    port: int


def why_not(folder: Path) -> str | None:
    """Why there can be no Swift in this folder, and what to do about it; None where there can."""
    kinds = ("proxy", "account", "container", "object")
    commands = (*(f"swift-{kind}-server" for kind in kinds), "memcached")
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        return f"no {', '.join(missing)}: apt-get install --no-install-recommends {' '.join(PACKAGES)}"
    try:
        os.setxattr(folder, "user.swift.metadata", b"?")
    except OSError as error:
        return f"{folder}: {error.strerror}. Swift needs extended attributes: set TMPDIR to a folder on ext4 or xfs"
    return None


class Swift:
    """An S3 endpoint on loopback that keeps its port and content over stop and start. Make it with `swift()`."""

    region = "id-1"
    access_key = f"{ACCOUNT}:{USER}"
    secret_key = "a-secret-of-tests"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        reason = why_not(folder)
        if reason is not None:
            raise Failed(reason)
        self._folder = folder / "swift"
        self._place = Place("swift", folder / "output")
        self._memcached = free_port()
        self._servers = [_Server(kind, free_port()) for kind in ("account", "container", "object", "proxy")]
        self._port = self._servers[-1].port
        self._buckets = itertools.count(1)
        self._running: list[Process] = []
        self._configure()

    @property
    def endpoint(self) -> str:
        """Where S3 answers, buckets in the path. Plain HTTP."""
        return f"http://127.0.0.1:{self._port}"

    def environment(self, bucket: str) -> dict[str, str]:
        """What configures an `obstore.store.S3Store` for `bucket`, as environment variables."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": self.region,
            "AWS_BUCKET": bucket,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def fresh_bucket(self) -> str:
        """The name of a new, empty bucket. `S3Store` cannot make one, so Swift's own API does."""
        name = f"relay-{next(self._buckets)}"
        credentials = {"X-Auth-User": f"{ACCOUNT}:{USER}", "X-Auth-Key": self.secret_key}
        session = self._request("GET", f"{self.endpoint}/auth/v1.0", credentials)
        token = {"X-Auth-Token": session["X-Auth-Token"], "Content-Length": "0"}
        self._request("PUT", f"{session['X-Storage-Url']}/{name}", token)
        return name

    def start(self) -> None:
        """Start all of it; it answers on return."""
        if self._running:
            raise Failed("Swift runs already")
        memcached = ["memcached", "-l", "127.0.0.1", "-p", str(self._memcached), "-U", "0", "-m", "16"]
        if os.geteuid() == 0:
            memcached += ["-u", "nobody"]
        self._running.append(self._place.popen(memcached))
        for server in self._servers:
            config = self._folder / f"{server.kind}-server.conf"
            name = f"swift-{server.kind}-server"
            self._running.append(self._place.popen([*PYTHON, str(shutil.which(name)), config, "--verbose"], name=name))
        eventually(self._all_listen, START_SECONDS, "all of Swift listens", while_running=self._running)
        eventually(self._healthy, START_SECONDS, "Swift's proxy answers", while_running=self._running)

    def stop(self) -> None:
        """SIGKILL for all of it: S3 is away, connections refused."""
        for process in reversed(self._running):
            process.kill()
        self._running.clear()

    def close(self) -> None:
        """End it, whatever state it is in."""
        self._place.close()

    def report(self) -> list[tuple[str, str]]:
        """Title and end of the servers' output, for a failure report."""
        return self._place.report()

    def _configure(self) -> None:
        (self._folder / "devices" / "d1").mkdir(parents=True)
        user = pwd.getpwuid(os.geteuid()).pw_name
        for server in self._servers:
            text = COMMON.format(port=server.port, user=user, folder=self._folder)
            if server.kind == "proxy":
                text += PROXY.format(
                    memcached=self._memcached, region=self.region, account=ACCOUNT, name=USER, secret=self.secret_key
                )
            else:
                text += STORAGE.format(kind=server.kind)
            (self._folder / f"{server.kind}-server.conf").write_text(text)
        ports = [str(server.port) for server in self._servers if server.kind != "proxy"]
        command = [*PYTHON, "-c", RINGS, str(PARTITION_POWER), str(self._folder), *ports]
        self._place.run(command, within=START_SECONDS)

    def _all_listen(self) -> bool:
        return all(_listens(port) for port in (self._memcached, *(server.port for server in self._servers)))

    def _healthy(self) -> bool:
        try:
            self._request("GET", f"{self.endpoint}/healthcheck", {})
        except OSError:
            return False
        return True

    @staticmethod
    def _request(method: str, url: str, headers: dict[str, str]) -> dict[str, str]:
        request = urllib.request.Request(url, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as response:
            return dict(response.headers)


@contextmanager
def swift(folder: Path) -> Iterator[Swift]:
    """A running S3 endpoint with its data below `folder`; gone on leaving."""
    endpoint = Swift(folder)
    try:
        endpoint.start()
        yield endpoint
    finally:
        endpoint.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
