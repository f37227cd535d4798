"""Read the remedies in an error line and edit the command as a user would; test_advice.py then tries it."""

from __future__ import annotations

import functools
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from tempo.command_line.arguments import prepared
from tempo.command_line.check_before_run import CheckBeforeRun
from tempo.command_line.error_messages import one_line
from tempo.command_line.run_folder_name import register_all_resolvers
from tempo.config.check import check
from tempo.record import foreign_folder
from tempo.sweep.grid import bare, parse_grid
from tempo.sweep.job_composer import JobComposer
from tempo.sweep.search.space import parse_space
from tests.jobs import CONF


@dataclass(frozen=True)
class Remedy:
    """One of the alternatives that a line names: overrides to give, and arguments to leave out."""

    overrides: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@functools.cache
def composer() -> JobComposer:
    register_all_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("train", [], run_mode=RunMode.RUN)
        return JobComposer(loader, master)


def line_of(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> str | None:
    """The line with which src/train.py refuses the arguments before it imports torch; None if it does not."""
    monkeypatch.setattr(sys, "argv", ["src/train.py", *arguments])
    monkeypatch.setattr(foreign_folder, "_typed", [])  # else of one command for all
    try:
        ready = prepared([*arguments], "train")
        if "-m" in ready:
            for job in jobs_of([argument for argument in ready if argument != "-m"]):
                check(composer().values(job))
        elif any(map(_NEEDS_HYDRA.match, ready)):
            config = composer().loader.load_configuration("train", ready, run_mode=RunMode.RUN)
            CheckBeforeRun().on_run_start(config)
        else:
            check(composer().values(_without_sweeps(ready)))
    except (HydraException, OmegaConfBaseException) as error:
        return one_line(error)
    except SystemExit as end:
        return str(end.code)
    return None


_NEEDS_HYDRA = re.compile(r"[+~]*(hydra|experiment|init_from|resume)\b")


def _without_sweeps(overrides: list[str]) -> list[str]:
    """The overrides, if none has several values; Hydra's error if one has."""
    if any(override.is_sweep_override() for override in OverridesParser.create().parse_overrides(overrides)):
        composer().loader.load_configuration("train", overrides, run_mode=RunMode.RUN)
    return overrides


def jobs_of(overrides: Sequence[str]) -> list[Sequence[str]]:
    """The overrides of each job of a sweep, of a search those that its sweeper checks."""
    of_hydra = [override for override in overrides if override.startswith("hydra")]
    composer().loader.load_configuration("train", of_hydra, run_mode=RunMode.MULTIRUN)
    rest = [override for override in overrides if override not in of_hydra]
    if "hydra/sweeper=search" in of_hydra:
        space = parse_space(OverridesParser.create(), rest, {})
        return [[*space.fixed, *space.overrides(probe)] for probe in space.probes()]
    grid = parse_grid(OverridesParser.create(), rest, {}, [])
    return [combination.overrides for combination in grid.combinations]


_TOKEN = re.compile(r"'[^']+=[^']*'|-m\b|[~+]?[A-Za-z_][\w./]*=(?:<[^>]*>|[^\s<])*")
_VERB = r"set|use|run|name|choose|write|add|give|leave|end|close|put|Set|Remove|Leave|remove|e\.g\."
_STANDS_FOR = {
    "<option of conf/model>": "mlp",
    "<option of conf/data>": "digits",
    "<option of conf/optimizer>": "adam",
    "<option of conf/scheduler>": "cosine",
    "<folder of the run>": "interrupted",
    "<folder of a run>": "interrupted",
    "<folder>": "logs/mine",
    "<folder of src/lr_range.py>": "range",
    "<file>": "interrupted/checkpoints/last.ckpt",
    "<value>": "0",
}


def remedies(line: str, arguments: Sequence[str]) -> list[Remedy]:
    """The alternatives that a line names."""
    wrong = offending(line, arguments)
    starts = [match.end() for match in re.finditer(rf"(?:[;.,:?] |^)(?=(?:{_VERB})\b)", line)]
    advice = line[starts[-1] :] if starts else ""
    is_unknown = re.search(
        r" here\b|is not a key|does not exist|cannot be read|several values|without \+", line
    )
    left = (wrong,) if is_unknown else ()
    left += tuple(named(arguments, name) for name in re.findall(r"\bleave (\S+) out and set", line))
    found = []
    if meant := re.search(
        r"^(\S+?)(?:=\S*)? (?:is not a key|does not exist)\. Did you mean '([^']+)'\?", line
    ):
        parent = "" if "." in meant[2] else meant[1].rpartition(".")[0]
        key, _, value = wrong.lstrip("+").partition("=")
        ours = ".".join(filter(None, (parent, meant[2])))
        is_option = (CONF / key).is_dir()
        found.append(
            Remedy(
                (f"{key}={meant[2]}" if is_option else f"{key.replace(meant[1], ours)}={value}",), (wrong,)
            )
        )
    end = None
    advice = re.sub(r"\bleave (?:out )?\S+ out", "", advice)
    for token in _TOKEN.finditer(advice):
        text = shlex.split(token[0].rstrip(".,;:"))[0] if "'" in token[0] else token[0].rstrip(".,;:")
        for placeholder, example in _STANDS_FOR.items():
            text = text.replace(placeholder, example)
        if "<" in text or text.endswith("=") or text == "key=value":
            continue
        if end is not None and advice[end : token.start()] == " ":
            found[-1] = Remedy((*found[-1].overrides, text), left)
        else:
            found.append(Remedy((text,), left))
        end = token.start() + len(token[0].rstrip(".,;:"))
        if other := re.match(r"'?,? or (?:at most )?(-?\d[\d.e-]*|null)\b", advice[end:]):
            found.append(Remedy((f"{text.partition('=')[0]}={other[1]}",), left))
    if re.search(r"\b(?:leave|Leave) (?:it|one of them) out|Remove it\b|leave out what deletes", line):
        found.append(Remedy(left_out=(wrong,)))
    names = re.findall(r"\bleave (?!it |one )(\S+) out(?! and set)", line)
    found += [Remedy(left_out=(named(arguments, name),)) for name in names]
    if "name the folder of a run" in line:
        found.append(Remedy((f"{wrong.partition('=')[0]}=interrupted",)))
    return found


def named(arguments: Sequence[str], name: str) -> str:
    """The argument of a key, or the flag."""
    return next(
        word for word in arguments if name in (word, word.partition("=")[0], bare(word.partition("=")[0]))
    )


def offending(line: str, arguments: Sequence[str]) -> str:
    """The argument that the line is about."""
    about = line.rpartition("; ")[0] or line
    meant = [word for word in arguments if bare(word.partition("=")[0]) in about]
    return max(meant, key=lambda word: len(word.partition("=")[0]), default=arguments[-1])


def followed(arguments: Sequence[str], remedy: Remedy) -> list[str]:
    """The command with the remedy applied, as a user would edit it."""
    kept = list(arguments)
    for word in remedy.left_out:
        kept.remove(word)
    replaced = {bare(override.partition("=")[0]) for override in remedy.overrides}
    added = {bare(key) for word in kept if (key := word.partition("=")[0]).startswith("+")}
    chosen = {key for override in remedy.overrides if (CONF / (key := override.partition("=")[0])).is_dir()}
    other = {key for key in chosen if not {*remedy.overrides} & {*kept}}  # keys of the option before
    kept = [
        word
        for word in kept
        if (key := bare(word.partition("=")[0])) not in replaced and key.partition(".")[0] not in other
    ]
    return [*kept, *(f"+{text}" if text.partition("=")[0] in added else text for text in remedy.overrides)]
