"""`python -m tests.fuzz --runs N`: fuzz every target, guided by coverage, and keep the inputs worth keeping.

Needs atheris. Each target runs in a process of its own, which ends at the first fault; the input is then kept below
`tests/fuzz/corpus/<target>/found`, and replayed by the tests from then on. Exit status 1 when there was one.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import logging
import re
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.reliability.status import cannot_run

ROOT = Path(__file__).parents[2]
SLOW = {
    "visit": 40,
    "http": 20,
    "by-hand": 200,
    "stick": 200,
    "deeds": 400,
    "form": 20,
    "upload": 40,
    "witness-answer": 4,
    "plan": 4,
    "chain": 200,
    "admission": 6,
    "identify": 4,
    "signed-checkpoint": 4,
    "respond": 8,
    "initiate": 60,
}
"""How much less often targets are run that take longer each time."""
_DONE = re.compile(r"Done (\d+) runs|#(\d+)\t", re.ASCII)


@dataclass
class Figures:
    """What a run of one target came to."""

    target: str
    runs: int
    seconds: float
    kept: int
    fault: str = ""


def fuzz(name: str, runs: int, seconds: int) -> Figures:
    """Run one target in a process of its own."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as work:
        child = [sys.executable, "-m", "tests.fuzz", "--child", name, "--work", work, "--runs", str(runs)]
        done = subprocess.run(
            [*child, "--seconds", str(seconds)], cwd=ROOT, capture_output=True, text=True, errors="replace", check=False
        )
        counts = [int(first or second) for first, second in _DONE.findall(done.stderr)]
        faults = sorted(file for pattern in ("crash-*", "timeout-*", "oom-*") for file in Path(work).glob(pattern))
        fault = ""
        if faults or done.returncode:
            fault = f"exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        from tests.fuzz import corpus, targets

        target = targets.BY_NAME[name]
        for file in faults:
            fault = f"{corpus.keep_found(target, file.read_bytes())}\n{fault}"
        found = [file.read_bytes() for file in (Path(work) / "corpus").iterdir()] if not faults else []
        kept = corpus.keep(target, [one for one in found if len(one) <= target.most]) if found else 0
        targets.close()
    return Figures(name, max(counts, default=0), round(time.monotonic() - begun, 1), kept, fault)


def child(name: str, work: Path, runs: int, seconds: int) -> None:
    """Within the process: instrument the package, then run until done."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["relay"]):
        from tests.fuzz import corpus, targets
    target = targets.BY_NAME[name]
    inputs = work / "corpus"
    inputs.mkdir()
    for number, data in enumerate([*corpus.kept(target), *target.seeds()]):
        (inputs / f"seed-{number}").write_bytes(data)
    limits = [f"-runs={runs}", f"-max_len={target.most}", "-timeout=20", "-rss_limit_mb=2048", "-len_control=20"]
    if seconds:
        limits.append(f"-max_total_time={seconds}")
    atheris.Setup(["fuzz", *limits, f"-artifact_prefix={work}/", "-print_final_stats=1", str(inputs)], target.run)
    atheris.Fuzz()


def main() -> int:
    """Fuzz; prints one line per target, and the sum."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="inputs per target (fewer for slow ones)")
    parser.add_argument("--target", action="append", help="only this target; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--seconds", type=int, default=0, help="end each target after so long")
    parser.add_argument("--json", type=Path, help="append the figures, one line of JSON per target")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.work, options.runs, options.seconds)
        return 0
    if importlib.util.find_spec("atheris") is None:
        return cannot_run("needs atheris: pip install -e '.[fuzz]'")
    from tests.fuzz.targets import BY_NAME

    names = options.target or list(BY_NAME)
    total = 0
    faulty = False
    with ThreadPoolExecutor(options.jobs) as pool:
        waiting = [pool.submit(fuzz, name, options.runs // SLOW.get(name, 1), options.seconds) for name in names]
        for one in waiting:
            figures = one.result()
            total += figures.runs
            faulty |= bool(figures.fault)
            print(
                f"{figures.target:18} {figures.runs:>10} inputs {figures.seconds:>8} s {figures.kept:>5} kept",
                flush=True,
            )
            if figures.fault:
                print(figures.fault, flush=True)
            if options.json:
                with options.json.open("a") as log:
                    log.write(json.dumps(asdict(figures)) + "\n")
    print(f"{'all':18} {total:>10} inputs")
    return int(faulty)


if __name__ == "__main__":
    sys.exit(main())
