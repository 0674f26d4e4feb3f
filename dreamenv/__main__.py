"""`python -m dreamenv`."""

from dreamenv.cli import main

main()
