"""`dreamenv mbpo`."""

from __future__ import annotations

from typing import Annotated

import typer

from dreamenv.cli import app
from dreamenv.cli.options import JsonFile
from dreamenv.cli.overview import TRAIN
from dreamenv.cli.presets import Config, Name, Real, Run, TimeLimit, chosen_preset


@app.command(rich_help_panel=TRAIN)
def mbpo(
    name: Name = None,
    real: Real = None,
    config: Config = None,
    out: Run = None,
    algo: Annotated[
        str | None,
        typer.Option(help="An off-policy algorithm: sac, td3, ddpg, tqc, dqn, sbx_sac; the preset's by default."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Real steps; the preset's number by default.")] = None,
    updates: Annotated[
        int | None, typer.Option(help="Gradient steps of the agent for each real step, 1 to 1,000.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of MBPO, such as branches.last=15 or model.hidden_size=400; as many as wanted.",
        ),
    ] = None,
    limit: TimeLimit = None,
    device: Annotated[
        str | None, typer.Option(help="Of agent and ensemble: cpu or cuda.", show_default="cuda where there is one")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=4999, help="Of all that is random; the same seed gives the same result.")
    ] = 0,
    json_file: JsonFile = None,
) -> None:
    """Learn from few real steps: an algorithm of Stable-Baselines3 whose batches are mostly short dreams.

    The same command continues an interrupted run, from the last finished epoch. An ensemble is fitted to the real steps
    as they come, and short dreams branch off them (MBPO). For vector observations that hold all there is to know.

    Example: dreamenv mbpo --real InvertedPendulum-v5 --steps 3000 --out runs/mbpo
    """
    from dataclasses import asdict

    import torch

    from dreamenv.bundle_config import read_config
    from dreamenv.cli.options import changed, check_run, training_preset, write_config, write_registry
    from dreamenv.cli.output import Output
    from dreamenv.options import overlay, parse_settings, plain
    from dreamenv.sb3.mbpo import Epoch, MBPOOptions, learn_mbpo

    output = Output(json_file)
    found = chosen_preset(name, real, config, out, limit=limit)
    given = {"algo": algo, "steps": steps, "updates": updates}
    preset = training_preset(found.section).mbpo
    wanted = overlay(preset, {key: value for key, value in given.items() if value is not None})
    wanted = overlay(wanted, parse_settings(settings or []))
    options = changed(MBPOOptions, preset, wanted, found.section, "train.mbpo")
    check_run(found.out, found.real)

    def on_epoch(row: Epoch) -> None:
        # Not before: a call that is refused must not change what is recorded of the run that is there
        write_config(found.out, "mbpo", {"real": found.real.id, "seed": seed, "options": plain(options)})
        most = "" if row.critic_limit is None else f" of at most {row.critic_limit:.1f}"
        critic = "" if row.critic is None else f", critic {row.critic:.1f}{most}"
        output.line(
            f"{row.real_steps:,} real steps: return {row.mean:.1f} ± {row.std:.1f}, branches of {row.branch_length}"
            f"{critic}{', which has DIVERGED' if row.diverged else ''}, {row.seconds:.0f} s"
        )

    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    epochs = learn_mbpo(found.real, found.out, options, seed=seed, device=chosen, on_epoch=on_epoch)
    bundle, agent = found.out / "bundle", found.out / "agent.zip"
    kept = read_config(bundle)
    write_registry(found.out, found.real, kept["max_episode_steps"], kept["temperature"], name=found.dream)
    output.line(f"agent: {agent}")
    output.next("eval", bundle, "--agent", agent, "--algo", options.algo)
    output.figures({"real_id": found.real.id, "seed": seed, "epochs": [asdict(row) for row in epochs]})
