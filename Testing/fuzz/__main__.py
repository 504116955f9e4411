"""``make fuzz [N=10000] [SEED=1] [KIND=nifti,onnx] [INDEX=7]``: prints each kind with its seed, cases and faults."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from .kinds import kinds
from .runner import Child, keep_smallest, run_cases

_KEPT_OF_ONE_KIND = 5


def main() -> int:
    """Exit code 1 where a case was not answered."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("-n", type=int, default=10_000, help="cases of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", default="", help="names with commas; all by default")
    parser.add_argument("--index", type=int, help="only this case")
    options = parser.parse_args()
    known = kinds()
    chosen = [name for name in options.kind.split(",") if name] or list(known)
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"{unknown[0]!r} is not one of {', '.join(known)}")
    indices = range(options.n) if options.index is None else [options.index]
    failed = 0
    child = Child()
    for name in chosen:
        told: Counter[str] = Counter()
        for fault in run_cases(child, known[name], options.seed, indices):
            place = fault.what.rsplit(" in ", 1)[-1]
            told[place] += 1
            if told[place] == 1 and len(told) <= _KEPT_OF_ONE_KIND:
                kept = keep_smallest(child, known[name], fault)
                print(f"  {name} {fault.index}: {fault.what}\n    kept in {kept}; {fault.command}", flush=True)
        failed += sum(told.values())
        print(f"{name}: seed {options.seed}, {len(indices)} cases, {sum(told.values())} not answered", flush=True)
        for place, count in told.most_common(_KEPT_OF_ONE_KIND):
            print(f"    {count} x {place}", flush=True)
    child.end()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
