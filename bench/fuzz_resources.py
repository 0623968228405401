"""Has a client read damaged resources, as many answers as one likes.

    python bench/fuzz_resources.py --inputs 1000000

No sockets: the client's side of the protocol, with answers that began as a real server session's. It ends
with the first answer that breaks something; now and then good ones must bring everything back.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from damaged_resources import Answers

AGAIN = 1000  # answers between good ones


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    answers = Answers(Random(args.seed))
    begin = time.perf_counter()
    for turn in range(args.inputs):
        try:
            answers.damage()
            if turn % AGAIN == 0:
                answers.recover()
        except Exception:
            print(f"answer {turn} of seed {args.seed}", file=sys.stderr)
            raise
    answers.recover()
    print(
        f"{args.inputs:,} answers of seed {args.seed} in {time.perf_counter() - begin:.0f} s: "
        f"{dict(answers.outcomes)}"
    )


if __name__ == "__main__":
    main()
