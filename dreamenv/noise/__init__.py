"""Where random numbers come from.

Every sampler of this package takes its noise, and nothing seeds globally. A `Noise` gives `[rows, columns]` of uniform
or normal numbers, and row i of a draw belongs to dream i of a batch. There are four:

- `base.GeneratorNoise` draws from one `torch.Generator`: training and anything else whose rows need no streams.
- `hashed.EpisodeNoise` is what environments dream with. Its numbers are a pure function of (key, step, draw, column):
  the key is drawn once an episode, the step counts actions, the draw counts within the step. Hence `reset(seed=s)`
  fixes the whole dream, a row dreams the same whatever its neighbours do, a snapshot is a key and a step, and a
  compiled step can make the numbers itself.
- `branching.RowNoise` gives each row of a planner's batch a stream of its own.
- `branching.CommonNoise` and `branching.SharedNoise` show the same numbers to all candidates of a plan or of a
  population (common random numbers), so that candidates differ by what they do alone.
"""
