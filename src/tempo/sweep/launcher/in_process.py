"""One job after the other in the process of the sweep: the default launcher."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Iterable, Sequence

from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException

from tempo.errors import INTERRUPTED_CODE
from tempo.sweep.launcher.base import IsolatingLauncher, JobEnded, failed, failure
from tempo.trainer.freed_memory import give_back_freed_memory


class InProcessLauncher(IsolatingLauncher):
    """What Hydra's basic launcher does, but no exception and no `sys.exit` of a job ends the others.

    A job that dies of a signal takes the sweep with it: `hydra/launcher=local` does not share that fate.
    """

    one_by_one = True

    def launch(self, job_overrides: Iterable[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs in order.

        Raises:
            KeyboardInterrupt: the user stopped the running job, which has saved its state.
        """
        results = []
        for index, overrides in enumerate(job_overrides):
            self.started(index)
            result = self._run(overrides, initial_job_idx + index)
            results.append(result)
            self.ended(index, result)
            if isinstance(failure(result), KeyboardInterrupt):
                raise KeyboardInterrupt
            let_go(result)
            _free_memory()
        return results

    def _run(self, overrides: Sequence[str], number: int) -> JobReturn:
        try:
            result = self.run(self.compose(overrides, number))
        except KeyboardInterrupt as error:
            return failed(error)
        except SystemExit as error:
            stopped = error.code == INTERRUPTED_CODE
            return failed(
                KeyboardInterrupt() if stopped else JobEnded(f"the job called sys.exit({error.code})")
            )
        except Exception as error:  # noqa: BLE001 - whatever one job raises must not reach the others
            result = failed(error)
        raised = failure(result)
        if raised is not None and not isinstance(raised, CompactHydraException):
            traceback.print_exception(raised)
        return result


def let_go(result: JobReturn) -> None:
    """Keep a job's value or error and none of its objects: a sweep holds the results of all its jobs."""
    result.cfg = result.hydra_cfg = None
    waiting, seen = [failure(result)], set()
    while waiting:
        error = waiting.pop()
        if error is not None and id(error) not in seen:  # causes and contexts may close to a ring
            seen.add(id(error))
            error.__traceback__ = None  # its frames hold the network and the images
            waiting += [error.__cause__, error.__context__]


def _free_memory() -> None:
    gc.collect()
    give_back_freed_memory()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
