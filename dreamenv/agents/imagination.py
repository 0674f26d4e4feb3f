"""Learning behaviour in imagination: an actor-critic whose gradient runs through the dream."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from dreamenv.agents.actor_critic import ActorCritic
from dreamenv.agents.base import Agent, check_spaces
from dreamenv.agents.evolution_state import ValidationScore
from dreamenv.agents.options import ImaginationOptions
from dreamenv.agents.policy_agent import ActorCriticAgent
from dreamenv.agents.saved import check_free, save_agent
from dreamenv.envs.loading import open_world_model
from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import MemoryModel, PlainStepper, Stepper
from dreamenv.memory.heads import masked_mean
from dreamenv.noise.base import Noise, as_noise, seeded_weights, step_generator
from dreamenv.run_lock import alone_in
from dreamenv.tensor_files import tensors_fingerprint
from dreamenv.training.fit import FitOptions, Losses, Scalars, fit
from dreamenv.training.ledger import read_ledger, record_frames
from dreamenv.training.replay import Windows
from dreamenv.types import Start
from dreamenv.world_model import WorldModel

# The loss that says which share of the returns is beyond what the critic can say
BEYOND_BOUND = "beyond_value_bound"

CHECKPOINT_FILE = "checkpoint.safetensors"


class Dream(NamedTuple):
    """A batch of dreamed trajectories, time first.

    Attributes:
        features: `[H+1, B, F]`.
        reward: `[H, B]`.
        continuation: `[H, B]` probability that the task goes on.
        entropy: `[H, B]` nats.
        log_probability: `[H, B]` of the actions.
    """

    features: Tensor
    reward: Tensor
    continuation: Tensor
    entropy: Tensor
    log_probability: Tensor


class Learned(NamedTuple):
    """What came of a run: the agent, its file, its real validation (None without), real frames of validation."""

    agent: ActorCriticAgent
    file: Path
    validation: float | None
    real_frames: int


def dream(
    memory: MemoryModel[Any],
    networks: ActorCritic,
    state: Any,
    *,
    horizon: int,
    temperature: float,
    noise: Noise,
    stepper: Stepper[Any] | None = None,
    gradient_clip: float | None = None,
) -> Dream:
    """Roll the actor through the dream from `state`, keeping gradients; through the dream too without `stepper`.

    Args:
        stepper: What to dream with where the dream is not to be differentiated (`MemoryModel.stepper`).
        gradient_clip: See `clip_gradients`, at each step; None leaves gradients as they are.
    """
    seen = memory.features(state)
    features, steps = [seen], []
    for _ in range(horizon):
        choice = networks.actor.sample(seen, noise)
        if stepper is None:
            state, prediction = memory.imagine(state, choice.action, noise=noise, temperature=temperature)
            if gradient_clip is not None:
                state = type(state)(*(clip_gradients(part, gradient_clip) for part in state))
        else:
            action = choice.action.detach()
            state, prediction = stepper(state, action, noise=noise, temperature=temperature)
        seen = memory.features(state)
        features.append(seen)
        goes_on = 1 - prediction.termination_probability
        steps.append((prediction.reward, goes_on, choice.entropy, choice.log_probability))
    return Dream(torch.stack(features), *(torch.stack(parts) for parts in zip(*steps, strict=True)))


def clip_gradients(states: Tensor, factor: float) -> Tensor:
    """The same states `[B, ...]`, whose gradients are made no longer than `factor` times the 0.9 quantile of all B.

    The gradients of a few dreams may grow at every step back through time until nothing else is heard of (Metz et al.
    2021, "Gradients are not all you need"). Clipped at each step they cannot, and most dreams keep theirs.
    """

    def clipped(gradient: Tensor) -> Tensor:
        lengths = gradient.flatten(1).norm(dim=1)
        usual = lengths.quantile(0.9)
        scale = torch.where(usual > 0, factor * usual / lengths.clamp(min=torch.finfo(lengths.dtype).tiny), 1.0)
        return gradient * scale.clamp(max=1.0).view(-1, *[1] * (gradient.dim() - 1))

    if states.requires_grad:
        states = states.view_as(states)  # the hook is this step's alone
        states.register_hook(clipped)
    return states


class Imagination:
    """The losses of an actor-critic in a memory's dreams, from states that the caller chooses.

    Args:
        memory: What dreams; the caller keeps gradients off its parameters (`frozen`).
        networks: Actor and critics.
        options: Hyperparameters; `steps`, `batch_size`, `learning_rate` and the shares of starts are the caller's.
        temperature: Of the dreams.
        recorded: Whether a GPU records the losses and replays them, which the memory's fast step does not allow: it
            looks at numbers on their way, and keeps arrangements of the weights.

    Raises:
        ConfigurationError: Gradients through a memory that carries none.
    """

    def __init__(
        self,
        memory: MemoryModel[Any],
        networks: ActorCritic,
        options: ImaginationOptions,
        *,
        temperature: float,
        recorded: bool = False,
    ) -> None:
        scored = options.gradient == "reinforce"
        if not scored and not memory.differentiable:
            raise ConfigurationError(
                f"gradient='dynamics': {type(memory).__name__} carries no gradients; take gradient='reinforce'"
            )
        self._memory, self._networks, self._options, self._temperature = memory, networks, options, temperature
        self._stepper: Stepper[Any] | None = None
        if scored:
            rows = options.batch_size
            self._stepper = PlainStepper(memory) if recorded else memory.stepper(rows, precision="float32")

    def losses(self, state: Any, noise: Noise, windows: Windows | None = None) -> Losses:
        """Of dreams from `state` `[B]`, and of the critic on real `windows`; the slow critic follows by one step."""
        self._networks.follow(self._options.target_rate, self._options.actor_average)
        dreamed = dream(
            self._memory,
            self._networks,
            state,
            horizon=self._options.horizon,
            temperature=self._temperature,
            noise=noise,
            stepper=self._stepper,
            gradient_clip=self._options.gradient_clip,
        )
        found = imagination_losses(self._networks, dreamed, self._options)
        if windows is not None:
            real = replay_critic_loss(self._networks, windows, self._options)
            found |= {"loss": found["loss"] + self._options.replay_critic * real, "replay_critic": real.detach()}
        return found


def lambda_returns(
    reward: Tensor,
    continuation: Tensor,
    value: Tensor,
    *,
    discount: float,
    trace: float,
    unknown: Tensor | None = None,
) -> Tensor:
    """λ-returns `[H, B]` (Sutton & Barto 2018, eq. 12.18; Hafner et al. 2020, eq. 6).

    R_t = r_t + γ c_t ((1 - λ) v_{t+1} + λ R_{t+1}), R_H = v_H.

    Args:
        reward: `[H, B]`.
        continuation: `[H, B]`, c.
        value: `[H+1, B]`, v of the states before and behind each reward.
        unknown: `[H, B]` bool, where nobody knows what followed, and the return is the value itself; None knows all.
    """
    returns = [value[-1]]
    for step in reversed(range(len(reward))):
        ahead = (1 - trace) * value[step + 1] + trace * returns[-1]
        found = reward[step] + discount * continuation[step] * ahead
        returns.append(found if unknown is None else torch.where(unknown[step], value[step], found))
    return torch.stack(returns[:0:-1])


def imagination_losses(networks: ActorCritic, dreamed: Dream, options: ImaginationOptions) -> Losses:
    """Losses of actor and critic on dreamed trajectories (Hafner et al. 2020, "Dream to Control", eq. 7 and 8).

    The actor maximises the λ-return divided by the spread of returns (Hafner et al. 2023, eq. 11 and 12), through the
    dream's dynamics or by the score of its actions; the critic regresses on it. Both weigh a step by the probability
    that the dream got there.
    """
    reward = _counted(dreamed.reward, options)
    critic = networks.critic if options.slow_critic == "regulariser" else networks.target
    # The actor's gradient runs through the values to the features, and must not move the critic that gives them
    weights = {name: tensor.detach() for name, tensor in critic.state_dict(keep_vars=True).items()}
    value = functional_call(critic, weights, dreamed.features.flatten(0, 1)).view(dreamed.features.shape[:2])
    returns = lambda_returns(reward, dreamed.continuation, value, discount=options.discount, trace=options.trace)
    stays = (options.discount * dreamed.continuation[:-1]).detach()
    reached = torch.cat([torch.ones_like(reward[:1]), stays]).cumprod(0)
    with torch.no_grad():
        spread = torch.quantile(returns.flatten()[:100_000], 0.95) - torch.quantile(returns.flatten()[:100_000], 0.05)
        networks.scale.lerp_(spread, 0.01)
    gained = returns
    if options.gradient == "reinforce":
        gained = dreamed.log_probability * (returns - value[:-1]).detach()
    actor = -(reached * gained).mean() / networks.scale.clamp(min=1.0)
    entropy = (reached * dreamed.entropy).mean()
    before = dreamed.features[:-1].detach().flatten(0, 1)
    errors = networks.critic.loss(before, returns.detach().flatten())
    if options.slow_critic == "regulariser":
        with torch.no_grad():
            slow = networks.target(before)
        errors = errors + networks.critic.loss(before, slow)
    critic_loss = (errors * reached.flatten()).mean()
    return {
        "loss": actor - options.entropy * entropy + critic_loss,
        "actor": actor.detach(),
        "critic": critic_loss.detach(),
        "entropy": dreamed.entropy.mean().detach(),
        "dream_return": returns[0].mean().detach(),
        "dream_reward": dreamed.reward.mean().detach(),
        BEYOND_BOUND: (returns.detach().abs() > networks.critic.head.bound).float().mean(),
    }


def warn_beyond_bound(scalars: Scalars, options: ImaginationOptions) -> None:
    """Warns where dreams pay more than the critic can say, since states beyond its bound look alike to it."""
    if scalars.get(BEYOND_BOUND, 0.0) > 0:
        warnings.warn(
            f"returns of dreams pass value_bound={options.value_bound:g}, the largest value that the critic can say; "
            "take a larger one, or a smaller discount",
            stacklevel=2,
        )


def _counted(reward: Tensor, options: ImaginationOptions) -> Tensor:
    """What rewards count for."""
    if options.reward_clip is not None:
        reward = reward.clamp(*options.reward_clip)
    if options.reward_squash is not None:
        reward = options.reward_squash * torch.tanh(reward / options.reward_squash)
    return reward


def replay_critic_loss(networks: ActorCritic, windows: Windows, options: ImaginationOptions) -> Tensor:
    """The critic's error in nats on what really followed the replayed moments (Hafner et al. 2023, "critic learning").

    A dream that is wrong about a state is wrong about its value too, wherever it begins; what was earned there in
    reality is not. The returns are those of the policies that played, by λ soon bootstrapped with the slow critic.

    Args:
        networks: Their critic learns.
        windows: Real experience.
        options: Discount, trace, and what rewards count for.
    """
    features = windows.features.transpose(0, 1)
    reward = _counted(windows.rewards.t()[1:], options)
    # The moment behind an episode's last one is another's first
    over, goes_on = windows.first.t()[1:], 1 - windows.terminated.t()[1:]
    with torch.no_grad():
        value = networks.target(features.flatten(0, 1)).view(features.shape[:2])
        returns = lambda_returns(reward, goes_on, value, discount=options.discount, trace=options.trace, unknown=over)
    errors = networks.critic.loss(features[:-1].flatten(0, 1), returns.flatten())
    return masked_mean(errors, (~over).float().flatten())


@alone_in("out_dir")
def train_actor_critic(
    world_model: WorldModel | str | Path,
    *,
    out_dir: str | Path,
    options: ImaginationOptions | None = None,
    seed: int = 0,
    validate: Callable[[Agent], ValidationScore] | None = None,
    validate_every: int = 250,
    begin: ActorCritic | None = None,
    progress: Callable[[int, int, Scalars], None] = lambda step, steps, scalars: None,
) -> Learned:
    """Train an actor-critic inside the dream; with `validate`, keep the agent that is best on real validation episodes.

    Writes `<out_dir>/checkpoint.safetensors`, agent.safetensors and ledger.json, and continues from the checkpoint. On
    CPU a resumed run ends as an unbroken one.

    Args:
        world_model: The dream, its id or its folder; it is not changed.
        out_dir: Folder.
        options: Hyperparameters; None takes their defaults.
        seed: Initial weights and dreams.
        validate: Scores an agent on real validation episodes; None keeps the last agent.
        validate_every: Steps between validations and checkpoints.
        begin: Networks to start from, changed in place; None starts afresh.
        progress: Called at each validation with step, steps and scalars.

    Raises:
        NonFiniteError: A loss or gradient is not finite.
        ConfigurationError: A checkpoint of other settings or another agent in `out_dir`, gradients through a memory
            that carries none, dreams that are longer than the model's time limit, no step for an actor that has
            learned nothing, or networks to begin with that keep a mean actor where the options have none, or the other
            way round.
    """
    model = open_world_model(world_model)
    out_dir, options = Path(out_dir), options or ImaginationOptions()
    check_free(out_dir, CHECKPOINT_FILE)
    check_dream_length(options.horizon, model.max_episode_steps, "the model's time limit")
    if begin is None and options.critic_first >= options.steps:
        raise ConfigurationError(
            f"critic_first={options.critic_first} leaves a new actor nothing of {options.steps} steps; take fewer"
        )
    networks = begin or new_actor_critic(model, options, seed=seed)
    if (networks.mean_actor is None) != (options.actor_average is None):
        kept = "no mean of their actor" if networks.mean_actor is None else "a mean of their actor"
        raise ConfigurationError(f"actor_average={options.actor_average}, and the networks to begin with keep {kept}")
    if networks.critic.head.bound != options.value_bound:
        raise ConfigurationError(
            f"value_bound={options.value_bound:g}, and the critic to begin with reaches {networks.critic.head.bound:g}"
        )
    begun = tensors_fingerprint(networks.state_dict())
    temperature = model.temperature if options.temperature is None else options.temperature
    replay_share = options.replay_share if model.starts.replay else 0.0
    shares: dict[Start, float] = {"replay": replay_share, "first": options.first_share}
    device = model.device
    imagined = Imagination(model.memory, networks, options, temperature=temperature)
    reached = 0

    def losses(step: int) -> Losses:
        nonlocal reached
        reached = step + 1
        networks.actor.requires_grad_(step >= options.critic_first)
        noise = as_noise(step_generator(seed, step, device))
        state = _starts(model, options.batch_size, shares, np.random.default_rng([seed, step]), noise)
        return imagined.losses(state, noise)

    def check() -> Scalars:
        if validate is None:
            return {"loss": -float(reached)}  # the last is kept
        score = validate(agent_of(networks, model, options))
        record_frames(out_dir, f"validation at step {reached}", score.real_frames)
        return {"loss": -score.mean, "real_return": score.mean}

    def report(step: int, steps: int, scalars: Scalars) -> None:
        warn_beyond_bound({name.removeprefix("train/"): value for name, value in scalars.items()}, options)
        progress(step, steps, {name: value for name, value in scalars.items() if name != "held_out/loss"})

    with frozen(model.memory, model.vision):
        fitted = fit(
            networks,
            losses,
            check,
            FitOptions(
                options.steps,
                options.learning_rate,
                clip=10.0,
                validate_every=validate_every,
                precision="float32",
            ),
            checkpoint=out_dir / CHECKPOINT_FILE,
            settings={
                "options": _json_ready(asdict(options)),
                "seed": seed,
                "model": model.fingerprint(),
                "begin": begun,
            },
            progress=report,
        )
    networks.actor.requires_grad_(True)
    frames = sum(read_ledger(out_dir).values())
    validation = fitted.best.get("real_return")
    learned = agent_of(networks, model, options)
    learned.provenance = {
        "real_id": model.real.id,
        "real_frames": frames,
        "trained_in": "dream",
        "weights": model.weights_digest(),
        "settings": _json_ready(asdict(options)) | {"seed": seed},
        "validation": None if validation is None else {"mean": validation},
    }
    return Learned(learned, save_agent(learned, out_dir), validation, frames)


def check_dream_length(horizon: int, longest: int, what: str) -> None:
    """Refuses dreams that are longer than anything that was seen.

    Raises:
        ConfigurationError: They are.
    """
    if horizon > longest:
        raise ConfigurationError(
            f"horizon={horizon} actions, but {what} is {longest}: nothing longer has been seen. Take a shorter horizon."
        )


def new_actor_critic(world_model: WorldModel, options: ImaginationOptions, *, seed: int) -> ActorCritic:
    """Fresh networks for a world model's features and actions."""
    with seeded_weights(seed):
        networks = ActorCritic(
            world_model.memory.feature_size,
            world_model.action_space,
            action_map=options.action_map,
            width=options.width,
            averaged=options.actor_average is not None,
            value_bound=options.value_bound,
        )
    return networks.to(world_model.device)


def agent_of(networks: ActorCritic, world_model: WorldModel, options: ImaginationOptions) -> ActorCriticAgent:
    """What plays, with its critic where that speaks of rewards as they are."""
    return ActorCriticAgent(
        networks.player,
        world_model.observation_space("features"),
        world_model.action_space,
        critic=networks.critic if options.counts_rewards_as_they_are else None,
        discount=options.discount,
    )


def learn_on(
    world_model: WorldModel, agent: Agent, options: ImaginationOptions, *, seed: int
) -> tuple[ActorCritic, ImaginationOptions]:
    """The actor of an agent, to begin with, and the options with the actor's width and action map.

    The critic comes along where the agent has kept one of the values that `options` ask for: rewards as they are, of
    the same discount, up to the same bound. Elsewhere a fresh one has to learn first; see `critic_first`.

    Raises:
        ConfigurationError: An agent of another kind.
        SpaceMismatchError: One that sees or does something else than what the world model's features and actions are.
    """
    if not isinstance(agent, ActorCriticAgent):
        kind = getattr(agent, "kind", type(agent).__name__)
        raise ConfigurationError(f"an agent of kind {kind!r} has no actor to go on with; expected 'actor_critic'")
    check_spaces(agent, world_model.observation_space("features"), world_model.action_space, "the dream")
    actor = agent.actor
    options = replace(options, width=actor.width, action_map=actor.to_action.kind)
    networks = new_actor_critic(world_model, options, seed=seed)
    networks.begin_at(actor.state_dict(), _critic_of(agent, options))
    return networks, options


def _critic_of(agent: ActorCriticAgent, options: ImaginationOptions) -> dict[str, Tensor] | None:
    """The weights of the critic that the agent has kept, where its values are those that `options` ask for."""
    guide = agent.guide
    if guide is None or not options.counts_rewards_as_they_are:
        return None
    same = (guide.discount, guide.critic.head.bound) == (options.discount, options.value_bound)
    return guide.critic.state_dict() if same else None


@contextmanager
def frozen(*models: nn.Module) -> Iterator[None]:
    """Within it, no gradient is kept for the models' parameters; they get their flags back behind it."""
    parameters = [parameter for model in models for parameter in model.parameters()]
    before = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, needed in zip(parameters, before, strict=True):
            parameter.requires_grad_(needed)


def _starts(
    world_model: WorldModel, rows: int, shares: dict[Start, float], rng: np.random.Generator, noise: Noise
) -> Any:
    """`rows` memory states: `shares` of them of the kinds named, the others where dreams start."""
    counts = {start: round(rows * share) for start, share in shares.items()}
    counts["initial"] = rows - sum(counts.values())
    parts = []
    for start, count in counts.items():
        if count > 0:
            index = torch.from_numpy(rng.integers(world_model.start_count(start), size=count)).to(world_model.device)
            parts.append(world_model.start(index, start=start, noise=noise))
    return type(parts[0])(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _json_ready(options: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
