"""The published figures of this package: which there are, the commands that make them anew, and their stored values."""

from dreamenv.workflows.published.entries import SHIPPED, Entry, all_figures, find_figure, read_figures
from dreamenv.workflows.published.figure import Figure
from dreamenv.workflows.published.runners import Options, Runner, register_runner

__all__ = [
    "SHIPPED",
    "Entry",
    "Figure",
    "Options",
    "Runner",
    "all_figures",
    "find_figure",
    "read_figures",
    "register_runner",
]
