"""What DVC runs: one short module a stage, reading `params.yaml` and its inputs, writing its outputs."""
