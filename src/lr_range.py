"""Run an LR range test: `python src/lr_range.py model=resnet20`, `-m optimizer.wd=1e-3,1e-4 seed=0,1,2`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tempo.command_line.script import script
from tempo.command_line.start_up import importing
from tempo.errors import INTERRUPTED_CODE, UserError
from tempo.tuning.range_test_report import SweepEnd

if TYPE_CHECKING:
    from omegaconf import DictConfig


@script("lr_range")
def run(config: DictConfig) -> float | None:
    """Train while the learning rate rises, and propose bounds for it; in a sweep, only train."""
    # torch takes seconds to import, so it waits until the configuration is checked.
    with importing("tempo.tuning.range_test"):
        from tempo.tuning.range_test import run_range_test

    return run_range_test(config)


def main() -> None:
    """Run, and after a sweep report the proposals of its curves, even if some of its jobs have failed."""
    sys.argv[1:] = without_step_limit(sys.argv[1:])
    interrupted = False
    try:
        run()
    except SystemExit as end:
        interrupted = end.code == INTERRUPTED_CODE
        raise
    finally:
        if (folder := SweepEnd.folder()) is not None and not interrupted:
            from tempo.tuning.range_test import conclude

            try:
                conclude(folder)
            except UserError as error:
                print(error, file=sys.stderr)


def without_step_limit(arguments: Sequence[str]) -> list[str]:
    """Set `trainer.max_steps=null` next to `trainer.epochs=...`: conf/lr_range.yaml limits the steps.

    The two are adjacent because Hydra refuses overrides on both sides of a flag.
    """
    keys = [argument.partition("=")[0] for argument in arguments]
    if "trainer.epochs" not in keys or "trainer.max_steps" in keys:
        return list(arguments)
    at = keys.index("trainer.epochs")
    return [*arguments[:at], "trainer.max_steps=null", *arguments[at:]]


if __name__ == "__main__":
    main()
