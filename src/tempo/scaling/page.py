"""The report of a benchmark: tables, figures and one page, from records alone; no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tempo.errors import UserError
from tempo.report.figures import Drawn
from tempo.report.html_page import document, figure, sortable
from tempo.report.markdown import escaped, markdown
from tempo.report.number_format import SMOKE
from tempo.report.write_report import prepare
from tempo.scaling.figures import draw
from tempo.scaling.model_table import ModelSize, models_table, read_sizes
from tempo.scaling.point import SOURCES, ScalingPoint, read_points, with_single
from tempo.scaling.table import SHARED, as_text, points_table, write_csv

EXPLAINED = {
    "measured": "measured: the network trained on the hardware named below",
    "emulated": "emulated: real messages over limited links, part of the machine replaced (see the notes)",
    "predicted": "predicted: the cost model of docs/scaling.md, from numbers of one machine",
}
_MOST_EFFICIENCY = 1.05
"""Above it a point needs a word: workers cannot be quicker together than each of them alone."""
MODELS_NOTE = (
    "Operations of a forward pass over one image: convolutions and matrix products, a multiplication and an "
    "addition as two, counted by torch.utils.flop_counter. The paper names no size of image for its own."
)


@dataclass(frozen=True)
class ScalingReport:
    """What is said: points of all sources, sizes of networks, and a line for each point that failed."""

    title: str
    points: Sequence[ScalingPoint]
    sizes: Sequence[ModelSize] = ()
    failures: Sequence[str] = ()
    smoke: bool = False

    @property
    def outcome(self) -> str:
        """How many points of each source there are."""
        counts = Counter(each.source for each in self.points)
        said = [f"{counts[each]} {each}" for each in SOURCES if counts[each]]
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"{len(self.points)} points: {', '.join(said) or 'none'}{failed}."

    @property
    def notes(self) -> list[str]:
        """What a reader must know of these numbers."""
        lines = [f"{EXPLAINED[each]}." for each in SOURCES if any(p.source == each for p in self.points)]
        if crowded := [each for each in self.points if each.share_cores]:
            cores = sorted({each.cores for each in crowded})
            lines.append(f"{SHARED}: {len(crowded)} points, on {', '.join(map(str, cores))} cores.")
        if above := [each for each in self.points if (each.efficiency or 0) > _MOST_EFFICIENCY]:
            most = max(each.efficiency or 0 for each in above)
            lines.append(
                f"scaling above {100 * _MOST_EFFICIENCY:.0f} %: {len(above)} points, up to "
                f"{100 * most:.1f} % of n times one worker. That is no gain of the method: of few steps it "
                "is noise, often a slow measurement of the worker alone; else each worker's part may fit a "
                "cache, or the machine did other work meanwhile. Measure again with more scaling.steps."
            )
        return lines


def write_scaling_report(report: ScalingReport, out: Path) -> Path:
    """Write `scaling.csv`, `figures/`, `report.md` and `report.html` into `out`; the path of the page.

    Raises:
        UserError: `out` has files and is no report.
    """
    page = prepare(out)
    write_csv(report.points, out / "scaling.csv")
    figures = draw(report.points, out / "figures", smoke=report.smoke) if report.points else []
    (out / "report.md").write_text(_markdown(report, figures, out), encoding="utf-8")
    page.write_text(_page(report, figures), encoding="utf-8")
    return page


def report_folders(folders: Sequence[Path], out: Path) -> str:
    """The report of points that lie below folders; what a terminal shows of it.

    Raises:
        UserError: none of them can be read; or see `write_scaling_report`.
    """
    points, refused = read_points(folders)
    if not points:
        raise UserError(f"none of the {len(refused)} points can be read; the first: {refused[0]}")
    report = ScalingReport(
        title="Scaling: " + ", ".join(each.resolve().name for each in folders),
        points=with_single(points),
        sizes=read_sizes(folders),
        failures=refused,
        smoke=any(each.resolve().name.endswith("_smoke") for each in folders),
    )
    page = write_scaling_report(report, out)
    return "\n".join([text_of(report), str(page), ""])


def text_of(report: ScalingReport) -> str:
    """What a terminal shows: points, networks, and what must be known of them."""
    parts = [as_text(points_table(report.points), report.outcome)]
    parts += [as_text(models_table(report.sizes), "networks")] if report.sizes else []
    return "".join(parts) + "\n".join([*report.notes, *report.failures])


def _page(report: ScalingReport, figures: Sequence[Drawn]) -> str:
    notes = "".join(f"<li>{escape(each)}</li>" for each in report.notes)
    models = sortable(models_table(report.sizes)) + f'<p class="note">{escape(MODELS_NOTE)}</p>'
    failures = "".join(f"<li>{escape(each)}</li>" for each in report.failures)
    sections = [
        ("points", "Points", sortable(points_table(report.points)) if report.points else ""),
        ("figures", "Figures", "".join(figure(each) for each in figures)),
        ("networks", "Networks", models if report.sizes else ""),
        ("failures", "Without result", f'<ul class="failures">{failures}</ul>' if failures else ""),
        ("environment", "Where it was measured", _environment(report)),
    ]
    present = [each for each in sections if each[2]]
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in present)
    body = "".join(
        f'<section id="{name}"><h2>{escape(title)}</h2>{inner}</section>' for name, title, inner in present
    )
    banner = f'<p class="smoke" role="alert">{SMOKE}</p>' if report.smoke else ""
    head = f"<h1>{escape(report.title)}</h1><p>{escape(report.outcome)}</p><ul>{notes}</ul>{banner}"
    return document(report.title, f"<header>{head}<nav>{links}</nav></header><main>{body}</main>")


def _environment(report: ScalingReport) -> str:
    lines = [
        f"<dt>{escape(name)}</dt><dd>{'<br>'.join(escape(each) for each in values)}</dd>"
        for name, values in surroundings(report.points)
    ]
    return f'<dl class="keys">{"".join(lines)}</dl>' if lines else ""


def surroundings(points: Sequence[ScalingPoint]) -> list[tuple[str, list[str]]]:
    """Hardware, versions and commands, each with its distinct values."""
    found = {
        "device": [f"{each.device}, {each.cores} cores" for each in points if each.device],
        "threads of a worker": [str(each.threads) for each in points if each.threads],
        "backend": [each.backend for each in points if each.backend],
        "precision": [each.precision for each in points if each.precision],
        "link": [each.link for each in points if each.link],
        "steps, those of the warm-up": [f"{p.steps}, {p.warmup_steps}" for p in points if p.steps],
        "versions": [" ".join(f"{k} {v}" for k, v in each.versions.items()) for each in points],
        "command": [each.command for each in points],
    }
    distinct = {name: list(dict.fromkeys(filter(None, values))) for name, values in found.items()}
    return [(name, values) for name, values in distinct.items() if values]


def _markdown(report: ScalingReport, figures: Sequence[Drawn], out: Path) -> str:
    parts = [f"# {escaped(report.title)}", report.outcome]
    parts += [f"**{SMOKE}**"] if report.smoke else []
    parts += ["\n".join(f"- {escaped(each)}" for each in report.notes)] if report.notes else []
    if report.points:
        parts += ["## Points", markdown(points_table(report.points))]
    for each in figures:
        place = each.png.relative_to(out).as_posix()
        parts += [f"## {escaped(each.title)}", f"![{escaped(each.title)}]({place})", escaped(each.caption)]
    if report.sizes:
        parts += ["## Networks", markdown(models_table(report.sizes)), MODELS_NOTE]
    if report.failures:
        parts += ["## Without result", "\n".join(f"- {escaped(each)}" for each in report.failures)]
    lines = [f"- {name}: {escaped('; '.join(values))}" for name, values in surroundings(report.points)]
    parts += ["## Where it was measured", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"
