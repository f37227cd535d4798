"""One job after the other in the process of the sweep: the default launcher."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator

from tempo.sweep.jobs import CONSOLE_FILE
from tempo.sweep.launcher.base_launcher import IsolatingLauncher, Outcome, Overrides, run_to_outcome
from tempo.sweep.launcher.job_process import folder_of, output_in
from tempo.trainer.malloc_settings import give_back_freed_memory


class InProcessLauncher(IsolatingLauncher):
    """Like Hydra's basic launcher, except that no exception or `sys.exit` in a job ends the others.

    A signal that kills a job also kills the sweep; `hydra/launcher=local` survives that.
    """

    one_by_one = True

    def run_jobs(self, jobs: Iterable[Overrides], first_number: int = 0) -> Iterator[tuple[int, Outcome]]:
        """Run the jobs in order; see `IsolatingLauncher.run_jobs`."""
        for index, overrides in enumerate(jobs):
            outcome = self._outcome(overrides, first_number + index)
            yield index, outcome
            if outcome.kind == "interrupted":
                raise KeyboardInterrupt
            free_memory()

    def _outcome(self, overrides: Overrides, number: int) -> Outcome:
        """Run a job, whose output goes to its folder, and return its outcome."""
        config = self.compose(overrides, number)
        with output_in(folder_of(config) / CONSOLE_FILE):
            outcome = run_to_outcome(lambda: self.run(config))
            if outcome.kind == "failed":
                print(outcome.reason, file=sys.stderr)
        return outcome


def free_memory() -> None:
    """Return the memory of the finished job to the system and the GPU."""
    gc.collect()
    give_back_freed_memory()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
