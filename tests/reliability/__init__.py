"""Everything that docs/reliability.md tells of, run again by one command: `python -m tests.reliability`."""
