"""What every vision has to keep, as one call for the tests of whoever writes one."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from dreamenv.vision.base import Vision


@torch.no_grad()
def check_vision(vision: Vision, observations: Tensor) -> None:
    """Check that `vision` keeps the contract of `Vision`, and raise AssertionError where it does not.

    Sizes, shapes and types; rows do not depend on their neighbours; encoding draws nothing; what `config` and the
    weights hold rebuilds the model.

    Args:
        vision: In evaluation mode.
        observations: At least two, `[B, *observation_shape]`, uint8 pictures or float32 vectors.

    Raises:
        AssertionError: The contract is broken; the message says how.
    """
    name, rows = type(vision).__name__, len(observations)
    assert not vision.training, f"{name} is in training mode; call vision.eval() first"
    assert rows >= 2, f"got {rows} observations, expected at least 2"
    shape = tuple(observations.shape[1:])
    assert shape == tuple(vision.observation_shape), f"{name}.observation_shape is {vision.observation_shape}"
    wanted = torch.uint8 if vision.is_image else torch.float32
    assert observations.dtype == wanted, f"{name}.is_image is {vision.is_image}, so observations are {wanted}"
    before = torch.random.get_rng_state()
    embedding = vision.encode(observations)
    assert embedding.shape == (rows, vision.embedding_size), f"{name}.encode gave {tuple(embedding.shape)}"
    assert embedding.dtype == torch.float32, f"{name}.encode gave {embedding.dtype}, expected float32"
    assert torch.equal(embedding, vision.encode(observations)), f"{name}.encode is not the same twice"
    for row in range(rows):
        alone = vision.encode(observations[row : row + 1])[0]
        close = torch.allclose(alone, embedding[row], rtol=1e-4, atol=1e-4)
        assert close, f"{name}.encode: row {row} depends on its neighbours"
    if vision.can_decode:
        decoded = vision.decode(torch.zeros(rows, vision.latent_size, device=embedding.device))
        assert decoded.shape == observations.shape, f"{name}.decode gave {tuple(decoded.shape)}"
        assert decoded.dtype == torch.float32, f"{name}.decode gave {decoded.dtype}, expected float32"
    assert torch.equal(before, torch.random.get_rng_state()), f"{name} has drawn from torch's global generator"
    config = vision.config()
    assert isinstance(config.get("kind"), str), f"{name}.config() has no 'kind'"
    assert json.loads(json.dumps(config)) == config, f"{name}.config() does not survive JSON: {config}"
    try:
        other = type(vision)(**{key: value for key, value in config.items() if key != "kind"})
    except TypeError as error:
        raise AssertionError(f"{name}(**config()) fails: {error}") from error
    other.load_state_dict(vision.state_dict())
    other.to(embedding.device).eval()
    same = torch.equal(other.encode(observations), embedding)
    assert same, f"{name}: a model rebuilt from config() and its weights encodes otherwise"
