"""How fast Sluice is, each figure beside a yardstick that does the same work in the same run."""
