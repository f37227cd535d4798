"""The only caller of Hydra's `instantiate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from tempo.config.targets import check_not_lightning
from tempo.errors import UserError
from tempo.record.foreign_folder import check_plain


def instantiated(what: str, node: Mapping[str, Any], **arguments: Any) -> Any:
    """Build the object of a node; what its constructor refuses becomes one line."""
    check_plain(what, node)  # which Hydra would resolve, and call what comes of it
    try:
        built = instantiate(dict(node), **arguments, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, ValueError):
            raise UserError(f"{what}: {cause}") from error
        if isinstance(cause, (TypeError, ImportError)):
            raise UserError(f"{what}: {cause}; {what}=<option of conf/{what}>") from error
        if cause is None:
            raise UserError(f"{what}: {error}") from error
        raise cause from error
    check_not_lightning(what, node.get("_target_"), built)
    return built
