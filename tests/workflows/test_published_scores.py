"""Scores of others come out of the list of published figures."""

from __future__ import annotations

from dreamenv.workflows.published_scores import published_scores


def test_scores_of_others_are_those_of_the_list() -> None:
    doom, car = (published_scores(real_id) for real_id in ("VizdoomTakeCover-v1", "CarRacing-v3"))
    assert [(score.trained_in, score.mean, score.spread) for score in doom] == [
        ("dream", 1092, 556),
        ("real", 820, 58),
        ("none", 210, 108),
    ]
    assert [(score.trained_in, score.mean, score.spread) for score in car] == [
        ("real", 906, 21),
        ("real", 632, 251),
        ("dream", 625, 289),
    ]
    assert published_scores("Pendulum-v1") == []
