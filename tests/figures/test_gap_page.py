"""The page of a gap begins with its verdict, and its tables name every cell's column."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamenv.figures.gap import verdict, write_gap_report
from dreamenv.scoring.gap import Gap
from dreamenv.scoring.open_loop import OpenLoopRow


def gap_of(dream: tuple[float, ...], real: tuple[float, ...], predicted: tuple[float, ...]) -> Gap:
    row = OpenLoopRow(
        **{field: 1.0 for field in OpenLoopRow.__dataclass_fields__ if field not in ("horizon", "moments")},
        horizon=5,
        moments=3,
    )
    return Gap(
        real_id="Own-v0",
        agent="shipped",
        seeds=tuple(range(len(real))),
        dream_returns=dream,
        real_returns=real,
        predicted_returns=predicted,
        reward_r2=0.5,
        reward_calibration=({"predicted": 0.0, "real": 0.1}, {"predicted": 1.0, "real": 0.9}),
        termination_threshold=0.5,
        termination_precision=None,
        termination_recall=None,
        termination_calibration=({"predicted": 0.0, "real": 0.1}, {"predicted": 1.0, "real": 0.9}),
        real_ends=0,
        open_loop=(row,),
        samples=2,
        open_loop_temperature=1.0,
        played_frames=7,
    )


@pytest.mark.parametrize(
    ("dream", "real", "predicted", "text"),
    [
        ((101.0, 99.0), (100.0, 100.0), (50.0, 50.0), "The dream promises about what reality pays: 100 in the dream"),
        (
            (300.0, 301.0),
            (200.0, 201.0),
            (201.0, 200.0),
            "The dream promises 1.5 times what reality pays; single steps are right (along real episodes M predicts "
            "200, and they return 200), so long dreams drift.",
        ),
        (
            (300.0, 301.0),
            (200.0, 201.0),
            (300.0, 301.0),
            "The dream promises 1.5 times what reality pays; single steps are wrong already (along real episodes M "
            "predicts 300, and they return 200).",
        ),
        ((300.0, 301.0), (200.0, 201.0), (90.0, 91.0), "pays, while single steps err the other way (along real"),
        ((50.0, 51.0), (-80.0, -81.0), (-80.0, -81.0), "The dream promises 131 more than reality pays; single steps"),
        (
            (300.0, 301.0),
            (100.0, 300.0),
            (20.0, 300.0),
            "these episodes do not tell (along real episodes M predicts 160",
        ),
        ((0.0, 300.0), (80.0, 121.0), (80.0, 121.0), "so long dreams drift. With so few episodes it may be chance."),
    ],
)
def test_the_verdict_tells_what_the_dream_promises_and_what_errs(
    dream: tuple[float, ...], real: tuple[float, ...], predicted: tuple[float, ...], text: str
) -> None:
    assert text in verdict(gap_of(dream, real, predicted))


def test_the_page_begins_with_it_and_fits_a_phone(tmp_path: Path) -> None:
    gap = gap_of((300.0, 301.0), (200.0, 201.0), (201.0, 200.0))
    page = write_gap_report(tmp_path / "gap.html", gap).read_text(encoding="utf-8")
    body = page[page.index("<body>") :]
    assert body.index(verdict(gap)) < body.index("Agent shipped:") < body.index("<svg")
    assert [body.count(f'data-column="{name}"') for name in ("actions", "no change", "V alone")] == [2, 2, 1]
    assert "prefers-color-scheme: dark" in page
    assert "max-width: 40rem" in page
