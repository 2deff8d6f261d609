"""``python -m faults.simulation [--seeds N] [--from SEED] [--seed SEED] [--mutation NAME] [--json]``.

Exit status 1 if a seed fails, which is printed with what to type to play it again.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence

from faults.simulation.mutations import MUTATIONS, mutated
from faults.simulation.plan import plan_of
from faults.simulation.verdict import findings
from faults.simulation.world import played


def main(arguments: Sequence[str]) -> int:
    """Play seeds; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m faults.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first")
    parser.add_argument("--seed", type=int, help="play this one, and say what struck")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="break the product on purpose")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print the outcome as JSON")
    options = parser.parse_args(arguments)
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    began, failed, lives, strikes, calls = time.monotonic(), [], 0, 0, 0
    with mutated(options.mutation):
        for seed in seeds:
            plan = plan_of(seed)
            if options.seed is not None:
                print("\n".join(f"{each.at_s:7.3f} s  {each.what} {each.much:g}" for each in plan.strikes))
            with played(plan) as world:
                found = findings(world)
            lives, strikes, calls = lives + world.lives, strikes + world.struck, calls + world.disk.calls
            if found:
                failed.append(seed)
                print(f"seed {seed} FAILS, again with: python -m faults.simulation --seed {seed}", flush=True)
                for each in found:
                    print(f"    {each}", flush=True)
    seconds = time.monotonic() - began
    if options.as_json:
        outcome = {"seeds": len(seeds), "failed": failed, "lives": lives, "faults": strikes, "disk_calls": calls}
        print(json.dumps({**outcome, "seconds": round(seconds, 1)}))
    else:
        print(
            f"{len(seeds)} seeds, {strikes:,} faults, {lives:,} lives of the worker, {calls:,} calls of the disk in "
            f"{seconds:.1f} s: {len(failed)} failed"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
