"""Another program opens the study: optuna-dashboard, where it is installed, answers with its trials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

pytest.importorskip("optuna", reason="Optuna is not installed: pip install -e '.[search]'")
dashboard = pytest.importorskip(
    "optuna_dashboard", reason="optuna-dashboard is not installed: pip install optuna-dashboard"
)

from tempo.trainer.search_trial import close_storage, open_storage, storage_url  # noqa: E402
from tests.search.searching import run, search  # noqa: E402


def answer(app: Any, path: str) -> Any:
    """What it serves at a path, parsed."""
    request: dict[str, Any] = {}
    setup_testing_defaults(request)
    statuses: list[str] = []
    body = b"".join(app(request | {"PATH_INFO": path}, lambda status, *_: statuses.append(status)))
    assert statuses == ["200 OK"]
    return json.loads(body)


@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_the_dashboard_lists_the_trials(tmp_path: Path, storage: str) -> None:
    arguments = ("optimizer.lr=1e-2,1e-3,1e-4", "trainer.epochs=2")
    values = search(tmp_path, run, arguments, f"hydra.sweeper.storage={storage}")
    opened = open_storage(storage_url(storage, str(tmp_path)))
    app = dashboard.wsgi(opened)
    (study,) = answer(app, "/api/studies")["study_summaries"]
    assert study["directions"] == ["maximize"]
    trials = answer(app, f"/api/studies/{study['study_id']}")["trials"]
    assert [each["values"] for each in trials] == [[each] for each in values]
    assert [[told["step"] for told in each["intermediate_values"]] for each in trials] == [[1, 2]] * 3
    close_storage(opened)
