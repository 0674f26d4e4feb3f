"""An agent that never meets the real environment: a linear controller, evolved inside the dream of example 02.

Run first: 02_collect_and_train.py
Takes: under a minute.

python examples/03_evolve_in_the_dream.py [--out FOLDER] [--generations N]
"""

import argparse
from pathlib import Path

from dreamenv import WorldModel, evolve
from dreamenv.agents import EvolutionOptions, Generation


def show(generation: Generation) -> None:
    print(
        f"generation {generation.index}: dreamed return {generation.dream_mean:.1f}, best {generation.dream_best:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/examples"))
    parser.add_argument("--generations", type=int, default=12)
    arguments = parser.parse_args()
    if not (arguments.out / "bundle").exists():
        parser.error(f"{arguments.out / 'bundle'} is not there: run 02_collect_and_train.py first")

    model = WorldModel.load(arguments.out / "bundle")
    # All candidates dream together, under the same random numbers. A temperature above 1 makes the dream harder to
    # exploit: what works there works in spite of the noise.
    found = evolve(
        model,
        out_dir=arguments.out / "agent",
        options=EvolutionOptions(generations=arguments.generations, population=32, rollouts=8, temperature=1.1),
        progress=show,
    )
    print(f"agent: {found.file}")


if __name__ == "__main__":
    main()
