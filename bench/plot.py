"""The figures of a run as a picture."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib import pyplot as plt

from bench.report import LIMIT, CaseResult

if TYPE_CHECKING:
    from bench.many_workers import Figures
    from bench.scaling import Point

_DOTS_PER_INCH = 110
_BAR = 0.8
_HEADROOM = 1.15


def plot_bench(path: Path, about: str, results: Sequence[CaseResult], contenders: Sequence[str]) -> None:
    """Draw the throughput of every contender in every case: files per second for jobs, else GB per second."""
    mpl.use("Agg")
    figure, axes = plt.subplots(
        1, len(results), figsize=(3.4 * len(results), 4.2), squeeze=False, layout="constrained"
    )
    colors = {name: f"C{index}" for index, name in enumerate(contenders)} | {LIMIT: "lightgrey"}
    for axis, result in zip(axes[0], results, strict=True):
        for place, name in enumerate(contenders):
            figures = result.figures(name)
            value = figures.files_per_s if result.case.is_job else figures.gb_per_s
            bar = axis.bar(place, value or 0, _BAR, color=colors[name], label=name)
            axis.bar_label(bar, fmt=_bar_text(value, is_job=result.case.is_job), fontsize=8)
        axis.set_title(f"{result.case.letter}: {result.case.title}", fontsize=9)
        axis.set_ylabel("files/s" if result.case.is_job else "GB/s")
        axis.set_xticks([])
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(contenders), fontsize=8, frameon=False
    )
    figure.suptitle(about, fontsize=9)
    figure.savefig(path, dpi=_DOTS_PER_INCH)
    plt.close(figure)


def plot_scaling(path: Path, points: Sequence["Point"]) -> None:
    """Draw a curve for each thing that varies, with the peak memory beside it."""
    mpl.use("Agg")
    curves = {by: list(group) for by, group in groupby(points, key=lambda point: point.by)}
    figure, axes = plt.subplots(
        1, len(curves), figsize=(4 * len(curves), 3.6), squeeze=False, layout="constrained"
    )
    for axis, (by, curve) in zip(axes[0], curves.items(), strict=True):
        by_files = curve[0].files_per_s is not None
        values = [point.value for point in curve]
        speeds = [(point.files_per_s if by_files else point.gb_per_s) or 0 for point in curve]
        axis.plot(values, speeds, "o-", color="C1")
        axis.set_xscale("log", base=2)
        axis.set_xticks(values, [f"{value:,}" for value in values], fontsize=8)
        axis.set_ylim(0, _HEADROOM * max(speeds))
        axis.set_xlabel(by)
        axis.set_ylabel("files/s" if by_files else "GB/s", color="C1")
        memory = axis.twinx()
        peaks = [point.peak_rss_mb for point in curve]
        memory.plot(values, peaks, "s--", color="grey", markersize=4)
        memory.set_ylim(0, _HEADROOM * max(peaks))
        memory.set_ylabel("peak MB", color="grey")
    figure.savefig(path, dpi=_DOTS_PER_INCH)
    plt.close(figure)


def plot_workers(path: Path, measured: Sequence["Figures"]) -> None:
    """Draw the throughput of every run by its number of workers, and the line that one worker's gives."""
    mpl.use("Agg")
    numbers = sorted({figures.workers for figures in measured})
    alone = median(figures.files_per_s for figures in measured if figures.workers == numbers[0])
    figure, axis = plt.subplots(figsize=(5, 3.6), layout="constrained")
    linear = [alone * number / numbers[0] for number in numbers]
    axis.plot(numbers, linear, "--", color="grey", label="linear")
    runs = [(figures.workers, figures.files_per_s) for figures in measured]
    axis.plot(*zip(*runs, strict=True), "o", color="C1", alpha=0.6, label="each run")
    axis.set_xticks(numbers)
    axis.set_xlabel("workers")
    axis.set_ylabel("files/s")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=_DOTS_PER_INCH)
    plt.close(figure)


def _bar_text(value: float | None, *, is_job: bool) -> str:
    if value is None:
        return "-"
    return "%.0f" if is_job else "%.2f"
