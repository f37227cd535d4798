"""Images per second of whole training jobs: tempo against the plain loop and against the popular template."""

from __future__ import annotations

from functools import partial

from conventional import conventional
from jobs import JOBS, BenchJob, fresh_process, tempo_and_raw
from rows import Row, Section, ratio


def measure(job: BenchJob, rounds: int) -> list[Row]:
    """Speeds and their ratios, by the clock and by processor time."""
    config = job.config()
    found: dict[str, list[dict[str, float]]] = {"raw": [], "tempo": [], "conventional": []}
    for _ in range(rounds):
        both = tempo_and_raw(config)
        # One for each round: malloc's threshold moves, and a second script would find that of the first.
        with fresh_process() as apart:
            both["conventional"] = apart.submit(conventional, config, job.conventional_steps).result()
        for way, speeds in both.items():
            found[way].append(speeds)
    wall = {way: [each["wall"] for each in speeds] for way, speeds in found.items()}
    cpu = {way: [each["cpu"] for each in speeds] for way, speeds in found.items()}
    over_raw, over_conventional = job.tempo_over_raw, job.tempo_over_conventional
    return [
        *(Row(way, "images/s", speeds) for way, speeds in wall.items()),
        ratio("tempo_over_raw", wall["tempo"], wall["raw"], at_least=over_raw),
        ratio("tempo_over_conventional", wall["tempo"], wall["conventional"], at_least=over_conventional),
        ratio("raw_over_conventional", wall["raw"], wall["conventional"]),
        ratio("tempo_over_raw_cpu_time", cpu["tempo"], cpu["raw"]),
        ratio("tempo_over_conventional_cpu_time", cpu["tempo"], cpu["conventional"]),
    ]


PROTOCOL = (
    "A round is a run of src/train.py's own path for two or three epochs, of which the first does not count, "
    "validation off the clock; after each chunk as many steps of the plain loop; then the template's script, "
    "in a process of its own."
)
SECTIONS = [Section(job.name, PROTOCOL, partial(measure, job)) for job in JOBS]
