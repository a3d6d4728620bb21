"""Evaluation: its configuration, the one rollout loop and its sinks, score tables, and the comparison with baselines."""

from ocean_emulators.exports import exports

__getattr__ = exports(
    __name__,
    {"EvaluationConfig": "config", "ComparisonConfig": "config", "run_rollout": "rollout", "compare": "comparison"},
)
