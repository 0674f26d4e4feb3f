"""The recurrent state-space model of PlaNet and Dreamer: `model` is the file to read."""
