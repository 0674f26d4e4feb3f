"""At the wheel: one player, human or agent, in a dream or in its real twin; in a window, or behind a web page."""
