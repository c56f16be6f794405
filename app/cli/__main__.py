"""`python -m app.cli`, where the `sluice` script is not installed."""

from app.cli import main

main()
