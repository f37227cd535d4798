"""Weights & Biases and MLflow: one tracked run per run of tempo, also in a sweep, ended with it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger, WandbLogger

from tempo.record.run_json import SWEEP_FILE

log = logging.getLogger(__name__)
_PLACES = [name for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR") if name not in os.environ]
"""Variables of wandb for what it stages: the run's folder, not the home folder, if the user has set none."""
FIGURES = ("confusion.png", "curves.png")


def sweep_of(folder: Path) -> str | None:
    """Return the name of the sweep that a run's folder belongs to, None for a single run."""
    return next((above.name for above in folder.parents if (above / SWEEP_FILE).is_file()), None)


def kept_files(folder: Path) -> list[Path]:
    """Return the best checkpoint of a run, its metrics and its figures, as far as it has them."""
    names = ("checkpoints/best.ckpt", "metrics.csv", *FIGURES)
    return [folder / name for name in names if (folder / name).is_file()]


class Wandb(WandbLogger):
    """Lightning's logger in the run's folder, with a name, group, tags and id that follow from the run.

    Without a login it logs offline and says so. A resumed run goes on in the tracked run, by its id.
    """

    def __init__(
        self,
        *,
        folder: Path,
        run_id: str,
        tags: Sequence[str] = (),
        name: str | None = None,
        group: str | None = None,
        offline: bool = False,
        artifacts: bool = False,
        **settings: Any,
    ) -> None:
        os.environ |= dict.fromkeys(_PLACES, str(folder / "wandb"))
        (folder / "wandb").mkdir(exist_ok=True)
        self.folder, self.artifacts = folder, artifacts
        offline = offline or not _has_login(folder)
        # Not Lightning's argument `offline`: it sets WANDB_MODE, for later runs of this process too.
        if offline:
            settings["mode"] = "offline"
        super().__init__(
            name=name or folder.name,
            save_dir=folder,
            id=run_id or None,
            group=group or sweep_of(folder),
            tags=list(tags),
            **settings,
        )

    def log_result(self) -> None:
        """Log the confusion matrix and the curves of a completed run, and its files if asked."""
        import wandb  # an optional extra

        for path in (self.folder / name for name in FIGURES):
            if path.is_file():
                self.experiment.log({path.stem: wandb.Image(str(path))})
        if self.artifacts:
            artifact = wandb.Artifact(f"run-{self.experiment.id}", type="run")
            for path in kept_files(self.folder):
                artifact.add_file(str(path), name=path.name)
            self.experiment.log_artifact(artifact)

    def close(self, status: str) -> None:
        """End the tracked run: the next job of a sweep in this process begins its own."""
        if self._experiment is not None:
            self.experiment.finish(exit_code=0 if status == "success" else 1)
            self._experiment = None


def _has_login(folder: Path) -> bool:
    """Whether wandb has a key, or is told to work without; if not, say what to do."""
    if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return True
    import wandb  # an optional extra

    if wandb.login(prompt=False):
        return True
    log.warning(
        "wandb has no login on this machine, so the run is logged offline; `wandb login`, then "
        "`wandb sync %s/wandb/offline-run-*` sends it",
        folder,
    )
    return False


class MLflow(MLFlowLogger):
    """Lightning's logger on a SQLite file or a server, with the run's folder, sweep and tags as tags.

    A resumed run is tracked anew, with the same tag `tempo.run`.
    """

    def __init__(
        self,
        *,
        folder: Path,
        run_id: str,
        tracking_uri: str,
        tags: Sequence[str] = (),
        run_name: str | None = None,
        artifacts: bool = False,
        **settings: Any,
    ) -> None:
        self.folder, self.artifacts = folder, artifacts
        path = tracking_uri.removeprefix("sqlite:///")
        if path != tracking_uri:  # else MLflow would keep artifacts in ./mlruns
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            settings.setdefault("artifact_location", Path(path).with_suffix("").as_uri())
        found = {"tempo.run": run_id, "tempo.folder": str(folder), "tempo.sweep": sweep_of(folder)}
        named = {key: value for key, value in found.items() if value} | {
            f"tempo.tag.{tag}": "true" for tag in tags
        }
        super().__init__(tracking_uri=tracking_uri, run_name=run_name or folder.name, tags=named, **settings)

    def log_result(self) -> None:
        """Log the confusion matrix and the curves of a completed run, and its files if asked."""
        figures = [self.folder / name for name in FIGURES]
        for path in kept_files(self.folder) if self.artifacts else filter(Path.is_file, figures):
            self.experiment.log_artifact(self.run_id, str(path))

    def finalize(self, status: str = "success") -> None:
        """Keep the tracked run open: Lightning calls this after each fit and test."""

    def close(self, status: str) -> None:
        """End the tracked run."""
        super().finalize(status)
