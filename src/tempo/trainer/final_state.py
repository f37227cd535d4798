"""What is said of a run when it is over: a fingerprint of its weights, and the loggers' last words."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from pytorch_lightning.loggers import Logger
from torch.utils.tensorboard.summary import hparams

from tempo.distributed.fsdp2 import whole
from tempo.record.run_json import RunRecord, flatten
from tempo.trainer.event_log import EventLog


def weights_sha256(network: torch.nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of parameters and buffers.

    Where parameters are split over processes, all of them call it.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if not isinstance(tensor, torch.Tensor):  # what names a network that stands behind this one
            continue
        values = whole(tensor).detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def close_loggers(loggers: Sequence[Logger], record: RunRecord) -> None:
    """Write configuration and final metrics; TensorBoard's HParams tab then compares runs by them.

    An interrupted run has no final metrics yet: what it wrote would stand beside those of its end.
    """
    if record.status == "interrupted":
        for logger in loggers:
            _close(logger, "failed")
        return
    metrics = {
        f"final/{split}_{name}": v for split, each in record.metrics.items() for name, v in each.items()
    }
    plain = (int, float, str, bool)
    parameters = {k: v if isinstance(v, plain) else str(v) for k, v in flatten(record.config).items()}
    for logger in loggers:
        logger.log_hyperparams(parameters)
        logger.log_metrics(metrics, step=record.steps)
        if isinstance(logger, EventLog):
            # Not the description of the experiment that Lightning would write: the tab takes that of one run
            # for all, and without it looks for itself which parameters differ and which metrics there are.
            _, *session = hparams(parameters, metrics)
            for each in session:
                logger.experiment._get_file_writer().add_summary(each)
        _close(logger, "success" if record.finished else "failed")


def _close(logger: Logger, status: str) -> None:
    (logger.close if isinstance(logger, EventLog) else logger.finalize)(status)
