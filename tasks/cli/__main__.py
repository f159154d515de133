"""`python -m tasks.cli` is `pagetrail`."""

from tasks.cli import main

main()
