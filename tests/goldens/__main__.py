"""Records outputs of the whole system, or compares those of this tree with the recorded ones.

python -m tests.goldens record            # all sections; also: fast demo evaluation training
python -m tests.goldens compare training  # exit code 1 when something differs
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.goldens import fast, slow
from tests.goldens.differences import differences, largest

RECORDED = Path(__file__).parent / "recorded"
SECTIONS: Final[dict[str, tuple[Callable[[], Any], float]]] = {
    "fast": (fast.outputs, 1e-5),
    "training": (slow.training, 1e-5),
    "evaluation": (slow.evaluation, 1e-4),
    "demo": (slow.demo, 1e-4),
}
"""Section to (what computes it, tolerance of real numbers). On the machine that recorded them they are equal."""


def recorded(section: str) -> Any:
    """Outputs stored for a section."""
    return json.loads((RECORDED / f"{section}.json").read_text(encoding="utf-8"))


def main() -> int:
    """Run the named sections; the number of those that differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.goldens")
    parser.add_argument("act", choices=["record", "compare"])
    parser.add_argument("sections", nargs="*", default=list(SECTIONS), metavar="SECTION", help=", ".join(SECTIONS))
    arguments = parser.parse_args()
    failed = 0
    for section in arguments.sections:
        if section not in SECTIONS:
            parser.error(f"no section {section!r}; there are {', '.join(SECTIONS)}")
        compute, tolerance = SECTIONS[section]
        begun = time.monotonic()
        computed = json.loads(json.dumps(compute()))
        seconds = time.monotonic() - begun
        if arguments.act == "record":
            RECORDED.mkdir(exist_ok=True)
            text = json.dumps(computed, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
            (RECORDED / f"{section}.json").write_text(text, encoding="utf-8")
            print(f"{section}: recorded in {seconds:.0f} s", flush=True)
            continue
        stored = recorded(section)
        wrong = sorted(differences(stored, computed, tolerance))
        failed += bool(wrong)
        print(
            f"{section}: {len(wrong)} differences, largest distance {largest(stored, computed):.2g}, {seconds:.0f} s", flush=True
        )
        print("".join(f"  {one}\n" for one in wrong[:20]), end="", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
